"""The delivery of directed messages: asks each agent until it answers, and lets expire what nobody answers.

Any number of processes deliver side by side. A letter is claimed for a few seconds (`skip locked`), asked for
outside any transaction, and settled by its answer; a process that dies in between costs the rest of its claim, and
the agent answers the repetition as it did before. Letters to the same agent go one after the other, in the order in
which they were written: what comes later may presuppose what came before.
"""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from django.db import connection

from bus import counters
from claytom_agent.client import Bus, Disconnected, NoAnswerError, NobodyThereError, event_headers, iso
from claytom_agent.messages import Answer, MentoringReply, ce_type, decode

BATCH: Final = 200
ANSWER_S: Final = 2.0
CLAIM_S: Final = 4.0
"""How long a letter is a process's own: the time for its answer, and to write that down."""
LAST_LOOK_S: Final = 1.0
"""So long after its deadline a letter is asked for, to learn what an agent decided before: it takes nothing new."""
EXPIRY_S: Final = 3.5
"""After the deadline: by then no question is on its way."""
BACKOFF_S: Final = (0.25, 15.0)
TURN_S: Final = 30.0
"""A turn of a mentoring session is thought about before it is answered."""
TURNS: Final = frozenset({ce_type("mentoring.session")})
ABSENT: Final = frozenset({"no-such-agent"})
"""Codes that say nothing of the letter: whoever is to answer it is not there yet."""

CLAIM = """
    update bus_directedmessage set attempts = attempts + 1,
           next_try_at = clock_timestamp() + make_interval(secs => %(claim)s)
     where id in (
        select m.id from bus_directedmessage m
         where m.state = 'open' and m.next_try_at <= clock_timestamp() and (m.type = any (%(turns)s)) = %(turn)s
           and m.deadline > clock_timestamp() - make_interval(secs => %(late)s)
           and not exists (select from bus_directedmessage e where e.address = m.address and e.state = 'open'
                              and e.id < m.id and e.not_before <= clock_timestamp())
         order by m.next_try_at limit %(batch)s for update of m skip locked)
    returning id, key, address, type, source, body, epoch, deadline, attempts
"""
SETTLE = """
    update bus_directedmessage m set state = i.state, code = i.code, reason = i.reason, error = '',
           settled_at = clock_timestamp()
      from unnest(%s::bigint[], %s::text[], %s::text[], %s::text[], %s::text[])
           as i (id, address, state, code, reason)
     where m.id = i.id and m.state = 'open' and m.address = i.address
"""
# Not before its time; and once more at the deadline, if the pause would go beyond it.
AGAIN = """
    update bus_directedmessage m set error = i.error,
           next_try_at = least(clock_timestamp() + make_interval(secs => i.pause),
                               greatest(m.deadline, clock_timestamp() + interval '0.3 seconds'))
      from unnest(%s::bigint[], %s::text[], %s::int[], %s::text[], %s::float8[])
           as i (id, address, attempts, error, pause)
     where m.id = i.id and m.state = 'open' and m.address = i.address and m.attempts = i.attempts
"""
EXPIRE = """
    update bus_directedmessage set state = 'expired', settled_at = clock_timestamp()
     where state = 'open' and deadline < clock_timestamp() - make_interval(secs => %s)
"""


@dataclass(slots=True)
class Claimed:
    """A letter on its way, and what came of it: a `state` to settle it with, or an error and a pause (seconds)."""

    id: int
    key: str
    address: str
    type: str
    source: str
    body: bytes
    epoch: int | None
    deadline: datetime
    attempts: int
    state: str = ""
    code: str = ""
    reason: str = ""
    error: str = ""
    pause: float = 0.0


def deliver_once(bus: Bus, loop: asyncio.AbstractEventLoop, *, turns: bool = False) -> int:
    """Ask for the letters that are due, at most 200, and write down their answers; return how many were settled.

    Runs in a thread of its own; `loop` is where `bus` lives. Without a line to NATS nothing is claimed. `turns`
    are asked for apart, since the others of a batch would wait for them.
    """
    letters = _claim(turns) if bus.connected else []
    if letters:
        asyncio.run_coroutine_threadsafe(_ask_all(bus, letters), loop).result(timeout=60)
        _write_down(letters)
    return sum(bool(letter.state) for letter in letters)


