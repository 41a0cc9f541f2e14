"""Requests for approvals: the value that is judged, and the offices that must decide it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db import connection, transaction
from django.db.models import F, Sum
from django.utils.translation import gettext as _

from audit import services as audit
from holding.models import Unit
from iam.access.models import User
from iam.authority import actions, judging, matrix, offices, rates, telling
from iam.authority.models import ENVELOPE, Approval, Level, Matter, Office, Rule

SPLIT_WINDOW = timedelta(days=30)
EXACT = Decimal("0.0001")
TOO_LARGE = Decimal(10) ** 16


class NoAuthorityError(ValueError):
    """No matrix is in force, or nobody in it may decide the matter at that value."""


class KeyInUseError(ValueError):
    """Another request was made under the same idempotency key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is asked for. `actor` asks when no person does; `parties` are people whom it concerns themselves.

    `value` is in the matter's measure: of an amount in `currency`, whose rate is the register's; of a
    percentage the size counts, not the sign. `action` "" asks for the decision alone.
    """

    matter: str
    unit: Unit
    value: Decimal
    title: str
    key: str
    reason: str = ""
    requester: User | None = None
    actor: str = telling.SOURCE
    currency: str = rates.EURO
    counterparty: str = ""
    parties: Iterable[User] = ()
    action: str = ""
    parameters: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Preview:
    """Who would decide a request: the value judged, the first office, how many of its holders, who could now.

    `euros` is the value by the rate `fx_rate` of the day `fx_on` (None: it is in euros, or no amount).
    """

    euros: Decimal
    fx_rate: Decimal
    fx_on: date | None
    judged: Decimal
    office: Office
    required: int
    by_rule: bool
    people: tuple[User, ...]


def preview(*, request: Request, at: datetime) -> Preview:
    """Return who would decide a request, and write nothing. Raises as `ask` does."""
    approval = _asked(request, Matter.objects.get(slug=request.matter), at)
    rule = _rules(approval, at)[0]
    by_rule = rule.office.slug == ENVELOPE
    able = set() if by_rule else judging.eligible(approval, rule.office, at)
    return Preview(
        euros=approval.value * approval.fx_rate,
        fx_rate=approval.fx_rate,
        fx_on=approval.fx_on,
        judged=approval.judged,
        office=rule.office,
        required=0 if by_rule else rule.required or judging.majority(len(able)),
        by_rule=by_rule,
        people=tuple(User.objects.filter(pk__in=able).order_by("last_name", "username")),
    )


@transaction.atomic
def ask(*, request: Request, at: datetime) -> Approval:
    """Write a request with the authority that it needs, or return the one made under its key (see `services`)."""
    matter = Matter.objects.get(slug=request.matter)
    approval = _asked(request, matter, at)
    # Whoever comes second sees the first: the same key sent twice at once, two halves of one contract.
    for lock in (f"approval/{request.key}", f"approval/{matter.slug}/{request.unit.slug}"):
        with connection.cursor() as cursor:
            cursor.execute("select pg_advisory_xact_lock(hashtextextended(%s, 0))", [lock])
    if known := Approval.objects.filter(key=request.key).first():
        return _same_request(known, approval)
    rules = _rules(approval, at)
    approval.by_rule = rules[0].office.slug == ENVELOPE
    if approval.by_rule:
        approval.state, approval.settled_at = Approval.State.APPROVED.value, at
    else:
        approval.remind_at = at + timedelta(hours=matter.sla_hours) / 2
    approval.save(force_insert=True)
    if approval.by_rule:
        _add_level(approval, rules[0], Level.Cause.REQUIRED, at)
    else:
        rest = add_levels(approval=approval, rules=rules, cause=Level.Cause.REQUIRED, at=at)
        approval.escalate_at = approval.due_at if rest else None
        approval.save(update_fields=["escalate_at"])
    telling.record(
        approval, actor=approval.actor, action="approval.request", details=telling.request_details(approval)
    )
    if approval.by_rule:
        telling.tell(approval, at)
    return approval


def _rules(approval: Approval, at: datetime) -> list[Rule]:
    """Judge what was asked for by the matrix in force; return the rules that cover it, lowest office first."""
    version = matrix.matrix_at(at)
    if version is None:
        raise NoAuthorityError(_("No authority matrix is in force."))
    _convert(approval, at)
    approval.version, approval.judged = version, _judged(approval)
    rules = list(Rule.objects.covering(version, approval.matter, approval.judged))
    if not rules:
        raise NoAuthorityError(_("Nobody may decide %(matter)s at this value.") % {"matter": approval.matter.name})
    return rules


def _asked(request: Request, matter: Matter, at: datetime) -> Approval:
    """The approval as it was asked for, checked but not yet judged."""
    amount = matter.measure == Matter.Measure.AMOUNT
    value = abs(request.value) if matter.measure == Matter.Measure.PERCENT else request.value
    if not value.is_finite() or not 0 <= value < TOO_LARGE:
        raise ValueError(_("A value is a number from 0."))
    parameters = dict(request.parameters or {})
    if request.action:
        actions.action_named(request.action).verify(parameters)
    return Approval(
        key=request.key,
        matter=matter,
        unit=request.unit,
        value=value.quantize(EXACT),
        currency=request.currency if amount else "",
        counterparty=offices.party(request.counterparty),
        parties=sorted({person.pk for person in request.parties}),
        title=request.title,
        reason=request.reason,
        requester=request.requester,
        actor=request.requester.get_username() if request.requester else request.actor,
        action=request.action,
        parameters=parameters,
        digest=audit.digest(parameters),
        requested_at=at,
        due_at=at + timedelta(hours=matter.sla_hours),
        expires_at=at + timedelta(hours=matter.expiry_hours),
    )


def _convert(approval: Approval, at: datetime) -> None:
    """Take the rate of the register for an amount in another currency; whoever asks has no say in it."""
    if approval.currency not in {"", rates.EURO}:
        found = rates.rate_for(currency=approval.currency, on=at.date(), requester=approval.requester)
        approval.fx_rate, approval.fx_on = found.rate, found.on
    if approval.value * approval.fx_rate >= TOO_LARGE:
        raise ValueError(_("The value in euros is too large."))


def _same_request(known: Approval, again: Approval) -> Approval:
    compared = ("matter_id", "unit_id", "value", "currency", "counterparty", "actor", "action", "digest")
    if any(getattr(known, name) != getattr(again, name) for name in compared):
        raise KeyInUseError(_("Another request was made under the key %(key)s.") % {"key": known.key})
    return known


def _judged(approval: Approval) -> Decimal:
    """The value that is judged: in euros, with what was asked for in the last 30 days where that is added up."""
    value = approval.value * approval.fx_rate
    if approval.matter.anti_splitting:
        before = Approval.objects.counted_with(approval, approval.requested_at - SPLIT_WINDOW)
        value += before.aggregate(sum=Sum(F("value") * F("fx_rate")))["sum"] or 0
    return value.quantize(EXACT)


def add_levels(*, approval: Approval, rules: Iterable[Rule], cause: Level.Cause, at: datetime) -> list[Rule]:
    """Add the first rule's office, and those above it while too few people may decide; return the rules left."""
    rest = list(rules)
    while rest:
        _add_level(approval, rest.pop(0), cause, at)
        cause = Level.Cause.SHORT
        if _can_be_met(approval, at):
            break
    return rest


def _add_level(approval: Approval, rule: Rule, cause: Level.Cause, at: datetime) -> Level:
    people = judging.eligible(approval, rule.office, at)
    required = 0 if approval.by_rule else rule.required or judging.majority(len(people))
    return Level.objects.create(
        approval=approval,
        office=rule.office,
        rule=rule,
        required=required,
        majority=rule.required is None,
        eligible=sorted(people),
        cause=cause,
        since=at,
    )


def _can_be_met(approval: Approval, at: datetime) -> bool:
    levels = list(approval.levels.select_related("office"))
    able = {level.office: judging.eligible(approval, level.office, at) for level in levels}
    return any(
        len(set[int]().union(*(able[office] for office in judging.counting_towards(level.office, list(able)))))
        >= level.required
        for level in levels
    )
