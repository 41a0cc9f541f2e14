"""JWTs of NATS: what an operator says of itself, of an account, and an account of its users.

Three levels, each signed by the one above: the operator (trusted by the server's configuration), accounts, users.
An account names *scoped* signing keys, each with a template of permissions: a user that such a key signed has
exactly these, and its own JWT must state none.
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from bus.credentials.permissions import Permissions
from claytom_agent.nkeys import KeyPair

_HEADER: Final = {"typ": "JWT", "alg": "ed25519-nkey"}
_UNLIMITED: Final = {
    **dict.fromkeys(("subs", "data", "payload", "imports", "exports", "conn", "leaf"), -1),
    "wildcards": True,
}
_JETSTREAM: Final = dict.fromkeys(("mem_storage", "disk_storage", "streams", "consumer", "max_ack_pending"), -1)
ANSWER_NS: Final = 60_000_000_000
"""How long a responder may answer a request, in nanoseconds."""


def _part(value: Any) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(value)).rstrip(b"=").decode()


def sign(claims: Mapping[str, Any], key: KeyPair) -> str:
    """Return the JWT of these claims, issued by `key`."""
    body = {**claims, "iss": key.public_key, "jti": ""}
    body["jti"] = base64.b32encode(hashlib.sha256(msgspec.json.encode(body)).digest()).rstrip(b"=").decode()
    signed = f"{_part(_HEADER)}.{_part(body)}"
    return f"{signed}.{base64.urlsafe_b64encode(key.sign(signed.encode())).rstrip(b'=').decode()}"


def decode(jwt: str) -> dict[str, Any]:
    """Read the claims of a JWT of our own making, without checking the signature."""
    body = jwt.split(".")[1]
    claims: dict[str, Any] = msgspec.json.decode(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    return claims


def operator_claims(*, key: str, name: str, signing_keys: Sequence[str], system: str, at: int) -> dict[str, Any]:
    """Claims of the operator: the keys that may sign accounts in its name, and the system account."""
    return {
        "sub": key,
        "name": name,
        "iat": at,
        "nats": {
            "signing_keys": list(signing_keys),
            "system_account": system,
            "type": "operator",
            "version": 2,
        },
    }


def account_claims(*, key: str, name: str, jetstream: bool, at: int) -> dict[str, Any]:
    """Claims of an account without signing keys yet."""
    return {
        "sub": key,
        "name": name,
        "iat": at,
        "nats": {
            "limits": {**_UNLIMITED, **(_JETSTREAM if jetstream else {})},
            "signing_keys": [],
            "revocations": {},
            "default_permissions": {"pub": {}, "sub": {}},
            "type": "account",
            "version": 2,
        },
    }


def scoped_key(key: str, scope: str, permissions: Permissions) -> dict[str, Any]:
    """One entry of an account's `signing_keys`."""
    template: dict[str, Any] = {
        "pub": _rule(permissions.publish, permissions.not_publish),
        "sub": _rule(permissions.subscribe, permissions.not_subscribe),
        **dict.fromkeys(("subs", "data", "payload"), -1),
    }
    if permissions.answers:
        template["resp"] = {"max": 1, "ttl": ANSWER_NS}
    return {"kind": "user_scope", "key": key, "role": scope, "template": template}


def _rule(allow: Sequence[str], deny: Sequence[str]) -> dict[str, list[str]]:
    # Nothing allowed would mean that all is: an empty list is no rule for the server.
    return {"allow": list(allow)} | ({"deny": list(deny)} if deny else {}) if allow else {"deny": [">"]}


def user_claims(
    *, key: str, account: str, name: str, tags: Mapping[str, str], issued: int, expires: int
) -> dict[str, Any]:
    """Claims of a user under a scoped key; times are Unix seconds."""
    return {
        "sub": key,
        "name": name,
        "iat": issued,
        "exp": expires,
        "nats": {
            "issuer_account": account,
            "tags": [f"{name}:{value}" for name, value in tags.items() if value],
            "type": "user",
            "version": 2,
        },
    }
