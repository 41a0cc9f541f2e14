"""The desired state of each division as its host reads it: seats, generations, standing orders, settings.

A manifest is computed from the seats and from the orders that stand (`Suspension`): an order for everybody is one
row per division, whatever the number of agents.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final

import msgspec
from django.db import connection
from django.db.models import F, OuterRef, Subquery

from bus import services as bus
from bus.rows import update_rows
from holding import blueprints
from holding.models import Agent, BlueprintVersion, Division, Holding, Role, Seat, Suspension

SOURCE: Final = "portal/holding"
SETTINGS: Final[Mapping[str, float]] = {"kpi_interval_s": 60, "presence_interval_s": 5, "presence_full_s": 60}
RUN: Final = Seat.Desired.RUN.value
STRICTNESS: Final = {RUN: 0, Seat.Desired.PAUSED.value: 1, Seat.Desired.RETIRED.value: 2}


def publish_manifests(*, division_ids: Iterable[int], hint: bool = False) -> dict[int, int]:
    """Write the current manifest of each division to the outbox, under its next generation; return those.

    Runs in the caller's transaction, after the change. The divisions' rows are locked in order, so the
    generations of concurrent changes follow their commits. `hint` also sends `manifest.sync`, so that
    the hosts do not wait for their next look.
    """
    ids = sorted(set(division_ids))
    if not ids:
        return {}
    list(Division.objects.select_for_update().filter(pk__in=ids).order_by("pk").values_list("pk"))
    Division.objects.filter(pk__in=ids).update(manifest_generation=F("manifest_generation") + 1)
    divisions = list(Division.objects.filter(pk__in=ids).select_related("unit", "body").order_by("pk"))
    contents = _contents(ids)
    messages = []
    for division in divisions:
        content = contents[division.pk]
        division.wanted_running, division.wanted_paused = content.running, content.paused
        manifest = _manifest(division, content)
        messages.append(_put(division, manifest))
        if hint:
            messages.append(_hint(division, manifest))
    update_rows(divisions, ["wanted_running", "wanted_paused"])
    bus.publish_many(messages=messages)
    return {division.pk: division.manifest_generation for division in divisions}


def message_id(key: str, generation: int) -> str:
    """Return the message id of a division's manifest of that generation."""
    return f"manifest-{key}-{generation}"


def settings_of(division: Division) -> dict[str, Any]:
    """Return the settings of a division's host."""
    return {**SETTINGS, **division.settings}


def _put(division: Division, manifest: Mapping[str, Any]) -> bus.Message:
    return bus.Message(
        subject=f"$KV.CT_SEATS.{division.key}",
        type="org.claytom.manifest.put.v1",
        source=SOURCE,
        body=manifest,
        dedup=message_id(division.key, division.manifest_generation),
    )


def _hint(division: Division, manifest: Mapping[str, Any]) -> bus.Message:
    return bus.Message(
        subject=f"org.claytom.{division.unit.slug}.command.sync",
        type="org.claytom.manifest.sync.v1",
        source=SOURCE,
        body={
            "division": division.key,
            "generation": division.manifest_generation,
            "sha256": sha256(msgspec.json.encode(manifest)).hexdigest(),
        },
        dedup=f"sync-{division.key}-{division.manifest_generation}",
    )


def _manifest(division: Division, contents: "_Contents") -> dict[str, Any]:
    return {
        "v": 1,
        "subsidiary": division.unit.slug,
        "division": division.code,
        "generation": division.manifest_generation,
        "seats": contents.groups,
        "generations": contents.generations,
        "desired": contents.desired,
        "external": contents.external,
        **({"superiors": contents.superiors} if contents.superiors else {}),
        "settings": settings_of(division),
    }


