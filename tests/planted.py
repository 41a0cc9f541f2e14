"""A holding in which every unit carries marks that can come from nowhere else: what leaks is recognised."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from functools import cache, cached_property
from typing import Any, Final
from urllib.parse import unquote_plus

from django.db import transaction
from django.db.models import F, Value
from django.db.models.functions import Concat, Left, Replace, Right
from django.utils import timezone

from audit.models import LedgerEntry
from bus import mailbox
from bus.models import QuarantinedMessage, Suspect
from holding.models import Agent, Division, Role, Seat, StageChange, Suspension, Unit
from holding.scope import VIEW
from holding.tests.factories import make_holding
from iam.access.models import (
    AccessReview,
    AccessRole,
    ApiToken,
    EmergencyAccess,
    GroupMapping,
    Invitation,
    ReviewItem,
    RoleBinding,
    User,
)
from iam.access.tests.factories import make_binding
from iam.authority import matrix
from iam.authority import services as authority
from iam.authority.models import Approval, Decision, Interest
from portal.tests.factories import make_replacements
from subsidiaries.commands.models import Command, Target
from subsidiaries.enrolment.models import Enrolment
from subsidiaries.escalations import services as escalations
from subsidiaries.escalations.models import Escalation, Step
from subsidiaries.performance.models import KPIS, KpiCoverage, KpiLatest, KpiMinute, KpiSample
from subsidiaries.performance.services import maintain_partitions
from subsidiaries.replacement.models import (
    Allowance,
    Census,
    DivisionState,
    DoubleHolder,
    FencedHost,
    FloorBreach,
    Incident,
    IncidentStep,
    Replacement,
    SeatBackoff,
    SeatState,
    ServiceLevel,
    Successor,
    UnitFloor,
)
from subsidiaries.replacement.observing import ensure_states
from subsidiaries.replacement.planning import CapDelegation, Retiree, Retirement, StaffingPlan
from subsidiaries.replacement.rollout_models import Rollout, RolloutSeat, RolloutUnit, SurgeSeat
from tests.principals import UNITS

MINUTES: Final = 3
LATER: Final = timedelta(minutes=45)  # the administration shows samples for a minute; the matrix takes longer
REPLACED: Final = 2  # seats of each subsidiary that are under their second generation


@dataclass
class Marked:
    """What is known of a unit that was planted."""

    unit: Unit
    number: int

    @property
    def slug(self) -> str:
        """The unit's slug."""
        return self.unit.slug

    @property
    def parent(self) -> bool:
        """Whether it is the parent company, whose seats have names instead of numbers."""
        return self.unit.kind == Unit.Kind.CORPORATE

    @property
    def code(self) -> str:
        """The beginning of every code of a subsidiary's operators."""
        return f"op-7{self.number}"

    @property
    def value(self) -> float:
        """What every KPI of the unit is."""
        return 7100 + self.number + 0.7731

    @cached_property
    def seats(self) -> list[Seat]:
        """Seats of the unit: the first, with whoever reports to it, and the first that was replaced."""
        seats = Seat.objects.filter(unit=self.unit).select_related("body", "division").order_by("ordinal")
        first = seats[0]
        replaced = None if self.parent else seats.get(code=f"{self.code}0031")
        return [first, replaced or seats[1]]

    @cached_property
    def agents(self) -> list[Agent]:
        """Agents of those seats, of all generations."""
        agents = Agent.objects.filter(seat__in=self.seats).select_related("unit", "seat__unit", "seat__body")
        return list(agents.order_by("pk"))

    @property
    def _subjects(self) -> tuple[str, ...]:
        # The hint of a form has `org.claytom.pricing.operator.` as its example.
        root = f"org.claytom.{self.slug}."
        return (root,) if self.parent else (f"{root}operator.op-7", f"{root}director.")

    @cached_property
    def marks(self) -> tuple[str, ...]:
        """Texts that only somebody who sees the unit may get to read."""
        slug, value = self.slug, self.value
        return (
            f"zqname-{slug}", f"zqdiv-{slug}", f"zqhost-{slug}", f"zqincident-{slug}", f"zqcause-{slug}",
            f"zqorder-{slug}", f"zqrollout-{slug}", f"zqcap-{slug}", f"zqretire-{slug}", f"zqseat-{slug}",
            f"zqduty-{slug}",
            f"zqsummary-{slug}", f"zqneeds-{slug}", f"zqcode-{slug}",
            *self._subjects, f"-7{self.number}00", f"{value:.4f}",
            f"{value:,.1f}", f"/s/{slug}/", f"/a/{slug}/", f'"{slug}"', f"unit:{slug}", f"?unit={slug}",
            f"row-{slug}",
        )  # fmt: skip

    @cached_property
    def secrets(self) -> Mapping[str, tuple[str, ...]]:
        """Texts that only somebody may read who holds a permission for the unit, by that permission."""
        told = {
            VIEW: (),
            "people.view": ("holder", "clerk", "grant", "sos", "invited", "service", "token", "group"),
            "reviews.conduct": ("noted",),
            "quarantine.view": ("refused", "fault", "suspected"),
            "authority.view": ("asked", "why", "party", "note", "lent", "absent", "interest"),
        }
        return {
            code: (*(self.marks if code == VIEW else ()), *(f"zq{word}-{self.slug}" for word in words))
            for code, words in told.items()
        }

    @property
    def people(self) -> list[User]:
        """Who has bindings of the unit alone: the holder of an office, and who asks for approvals."""
        return [User.objects.get(username=f"zq{word}-{self.slug}") for word in ("holder", "clerk")]

    @property
    def service(self) -> User:
        """A service with a binding of the unit alone."""
        return User.objects.get(username=f"zqservice-{self.slug}")

    @property
    def groups(self) -> list[GroupMapping]:
        """What a group of the identity provider gives there."""
        return list(GroupMapping.objects.filter(unit=self.unit))

    @property
    def bindings(self) -> list[RoleBinding]:
        """Their bindings."""
        return list(RoleBinding.objects.filter(user__in=self.people).order_by("pk"))

    @property
    def refused(self) -> list[QuarantinedMessage]:
        """Messages on its subjects that were refused: one is held, one was discarded."""
        return list(QuarantinedMessage.objects.filter(unit_id=self.unit.pk).order_by("pk"))

    @property
    def approvals(self) -> list[Approval]:
        """What was asked for: one waits, one was rejected."""
        return list(Approval.objects.filter(unit=self.unit).order_by("pk"))


