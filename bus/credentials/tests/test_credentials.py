"""Logins on a real server: what ends them, what they cannot do, and that a rotation loses nothing."""

import asyncio
import json
import stat
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from nats.aio.msg import Msg

from bus.credentials import Credential, CredentialsError, KeyStore, Logins, claims, push_async, rotation
from bus.credentials.logins import File
from claytom_agent.client import Bus, BusError, LoginRefusedError, NoAnswerError, Outgoing, event_headers
from claytom_agent.login import Login, with_credentials
from claytom_agent.nkeys import KeyFormatError, KeyPair, Kind, check_public_key, verify
from claytom_agent.subjects import SubjectError
from claytom_agent.tests.conftest import NatsServer, make_streams, wait_until

Open = Callable[..., Awaitable[Bus]]


@pytest.fixture
def nats(tmp_path: Path) -> Any:
    server = NatsServer(tmp_path)
    server.start()
    yield server
    server.kill()


@pytest_asyncio.fixture
async def console(nats: NatsServer) -> AsyncIterator[Bus]:
    bus = await Bus.connect(nats.url("portal"), name="test", timeout_s=20)
    await make_streams(bus, 60)
    yield bus
    await bus.close()


@pytest_asyncio.fixture
async def log_in(nats: NatsServer, tmp_path: Path) -> AsyncIterator[Open]:
    """Connect with a credential, written to a file of the given name."""
    opened: list[Bus] = []

    async def connect(credential: Credential, name: str = "some") -> Bus:
        path = tmp_path / f"{name}.creds"
        path.write_text(credential.creds_text)
        opened.append(await Bus.connect(with_credentials(nats.address, path), name=name, timeout_s=20))
        return opened[-1]

    yield connect
    for bus in opened:
        await bus.close()


async def listen(bus: Bus, subject: str) -> list[Msg]:
    heard: list[Msg] = []

    async def note(message: Msg) -> None:
        heard.append(message)

    await bus.subscribe(subject, note)
    await bus.flush()
    return heard


# -- keys and the store --------------------------------------------------------------------------------------


def test_a_seed_and_its_key_are_spelled_as_nats_spells_them() -> None:
    # Made by the nk tool of NATS (the example of its documentation).
    key = KeyPair.from_seed("SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY")
    assert key.public_key == "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4"
    assert key.seed == "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY"
    assert verify(key.public_key, b"nonce", key.sign(b"nonce"))
    assert not verify(key.public_key, b"another", key.sign(b"nonce"))


@pytest.mark.parametrize("kind", list(Kind))
def test_a_key_survives_its_text(kind: Kind) -> None:
    key = KeyPair.generate(kind)
    assert KeyPair.from_seed(key.seed).public_key == check_public_key(key.public_key, kind)
    assert key.seed not in repr(key)


@pytest.mark.parametrize("wrong", ["", "UAAA", "not base32!", "X" * 56])
def test_what_is_no_key_is_refused(wrong: str) -> None:
    with pytest.raises(KeyFormatError):
        KeyPair.from_seed(wrong)
    with pytest.raises(KeyFormatError):
        check_public_key(wrong, Kind.USER)


def test_a_letter_that_was_changed_is_noticed() -> None:
    public = KeyPair.generate(Kind.USER).public_key
    with pytest.raises(KeyFormatError, match="check sum"):
        check_public_key(public[:20] + ("A" if public[20] != "A" else "B") + public[21:], Kind.USER)


def test_secrets_are_readable_by_their_owner_only(tmp_path: Path) -> None:
    store = KeyStore.create(tmp_path / "keys", units=["pricing"])
    Logins(store).renew()
    for path in (tmp_path / "keys").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_minting_needs_no_operator_key(tmp_path: Path) -> None:
    store = KeyStore.create(tmp_path / "keys", units=["pricing"])
    for seed in (tmp_path / "keys" / "operator").glob("*"):
        seed.unlink()
    assert KeyStore.load(store.path).issue_agent("org.claytom.pricing.operator.op-0042-g1").public_key[0] == "U"
    with pytest.raises(CredentialsError, match="there is no key"):
        store.revoke(KeyPair.generate(Kind.USER).public_key)


