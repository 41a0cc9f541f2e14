"""The keys of an installation, and what is minted with them.

A directory, mode 0700, with three parts that may lie on three machines:

    operator/   the operator's key and signing key and the accounts' identities: needed to sign account claims only
    signing/    one scoped key for each kind of process and for each unit: needed to mint logins
    accounts/   the operator's and the accounts' JWTs, not secret: signing keys and revocations are kept in them

Several processes may use it at once; whoever changes something holds a lock.
"""

import contextlib
import fcntl
import os
import tempfile
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Self

from bus.credentials import claims, permissions
from bus.credentials.permissions import AGENT, CONSOLE, HOST, PORTAL_KINDS, SYSTEM_KINDS, UNIT
from claytom_agent.login import CredentialsError, format_credentials, inbox_prefix
from claytom_agent.nkeys import KeyFormatError, KeyPair, Kind, check_public_key
from claytom_agent.subjects import CORPORATE, AgentAddress, check_subsidiary, parse_address

ACCOUNT, SYSTEM = "CLAYTOM", "SYS"
LIFE_S: Final = 24 * 3600
"""How long a login lives; it is renewed at half of it."""
LONGEST_S: Final = 90 * 24 * 3600
"""No login lives longer, so a revocation can be forgotten after this time."""
CLOCK_SKEW_S: Final = 60
OF_KINDS: Final = (HOST, *PORTAL_KINDS, CONSOLE)


@dataclass(frozen=True, slots=True)
class Credential:
    """A login: who it is for, the secret that proves it, and the file that holds both."""

    jwt: str
    seed: str
    public_key: str
    expires_at: datetime
    kind: str
    inbox_prefix: str

    @property
    def creds_text(self) -> str:
        """The content of a credential file, as every NATS client reads it."""
        return format_credentials(self.jwt, self.seed)

    def __repr__(self) -> str:
        return f"Credential({self.kind}, {self.public_key}, until {self.expires_at:%Y-%m-%d %H:%M})"


