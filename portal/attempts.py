"""How often sign-in may be tried: per name and per address, counted in the cache.

When the cache does not answer, attempts are not counted and people can still sign in; the log says so.
"""

import logging
import time
from hashlib import sha256

from django.core.cache import cache
from django.utils.translation import ngettext
from redis.exceptions import RedisError

log = logging.getLogger("portal.sign_in")

WINDOW_SECONDS = 300
MOST_PER_NAME = 5
MOST_PER_ADDRESS = 30


def seconds_to_wait(*, name: str, address: str) -> int:
    """Return how long no further attempt is looked at, 0 when one is."""
    limits = {_name(name): MOST_PER_NAME, _address(address): MOST_PER_ADDRESS}
    try:
        counts = cache.get_many(limits)
    except RedisError:
        log.warning("Sign-in attempts are not limited: the cache does not answer.")
        return 0
    if all(count < limits[key] for key, count in counts.items()):
        return 0
    return WINDOW_SECONDS - int(time.time()) % WINDOW_SECONDS


def refusal(wait: int) -> str:
    """Return the sentence that says how long (seconds) to wait."""
    minutes = -(-wait // 60)
    sentence = ngettext(
        "Too many attempts. Try again in %(count)d minute.",
        "Too many attempts. Try again in %(count)d minutes.",
        minutes,
    )
    return sentence % {"count": minutes}


def note_failure(*, name: str, address: str) -> bool:
    """Count a failed attempt in the current window of time; return whether it is the one that locks the name."""
    counts = []
    try:
        for key in (_name(name), _address(address)):
            cache.add(key, 0, timeout=WINDOW_SECONDS)
            counts.append(cache.incr(key))
    except (RedisError, ValueError):  # ValueError: the key expired in between
        return False
    return counts[0] == MOST_PER_NAME


def forget(*, name: str) -> None:
    """Forget the failures of a name whose person has signed in. The address keeps its count."""
    try:
        cache.delete(_name(name))
    except RedisError:
        return


def _name(name: str) -> str:
    return f"sign-in/{_window()}/name/{sha256(name.casefold().encode()).hexdigest()[:32]}"


def _address(address: str) -> str:
    return f"sign-in/{_window()}/address/{sha256(address.encode()).hexdigest()[:32]}"


def _window() -> int:
    return int(time.time()) // WINDOW_SECONDS