# --- what is in it -----------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Contents:
    """What the seats of a division say: groups of seats, the seats that differ, and how many shall do what."""

    groups: list[dict[str, Any]] = field(default_factory=list)
    generations: dict[str, int] = field(default_factory=dict)
    desired: dict[str, str] = field(default_factory=dict)
    external: list[int] = field(default_factory=list)
    """Ordinals of the seats that no host runs, nor answers for."""
    superiors: dict[str, int] = field(default_factory=dict)
    """Of seats beyond the first staffing: the ordinal of the superior of each."""
    wanted: dict[str, int] = field(default_factory=lambda: dict.fromkeys(STRICTNESS, 0))

    @property
    def running(self) -> int:
        """How many agents shall run."""
        return self.wanted[RUN]

    @property
    def paused(self) -> int:
        """How many agents shall be paused."""
        return self.wanted[Seat.Desired.PAUSED.value]


# Unbroken runs of ordinals: within one, ordinal and row number grow together. Of agents made by one version each;
# a seat that is vacant on purpose is named with its last agent's.
RANGES = """
select division_id, role_id, blueprint_id, min(ordinal), max(ordinal)
from (select seat.division_id, seat.role_id, agent.blueprint_id, seat.ordinal,
             seat.ordinal - row_number() over (
                 partition by seat.division_id, seat.role_id, agent.blueprint_id order by seat.ordinal) as run
      from holding_seat seat
      left join holding_agent agent on agent.seat_id = seat.id and agent.generation = seat.generation
      where seat.division_id = any(%s) and seat.role_id is not null and not seat.external
        and seat.closed_at is null) seat
group by division_id, role_id, blueprint_id, run
order by 1, 4
"""


def _contents(division_ids: Sequence[int]) -> dict[int, _Contents]:
    orders = _orders(division_ids)
    contents: dict[int, _Contents] = defaultdict(_Contents)
    roles = {role.pk: role for role in Role.objects.all()}
    versions = _Versions()
    ordinals: dict[tuple[int, int, int | None], list[list[int]]] = defaultdict(list)
    with connection.cursor() as cursor:
        cursor.execute(RANGES, [list(division_ids)])
        for division, role, version, first, last in cursor:
            ordinals[division, role, version].append([first, last])
    for (division, role, version), ranges in ordinals.items():
        made_by = versions.find(version, roles[role].slug)
        group = {**_group(made_by), "code": roles[role].code, "ordinals": ranges}
        _add_group(contents[division], group, orders[division], role_id=role)
        contents[division].wanted[group.get("desired", RUN)] += sum(last - first + 1 for first, last in ranges)
    _add_bodies(contents, division_ids, orders, versions)
    _add_exceptions(contents, division_ids, orders)
    given = Seat.objects.filter(division_id__in=division_ids, external=True).order_by("ordinal")
    for division, ordinal in given.values_list("division_id", "ordinal"):
        contents[division].external.append(ordinal)
    _add_superiors(contents, division_ids)
    return contents


class _Versions:
    """Blueprint versions by id; of a seat that never had an agent, that of which its first would be made."""

    def __init__(self) -> None:
        self._all = {one.pk: one for one in BlueprintVersion.objects.select_related("blueprint")}
        self._newest: dict[str, BlueprintVersion] = {}

    def find(self, pk: int | None, group: str) -> BlueprintVersion:
        """Return the version with that id, or the newest approved one of the role or body."""
        if pk is not None:
            return self._all[pk]
        self._newest = self._newest or blueprints.newest_approved()
        return self._newest[group]


def _add_bodies(
    contents: dict[int, _Contents],
    division_ids: Sequence[int],
    orders: Mapping[int, Sequence[Suspension]],
    versions: _Versions,
) -> None:
    """Add the seats of the parent company, whose groups list names: one group per version."""
    last = Agent.objects.filter(seat=OuterRef("pk"), generation=OuterRef("generation")).values("blueprint_id")
    rows = (
        Seat.objects.filter(division_id__in=division_ids, body__isnull=False)
        .annotate(version=Subquery(last[:1]))
        .order_by("division_id", "ordinal")
        .values_list("division_id", "body__slug", "code", "duty", "version")
    )
    groups: dict[tuple[int, int], dict[str, Any]] = {}
    for division, body, code, duty, version in rows:
        made_by = versions.find(version, body)
        group = groups.get((division, made_by.pk))
        if group is None:
            group = groups[division, made_by.pk] = {**_group(made_by), "names": [], "duties": {}}
            _add_group(contents[division], group, orders.get(division, ()), role_id=None)
        group["names"].append(code)
        group["duties"][code] = duty
        contents[division].wanted[group.get("desired", RUN)] += 1


