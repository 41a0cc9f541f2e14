"""Directed messages: the database is the mailbox of every agent.

A letter is a row of the transaction that decided it. `bus.delivery` asks the agent until it answers; at the
deadline it expires, so that what became of it is never unknown. Who comes back is told again what is still open
(`open_mail`). The key is the letter's identity: agents know the keys that they have answered, and answer a
repetition as they did before.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

import msgspec
from django.db import connection
from django.db.models import QuerySet
from django.utils import timezone

from bus.models import DirectedMessage
from bus.rows import insert_rows
from bus.services import MAX_BODY
from claytom_agent.client import iso
from claytom_agent.messages import BY_CE_TYPE, MESSAGE_TYPES, ce_type
from claytom_agent.subjects import parse_address

OPEN_BYTES: Final = 160 * 1024
"""Of letters in one welcome, which is a message of at most 256 KiB itself; the rest comes by delivery."""
REPLACED: Final = "replaced"
FOLLOWING: Final = frozenset({ce_type("work.offer"), ce_type("work.cancel")})
"""Types of letters that go to the seat's next agent. Work is for the seat; all else is for who sat there: lessons
and sessions are one's own, a decision answers one's own question, and what an agent shall be is in the manifest."""

State = DirectedMessage.State


@dataclass(frozen=True, slots=True)
class Letter:
    """A message to one agent: `type` is its name in the registry (`work.offer`), `key` its idempotency key.

    Delivery begins at `not_before` (None: now) and ends at `deadline`. With an `epoch` only the agent under
    that epoch may take it.
    """

    address: str
    unit_id: int
    type: str
    source: str
    body: Mapping[str, Any]
    key: str
    deadline: datetime
    not_before: datetime | None = None
    epoch: int | None = None


def post(*, letters: Iterable[Letter]) -> list[DirectedMessage]:
    """Put letters into the mailbox in the caller's transaction, and return them; one that is there stays as it is.

    Raises RuntimeError outside a transaction, ValueError for what cannot be delivered: a type that is not for an
    agent's address, a subject that is none, a body that its type's schema refuses or of over 256 KiB, a deadline
    that is over.
    """
    if not connection.in_atomic_block:
        raise RuntimeError("A letter is written in its change's own transaction: open atomic() first.")
    now = timezone.now()
    rows = [_row(letter, now) for letter in letters]
    insert_rows(rows, known=True)
    found = DirectedMessage.objects.in_bulk([row.key for row in rows], field_name="key")
    return [found[row.key] for row in rows]


def _row(letter: Letter, now: datetime) -> DirectedMessage:
    kind = MESSAGE_TYPES.get(letter.type)
    if kind is None or not kind.fits(letter.address):
        raise ValueError(f"{letter.type} is no message to {letter.address}.")
    parse_address(letter.address)
    body = msgspec.json.encode(letter.body)
    if len(body) > MAX_BODY:
        raise ValueError(f"{letter.address}: {len(body)} bytes; a body has at most {MAX_BODY}.")
    try:
        msgspec.json.decode(body, type=kind.body)
    except msgspec.ValidationError as error:
        raise ValueError(f"{letter.type} to {letter.address}: {error}") from error
    begin = letter.not_before or now
    if letter.deadline <= max(now, begin):
        raise ValueError(f"{letter.key}: the deadline {letter.deadline.isoformat()} leaves no time to deliver it.")
    return DirectedMessage(
        key=letter.key,
        unit_id=letter.unit_id,
        address=letter.address,
        type=kind.ce_type,
        source=letter.source,
        body=body,
        epoch=letter.epoch,
        created_at=now,
        not_before=begin,
        next_try_at=begin,
        deadline=letter.deadline,
    )


def withdraw(*, keys: Iterable[str], code: str, reason: str = "") -> int:
    """Take letters back that nobody has answered yet; return how many. An agent may still have got them."""
    return DirectedMessage.objects.filter(key__in=list(keys), state=State.OPEN).update(
        state=State.WITHDRAWN, code=code, reason=reason[:500], settled_at=timezone.now()
    )


class Succession(NamedTuple):
    """An agent's address and that of the agent who has its seat now (of a corporate seat, the same)."""

    old: str
    new: str


FOLLOW = """
    update bus_directedmessage m set address = s.new, next_try_at = greatest(m.not_before, now()), error = ''
      from unnest(%s::text[], %s::text[]) as s (old, new)
     where m.address = s.old and m.state = 'open' and m.epoch is null and m.type = any (%s)
"""


def succeed(*, successions: Sequence[Succession]) -> tuple[int, int]:
    """Settle the open letters of agents that were replaced; return how many follow the seat and how many do not.

    In the transaction that appoints the new agents. What is about the seat goes to its next agent, everything
    else, and what is bound to an epoch, is withdrawn with the code `replaced`.
    """
    if not successions:
        return 0, 0
    old, new = (list(column) for column in zip(*successions, strict=True))
    with connection.cursor() as cursor:
        cursor.execute(FOLLOW, [old, new, sorted(FOLLOWING)])
        followed = int(cursor.rowcount)
    rest = DirectedMessage.objects.filter(address__in=old, state=State.OPEN).exclude(type__in=FOLLOWING, epoch=None)
    return followed, rest.update(state=State.WITHDRAWN, code=REPLACED, settled_at=timezone.now())


def with_mail(*, among: QuerySet[Any, Any]) -> set[str]:
    """Return those of the addresses, a query for them, that have anything open."""
    rows = DirectedMessage.objects.filter(address__in=among, state=State.OPEN)
    return set(rows.order_by().values_list("address", flat=True).distinct())


def open_mail(*, addresses: Sequence[str]) -> list[dict[str, Any]]:
    """Return what is open for these agents, for `welcome.open`: the oldest that fit into 160 KiB.

    They are delivered again at once as well: the answer to that is what is recorded.
    """
    now = timezone.now()
    rows = DirectedMessage.objects.filter(
        address__in=addresses, state=State.OPEN, not_before__lte=now, deadline__gt=now
    )
    room, letters = OPEN_BYTES, []
    for row in rows.order_by("id")[:500]:
        room -= len(row.body) + 500
        if room < 0:
            break
        letters.append(row)
    if letters:
        rows.filter(pk__in=[row.pk for row in letters]).update(next_try_at=now + timedelta(seconds=1))
    return [_told_again(row) for row in letters]


def _told_again(row: DirectedMessage) -> dict[str, Any]:
    return {
        "id": row.key,
        "type": row.type,
        "address": row.address,
        "deadline": iso(row.deadline),
        "body": msgspec.json.decode(bytes(row.body)),
        **({} if row.epoch is None else {"epoch": row.epoch}),
    }


def letters_to(*, address: str) -> QuerySet[DirectedMessage]:
    """Return the letters to an agent, the newest first, without their bodies."""
    return DirectedMessage.objects.filter(address=address).defer("body").order_by("-id")


def type_name(ce: str) -> str:
    """Return the registry's name of a CloudEvents type; the type itself when it is not there any more."""
    kind = BY_CE_TYPE.get(ce)
    return kind.name if kind else ce


def retain(*, settled_for: timedelta) -> int:
    """Delete letters that were settled longer ago than that; return how many."""
    deleted, _ = DirectedMessage.objects.filter(settled_at__lt=timezone.now() - settled_for).delete()
    return deleted
