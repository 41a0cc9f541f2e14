"""Turning a checked holding file into rows: units, seats, agents, incumbencies, manifests.

Seats and their agents go in by one COPY: 52,550 of them take a second or two, not minutes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import connection
from django.db.models import Q
from psycopg import sql

from holding import blueprints
from holding.files import Data
from holding.generator import agent_id, agent_subject
from holding.models import (
    FIRST_TEMPORARY,
    Architecture,
    Blueprint,
    BlueprintVersion,
    Body,
    Division,
    Mandate,
    Role,
    Seat,
    Sector,
    Unit,
)

ROLE_NAMES = {
    "director": ("Dirección", "Director"),
    "coordinator": ("Coordinación", "Coordinator"),
    "specialist": ("Especialista", "Specialist"),
    "innovator": ("Innovación", "Innovator"),
    "operator": ("Operación", "Operator"),
}
AUTHOR = "holding file"
APPROVER = "whoever loads the holding"  # the ledger says who


@dataclass(slots=True)
class Structure:
    """The rows of the group's structure, by their natural keys."""

    corporate: Unit
    units: dict[str, Unit]  # subsidiaries, by slug
    bodies: dict[str, Body]
    roles: dict[str, Role]
    divisions: dict[str, Division]  # by key
    blueprints: dict[str, BlueprintVersion]  # newest good version, by blueprint


def write_structure(data: Data, *, at: datetime) -> Structure:
    """Create or update everything above seats; nothing is deleted or renamed."""
    staffing = data["staffing"]
    corporate, _ = Unit.objects.update_or_create(
        slug="corporate",
        defaults={
            "kind": Unit.Kind.CORPORATE,
            "position": 0,
            "floor": sum(len(body["seats"]) for body in data["bodies"]),
            "name_es": data["holding"]["name"],
            "name_en": data["holding"]["name"],
        },
    )
    structure = Structure(corporate, {}, {}, {}, {}, {})
    for position, entry in enumerate(data["bodies"]):
        structure.bodies[entry["slug"]], _ = Body.objects.update_or_create(
            slug=entry["slug"], defaults={**_names(entry["name"]), "position": position}
        )
    for position, entry in enumerate(staffing["roles"]):
        es, en = ROLE_NAMES[entry["slug"]]
        structure.roles[entry["slug"]], _ = Role.objects.update_or_create(
            slug=entry["slug"],
            defaults={
                **_names(entry.get("name", {"es": es, "en": en})),
                "code": entry["code"],
                "tier": entry["tier"],
                "count": entry["count"],
                "per_division": entry["per_division"],
                "position": position,
            },
        )
    _write_units(data, structure)
    _write_divisions(data, structure)
    _write_blueprints(structure, at=at)
    return structure


def _write_units(data: Data, structure: Structure) -> None:
    position = 0
    for place, entry in enumerate(data["sectors"]):
        sector, _ = Sector.objects.update_or_create(
            slug=entry["slug"],
            defaults={**_names(entry["name"]), "archetype": entry["archetype"], "position": place},
        )
        for subsidiary in entry["subsidiaries"]:
            position += 1
            said = {
                **_names(subsidiary["name"]),
                "kind": Unit.Kind.SUBSIDIARY,
                "sector": sector,
                "parent": structure.corporate,
                "position": position,
                "work": subsidiary["work"],
            }
            structure.units[subsidiary["slug"]], _ = Unit.objects.update_or_create(
                slug=subsidiary["slug"],
                defaults=said,
                create_defaults={**said, "floor": data["staffing"]["floor"]},  # later, staffing plans set it
            )


def _write_divisions(data: Data, structure: Structure) -> None:
    wanted = [
        Division(unit=unit, code=str(number), key=f"{slug}.{number}")
        for slug, unit in structure.units.items()
        for number in range(1, data["staffing"]["divisions"] + 1)
    ] + [
        Division(unit=structure.corporate, body=body, code=slug, key=f"corporate.{slug}")
        for slug, body in structure.bodies.items()
    ]
    Division.objects.bulk_create(wanted, ignore_conflicts=True)
    structure.divisions = {division.key: division for division in Division.objects.all()}


