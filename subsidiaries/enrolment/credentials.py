"""Logins of enrolled agents: minted, and revoked at the server."""

import logging
from datetime import datetime, timedelta
from urllib.parse import urlsplit

from django.conf import settings
from django.utils.translation import gettext as _

from bus.credentials import Credential, CredentialsError, KeyStore, push
from claytom_agent.nkeys import KeyFormatError, Kind, check_public_key, verify
from iam.access.rights import RefusedError

log = logging.getLogger(__name__)

LIFE = timedelta(hours=24)
PROOF_COUNTS = timedelta(seconds=60)
"""How far the time in a proof may be from ours."""


class NoMintError(RefusedError):
    """This installation cannot make or take back logins now."""


def mint(subject: str, public_key: str = "") -> Credential:
    """Make the login of an agent; with its public key the seed never leaves the agent.

    Raises RefusedError for what is no public key, NoMintError where nothing can be minted.
    """
    if public_key:
        try:
            check_public_key(public_key, Kind.USER)
        except KeyFormatError as error:
            raise RefusedError(
                _("“public_key” is no public key of a NATS user (U…, 56 characters): %(why)s.") % {"why": error}
            ) from error
    try:
        return KeyStore.load(settings.NATS_KEYS).issue_agent(subject, LIFE.total_seconds(), public_key=public_key)
    except (CredentialsError, OSError) as error:
        log.warning("no login for %s: %s", subject, error)
        raise NoMintError(
            _("This portal mints no logins: it has no keys of NATS. Its operator sets NATS_KEYS.")
        ) from error


def revoke(public_keys: list[str]) -> None:
    """Let the server refuse these logins from now on. Raises NoMintError when it could not be told."""
    try:
        store = KeyStore.load(settings.NATS_KEYS)
        store.revoke(*public_keys)
        push(store, settings.NATS_URL)
    except (CredentialsError, OSError) as error:
        raise NoMintError(str(error)) from error


def proof(public_key: str, at: datetime) -> bytes:
    """Return what the holder of a key signs, to prove that it holds it."""
    return f"claytom-renew {public_key} {at.isoformat()}".encode()


def proves(public_key: str, at: datetime, signature: bytes, now: datetime) -> bool:
    """Whether the signature was made with the key, lately."""
    if abs(now - at) > PROOF_COUNTS:
        return False
    try:
        return verify(public_key, proof(public_key, at), signature)
    except KeyFormatError:
        return False


def server_address() -> str:
    """Return the address of NATS for agents outside, without any login."""
    if settings.NATS_PUBLIC_URL:
        return str(settings.NATS_PUBLIC_URL)
    parts = urlsplit(settings.NATS_URL)
    return f"{parts.scheme or 'nats'}://{parts.hostname or 'localhost'}:{parts.port or 4222}"
