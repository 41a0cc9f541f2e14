"""Refused messages and suspect sources, as pages and API show them, and what somebody may do with a message."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from django.db.models import Count, Q, QuerySet
from django.utils.translation import gettext as _

from bus import quarantine
from bus.models import QuarantinedMessage, Suspect
from holding import scope
from holding.models import Unit
from iam.access.models import User

VIEW: Final = "quarantine.view"
DECIDE: Final = "quarantine.decide"
NO_UNIT: Final = "-"
"""In the place of a unit's slug: messages of no unit that the holding has."""
COUNTED: Final = 20_000  # of the newest messages that match, those whose reasons are counted
REASONS: Final = 12
HEX_BYTES: Final = 4096
PATH: Final = re.compile(r"(.*) - at `([^`]*)`", re.DOTALL)


class NotAllowedError(PermissionError):
    """Whoever acts may not decide about messages of this unit; the sentence says what they lack."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """The filters of the list; empty: all."""

    stream: str = ""
    stage: str = ""
    rule: str = ""
    source: str = ""
    unit: str = ""
    state: str = ""
    since: datetime | None = None
    until: datetime | None = None


def in_view() -> QuerySet[QuarantinedMessage]:
    """Return the messages that whoever acts may see; those of no known unit only to who sees the whole holding."""
    units = scope.current().units(VIEW)
    rows = QuarantinedMessage.objects.all()
    return rows if units is None else rows.filter(unit_id__in=units)


def suspects_in_view() -> QuerySet[Suspect]:
    """Return the suspect sources of the units in view, those of before included."""
    units = scope.current().units(VIEW)
    return Suspect.objects.all() if units is None else Suspect.objects.filter(unit_id__in=units)


def listed(wanted: Wanted) -> QuerySet[QuarantinedMessage]:
    """Return the messages that are wanted, without their bodies."""
    rows = in_view().defer("body")
    for name in ("stream", "stage", "rule", "source", "state"):
        if value := getattr(wanted, name):
            rows = rows.filter(**{name: value})
    if wanted.unit:
        rows = of_unit(rows, wanted.unit)
    if wanted.since:
        rows = rows.filter(received_at__gte=wanted.since)
    if wanted.until:
        rows = rows.filter(received_at__lt=wanted.until)
    return rows


def of_unit(rows: QuerySet[QuarantinedMessage], slug: str) -> QuerySet[QuarantinedMessage]:
    """Keep the messages of a unit in view, or with `-` those of none."""
    if slug == NO_UNIT:
        return rows.filter(unit_id=None)
    return rows.filter(unit_id__in=Unit.objects.filter(slug=slug).values("id"))


@dataclass(frozen=True, slots=True)
class Reason:
    """How often messages failed by one rule of one stage."""

    stage: str
    rule: str
    count: int

    @property
    def word(self) -> str:
        """The stage in words."""
        return (
            str(QuarantinedMessage.Stage(self.stage).label)
            if self.stage in QuarantinedMessage.Stage
            else self.stage
        )


@dataclass(frozen=True, slots=True)
class Histogram:
    """The reasons of the newest messages that match, the most frequent first, and how many were counted."""

    reasons: list[Reason]
    counted: int

    @property
    def most(self) -> int:
        """The largest count."""
        return max((reason.count for reason in self.reasons), default=0)


def histogram(rows: QuerySet[QuarantinedMessage]) -> Histogram:
    """Count the reasons of up to twenty thousand of the newest messages (one query)."""
    newest = rows.order_by("-pk").values("pk")[:COUNTED]
    counts = (
        QuarantinedMessage.objects.filter(pk__in=newest)
        .order_by()
        .values_list("stage", "rule")
        .annotate(count=Count("pk"))
        .order_by("-count", "stage", "rule")
    )
    found = [Reason(stage, rule, count) for stage, rule, count in counts]
    return Histogram(found[:REASONS], sum(reason.count for reason in found))


def held_count() -> int:
    """Return how many messages in view wait for somebody to decide."""
    return in_view().filter(state=QuarantinedMessage.State.HELD).count()


def slugs() -> Mapping[int, str]:
    """Return the slugs of the units in view, by id."""
    return dict(Unit.objects.values_list("id", "slug"))


def streams() -> list[str]:
    """Return the streams that messages in view came from (one query, by the newest twenty thousand)."""
    newest = in_view().order_by("-pk").values("pk")[:COUNTED]
    return sorted(QuarantinedMessage.objects.filter(pk__in=newest).values_list("stream", flat=True).distinct())


def split_reason(reason: str) -> tuple[str, str]:
    """Split a reason into its sentence and the path to the fault; the path is empty when none is known."""
    found = PATH.fullmatch(reason)
    return (found[1], found[2]) if found else (reason, "")


def as_text(body: bytes) -> str | None:
    """Return a body as text; None when it is none that can be read."""
    try:
        text = str(body, "utf-8")
    except UnicodeDecodeError:
        return None
    return text if all(character.isprintable() or character in "\n\r\t" for character in text) else None


def as_hex(body: bytes) -> str:
    """Return the first 4 KiB of a body as a hex dump: offset, sixteen bytes, and the letters among them."""
    lines = []
    for at in range(0, min(len(body), HEX_BYTES), 16):
        part = body[at : at + 16]
        letters = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in part)
        lines.append(f"{at:06x}  {part.hex(' '):<47}  {letters}")
    return "\n".join(lines)


def may_decide(message: QuarantinedMessage) -> bool:
    """Return whether whoever acts may send the message again or discard it."""
    return scope.current().allows(DECIDE, message.unit_id)


def replay(*, by: User, message: QuarantinedMessage) -> QuarantinedMessage:
    """Send a message again. Raises NotAllowedError, or `quarantine.RefusedActError` with its sentence."""
    _require(message)
    return quarantine.replay(number=message.pk, actor=by.username)


def discard(*, by: User, message: QuarantinedMessage, reason: str) -> QuarantinedMessage:
    """Throw a message away. Raises as `replay` does."""
    _require(message)
    return quarantine.discard(number=message.pk, actor=by.username, reason=reason)


def _require(message: QuarantinedMessage) -> None:
    if not may_decide(message):
        raise NotAllowedError(
            _("This needs the permission %(code)s for the unit of the message. Ask somebody who holds it.")
            % {"code": DECIDE}
        )


def suspicion_of(source: str, unit_id: int) -> Suspect | None:
    """Return the open mark of an agent, to whoever may see it."""
    if not scope.current().allows(VIEW, unit_id):
        return None
    marks = Suspect.objects.filter(Q(closed_at=None), source=source, unit_id=unit_id)
    return marks.order_by("-id").first()