class Planted:
    """The units with their marks; `leaks` tells whose marks an answer has that its reader must not see."""

    def __init__(self) -> None:
        units = {unit.slug: unit for unit in Unit.objects.all()}
        self.units: Mapping[str, Marked] = {
            slug: Marked(units[slug], number) for number, slug in enumerate(UNITS, start=1)
        }

    def __getitem__(self, slug: str) -> Marked:
        return self.units[slug]

    def leaks(self, answer: bytes, *, unseen: Mapping[str, list[str]], asked: str) -> list[str]:
        """Return the marks of units that are not seen, by permission, without those that the question contained."""
        hidden = [mark for code, slugs in unseen.items() for slug in slugs for mark in self[slug].secrets[code]]
        found = [mark for mark in hidden if mark.encode() in answer]
        words = unquote_plus(asked)
        return [mark for mark in found if mark not in words and mark.strip('"') not in words.split("=")]

    def entry(self, slug: str) -> int:
        """Return the number of a ledger entry about the unit."""
        return LedgerEntry.objects.filter(object=f"unit/{slug}").values_list("pk", flat=True)[0]


@transaction.atomic
def plant() -> Planted:
    """Load the holding and give every unit its marks."""
    make_holding(subsidiaries=UNITS)
    ensure_states()
    maintain_partitions()
    authority.install_matrix(data=_matrix(), actor="test")
    planted = Planted()
    for marked in planted.units.values():
        _mark(marked)
        _happen(marked)
        _measure(marked)
        _refuse(marked)
        _order(marked)
        _roll_out(marked)
        _bind(marked)
        _decide(marked, *marked.people)
        _escalate(marked, marked.people[0])
    return planted


@cache
def _matrix() -> dict[str, Any]:
    return matrix.read_matrix()


