"""The generator: blueprint -> agent -> subject `org.claytom.<subsidiary>.<role>.<id>`.

The one place where agents get their ids and subjects. An agent is made of a seat, a generation and a blueprint
version; its id is `<code of the seat>-g<generation>`, in the parent company the slug of the seat, and its subject
follows from that. Two calls for the same seat and generation give the same agent.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime

from django.db.models import QuerySet

from holding.models import SUBJECT_ROOT, Agent, Blueprint, BlueprintVersion, Seat, Unit


def agent_id(code: str, *, generation: int, corporate: bool) -> str:
    """Return the last token of an agent's subject: `op-0042-g3`, or the seat's slug in the parent company."""
    return code if corporate else f"{code}-g{generation}"


def agent_subject(*, unit: str, group: str, agent: str) -> str:
    """Return an agent's subject; `group` is its role, or its body in the parent company."""
    return f"{SUBJECT_ROOT}.{unit}.{group}.{agent}"


def make_agent(*, seat: Seat, version: BlueprintVersion, generation: int, at: datetime) -> Agent:
    """Return the agent, not saved, that the version makes for a seat in that generation.

    The seat comes with its unit, role and body. Raises ValueError for a blueprint of another role or body.
    """
    holder = seat.role or seat.body
    if holder is None or (seat.role_id, seat.body_id) != (version.blueprint.role_id, version.blueprint.body_id):
        raise ValueError(f"{version} makes no agents for {seat}.")
    name = agent_id(seat.code, generation=generation, corporate=seat.body_id is not None)
    return Agent(
        unit_id=seat.unit_id,
        seat=seat,
        generation=generation,
        agent_id=name,
        subject=agent_subject(unit=seat.unit.slug, group=holder.slug, agent=name),
        blueprint=version,
        created_at=at,
    )


def seats_of(blueprint: Blueprint, *, unit: Unit | None = None) -> QuerySet[Seat]:
    """Return the seats in view whose agents a blueprint makes; of a unit, or of all."""
    seats = Seat.objects.for_listing()
    seats = seats.filter(role=blueprint.role_id) if blueprint.role_id else seats.filter(body=blueprint.body_id)
    return seats.filter(unit=unit) if unit is not None else seats


def generate(*, version: BlueprintVersion, seats: Iterable[Seat], at: datetime) -> Iterator[Agent]:
    """Yield the agents, not saved, that a version would make as the next generation of each of the seats."""
    for seat in seats:
        yield make_agent(seat=seat, version=version, generation=seat.generation + 1, at=at)
