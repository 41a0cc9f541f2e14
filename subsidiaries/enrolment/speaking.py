"""What enrolled agents say: hello, presence, goodbye. Each speaks for its own seat, under its own epoch."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Coalesce
from django.utils import timezone
from msgspec import UnsetType

from bus import counters, grants, leases, mailbox
from bus.dispatch import Message
from claytom_agent.messages import PROTOCOL, Goodbye, Hello, Presence
from holding import services as holding
from subsidiaries.enrolment.models import SILENT_AFTER, Enrolment
from subsidiaries.replacement import services as replacement
from subsidiaries.replacement.singles import NOT_ENROLLED

ASK_AGAIN_S = 60.0


def _refused(code: str, reason: str, retry_after_s: float = ASK_AGAIN_S) -> Mapping[str, object]:
    return {"code": code, "reason": reason, "retry_after_s": retry_after_s}


@transaction.atomic
def welcome(*, message: Message) -> Mapping[str, object]:  # noqa: PLR0911 - each refusal has its own word
    """Grant an epoch to the agent that holds a seat, or say why not.

    An agent that comes back with the epoch it was given keeps it. One that comes with another is fenced, or waits
    until the one that holds the seat has been silent for as long as makes it not live.
    """
    body = message.body
    assert isinstance(body, Hello)  # noqa: S101 - the dispatcher decodes by type
    if isinstance(body.agent, UnsetType):
        return NOT_ENROLLED
    if body.protocol != PROTOCOL:
        return _refused("protocol", f"this portal speaks {PROTOCOL}")
    unit = message.subject.split(".")[2]
    subject = f"org.claytom.{unit}.{body.agent.role}.{body.agent.id}"
    if message.source != subject:
        return _refused("source", f"ce-source must be the agent's own address, {subject}")
    enrolment = (
        Enrolment.objects.select_for_update(of=("self",))
        .select_related("agent__blueprint", "seat__division")
        .filter(agent__subject=subject)
        .order_by("-pk")
        .first()
    )
    if enrolment is None or enrolment.agent is None:
        return NOT_ENROLLED
    if enrolment.ended_at is not None or enrolment.agent.retired_at is not None:
        return _refused("fenced", "this agent was withdrawn: its seat has a later one")
    now = timezone.now()
    last = body.resume.last_epoch
    if last != enrolment.epoch or not last:
        refusal = _refuse_claim(enrolment, last, now)
        if refusal is not None:
            return refusal
        lease = f"{unit}.a-{body.agent.id}"
        try:
            enrolment.epoch = grants.grant(lease, {"agent": subject})
        except grants.NoGrantError as error:
            return _refused("busy", str(error), 2.0)
        # From now on whatever comes under an earlier epoch is stale.
        leases.note(leases=[leases.Lease(lease, enrolment.epoch, "", now)])
        enrolment.reported_at = None
    _note_card(enrolment, body)
    enrolment.save(update_fields=["epoch", "reported_at", "name", "version", "language"])
    settings = holding.settings_of(enrolment.seat.division)
    return {
        "epoch": enrolment.epoch,
        "seat": enrolment.seat.code,
        "blueprint_rev": enrolment.agent.blueprint.version,
        "kpi_interval_s": settings["kpi_interval_s"],
        "presence_interval_s": settings["presence_interval_s"],
        "open": mailbox.open_mail(addresses=[subject]),
    }


def _refuse_claim(enrolment: Enrolment, last: int, now: datetime) -> Mapping[str, object] | None:
    """Return why an agent that does not bring the seat's epoch cannot have a new one now; None if it can."""
    if last and last < enrolment.epoch:
        return _refused("fenced", "another agent with this address was granted a later epoch")
    if enrolment.epoch and enrolment.seen_at is not None and enrolment.seen_at > now - SILENT_AFTER:
        left = (enrolment.seen_at + SILENT_AFTER - now).total_seconds()
        return _refused("seat-taken", "an agent with this address is live", max(1.0, left))
    return None


def _note_card(enrolment: Enrolment, body: Hello) -> None:
    if not isinstance(body.agent, UnsetType):
        enrolment.name, enrolment.version = body.agent.name, body.agent.version
    if not isinstance(body.worker, UnsetType):
        enrolment.language = body.worker.lang


@transaction.atomic
def farewell(*, message: Message) -> Mapping[str, object]:
    """Note that an agent leaves: it is not live from now on. Its seat stays its own."""
    body = message.body
    assert isinstance(body, Goodbye)  # noqa: S101 - the dispatcher decodes by type
    held = Enrolment.objects.held().select_for_update(of=("self",)).select_related("agent")
    enrolment = held.filter(agent__subject=message.source, epoch=body.epoch).first()
    if enrolment is not None and body.agent == message.source:
        Enrolment.objects.filter(pk=enrolment.pk).update(seen_at=timezone.now() - SILENT_AFTER)
        replacement.note_silent(seat_ids=[enrolment.seat_id], now=timezone.now())
    return {"ok": True}


@transaction.atomic
def observe(*, messages: Sequence[Message]) -> int:
    """Take presence of single agents, the last word of each; return how many were taken."""
    last: dict[str, Presence] = {}
    for message in messages:
        if isinstance(message.body, Presence) and _is_own(message, message.body):
            last[message.source] = message.body
    held = (
        Enrolment.objects.held()
        .select_for_update(of=("self",))
        .select_related("agent")
        .filter(agent__subject__in=last, agent__retired_at=None)
        .order_by("pk")
    )
    told: dict[int, tuple[int, str, int]] = {}
    now = timezone.now()
    for enrolment in held:
        if enrolment.agent is None:
            continue
        report = last[enrolment.agent.subject]
        if report.epoch != enrolment.epoch or (enrolment.reported_at and report.ts < enrolment.reported_at):
            continue
        enrolment.seen_at, enrolment.reported_at = now, report.ts
        enrolment.save(update_fields=["seen_at", "reported_at"])
        _mark, state, done, _age = report.agents[0]
        known = "unknown" if state == "retired" else state  # it leaves; its seat is not vacant
        told[enrolment.seat_id] = (enrolment.agent.generation, known, done)
    if told:
        replacement.note_singles(told=told, now=now)
    counters.add("claytom_presence_single_total", len(told))
    counters.add("claytom_presence_single_refused_total", len(messages) - len(told))
    return len(told)


def _is_own(message: Message, report: Presence) -> bool:
    """Whether a report is about the agent that sent it, and about nobody else."""
    unit, role, name = (message.source.split(".") + [""] * 5)[2:5]
    return (
        message.subject == f"org.claytom.{unit}.metrics.presence"
        and message.source == f"org.claytom.{unit}.{role}.{name}"
        and report.division == f"{unit}.a-{name}"
        and len(report.agents) == 1
        and report.agents[0][0] == name
        and message.epoch == report.epoch
    )


def silent(*, unit_id: int, now: datetime) -> list[int]:
    """Return the seats of the unit that enrolled agents hold and are not heard of; a new one has a time to come."""
    heard_by = Coalesce("seen_at", "used_at")
    rows = Enrolment.objects.held().filter(unit_id=unit_id).annotate(heard_by=heard_by)
    quiet = Q(heard_by__lt=now - SILENT_AFTER)
    return list(rows.filter(quiet).order_by("seat_id").values_list("seat_id", flat=True))
