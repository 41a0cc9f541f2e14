"""Hosts that act for a division which they do not hold: what they sent is kept, and they are shown and told of."""

import json
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from django.db import connection
from django.utils import timezone

from audit import services as audit
from bus import counters
from bus.fencing import Fenced
from bus.throttle import Throttle
from holding.models import Division
from subsidiaries.replacement.models import FencedHost

ACTOR: Final = "portal/fencing"
_new_rows: Final = Throttle(burst=100, per_second=1)  # whoever makes up epochs fills neither table nor ledger

ADD = """
    insert into replacement_fencedhost as f (division_id, epoch, host, standing, current_epoch, current_host,
           first_at, last_at, messages, sent)
    values (%(division)s, %(epoch)s, %(host)s, %(standing)s, %(current_epoch)s, %(current_host)s,
            %(now)s, %(now)s, %(messages)s, %(sent)s::jsonb)
    on conflict (division_id, epoch, host, standing) do update set
           current_epoch = excluded.current_epoch, current_host = excluded.current_host, last_at = excluded.last_at,
           messages = f.messages + excluded.messages,
           sent = f.sent || (
               select jsonb_object_agg(key, coalesce((f.sent ->> key)::bigint, 0) + value::text::bigint)
                 from jsonb_each(excluded.sent))
    returning (xmax = 0)
"""


def note_fenced(fenced: Sequence[Fenced]) -> int:
    """Note what hosts without a lease sent, in the caller's transaction; return how many are new.

    The first time of each (division, epoch, host) is written into the ledger. Divisions that the holding does not
    have are only counted.
    """
    groups: dict[tuple[str, int, str, str], list[Fenced]] = defaultdict(list)
    for item in fenced:
        groups[item.division, item.epoch, item.host[:100], item.verdict.standing.value].append(item)
    divisions = dict(Division.objects.filter(key__in={key[0] for key in groups}).values_list("key", "id"))
    first = 0
    for key, items in sorted(groups.items()):
        if key[0] in divisions:
            first += _note(divisions[key[0]], key, items)
        else:
            counters.add("claytom_fenced_unknown_division_total", sum(item.count for item in items))
    return first


def _note(division: int, key: tuple[str, int, str, str], items: Sequence[Fenced]) -> bool:
    name, epoch, host, standing = key
    known = FencedHost.objects.filter(division_id=division, epoch=epoch, host=host, standing=standing).exists()
    if not known and not _new_rows.admit(()):
        counters.add("claytom_fenced_unkept_total", sum(item.count for item in items))
        return False
    sent: dict[str, int] = defaultdict(int)
    for item in items:
        sent[item.type] += item.count
    current = items[-1].current
    row: dict[str, int | str | datetime] = {
        "division": division,
        "epoch": epoch,
        "host": host,
        "standing": standing,
        "current_epoch": current.epoch if current is not None else 0,
        "current_host": current.host if current is not None else "",
        "now": timezone.now(),
        "messages": sum(sent.values()),
    }
    with connection.cursor() as cursor:
        cursor.execute(ADD, row | {"sent": json.dumps(sent)})
        is_new = bool(cursor.fetchone()[0])
    if is_new:
        audit.record(
            actor=ACTOR,
            action="host.fence",
            object=f"division/{name}",
            after={"epoch": epoch, "host": host, "standing": standing},
            details={
                "current_epoch": row["current_epoch"],
                "current_host": row["current_host"],
                "sent": dict(sent),
            },
        )
    return is_new
