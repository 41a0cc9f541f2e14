"""Replace what logs in: logins, the keys that sign them, the operator above. No message is lost by it.

Each step first makes the new good everywhere, then refuses the old. A process whose login is refused reads its file
again and is back within a fraction of a second; what it had not yet sent waits with it.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from bus.credentials.keystore import KeyStore
from bus.credentials.logins import File, Logins
from bus.credentials.permissions import AGENT
from bus.credentials.push import for_push, push


@dataclass(frozen=True, slots=True)
class Report:
    """What a rotation did: names of scopes, and public keys that are refused from now on."""

    kind: str
    scopes: list[str]
    refused: list[str]
    written: list[str] = field(default_factory=list)


def choose(store: KeyStore, wanted: Collection[str]) -> list[str]:
    """Return the scopes that a list names: a scope (`unit.pricing`, `bus`), a kind (`unit`), or none for all.

    Raises ValueError for a name that is no scope.
    """
    scopes = store.scopes()
    if not wanted:
        return scopes
    unknown = [name for name in wanted if not any(name in (scope, scope.partition(".")[0]) for scope in scopes)]
    if unknown:
        raise ValueError(f"there is no scope {', '.join(unknown)}; there are {', '.join(scopes)}")
    return [scope for scope in scopes if scope in wanted or scope.partition(".")[0] in wanted]


def rotate_logins(store: KeyStore, logins: Logins, url: str, scopes: Collection[str]) -> Report:
    """Write new credential files and refuse the users of the old ones.

    Logins that were handed out (external agents, other machines) are in no file here: `rotate_signing_keys` or
    `revoke` is for them.
    """
    files = _files(logins, scopes)
    old = logins.public_keys(files)
    for file in files:
        logins.write(file)
    store.revoke(*old)
    push(store, url)
    return Report("logins", sorted({file.scope for file in files}), old, [str(file.path) for file in files])


def rotate_signing_keys(
    store: KeyStore,
    logins: Logins,
    url: str,
    scopes: Collection[str],
    *,
    meanwhile: Callable[[], None] = lambda: None,
) -> Report:
    """Sign with new keys and refuse whatever the old ones signed, wherever it is.

    `meanwhile` is called when both are good: a pause in which others can fetch new logins.
    """
    known = for_push(store)  # its key may be among those that the server has yet to hear of
    old = store.replace_signing_keys(scopes)
    push(store, url, login=known)
    files = _files(logins, scopes)
    for file in files:
        logins.write(file)
    meanwhile()
    store.drop_old_keys(scopes)
    push(store, url)
    return Report("signing", sorted(scopes), old, [str(file.path) for file in files])


def rotate_operator(store: KeyStore, restart: Callable[[], None], *, whole: bool) -> Report:
    """Sign accounts with a new key of the operator's, or (`whole`) put a new operator in place of the old.

    Accounts keep their identity and their streams. A server reads whom it trusts only when it starts: `restart`
    must bring it back with its new configuration.
    """
    old = store.replace_operator() if whole else store.replace_operator_signing_key()
    restart()
    return Report("operator" if whole else "account", [], old)


def revoke(store: KeyStore, url: str, public_keys: Collection[str]) -> Report:
    """Refuse single users: live connections are cut, new ones refused."""
    store.revoke(*public_keys)
    push(store, url)
    return Report("revoke", [], sorted(public_keys))


def handed_out(scopes: Collection[str]) -> bool:
    """Whether logins of these scopes are held by agents outside, who must enrol again after a rotation."""
    return any(scope.partition(".")[0] == AGENT for scope in scopes)


def _files(logins: Logins, scopes: Collection[str]) -> list[File]:
    return [file for file in logins.files() if file.scope in scopes]
