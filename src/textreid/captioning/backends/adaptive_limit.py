"""How many requests to keep under way at a server whose capacity is not known.

A hill climb on throughput, with the multiplicative retreat of AIMD when the server says that it is too much. By
Little's law the throughput at a limit is ``limit / latency``; a larger limit is kept if it raised the throughput,
a smaller one if it did not lower it, so the limit settles where more requests would only wait in the server's queue.
Latency alone would not do: on a server that batches, it grows long before the throughput stops growing.
"""

import math

_LARGEST_STEP, _BOLD_STEP, _SMALLEST_STEP = 2.0, 1.4, 1.05
_FEW, _MANY = 16, 64  # answers that a decision on a large and on a small step waits for, at least
_PATIENCE = 32  # most rounds at rest between two trials
_RETREAT = 0.8
_USEFUL = 0.25  # growth of throughput, as a share of the growth of the limit, that is worth having
_CHANGED = 1.25  # ratio of two rounds' latencies at one limit that is no accident
_HANGING = 0.1  # share of the limit whose time-outs count as the server saying that it is too much


class AdaptiveLimit:
    """The limit, as a function of what became of the requests.

    Time goes in rounds. A round ends when, after as many answers as the limit holds (they may have been waiting in
    another round's queue), enough have come to judge by. Rounds at rest tell the latency at the limit, and a trial
    round that at a larger or a smaller one.

    Args:
        start: the first limit.
        largest: never to be exceeded.
    """

    def __init__(self, start: int = 16, largest: int = 1024) -> None:
        self._limit = float(min(start, largest))
        self._largest = float(largest)
        self._rested: tuple[float, float] | None = None  # limit and mean latency of the round a trial is held against
        self._trial = False
        self._up = True
        self._step = _LARGEST_STEP
        self._rest = 0
        self._patience = 1
        self._first = 0  # the earliest request of this round, by number
        self._requests = 0
        self._fitting = False  # whether the requests of this round ever filled the limit
        self._settling = 0
        self._latencies: list[float] = []
        self._time_outs = 0
        self._begin(self._limit)

    @property
    def limit(self) -> int:
        """How many requests may be under way, at least 1."""
        return max(1, int(self._limit))

    def start(self, under_way: int) -> int:
        """A number for a request that now starts, ``under_way`` being the count of those that have, this one too."""
        self._requests += 1
        self._fitting |= under_way >= self.limit
        return self._requests

    def answered(self, number: int, seconds: float) -> None:
        """Request ``number`` was answered after so many seconds."""
        if number < self._first:
            return
        if self._settling:
            self._settling -= 1
            return
        self._latencies.append(seconds)
        # The smaller the step, the more answers it takes to tell its effect from chance.
        step = max(self._step - 1, 1 / self._limit)
        if len(self._latencies) >= max(self._limit, _FEW, min(_MANY, 1.5 / step**2)):
            self._judge(sum(self._latencies) / len(self._latencies))

    def refused(self, number: int) -> None:
        """Request ``number`` was one too many, the server said; those that went out with it say nothing new."""
        if number < self._first:
            return
        if self._trial and self._rested and self._rested[0] < self._limit:
            self._reject(self._rested[0])
        else:
            self._rest, self._trial, self._up = 1, False, True
            self._step = max(_SMALLEST_STEP, math.sqrt(self._step))
            self._begin(self._limit * _RETREAT)

    def timed_out(self, number: int) -> None:
        """Request ``number`` was given up; some do hang, but when many do, it was too much for the server."""
        if number >= self._first:
            self._time_outs += 1
            if self._time_outs > max(4.0, _HANGING * self._limit):
                self.refused(number)

    def _judge(self, latency: float) -> None:
        if not self._trial:
            if (
                self._rested
                and self._rested[0] == self._limit
                and not 1 / _CHANGED < latency / self._rested[1] < _CHANGED
            ):
                # The server has become another one: what was learnt of it is out of date.
                self._up, self._step = latency < self._rested[1], max(self._step, _BOLD_STEP)
                self._rest, self._patience = 0, 1
            self._rested = (self._limit, latency)
            self._rest -= 1
            # A limit that was never reached was not tried: there is nothing to learn from another one.
            if self._rest > 0 or not self._fitting:
                self._begin(self._limit)
            else:
                self._try()
            return
        before, latency_before = self._rested or (self._limit, latency)
        larger = math.log(self._limit / before)
        faster = larger - math.log(latency / latency_before)
        # Up: the added requests did some work. Down: those taken away had done next to none.
        if faster > _USEFUL * larger:
            self._rested = (self._limit, latency)
            self._step = min(_LARGEST_STEP, self._step**2)
            self._patience = 1
            self._try()
        else:
            self._reject(before)

    def _try(self) -> None:
        """Begin a round at the next limit to try."""
        step = self._step if self._up else 1 / self._step
        target = max(self._limit * step, self._limit + 1) if self._up else min(self._limit * step, self._limit - 1)
        if not 1 <= target <= self._largest:
            target = min(max(target, 1.0), self._largest)
            if target == self._limit:
                return self._reject(self._limit)
        self._trial = True
        return self._begin(target)

    def _reject(self, limit: float) -> None:
        """Go back to ``limit``, rest, and then try a smaller step the other way."""
        self._step = max(_SMALLEST_STEP, math.sqrt(self._step))
        self._rest, self._patience = self._patience, min(_PATIENCE, 2 * self._patience)
        self._trial, self._up = False, not self._up
        self._begin(limit)

    def _begin(self, limit: float) -> None:
        self._limit = min(max(limit, 1.0), self._largest)
        self._first = self._requests + 1
        self._fitting = False
        self._settling = self.limit
        self._latencies = []
        self._time_outs = 0
