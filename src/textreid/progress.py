"""How far a long task is, its rate and the time left: a line on standard error now and then."""

import sys
import time

_EVERY = 10.0  # seconds between lines


class Countdown:
    """Call it with what is done and what there is in all; a task that is short says nothing."""

    def __init__(self, task: str) -> None:
        self._task = task
        self._start = self._spoken = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        """Say how far it is, if the last time was a while ago."""
        now = time.monotonic()
        if now - self._spoken < _EVERY or done == total:
            return
        self._spoken = now
        rate = done / (now - self._start)
        left = (total - done) / rate
        sys.stderr.write(f"{self._task}: {done:,} of {total:,} images, {rate:,.0f} a second, {left:,.0f} s left\n")