def _write_blueprints(structure: Structure, *, at: datetime) -> None:
    for slug, holder in [*structure.roles.items(), *structure.bodies.items()]:
        kind = {"role": holder} if isinstance(holder, Role) else {"body": holder}
        blueprint, created = Blueprint.objects.get_or_create(slug=slug, defaults=kind)
        if created:
            spec: dict[str, Any] = {"worker": {"kind": "sim"}, "for": slug}
            version = BlueprintVersion.objects.create(
                blueprint=blueprint,
                version=1,
                spec=spec,
                digest=blueprints.digest(spec),
                author=AUTHOR,
                created_at=at,
            )
            version.state, version.approved_at, version.approved_by = BlueprintVersion.State.APPROVED, at, APPROVER
            version.save(update_fields=["state", "approved_at", "approved_by"])
    structure.blueprints = blueprints.newest_approved()


@dataclass(slots=True)
class SeatPlan:
    """A seat to be created."""

    id: int
    unit: Unit
    holder: Role | Body
    division: Division
    ordinal: int
    code: str
    names: tuple[str, str]
    duty: str
    reports_to: int | None

    def agent_id(self) -> str:
        """The id of the seat's first agent."""
        return agent_id(self.code, generation=1, corporate=isinstance(self.holder, Body))

    def subject(self) -> str:
        """The subject of the seat's first agent."""
        return agent_subject(unit=self.unit.slug, group=self.holder.slug, agent=self.agent_id())


def missing_seats(data: Data, structure: Structure) -> list[SeatPlan]:
    """Return the seats of the file that do not exist yet, superiors first, with their ids drawn."""
    # Not those that were opened since, beyond the first staffing.
    first = Seat.objects.filter(
        Q(role=None, ordinal__lt=FIRST_TEMPORARY) | Q(ordinal__lte=data["staffing"]["floor"])
    )
    existing = {(unit, code): pk for pk, unit, code in first.values_list("id", "division__key", "code")}
    wanted = sum(len(body["seats"]) for body in data["bodies"]) + data["staffing"]["floor"] * len(structure.units)
    ids = draw_seat_ids(wanted - len(existing))
    plans: list[SeatPlan] = []
    corporate: dict[str, int] = {
        f"{key.partition('.')[2]}/{code}": pk
        for (key, code), pk in existing.items()
        if key.startswith("corporate.")
    }
    for plan in _corporate_plans(data, structure, ids, corporate):
        plans.append(plan)
    head = data["staffing"].get("reports_to")
    for unit in structure.units.values():
        if (f"{unit.slug}.1", _code("di", 1)) not in existing:
            plans += _subsidiary_plans(data, structure, unit, ids, corporate.get(head) if head else None)
    return plans


def _corporate_plans(
    data: Data, structure: Structure, ids: Iterator[int], known: dict[str, int]
) -> Iterator[SeatPlan]:
    ordinal = len(known)
    for entry in data["bodies"]:
        first = f"{entry['slug']}/{entry['seats'][0]['slug']}"
        for seat in entry["seats"]:
            address = f"{entry['slug']}/{seat['slug']}"
            if address in known:
                continue
            ordinal += 1
            boss = entry.get("reports_to") if address == first else first
            known[address] = next(ids)
            yield SeatPlan(
                id=known[address],
                unit=structure.corporate,
                holder=structure.bodies[entry["slug"]],
                division=structure.divisions[f"corporate.{entry['slug']}"],
                ordinal=ordinal,
                code=seat["slug"],
                names=(seat["name"]["es"], seat["name"]["en"]),
                duty=seat["duty"],
                reports_to=known.get(boss) if boss else None,
            )


