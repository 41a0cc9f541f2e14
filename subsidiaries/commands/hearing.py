"""What hosts report, set against what was ordered: a command is obeyed when presence shows that it is.

Nothing is believed that was merely answered: a pause is obeyed when the division's host runs the manifest that says
it, and no more agents run than that manifest wants. One statement, cheap while no command waits.
"""

from datetime import datetime
from typing import Final

from django.db import connection

# By the newest manifest of the division, not by the one that the command made: when a later command has changed its
# mind, a host that has gone on to the later manifest has obeyed both.
OBEYED: Final = """
    case c.verb
        when 'drain' then s.epoch > t.epoch
        when 'report' then s.full_at > t.begun_at
        when 'config' then s.observed_generation >= t.generation
        else s.observed_generation >= t.generation
             and s.running <= d.wanted_running and s.paused <= d.wanted_paused
    end
"""
UNHEARD: Final = """
    select exists (select from commands_target
                    where acknowledged_at is null and state in ('sent', 'refused', 'expired'))
"""  # in the words of the index
ACKNOWLEDGE: Final = f"""
with heard as (
    select t.id, o.sent_at
      from commands_target t
      join commands_command c on c.id = t.command_id
      join replacement_divisionstate s on s.division_id = t.division_id
      join holding_division d on d.id = t.division_id
      left join bus_outboxmessage o on o.dedup = t.message
     where t.acknowledged_at is null and t.state in ('sent', 'refused', 'expired') and s.seen_at >= t.begun_at
       and {OBEYED}
     order by t.id
       for update of t skip locked
)
update commands_target t
   set acknowledged_at = %(now)s,
       sent_at = coalesce(t.sent_at, heard.sent_at, %(now)s),
       state = case when t.state <> 'sent' then t.state
                    when t.due_at < %(now)s then 'expired' else 'acknowledged' end
  from heard where t.id = heard.id
"""  # noqa: S608 - made of this module's own words
REFUSE: Final = """
with refused as (
    select t.id, s.host, s.refusal
      from commands_target t
      join replacement_divisionstate s on s.division_id = t.division_id
     where t.acknowledged_at is null and t.state = 'sent' and t.generation is not null
       and s.observed_generation < t.generation and s.seen_at >= t.begun_at
       and (s.refused_generation >= t.generation or s.refused_generation = 0)
     order by t.id
       for update of t skip locked
)
update commands_target t set state = 'refused', words = left(refused.host || ': ' || refused.refusal, 500)
  from refused where t.id = refused.id
"""
SENT: Final = """
with sent as (
    select t.id, o.sent_at
      from commands_target t join bus_outboxmessage o on o.dedup = t.message
     where t.sent_at is null and t.acknowledged_at is null and t.state in ('sent', 'refused', 'expired')
       and o.sent_at is not null
     order by t.id
       for update of t skip locked
)
update commands_target t set sent_at = sent.sent_at from sent where t.id = sent.id
"""
EXPIRE: Final = """
with late as (
    select id from commands_target
     where acknowledged_at is null and state = 'sent' and due_at < %(now)s
     order by id
       for update skip locked
)
update commands_target t set state = 'expired' from late where t.id = late.id
"""


def note_obedience(now: datetime) -> int:
    """Note which divisions have obeyed since, and which hosts say that they cannot; return how many.

    What is obeyed after its time stays expired, with the time at which it was.
    """
    with connection.cursor() as cursor:
        cursor.execute(UNHEARD)
        if not cursor.fetchone()[0]:  # as nearly always: this is asked with every report of a host
            return 0
        cursor.execute(ACKNOWLEDGE, {"now": now})
        heard: int = cursor.rowcount
        cursor.execute(REFUSE)
        return heard + int(cursor.rowcount)


def note_sent() -> int:
    """Note which commands the relay has sent; return how many."""
    with connection.cursor() as cursor:
        cursor.execute(SENT)
        return int(cursor.rowcount)


def note_expired(now: datetime) -> int:
    """Note what was not obeyed in its time; return how many."""
    with connection.cursor() as cursor:
        cursor.execute(EXPIRE, {"now": now})
        return int(cursor.rowcount)
