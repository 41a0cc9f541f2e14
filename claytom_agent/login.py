"""How a process logs in to NATS: with a credential file, or with the user and password of a URL.

A credential file holds a user JWT and the seed that proves whose it is. It is named by the URL,
`nats://host:4222?creds=/path/bus.creds`, so that whoever passes a URL on passes the login on, and it is read anew
at each login: who renews the file needs to tell nobody.
"""

import base64
import binascii
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, quote, urlsplit

import msgspec

from claytom_agent.nkeys import KeyFormatError, KeyPair

PARAMETER: Final = "creds"
_SECTION: Final = re.compile(r"-----BEGIN ([A-Z ]+)-----\s*(\S+)\s*-+END \1-+")


class CredentialsError(OSError):
    """A credential cannot be used; the text names the file and the reason."""


class Claims(msgspec.Struct, frozen=True):
    """What a user JWT says of its bearer; times are Unix seconds, 0 for never."""

    sub: str
    iss: str = ""
    name: str = ""
    iat: int = 0
    exp: int = 0
    nats: dict[str, Any] = {}

    @property
    def account(self) -> str:
        """The public key of the account that the user belongs to."""
        return str(self.nats.get("issuer_account") or self.iss)

    def tag(self, name: str) -> str:
        """The value of the tag `name:value`, or ""."""
        for tag in self.nats.get("tags", ()):
            key, _, value = str(tag).partition(":")
            if key == name:
                return value
        return ""

    @property
    def inbox_prefix(self) -> str:
        """The only inboxes that this user may read."""
        return inbox_prefix(self.tag("kind"), self.tag("unit"), self.tag("role"), self.name)


def inbox_prefix(kind: str, unit: str = "", role: str = "", name: str = "") -> str:
    """Return where a user gets its answers. Units have no underscore, so no two of these are equal."""
    if kind == "unit":
        return f"_INBOX_{unit}"
    if kind == "agent":
        return f"_INBOX_{unit}_{role}_{name}"
    return f"_INBOX__{kind}_{name}"


def decode_claims(jwt: str) -> Claims:
    """Read a user JWT without checking its signature, which is the server's to do. Raises `ValueError`."""
    body = jwt.split(".")[1:2]
    if not body:
        raise ValueError("this is not a JWT")
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(body[0] + "=" * (-len(body[0]) % 4)), type=Claims)
    except (binascii.Error, msgspec.DecodeError) as error:
        raise ValueError(f"this is not a JWT of NATS: {error}") from error


@dataclass(frozen=True, slots=True)
class Content:
    """What a credential file holds."""

    jwt: str
    key: KeyPair

    @property
    def claims(self) -> Claims:
        """What the JWT says."""
        return decode_claims(self.jwt)

    def sign(self, nonce: str) -> str:
        """Answer the server's challenge."""
        return base64.b64encode(self.key.sign(nonce.encode())).decode()


def parse_credentials(text: str) -> Content:
    """Read the text of a credential file. Raises `ValueError`."""
    sections = dict(_SECTION.findall(text))
    try:
        jwt, seed = sections["NATS USER JWT"], sections["USER NKEY SEED"]
    except KeyError as error:
        raise ValueError(f"the section {error} is missing") from None
    decode_claims(jwt)
    return Content(jwt, KeyPair.from_seed(seed))


def format_credentials(jwt: str, seed: str) -> str:
    """Write a credential file as every NATS client reads it."""
    return (
        f"-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    )


@dataclass(frozen=True, slots=True)
class Login:
    """A credential file, read at each use."""

    path: Path

    def read(self) -> Content:
        """Return what the file holds now. Raises `CredentialsError`."""
        try:
            return parse_credentials(self.path.read_text())
        except (OSError, ValueError, KeyFormatError) as error:
            reason = getattr(error, "strerror", None) or error
            raise CredentialsError(f"credential {self.path} cannot be used: {reason}") from error

    def jwt(self) -> bytearray:
        """Return the JWT for nats-py, which asks at each login."""
        return bytearray(self.read().jwt.encode())

    def answer(self, nonce: str) -> bytes:
        """Answer the server's challenge for nats-py, which asks at each login."""
        return self.read().sign(nonce).encode()


def split_url(url: str) -> tuple[str, Path | None]:
    """Return the URL of the server, and the credential file or directory that the URL names (else None)."""
    parts = urlsplit(url)
    named = parse_qs(parts.query).get(PARAMETER, [])
    return parts._replace(query="").geturl(), Path(named[0]) if named else None


def with_credentials(url: str, path: str | Path | None) -> str:
    """Name a credential file or directory in a URL; without a path return the URL as it is."""
    if not url or not path:
        return url
    server, _ = split_url(url)
    return f"{server}?{PARAMETER}={quote(str(path))}"
