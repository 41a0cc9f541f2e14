"""Writes of escalations: what agents report, what people decide, what time does.

Each act is one transaction: the escalation, its step, its ledger entry, and the letter or message that it sends.
Whoever writes an escalation holds its row's lock.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from django.db import connection, transaction
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from audit import services as audit
from bus import mailbox
from bus import services as bus
from bus.rows import insert_rows, update_rows
from claytom_agent.subjects import corporate_topic
from holding.models import SUBJECT_ROOT, Agent, Unit
from iam.access.models import User
from iam.access.rights import RefusedError, rights_of
from subsidiaries.escalations.models import HOLDING, OPEN_STATES, Escalation, Step
from subsidiaries.escalations.owners import Owner, owners

ACTOR: Final = "portal/escalations"
DECIDE: Final = "escalations.decide"
DUE: Final = {
    Escalation.Severity.CRITICAL: timedelta(minutes=15),
    Escalation.Severity.HIGH: timedelta(hours=1),
    Escalation.Severity.MEDIUM: timedelta(hours=8),
    Escalation.Severity.LOW: timedelta(hours=24),
}
"""How long a level has before the escalation is overdue."""
LIFE: Final = timedelta(days=7)
ANSWER_WITHIN: Final = timedelta(hours=1)
MOST_INPUT: Final = 16_384  # characters of new input for the agent
SEVERITIES: Final = {severity.name.lower(): severity for severity in Escalation.Severity}
ORDER: Final = (*Escalation.Level.values,)

State = Escalation.State


@dataclass(frozen=True, slots=True)
class Report:
    """A level was asked: which, by whom, for what; `taken_by` is empty when it did not take it."""

    code: str
    unit: str
    agent: str
    level: str
    severity: str
    matter: str
    summary: str
    needs: str
    work_id: str
    taken_by: str
    at: datetime


# --- what agents report ------------------------------------------------------------------------------------


@transaction.atomic
def note_raised(*, reports: Sequence[Report]) -> int:
    """Note that levels were asked; return how many steps were new. The same report twice changes nothing.

    Reports of units that the holding does not have are left out. An escalation that is settled stays so.
    """
    units = dict(Unit.objects.filter(slug__in={one.unit for one in reports}).values_list("slug", "pk"))
    known = [one for one in reports if one.unit in units and one.level in ORDER]
    if not known:
        return 0
    now = timezone.now()
    codes = {one.code for one in known}
    before = set(Escalation.objects.filter(code__in=codes).values_list("code", flat=True))
    _create([one for one in known if one.code not in before], units, now)
    rows = {row.code: row for row in _locked(Escalation.objects.filter(code__in=codes))}
    steps = set(Step.objects.filter(escalation__in=rows.values()).values_list("escalation_id", "level"))
    new: list[Step] = []
    acts: list[audit.Act] = []
    for report in sorted(known, key=lambda one: ORDER.index(one.level)):
        row = rows[report.code]
        if row.unit_id != units[report.unit] or (row.pk, report.level) in steps:
            continue  # of another unit: nobody writes into what is not theirs
        steps.add((row.pk, report.level))
        new.append(_step_of(row, report))
        acts.append(_climb(row, report, now))
    insert_rows(new)
    update_rows(rows.values(), ["level", "state", "taken_by", "taken_at", "due_at"])
    audit.record_many(acts=acts)
    return len(new)


def _create(reports: Sequence[Report], units: dict[str, int], now: datetime) -> None:
    """Create the rows of escalations that are new; of several reports of one, the lowest level's."""
    first: dict[str, Report] = {}
    for report in sorted(reports, key=lambda one: ORDER.index(one.level), reverse=True):
        first[report.code] = report
    if not first:
        return
    owned = owners()
    subjects = {report.agent for report in first.values()}
    seats = dict(Agent.objects.filter(subject__in=subjects).values_list("subject", "seat_id"))
    rows = [_row(one, units[one.unit], seats.get(one.agent), owned, now) for one in first.values()]
    insert_rows(rows, known=True)


