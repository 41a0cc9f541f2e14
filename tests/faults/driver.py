"""Faults of NATS under load, and what became of every single message that a host had promised.

A real host runs real agents of a loaded holding; `bus` and `ingest` are processes of their own; NATS is a server
of its own, whose store may be damaged. Whatever the host's spool takes is written down here by its identity. At the
end the database must hold each of these identities once: counting would not see one lost and another doubled.

`benchmarks/faults.py` runs all faults and prints the figures; `tests/faults` runs a share of them.
"""

import asyncio
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Self

import msgspec
import psycopg

from claytom_agent import presence
from claytom_agent.blocks import Block, Build
from claytom_agent.client import Bus, Outgoing
from claytom_agent.division import Division
from claytom_agent.host import Host, HostOptions
from claytom_agent.spool import Spool
from deployment.embedded.nats import Nats
from deployment.embedded.ports import reserve
from deployment.embedded.secrets import Credentials

ROOT = Path(__file__).resolve().parents[2]
log = logging.getLogger("tests.faults")
SAMPLES, EVENTS = "CT_KPI", "CT_EVENTS"
ROUND_S = 1.0  # whole seconds: the id of a sample has no smaller ones
ERA_S = 10**9  # no round of the load has the id of one that the divisions begin by themselves
MOST_NAMED = 100
LEAST_PROMISED = 300  # in each spell of load

SampleId = tuple[str, int, datetime]
"""Agent (its subject), epoch, time: every sample of a run has its own."""

STORED_SAMPLES = """
    select 'org.claytom.' || u.slug || '.' || s.role || '.' || seat.code || '-g' || s.generation, s.epoch, s.ts
      from performance_kpisample s join holding_unit u on u.id = s.unit_id
      join holding_seat seat on seat.unit_id = s.unit_id and seat.ordinal = s.ordinal
"""
HANDLED = "select message_id from bus_handledmessage"
GAPS = """
    select count(*) from bus_watermark
     where received <> '{}' and received <> int8multirange(int8range(1, upper(received)))
"""
SEEN = "select count(*) from replacement_divisionstate where seen_at > now() - interval '10 seconds'"


@dataclass(slots=True)
class Promises:
    """What the spool has taken, by identity."""

    samples: set[SampleId] = field(default_factory=set)
    events: set[str] = field(default_factory=set)
    blocks: list[Block] = field(default_factory=list)

    def record(self, spool: Spool) -> None:
        """Note whatever `spool` takes from now on."""
        add = spool.add

        def recording(division: str, epoch: int, stream: str, builders: Sequence[Build]) -> Sequence[Block] | None:
            made: list[Outgoing] = []
            taken = add(division, epoch, stream, [_noting(build, made) for build in builders])
            if taken is not None:
                self._note(stream, made)
                self.blocks += taken
            return taken

        spool.add = recording  # type: ignore[method-assign]

    def _note(self, stream: str, made: Sequence[Outgoing]) -> None:
        for message in made:
            headers = message.headers
            if stream == EVENTS:
                self.events.add(headers["ce-id"])
            elif stream == SAMPLES:
                moment = datetime.fromisoformat(headers["ce-time"])
                self.samples.add((headers["ce-source"], int(headers["Claytom-Epoch"]), moment))


def _noting(build: Build, made: list[Outgoing]) -> Build:
    def noted(number: int) -> Outgoing:
        message = build(number)
        made.append(message)
        return message

    return noted


@dataclass(slots=True)
class Result:
    """What a fault did. Times in seconds from the moment at which NATS was there again."""

    fault: str
    promised: int
    lost_by_stream: int
    """Messages that the stream had acknowledged, nobody had received, and that were gone after the fault.

    The newest ones: NATS cuts a damaged file off at the damage.
    """
    sent_again: int
    refilled_s: float
    """Until everything that was promised before NATS came back was in the database."""
    returned_s: float
    """Until every division was held and heard of."""
    lost: int
    doubled: int
    gaps: int

    @property
    def good(self) -> bool:
        """Whether nothing is lost or doubled, and every gap was closed in time."""
        return not (self.lost or self.doubled or self.gaps) and self.refilled_s <= 60 and self.returned_s <= 60

    def figures(self) -> dict[str, Any]:
        """Return it for the result line."""
        return {**asdict(self), "refilled_s": round(self.refilled_s, 2), "returned_s": round(self.returned_s, 2)}


