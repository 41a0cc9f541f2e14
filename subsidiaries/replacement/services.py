"""ARP: the controller that keeps every seat filled. It decides; it never runs agents.

Level-triggered: each cycle looks at what is, not at what happened, so a lost message or a killed worker
costs one cycle. Idempotent: a replacement is unique per (seat, generation). One cycle per unit at a time
(advisory lock), so two beats or two workers decide once.
"""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import F
from django.utils import timezone

from bus import mailbox
from bus import services as bus
from bus.rows import insert_rows
from holding import services as holding
from holding.lifecycle import Stage
from holding.models import Agent, BlueprintVersion, Seat, Unit
from subsidiaries.replacement import (
    brakes,
    caps,
    cases,
    findings,
    hosts,
    incidents,
    locking,
    looping,
    observing,
    pacing,
    singles,
    stages,
    succession,
)
from subsidiaries.replacement.cases import Case
from subsidiaries.replacement.findings import Findings
from subsidiaries.replacement.incidents import OpenIncidents
from subsidiaries.replacement.models import (
    STALE_AFTER,
    Census,
    DivisionState,
    DoubleHolder,
    Incident,
    Replacement,
    SeatState,
    StaffingRule,
)

log = logging.getLogger(__name__)
ensure_states = observing.ensure_states
after_reports = observing.after_reports
note_vacated, note_staffed = observing.note_vacated, observing.note_staffed
note_singles, note_silent = observing.note_singles, observing.note_silent
lock_unit = locking.lock_unit
welcome, farewell = hosts.welcome, hosts.farewell
register_cases, version_in_trouble = cases.register_cases, pacing.version_in_trouble
ACTOR = incidents.ACTOR
HINT_AFTER = timedelta(seconds=20)
REPORT_AGAIN = timedelta(seconds=10)
DOUBLE_SHOWN = timedelta(minutes=2)  # two full reports: so long a seat with two holders keeps its incident open
MOST_NAMED = 5
CYCLE = timedelta(seconds=9)  # a little less than the beat's ten seconds: two beats replace no more than one
SUCCEEDED = (
    Replacement.Reason.FAILED,
    Replacement.Reason.MISSING,
    Replacement.Reason.QUALITY,
    Replacement.Reason.QUARANTINE,
)  # by promotion, where there are successors; whoever did not become live was no holder to succeed
_steps: list[Callable[[Unit], object]] = []


def in_each_cycle(step: Callable[[Unit], object]) -> None:
    """Let `step` be called in each cycle of a unit, in its transaction and under its lock.

    It is idempotent and looks at what is. A step that fails is undone and logged; the cycle goes on without it.
    """
    _steps.append(step)


def _take_steps(unit: Unit) -> None:
    for step in _steps:
        try:
            with transaction.atomic():
                step(unit)
        except Exception:
            log.exception("%s: a step of the cycle failed; the next cycle tries again", unit.slug)


@dataclass(frozen=True, slots=True)
class Cycle:
    """What one cycle of a unit found and did. `skipped` names why nothing was decided ("" when it was)."""

    unit: str
    seats: int = 0
    live: int = 0
    vacant: int = 0  # on purpose: neither lost nor replaced
    replaced: int = 0
    deferred: int = 0
    silent: float = 0.0
    skipped: str = ""
    floor: int = 0
    slow: int = 0  # of the deferred, those that wait for the batch before them to become live

    @property
    def below(self) -> int:
        """How many live agents the unit is short of its floor, without seats that are vacant on purpose."""
        return max(0, min(self.floor, self.seats - self.vacant) - self.live)

    @property
    def deficit(self) -> int:
        """How many agents are missing."""
        return self.seats - self.live - self.vacant


