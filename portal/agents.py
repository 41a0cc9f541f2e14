"""Agents in office as a list, and one agent with its history."""

import re
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Q, QuerySet
from django.http import Http404
from django.urls import reverse
from django.utils.translation import gettext as _

from audit.models import LedgerEntry
from bus.mailbox import letters_to, type_name
from bus.models import DirectedMessage, Suspect
from holding import scope
from holding.lifecycle import ENDED, Stage
from holding.models import SUBJECT_ROOT, Agent, BlueprintVersion, Body, Incumbency, Role, Seat, StageChange, Unit
from portal.quarantine import suspicion_of
from subsidiaries.performance.models import KpiLatest
from subsidiaries.replacement.isolation import PERMISSION as ISOLATE
from subsidiaries.replacement.models import STALE_AFTER, DivisionState, Replacement, SeatState, Successor
from subsidiaries.replacement.shown import REPLACED, UNKNOWN, in_shown_state
from subsidiaries.replacement.succession import SUCCEEDED

STATE = ("seat__unit", "seat__seatstate", "seat__division__state")
SUCCESSOR = ("successor__unit", "successor__body")
HISTORY = 25  # generations, replacements and ledger entries shown of a seat
WORDS = re.compile(r"^[a-z0-9.-]{1,120}$")
SUBJECT_START = f"{SUBJECT_ROOT}."
GENERATION = re.compile(r"-g([0-9]{1,6})$")


@dataclass(frozen=True, slots=True)
class Wanted:
    """The filters of the list of agents; empty: all."""

    unit: str = ""
    role: str = ""
    state: str = ""
    words: str = ""
    stage: str = ""


def listed(wanted: Wanted, *, now: datetime) -> QuerySet[Agent]:
    """Return the agents that are wanted, with what the list shows.

    Former ones are listed only under the state `replaced`, and under the stages in which agents end.
    """
    agents = Agent.objects.for_listing().select_related(*STATE)
    if wanted.unit:
        agents = agents.filter(unit__slug=wanted.unit)
    if wanted.role:
        agents = agents.filter(Q(seat__role__slug=wanted.role) | Q(seat__body__slug=wanted.role))
    if wanted.words:
        if not WORDS.match(wanted.words):
            return agents.none()
        field = "subject" if wanted.words.startswith(SUBJECT_START) else "agent_id"
        agents = agents.filter(**{f"{field}__startswith": wanted.words})
    if wanted.stage:
        agents = agents.filter(stage=wanted.stage)
    if wanted.state:
        return in_shown_state(agents, wanted.state, now=now)
    return agents if wanted.stage in ENDED else agents.filter(retired_at=None)


@dataclass(frozen=True, slots=True)
class Shown:
    """What is known of an agent: its state, since when, and the tasks it has done."""

    state: str
    since: datetime | None = None
    done: int | None = None


def shown(agent: Agent, *, now: datetime) -> Shown:
    """Return what is known of an agent at `now`; what is not known is never shown as live.

    Reads the seat's state and its division's, which `listed` and `find` bring along.
    """
    told: SeatState | None = getattr(agent.seat, "seatstate", None)
    if told is None or told.generation != agent.generation:  # a report about the one before, or the one after
        return Shown(REPLACED if agent.retired_at else UNKNOWN)
    if agent.retired_at:
        return Shown(REPLACED, told.since, told.done)
    division: DivisionState | None = getattr(agent.seat.division, "state", None)
    heard = division is not None and division.seen_at is not None and division.seen_at >= now - STALE_AFTER
    return Shown(told.state if heard else UNKNOWN, told.since, told.done)


def address(agent: Agent) -> str:
    """Return the page of an agent. Reads its seat, the seat's unit and body."""
    return generation_address(agent.seat, agent.generation)


def seat_address(seat: Seat) -> str:
    """Return the page of the agent that holds a seat now."""
    return generation_address(seat, seat.generation)


def generation_address(seat: Seat, generation: int) -> str:
    """Return the page of the agent that held a seat under `generation`."""
    return agent_address(seat.unit.slug, seat.code, generation, seat.body.slug if seat.body else None)


def agent_address(unit: str, code: str, generation: int, body: str | None, *, route: str = "agent") -> str:
    """Return the page of an agent, or the address of an act about it.

    In the parent company a subject stays through the generations, so the address adds body and generation.
    """
    name = f"{body}.{code}" if body else code
    return reverse(route, args=[unit, f"{name}-g{generation}"])