def test_a_second_start_makes_no_second_keys(tmp_path: Path) -> None:
    first = KeyStore.create(tmp_path / "keys", units=["pricing"])
    before = {path: path.read_bytes() for path in first.path.rglob("*") if path.is_file()}
    KeyStore.create(tmp_path / "keys")
    assert {path: path.read_bytes() for path in first.path.rglob("*") if path.is_file()} == before


def test_wrong_wishes_are_refused_with_a_reason(tmp_path: Path) -> None:
    with pytest.raises(CredentialsError, match="holds no keys"):
        KeyStore.load(tmp_path)
    store = KeyStore.create(tmp_path / "keys", units=["pricing"])
    with pytest.raises(SubjectError):
        store.issue_agent("org.claytom.pricing.operator.di-0042-g1")
    with pytest.raises(CredentialsError, match=r"agent\.sales\.seed"):
        store.issue_agent("org.claytom.sales.operator.op-0042-g1")
    with pytest.raises(ValueError, match="not 0 s"):
        store.mint("bus", ttl=0)
    with pytest.raises(CredentialsError, match="cannot be revoked"):
        store.revoke(store.account)


def test_a_login_is_renewed_at_half_of_its_life(tmp_path: Path) -> None:
    logins = Logins(KeyStore.create(tmp_path / "keys", units=["pricing"]))
    everything = set(logins.renew(life_s=2000))
    assert everything == {file.path for file in logins.files()}
    assert logins.renew() == []
    bus = logins.portal("bus")
    old = Login(bus).read()
    half_gone = claims.decode(old.jwt)
    half_gone["iat"], half_gone["exp"] = int(time.time()) - 1001, int(time.time()) + 999
    signing = KeyPair.from_seed((tmp_path / "keys/signing/bus.seed").read_text())
    bus.write_text(bus.read_text().replace(old.jwt, claims.sign(half_gone, signing)))
    assert logins.renew() == [bus]
    assert Login(bus).read().claims.exp > time.time() + 80_000


# -- what ends a login ---------------------------------------------------------------------------------------


async def test_a_login_that_runs_out_is_followed_by_the_one_in_the_file(
    console: Bus, nats: NatsServer, log_in: Open, tmp_path: Path
) -> None:
    line = await log_in(nats.store.mint("unit", unit="pricing", ttl=3), "line")
    heard = await listen(line, "org.claytom.pricing.operator.op-0042-g1")
    lost: list[float] = []
    line.on_reconnect.append(lambda: lost.append(time.monotonic()))
    (tmp_path / "line.creds").write_text(nats.store.mint("unit", unit="pricing").creds_text)
    await wait_until(lambda: lost, 15)
    await wait_until(lambda: line.connected)
    await console.publish("org.claytom.pricing.operator.op-0042-g1", b"still here")
    await wait_until(lambda: heard)


async def test_without_a_new_one_it_stays_out(nats: NatsServer, console: Bus, log_in: Open) -> None:
    line = await log_in(nats.store.mint("unit", unit="pricing", ttl=2), "line")
    await wait_until(lambda: line.refusals >= 2, 15)  # it ends with a whole second, in which it may come back once
    await asyncio.sleep(1)
    assert not line.connected
    assert not line.closed.is_set()


async def test_a_revoked_login_is_cut_within_a_second_and_stays_out(
    console: Bus, nats: NatsServer, log_in: Open
) -> None:
    credential = nats.store.issue_agent("org.claytom.pricing.operator.op-0042-g1")
    agent = await log_in(credential, "agent")
    other = await log_in(nats.store.issue_agent("org.claytom.pricing.operator.op-0043-g1"), "other")
    began = time.monotonic()
    nats.store.revoke(credential.public_key)
    await push_async(nats.store, nats.address)
    await wait_until(lambda: not agent.connected)
    assert time.monotonic() - began < 1
    with pytest.raises(LoginRefusedError):
        await log_in(credential, "again")
    await asyncio.sleep(0.5)
    assert not agent.connected
    assert other.connected
    assert console.connected
    nats.kill()
    nats.start()
    await wait_until(lambda: other.connected, 20)
    with pytest.raises(LoginRefusedError):  # the server has kept what it was told
        await log_in(credential, "again")


