"""Hosts that run what the newest manifests say, and report it as presence; for tests."""

from collections import defaultdict
from collections.abc import Collection
from datetime import UTC, datetime

from bus.models import OutboxMessage
from claytom_agent.manifest import Manifest, decode_manifest, expand
from claytom_agent.messages import Presence, State
from holding.models import Division
from subsidiaries.replacement import observing
from subsidiaries.replacement.tests.factories import HOST, give_lease

EPOCH = 5


def manifest_of(key: str) -> Manifest:
    """Return a division's newest manifest, as a host reads it."""
    row = OutboxMessage.objects.filter(subject=f"$KV.CT_SEATS.{key}").order_by("-id").first()
    assert row is not None
    return decode_manifest(key, bytes(row.payload))


class Hosts:
    """The hosts of some units: a new agent starts, and is idle from the report after that; a bad recipe's fails."""

    def __init__(self, *units: str) -> None:
        self.keys = list(
            Division.objects.filter(unit__slug__in=units).order_by("key").values_list("key", flat=True)
        )
        self._known: dict[str, set[str]] = defaultdict(set)
        self._roster = observing.Roster()
        for key in self.keys:
            give_lease(key, EPOCH)

    def report(self, *, bad: Collection[str] = (), instantly: bool = False) -> None:
        """Let every division report in full; agents by the digests in `bad` fail as soon as they run."""
        for key in self.keys:
            observing.observe(reports=[self._presence(key, bad, instantly)], roster=self._roster)

    def _presence(self, key: str, bad: Collection[str], instantly: bool) -> Presence:
        manifest, agents, running = manifest_of(key), [], set()
        for spec in expand(manifest):
            if spec.desired == "retired":
                continue
            code = spec.key if isinstance(spec.key, str) else f"{spec.group.code}-{spec.key:04d}"
            mark = f"{code}-g{spec.generation}"
            running.add(mark)
            state: State = "idle" if instantly or mark in self._known[key] else "starting"
            if state == "idle" and spec.group.blueprint.digest in bad:
                state = "failed"
            agents.append((mark, state, 0, 10))
        self._known[key] = running
        return Presence(
            ts=datetime.now(UTC), subsidiary=manifest.subsidiary, host=HOST, division=key, epoch=EPOCH,
            observed_generation=manifest.generation, total=len(agents), counts={}, full=True, agents=agents,
        )  # fmt: skip
