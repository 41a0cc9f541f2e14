"""What the portal needs in order to show true figures, and whether it is there."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from django.core.cache import cache
from django.db import DatabaseError, InterfaceError, connection
from django.db.models import Max
from django.utils import timezone
from redis.exceptions import RedisError

from bus.models import OutboxMessage
from holding.scope import EVERYTHING, opened
from subsidiaries.replacement.models import DivisionState

SILENT_AFTER = timedelta(seconds=30)  # two presences missed by everybody: NATS, the ingest or all hosts are down
WAITING_AFTER = timedelta(seconds=60)  # an outbox that is not emptied: NATS or the relay is down


@dataclass(frozen=True, slots=True)
class Check:
    """The outcome of one check: whether it is well, and in words."""

    ok: bool
    says: str


def database() -> Check:
    """Ask the database the smallest question."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("select 1")
    except (DatabaseError, InterfaceError):
        return Check(False, "does not answer")
    return Check(True, "answers")


def redis() -> Check:
    """Ask Redis the smallest question."""
    try:
        cache.get("readyz")
    except RedisError:
        return Check(False, "does not answer")
    return Check(True, "answers")


def presence() -> Check:
    """Look at when any division was last heard of: that is NATS, a host and the ingest at once."""
    try:
        with opened(EVERYTHING):  # a probe is nobody, and asks about all
            last = DivisionState.objects.aggregate(last=Max("seen_at"))["last"]
    except (DatabaseError, InterfaceError):
        return Check(False, "unknown")
    if last is None:
        return Check(False, "no division was ever heard of")
    age = timezone.now() - last
    return Check(age <= SILENT_AFTER, f"last heard {age.total_seconds():.0f} s ago")


def outbox() -> Check:
    """Look at the oldest message that waits to be sent."""
    try:
        oldest = OutboxMessage.objects.filter(sent_at=None).order_by("id").values_list("created_at").first()
    except (DatabaseError, InterfaceError):
        return Check(False, "unknown")
    if oldest is None:
        return Check(True, "empty")
    age = timezone.now() - oldest[0]
    return Check(age <= WAITING_AFTER, f"oldest waits for {age.total_seconds():.0f} s")


CHECKS: dict[str, Callable[[], Check]] = {
    "database": database,
    "redis": redis,
    "presence": presence,
    "outbox": outbox,
}


def readiness(names: list[str] | None = None) -> dict[str, Check]:
    """Run the named checks (all by default), in their order; unknown names are left out."""
    return {name: check() for name, check in CHECKS.items() if not names or name in names}