def _add_superiors(contents: dict[int, _Contents], division_ids: Sequence[int]) -> None:
    """Say who leads seats that were opened later: the rule by which a holding is loaded does not know them."""
    first = Holding.objects.values("floor")[:1]
    later = Seat.objects.open().filter(
        division_id__in=division_ids, role__isnull=False, external=False, ordinal__gt=Subquery(first)
    )
    led = later.filter(reports_to__division=F("division")).order_by("division_id", "ordinal")
    for division, ordinal, superior in led.values_list("division_id", "ordinal", "reports_to__ordinal"):
        contents[division].superiors[str(ordinal)] = superior


def _orders(division_ids: Sequence[int]) -> dict[int, list[Suspension]]:
    orders: dict[int, list[Suspension]] = defaultdict(list)
    for order in Suspension.objects.filter(division_id__in=division_ids).order_by("order"):
        orders[order.division_id].append(order)
    return orders


def _group(blueprint: BlueprintVersion) -> dict[str, Any]:
    name = blueprint.blueprint.slug
    return {
        "role": name,
        "blueprint": {"name": name, "version": blueprint.version, "digest": blueprint.digest},
        "worker": blueprint.spec.get("worker", {"kind": "sim"}),
    }


def _add_group(
    contents: _Contents, group: dict[str, Any], orders: Sequence[Suspension], *, role_id: int | None
) -> None:
    """Add a group with what all of its seats shall do."""
    whole = [order for order in orders if _is_whole(order) and order.role_id in (None, role_id)]
    if whole:
        group["desired"] = _strictest(whole)
    contents.groups.append(group)


def _is_whole(order: Suspension) -> bool:
    return order.seat_id is None and order.share == 100


def _strictest(orders: Iterable[Suspension]) -> str:
    return max((order.desired for order in orders), key=STRICTNESS.__getitem__, default=RUN)


def _add_exceptions(
    contents: dict[int, _Contents], division_ids: Sequence[int], orders: Mapping[int, Sequence[Suspension]]
) -> None:
    """Add the seats under a later generation, and those of which an order wants more than of their group."""
    _add_generations(contents, division_ids)
    parted = {
        division: found
        for division in division_ids
        if (found := [order for order in orders.get(division, ()) if not _is_whole(order)])
    }
    seats = Seat.objects.open().filter(division_id__in=parted, external=False).order_by("division_id", "ordinal")
    for pk, division, role, ordinal, code in seats.values_list("id", "division_id", "role_id", "ordinal", "code"):
        named = [order for order in parted[division] if order.covers(role_id=role, seat_id=pk, ordinal=ordinal)]
        whole = [order for order in orders[division] if _is_whole(order) and order.role_id in (None, role)]
        usual, desired = _strictest(whole), _strictest([*whole, *named])
        if desired != usual:
            contents[division].desired[str(ordinal) if role else code] = desired
            contents[division].wanted[usual] -= 1
            contents[division].wanted[desired] += 1


def _add_generations(contents: dict[int, _Contents], division_ids: Sequence[int]) -> None:
    seats = Seat.objects.open().filter(division_id__in=division_ids, external=False).exclude(generation=1)
    rows = seats.order_by("division_id", "ordinal").values_list(
        "division_id", "role_id", "ordinal", "code", "generation"
    )
    for division, role, ordinal, code, generation in rows:
        contents[division].generations[str(ordinal) if role else code] = generation
