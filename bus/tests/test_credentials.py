"""The commands for credentials, as an operator meets them."""

import asyncio
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command

from audit.models import LedgerEntry
from bus.credentials import KeyStore, Logins
from claytom_agent.client import Bus, LoginRefusedError
from claytom_agent.login import Login, with_credentials
from tests.servers import SERVERS

pytestmark = pytest.mark.django_db


def say(*arguments: Any, **options: Any) -> str:
    out = StringIO()
    call_command(*arguments, stdout=out, **options)
    return out.getvalue()


async def is_refused(path: Path) -> bool:
    try:
        bus = await Bus.connect(with_credentials(SERVERS.console, path), name="test", timeout_s=20)
    except LoginRefusedError:
        return True
    await bus.close()
    return False


def entries(action: str) -> list[tuple[str, str]]:
    found = LedgerEntry.objects.filter(action=action).order_by("pk")
    return [(entry.actor, entry.object) for entry in found]


def test_a_revocation_is_refused_at_once_and_entered_twice(nats_url: str, tmp_path: Path) -> None:
    credential = KeyStore.load(settings.NATS_KEYS).issue_agent("org.claytom.pricing.operator.op-0042-g1")
    path = tmp_path / "agent.creds"
    path.write_text(credential.creds_text)
    assert not asyncio.run(is_refused(path))
    said = say("rotate_credentials", revoke=[credential.public_key], actor="test")
    assert said.startswith("revoke: 1 refused")
    assert asyncio.run(is_refused(path))
    assert entries("credentials.revoke") == [("test", "nats/revoke")] * 2


def test_the_logins_of_one_scope_are_replaced(nats_url: str, tmp_path: Path) -> None:
    logins = Logins(KeyStore.load(settings.NATS_KEYS))
    current = logins.host / "sales.creds"
    old = tmp_path / "old.creds"
    old.write_bytes(current.read_bytes())
    assert "logins: 1 refused, 1 files" in say("rotate_credentials", kind=["logins"], scope=["unit.sales"])
    assert asyncio.run(is_refused(old))
    assert not asyncio.run(is_refused(current))
    assert entries("credentials.rotate") == [("operator", "nats/logins")] * 2


def test_a_failed_act_is_in_the_ledger_too(nats_url: str) -> None:
    with pytest.raises(CommandError, match="cannot be revoked"):
        say("rotate_credentials", revoke=["UNOTAKEY"])
    assert len(entries("credentials.revoke")) == 2


@pytest.mark.parametrize(
    ("options", "sentence"),
    [({}, "Say what"), ({"kind": ["logins"], "scope": ["unit.nowhere"]}, "there is no scope")],
)
def test_a_wrong_wish_is_told(nats_url: str, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(CommandError, match=sentence):
        say("rotate_credentials", **options)


def test_a_machine_gets_the_logins_of_its_units_only(nats_url: str, tmp_path: Path) -> None:
    say("export_credentials", tmp_path / "out", name="second", unit=["pricing"], days=2.0)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["_host.creds", "pricing.creds"]
    claims = Login(tmp_path / "out" / "pricing.creds").read().claims
    assert (claims.name, claims.exp - claims.iat) == ("second", 2 * 86_400)
    assert entries("credentials.export") == [("operator", "nats/host/second")]
    with pytest.raises(CommandError, match="There is no unit nowhere"):
        say("export_credentials", tmp_path / "other", name="second", unit=["nowhere"])


def test_keys_of_new_units_are_told_to_the_server(nats_url: str) -> None:
    assert "2 keys added, 1 logins renewed" in say("ensure_credentials", "founded")
    assert not asyncio.run(is_refused(Logins(KeyStore.load(settings.NATS_KEYS)).host / "founded.creds"))
    assert "0 keys added, 0 logins renewed" in say("ensure_credentials", "founded")
