"""Blueprint versions and rollouts as people see them: what differs from the version before, who was made by it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import unified_diff
from typing import Any, Final

from django.db.models import Count, QuerySet
from django.http import Http404
from django.utils import timezone
from django.utils.translation import gettext as _

from holding import generator, scope
from holding.models import Agent, Blueprint, BlueprintVersion, Unit
from iam.authority.models import Approval
from subsidiaries.replacement import versions
from subsidiaries.replacement.rollout_models import Rollout
from subsidiaries.replacement.rollout_orders import MANAGE

EXAMPLES: Final = 10
VERSION_KINDS: Final[Mapping[str, str]] = {
    BlueprintVersion.State.DRAFT: "info",
    BlueprintVersion.State.APPROVED: "ok",
    BlueprintVersion.State.REVOKED: "crit",
}
ROLLOUT_KINDS: Final[Mapping[str, str]] = {
    **dict.fromkeys(Rollout.FORWARD, "info"),
    Rollout.State.PAUSED: "warn",
    Rollout.State.RETURNING: "crit",
    Rollout.State.DONE: "ok",
    Rollout.State.RETURNED: "warn",
}


def listed(*, blueprint: str, state: str) -> QuerySet[BlueprintVersion]:
    """Return the versions that are wanted; empty: all."""
    found = BlueprintVersion.objects.for_listing()
    if blueprint:
        found = found.filter(blueprint__slug=blueprint)
    return found.filter(state=state) if state else found


def find(slug: str, number: int) -> BlueprintVersion:
    """Return a version. Raises Http404."""
    found = BlueprintVersion.objects.for_listing().filter(blueprint__slug=slug, version=number).first()
    if found is None:
        raise Http404(_("There is no version %(number)d of “%(slug)s”.") % {"number": number, "slug": slug[:40]})
    return found


def agents_by_version(version_ids: list[int]) -> dict[int, int]:
    """Return how many agents in office, in view, each version made."""
    rows = Agent.objects.in_office().filter(blueprint__in=version_ids).order_by().values_list("blueprint_id")
    return dict(rows.annotate(n=Count("pk")))


def spec_text(spec: Any) -> str:
    """Return a specification as people edit it."""
    return json.dumps(spec, indent=2, sort_keys=True, ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class Shown:
    """All that the page of a version shows."""

    version: BlueprintVersion
    text: str
    before: BlueprintVersion | None
    diff: str
    """The difference to the version before, line by line; empty when there is none."""
    units: list[tuple[Unit, int]]
    """Units in view with agents of this version, and how many."""
    agents: int
    seats: int
    examples: list[Agent]
    """The first agents that it would make as the next generation."""
    approvals: list[Approval]
    rollouts: list[Rollout]
    waiting: bool
    mine: bool


def shown(version: BlueprintVersion, *, username: str) -> Shown:
    """Read the page of a version."""
    before = (
        version.blueprint.versions.filter(version__lt=version.version)
        .exclude(state=BlueprintVersion.State.WITHDRAWN)
        .order_by("-version")
        .first()
    )
    held = Agent.objects.in_office().filter(blueprint=version).order_by().values_list("unit_id")
    counts = dict(held.annotate(n=Count("pk")))
    units = [(unit, counts[unit.pk]) for unit in Unit.objects.order_by("position") if unit.pk in counts]
    seats = generator.seats_of(version.blueprint).filter(surge=None)
    first = seats.order_by("unit__position", "ordinal")[:EXAMPLES]
    approvals = list(versions.approvals_of(version)[:EXAMPLES])
    return Shown(
        version=version,
        text=spec_text(version.spec),
        before=before,
        diff=difference(before, version) if before is not None else "",
        units=units,
        agents=sum(counts.values()),
        seats=seats.count(),
        examples=list(generator.generate(version=version, seats=first, at=timezone.now())),
        approvals=approvals,
        rollouts=list(Rollout.objects.for_listing().filter(version=version)[:EXAMPLES]),
        waiting=versions.pending(version) is not None,
        mine=version.author == username,
    )


def difference(before: BlueprintVersion, after: BlueprintVersion) -> str:
    """Return how two specifications differ, line by line: `-` was, `+` is."""
    old, new = spec_text(before.spec).splitlines(), spec_text(after.spec).splitlines()
    return "\n".join(unified_diff(old, new, str(before), str(after), lineterm=""))


def may_write() -> bool:
    """Return whether whoever looks may draft, submit and revoke versions."""
    return scope.current().allows(versions.MANAGE)


def blueprint_choices() -> list[Blueprint]:
    """Return the blueprints: of roles, then of bodies."""
    found = Blueprint.objects.select_related("role", "body")
    return list(found.order_by("role__position", "body__position"))


# --- rollouts ----------------------------------------------------------------------------------------------


def listed_rollouts(*, unit: str, state: str) -> QuerySet[Rollout]:
    """Return the rollouts of the units in view that are wanted; empty: all."""
    found = Rollout.objects.for_listing()
    if unit:
        found = found.filter(unit__slug=unit)
    return found.filter(state=state) if state else found


def find_rollout(pk: int) -> Rollout:
    """Return a rollout of the units in view. Raises Http404."""
    found = Rollout.objects.for_listing().filter(pk=pk).first()
    if found is None:
        raise Http404(_("There is no rollout %(key)s.") % {"key": pk})
    return found


def may_roll_out(rollout: Rollout | None = None) -> bool:
    """Return whether whoever looks may act on a rollout; without one, start any at all."""
    held = scope.current()
    if rollout is None:
        return held.has(MANAGE)
    return held.allows(MANAGE, None if rollout.everywhere else rollout.unit_id)
