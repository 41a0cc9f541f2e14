"""Sources whose messages are refused again and again: twenty within a minute make a suspect.

What counts is every refusal, also those that were too many to be kept. Blame follows the subject, which the
credentials of the sender prove, and not the header `ce-source`, which anybody may write: whoever names a source of
another unit is counted for the unit on whose subjects it speaks.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from django.db import connection, transaction
from django.utils import timezone

from audit import services as audit
from bus import counters
from bus.models import RefusalWindow, Suspect
from bus.outbox import Message, publish_many
from bus.units import known_units
from claytom_agent.subjects import ROOT, SubjectError, check_host_id, corporate_topic, is_slug, parse_address

MANY: Final = 20  # refusals
WITHIN: Final = timedelta(minutes=1)
CALM: Final = timedelta(minutes=10)  # without a refusal: then the mark ends
SOURCE: Final = "portal/quarantine"
SUSPECTED, CLEARED = "org.claytom.source.suspected.v1", "org.claytom.source.cleared.v1"

COUNT = """
    insert into bus_refusalwindow as w (source, unit, recent)
    select source, unit, array_fill(%s::timestamptz, array[least(n, %s)])
      from unnest(%s::text[], %s::text[], %s::int[]) as t(source, unit, n)
     order by source, unit
    on conflict (source, unit) do update set recent = (excluded.recent || w.recent)[1:%s]
    returning source, unit, recent[%s] >= %s
"""
MARK = """
    insert into bus_suspect as s (source, unit, unit_id, since, last_at, count, stage, rule, reason)
    values (%s, %s, %s, %s, %s, %s, %s, %s, %s)
    on conflict (source, unit) where closed_at is null do update set
           last_at = excluded.last_at, count = s.count + excluded.count, stage = excluded.stage,
           rule = excluded.rule, reason = excluded.reason
    returning id, xmax = 0
"""
ADD = """
    update bus_suspect s
       set last_at = %s, count = s.count + t.n, stage = t.stage, rule = t.rule, reason = t.reason
      from unnest(%s::text[], %s::text[], %s::int[], %s::text[], %s::text[], %s::text[])
           as t(source, unit, n, stage, rule, reason)
     where s.source = t.source and s.unit = t.unit and s.closed_at is null
    returning s.source, s.unit
"""

Blamed = tuple[str, str]
"""Who is blamed: the source, and the unit in the subject (empty: none)."""


@dataclass(frozen=True, slots=True)
class Blame:
    """The refusals of one source in one transaction: how many, and what the last one was."""

    source: str
    unit: str
    n: int
    stage: str
    rule: str
    reason: str


def unit_of(subject: str) -> str:
    """Return the slug of the unit that a subject names, or ""."""
    tokens = subject.split(".")
    return tokens[2] if len(tokens) == 5 and subject.startswith(f"{ROOT}.") and is_slug(tokens[2]) else ""


def blamed(subject: str, source: str) -> Blamed:
    """Return who is to blame for a message: its source if that can be one of the subject's unit, else the unit."""
    unit = unit_of(subject)
    nobody = f"{ROOT}.{unit}" if unit else "unknown"
    try:
        kind, slash, name = source.partition("/")
        if slash:
            return (f"{kind}/{check_host_id(name)}" if kind in ("host", "portal") else nobody), unit
        parse_address(source)
    except SubjectError:
        return nobody, unit
    return (source if source.split(".")[2] == unit else nobody), unit


def count_refusals(blames: Collection[Blame], *, at: datetime | None = None) -> None:
    """Count refusals in the caller's transaction, mark whose are too many, and tell of each new mark."""
    if not blames:
        return
    at = timezone.now() if at is None else at
    ordered = sorted(blames, key=lambda one: (one.source, one.unit))
    with connection.cursor() as cursor:
        columns = [[getattr(one, name) for one in ordered] for name in ("source", "unit", "n")]
        cursor.execute(COUNT, [at, MANY, *columns, MANY, MANY, at - WITHIN])
        tripped = {(source, unit) for source, unit, many in cursor.fetchall() if many}
        told = [[getattr(one, name) for one in ordered] for name in ("stage", "rule", "reason")]
        cursor.execute(ADD, [at, *columns, *told])
        tripped.difference_update(cursor.fetchall())
    fresh = [one for one in ordered if (one.source, one.unit) in tripped]
    if fresh:
        _mark(fresh, at)


def _mark(blames: Iterable[Blame], at: datetime) -> None:
    ids = {unit.slug: unit.id for unit in known_units()}
    made: list[Suspect] = []
    for one in blames:
        values = [
            one.source,
            one.unit,
            ids.get(one.unit),
            at,
            at,
            max(one.n, MANY),
            one.stage,
            one.rule,
            one.reason,
        ]
        with connection.cursor() as cursor:
            cursor.execute(MARK, values)
            number, new = cursor.fetchone()
        if new:
            made.append(Suspect.objects.get(pk=number))
    _tell(made, "source.suspect", SUSPECTED)


def close_calm(*, now: datetime) -> int:
    """End the marks of those of whom nothing was refused for ten minutes; return how many."""
    with transaction.atomic():
        calm = list(
            Suspect.objects.select_for_update(skip_locked=True).filter(closed_at=None, last_at__lt=now - CALM)
        )
        for suspect in calm:
            suspect.closed_at = now
        Suspect.objects.bulk_update(calm, ["closed_at"])
        _tell(calm, "source.clear", CLEARED)
        # What is older than the window can make nobody suspect any more.
        RefusalWindow.objects.filter(recent__0__lt=now - WITHIN).delete()
    return len(calm)


def _tell(suspects: Collection[Suspect], action: str, type: str) -> None:
    """Write the ledger entries and the messages, and count."""
    if not suspects:
        return
    facts = {suspect.pk: _facts(suspect) for suspect in suspects}
    audit.record_many(
        acts=[
            audit.Act(actor=SOURCE, action=action, object=f"suspect/{pk}", after=state, details=state)
            for pk, state in facts.items()
        ]
    )
    publish_many(
        messages=[
            Message(
                subject=corporate_topic("quarantine", suspect.unit or "unknown"),
                type=type,
                source=SOURCE,
                body=facts[suspect.pk],
                dedup=f"{action}-{suspect.pk}",
            )
            for suspect in suspects
        ]
    )
    name = "claytom_suspects_opened_total" if action == "source.suspect" else "claytom_suspects_closed_total"
    transaction.on_commit(lambda: counters.add(name, len(facts)))


def _facts(suspect: Suspect) -> Mapping[str, object]:
    return {
        "source": suspect.source,
        "unit": suspect.unit,
        "since": suspect.since.isoformat(),
        "closed": suspect.closed_at.isoformat() if suspect.closed_at else "",
        "refusals": suspect.count,
        "stage": suspect.stage,
        "rule": suspect.rule,
        "reason": suspect.reason,
    }


def suspect_sources(*, unit_id: int | None = None) -> frozenset[str]:
    """Return the sources that are suspect now, of a unit or of all (one query)."""
    rows = Suspect.objects.filter(closed_at=None)
    if unit_id is not None:
        rows = rows.filter(unit_id=unit_id)
    return frozenset(rows.values_list("source", flat=True))


def is_suspect(source: str) -> Suspect | None:
    """Return the open mark of a source (an agent's subject, `host/<id>`), or None."""
    return Suspect.objects.filter(source=source, closed_at=None).order_by("-id").first()
