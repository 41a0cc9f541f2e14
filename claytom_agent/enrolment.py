"""The login of an agent of one's own: a token exchanged, a credential file kept, renewed at half of its life.

The key is made here and its seed never leaves this machine: the portal only signs for the public key.
"""

import asyncio
import base64
import json
import logging
import os
import random
import tempfile
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from claytom_agent.login import Login, format_credentials, with_credentials
from claytom_agent.nkeys import KeyPair, Kind

log = logging.getLogger("claytom_agent.enrolment")

PATH: Final = "/api/v1/agents/credentials/"
ANSWER_S: Final = 15.0
AGAIN_S: Final = (30.0, 120.0)


class EnrolmentError(RuntimeError):
    """The portal gives no login; the text is its sentence."""


@dataclass(frozen=True, slots=True)
class Enrolled:
    """What an agent needs to run: its address, and the URL that names server and credential file."""

    subject: str
    url: str


def enrol(portal: str, token: str, path: Path, *, subject: str = "") -> Enrolled:
    """Exchange a token at the portal's address and keep the login in the file `path` (mode 0600).

    With `subject` a token of another seat is refused. Raises `EnrolmentError`.
    """
    key = KeyPair.generate(Kind.USER)
    body = {"token": token, "public_key": key.public_key, **({"subject": subject} if subject else {})}
    answer = _post(portal, body)
    _write(path, format_credentials(answer["jwt"], key.seed))
    return Enrolled(answer["subject"], with_credentials(answer["nats_url"], path.resolve()))


def renew(portal: str, path: Path) -> datetime:
    """Get a new login for the key of a credential file, and put it there; return until when it counts.

    Raises `EnrolmentError`, or `CredentialsError` for a file that cannot be used.
    """
    content = Login(path).read()
    at = datetime.now(UTC).isoformat()
    key = content.key
    signature = base64.b64encode(key.sign(f"claytom-renew {key.public_key} {at}".encode())).decode()
    answer = _post(portal, {"public_key": key.public_key, "at": at, "signature": signature})
    _write(path, format_credentials(answer["jwt"], key.seed))
    return datetime.fromisoformat(answer["expires_at"])


async def keep(portal: str, path: Path) -> None:
    """Renew the login at half of its life, for ever; the connection takes the file at its next login."""
    while True:
        claims = Login(path).read().claims
        await asyncio.sleep(max(0.0, (claims.iat + claims.exp) / 2 - time.time()))
        try:
            until = await asyncio.to_thread(renew, portal, path)
            log.info("login renewed until %s", until)
        except EnrolmentError as error:
            log.warning("login not renewed: %s", error)
            await asyncio.sleep(random.uniform(*AGAIN_S))


def _post(portal: str, body: dict[str, str]) -> dict[str, Any]:
    if not portal.startswith(("http://", "https://")):
        raise EnrolmentError(f"the portal's address {portal!r} does not begin with http:// or https://")
    request = urllib.request.Request(  # noqa: S310 - the scheme is checked above
        portal.rstrip("/") + PATH,
        json.dumps(body).encode(),
        {"Content-Type": "application/json", "Accept": "application/json", "Accept-Language": "en"},
    )
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_S) as reply:  # noqa: S310
            answer: dict[str, Any] = json.load(reply)
            return answer
    except urllib.error.HTTPError as error:
        raise EnrolmentError(_sentence(error)) from error
    except (OSError, ValueError) as error:
        raise EnrolmentError(f"{portal} gives no answer: {error}") from error


def _sentence(error: urllib.error.HTTPError) -> str:
    text = error.read().decode(errors="replace")
    try:
        detail = json.loads(text)
    except ValueError:
        return f"the portal answers {error.code}"
    said = detail.get("detail", detail) if isinstance(detail, dict) else detail
    return str(said[0] if isinstance(said, list) and said else said)


def _write(path: Path, text: str) -> None:
    """Replace the file; a reader sees the old login or the new one."""
    descriptor, name = tempfile.mkstemp(dir=path.resolve().parent, prefix=f".{path.name}.")
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    Path(name).replace(path)