class Rig:
    """NATS, `bus`, `ingest` and a host over a loaded holding; PostgreSQL and Redis are the environment's.

    `store` is where NATS keeps its files; `database` a DSN that sees everything. Enter it within a running loop.
    """

    def __init__(self, directory: Path, database: str, *, units: Sequence[str], store: Path | None = None) -> None:
        self.nats = Nats(
            directory=store or directory / "nats",
            logs=directory,
            credentials=Credentials(),
            reservation=reserve(),
            durable=True,
        )
        self.nats.units = tuple(units)  # each has its keys, and the host a login for it
        self.promises = Promises()
        self.host: Host
        self._directory = directory
        self._database = psycopg.connect(database, autocommit=True)
        self._units = tuple(units)
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._running: asyncio.Task[None]
        self._load: asyncio.Task[None]

    async def __aenter__(self) -> Self:
        self.start_nats()
        self._environment = {**os.environ, **self.nats.urls()}
        for name in ("bus", "ingest"):
            self._start(name)
        self.host = Host(
            HostOptions(
                url=self.nats.urls()["NATS_HOST_URL"],
                id="faults",
                subsidiaries=self._units,
                spool_dir=self._directory / "spool",
            )
        )
        self._running = asyncio.create_task(self._run_host())
        await until(lambda: hasattr(self.host, "spool"), 30)
        self.promises.record(self.host.spool)
        await until(lambda: len(self.host.divisions) == 5 * len(self._units) and self._live(), 60)
        self._load = asyncio.create_task(self._sample())
        return self

    async def _run_host(self) -> None:
        try:
            await self.host.run()
        except Exception:
            log.exception("the host ended")  # what waits for it shall not end without a word of why
            raise

    async def __aexit__(self, *exception: object) -> None:
        self._load.cancel()
        self.host.stop()
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.gather(self._running, self._load, return_exceptions=True), 10)
        for process in self._processes.values():
            process.send_signal(signal.SIGCONT)
            process.terminate()
        for process in self._processes.values():
            with suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()
        self.nats.stop()
        self._database.close()

    def _start(self, name: str) -> None:
        environment = {**self._environment, **({"DATABASE_ROLE": "ingest"} if name == "ingest" else {})}
        with (self._directory / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                [sys.executable, str(ROOT / "manage.py"), name], cwd=ROOT, env=environment, stdout=log, stderr=log
            )

    def start_nats(self) -> None:
        """Start NATS on its files as they are."""
        self.nats.prepare()
        self.nats.start()
        self.nats.wait_ready()

    def kill_nats(self) -> None:
        """End NATS as a crash does."""
        assert self.nats.process is not None
        self.nats.process.kill()
        self.nats.process.wait()
        self.nats.process = None

    def pause(self, name: str) -> None:
        """Let a process of the portal stand still, so that what the stream takes is received by nobody."""
        self._processes[name].send_signal(signal.SIGSTOP)

    def resume(self, name: str) -> None:
        """Let it go on."""
        self._processes[name].send_signal(signal.SIGCONT)

    def _live(self) -> bool:
        return all(division.manifest is not None and division.acting() for division in self.host.divisions.values())

    async def _sample(self) -> None:
        """Let every division report each second, and each time one agent tell of a change of its state."""
        due = float(int(time.time()))
        while True:
            due += ROUND_S
            for division in list(self.host.divisions.values()):
                if division.manifest is not None and division.acting():
                    await division.sample(due + ERA_S, ROUND_S)
                    _tell(division, self.host.spool)
            await asyncio.sleep(max(0.01, due + ROUND_S - time.time()))

    async def stop_load(self) -> None:
        """Let the host say nothing more."""
        self._load.cancel()
        await asyncio.gather(self._load, return_exceptions=True)

    # -- what the database says ---------------------------------------------------------------------------------

    def stored(self) -> tuple[Counter[SampleId], Counter[str]]:
        """Return the samples and events in the database, each with how often it is there."""
        samples = Counter((source, epoch, at) for source, epoch, at in self._database.execute(STORED_SAMPLES))
        return samples, Counter(id for (id,) in self._database.execute(HANDLED))

    def unreceived(self) -> dict[str, int]:
        """Return how many of all promises of each stream the database does not have."""
        samples, events = self.promises.samples, self.promises.events
        return {SAMPLES: self.missing(samples, set()), EVENTS: self.missing(set(), events)}

    def missing(self, samples: set[SampleId], events: set[str]) -> int:
        """Return how many of these the database does not have."""
        has_samples, has_events = self.stored()
        return len(samples - has_samples.keys()) + len(events - has_events.keys())

    def number(self, query: str) -> int:
        """Return the single number that a query gives."""
        row = self._database.execute(query).fetchone()
        return int(row[0]) if row else 0

    async def messages(self, stream: str) -> int:
        """Return how many messages the stream has."""
        bus = await Bus.connect(self.nats.urls()["NATS_URL"], name="faults", inbox_prefix="_INBOX", timeout_s=20)
        try:
            for _ in range(100):
                with suppress(Exception):
                    state = await _state(bus, stream)
                    return int(state["messages"])
                await asyncio.sleep(0.1)
            raise AssertionError(f"the stream {stream} does not come back")
        finally:
            await bus.close()

    # -- a fault ------------------------------------------------------------------------------------------------

    async def suffer(
        self, name: str, fault: Callable[[], Awaitable[None]], *, load_s: float = 3.0, blind: bool = True
    ) -> Result:
        """Load, do `fault` (which ends NATS and starts it again), load on, and account for every promise.

        With `blind` the portal stands still before, so that the stream has messages which nobody has received.
        """
        await self._under_load(load_s)
        if blind:
            for process in self._processes:
                self.pause(process)
            await self._under_load(load_s)
        await self.host.spool.drained(5)
        before = {stream: await self.messages(stream) for stream in (SAMPLES, EVENTS)}
        unreceived = self.unreceived()
        await fault()
        came_back = time.monotonic()
        samples, events = set(self.promises.samples), set(self.promises.events)
        after = {stream: await self.messages(stream) for stream in before}
        if blind:
            for process in self._processes:
                self.resume(process)
        refilled = asyncio.create_task(_timed(lambda: not self.missing(samples, events), came_back))
        returned = asyncio.create_task(_timed(self._is_back, came_back))
        await asyncio.wait({refilled, returned})
        await self._under_load(load_s)
        await self.stop_load()
        await _timed(lambda: not self.missing(self.promises.samples, self.promises.events), came_back)
        has_samples, has_events = self.stored()
        result = Result(
            fault=name,
            promised=self._promised(),
            lost_by_stream=sum(
                min(unreceived[stream], max(0, before[stream] - after[stream])) for stream in before
            ),
            sent_again=self.host.spool.sent_again,
            refilled_s=refilled.result(),
            returned_s=returned.result(),
            lost=self.missing(self.promises.samples, self.promises.events),
            doubled=sum(n - 1 for n in (*has_samples.values(), *has_events.values())),
            gaps=self.number(GAPS),
        )
        for message in self.lost() if result.lost else ():
            log.error("lost: %s", message)
        self._load = asyncio.create_task(self._sample())
        return result

    async def _under_load(self, seconds: float) -> None:
        """Let the load run for so long, and until it has promised enough to tell something: machines differ."""
        enough = self._promised() + LEAST_PROMISED
        await asyncio.sleep(seconds)
        await _timed(lambda: self._promised() >= enough, time.monotonic())

    def _promised(self) -> int:
        return len(self.promises.samples) + len(self.promises.events)

    def lost(self) -> list[str]:
        """Return some of what was promised and is not in the database."""
        has_samples, has_events = self.stored()
        missing = self.promises.samples - has_samples.keys()
        samples = [f"{at:%H:%M:%S} epoch {epoch} {who}" for who, epoch, at in missing]
        return sorted([*samples, *(self.promises.events - has_events.keys())])[:MOST_NAMED]

    def _is_back(self) -> bool:
        divisions = 5 * len(self._units)
        return len(self.host.divisions) == divisions and self._live() and self.number(SEEN) >= divisions