def _mark(marked: Marked) -> None:
    slug, now = marked.slug, timezone.now()
    name = f"zqname-{slug}"
    Unit.objects.filter(slug=slug).update(name_es=name, name_en=name)
    Division.objects.filter(unit=marked.unit).update(key=Concat(Value(f"zqdiv-{slug}."), F("code")))
    seats, agents = Seat.objects.filter(unit=marked.unit), Agent.objects.filter(unit=marked.unit)
    seats.update(duty=f"zqduty-{slug}")
    if marked.parent:
        seats.update(name_es=f"zqseat-{slug}", name_en=f"zqseat-{slug}")
    else:  # op-0031 becomes op-720031
        number = Value(f"-7{marked.number}")
        seats.update(code=Concat(Left("code", 2), number, Right("code", 4)))
        tail = Right("agent_id", 7)  # 0031-g1
        before: Any = Concat(Value("-"), tail)
        after: Any = Concat(number, tail)
        agents.update(subject=Replace("subject", before, after), agent_id=Replace("agent_id", before, after))
    DivisionState.objects.filter(division__unit=marked.unit).update(
        host=f"zqhost-{slug}", epoch=4711, seen_at=now, full_at=now, reported_at=now
    )
    SeatState.objects.filter(unit=marked.unit).update(state="idle", since=now, done=7)
    Census.objects.filter(unit=marked.unit).update(live=F("seats"))
    marked.unit.refresh_from_db()


def _happen(marked: Marked) -> None:
    detail, now = f"zqincident-{marked.slug}", timezone.now()
    UnitFloor.objects.update_or_create(unit=marked.unit, defaults={"seconds_below": marked.value})
    for kind, closed in ((Incident.Kind.BELOW_FLOOR, None), (Incident.Kind.CAPACITY, now)):
        Incident.objects.create(
            unit=marked.unit, kind=kind, opened_at=now, closed_at=closed, deficit=3, detail=detail
        )
    incident = Incident.objects.create(
        unit=marked.unit, kind=Incident.Kind.SILENCE, opened_at=now, deficit=3, detail=detail, acknowledged_at=now,
        acknowledged_by=f"zqholder-{marked.slug}",
    )  # fmt: skip
    IncidentStep.objects.create(
        incident=incident, kind=IncidentStep.Kind.NOTE, who=f"zqholder-{marked.slug}", note=detail, at=now
    )
    seat = marked.seats[0]
    SeatBackoff.objects.create(
        seat=seat, unit=marked.unit, strikes=marked.number, decided_at=now, not_before=now + timedelta(minutes=5)
    )
    FloorBreach.objects.create(unit=marked.unit, began_at=now)
    DoubleHolder.objects.create(
        unit=marked.unit, seat=seat, generation=2, other=1, host=f"zqhost-{marked.slug}", epoch=1, first_at=now,
        last_at=now,
    )  # fmt: skip
    ServiceLevel.objects.create(
        unit=marked.unit, span=ServiceLevel.Span.DAY, as_of=now, replaced=3, waiting=0, short_lived=0,
        seconds_below=marked.value, duplicates=0, brakes=0, cost=0,
    )  # fmt: skip
    division = Division.objects.filter(unit=marked.unit)[0]
    FencedHost.objects.create(
        division=division, epoch=marked.number, host=f"zqhost-{marked.slug}", standing="superseded", first_at=now,
        last_at=now, messages=1, sent={"kpi.sample": 1},
    )  # fmt: skip
    first, second = marked.seats[:2]
    Successor.objects.create(unit=marked.unit, seat=first, successor=second, rank=1, ranked_at=now)
    StageChange.objects.create(
        unit=marked.unit, seat=first, agent=first.agents.get(), old="provisioning", new="active", at=now,
        actor="zq", reason=detail,
    )  # fmt: skip
    Enrolment.objects.create(
        unit=marked.unit,
        seat=marked.seats[0],
        digest=f"{marked.number:064}",
        actor="zq",
        reason=detail,
        created_at=now,
        expires_at=now + timedelta(hours=1),
    )
    if not marked.parent:
        make_replacements(marked.slug, count=REPLACED)
        Replacement.objects.filter(unit=marked.unit).update(detail=f"zqcause-{marked.slug}")


def _measure(marked: Marked) -> None:
    now = timezone.now()
    values = dict.fromkeys(KPIS, marked.value)
    sums = {f"sum_{kpi}": value for kpi, value in values.items()}
    minute = now.replace(second=0, microsecond=0)
    for back in range(MINUTES):
        at = minute - timedelta(minutes=back)
        KpiMinute.objects.create(minute=at, unit=marked.unit, role="operator", n=1, **sums)
    for seat in marked.seats:
        KpiLatest.objects.create(
            id=KpiLatest.key(marked.unit.pk, seat.ordinal), unit=marked.unit, ordinal=seat.ordinal, role="operator",
            generation=seat.generation, ts=now, **values,
        )  # fmt: skip
    KpiCoverage.objects.create(unit=marked.unit, seats=35, buckets={str(int(now.timestamp())): 35}, as_of=now)
    KpiSample.objects.create(
        seq=marked.number, ts=now + LATER, received_at=now, unit=marked.unit, role="operator", ordinal=31,
        generation=1, **values,
    )  # fmt: skip


