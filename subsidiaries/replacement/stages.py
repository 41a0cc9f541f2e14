"""The stages of agents as they follow from what is seen: presence, orders about single seats, time on probation.

Level-triggered like all of ARP: each cycle compares where the agents of a unit stand with where they belong, and
moves those that differ. Nothing is written on the way of presence, so a start of all agents is as fast as without.
What people or ARP decide (replaced, retired, quarantined, draining) is moved where it is decided.
"""

from datetime import datetime, timedelta
from typing import Any, Final

from django.db import connection

from holding import clock
from holding import services as holding
from holding.lifecycle import Stage
from holding.models import Unit
from subsidiaries.replacement.incidents import ACTOR
from subsidiaries.replacement.models import LIVE_STATES, StaffingRule

MISSED_TWICE: Final = 2
SEEN_FIRST: Final = "first seen live"
SEEN_AGAIN: Final = "seen live again"
FAILED: Final = "reported failed"
MISSING: Final = "missing from its host"
ORDERED: Final = "an order about its seat"
LIFTED: Final = "no order about its seat stands"
SERVED: Final = "probation served"

# `standing` is what an agent is but for trouble: the last of the two that it was, else what it begins as.
BELONGS: Final = """
with in_doubt as materialized (  -- an active agent that is live and was not ordered to pause is where it belongs
    select a.id from holding_agent a where a.unit_id = %(unit)s and a.retired_at is null and a.stage <> 'active'
     union
    select a.id from holding_division d
      join replacement_seatstate s on s.division_id = d.id and not (s.state in ('idle', 'busy', 'paused'))
      join holding_agent a on a.seat_id = s.seat_id and a.retired_at is null
     where d.unit_id = %(unit)s
     union
    select a.id from holding_suspension o join holding_agent a on a.seat_id = o.seat_id and a.retired_at is null
     where a.unit_id = %(unit)s and o.desired = 'paused' and o."order" > 0
), known as materialized (
    select a.id, a.seat_id, a.stage,
           case when a.generation = 1 then 'active' else 'probation' end as beginning,
           s.state = any(%(live)s) as live,
           s.state = 'failed' as failed,
           s.missed >= %(twice)s as missing,
           exists (select from holding_suspension o
                    where o.seat_id = a.seat_id and o.desired = 'paused' and o."order" > 0) as ordered
      from in_doubt join holding_agent a on a.id = in_doubt.id
      join replacement_seatstate s on s.seat_id = a.seat_id and s.generation = a.generation
), belongs as materialized (
    select k.id, k.stage, k.failed, case
        when k.stage in ('requested', 'quarantined') then k.stage
        when k.failed or k.missing then 'lost'
        when k.stage = 'provisioning' then case when k.live then k.beginning else k.stage end
        when k.stage = 'lost' and not k.live then k.stage
        when k.stage = 'lost' and h.lost_from = 'draining' then 'draining'
        when k.stage = 'draining' then k.stage
        when k.ordered then 'suspended'
        when k.stage in ('lost', 'suspended') then coalesce(h.standing, k.beginning)
        when k.stage = 'probation' and k.live and h.probation_at <= %(served)s then 'active'
        else k.stage end as target
      from known k left join lateral (
            select max(c.at) filter (where c.new = 'probation') as probation_at,
                   (array_agg(c.new order by c.id desc)
                      filter (where c.new in ('probation', 'active')))[1] as standing,
                   (array_agg(c.old order by c.id desc) filter (where c.new = 'lost'))[1] as lost_from
              from holding_stagechange c
             where k.stage in ('lost', 'suspended', 'probation') and c.seat_id = k.seat_id and c.agent_id = k.id
           ) h on true
)
select id, target, case
    when target = 'lost' then case when failed then %(because_failed)s else %(because_missing)s end
    when stage = 'provisioning' then %(seen_first)s
    when stage = 'lost' then %(seen_again)s
    when target = 'suspended' then %(ordered)s
    when stage = 'suspended' then %(lifted)s
    else %(served_reason)s end
  from belongs where target <> stage order by id
"""


def settle(*, unit: Unit, rule: StaffingRule, now: datetime) -> int:
    """Move the agents of the unit to the stages where they belong; return how many moved.

    In the caller's transaction, under the unit's lock. One ledger entry for all.
    """
    served = now - timedelta(seconds=rule.probation_s / clock.speed())
    values: dict[str, Any] = {
        "unit": unit.pk, "live": list(LIVE_STATES), "twice": MISSED_TWICE, "served": served,
        "because_failed": FAILED, "because_missing": MISSING, "seen_first": SEEN_FIRST, "seen_again": SEEN_AGAIN,
        "ordered": ORDERED, "lifted": LIFTED, "served_reason": SERVED,
    }  # fmt: skip
    with connection.cursor() as cursor:
        cursor.execute(BELONGS, values)
        moves = [holding.Move(agent, Stage(target), reason) for agent, target, reason in cursor.fetchall()]
    return len(holding.observe_stages(unit=unit, moves=moves, actor=ACTOR, at=now))
