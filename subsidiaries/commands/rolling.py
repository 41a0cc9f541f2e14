"""How a command goes on: one step after the other, until it is confirmed, halted, or over.

Everything here is idempotent and runs in the caller's transaction, under the lock of commands.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from django.db import connection
from django.utils import timezone

from audit import services as audit
from bus import services as bus
from bus.rows import update_rows
from holding import services as holding
from holding.models import Suspension
from subsidiaries.commands.models import Command, Counts, Target
from subsidiaries.replacement import services as replacement
from subsidiaries.replacement.models import DivisionState

SOURCE: Final = "portal/commands"
LOCK: Final = 0x636D6E64  # "cmnd": one at a time decides about commands
TYPES: Final = {
    Command.Verb.PAUSE: ("pause", "org.claytom.agent.pause.v1"),
    Command.Verb.RESUME: ("resume", "org.claytom.agent.resume.v1"),
    Command.Verb.RETIRE: ("sync", "org.claytom.manifest.sync.v1"),  # in the manifest alone: no verb of its own
    Command.Verb.CONFIG: ("config", "org.claytom.host.config.v1"),
    Command.Verb.DRAIN: ("drain", "org.claytom.agent.drain.v1"),
    Command.Verb.REPORT: ("report", "org.claytom.report.request.v1"),
}
State = Command.State


def lock() -> None:
    """Wait until nobody else decides about commands; until the end of the transaction."""
    with connection.cursor() as cursor:
        cursor.execute("select pg_advisory_xact_lock(%s)", [LOCK])


def try_lock() -> bool:
    """Take the lock of commands if it is free; return whether it was."""
    with connection.cursor() as cursor:
        cursor.execute("select pg_try_advisory_xact_lock(%s)", [LOCK])
        return bool(cursor.fetchone()[0])


def begin_step(command: Command, *, now: datetime) -> None:
    """Begin the next step: the next share of the divisions, or of the agents if there is one division only."""
    targets = list(command.targets.select_related("division__unit").order_by("place"))
    command.reached = min(100, command.reached + command.percent)
    parts = len(targets) == 1 and command.verb in Command.STANDING and command.seat_id is None
    if parts:
        step = targets
    else:
        share = math.ceil(len(targets) * command.reached / 100)
        step = [one for one in targets[:share] if one.state == Target.State.WAITING]
        if share == len(targets):
            command.reached = 100
    command.save(update_fields=["reached"])
    _carry_out(command, step, share=command.reached if parts else 100)
    for target in step:
        target.state, target.begun_at = Target.State.SENT, now
        target.due_at = now + timedelta(seconds=command.patience_s)
        target.sent_at = target.acknowledged_at = None
        target.words = ""
    fields = [
        "state",
        "begun_at",
        "due_at",
        "sent_at",
        "acknowledged_at",
        "words",
        "generation",
        "epoch",
        "message",
    ]
    update_rows(step, fields)


def _carry_out(command: Command, step: Sequence[Target], *, share: int) -> None:
    divisions = [target.division_id for target in step]
    match command.verb:
        case Command.Verb.PAUSE | Command.Verb.RETIRE:
            generations = _suspend(command, divisions, share)
        case Command.Verb.RESUME:
            generations = _lift(command, divisions)
        case Command.Verb.CONFIG:
            generations = holding.configure(division_ids=divisions, settings=command.settings, version=command.pk)
        case _:
            generations = {}
    for target in step:
        target.generation = generations.get(target.division_id)
        if target.generation is not None:
            target.message = holding.manifest_id(target.division.key, target.generation)
    if command.verb == Command.Verb.DRAIN:
        epochs = dict(DivisionState.objects.filter(division_id__in=divisions).values_list("division_id", "epoch"))
        for target in step:
            target.epoch = epochs.get(target.division_id, 0)
    _tell(command, step)


def _suspend(command: Command, divisions: Sequence[int], share: int) -> dict[int, int]:
    retire = command.verb == Command.Verb.RETIRE
    if retire:  # as whoever staffs does: the unit first, then its seats
        replacement.lock_unit(unit_id=command.unit_id)
    generations = holding.suspend(
        division_ids=divisions,
        desired=Suspension.Desired.RETIRED if retire else Suspension.Desired.PAUSED,
        order=command.pk,
        actor=command.actor,
        reason=command.reason,
        role_id=command.role_id,
        seat_id=command.seat_id,
        share=share,
    )
    if retire:
        seats = holding.vacate(
            division_ids=divisions,
            actor=command.actor,
            reason=command.reason,
            at=timezone.now(),
            correlation_id=f"command-{command.pk}",
        )
        replacement.note_vacated(seat_ids=seats)
    return generations


def _lift(command: Command, divisions: Sequence[int]) -> dict[int, int]:
    lifted = list(command.lifted.order_by("pk"))
    staffs = any(one.verb == Command.Verb.RETIRE for one in lifted)
    if staffs:
        replacement.lock_unit(unit_id=command.unit_id)
    generations = holding.lift(orders=[one.pk for one in lifted], division_ids=divisions)
    if staffs and (vacant := holding.vacant(division_ids=divisions)):
        done = holding.appoint(
            seats=vacant,
            actor=command.actor,
            reason=f"command {command.pk}",
            correlation_id=f"command-{command.pk}",
            vacant=True,
        )
        replacement.note_staffed(seats={item.seat.pk: item.new.generation for item in done})
        generations = holding.generations(division_ids=divisions)
    return generations


def _tell(command: Command, step: Sequence[Target]) -> None:
    """Send hosts what they need not wait for: one message per unit. What shall be is in the manifests."""
    verb, kind = TYPES[Command.Verb(command.verb)]
    if command.verb == Command.Verb.RETIRE:
        return  # hosts watch the manifests
    by_unit: dict[str, list[Target]] = defaultdict(list)
    for target in step:
        by_unit[target.division.unit.slug].append(target)
    messages = []
    for slug, targets in sorted(by_unit.items()):
        dedup = f"command-{command.pk}-{slug}-{command.reached}"
        messages.append(
            bus.Message(
                subject=f"org.claytom.{slug}.command.{verb}",
                type=kind,
                source=SOURCE,
                body=_body(command, targets),
                dedup=dedup,
            )
        )
        for target in targets:
            target.message = target.message or dedup
    bus.publish_many(messages=messages)


def _body(command: Command, targets: Sequence[Target]) -> dict[str, object]:
    divisions = [target.division.key for target in targets]
    if command.verb == Command.Verb.REPORT:
        return {"divisions": divisions}
    if command.verb == Command.Verb.CONFIG:
        return {"version": command.pk, "settings": command.settings}
    body: dict[str, object] = {
        "id": f"command-{command.pk}",
        "divisions": divisions,
        "reason": command.reason,
        "actor": command.actor[:100],
    }
    if command.verb == Command.Verb.DRAIN:
        body["epochs"] = {target.division.key: target.epoch for target in targets}
        if command.host:
            body["host"] = command.host
    if command.role is not None:
        body["roles"] = [command.role.slug]
    return body


# --- going on ----------------------------------------------------------------------------------------------


def settle(command: Command, *, now: datetime) -> bool:
    """Halt the command, begin its next step or end it, if that is due; return whether anything changed."""
    if command.state != State.ROLLING_OUT:
        return False
    counts = Target.objects.counted(now, of=[command.pk])[command.pk]
    rate = counts.failure_rate(command.accepted)
    if counts.failed > command.accepted and rate > command.halt_above and not _is_begun(command):
        enter(command, State.HALTED, now=now, actor=SOURCE, counts=counts, note=f"failure rate {rate:.0f} %")
        return True
    if counts.open:
        return False
    if not _is_begun(command):
        begin_step(command, now=now)
        return True
    enter(command, State.INCOMPLETE if counts.failed else State.CONFIRMED, now=now, actor=SOURCE, counts=counts)
    return True


def _is_begun(command: Command) -> bool:
    """Whether the last step has begun: nothing is left that could be halted."""
    return command.reached >= 100


def enter(
    command: Command,
    state: Command.State,
    *,
    now: datetime,
    actor: str,
    counts: Counts | None = None,
    note: str = "",
) -> None:
    """Bring the command into a state, with its ledger entry; what was not begun when it ends is dropped."""
    before = command.state
    command.state, command.changed_at = state, now
    command.save(update_fields=["state", "changed_at", "accepted", "lifted_by"])
    if state not in Command.GOING:
        command.targets.filter(state=Target.State.WAITING).update(state=Target.State.DROPPED)
    counts = counts or Target.objects.counted(now, of=[command.pk])[command.pk]
    audit.record(
        actor=actor,
        action=f"command.{state.value}",
        object=f"command/{command.pk}",
        before={"state": before},
        after={"state": state.value},
        details={
            "verb": command.verb,
            "note": note,
            "acknowledged": counts.acknowledged,
            "refused": counts.refused,
            "expired": counts.expired,
            "open": counts.open,
        },
        correlation_id=f"command-{command.pk}",
    )
