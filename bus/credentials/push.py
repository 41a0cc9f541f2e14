"""Tell a running server of changed account claims: revocations and signing keys count from then on."""

import asyncio
import contextlib
import json
from concurrent.futures import ThreadPoolExecutor

import nats.errors
from nats.aio.client import Client

from bus.credentials.keystore import Credential, KeyStore
from bus.credentials.permissions import CLAIMS
from claytom_agent.login import CredentialsError, parse_credentials, split_url

SUBJECT = "$SYS.REQ.CLAIMS.UPDATE"


def push(store: KeyStore, url: str, *, login: Credential | None = None, timeout_s: float = 10.0) -> None:
    """Hand the accounts' claims to the server at `url` and wait until it has taken them.

    `login` is a `for_push` of before, when the server does not know the present key of such logins yet. Raises
    `CredentialsError` if the server cannot be reached, refuses, or does not answer; the claims are kept in the
    store and can be pushed again.
    """
    with ThreadPoolExecutor(1) as executor:  # the caller may have an event loop of its own
        executor.submit(asyncio.run, push_async(store, url, login=login, timeout_s=timeout_s)).result()


def for_push(store: KeyStore) -> Credential:
    """Make a login that may push claims, for a minute."""
    return store.mint(CLAIMS, name="push", ttl=60)


async def push_async(
    store: KeyStore, url: str, *, login: Credential | None = None, timeout_s: float = 10.0
) -> None:
    """Do as `push` does, in the caller's event loop."""
    server, _ = split_url(url)
    content = parse_credentials((login or for_push(store)).creds_text)
    client = Client()
    last = ""

    async def note(error: Exception) -> None:
        nonlocal last
        last = str(error)

    try:
        async with asyncio.timeout(timeout_s):
            await client.connect(
                server,
                name="portal:claims",
                inbox_prefix=content.claims.inbox_prefix,
                user_jwt_cb=lambda: bytearray(content.jwt.encode()),
                signature_cb=lambda nonce: content.sign(nonce).encode(),
                error_cb=note,
            )
            for key, jwt in store.account_jwts().items():
                reply = await client.request(SUBJECT, jwt.encode(), timeout=timeout_s)
                answer = json.loads(reply.data)
                if "error" in answer:
                    raise CredentialsError(f"NATS refuses the claims of {key}: {answer['error']}")
    except (OSError, nats.errors.Error, TimeoutError) as error:
        if isinstance(error, CredentialsError):
            raise
        raise CredentialsError(
            f"the claims did not reach NATS at {server}: {last or error or 'no answer'}"
        ) from error
    finally:
        with contextlib.suppress(Exception):
            await client.close()
