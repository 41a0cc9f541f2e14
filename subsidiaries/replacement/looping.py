"""A blueprint version that crash-loops: bad recipe, not bad agents. It is halted, and no seat waits for it.

Each cycle looks at the failures of the last minutes. A version is halted when many of its agents failed, more than
its share, and there is another good version, which has worked, to make their successors by. The agents that run
are left alone.
"""

from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from django.db import connection

from holding import blueprints
from holding.models import BlueprintVersion, Unit
from subsidiaries.replacement.incidents import ACTOR
from subsidiaries.replacement.rollout_models import CrashRule

OTHERS: Final = 2.0  # times as often as the agents of the other versions, at least
LOCK: Final = 0x6C6F6F70  # "loop": one cycle looks at a time
# Counted where the rows are: every cycle asks, also while 52,500 are replaced.
FAILURES: Final = """
select version, count(*)
from (select agent.blueprint_id as version, lost.seat_id
      from replacement_replacement lost join holding_agent agent on agent.id = lost.old_agent_id
      where lost.decided_at >= %(since)s and lost.reason = 'failed'
      union
      select agent.blueprint_id, state.seat_id
      from replacement_seatstate state
      join holding_agent agent on agent.seat_id = state.seat_id and agent.retired_at is null
      where state.state = 'failed' and state.since >= %(since)s
     ) failed
group by version
"""


ANY_FAILURE: Final = """
select exists (select from replacement_replacement
                where unit_id = %(unit)s and decided_at >= %(since)s and reason = 'failed')
    or exists (select from replacement_seatstate
                where unit_id = %(unit)s and since >= %(since)s and state = 'failed')
"""


@dataclass(frozen=True, slots=True)
class Looking:
    """Failed seats of a version in the window, and how many seats its agents held or hold."""

    version: BlueprintVersion
    failed: int
    seats: int

    @property
    def share(self) -> float:
        """The share of its seats that failed."""
        return self.failed / max(self.seats, 1)


def note_loops(unit: Unit, now: datetime) -> list[BlueprintVersion]:
    """Halt the versions that crash-loop, in whatever units; return those that were not halted yet.

    Looks only when the unit, whose cycle this is, has lost agents: counting is dear, and every unit has a cycle.
    """
    rule = CrashRule.objects.first() or CrashRule()
    since = now - timedelta(seconds=rule.window_s)
    with connection.cursor() as cursor:
        cursor.execute(ANY_FAILURE, {"unit": unit.pk, "since": since})
        if not cursor.fetchone()[0]:
            return []
    failures = _failures(since)
    if sum(failures.values()) < rule.least:
        return []
    with connection.cursor() as cursor:
        cursor.execute("select pg_try_advisory_xact_lock(%s)", [LOCK])
        if not cursor.fetchone()[0]:
            return []
    often = [pk for pk, failed in failures.items() if failed >= rule.least]
    suspected = BlueprintVersion.objects.filter(pk__in=often, halted_at=None)
    halted = []
    for version in suspected.approved().select_related("blueprint").order_by("pk"):
        instead = list(version.blueprint.versions.approved().filter(halted_at=None).exclude(pk=version.pk))
        if not instead:  # nothing to go back to, and so nothing to count, which takes a while
            continue
        held = blueprints.held(blueprint=version.blueprint)
        mine, others = _looked_at(version, failures, held)
        # One that nobody ran yet proves nothing, unless it came before.
        proven = any(one.version < version.version or held[one.pk] for one in instead)
        if mine.share < rule.share or mine.share < OTHERS * others or not proven:
            continue
        words = f"{mine.failed} of {mine.seats} seats failed within {rule.window_s} s"
        if blueprints.halt(version, actor=ACTOR, reason=words):
            halted.append(version)
    return halted


def _failures(since: datetime) -> Counter[int]:
    """Return how many seats lost an agent of each version: replaced since then as failed, or failed now."""
    with connection.cursor() as cursor:
        cursor.execute(FAILURES, {"since": since})
        return Counter(dict(cursor.fetchall()))


def _looked_at(version: BlueprintVersion, failures: Counter[int], held: Counter[int]) -> tuple[Looking, float]:
    """Return what is seen of a version, and the share of failed seats among the other versions of its blueprint."""
    mine = Looking(version, failures[version.pk], max(held[version.pk], failures[version.pk]))
    rest = {pk: count for pk, count in held.items() if pk != version.pk}
    return mine, sum(failures[pk] for pk in rest) / max(sum(rest.values()), 1)