def _row(report: Report, unit: int, seat: int | None, owned: dict[str, Owner], now: datetime) -> Escalation:
    matter = report.matter if report.matter in Escalation.Matter.values else Escalation.Matter.GOVERNANCE
    severity = SEVERITIES[report.severity]
    owner = owned[matter]
    own = report.agent.startswith(f"{SUBJECT_ROOT}.") and report.agent.split(".")[2] == report.unit
    return Escalation(
        code=report.code,
        unit_id=unit,
        seat_id=seat if own else None,
        agent=report.agent,
        work_id=report.work_id,
        matter=matter,
        severity=severity,
        summary=_text(report.summary),
        needs=_text(report.needs),
        level=report.level,
        raised_at=min(report.at, now),
        due_at=now + DUE[severity],
        expires_at=now + LIFE,
        mandate=owner.mandate,
        owner_body=owner.body,
        owner_es=owner.es,
        owner_en=owner.en,
        office=owner.office,
    )


def _text(text: str) -> str:
    return text.replace("\0", "\ufffd")  # PostgreSQL stores no NUL characters


def _step_of(row: Escalation, report: Report) -> Step:
    if report.level == HOLDING:
        kind, who = Step.Kind.RAISED, ""
    elif report.taken_by:
        kind, who = Step.Kind.ASKED, report.taken_by
    else:
        kind, who = Step.Kind.PASSED, ""
    return Step(escalation=row, kind=kind, level=report.level, who=who, at=report.at)


def _climb(row: Escalation, report: Report, now: datetime) -> audit.Act:
    """Let the escalation be where the highest level is, and return the entry that says so."""
    before = _state(row)
    if row.is_open and ORDER.index(report.level) >= ORDER.index(row.level) and row.person_id is None:
        row.level = report.level
        row.state = State.TAKEN if report.taken_by else State.RAISED
        row.taken_by, row.taken_at = report.taken_by, report.at if report.taken_by else None
        if report.level == HOLDING:
            row.due_at = now + DUE[Escalation.Severity(row.severity)]
    details = {"level": report.level, "severity": report.severity, "taken_by": report.taken_by}
    return _act(row, actor=report.agent, action="escalation.raise", before=before, details=details)


@transaction.atomic
def note_resolved(*, code: str, decision: str, actor: str) -> bool:
    """Note that the portal settled what it raised itself; False when there is no such open escalation."""
    row = _locked(Escalation.objects.filter(code=code).open()).first()
    if row is None:
        return False
    _settle(row, State.RESOLVED, decision=_text(decision)[:500], actor=actor[:200])
    return True


# --- what people decide ------------------------------------------------------------------------------------


@transaction.atomic
def take(*, escalation: Escalation, by: User) -> Escalation:
    """Take an escalation: from then on it is this person's. What they have already stays as it is.

    Raises NotHeldError without the permission for its unit, RefusedError when it is settled or another person's.
    """
    row = _open_to(escalation, by)
    if row.person_id == by.pk:
        return row
    if row.person is not None:
        raise RefusedError(
            _("%(person)s has it. Ask them, or let it be assigned to you.") % {"person": row.person.name}
        )
    _hand(row, by, actor=by.username, kind=Step.Kind.TAKEN, action="escalation.take")
    return row


@transaction.atomic
def assign(*, escalation: Escalation, to: User, by: User) -> Escalation:
    """Hand an escalation to a person, who may decide it too. Raises NotHeldError, RefusedError."""
    row = _open_to(escalation, by)
    if not to.is_active or not to.cleared or not rights_of_person(to, row):
        raise RefusedError(
            _("%(person)s may not decide escalations of %(unit)s: choose somebody who may.")
            % {"person": to.name, "unit": row.unit.name}
        )
    if row.person_id != to.pk:
        _hand(row, to, actor=by.username, kind=Step.Kind.ASSIGNED, action="escalation.assign")
    return row


