"""Every login against every subject, on a real server: what is refused does not arrive, what is legal does.

`make test` tries some of the logins, `make test-full` all of them.
"""

import asyncio
import itertools
import json
import random
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import pytest_asyncio

from bus.credentials.permissions import CONSOLE
from bus.credentials.tests.reference import RIGHTS, ROLES, SUBSIDIARIES, of_nobody, of_unit
from claytom_agent.login import Content, Login, parse_credentials
from claytom_agent.tests.conftest import NatsServer

SEED = 20_260
SHARE = 9
"""Logins that `make test` tries."""
EVERYWHERE = (("org.claytom", "metrics.kpi"), ("org.claytom", "command.pause"), ("$KV.CT_LEASES", "2"))
"""Tried on every unit."""
OTHERS = 3
"""Units besides its own whose subjects a login is tried on; over all logins every pair of units comes up."""


@dataclass(frozen=True)
class Bearer:
    """A login under trial, and who it is in the reference."""

    who: str
    unit: str
    role: str
    name: str

    def rights(self, verb: str) -> tuple[list[list[str]], list[list[str]]]:
        """Patterns that are given and those that are taken away, as tokens."""
        given: list[list[str]] = []
        taken: list[list[str]] = []
        for line in RIGHTS.strip().splitlines():
            if line:
                who, does, pattern = line.split()
                if (who, does) == (self.who, verb):
                    text = pattern.removeprefix("!").format(s=self.unit, r=self.role, n=self.name)
                    (taken if pattern.startswith("!") else given).append(text.split("."))
        return given, taken

    def judge(self, verb: str) -> Callable[[str], bool]:
        given, taken = self.rights(verb)

        def legal(subject: str) -> bool:
            tokens = subject.split(".")
            return any(covers(p, tokens) for p in given) and not any(covers(p, tokens) for p in taken)

        return legal


def covers(pattern: Sequence[str], tokens: Sequence[str]) -> bool:
    """Whether every subject that `tokens` stands for (it may have wildcards itself) matches the pattern.

    As the server sees it: a last `>` passes for a last `*`. Subjects have five tokens, so it hears the same.
    """
    for position, wanted in enumerate(pattern):
        if wanted == ">":
            return len(tokens) > position
        if position >= len(tokens) or wanted not in ("*", tokens[position]):
            return False
    return len(pattern) == len(tokens)


def bearers() -> list[Bearer]:
    units = [Bearer("unit", unit, "", unit) for unit in SUBSIDIARIES]
    agents = [Bearer("agent", unit, role, name) for unit in SUBSIDIARIES for role, name in ROLES.items()]
    portal = [Bearer(kind, "", "", "here") for kind in ("host", "bus", "ingest", "web", "worker")]
    return [*units, Bearer("corporate", "corporate", "", "corporate"), *agents, *portal]


