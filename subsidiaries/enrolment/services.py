"""Bring your own agent: a seat is offered against a token, held by whoever exchanges it, and taken back.

Nothing changes while a token is only offered: the hosted agent stays until the token is exchanged.
"""

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from audit import services as audit
from bus.credentials import Credential
from holding import scope
from holding.models import Seat
from iam.access.models import User
from iam.access.rights import RefusedError, given_reason, rights_of
from iam.access.services import token_digest
from subsidiaries.enrolment import credentials, speaking
from subsidiaries.enrolment.models import Enrolment
from subsidiaries.replacement import services as replacement

welcome, farewell, observe, silent = speaking.welcome, speaking.farewell, speaking.observe, speaking.silent
PERMISSION = "agents.enrol"
TOKEN_BYTES = 24
TOKEN_MARK = "cte_"  # noqa: S105 - the beginning of each, so that a scanner finds one that leaked
DEFAULT_MINUTES, MOST_MINUTES = 15, 24 * 60


class TokenRefusedError(RefusedError):
    """A token, or a proof, that opens nothing (any more)."""


@dataclass(frozen=True, slots=True)
class Issued:
    """What an agent gets for its token: its enrolment, and the login."""

    enrolment: Enrolment
    credential: Credential


@transaction.atomic
def enrol(*, by: User, seat: Seat, reason: str, minutes: int = DEFAULT_MINUTES) -> tuple[Enrolment, str]:
    """Offer a seat to an agent of the caller's own; return the enrolment and its token, which is stored nowhere.

    A token that was offered before and not used counts no more. Raises NotHeldError without the permission for the
    seat's unit, RefusedError for a seat that cannot be given out, for a time out of range, and without a reason.
    """
    rights_of(by).require(PERMISSION, seat.unit)
    reason = given_reason(reason)
    if not 1 <= minutes <= MOST_MINUTES:
        raise RefusedError(_("A token counts for 1 to %(most)d minutes.") % {"most": MOST_MINUTES})
    seat = Seat.objects.select_for_update(of=("self",)).select_related("unit", "role", "body").get(pk=seat.pk)
    _require_free(seat)
    now = timezone.now()
    for former in Enrolment.objects.filter(seat=seat, ended_at=None, used_at=None):
        _end(former, actor=by.username, at=now)
    token = TOKEN_MARK + secrets.token_urlsafe(TOKEN_BYTES)
    enrolment = Enrolment.objects.create(
        unit_id=seat.unit_id,
        seat=seat,
        digest=token_digest(token),
        actor=by.username,
        reason=reason,
        created_at=now,
        expires_at=now + timedelta(minutes=minutes),
    )
    audit.record(
        actor=by.username,
        action="agent.enrol",
        object=f"seat/{seat}",
        after={"enrolment": enrolment.pk, "expires_at": enrolment.expires_at.isoformat()},
        details={"enrolment": enrolment.pk, "reason": reason, "minutes": minutes},
    )
    return enrolment, token


def _require_free(seat: Seat) -> None:
    if seat.body_id is not None:
        raise RefusedError(_("Seats of the parent company are not given to external agents."))
    if seat.closed_at is not None:
        raise RefusedError(
            _("%(seat)s is closed: choose a seat of the establishment, or let the reserve be raised first.")
            % {"seat": seat.code}
        )
    if seat.external:
        raise RefusedError(
            _("%(seat)s is held by an external agent already: withdraw that one first, or choose another seat.")
            % {"seat": seat.code}
        )


@transaction.atomic
def exchange(*, token: str, public_key: str = "", subject: str = "") -> Issued:
    """Exchange a token for a login: the hosted agent of the seat is dismissed, the caller holds it from now on.

    With `public_key` the login is for a key whose seed stays with the caller. With `subject`, the seat must be the
    one that is meant: any generation of it will do. Raises TokenRefusedError for a token that does not count,
    RefusedError for another seat or what is no key, NoMintError when the installation mints nothing; then the token
    still counts.
    """
    with scope.opened(scope.EVERYTHING):  # an agent has no account: the portal acts, on the word of who enrolled it
        return _exchange(token, public_key, subject)


def _exchange(token: str, public_key: str, subject: str) -> Issued:
    rows = Enrolment.objects.select_for_update(of=("self",)).filter(digest=token_digest(token))
    enrolment = rows.first()
    now = timezone.now()
    if enrolment is None:
        raise TokenRefusedError(_("This token is unknown: ask for a new one where agents are enrolled."))
    replacement.lock_unit(unit_id=enrolment.unit_id)
    seats = Seat.objects.select_for_update(of=("self",)).select_related("unit", "role", "body", "division")
    seat = seats.get(pk=enrolment.seat_id)
    _require_usable(enrolment, now)
    _require_meant(seat, subject)
    _require_free(seat)
    reason = f"enrolment {enrolment.pk}: {enrolment.reason}"[:200]
    correlation = f"enrolment-{enrolment.pk}"
    agent = replacement.give_out(seat=seat, actor=enrolment.actor, reason=reason, correlation_id=correlation)
    credential = credentials.mint(agent.subject, public_key)
    enrolment.used_at, enrolment.agent = now, agent
    enrolment.public_key, enrolment.credential_until = credential.public_key, credential.expires_at
    enrolment.save()
    audit.record(
        actor=enrolment.actor,
        action="agent.admit",
        object=f"seat/{seat}",
        after={"enrolment": enrolment.pk, "agent": agent.subject, "key": credential.public_key},
        details={"enrolment": enrolment.pk, "agent": agent.subject, "key": credential.public_key},
        correlation_id=correlation,
    )
    return Issued(enrolment, credential)


