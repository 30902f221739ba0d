"""How often somebody may ask: a bucket of permits that fills at a steady rate."""

import threading
import time
from collections.abc import Callable

_MOST_KEYS = 10_000


class RateLimit:
    """Permits at a steady rate for each of many, with some in advance.

    Args:
        rate: permits a second.
        burst: so many at once, of who has not asked for a while.
        clock: seconds that never go back.
    """

    def __init__(self, rate: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._burst, self._clock = rate, burst, clock
        self._lock = threading.Lock()
        self._permits: dict[str, tuple[float, float]] = {}

    def take(self, key: str) -> float:
        """Take a permit; returns 0, or the seconds until there is one."""
        with self._lock:
            permits, now = self._permits_of(key)
            if permits < 1:
                return (1 - permits) / self._rate
            self._permits.pop(key, None)  # so that the first key is always the one that was not used for longest
            self._permits[key] = (permits - 1, now)
            if len(self._permits) > _MOST_KEYS:
                del self._permits[next(iter(self._permits))]
            return 0.0

    def wait(self, key: str) -> float:
        """Return 0 if there is a permit, or the seconds until there is one; takes none."""
        with self._lock:
            permits, _ = self._permits_of(key)
            return 0.0 if permits >= 1 else (1 - permits) / self._rate

    def _permits_of(self, key: str) -> tuple[float, float]:
        now = self._clock()
        permits, then = self._permits.get(key, (self._burst, now))
        return min(self._burst, permits + (now - then) * self._rate), now