def _tell(division: Division, spool: Spool) -> None:
    head = presence.PresenceHead(division.key.unit, "faults", division.lease.key, division.lease.epoch)
    agents = list(division.agents.values())
    if agents:
        build = presence.state_builder(head, random.choice(agents), "idle", "idle", "drill")
        spool.add(division.lease.key, division.lease.epoch, EVENTS, [build])


async def _state(bus: Bus, stream: str) -> dict[str, Any]:
    info: dict[str, Any] = msgspec.json.decode((await bus.request(f"$JS.API.STREAM.INFO.{stream}")).data)
    state: dict[str, Any] = info["state"]
    return state


async def _timed(condition: Callable[[], bool], since: float, patience: float = 120) -> float:
    """Return the seconds from `since` until the condition held; infinity if it did not in time."""
    while time.monotonic() - since < patience:
        if await asyncio.to_thread(condition):
            return time.monotonic() - since
        await asyncio.sleep(0.25)
    return float("inf")


async def until(condition: Callable[[], bool], within_s: float) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within_s} s")
        await asyncio.sleep(0.05)


# -- what can be done to a store ------------------------------------------------------------------------------


def blocks(store: Path, stream: str) -> list[Path]:
    """Return the files that hold a stream's messages, oldest first."""
    return sorted(store.glob(f"**/{stream}/msgs/*.blk"), key=lambda path: int(path.stem))