@transaction.atomic
def ensure(*, unit: str, actor: str = ACTOR) -> Cycle:
    """Run one ARP cycle for the unit with that slug: replace what failed or is missing, open and close incidents.

    Decides nothing while another cycle of the unit runs, or while presence has not come in long enough to
    tell silence from a portal that just started. Raises Unit.DoesNotExist for an unknown slug.
    """
    row = Unit.objects.get(slug=unit)
    if not locking.try_lock_unit(unit_id=row.pk):
        return Cycle(unit=unit, skipped="another cycle of this unit is running")
    now = timezone.now()
    rule = StaffingRule.objects.get()
    since = observing.watching_since()
    divisions = observing.set_right(unit=row, now=now)
    known = incidents.OpenIncidents(row)
    heard = [state for state in divisions if state.seen_at and state.seen_at > now - STALE_AFTER]
    looping.note_loops(row, now)
    found = findings.look(row, heard, rule, now)
    settled = since is not None and since < now - timedelta(seconds=rule.relocation_s)
    silent, lost, moving = findings.silence(row, divisions, found.missing, rule, now) if settled else (0.0, [], 0)
    per_cycle, braked = brakes.brake(known, silent, rule, settled=settled)
    unproven = pacing.note_proven(row, now)
    if not found.cases and braked is None and not silent:
        found.cases = cases.quality_cases(row, rule, now)
    allowed, deferred, slow = _within_limits(known, found.cases, per_cycle, rule)
    done = replace(unit=row, cases=allowed, actor=actor)
    stages.settle(unit=row, rule=rule, now=now)
    succession.refresh_stale(unit=row, now=now)
    if since:
        _take_steps(row)
    _ask_reports(row, heard, found.look_again, now)
    _hint_laggards(heard, now)
    silent_alone = singles.door().silent(row.pk, now)
    observing.note_silent(seat_ids=silent_alone, now=now)
    seats, live = Census.objects.filter(unit=row).by_unit(now).get(row.pk, (0, 0))
    vacant = observing.vacant_seats(division_ids=[state.division_id for state in divisions])
    if settled:
        incidents.note_external(known, len(silent_alone))
        _note_silence(known, lost, braked, silent)
    # What was decided meanwhile is told of at once.
    versions = pacing.troubled(row, timezone.now()) if unproven or done else []
    _note_troubles(known, found, versions, timezone.now())
    # A seat that is vacant on purpose lowers what must be live, once the reserve is used up.
    spared = max(0, min(vacant, row.floor - seats + vacant))
    explained = row.floor if braked is not None else moving
    incidents.note_floor(known, live + spared, now, settled=settled, explained=explained)
    skipped = "" if since else "no presence is being received"
    return Cycle(unit, seats, live, vacant, done, deferred, silent, skipped, row.floor, slow)


def _note_silence(
    known: OpenIncidents, lost: Sequence[DivisionState], braked: Incident | None, silent: float
) -> None:
    """Open or close the incident of divisions that no host takes; while a brake's is open, that says it already."""
    if braked is not None and lost:
        return
    names = ", ".join(sorted(state.division.key for state in lost))
    if not lost:
        known.close(Incident.Kind.CAPACITY)
        return
    deficit = round(silent * known.unit.floor)
    known.open(Incident.Kind.CAPACITY, detail=f"no host for {names}", deficit=deficit)


def _note_troubles(known: OpenIncidents, found: Findings, troubled: Sequence[str], now: datetime) -> None:
    """Open and close the incidents of what the controller met: hosts that lag, versions that crash, two holders."""
    stalled = ", ".join(sorted(found.stalled))
    versions = ", ".join(troubled)
    doubles = DoubleHolder.objects.filter(unit=known.unit, last_at__range=(now - DOUBLE_SHOWN, now))
    names = [
        f"{row.seat.code} g{row.generation} g{row.other}" for row in doubles.select_related("seat")[:MOST_NAMED]
    ]
    told = {
        Incident.Kind.STALLED: (f"{found.late} new agents are not taken up by the hosts of {stalled}", found.late),
        Incident.Kind.CRASH_LOOP: (f"new agents of {versions} do not last", 1) if versions else ("", 0),
        Incident.Kind.DUPLICATE: (", ".join(names), len(names)),
    }
    for kind, (text, deficit) in told.items():
        if deficit:
            known.open(kind, detail=text, deficit=deficit)
    known.close(*(kind for kind, (_text, deficit) in told.items() if not deficit))


def _within_limits(
    known: OpenIncidents, found: Sequence[Case], per_cycle: int, rule: StaffingRule
) -> tuple[list[Case], int, int]:
    """Return the cases that may be decided now, how many have to wait, and how many of them for slow start.

    What a live host reports failed is replaced up to the day's cap, beyond which people are asked; what merely
    went missing or did not become live only `per_cycle`, as the brake on silence allows, since silence may be ours;
    and so what is of a revoked version, since those agents still do their work.
    """
    if not found:
        known.close(Incident.Kind.CAP)
        return [], 0, 0
    unit, now = known.unit, timezone.now()
    lately = 0
    if any(case.reason in pacing.METERED for case in found):
        recent = Replacement.objects.filter(unit=unit, decided_at__gt=now - CYCLE, decided_at__lte=now)
        lately = recent.filter(reason__in=pacing.METERED).count()
    paced = pacing.pace(unit, found, rule, now, metered=max(0, per_cycle - lately))
    left = caps.left_today(unit, rule) if paced.due else 0
    allowed = paced.due[:left]
    if waiting := len(paced.due) - len(allowed):
        known.open(Incident.Kind.CAP, detail=f"{waiting} wait", deficit=waiting)
        caps.ask_for_more(unit=unit, extra=waiting)
    else:
        known.close(Incident.Kind.CAP)
    return allowed, len(found) - len(allowed), paced.slow