def _claim(turns: bool) -> list[Claimed]:
    claim = TURN_S + CLAIM_S - ANSWER_S if turns else CLAIM_S
    parameters: dict[str, Any] = {
        "claim": claim,
        "late": LAST_LOOK_S,
        "batch": BATCH,
        "turn": turns,
        "turns": sorted(TURNS),
    }
    with connection.cursor() as cursor:
        cursor.execute(CLAIM, parameters)
        return [Claimed(*row) for row in cursor.fetchall()]


def expire_once() -> int:
    """Let expire what has no answer and no time left; return how many. Needs nothing but the database."""
    with connection.cursor() as cursor:
        cursor.execute(EXPIRE, [EXPIRY_S])
        expired = int(cursor.rowcount)
    if expired:
        counters.add("claytom_directed_total", expired, outcome="expired")
    return expired


async def _ask_all(bus: Bus, letters: Sequence[Claimed]) -> None:
    await asyncio.gather(*(_ask(bus, letter) for letter in letters))


async def _ask(bus: Bus, letter: Claimed) -> None:
    headers = event_headers(
        ce_type=letter.type, source=letter.source, id=letter.key, time=iso(), epoch=letter.epoch, dedup=False
    ) | {"Claytom-Deadline": iso(letter.deadline)}
    seconds = ANSWER_S
    if letter.type in TURNS:  # but never beyond the time at which it expires
        left = (letter.deadline - datetime.now(UTC)).total_seconds()
        seconds = max(ANSWER_S, min(TURN_S, left + ANSWER_S))
    try:
        reply = await bus.request(letter.address, bytes(letter.body), headers=headers, timeout_s=seconds)
    except NobodyThereError:
        _later(letter, "absent")
    except (NoAnswerError, Disconnected) as error:
        _later(letter, str(error))
    else:
        _note(letter, reply.data)


def _note(letter: Claimed, data: bytes) -> None:
    """Take an answer. One that is none, or that asks to come again, is as if there were none."""
    try:
        if letter.type in TURNS:
            turn = decode(MentoringReply, data)
            answer = Answer("accepted" if turn.status == "accepted" else "rejected", turn.code, turn.text[:500])
        else:
            answer = decode(Answer, data)
    except msgspec.DecodeError as error:
        _later(letter, f"not understood: {error}")
        return
    if answer.status != "rejected":
        letter.state = "accepted"
    elif answer.code == "expired":
        letter.state = "expired"
    elif answer.code in ABSENT or answer.retry_after_s:
        _later(letter, f"{answer.code} {answer.reason}".strip(), at_least=answer.retry_after_s)
        return
    else:
        letter.state = "rejected"
    letter.code, letter.reason = answer.code[:60].replace("\0", ""), answer.reason.replace("\0", "")


def _later(letter: Claimed, error: str, *, at_least: float = 0.0) -> None:
    letter.error = error[:200].replace("\0", "")
    pause = min(BACKOFF_S[0] * 2 ** min(letter.attempts - 1, 10), BACKOFF_S[1])
    letter.pause = max(at_least, pause * random.uniform(0.75, 1.25))  # noqa: S311 - jitter


def _write_down(letters: Sequence[Claimed]) -> None:
    settled = sorted((one.id, one.address, one.state, one.code, one.reason) for one in letters if one.state)
    again = sorted((one.id, one.address, one.attempts, one.error, one.pause) for one in letters if not one.state)
    with connection.cursor() as cursor:
        if settled:
            cursor.execute(SETTLE, [list(column) for column in zip(*settled, strict=True)])
        if again:
            cursor.execute(AGAIN, [list(column) for column in zip(*again, strict=True)])
    for state in {one.state for one in letters if one.state}:
        counters.add("claytom_directed_total", sum(one.state == state for one in letters), outcome=state)