def _refuse(marked: Marked) -> None:
    slug, now = marked.slug, timezone.now()
    source, fault = f"host/zqrefused-{slug}", f"zqfault-{slug}"
    for number, state in enumerate(("held", "discarded")):
        QuarantinedMessage.objects.create(
            stream="CT_EVENTS", stream_seq=10 * marked.number + number, unit_id=marked.unit.pk,
            subject=f"org.claytom.{slug}.metrics.state", source=source, headers={"ce-source": source},
            sha256="0" * 64, size=9, body=fault.encode(), stage="schema", rule="schema", reason=fault, state=state,
        )  # fmt: skip
    Suspect.objects.create(
        source=f"host/zqsuspected-{slug}", unit=slug, unit_id=marked.unit.pk, since=now, last_at=now, count=21,
        stage="schema", rule="schema", reason=fault,
    )  # fmt: skip


def _order(marked: Marked) -> None:
    """Plant a command with its target and what stands of it, under the words of the unit alone."""
    slug, now, seat = marked.slug, timezone.now(), marked.seats[0]
    words = f"zqorder-{slug}"
    command = Command.objects.create(
        verb="pause", scope="unit", unit=marked.unit, reason=words, actor="test", key=words, agents=7,
        created_at=now,
        patience_s=30, state="confirmed", changed_at=now, reached=100,
    )  # fmt: skip
    Target.objects.create(
        command=command, unit=marked.unit, division=seat.division, place=0, agents=7, state="acknowledged",
        begun_at=now, due_at=now, acknowledged_at=now, words=words,
    )  # fmt: skip
    Suspension.objects.create(
        unit=marked.unit, division=seat.division, seat=seat, desired="paused", order=command.pk, actor="test",
        reason=words, since=now,
    )  # fmt: skip


def _roll_out(marked: Marked) -> None:
    """Plant a rollout that is over, with a failed and a temporary seat, under the words of the unit alone."""
    slug, unit, now, agent = marked.slug, marked.unit, timezone.now(), marked.agents[0]
    words, version = f"zqrollout-{slug}", agent.blueprint
    rollout = Rollout.objects.create(
        blueprint=version.blueprint, version=version, unit=unit, reason=words, actor="test", key=words,
        created_at=now, changed_at=now, canary=5, observe_s=0, patience_s=60, halt_above=10, wave=75, surge=75,
        state="done", note=words,
    )  # fmt: skip
    RolloutUnit.objects.create(
        rollout=rollout, unit=unit, blueprint=version.blueprint, agents=7, canaries=1, ended_at=now
    )
    RolloutSeat.objects.create(
        rollout=rollout, unit=unit, seat=agent.seat, former=version, generation=1, begun_at=now, failed_at=now,
        failure=words,
    )  # fmt: skip
    SurgeSeat.objects.create(
        seat=Seat.objects.filter(unit=unit).order_by("-ordinal")[0], unit=unit, rollout=rollout, opened_at=now,
        closed_at=now,
    )  # fmt: skip


def _bind(marked: Marked) -> None:
    slug, unit, now = marked.slug, marked.unit, timezone.now()
    holder, clerk = (
        User.objects.create(username=f"zq{word}-{slug}", first_name=f"zq{word}-{slug}", cleared=True)
        for word in ("holder", "clerk")
    )
    for person in (holder, clerk):
        binding = make_binding(person, "supervisor", unit, reason=f"zqgrant-{slug}")
    viewer = AccessRole.objects.get(slug="viewer")
    service = User.objects.create(username=f"zqservice-{slug}", kind="service", owner=holder, cleared=True)
    make_binding(service, "integration", unit)
    ApiToken.objects.create(user=service, name=f"zqtoken-{slug}", digest=f"zqtoken-{slug}", expires_at=now + LATER)
    GroupMapping.objects.create(group=f"zqgroup-{slug}", role=viewer, unit=unit)
    EmergencyAccess.objects.create(user=clerk, role=viewer, unit=unit, minutes=60, reason=f"zqsos-{slug}")
    review = AccessReview.objects.create(unit=unit, reviewer=holder, opened_by=clerk, due_at=now + LATER)
    ReviewItem.objects.create(review=review, binding=binding, verdict="keep", note=f"zqnoted-{slug}")
    Invitation.objects.create(
        email=f"zqinvited-{slug}@example.org", role=viewer, unit=unit, digest=f"zqdigest-{slug}", invited_by=holder,
        expires_at=now + timedelta(days=1),
    )  # fmt: skip