class KeyStore:
    """Made by `create` (once) or `load`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._revoked: dict[str, tuple[tuple[int, int], Collection[str]]] = {}

    # -- the store ------------------------------------------------------------------------------------------

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Open the keys of an installation. Raises `CredentialsError` if there are none."""
        store = cls(Path(path))
        if not store._account_file(ACCOUNT).exists():
            raise CredentialsError(f"{path} holds no keys: `manage.py up` makes them, or set NATS_KEYS")
        return store

    @classmethod
    def create(cls, path: str | Path, *, units: Iterable[str] = ()) -> Self:
        """Make the keys of a new installation, or add what is missing of an existing one."""
        store = cls(Path(path))
        for part in ("", "operator", "signing", "accounts"):
            (store.path / part).mkdir(mode=0o700, parents=True, exist_ok=True)
        with store._locked():
            operator = store._seed("operator/operator", Kind.OPERATOR)
            store._seed("operator/signing", Kind.OPERATOR)
            system = store._seed(f"operator/{SYSTEM}", Kind.ACCOUNT).public_key
            account = store._seed(f"operator/{ACCOUNT}", Kind.ACCOUNT).public_key
            if not store._operator_file.exists():
                store._sign_operator(operator)
            for name, key, jetstream in ((SYSTEM, system, False), (ACCOUNT, account, True)):
                if not store._account_file(name).exists():
                    store._sign_account(name, claims.account_claims(key=key, name=name, jetstream=jetstream, at=0))
        store.ensure_scopes(units)
        return store

    @cached_property
    def account(self) -> str:
        """The public key of the account CLAYTOM, which never changes."""
        return str(self._account(ACCOUNT)["sub"])

    @cached_property
    def system_account(self) -> str:
        """The public key of the system account, which never changes."""
        return str(self._account(SYSTEM)["sub"])

    @property
    def operator_jwt(self) -> str:
        """What the server's configuration trusts."""
        return self._operator_file.read_text().strip()

    def account_jwts(self) -> Mapping[str, str]:
        """The accounts' claims by public key, the system account first."""
        jwts = [self._account_file(name).read_text().strip() for name in (SYSTEM, ACCOUNT)]
        return {claims.decode(jwt)["sub"]: jwt for jwt in jwts}

    def ensure_scopes(self, units: Iterable[str] = ()) -> list[str]:
        """Make the scoped keys that are missing, and bring the templates of all to this version's permissions.

        Returns the scopes that were added or changed; then the claims are to be pushed to a running server.
        """
        known = {scope.partition(".")[2] for scope in self.scopes() if scope.startswith(f"{UNIT}.")}
        every = sorted(
            {*known, CORPORATE, *(unit if unit == CORPORATE else check_subsidiary(unit) for unit in units)}
        )
        wanted = {
            ACCOUNT: [*OF_KINDS, *(f"{kind}.{unit}" for unit in every for kind in (UNIT, AGENT))],
            SYSTEM: list(SYSTEM_KINDS),
        }
        changed: list[str] = []
        with self._locked():
            for name, scopes in wanted.items():
                account = self._account(name)
                have = {entry["key"]: entry for entry in account["nats"]["signing_keys"]}
                before = dict(have)
                for scope in scopes:
                    self._seed(f"signing/{scope}", Kind.ACCOUNT)
                    key = self._current(scope)
                    for public in {key, *(k for k, entry in have.items() if entry["role"] == scope)}:
                        have[public] = self._entry(public, scope)
                    if have[key] != before.get(key):
                        changed.append(scope)
                if changed and have != before:
                    account["nats"]["signing_keys"] = list(have.values())
                    self._sign_account(name, account)
        return changed

    def scopes(self) -> list[str]:
        """The scopes that have a key: kinds, `unit.<unit>` and `agent.<unit>`."""
        return sorted(path.stem for path in self._signing.glob("*.seed"))

    # -- minting --------------------------------------------------------------------------------------------

    def mint(
        self,
        kind: str,
        *,
        unit: str = "",
        name: str = "",
        role: str = "",
        ttl: float = LIFE_S,
        public_key: str = "",
    ) -> Credential:
        """Make a login of a kind: `unit` (a host's line), `host`, `agent`, or a process of the portal.

        `name` tells one bearer from another of the same kind; `ttl` is in seconds. With `public_key` it is for
        a key whose seed the bearer keeps to itself, and has none. Raises `CredentialsError` when there is no key of
        that scope, and ValueError for a time that is not positive or too long.
        """
        if not 0 < ttl <= LONGEST_S:
            raise ValueError(f"a login lives from 1 second to {LONGEST_S // 86_400} days, not {ttl:g} s")
        scope = f"{kind}.{unit}" if kind in (UNIT, AGENT) else kind
        signing = self._read_seed(f"signing/{scope}")
        key = None if public_key else KeyPair.generate(Kind.USER)
        bearer = check_public_key(public_key, Kind.USER) if key is None else key.public_key
        now = int(time.time())
        body = claims.user_claims(
            key=bearer,
            account=self.system_account if kind in SYSTEM_KINDS else self.account,
            name=name or unit or kind,
            tags={"kind": kind, "unit": unit, "role": role},
            issued=now,
            expires=now + max(1, int(ttl)),
        )
        return Credential(
            jwt=claims.sign(body, signing),
            seed="" if key is None else key.seed,
            public_key=bearer,
            expires_at=datetime.fromtimestamp(body["exp"], UTC),
            kind=kind,
            inbox_prefix=inbox_prefix(kind, unit, role, str(body["name"])),
        )

    def issue_agent(self, subject: str, ttl: float = LIFE_S, *, public_key: str = "") -> Credential:
        """Make the login of one external agent, named by its full subject, limited to what is its own.

        Raises `SubjectError` for what is no address, `CredentialsError` for a unit without a key.
        """
        address = parse_address(subject)
        if isinstance(address, AgentAddress):
            unit, role, name = address.subsidiary, address.role, str(address.id)
        else:
            unit, role, name = CORPORATE, address.body, address.seat
        return self.mint(AGENT, unit=unit, name=name, role=role, ttl=ttl, public_key=public_key)

    # -- taking back ----------------------------------------------------------------------------------------

    def revoke(self, *public_keys: str) -> None:
        """Refuse these users from now on; push the claims to let the server know.

        Raises `CredentialsError` for what is not a user's public key.
        """
        now = int(time.time())
        with self._locked():
            for name in (ACCOUNT, SYSTEM):
                account = self._account(name)
                revoked = account["nats"].setdefault("revocations", {})
                for key in [key for key, at in revoked.items() if at < now - LONGEST_S - CLOCK_SKEW_S]:
                    del revoked[key]  # no login of that time can still be alive
                for key in public_keys:
                    revoked[_user_key(key)] = now
                self._sign_account(name, account)

    def is_revoked(self, public_key: str) -> bool:
        """Whether a user was revoked."""
        return any(public_key in self._revocations(name) for name in (ACCOUNT, SYSTEM))

    # -- rotating -------------------------------------------------------------------------------------------

    def replace_signing_keys(self, scopes: Iterable[str]) -> list[str]:
        """Add a new key for each scope, with which is minted from now on; return the old public keys.

        Logins under an old one stay good until `drop_old_keys`. Raises `CredentialsError` for an unknown scope.
        """
        old: list[str] = []
        with self._locked():
            for name in (ACCOUNT, SYSTEM):
                mine = [scope for scope in scopes if (scope in SYSTEM_KINDS) == (name == SYSTEM)]
                new = {scope: KeyPair.generate(Kind.ACCOUNT) for scope in mine}
                old += [self._current(scope) for scope in mine]
                account = self._account(name)
                account["nats"]["signing_keys"] += [self._entry(new[s].public_key, s) for s in mine]
                if mine:
                    self._sign_account(name, account)
                # Only now: a login that is minted with a key must find it in the claims.
                for scope, key in new.items():
                    write_private(self._signing / f"{scope}.seed", key.seed)
        return old

    def drop_old_keys(self, scopes: Iterable[str]) -> int:
        """Refuse whatever an older key of these scopes signed; return how many keys were dropped."""
        wanted, dropped = set(scopes), 0
        with self._locked():
            for name in (ACCOUNT, SYSTEM):
                account = self._account(name)
                keys = account["nats"]["signing_keys"]
                kept = [e for e in keys if e["role"] not in wanted or e["key"] == self._current(e["role"])]
                if len(kept) < len(keys):
                    dropped += len(keys) - len(kept)
                    account["nats"]["signing_keys"] = kept
                    self._sign_account(name, account)
        return dropped

    def replace_operator_signing_key(self) -> list[str]:
        """Sign the accounts with a new key of the operator's; return the old public key.

        The server trusts it after it has read its configuration anew.
        """
        with self._locked():
            old = self._read_seed("operator/signing").public_key
            write_private(self.path / "operator/signing.seed", KeyPair.generate(Kind.OPERATOR).seed)
            self._sign_operator(self._read_seed("operator/operator"))
            for name in (SYSTEM, ACCOUNT):
                self._sign_account(name, self._account(name))
        return [old]

    def replace_operator(self) -> list[str]:
        """Put a new operator in the place of the old; return the old public keys.

        Accounts keep their identity, and with it their streams. The server trusts it after it has read its
        configuration anew.
        """
        with self._locked():
            old = [self._read_seed(f"operator/{name}").public_key for name in ("operator", "signing")]
            key = KeyPair.generate(Kind.OPERATOR)
            write_private(self.path / "operator/operator.seed", key.seed)
            write_private(self.path / "operator/signing.seed", KeyPair.generate(Kind.OPERATOR).seed)
            self._sign_operator(key)
            for name in (SYSTEM, ACCOUNT):
                self._sign_account(name, self._account(name))
        return old

    def is_current(self, jwt: str) -> bool:
        """Whether a login was signed by the present key of its scope, and is not revoked."""
        body = claims.decode(jwt)
        kind, unit = (_tag(body, name) for name in ("kind", "unit"))
        try:
            current = self._current(f"{kind}.{unit}" if kind in (UNIT, AGENT) else kind)
        except CredentialsError:
            return False
        return bool(body["iss"] == current) and not self.is_revoked(str(body["sub"]))

    # -- files ----------------------------------------------------------------------------------------------

    @property
    def _signing(self) -> Path:
        return self.path / "signing"

    @property
    def _operator_file(self) -> Path:
        return self.path / "accounts" / "operator.jwt"

    def _account_file(self, name: str) -> Path:
        return self.path / "accounts" / f"{name}.jwt"

    def _account(self, name: str) -> dict[str, Any]:
        return claims.decode(self._account_file(name).read_text().strip())

    def _revocations(self, name: str) -> Collection[str]:
        """The revoked users; read again only when the file has changed, since it is asked for each login."""
        status = self._account_file(name).stat()
        stamp = (status.st_mtime_ns, status.st_ino)
        known = self._revoked.get(name)
        if known is None or known[0] != stamp:
            known = self._revoked[name] = (stamp, frozenset(self._account(name)["nats"].get("revocations", {})))
        return known[1]

    def _entry(self, key: str, scope: str) -> dict[str, Any]:
        kind, _, unit = scope.partition(".")
        return claims.scoped_key(key, scope, permissions.of_scope(kind, unit, self.account))

    def _current(self, scope: str) -> str:
        return self._read_seed(f"signing/{scope}").public_key

    def _read_seed(self, name: str) -> KeyPair:
        path = self.path / f"{name}.seed"
        try:
            return KeyPair.from_seed(path.read_text())
        except FileNotFoundError:
            raise CredentialsError(f"there is no key {path.name} in {path.parent}") from None
        except KeyFormatError as error:
            raise CredentialsError(f"{path}: {error}") from error

    def _seed(self, name: str, kind: Kind) -> KeyPair:
        if not (self.path / f"{name}.seed").exists():
            write_private(self.path / f"{name}.seed", KeyPair.generate(kind).seed)
        return self._read_seed(name)

    def _sign_operator(self, operator: KeyPair) -> None:
        body = claims.operator_claims(
            key=operator.public_key,
            name="ClayTomSystems Holding",
            signing_keys=[self._read_seed("operator/signing").public_key],
            system=self._read_seed(f"operator/{SYSTEM}").public_key,
            at=int(time.time()),
        )
        write_private(self._operator_file, claims.sign(body, operator))

    def _sign_account(self, name: str, body: dict[str, Any]) -> None:
        # Never the same second twice: of two claims of one time a server may keep the first.
        body["iat"] = max(int(time.time()), body["iat"] + 1)
        write_private(self._account_file(name), claims.sign(body, self._read_seed("operator/signing")))

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _tag(body: Mapping[str, Any], name: str) -> str:
    tags = (str(tag).partition(":") for tag in body["nats"].get("tags", ()))
    return next((value for key, _, value in tags if key == name), "")


def _user_key(text: str) -> str:
    try:
        return check_public_key(text.strip(), Kind.USER)
    except KeyFormatError as error:
        raise CredentialsError(f"{text[:60]!r} cannot be revoked: {error}") from error


def write_private(path: Path, text: str) -> None:
    """Replace a file by one of mode 0600; a reader sees the old text or the new, never half of it."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(descriptor, "w") as file:
        file.write(text if text.endswith("\n") else text + "\n")
        file.flush()
        os.fsync(file.fileno())
    Path(name).replace(path)