@transaction.atomic
def replace(
    *, unit: Unit, cases: Sequence[Case], actor: str, versions: Mapping[int, BlueprintVersion] | None = None
) -> int:
    """Give each seat of `cases` its next generation; return how many of them were replaced.

    Lost directors and coordinators are succeeded by promotion, and so are those who are promoted (`succession`).
    Change, ledger entry per seat, manifests and messages in one transaction. A seat that has moved on since
    is left alone, so that the same case twice is one replacement. `versions` names, by seat, by which version
    another agent is made than by that in force (`holding.appoint`).
    """
    if not cases:
        return 0
    lock_unit(unit_id=unit.pk)
    now = timezone.now()
    by_seat = {case.seat_id: case for case in cases}
    lost = {case.seat_id: case.generation for case in cases if case.reason in SUCCEEDED}
    steps = {step.seat_id: step for step in succession.plan(unit=unit, lost=lost, now=now)}
    for step in steps.values():
        if step.seat_id not in by_seat:
            case = Case(step.seat_id, step.generation, Replacement.Reason.PROMOTION, now)
            by_seat[step.seat_id] = case
    appointments = holding.appoint(
        seats=[(case.seat_id, case.generation) for case in by_seat.values()],
        actor=actor,
        reason="arp: " + ", ".join(sorted({str(case.reason.value) for case in cases})),
        leaving=Stage.RETIRED if _is_planned(cases) else Stage.REPLACED,
        terms={step.seat_id: _terms(step, by_seat[step.seat_id]) for step in steps.values()},
        versions=versions,
    )
    if not appointments:
        return 0
    observing.lock_divisions(division_ids={item.seat.division_id for item in appointments})
    failed = [case for item in appointments if (case := by_seat[item.seat.pk]).reason not in Replacement.ON_PURPOSE]
    pacing.note_decided(unit, {case.seat_id: case.generation for case in failed}, StaffingRule.objects.get(), now)
    told = DivisionState.objects.in_bulk({item.seat.division_id for item in appointments})
    insert_rows(
        _replacement(
            unit, item, by_seat[item.seat.pk], steps.get(item.seat.pk), told[item.seat.division_id], now, actor
        )
        for item in appointments
    )
    seat_ids = sorted(item.seat.pk for item in appointments)
    SeatState.objects.filter(pk__in=seat_ids).update(
        generation=F("generation") + 1, state=SeatState.State.STARTING, since=now, missed=0, done=0
    )
    observing.recount(division_ids={item.seat.division_id for item in appointments})
    mailbox.succeed(
        successions=[mailbox.Succession(item.replaced.subject, item.new.subject) for item in appointments]
    )
    bus.publish_many(messages=[_replace_message(unit, item, by_seat[item.seat.pk]) for item in appointments])
    promoted = {seat: step.promoted for seat, step in steps.items()}
    succession.tell(
        [
            succession.Filled(item.seat.pk, item.replaced, item.new, promoted.get(item.seat.pk))
            for item in appointments
        ]
    )
    return sum(item.seat.pk not in steps or not steps[item.seat.pk].leads_to for item in appointments)


def _is_planned(cases: Sequence[Case]) -> bool:
    return all(case.reason == Replacement.Reason.PLANNED for case in cases)


def _terms(step: succession.Step, case: Case) -> holding.Terms:
    if step.leads_to:
        return holding.Terms(Stage.RETIRED, step.detail, step.promoted)
    return holding.Terms(Stage.REPLACED, f"arp: {case.reason.value}", step.promoted)


def _replacement(
    unit: Unit,
    item: holding.Appointment,
    case: Case,
    step: succession.Step | None,
    told: DivisionState,
    now: datetime,
    actor: str,
) -> Replacement:
    return Replacement(
        unit=unit,
        seat=item.seat,
        generation=item.new.generation,
        old_agent=item.replaced,
        new_agent=item.new,
        promoted_from=step.promoted if step else None,
        reason=case.reason,
        detail=step.detail if step and step.detail else case.detail,
        detected_at=min(case.detected_at, now),
        decided_at=now,
        actor=actor,
        host=told.host,
        epoch=told.epoch,
    )