async def test_a_dropped_signing_key_ends_all_that_it_signed(console: Bus, nats: NatsServer, log_in: Open) -> None:
    pricing = await log_in(nats.store.mint("unit", unit="pricing"), "pricing")
    sales = await log_in(nats.store.mint("unit", unit="sales"), "sales")
    nats.store.replace_signing_keys(["unit.pricing"])
    await push_async(nats.store, nats.address)
    newer = await log_in(nats.store.mint("unit", unit="pricing"), "newer")
    assert pricing.connected  # both keys are good until the old one is dropped
    nats.store.drop_old_keys(["unit.pricing"])
    await push_async(nats.store, nats.address)
    await wait_until(lambda: not pricing.connected, 5)
    await asyncio.sleep(0.5)
    assert not pricing.connected
    assert newer.connected
    assert sales.connected


async def test_a_key_of_another_operator_is_refused(
    nats: NatsServer, console: Bus, log_in: Open, tmp_path: Path
) -> None:
    foreign = KeyStore.create(tmp_path / "foreign", units=["pricing"])
    with pytest.raises(LoginRefusedError):
        await log_in(foreign.mint("unit", unit="pricing"))


async def test_a_login_that_claims_more_than_its_key_is_refused(
    nats: NatsServer, console: Bus, log_in: Open, tmp_path: Path
) -> None:
    """Whoever has stolen a subsidiary's signing key cannot write permissions into what it signs."""
    signing = KeyPair.from_seed((nats.store.path / "signing/unit.pricing.seed").read_text())
    honest = nats.store.mint("unit", unit="pricing")
    body = claims.decode(honest.jwt)
    body["nats"]["pub"] = {"allow": [">"]}
    path = tmp_path / "greedy.creds"
    path.write_text(honest.creds_text.replace(honest.jwt, claims.sign(body, signing)))
    with pytest.raises(LoginRefusedError):
        await Bus.connect(with_credentials(nats.address, path), name="greedy", timeout_s=20)


# -- what a login cannot do ----------------------------------------------------------------------------------


async def test_a_subsidiary_cannot_read_the_answers_of_another(
    console: Bus, nats: NatsServer, log_in: Open
) -> None:
    pricing = await log_in(nats.store.mint("unit", unit="pricing"), "pricing")
    sales = await log_in(nats.store.mint("unit", unit="sales"), "sales")
    heard = [await listen(sales, subject) for subject in ("_INBOX_pricing.>", "_INBOX.>", ">")]

    async def answer(message: Msg) -> None:
        await console.publish(message.reply, b"for pricing only")

    await console.subscribe("org.claytom.pricing.command.hello", answer)
    await console.flush()
    assert (await pricing.request("org.claytom.pricing.command.hello")).data == b"for pricing only"
    await sales.flush()
    assert heard == [[], [], []]


async def test_a_subsidiary_cannot_make_a_consumer(console: Bus, nats: NatsServer, log_in: Open) -> None:
    pricing = await log_in(nats.store.mint("unit", unit="pricing"), "pricing")
    for stream in ("CT_KPI", "CT_EVENTS", "CT_WORK", "KV_CT_LEASES", "KV_CT_SEATS"):
        for subject in (f"CONSUMER.CREATE.{stream}", f"CONSUMER.DURABLE.CREATE.{stream}.spy"):
            body = {"stream_name": stream, "config": {"durable_name": "spy", "ack_policy": "explicit"}}
            with pytest.raises(NoAnswerError):
                await pricing.request(f"$JS.API.{subject}", json.dumps(body).encode(), timeout_s=0.2)
        info = json.loads((await console.request(f"$JS.API.STREAM.INFO.{stream}")).data)
        assert info["state"]["consumer_count"] == 0


