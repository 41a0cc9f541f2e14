"""What the live stream watches: a version for each topic, from two cheap queries."""

from collections.abc import Collection, Mapping
from datetime import datetime
from hashlib import blake2b

from django.db import connection

from subsidiaries.replacement.models import STALE_AFTER

# KPIs and presence move all the time: they are signalled at most once in so many seconds.
KPI_STEP = 15
PRESENCE_STEP = 10
# What is due becomes overdue, and what waits for somebody may be of a unit that they do not see.
APPROVAL_STEP = 20
APPROVALS_OF = "approvals:"

# What a unit's page depends on besides KPIs: live agents, divisions heard of, replacements and how many of them
# are not live yet, incidents and how many of them are open, escalations that wait, orders that stand, and what
# became of commands that are going. About 900 rows of the census, 181 divisions; the rest comes from the ends of
# indexes, or is as few as what people order.
UNITS = """
    with heard as (
        select d.unit_id, count(*) as divisions
          from replacement_divisionstate s join holding_division d on d.id = s.division_id
         where s.seen_at >= %(since)s group by 1
    ), census as (
        select unit_id, sum(live) as live from replacement_census group by 1
    ), waiting as (
        select unit_id, count(*) as seats from replacement_replacement where live_at is null group by 1
    ), incident as (
        select unit_id, max(id) as last, count(*) filter (where closed_at is null) as open,
               count(acknowledged_at) as seen, count(released_at) as released
          from replacement_incident group by 1
    ), escalation as (
        select unit_id, count(*) as open, count(*) filter (where state = 'taken') as taken,
               count(*) filter (where due_at < now()) as late
          from escalations_escalation where state in ('raised', 'taken') group by 1
    ), suspension as (
        select unit_id, count(*) as orders, max("order") as last from holding_suspension group by 1
    ), ordered as (
        select unit_id, max(id) as last, max(changed_at) as changed from commands_command group by 1
    ), target as (
        select t.unit_id, count(*) as divisions, count(t.sent_at) as sent, count(t.acknowledged_at) as obeyed,
               count(*) filter (where t.state in ('refused', 'expired')) as failed,
               count(*) filter (where t.state = 'waiting') as waiting
          from commands_command c join commands_target t on t.command_id = c.id
         where c.state in ('rolling-out', 'halted') group by 1
    )
    select u.slug, census.live, heard.divisions, waiting.seats, incident.last, incident.open,
           incident.seen, incident.released, (select max(id) from replacement_replacement r where r.unit_id = u.id),
           escalation.open, escalation.taken, escalation.late,
           (select max(id) from escalations_escalation e where e.unit_id = u.id),
           suspension.orders, suspension.last, ordered.last, ordered.changed,
           target.divisions, target.sent, target.obeyed, target.failed, target.waiting
      from holding_unit u
      left join heard on heard.unit_id = u.id
      left join census on census.unit_id = u.id
      left join waiting on waiting.unit_id = u.id
      left join incident on incident.unit_id = u.id
      left join escalation on escalation.unit_id = u.id
      left join suspension on suspension.unit_id = u.id
      left join ordered on ordered.unit_id = u.id
      left join target on target.unit_id = u.id
     order by u.position
"""
WHOLE = """
    select (select max(id) from audit_ledgerentry),
           (select extract(epoch from max(minute))::bigint from performance_kpiminute)
"""
# What the inbox depends on: open requests by unit, how many there are, who may decide them and what was decided.
# Few rows, by two partial indexes.
APPROVALS = """
    select u.slug, count(*), count(*) filter (where a.state = 'pending'), max(a.id),
           sum((select count(*) from authority_level l where l.approval_id = a.id)),
           sum((select count(*) from authority_decision d where d.approval_id = a.id))
      from authority_approval a join holding_unit u on u.id = a.unit_id
     where a.state = 'pending' or (a.state = 'approved' and a.action <> '')
     group by 1 order by 1
"""


def versions(now: datetime) -> dict[str, str]:
    """Return the version of each topic: `overview`, `activity`, `arp`, `org`, `approvals`, and `unit:<slug>`.

    Each unit has one, and those in which something waits one more, `approvals:<slug>`.

    A part of a page is asked for again when the version of one of its topics has changed.
    """
    with connection.cursor() as cursor:
        cursor.execute(UNITS, {"since": now - STALE_AFTER})
        units = {slug: _digest(facts) for slug, *facts in cursor.fetchall()}
        cursor.execute(APPROVALS)
        open_in = {f"{APPROVALS_OF}{slug}": _digest(facts) for slug, *facts in cursor.fetchall()}
        cursor.execute(WHOLE)
        entry, minute = cursor.fetchone() or (None, None)
    second = int(now.timestamp())
    # When samples have stopped coming, KPIs are no reason to ask again.
    kpis = second // KPI_STEP if minute and second - minute < 180 else 0
    whole = _digest(units)
    return {
        "overview": f"{whole}.{kpis}",
        "activity": f"{whole}.{entry}",
        "arp": whole,
        "org": f"{whole}.{second // PRESENCE_STEP}",
        "approvals": f"{_digest(open_in)}.{second // APPROVAL_STEP}",
        **open_in,
        **{f"unit:{slug}": f"{facts}.{kpis}" for slug, facts in units.items()},
    }


def narrowed(found: Mapping[str, str], slugs: Collection[str] | None, *, ledger: bool) -> dict[str, str]:
    """Return of `versions` what somebody may notice who sees only these units (None: all), of the ledger or not.

    Nothing moves for what they do not see.
    """
    topics = [topic for topic in found if topic.startswith("unit:")]
    seen = topics if slugs is None else [f"unit:{slug}" for slug in slugs]
    units = {topic: found.get(topic, "") for topic in seen}
    own = _digest({topic: facts.partition(".")[0] for topic, facts in units.items()})
    overview, activity, org = (found.get(topic, "").partition(".")[2] for topic in ("overview", "activity", "org"))
    return {
        "overview": f"{own}.{overview}",
        "activity": f"{own}.{activity}" if ledger else own,
        "arp": own,
        "org": f"{own}.{org}",
        **units,
    }


def approvals(found: Mapping[str, str], slugs: Collection[str] | None) -> str:
    """Return of the topic `approvals` what somebody may notice who sees those of these units (None: of all)."""
    if slugs is None:
        return found.get("approvals", "")
    own = {slug: found.get(f"{APPROVALS_OF}{slug}", "") for slug in sorted(slugs)}
    return f"{_digest(own)}.{found.get('approvals', '').partition('.')[2]}"


def _digest(facts: object) -> str:
    return blake2b(repr(facts).encode(), digest_size=6).hexdigest()