def rights_of_person(person: User, row: Escalation) -> bool:
    """Return whether a person's own account may decide an escalation, whoever asks."""
    return rights_of(person).account.allows(DECIDE, row.unit_id)


def _hand(row: Escalation, person: User, *, actor: str, kind: Step.Kind, action: str) -> None:
    before, now = _state(row), timezone.now()
    row.state, row.person, row.taken_by, row.taken_at = State.TAKEN, person, person.username, now
    row.save(update_fields=["state", "person", "taken_by", "taken_at"])
    Step.objects.create(escalation=row, kind=kind, who=person.username, at=now)
    audit.record_many(
        acts=[_act(row, actor=actor, action=action, before=before, details={"person": person.username})]
    )


@transaction.atomic
def resolve(*, escalation: Escalation, by: User, decision: str, given: Any = None) -> Escalation:
    """Decide an escalation. The agent that raised it, if it is in office, gets the decision and the new input.

    Raises NotHeldError, RefusedError without a decision, for input that is too long, when it is settled or
    another person's.
    """
    row = _open_to(escalation, by)
    if row.person is not None and row.person_id != by.pk:
        raise RefusedError(
            _("%(person)s has it. Ask them, or let it be assigned to you.") % {"person": row.person.name}
        )
    decision = _text(decision.strip())
    if not decision:
        raise RefusedError(_("Say what is decided: the agent and the ledger are told."))
    if len(decision) > 500:
        raise RefusedError(_("The decision has more than 500 characters."))
    if len(str(given or "")) > MOST_INPUT:
        raise RefusedError(_("The new input has more than %(count)d characters.") % {"count": MOST_INPUT})
    if row.person is None:
        row.person, row.taken_by, row.taken_at = by, by.username, timezone.now()
    letter = _answer(row, decision, given, by.username)
    _settle(row, State.RESOLVED, decision=decision, actor=by.username, details={"letter": letter})
    return row


def letter_key(row: Escalation) -> str:
    """Return the key of the letter that tells the agent what was decided."""
    return f"er-{row.code}"[:120]


def _answer(row: Escalation, decision: str, given: Any, actor: str) -> str:
    """Write to the agent that raised it; return the letter's key, or "" when nobody in office asked."""
    if not Agent.objects.in_office().filter(subject=row.agent).exists():
        return ""
    letter = mailbox.Letter(
        address=row.agent,
        unit_id=row.unit_id,
        type="escalation.resolve",
        source=ACTOR,
        body={"id": row.code, "decision": decision, "actor": actor[:100], "input": given},
        key=letter_key(row),
        deadline=timezone.now() + ANSWER_WITHIN,
    )
    return mailbox.post(letters=[letter])[0].key


def _open_to(escalation: Escalation, by: User) -> Escalation:
    """Return the escalation under its lock. Raises NotHeldError, or RefusedError when it is settled."""
    row = _locked(Escalation.objects.filter(pk=escalation.pk).select_related("unit", "person")).get()
    rights_of(by).require(DECIDE, row.unit)
    if not row.is_open:
        raise RefusedError(_("It is settled: %(state)s.") % {"state": row.get_state_display()})
    return row


def _locked(rows: "QuerySet[Escalation]") -> "QuerySet[Escalation]":
    return rows.select_for_update(of=("self",)).order_by("pk")


def _settle(
    row: Escalation, state: State, *, decision: str, actor: str, details: dict[str, Any] | None = None
) -> None:
    before, now = _state(row), timezone.now()
    row.state, row.decision, row.settled_by, row.settled_at = state, decision, actor, now
    row.save(update_fields=["state", "decision", "settled_by", "settled_at", "person", "taken_by", "taken_at"])
    kind = Step.Kind.RESOLVED if state == State.RESOLVED else Step.Kind.EXPIRED
    Step.objects.create(escalation=row, kind=kind, who=actor, note=decision, at=now)
    action = f"escalation.{'resolve' if state == State.RESOLVED else 'expire'}"
    said = {"decision": decision, **(details or {})}
    audit.record_many(acts=[_act(row, actor=actor, action=action, before=before, details=said)])