def _require_usable(enrolment: Enrolment, now: datetime) -> None:
    if enrolment.used_at is not None:
        raise TokenRefusedError(_("This token was used already: each counts once. Ask for a new one."))
    if enrolment.ended_at is not None:
        raise TokenRefusedError(_("This token was withdrawn, or another one was made for its seat."))
    if enrolment.expires_at <= now:
        raise TokenRefusedError(
            _("This token expired at %(when)s: ask for a new one.")
            % {"when": enrolment.expires_at.isoformat(timespec="minutes")}
        )


def _require_meant(seat: Seat, subject: str) -> None:
    group = seat.role or seat.body
    place = f"org.claytom.{seat.unit.slug}.{group.slug if group else ''}.{seat.code}"
    if subject and subject != place and not subject.startswith(f"{place}-g"):
        raise RefusedError(
            _("This token is for the seat %(seat)s, not for %(subject)s.")
            % {"seat": place, "subject": subject[:120]}
        )


@transaction.atomic
def renew(*, public_key: str, at: datetime, signature: bytes) -> Issued:
    """Give the holder of a key that counts a new login for the same key.

    Raises TokenRefusedError when the proof does not hold or the key has no seat, NoMintError as `exchange`.
    """
    now = timezone.now()
    if not credentials.proves(public_key, at, signature, now):
        raise TokenRefusedError(
            _("The proof does not hold: sign “claytom-renew <public_key> <at>” with that key, and the time of now.")
        )
    with scope.opened(scope.EVERYTHING):
        held = Enrolment.objects.select_for_update(of=("self",)).held().select_related("agent")
        enrolment = held.filter(public_key=public_key).first()
        if enrolment is None or enrolment.agent is None:
            raise TokenRefusedError(_("This key holds no seat (any more): enrol the agent anew."))
        credential = credentials.mint(enrolment.agent.subject, public_key)
        enrolment.credential_until = credential.expires_at
        enrolment.save(update_fields=["credential_until"])
        audit.record(
            actor=enrolment.agent.subject,
            action="agent.renew",
            object=f"enrolment/{enrolment.pk}",
            details={"key": public_key, "until": credential.expires_at.isoformat()},
        )
        return Issued(enrolment, credential)


@transaction.atomic
def withdraw(*, by: User, enrolment: Enrolment, reason: str) -> Enrolment:
    """End an enrolment: a token counts no more; a held seat goes back to the hosts, and the login is revoked.

    Raises NotHeldError without the permission for the unit, RefusedError for one that has ended and without a
    reason.
    """
    rights_of(by).require(PERMISSION, enrolment.unit)
    reason = given_reason(reason)
    replacement.lock_unit(unit_id=enrolment.unit_id)
    enrolment = Enrolment.objects.select_for_update(of=("self",)).select_related("unit").get(pk=enrolment.pk)
    if enrolment.ended_at is not None:
        raise RefusedError(_("This enrolment has ended already."))
    held = enrolment.used_at is not None
    _end(enrolment, actor=by.username, at=timezone.now())
    seat = Seat.objects.select_for_update(of=("self",)).select_related("unit").get(pk=enrolment.seat_id)
    audit.record(
        actor=by.username,
        action="agent.withdraw",
        object=f"seat/{seat}",
        before={"enrolment": enrolment.pk, "key": enrolment.public_key},
        details={"enrolment": enrolment.pk, "reason": reason, "held": held, "key": enrolment.public_key},
        correlation_id=f"enrolment-{enrolment.pk}",
    )
    if held:
        replacement.take_back(
            seat=seat, actor=by.username, reason=reason, correlation_id=f"enrolment-{enrolment.pk}"
        )
        transaction.on_commit(revoke_pending)
    return enrolment


def _end(enrolment: Enrolment, *, actor: str, at: datetime) -> None:
    enrolment.ended_at, enrolment.ended_by = at, actor
    enrolment.save(update_fields=["ended_at", "ended_by"])


def revoke_pending() -> int:
    """Revoke the logins of ended enrolments that the server has not been told of; return how many.

    What cannot be told now is told by the next call (a task, every ten seconds). Until then the portal itself
    refuses what such an agent says: its seat has a later agent.
    """
    with scope.opened(scope.EVERYTHING):
        ended = Enrolment.objects.filter(ended_at__isnull=False, revoked_at=None).exclude(public_key="")
        keys = dict(ended.values_list("pk", "public_key"))
        if not keys:
            return 0
        try:
            credentials.revoke(sorted(keys.values()))
        except credentials.NoMintError as error:
            credentials.log.warning("%s logins wait to be revoked: %s", len(keys), error)
            return 0
        return Enrolment.objects.filter(pk__in=keys).update(revoked_at=timezone.now())