async def test_no_answer_of_the_server_can_be_made_to_speak_for_another(
    console: Bus, nats: NatsServer, log_in: Open
) -> None:
    """A request may name any subject for its answer, and the server publishes there unasked.

    What arrives in the name of sales is then an acknowledgement or a report of the server's, without headers:
    nothing that a subsidiary chose, and nothing that a host or the portal takes for a command or a fact.
    """
    heard = await listen(console, "org.claytom.sales.>")
    pricing = await log_in(nats.store.mint("unit", unit="pricing"), "pricing")
    host = await log_in(nats.store.mint("host", name="h1"), "host")
    forged = b'{"scope":{"all":true}}'
    headers = {"ce-type": "org.claytom.agent.pause.v1", "ce-source": "portal/forged"}
    await pricing._client.publish(
        "org.claytom.pricing.metrics.state", forged, reply="org.claytom.sales.command.pause", headers=headers
    )
    await pricing._client.publish(
        "$KV.CT_LEASES.pricing.1", forged, reply="org.claytom.sales.metrics.state", headers=headers
    )
    await pricing.flush()
    await host.kv_put("CT_LEASES", "hosts.h1", forged)
    for verb in ("STREAM.MSG.GET", "DIRECT.GET"):
        await host._client.publish(
            f"$JS.API.{verb}.KV_CT_LEASES",
            b'{"last_by_subj":"$KV.CT_LEASES.pricing.1"}',
            reply="org.claytom.sales.command.pause",
        )
    deliver = {"deliver_subject": "org.claytom.sales.metrics.result", "deliver_policy": "all", "ack_policy": "none"}
    request = {"stream_name": "KV_CT_LEASES", "config": deliver}
    await host.request("$JS.API.CONSUMER.CREATE.KV_CT_LEASES", json.dumps(request).encode())
    await asyncio.sleep(1)
    as_sales = [message for message in heard if message.subject.startswith("org.claytom.sales.")]
    assert as_sales, "the server answers where it is told to; if it no longer does, this test has lost its subject"
    assert [message for message in as_sales if message.headers] == []
    assert [message for message in as_sales if message.data == forged] == []
    stored = json.loads((await console.request("$JS.API.STREAM.INFO.CT_EVENTS", b'{"subjects_filter":">"}')).data)
    assert "org.claytom.sales.metrics.result" not in stored["state"].get("subjects", {})


# -- rotating under load -------------------------------------------------------------------------------------


class Load:
    """Two units publish without pause; what was acknowledged must be in the stream."""

    def __init__(self, nats: NatsServer) -> None:
        self._nats = nats
        self.acknowledged: set[str] = set()
        self.gaps: list[float] = []
        self._stop = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> "Load":
        self._tasks = [asyncio.create_task(self._publish(unit)) for unit in ("pricing", "sales")]
        await wait_until(lambda: len(self.acknowledged) > 20, 20)
        return self

    async def __aexit__(self, *_: object) -> None:
        before = self._of_units()
        await wait_until(lambda: all(n > m + 10 for n, m in zip(self._of_units(), before, strict=True)), 20)
        self._stop.set()
        await asyncio.gather(*self._tasks)

    def _of_units(self) -> list[int]:
        """How many of each unit's were acknowledged: each must go on after all that."""
        return [sum(id.startswith(unit) for id in self.acknowledged) for unit in ("pricing", "sales")]

    async def _publish(self, unit: str) -> None:
        url = with_credentials(self._nats.address, self._nats.logins.host / f"{unit}.creds")
        bus = await Bus.connect(url, name=f"load:{unit}", timeout_s=20)
        number, last = 0, time.monotonic()
        while not self._stop.is_set():
            number += 1
            id = f"{unit}-{number}"
            message = Outgoing(
                f"org.claytom.{unit}.metrics.state",
                b"{}",
                event_headers(ce_type="t", source="s", id=id, time="t"),
            )
            while not self._stop.is_set():  # as the spool does: the same id until it is acknowledged
                try:
                    await bus.js_publish(message, tries=1, timeout_s=2)
                except (ConnectionError, NoAnswerError, LookupError):
                    await asyncio.sleep(0.02)
                    continue
                self.acknowledged.add(id)
                self.gaps.append(time.monotonic() - last)
                last = time.monotonic()
                break
        await bus.close()

    async def lost(self, console: Bus) -> set[str]:
        """What was acknowledged and is not in the stream."""
        info = json.loads((await console.request("$JS.API.STREAM.INFO.CT_EVENTS")).data)
        found = set()
        for seq in range(1, info["state"]["last_seq"] + 1):
            question = json.dumps({"seq": seq}).encode()
            reply = await console.request("$JS.API.DIRECT.GET.CT_EVENTS", question)
            found.add((reply.headers or {})["Nats-Msg-Id"])
        return self.acknowledged - found