def _subsidiary_plans(
    data: Data, structure: Structure, unit: Unit, ids: Iterator[int], head: int | None
) -> list[SeatPlan]:
    """Plan a subsidiary: each division one director; each half of it a coordinator and what reports to it."""
    plans: list[SeatPlan] = []
    directors: dict[int, int] = {}
    coordinators: dict[int, list[int]] = {}
    for entry in data["staffing"]["roles"]:
        role, per_division = structure.roles[entry["slug"]], entry["per_division"]
        for ordinal in range(entry["seats"][0], entry["seats"][1] + 1):
            place = ordinal - entry["seats"][0]
            number, rank = place // per_division + 1, place % per_division
            pk = next(ids)
            if role.slug == "director":
                boss = head
                directors.setdefault(number, pk)
            elif role.slug == "coordinator":
                boss = directors[number]
                coordinators.setdefault(number, []).append(pk)
            elif role.slug == "innovator":  # serves both halves of the division
                boss = directors[number]
            else:
                halves = coordinators[number]
                boss = halves[rank * len(halves) // per_division]
            plans.append(
                SeatPlan(
                    id=pk,
                    unit=unit,
                    holder=role,
                    division=structure.divisions[f"{unit.slug}.{number}"],
                    ordinal=ordinal,
                    code=_code(role.code, ordinal),
                    names=("", ""),
                    duty="",
                    reports_to=boss,
                )
            )
    return plans


def _code(role_code: str, ordinal: int) -> str:
    return f"{role_code}-{ordinal:04d}"


# Columns of `holding_stagedseat` (migration 0008) and their types.
STAGED = {
    "id": "int8", "unit_id": "int8", "role_id": "int8", "body_id": "int8", "division_id": "int8", "ordinal": "int4",
    "code": "text", "name_es": "text", "name_en": "text", "duty": "text", "reports_to_id": "int8",
    "agent_id": "text", "subject": "text", "blueprint_id": "int8",
}  # fmt: skip


def copy_seats(plans: Sequence[SeatPlan], blueprints: dict[str, BlueprintVersion], *, at: datetime) -> None:
    """Create the planned seats, each with its first agent in office.

    They are set aside by one COPY, which is not possible into tables under row-level security; the database makes
    seats, agents and incumbencies of them.
    """
    made_of = {slug: version.pk for slug, version in blueprints.items()}
    with connection.cursor() as cursor:
        statement = sql.SQL("copy holding_stagedseat ({}) from stdin (format binary)").format(
            sql.SQL(", ").join(map(sql.Identifier, STAGED))
        )
        with cursor.copy(statement) as copy:
            copy.set_types(list(STAGED.values()))
            for plan in plans:
                copy.write_row(
                    (plan.id, plan.unit.pk, *_role_and_body(plan.holder), plan.division.pk, plan.ordinal, plan.code,
                     *plan.names, plan.duty, plan.reports_to, plan.agent_id(), plan.subject(),
                     made_of[plan.holder.slug])
                )  # fmt: skip
        cursor.execute("select holding_staff(%s)", [at])


def _role_and_body(holder: Role | Body) -> tuple[int | None, int | None]:
    return (holder.pk, None) if isinstance(holder, Role) else (None, holder.pk)


def draw_seat_ids(count: int) -> Iterator[int]:
    """Draw `count` ids, so that seats can name their superiors before they exist.

    Whoever creates seats holds the lock of loads, so the ids come in a row. Raises RuntimeError if they do not.
    """
    if count <= 0:
        return iter(())
    with connection.cursor() as cursor:
        cursor.execute(
            """
            select min(id), max(id)
            from (select nextval(pg_get_serial_sequence(%s, 'id')) as id from generate_series(1, %s)) drawn
            """,
            [Seat._meta.db_table, count],
        )
        first, last = cursor.fetchone()
    if last - first + 1 != count:
        raise RuntimeError("Somebody else creates seats while the holding is loaded.")
    return iter(range(first, last + 1))


def write_mandates(data: Data) -> None:
    """Create or update mandates and architectures, whose owners are corporate seats."""
    seats = {
        f"{seat.body.slug}/{seat.code}": seat
        for seat in Seat.objects.exclude(body=None).select_related("body")
        if seat.body
    }
    bodies = {body.slug: body for body in Body.objects.all()}
    for entry in data["mandates"]:
        body, _, seat = entry["owner"].partition("/")
        Mandate.objects.update_or_create(
            code=entry["code"],
            defaults={
                "name": entry["name"],
                "owner_body": bodies[body],
                "owner_seat": seats[entry["owner"]] if seat else None,
                "targets": entry.get("targets", {}),
            },
        )
    for position, entry in enumerate(data["architectures"]):
        Architecture.objects.update_or_create(
            slug=entry["slug"],
            defaults={**_names(entry["name"]), "owner": seats[entry["owner"]], "position": position},
        )


def _names(name: dict[str, str]) -> dict[str, str]:
    return {"name_es": name["es"], "name_en": name["en"]}
