"""Isolating an agent: it is paused at once by an order about its seat, and ARP gives the seat a successor.

The order is no command: it has the agent's number below zero, so that no resume of a unit lets an isolated agent
run again. It ends when the agent is released or the seat gets its next one (`holding.services.appoint`).
"""

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from holding import scope
from holding import services as holding
from holding.lifecycle import Stage
from holding.models import Agent, StageChange, Suspension
from iam.access.models import User
from iam.access.rights import RefusedError, given_reason, rights_of
from subsidiaries.replacement.locking import lock_unit

PERMISSION = "commands.issue"
"""To isolate an agent weighs as much as to retire it: it loses its seat."""


def order_of(agent: Agent) -> int:
    """Return the number of the order that pauses an isolated agent."""
    return -int(agent.pk)


@transaction.atomic
def quarantine_agent(*, by: User, agent: Agent, reason: str) -> Agent:
    """Isolate an agent: paused from now on, and replaced by ARP's next cycle within the day's cap; return it.

    Raises NotHeldError without the permission for its unit; RefusedError without a reason, for one that has left
    office, that is isolated already, or that has a connection of its own.
    """
    rights_of(by).require(PERMISSION, agent.unit)
    reason = given_reason(reason)
    with scope.opened(scope.EVERYTHING):
        agent = _locked(agent)
        if agent.stage == Stage.QUARANTINED:
            raise RefusedError(_("%(agent)s is isolated already.") % {"agent": agent.agent_id})
        if agent.seat.external:
            raise RefusedError(
                _("%(agent)s runs outside of the hosts, which cannot pause it: withdraw its enrolment instead.")
                % {"agent": agent.agent_id}
            )
        _move(agent, Stage.QUARANTINED, by=by, reason=reason)
        holding.suspend(
            division_ids=[agent.seat.division_id],
            desired=Suspension.Desired.PAUSED,
            order=order_of(agent),
            actor=by.get_username(),
            reason=reason,
            seat_id=agent.seat_id,
        )
        return _read(agent)


@transaction.atomic
def release_agent(*, by: User, agent: Agent, reason: str) -> Agent:
    """Let an isolated agent run again that has not been replaced yet, as what it was before; return it.

    Raises NotHeldError without the permission for its unit; RefusedError without a reason, and for one that is not
    isolated or has left office.
    """
    rights_of(by).require(PERMISSION, agent.unit)
    reason = given_reason(reason)
    with scope.opened(scope.EVERYTHING):
        agent = _locked(agent)
        if agent.stage != Stage.QUARANTINED:
            raise RefusedError(_("%(agent)s is not isolated.") % {"agent": agent.agent_id})
        proven = StageChange.objects.filter(seat=agent.seat, agent=agent, new__in=[Stage.PROBATION, Stage.ACTIVE])
        before = proven.order_by("-pk").values_list("new", flat=True).first()
        _move(agent, Stage(before) if before else Stage.PROVISIONING, by=by, reason=reason)
        holding.lift(orders=[order_of(agent)], division_ids=[agent.seat.division_id])
        return _read(agent)


def _locked(agent: Agent) -> Agent:
    lock_unit(unit_id=agent.unit_id)
    agent = _read(agent)
    if agent.retired_at is not None:
        raise RefusedError(
            _("%(agent)s has left office: its seat is another's, or vacant.") % {"agent": agent.agent_id}
        )
    return agent


def _read(agent: Agent) -> Agent:
    return Agent.objects.select_related("unit", "seat__unit", "seat__division").get(pk=agent.pk)


def _move(agent: Agent, to: Stage, *, by: User, reason: str) -> None:
    holding.decide_stages(
        moves=[holding.Move(agent.pk, to, reason)],
        actor=by.get_username(),
        at=timezone.now(),
        correlation_id=f"isolation-{agent.pk}",
    )