async def refused(nats: NatsServer, old: Path) -> float:
    """Wait until the server refuses an old credential; return the seconds."""
    began = time.monotonic()
    while True:
        try:
            bus = await Bus.connect(with_credentials(nats.address, old), name="old", timeout_s=20)
        except LoginRefusedError:
            return time.monotonic() - began
        await bus.close()
        assert time.monotonic() - began < 5, "the old login is still good after five seconds"
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("kind", ["logins", "signing", "account", "operator"])
async def test_a_rotation_under_load_loses_nothing_and_refuses_the_old(
    kind: str, console: Bus, nats: NatsServer, tmp_path: Path
) -> None:
    old = tmp_path / "old.creds"
    old.write_bytes((nats.logins.host / "pricing.creds").read_bytes())
    stolen = KeyPair.from_seed((nats.store.path / "operator/signing.seed").read_text())
    scopes = rotation.choose(nats.store, [])

    def restart() -> None:
        nats.write_configuration()
        nats.terminate()
        nats.start()

    acts: dict[str, Callable[[], rotation.Report]] = {
        "logins": lambda: rotation.rotate_logins(nats.store, nats.logins, nats.address, scopes),
        "signing": lambda: rotation.rotate_signing_keys(nats.store, nats.logins, nats.address, scopes),
        "account": lambda: rotation.rotate_operator(nats.store, restart, whole=False),
        "operator": lambda: rotation.rotate_operator(nats.store, restart, whole=True),
    }
    load = Load(nats)
    async with load:
        report = await asyncio.to_thread(acts[kind])
        assert report.refused
        if kind in ("logins", "signing"):
            await refused(nats, old)
        await wait_until(lambda: console.connected, 20)
    assert await load.lost(console) == set()
    assert max(load.gaps) < 10
    if kind in ("account", "operator"):
        # Claims that the old key signs change nothing: this login would be revoked by them.
        body = claims.decode(nats.store.account_jwts()[nats.store.account])
        body["iat"] += 10
        body["nats"]["revocations"] = {"*": int(time.time()) + 60}
        await forge(nats, claims.sign(body, stolen))
        line = await Bus.connect(with_credentials(nats.address, old), name="kept", timeout_s=20)
        await line.close()


async def forge(nats: NatsServer, jwt: str) -> None:
    path = nats.directory / "claims.creds"
    path.write_text(nats.store.mint("claims", ttl=60).creds_text)
    bus = await Bus.connect(with_credentials(nats.address, path), name="forger", timeout_s=20)
    await bus.request("$SYS.REQ.CLAIMS.UPDATE", jwt.encode())
    await bus.close()


async def test_only_what_a_scope_names_is_rotated(console: Bus, nats: NatsServer) -> None:
    kept = (nats.logins.host / "sales.creds").read_text()
    scopes = rotation.choose(nats.store, ["unit.pricing"])
    report = await asyncio.to_thread(rotation.rotate_logins, nats.store, nats.logins, nats.address, scopes)
    assert report.scopes == ["unit.pricing"]
    assert (nats.logins.host / "sales.creds").read_text() == kept
    with pytest.raises(ValueError, match=r"there is no scope unit\.nowhere"):
        rotation.choose(nats.store, ["unit.nowhere"])


async def test_a_unit_that_is_founded_later_gets_a_line(console: Bus, nats: NatsServer, log_in: Open) -> None:
    assert nats.store.ensure_scopes(["founded-later"]) == ["unit.founded-later", "agent.founded-later"]
    await push_async(nats.store, nats.address)
    line = await log_in(nats.store.mint("unit", unit="founded-later"), "later")
    await line.js_publish(Outgoing("org.claytom.founded-later.metrics.state", b"{}", {"Nats-Msg-Id": "1"}))
    with pytest.raises((NoAnswerError, BusError)):
        await line.js_publish(Outgoing("org.claytom.pricing.metrics.state", b"{}", {}), timeout_s=0.3, tries=1)


def test_files_name_their_scope() -> None:
    assert File(Path("x"), "unit", "pricing").scope == "unit.pricing"
    assert File(Path("x"), "bus").scope == "bus"