def flip_bit(path: Path, dice: random.Random) -> None:
    """Turn one bit of a file round, somewhere in its middle half."""
    content = bytearray(path.read_bytes())
    place = dice.randrange(len(content) // 4, len(content) * 3 // 4)
    content[place] ^= 1 << dice.randrange(8)
    path.write_bytes(content)


def truncate(path: Path, dice: random.Random) -> None:
    """Cut a file off, somewhere in its middle half."""
    size = path.stat().st_size
    os.truncate(path, dice.randrange(size // 4, size * 3 // 4))


class PowerCut:
    """A file system on a loop device that can be shut down as a power cut does: nothing more reaches the disk."""

    TOOLS = ("mkfs.xfs", "xfs_io", "losetup", "mount", "umount")

    def __init__(self, directory: Path) -> None:
        self.image = directory / "disk.img"
        self.mount = directory / "disk"

    @classmethod
    def why_not(cls) -> str:
        """Say what this machine lacks for it; "" if nothing."""
        if os.getuid() != 0:
            return "a simulated power cut needs root: run as root, on a machine with loop devices and XFS"
        if missing := [tool for tool in cls.TOOLS if shutil.which(tool) is None]:
            return f"a simulated power cut needs {', '.join(missing)}: install xfsprogs and util-linux"
        if "xfs" not in Path("/proc/filesystems").read_text():
            return "a simulated power cut needs a kernel with XFS"
        if subprocess.run(["losetup", "--find"], capture_output=True, check=False).returncode:
            return "a simulated power cut needs a free loop device"
        return ""

    def __enter__(self) -> Self:
        self.mount.mkdir()
        with self.image.open("wb") as file:
            file.truncate(512 * 1024 * 1024)
        _run("mkfs.xfs", "-q", str(self.image))
        self.attach()
        return self

    def __exit__(self, *exception: object) -> None:
        self.detach()

    def attach(self) -> None:
        """Mount it; what was on the disk is there."""
        _run("mount", "-o", "loop", str(self.image), str(self.mount))

    def detach(self) -> None:
        """Unmount it."""
        subprocess.run(["umount", str(self.mount)], check=False, capture_output=True)

    def cut(self) -> None:
        """Let the power fail: what was not flushed is gone."""
        _run("xfs_io", "-x", "-c", "shutdown", str(self.mount))


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


class Faults:
    """The faults, each as a method that takes NATS down and brings it back."""

    def __init__(self, rig: Rig, dice: random.Random, disk: PowerCut | None = None) -> None:
        self._rig = rig
        self._dice = dice
        self._disk = disk

    async def flip(self) -> None:
        """A bit flips in the newest file of each stream."""
        await self._damage(flip_bit)

    async def truncate(self) -> None:
        """The newest file of each stream is cut off."""
        await self._damage(truncate)

    async def _damage(self, damage: Callable[[Path, random.Random], None]) -> None:
        self._rig.kill_nats()
        for stream in (SAMPLES, EVENTS):
            damage(blocks(self._rig.nats.directory, stream)[-1], self._dice)
        await asyncio.to_thread(self._rig.start_nats)

    async def restart(self) -> None:
        """NATS is restarted in good order."""
        await asyncio.to_thread(self._rig.nats.stop)
        await asyncio.to_thread(self._rig.start_nats)

    async def stop(self, seconds: float = 60.0) -> None:
        """NATS is away for that long, while the agents go on."""
        self._rig.kill_nats()
        await asyncio.sleep(seconds)
        await asyncio.to_thread(self._rig.start_nats)

    async def power(self) -> None:
        """The power fails."""
        assert self._disk is not None
        self._disk.cut()
        self._rig.kill_nats()
        await asyncio.sleep(0.2)
        self._disk.detach()
        self._disk.attach()
        await asyncio.to_thread(self._rig.start_nats)