def _replace_message(unit: Unit, item: holding.Appointment, case: Case) -> bus.Message:
    return bus.Message(
        subject=f"org.claytom.{unit.slug}.command.replace",
        type="org.claytom.arp.replace.v1",
        source=ACTOR,
        body={
            "division": item.division,
            "seat": item.seat.code,
            "old": item.replaced.subject,
            "new": item.new.subject,
            "generation": item.new.generation,
            "reason": case.reason.value,
        },
        dedup=f"rp-{unit.slug}-{item.division}-{item.seat.code}-g{item.new.generation}",
    )


@transaction.atomic
def give_out(*, seat: Seat, actor: str, reason: str, correlation_id: str) -> Agent:
    """Give a seat to an agent with a connection of its own; return it. The hosted one is dismissed by its host.

    The caller has locked the seat. It is no replacement: nothing was lost.
    """
    return _moved(holding.give_out(seat=seat, actor=actor, reason=reason, correlation_id=correlation_id))


@transaction.atomic
def take_back(*, seat: Seat, actor: str, reason: str, correlation_id: str) -> Agent:
    """Give a seat back to the hosts, under its next generation; return the new hosted agent."""
    return _moved(holding.take_back(seat=seat, actor=actor, reason=reason, correlation_id=correlation_id))


def _moved(item: holding.Appointment) -> Agent:
    observing.note_staffed(seats={item.seat.pk: item.new.generation})
    observing.recount(division_ids=[item.seat.division_id])
    return item.new


@transaction.atomic
def replace_reported(*, reports: Sequence[observing.StateReport]) -> int:
    """Note the states that hosts report, and replace at once what failed; return how many."""
    units = Unit.objects.filter(slug__in={report.body.agent.split(".")[2] for report in reports})
    for pk in sorted(units.values_list("pk", flat=True)):
        lock_unit(unit_id=pk)
    return replace_failed(seats=observing.note_states(reports=reports))


def replace_failed(*, seats: dict[str, list[int]]) -> int:
    """Replace, at once, the seats that hosts reported failed (by unit slug); return how many.

    The same limits as in a cycle hold; what they defer, the next cycle takes up.
    """
    done = 0
    for slug, seat_ids in sorted(seats.items()):
        unit = Unit.objects.get(slug=slug)
        states = SeatState.objects.filter(pk__in=seat_ids, state=SeatState.State.FAILED, seat__external=False)
        failed = [
            Case(
                state.seat_id,
                state.generation,
                Replacement.Reason.FAILED,
                state.since or timezone.now(),
            )
            for state in states
        ]
        allowed, *_ = _within_limits(incidents.OpenIncidents(unit), failed, 0, StaffingRule.objects.get())
        done += replace(unit=unit, cases=allowed, actor=ACTOR)
    return done


def _ask_reports(unit: Unit, heard: Sequence[DivisionState], doubtful: Collection[int], now: datetime) -> None:
    """Ask the hosts for a full report of the divisions that are `doubtful`, unless it was asked for just now."""
    asked = [
        state
        for state in heard
        if state.division_id in doubtful
        and (state.report_asked_at is None or state.report_asked_at < now - REPORT_AGAIN)
    ]
    if not asked:
        return
    DivisionState.objects.filter(pk__in=[state.pk for state in asked]).update(report_asked_at=now)
    bus.publish(
        subject=f"org.claytom.{unit.slug}.command.report",
        type="org.claytom.report.request.v1",
        source=ACTOR,
        body={"divisions": [state.division.key for state in asked]},
    )


def _hint_laggards(heard: Sequence[DivisionState], now: datetime) -> None:
    """Send the manifest again to divisions whose host has not taken up the newest one for a while."""
    late = [
        state.division
        for state in heard
        if state.observed_generation < state.division.manifest_generation
        and state.taken_up_at is not None
        and state.taken_up_at < now - HINT_AFTER
    ]
    bucket = int(now.timestamp() // HINT_AFTER.total_seconds())
    bus.publish_many(
        messages=[
            bus.Message(
                subject=f"org.claytom.{division.key.partition('.')[0]}.command.sync",
                type="org.claytom.manifest.sync.v1",
                source=ACTOR,
                body={"division": division.key, "generation": division.manifest_generation},
                dedup=f"sync-{division.key}-{division.manifest_generation}-{bucket}",
            )
            for division in late
        ]
    )
