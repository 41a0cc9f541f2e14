"""A rate limit kept in the memory of one process."""

import time
from collections.abc import Callable, Hashable
from typing import Final

MAX_KEYS: Final = 10_000


class Throttle:
    """Token buckets: each key may do `burst` at once and `per_second` in the long run."""

    def __init__(self, *, burst: float, per_second: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._burst = burst
        self._per_second = per_second
        self._clock = clock
        self._buckets: dict[Hashable, tuple[float, float]] = {}

    def admit(self, key: Hashable) -> bool:
        """Say whether one more is allowed for `key` now, and count it if so."""
        now = self._clock()
        if len(self._buckets) >= MAX_KEYS and key not in self._buckets:
            self._forget_full(now)
        left, at = self._buckets.get(key, (self._burst, now))
        left = min(self._burst, left + (now - at) * self._per_second)
        self._buckets[key] = (max(left - 1, 0) if left >= 1 else left, now)
        return left >= 1

    def _forget_full(self, now: float) -> None:
        """Drop buckets that are full again; if hostile keys keep all of them in use, begin anew."""
        full = [
            key for key, (left, at) in self._buckets.items() if left + (now - at) * self._per_second >= self._burst
        ]
        for key in full:
            del self._buckets[key]
        if not full:
            self._buckets.clear()