def find(unit: str, name: str) -> Agent:
    """Return the agent at `/a/<unit>/<name>/`; without a generation the seat's present one. Raises Http404."""
    generation = GENERATION.search(name)
    body, dot, code = name.removesuffix(generation[0] if generation else "").rpartition(".")
    seats = Agent.objects.filter(unit__slug=unit, seat__code=code)
    seats = seats.filter(seat__body__slug=body) if dot else seats.filter(seat__body=None)
    found = seats.filter(generation=int(generation[1])) if generation else seats.filter(retired_at=None)
    agent = found.select_related("unit", "seat__role", "seat__body", "blueprint__blueprint", *STATE).first()
    if agent is None:
        raise Http404(_("There is no agent “%(name)s” in “%(unit)s”.") % {"name": name[:60], "unit": unit})
    return agent


@dataclass(frozen=True, slots=True)
class Profile:
    """All that the page of an agent shows."""

    agent: Agent
    shown: Shown
    seat: Seat
    division: DivisionState | None
    blueprint: BlueprintVersion
    current: Agent | None
    superior: Seat | None
    reports: int
    claim: KpiLatest | None
    history: list[Incumbency]
    replacements: list[Replacement]
    changes: list[StageChange]
    """What became of the agent, and of its seat, stage by stage: the newest first."""
    successors: list[Successor]
    """Who takes the seat when its holder is lost; only seats of directors and coordinators have any."""
    may_decide: bool
    """Whether whoever looks may isolate or release it, and say who succeeds it."""
    letters: list[tuple[str, DirectedMessage]]
    """The last directed messages to it, each with the name of its type."""
    suspicion: Suspect | None
    """The open mark of a suspect source, to whoever may see it."""
    ledger: list[LedgerEntry] | None
    """What the ledger says of the seat; None to whoever may not read it."""

    @property
    def may_isolate(self) -> bool:
        """Whether it can be isolated now, and whoever looks may do it."""
        return self.may_decide and self.agent.stage != Stage.QUARANTINED and not self.seat.external

    @property
    def may_release(self) -> bool:
        """Whether it is isolated and not replaced yet, and whoever looks may let it run again."""
        return self.may_decide and self.agent.stage == Stage.QUARANTINED


def profile(agent: Agent, *, now: datetime) -> Profile:
    """Read the page of an agent found by `find` (nine queries, ten of a seat that has successors)."""
    seat = agent.seat
    superior = (
        Seat.objects.select_related("unit", "body", "role").filter(pk=seat.reports_to_id).first()
        if seat.reports_to_id
        else None
    )
    claim = KpiLatest.objects.for_seats([(seat.unit_id, seat.ordinal)]).get((seat.unit_id, seat.ordinal))
    current = agent
    if agent.retired_at:
        current = (
            Agent.objects.in_office().select_related("seat__unit", "seat__body").filter(seat=seat).first() or agent
        )
    return Profile(
        agent=agent,
        shown=shown(agent, now=now),
        seat=seat,
        division=getattr(seat.division, "state", None),
        blueprint=agent.blueprint,
        current=current if current.pk != agent.pk else None,
        superior=superior,
        reports=seat.reports.count(),
        claim=claim if claim and claim.generation in (None, agent.generation) else None,
        history=list(
            Incumbency.objects.filter(seat=seat)
            .select_related("agent__seat__unit", "agent__seat__body")
            .order_by("-generation")[:HISTORY]
        ),
        replacements=list(
            Replacement.objects.filter(seat=seat)
            .select_related("seat__unit", "seat__body", "unit", "old_agent", "new_agent", "promoted_from")
            .order_by("-pk")[:HISTORY]
        ),
        changes=list(
            StageChange.objects.filter(Q(agent=agent) | Q(agent=None), seat=seat).order_by("-pk")[:HISTORY]
        ),
        successors=_successors_of(seat),
        may_decide=current.pk == agent.pk
        and agent.retired_at is None
        and scope.current().allows(ISOLATE, agent.unit_id),
        letters=[(type_name(one.type), one) for one in letters_to(address=agent.subject)[:HISTORY]],
        suspicion=suspicion_of(agent.subject, agent.unit_id),
        ledger=_ledger_of(seat),
    )


def _successors_of(seat: Seat) -> list[Successor]:
    if seat.role is None or seat.role.tier not in SUCCEEDED:
        return []
    return list(Successor.objects.filter(seat=seat).select_related(*SUCCESSOR).order_by("rank"))


def _ledger_of(seat: Seat) -> list[LedgerEntry] | None:
    if not scope.current().has("ledger.view"):
        return None
    return list(LedgerEntry.objects.filter(object=f"seat/{seat}").order_by("-id").defer("body")[:HISTORY])


def unit_choices() -> list[Unit]:
    """Return the units for a filter, in the holding's order."""
    return list(Unit.objects.order_by("position"))


def role_choices() -> list[Role | Body]:
    """Return the roles of subsidiaries, then the bodies of the parent company."""
    return [*Role.objects.order_by("position"), *Body.objects.order_by("position")]
