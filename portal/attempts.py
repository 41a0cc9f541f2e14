"""How often sign-in may be tried: per name and per address, counted in the cache.

An attempt is counted before it is looked at, so that many at once are no more than many in a row. When the cache
does not answer, attempts are not counted and people can still sign in; the log says so.
"""

import logging
import time
from dataclasses import dataclass
from hashlib import sha256

from django.core.cache import cache
from django.utils.translation import ngettext
from redis.exceptions import RedisError

log = logging.getLogger("portal.sign_in")

WINDOW_SECONDS = 300
MOST_PER_NAME = 5
MOST_PER_ADDRESS = 30


@dataclass(frozen=True, slots=True)
class Attempt:
    """An attempt that was counted: how long (seconds) none is looked at, 0 when this one is; and whether it is the
    last of its name, which is locked when it fails."""

    wait: int = 0
    last: bool = False


def begin(*, name: str, address: str) -> Attempt:
    """Count an attempt in the current window of time. One that is not looked at counts for its name at most."""
    try:
        by_name = _count(_name(name))
        if by_name > MOST_PER_NAME:
            return Attempt(wait=_rest())
        if _count(_address(address)) > MOST_PER_ADDRESS:
            _take_back(_name(name), _address(address))
            return Attempt(wait=_rest())
    except (RedisError, ValueError):  # ValueError: the key expired in between
        log.warning("A sign-in attempt is not limited: the cache does not answer.")
        return Attempt()
    return Attempt(last=by_name == MOST_PER_NAME)


def refusal(wait: int) -> str:
    """Return the sentence that says how long (seconds) to wait."""
    minutes = -(-wait // 60)
    sentence = ngettext(
        "Too many attempts. Try again in %(count)d minute.",
        "Too many attempts. Try again in %(count)d minutes.",
        minutes,
    )
    return sentence % {"count": minutes}


def succeed(*, name: str, address: str) -> None:
    """Forget the failures of a name whose person has signed in. The address keeps its count, but for this one."""
    forget(name=name)
    spare(address=address)


def spare(*, address: str, name: str = "") -> None:
    """Count an attempt that has not failed no more: for its address and, if given, its name."""
    try:
        _take_back(_address(address), *([_name(name)] if name else []))
    except (RedisError, ValueError):
        return


def forget(*, name: str) -> None:
    """Forget the failures of a name."""
    try:
        cache.delete(_name(name))
    except RedisError:
        return


def _count(key: str) -> int:
    cache.add(key, 0, timeout=WINDOW_SECONDS)
    return int(cache.incr(key))


def _take_back(*keys: str) -> None:
    for key in keys:
        cache.decr(key)


def _rest() -> int:
    return WINDOW_SECONDS - int(time.time()) % WINDOW_SECONDS


def _name(name: str) -> str:
    return f"sign-in/{_window()}/name/{sha256(name.casefold().encode()).hexdigest()[:32]}"


def _address(address: str) -> str:
    return f"sign-in/{_window()}/address/{sha256(address.encode()).hexdigest()[:32]}"


def _window() -> int:
    return int(time.time()) // WINDOW_SECONDS
