"""Orders, and hosts that obey what the manifests say, for tests."""

import json
from datetime import UTC, datetime
from uuid import uuid4

from msgspec import UNSET

from bus.models import OutboxMessage
from claytom_agent.manifest import Manifest, decode_manifest, expand
from claytom_agent.messages import Presence, RefusedManifest
from holding.models import Division, Role, Seat, Unit
from subsidiaries.commands import services
from subsidiaries.commands.models import Command, Target
from subsidiaries.commands.orders import Order
from subsidiaries.replacement import observing
from subsidiaries.replacement.models import DivisionState


def make_order(
    verb: str = "pause", unit: str = "", *, division: str = "", role: str = "", seat: str = "", **changes: object
) -> Order:
    """Return an order; without a unit, division or seat it is about the whole holding."""
    return Order(
        verb=verb,
        reason=str(changes.pop("reason", "an odd figure")),
        key=str(changes.pop("key", uuid4())),
        unit=Unit.objects.get(slug=unit) if unit else None,
        division=Division.objects.select_related("unit").get(key=division) if division else None,
        role=Role.objects.get(slug=role) if role else None,
        seat=Seat.objects.select_related("unit", "division").get(unit__slug=unit, code=seat) if seat else None,
        **changes,  # type: ignore[arg-type]  # passed on as given
    )


def give(verb: str = "pause", unit: str = "", **changes: object) -> Command:
    """Give a command as the operator of the machine."""
    return services.issue(order=make_order(verb, unit, **changes), actor="ana")  # type: ignore[arg-type]


def manifest_of(key: str) -> Manifest:
    """Return a division's newest manifest, as a host reads it."""
    row = OutboxMessage.objects.filter(subject=f"$KV.CT_SEATS.{key}").order_by("-id").first()
    assert row is not None
    return decode_manifest(key, bytes(row.payload))


def desired(key: str) -> dict[str, str]:
    """Return what each seat of a division shall do, as a host reads it."""
    return {str(spec.key): spec.desired for spec in expand(manifest_of(key))}


def obey(*keys: str, epoch: int = 5, full: bool = True) -> None:
    """Let the hosts of these divisions (all without any) report that they do what the newest manifests say."""
    keys = keys or tuple(DivisionState.objects.values_list("division__key", flat=True))
    _observe([_presence(key, manifest_of(key), epoch=epoch, full=full) for key in keys])


def refuse(key: str, reason: str = "unknown worker") -> None:
    """Let the host of a division report that it cannot run the newest manifest, and runs the one before."""
    newest = manifest_of(key)
    state = DivisionState.objects.get(division__key=key)
    report = _presence(key, newest, epoch=5, full=False, refused=RefusedManifest(newest.generation, reason))
    kept = {"observed_generation": state.observed_generation, "counts": {"idle": report.total}, "agents": []}
    _observe([Presence(**{**{name: getattr(report, name) for name in report.__struct_fields__}, **kept})])


def _presence(
    key: str, manifest: Manifest, *, epoch: int, full: bool, refused: RefusedManifest | None = None
) -> Presence:
    shown = {"run": "idle", "paused": "paused"}
    agents = []
    for spec in expand(manifest):
        if spec.desired == "retired":
            continue
        code = spec.key if isinstance(spec.key, str) else f"{spec.group.code}-{spec.key:04d}"
        agents.append((f"{code}-g{spec.generation}", shown[spec.desired], 0, 10))
    counts = {state: sum(one[1] == state for one in agents) for state in shown.values()}
    return Presence(
        ts=datetime.now(UTC), subsidiary=manifest.subsidiary, host="host-a", division=key, epoch=epoch,
        observed_generation=manifest.generation, total=len(agents), counts=counts, full=full,
        agents=agents,  # type: ignore[arg-type]
        refused=refused or UNSET,
    )  # fmt: skip


def _observe(reports: list[Presence]) -> None:
    observing.observe(reports=reports, roster=observing.Roster())


def states(command: Command) -> dict[str, str]:
    """Return the state of each target by its division."""
    return dict(Target.objects.filter(command=command).values_list("division__key", "state"))


def sent(subject: str) -> list[dict[str, object]]:
    """Return the bodies of the messages to a subject, the oldest first."""
    rows = OutboxMessage.objects.filter(subject=subject).order_by("id")
    return [json.loads(bytes(row.payload)) for row in rows]