def _escalate(marked: Marked, holder: User) -> None:
    """Let two escalations be raised: one waits, one was taken and decided by the holder, and the agent was told."""
    slug, now = marked.slug, timezone.now()
    agent = marked.agents[-1].subject
    for number in range(2):
        escalations.note_raised(
            reports=[
                escalations.Report(
                    code=f"zqcode-{slug}-{number}", unit=slug, agent=agent, level="holding", severity="critical",
                    matter="staffing", summary=f"zqsummary-{slug}", needs=f"zqneeds-{slug}", work_id="",
                    taken_by="", at=now,
                )
            ]
        )  # fmt: skip
    decided = Escalation.objects.get(code=f"zqcode-{slug}-1")
    Escalation.objects.filter(pk=decided.pk).update(
        state="resolved", person=holder, taken_by=holder.username, taken_at=now, settled_by=holder.username,
        settled_at=now, decision=f"zqsummary-{slug}",
    )  # fmt: skip
    Step.objects.create(escalation=decided, kind="resolved", who=holder.username, at=now)
    mailbox.post(
        letters=[
            mailbox.Letter(
                address=agent, unit_id=marked.unit.pk, type="escalation.resolve", source="portal/test",
                body={"id": "e", "decision": f"zqsummary-{slug}"}, key=f"zqcode-{slug}", deadline=now + LATER,
            )
        ]
    )  # fmt: skip


def _decide(marked: Marked, holder: User, clerk: User) -> None:
    slug, unit = marked.slug, marked.unit
    office = authority.appoint_to_office(office="subsidiary-director", person=holder, unit=unit, actor="test")
    authority.delegate(appointment=office, delegator=holder, person=clerk, reason=f"zqlent-{slug}")
    authority.substitute(person=holder, substitute=clerk, reason=f"zqabsent-{slug}", actor="test")
    authority.declare_interest(
        person=holder, kind=Interest.Kind.OTHER, counterparty=f"zqinterest-{slug}", actor="test"
    )
    waiting, rejected = (make_approval(marked, clerk, key=f"zqkey-{slug}-{number}") for number in range(2))
    authority.decide(approval=rejected, person=holder, verdict=Decision.Verdict.REJECT, note=f"zqnote-{slug}")
    Allowance.objects.create(unit=unit, day=timezone.now().date(), extra=7000 + marked.number, approval=rejected)
    _staff(marked, waiting)


def _staff(marked: Marked, approval: Approval) -> None:
    """Plant a delegated cap and a planned retirement, under the words of the unit alone; the parent has a plan."""
    slug, unit, now = marked.slug, marked.unit, timezone.now()
    seat, operator = marked.seats[0], Role.objects.get(slug="operator")
    CapDelegation.objects.create(
        unit=unit, cap=7000 + marked.number, starts_on=now.date(), reason=f"zqcap-{slug}", approval=approval
    )
    made = Retirement.objects.create(
        unit=unit, role=operator, choice="named", detail=f"zqretire-{slug}", state="paused", actor="test",
        reason=f"zqretire-{slug}", key=f"zqretire-{slug}", created_at=now, changed_at=now,
    )  # fmt: skip
    Retiree.objects.create(retirement=made, seat=seat, generation=seat.generation, place=0)
    if marked.parent:
        StaffingPlan.objects.create(
            unit=unit, role=operator, floor=unit.floor, maximum=unit.floor, changed_at=now, changed_by="test"
        )


def make_approval(marked: Marked, requester: User, *, key: str) -> Approval:
    """Ask for something that the directors of the unit decide."""
    slug = marked.slug
    return authority.request_approval(
        request=authority.Request(
            matter="opex-budgeted", unit=marked.unit, value=Decimal(15_000), title=f"zqasked-{slug}",
            reason=f"zqwhy-{slug}", counterparty=f"zqparty-{slug}", key=key, requester=requester,
        )
    )  # fmt: skip