class Raw:
    """A connection that notes refusals and arrivals and does nothing else."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self.refused: list[str] = []
        self.arrived: set[bytes] = set()
        self._pongs = asyncio.Queue[None]()
        self._task = asyncio.ensure_future(self._read())

    @classmethod
    async def connect(cls, address: str, login: Content) -> "Raw":
        url = urlsplit(address)
        reader, writer = await asyncio.open_connection(url.hostname, url.port, limit=1 << 22)
        info = json.loads((await reader.readline()).removeprefix(b"INFO "))
        answer = {"jwt": login.jwt, "sig": login.sign(info["nonce"]), "verbose": False, "pedantic": False}
        writer.write(f"CONNECT {json.dumps(answer)}\r\n".encode())
        raw = cls(reader, writer)
        await raw.flush()
        return raw

    def publish(self, subject: str, mark: bytes) -> None:
        self._writer.write(b"PUB %b %d\r\n%b\r\n" % (subject.encode(), len(mark), mark))

    def subscribe(self, subject: str, sid: int) -> None:
        self._writer.write(f"SUB {subject} {sid}\r\n".encode())

    async def flush(self) -> None:
        """Wait until the server has dealt with all that was sent, and has sent all that it had for us."""
        self._writer.write(b"PING\r\n")
        await self._writer.drain()
        await asyncio.wait_for(self._pongs.get(), 60)

    async def close(self) -> None:
        self._task.cancel()
        self._writer.close()

    async def _read(self) -> None:
        while line := await self._reader.readline():
            if line.startswith(b"MSG"):
                body = await self._reader.readexactly(int(line.rsplit(b" ", 1)[1]) + 2)
                self.arrived.add(body[:-2])
            elif line.startswith(b"PONG"):
                self._pongs.put_nowait(None)
            elif line.startswith(b"PING"):
                self._writer.write(b"PONG\r\n")
            elif line.startswith(b"-ERR"):
                self.refused.append(line.decode())


class Trial:
    """A server, a listener that hears everything, and the counts."""

    def __init__(self, nats: NatsServer, listener: Raw, speaker: Raw) -> None:
        self.nats, self.listener, self.speaker = nats, listener, speaker
        self.counts: Counter[tuple[str, str, str]] = Counter()
        self._marks = itertools.count()

    def login(self, bearer: Bearer) -> Content:
        store = self.nats.store
        if bearer.who == "agent":
            text = store.issue_agent(f"org.claytom.{bearer.unit}.{bearer.role}.{bearer.name}").creds_text
        elif bearer.who in ("unit", "corporate"):
            text = store.mint("unit", unit=bearer.unit).creds_text
        else:
            text = store.mint(bearer.who, name=bearer.name).creds_text
        return parse_credentials(text)

    async def publishes(self, bearer: Bearer, subjects: Iterable[str]) -> None:
        """Let the bearer publish each; what arrives must be what is legal, and each other one is refused."""
        line, legal = await Raw.connect(self.nats.address, self.login(bearer)), bearer.judge("pub")
        sent = {subject: b"p%d" % next(self._marks) for subject in subjects}
        self.listener.arrived.clear()
        for subject, mark in sent.items():
            line.publish(subject, mark)
        await line.flush()
        await self.listener.flush()
        right = {subject for subject in sent if legal(subject)}
        wrong_way = {s for s, mark in sent.items() if (mark in self.listener.arrived) != (s in right)}
        assert not wrong_way, f"{bearer}: published against the reference: {sorted(wrong_way)[:10]}"
        assert len(line.refused) == len(sent) - len(right), bearer
        self.counts[bearer.who, "pub", "legal"] += len(right)
        self.counts[bearer.who, "pub", "refused"] += len(sent) - len(right)
        await line.close()

    async def subscribes(self, bearer: Bearer, subjects: Iterable[str]) -> None:
        """Let the bearer listen to each; only what is legal may reach it."""
        line, legal = await Raw.connect(self.nats.address, self.login(bearer)), bearer.judge("sub")
        asked = list(dict.fromkeys(subjects))
        for sid, subject in enumerate(asked, 1):
            line.subscribe(subject, sid)
        await line.flush()
        right = {subject for subject in asked if legal(subject)}
        refused = {text.split('"')[1] for text in line.refused}
        assert refused == set(asked) - right, f"{bearer}: {sorted(refused ^ (set(asked) - right))[:10]}"
        plain = [subject for subject in asked if "*" not in subject and ">" not in subject]
        sent = {subject: b"s%d" % next(self._marks) for subject in plain}
        for subject, mark in sent.items():
            self.speaker.publish(subject, mark)
        await self.speaker.flush()
        await line.flush()
        wrong_way = {s for s, mark in sent.items() if (mark in line.arrived) != (s in right)}
        assert not wrong_way, f"{bearer}: heard against the reference: {sorted(wrong_way)[:10]}"
        self.counts[bearer.who, "sub", "legal"] += len(right)
        self.counts[bearer.who, "sub", "refused"] += len(asked) - len(right)
        await line.close()


@pytest_asyncio.fixture
async def trial(tmp_path: Path) -> AsyncIterator[Trial]:
    nats = NatsServer(tmp_path, units=SUBSIDIARIES)
    nats.start()
    try:
        console = Login(nats.logins.portal(CONSOLE)).read()
        async with asyncio.timeout(20):
            while True:
                try:
                    listener = await Raw.connect(nats.address, console)
                    break
                except OSError:
                    await asyncio.sleep(0.1)
        listener.subscribe(">", 1)
        await listener.flush()
        speaker = await Raw.connect(nats.address, console)
        yield Trial(nats, listener, speaker)
        await listener.close()
        await speaker.close()
    finally:
        nats.kill()


def inboxes() -> list[str]:
    return [
        "_INBOX.a",
        *(f"_INBOX_{unit}.a" for unit in (*SUBSIDIARIES, "corporate")),
        *(f"_INBOX_{unit}_{role}_{name}.a" for unit in SUBSIDIARIES[:5] for role, name in ROLES.items()),
        *(f"_INBOX__{kind}_here.a" for kind in ("host", "bus", "ingest", "web", "worker", "console")),
    ]


def wildcards(units: Iterable[str]) -> list[str]:
    return [
        *(
            ">",
            "*",
            "org.>",
            "org.claytom.>",
            "org.claytom.*.*.*",
            "org.claytom.*.metrics.*",
            "org.claytom.*.command.*",
        ),
        *("org.claytom.corporate.>", "org.claytom.corporate.quarantine.*", "_INBOX.>", "$JS.>", "$KV.>", "$SYS.>"),
        *(
            f"org.claytom.{unit}.{rest}"
            for unit in units
            for rest in (">", "*.*", "metrics.*", "command.*", "operator.*", "director.>")
        ),
        *(f"_INBOX_{unit}.>" for unit in units),
    ]


async def try_all(trial: Trial, tried: Sequence[Bearer]) -> int:
    units = [*SUBSIDIARIES, "corporate"]
    nobody = of_nobody()
    for number, bearer in enumerate(bearers()):
        if bearer not in tried:
            continue
        own = [bearer.unit] if bearer.unit else []
        others = [units[(number + step) % len(units)] for step in (1, 12, 23)][:OTHERS]
        chosen = [*own, *others]
        subjects = [subject for unit in chosen for subject in of_unit(unit)]
        every = [f"org.claytom.{unit}.metrics.kpi" for unit in units] + [
            f"$KV.CT_LEASES.{unit}.2" for unit in units
        ]
        await trial.publishes(bearer, [*subjects, *nobody, *every, *inboxes()])
        await trial.subscribes(bearer, [*subjects, *nobody, *inboxes(), *wildcards(chosen)])
    total = sum(trial.counts.values())
    lines = [
        f"{who:<10} {verb}  {result:<8} {count:>7,}" for (who, verb, result), count in sorted(trial.counts.items())
    ]
    sys.stdout.write("\n".join([f"\n{len(tried)} logins, {total:,} tries, seed {SEED}", *lines]) + "\n")
    assert all(trial.counts[who, verb, "refused"] for who, verb, _ in trial.counts), "nothing was refused"
    return total


async def test_a_share_of_the_matrix_is_as_the_reference_says(trial: Trial) -> None:
    dice = random.Random(SEED)
    every = bearers()
    kinds = {bearer.who for bearer in every} - {"agent", "unit"}
    tried = [b for b in every if b.who in kinds] + dice.sample([b for b in every if b.who not in kinds], SHARE)
    assert await try_all(trial, tried) > 10_000


@pytest.mark.full
async def test_the_whole_matrix_is_as_the_reference_says(trial: Trial) -> None:
    assert await try_all(trial, bearers()) > 50_000
