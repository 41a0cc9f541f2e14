"""Emergency access (break-glass): asked for by one person, decided by another, short, and told to everybody."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from audit import services as audit
from audit.models import LedgerEntry
from holding import scope
from holding.models import Unit
from iam.access.announcing import announce_outcome, announce_request
from iam.access.bindings import bind_role, withdraw
from iam.access.models import AccessRole, EmergencyAccess, RoleBinding, User
from iam.access.rights import NotHeldError, RefusedError, namespace, place, rights_of

SHORTEST_MINUTES = 5
REASON_LENGTH = 500
MOST_ACTS = 200
PORTAL = "portal"  # who acts when time has run out
State = EmergencyAccess.State


@transaction.atomic
def request_emergency(
    *, user: User, role: AccessRole, unit: Unit | None = None, minutes: int, reason: str
) -> EmergencyAccess:
    """Ask for a role for 5 to 240 minutes; a second person must approve within an hour.

    Raises NotHeldError without `break-glass.request` there, RefusedError for another length of time, without a
    reason, with a request that waits already, or for what the person holds anyway.
    """
    unit, reason = place(unit), reason.strip()
    rights_of(user).require("break-glass.request", unit)
    if not SHORTEST_MINUTES <= minutes <= EmergencyAccess.MAX_MINUTES:
        raise RefusedError(_("Emergency access lasts from 5 to 240 minutes."))
    if not reason or len(reason) > REASON_LENGTH:
        raise RefusedError(_("Say in 1 to 500 characters what has happened: the second person decides by it."))
    user = User.objects.select_for_update().get(pk=user.pk)  # two equal requests at once: the second sees the first
    now = timezone.now()
    if user.bindings.in_force(now).filter(Q(unit=unit) | Q(unit=None), role=role).exists():
        raise RefusedError(
            _("You hold %(role)s for %(where)s already.") % {"role": role.slug, "where": namespace(unit)}
        )
    if EmergencyAccess.objects.waiting(now).filter(user=user, role=role, unit=unit).exists():
        raise RefusedError(_("The same request waits already: ask a second person to decide it."))
    emergency = EmergencyAccess.objects.create(
        user=user, role=role, unit=unit, minutes=minutes, reason=reason, requested_at=now
    )
    audit.record(
        actor=user.username,
        action="emergency.request",
        object=f"emergency/{emergency.pk}",
        after={"person": user.username, "role": role.slug, "unit": emergency.unit_id, "minutes": minutes},
        details={"role": role.slug, "where": namespace(unit), "minutes": minutes, "reason": reason},
    )
    announce_request(emergency, unit)
    return emergency


@transaction.atomic
def decide_emergency(*, by: User, emergency: EmergencyAccess, approve: bool, note: str = "") -> EmergencyAccess:
    """Approve a request, which binds the role until its minutes are over, or refuse it.

    Raises NotHeldError for the person who asked and without `break-glass.approve`, RefusedError when it was
    decided already or has waited for more than an hour.
    """
    emergency = _rows().get(pk=emergency.pk)
    if emergency.user_id == by.pk:
        raise NotHeldError(_("Nobody decides their own request: a second person must."))
    rights_of(by).require("break-glass.approve")
    now = timezone.now()
    state = emergency.state_at(now)
    if state != State.REQUESTED:
        raise RefusedError(
            _("This request waits no more (%(state)s). Ask again if it is still needed.")
            % {"state": State(state).label}
        )
    if approve:
        if not emergency.user.is_active:
            raise RefusedError(_("The person who asked is inactive: refuse the request."))
        emergency.binding = bind_role(
            user=emergency.user,
            role=emergency.role,
            unit_id=emergency.unit_id,
            where=emergency.namespace,
            actor=by.username,
            starts_at=now,
            expires_at=now + timedelta(minutes=emergency.minutes),
            granted_by=by,
            source=RoleBinding.Source.BREAK_GLASS,
            reason=emergency.reason[:200],
        )
    _decide(emergency, State.ACTIVE if approve else State.REFUSED, by, now, note)
    return emergency


def _decide(emergency: EmergencyAccess, state: State, by: User | None, at: datetime, note: str = "") -> None:
    emergency.state, emergency.decided_by, emergency.decided_at = state, by, at
    emergency.save(update_fields=["state", "decided_by", "decided_at", "binding"])
    actor = by.username if by else PORTAL
    audit.record(
        actor=actor,
        action="emergency.approve" if state == State.ACTIVE else "emergency.refuse",
        object=f"emergency/{emergency.pk}",
        details={"person": emergency.user.username, "role": emergency.role.slug, "note": note.strip()[:200]},
    )
    announce_outcome(emergency, actor=actor)


@transaction.atomic
def end_emergency(*, by: User, emergency: EmergencyAccess) -> EmergencyAccess:
    """End emergency access before its time.

    Raises NotHeldError unless `by` is its person or holds `break-glass.approve`, RefusedError when it has ended.
    """
    emergency = EmergencyAccess.objects.select_related("binding").get(pk=emergency.pk)  # `withdraw` locks it
    if emergency.user_id != by.pk:
        rights_of(by).require("break-glass.approve")
    if emergency.state_at(timezone.now()) != State.ACTIVE or emergency.binding_id is None:
        raise RefusedError(_("This emergency access is not in force."))
    withdraw(binding_id=emergency.binding_id, actor=by.username, reason="emergency over")
    emergency.refresh_from_db()
    return emergency


@transaction.atomic
def settle_emergencies() -> int:
    """Note what time has decided: requests of more than an hour ago are refused, access past its end has ended.

    Idempotent; returns how many were noted. Rights do not wait for it: they end by the binding's own time.
    """
    now = timezone.now()
    settled = 0
    for emergency in _rows().filter(state__in=[State.REQUESTED, State.ACTIVE]).order_by("pk"):
        state = emergency.state_at(now)
        if state == emergency.state:
            continue
        settled += 1
        if state == State.REFUSED:
            _decide(emergency, State.REFUSED, None, now, "not decided within an hour")
            continue
        emergency.state = State.ENDED
        emergency.save(update_fields=["state"])
        audit.record(
            actor=PORTAL,
            action="emergency.end",
            object=f"emergency/{emergency.pk}",
            details={"person": emergency.user.username, "role": emergency.role.slug},
        )
        announce_outcome(emergency, actor=PORTAL)
    return settled


def visible_to(person: User) -> QuerySet[EmergencyAccess]:
    """Return one's own, and those for units where one sees people; all to whoever sees everybody, or approves."""
    rows = EmergencyAccess.objects.select_related("user", "role", "unit", "decided_by", "binding")
    held = scope.current()
    people = held.units("people.view")
    if people is None or held.has("break-glass.approve"):
        return rows
    return rows.filter(Q(user=person) | Q(unit_id__in=people))


@dataclass(frozen=True, slots=True)
class Acts:
    """What was done: how many acts, and the newest of them; None when whoever asks may not see which."""

    count: int
    newest: list[LedgerEntry] | None


def done_meanwhile(emergency: EmergencyAccess) -> Acts:
    """Return what the person did while the access was in force.

    An entry of the ledger names an object and not its unit: which acts they were is for those who see the people of
    the whole holding; others get their number.
    """
    binding = emergency.binding
    if binding is None:
        return Acts(0, [] if _sees_all() else None)
    entries = LedgerEntry.objects.filter(
        actor=emergency.user.username, at__gte=binding.starts_at, at__lte=binding.ends_at or timezone.now()
    )
    newest = list(entries.order_by("-id").defer("body")[:MOST_ACTS]) if _sees_all() else None
    return Acts(entries.count(), newest)


def _sees_all() -> bool:
    return scope.current().units("people.view") is None


def _rows() -> QuerySet[EmergencyAccess]:
    return EmergencyAccess.objects.select_for_update(of=("self",)).select_related("user", "role", "unit", "binding")
