"""Approvals as a person sees them: what waits for them, what they asked for, and one with all that led to it."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from django.db.models import QuerySet
from django.http import Http404
from django.utils.translation import gettext as _

from holding import scope
from iam.access.models import User
from iam.authority import services
from iam.authority.models import Approval, Decision, Hat, Level

SHOWN = 50  # of what waits, and of what was asked for
VIEW = "authority.view"


@dataclass(frozen=True, slots=True)
class Wanted:
    """The filters of the list of approvals; empty: all."""

    state: str = ""
    matter: str = ""
    unit: str = ""


def waiting_count(person: object, *, at: datetime) -> int:
    """Return how many approvals wait for a person who may decide; 0 for everybody else."""
    if not isinstance(person, User) or not scope.current().has("approvals.decide"):
        return 0
    if scope.current().units() is None:
        return Approval.objects.waiting_for(person, at).count()
    with scope.opened(scope.EVERYTHING):
        return Approval.objects.waiting_for(person, at).count()


def waiting(person: User, *, at: datetime) -> list[Approval]:
    """Return what waits for a person, of whatever unit, the most urgent first."""
    with scope.opened(scope.EVERYTHING):
        return list(Approval.objects.waiting_for(person, at).for_listing().order_by("due_at", "pk")[:SHOWN])


def requested(person: User) -> list[Approval]:
    """Return what a person asked for, the newest first."""
    with scope.opened(scope.EVERYTHING):
        return list(Approval.objects.requested_by(person).for_listing()[:SHOWN])


def listed(wanted: Wanted) -> QuerySet[Approval]:
    """Return the approvals of the units in view that are wanted."""
    found = Approval.objects.of_units(scope.current().units(VIEW)).for_listing()
    if wanted.state:
        found = found.filter(state=wanted.state)
    if wanted.matter:
        found = found.filter(matter__slug=wanted.matter)
    if wanted.unit:
        found = found.filter(unit__slug=wanted.unit)
    return found


@dataclass(frozen=True, slots=True)
class Step:
    """One point of an approval's time line."""

    at: datetime
    text: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Dossier:
    """All that the page of an approval shows."""

    approval: Approval
    answer: services.Answer
    titles: list[Hat]
    mine: bool
    levels: list[tuple[Level, list[User]]]
    decisions: list[Decision]
    steps: list[Step]
    earlier: Decimal
    now: services.Rejudgement | None

    @property
    def pending(self) -> bool:
        """Whether it waits for a decision."""
        return self.approval.state == Approval.State.PENDING


def find(pk: int, person: User, *, at: datetime) -> Approval:
    """Return an approval that a person may see: of their units, or one that concerns them. Raises Http404."""
    found = services.visible(pk=pk, person=person, units=scope.current().units(VIEW), at=at)
    if found is None:
        raise Http404(_("There is no approval %(id)s.") % {"id": pk})
    return found


def dossier(approval: Approval, person: User, *, at: datetime) -> Dossier:
    """Read the page of an approval found by `find`."""
    with scope.opened(scope.EVERYTHING):
        levels = list(approval.levels.select_related("office", "rule").order_by("pk"))
        decisions = list(
            approval.decisions.select_related("person", "acting_for", "office", "delegation").order_by("pk")
        )
        people = User.objects.in_bulk([pk for level in levels for pk in level.eligible])
        return Dossier(
            approval=approval,
            answer=services.explain(approval=approval, person=person, at=at),
            titles=services.titles(approval=approval, person=person, at=at),
            mine=approval.requester_id == person.pk,
            levels=[(level, [people[pk] for pk in level.eligible if pk in people]) for level in levels],
            decisions=decisions,
            steps=_steps(approval, levels, decisions),
            earlier=approval.judged - (approval.value * approval.fx_rate).quantize(approval.judged),
            now=services.rejudge(approval=approval, when=at),
        )


def _steps(approval: Approval, levels: list[Level], decisions: list[Decision]) -> list[Step]:
    """Return what happened to an approval, the oldest first."""
    steps = [Step(approval.requested_at, _("Asked for by %(who)s") % {"who": approval.actor}, approval.reason)]
    steps += [
        Step(
            level.since,
            _("May be decided by: %(office)s") % {"office": level.office.name},
            level.get_cause_display(),
        )
        for level in levels
    ]
    for decision in decisions:
        said = _("approved") if decision.verdict == Decision.Verdict.APPROVE else _("rejected")
        steps.append(Step(decision.at, f"{decision.person.name}: {said} ({decision.office.name})", decision.note))
    if approval.settled_at:
        by_rule = _("granted by rule, within the limit that needs no person") if approval.by_rule else ""
        shown = approval.state
        if shown in {Approval.State.EXECUTED, Approval.State.FAILED}:
            shown = Approval.State.APPROVED
        steps.append(Step(approval.settled_at, str(Approval.State(shown).label), by_rule))
    if approval.executed_at:
        steps.append(Step(approval.executed_at, _("Carried out, and its effect was read back")))
    elif approval.failure and approval.settled_at:
        steps.append(Step(approval.settled_at, _("It could not be carried out"), approval.failure))
    return sorted(steps, key=lambda step: step.at)