def _state(row: Escalation) -> dict[str, Any]:
    """Return what the ledger takes the digest of."""
    return {"escalation": row.code, "state": row.state, "level": row.level, "taken_by": row.taken_by}


def _act(row: Escalation, *, actor: str, action: str, before: dict[str, Any], details: dict[str, Any]) -> audit.Act:
    return audit.Act(
        actor=actor,
        action=action,
        object=f"escalation/{row.code}",
        before=before,
        after=_state(row),
        details={**details, "unit_id": row.unit_id},
    )


# --- time --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Tick:
    """How many escalations were resolved since their cause is gone, raised since overdue, and expired."""

    mended: int
    raised: int
    expired: int


# An agent that failed is history once a later agent of its seat is live.
MENDED = """
    select e.id, agent.subject from escalations_escalation e
      join holding_agent failed on failed.seat_id = e.seat_id and failed.subject = e.agent
      join replacement_seatstate s on s.seat_id = e.seat_id and s.generation > failed.generation
       and s.state in ('idle', 'busy', 'paused')
      join holding_agent agent on agent.seat_id = e.seat_id and agent.generation = s.generation
     where e.state in ('raised', 'taken') and e.code like 'failed-%%' and e.person_id is null
     order by e.id limit 1000
"""


def tick(*, now: datetime | None = None) -> Tick:
    """Do what time asks for: resolve what has mended, raise what is overdue to the holding, let the rest expire."""
    at = now or timezone.now()
    return Tick(_resolve_mended(), _raise_overdue(at), _expire(at))


@transaction.atomic
def _resolve_mended() -> int:
    with connection.cursor() as cursor:
        cursor.execute(MENDED)
        successors = dict(cursor.fetchall())
    rows = list(_locked(Escalation.objects.filter(pk__in=successors, person=None).open()))
    for row in rows:
        agent = successors[row.pk]
        _settle(row, State.RESOLVED, decision=f"replaced by {agent}", actor=ACTOR)
    return len(rows)


@transaction.atomic
def _raise_overdue(at: datetime) -> int:
    """Take what a level of agents has had for too long to the holding, as an agent does that nobody answers."""
    late = Escalation.objects.filter(state__in=OPEN_STATES, due_at__lt=at).exclude(level=HOLDING)
    rows = list(_locked(late.select_related("unit"))[:500])
    for row in rows:
        bus.publish(
            subject=corporate_topic("escalation", row.unit.slug),
            type="org.claytom.escalation.raise.v1",
            source=ACTOR,
            body={
                "ts": at.isoformat(timespec="milliseconds"),
                "id": row.code,
                "level": "L4",
                "severity": Escalation.Severity(row.severity).name.lower(),
                "summary": row.summary,
                "needs": row.needs,
                "matter": row.matter,
                **({"agent": row.agent} if row.agent.startswith(f"{SUBJECT_ROOT}.") else {}),
                **({"work_id": row.work_id} if row.work_id else {}),
            },
            dedup=f"esc-{row.code}-overdue",
        )
    reports = [_overdue(row, at) for row in rows]
    note_raised(reports=reports)
    return len(reports)


def _overdue(row: Escalation, at: datetime) -> Report:
    return Report(
        code=row.code,
        unit=row.unit.slug,
        agent=ACTOR,
        level=HOLDING,
        severity=Escalation.Severity(row.severity).name.lower(),
        matter=row.matter,
        summary=row.summary,
        needs=row.needs,
        work_id=row.work_id,
        taken_by="",
        at=at,
    )


@transaction.atomic
def _expire(at: datetime) -> int:
    rows = list(_locked(Escalation.objects.filter(expires_at__lt=at).open())[:500])
    for row in rows:
        _settle(row, State.EXPIRED, decision="", actor=ACTOR)
    return len(rows)
