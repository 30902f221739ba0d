"""How many requests to keep under way at a server whose capacity is not known.

A hill climb on throughput, with the multiplicative retreat of AIMD when the server says that it is too much. By
Little's law the throughput at a limit is ``limit / latency``; a larger limit is kept if it raised the throughput,
a smaller one if it did not lower it, so the limit settles where more requests would only wait in the server's queue.
Latency alone would not do: on a server that batches, it grows long before the throughput stops growing. It is what
ends the fast start, as in HyStart (Ha and Rhee 2011), which goes on from there with the climb.

What this is worth was measured against plain additive increase with multiplicative decrease, by
``benchmarks/captioning.py``: near-equal on a healthy server, but 53 against 25 captions a second under
``--scenario faults`` (5 % errors, 2 % requests that never end, 1 % refusals, 20 s without a server). The plain rule
takes every stray fault for a full queue; here the few that any server has are borne and forgiven.
"""

import math
from statistics import median

# Factors of the limit in a trial: at most, in the first one after the start, in a fine one at most, at least.
_LARGEST_STEP, _BOLD_STEP, _FINE_STEP, _SMALLEST_STEP = 2.0, 1.4, 1.1, 1.05
_FEW, _MANY = 16, 64  # answers that a decision on a large and on a small step waits for, at least
_LONGEST_REST = 32  # most rounds at rest between two trials
# Harder at first: the fast start may have doubled while the first refusals were on their way.
_RETREAT, _FIRST_RETREAT = 0.9, 0.75
_RECENT = 8  # answers whose latency can end the fast start
_SLOWER = 1.5  # times the first latency, when it does; up to the capacity the bursts of a doubling limit wait for less
_LONGEST_START = 10_000  # answers; each is remembered until the start ends, and with little to send it would not end
_GRADUAL = 0.5  # requests by which one answer raises the limit towards a trial, at most
_WELL_WORTH = 0.7  # growth of throughput that shows that a refusal was not for the limit
_USEFUL = 0.25  # growth of throughput, as a share of the growth of the limit, that a larger limit is worth
_USELESS = 0.1  # loss of throughput, as a share of the loss of the limit, that a smaller limit is worth
_CHANGED = 1.25  # ratio of two rounds' latencies at one limit that is no accident, if a third round confirms it
_A_FEW = 2  # refusals that mean nothing
_FORGIVEN = 0.05  # of a refusal, by every answer: those of fewer than one request in twenty do not add up
_HANGING = 0.1  # share of the limit whose time-outs count as the server saying that it is too much


class AdaptiveLimit:
    """Limit as a function of what became of the requests.

    It doubles, from answer to answer, until the answers take longer or are refused. After this fast start, time goes
    in rounds. In a round at rest the latency at the limit is measured, and in a trial that at a larger or a
    smaller one. Before a round measures, as many answers pass as the limit holds, for they may have waited in another
    round's queue; before a trial of a larger limit the limit grows from answer to answer, since many requests at once
    would be a burst that says nothing of the rate.

    Args:
        start: the first limit.
        largest: never to be exceeded.
    """

    def __init__(self, start: int = 16, largest: int = 1024) -> None:
        self._largest = float(largest)
        self._limit = float(min(start, largest))
        self._target = self._limit
        self._rested: tuple[float, float] | None = None  # limit and latency of the latest round at rest
        self._doubt: float | None = None  # the latency of a round that was unlike the one before
        self._trial = False
        self._up = True
        self._step = _LARGEST_STEP
        self._rest = 0
        self._rest_length = 1
        self._requests = 0
        self._refusals = 0.0
        self._ceiling = self._largest  # where the server refused, until that is forgotten
        self._sent: list[int] | None = []  # how many were under way at each request of the fast start; None after it
        self._first_latency = 0.0
        self._begin(self._limit)

    @property
    def limit(self) -> int:
        """How many requests may be under way, at least 1."""
        return max(1, int(self._limit))

    def start(self, under_way: int) -> int:
        """Return a number for a request that starts; ``under_way`` is the count of those that have, this one too."""
        self._requests += 1
        # Full at least once in a round: only then did the limit decide how many were under way.
        self._fitting |= under_way >= self.limit
        if self._sent is not None:
            self._sent.append(under_way)
        return self._requests

    def answered(self, number: int, seconds: float) -> None:
        """Learn that request ``number`` was answered after so many seconds."""
        self._refusals = max(0.0, self._refusals - _FORGIVEN)
        if self._sent is not None:
            self._speed_up(self._sent[number - 1], seconds)
        elif self._limit < self._target:
            self._limit = min(self._target, self._limit + self._growth)
            if self._limit == self._target:
                self._listen()
        elif number < self._first:
            return
        elif self._settling:
            self._settling -= 1
        else:
            self._latencies.append(seconds)
            # The smaller the step, the more answers it takes to tell its effect from chance.
            step = max(self._step - 1, 1 / self._limit)
            if len(self._latencies) >= max(self._limit, _FEW, min(_MANY, 1.5 / step**2)):
                self._judge(median(self._latencies))

    def refused(self, number: int) -> None:
        """Learn that the server refused request ``number`` as one too many; a few such answers are borne."""
        if number >= self._first:
            self._refusals += 1
            if self._refusals > _A_FEW:
                self._retreat()

    def timed_out(self, number: int) -> None:
        """Learn that request ``number`` timed out; some do hang, but when many do, it was too much for the server."""
        if number >= self._first:
            self._time_outs += 1
            # Not the share alone: a tenth of the first limit, 16, is less than two requests.
            if self._time_outs > max(2 * _A_FEW, _HANGING * self._limit):
                self._retreat()

    def _speed_up(self, under_way: int, seconds: float) -> None:
        """Take one more answer of the fast start, to a request that went out as the last of so many."""
        self._answers.append((under_way, seconds))
        if len(self._answers) <= _FEW:
            self._first_latency = median(latency for _, latency in self._answers)
        elif (recent := median(latency for _, latency in self._answers[-_RECENT:])) > _SLOWER * self._first_latency:
            # By Little's law, how many would be under way at the present throughput and the first latency.
            among = median(count for count, _ in self._answers[-_RECENT:])
            self._end_start(among * self._first_latency / recent)
            return
        if len(self._answers) > _LONGEST_START:
            self._end_start(self._limit)
        # One more for each answer: all that are under way come back once in a round trip, in which the limit doubles.
        elif self._fitting:
            self._limit = self._target = min(self._limit + 1, self._largest)

    def _end_start(self, limit: float) -> None:
        self._sent = None
        self._step = _BOLD_STEP
        self._begin(limit)

    def _retreat(self) -> None:
        self._ceiling = self._limit
        if self._sent is not None:
            self._end_start(self._limit * _FIRST_RETREAT)
        # A trial of more has failed, and the limit before it was borne: no need to go below that.
        elif self._trial and self._rested and self._rested[0] < self._target:
            self._reject(self._rested[0])
        else:
            self._rest, self._trial, self._up = 1, False, True
            self._step = _finer(self._step)
            self._begin(self._limit * _RETREAT)

    def _judge(self, latency: float) -> None:
        if self._trial:
            self._judge_trial(latency)
            return
        if self._is_unlike_before(latency):
            if self._doubt is None or not _alike(latency, self._doubt):
                self._doubt = latency
                self._begin(self._limit)  # a pause of the machine, or a change? measure again
                return
            # The server has become another one: what was learnt of it is out of date.
            # A faster one may bear more, a slower one less.
            self._up = self._rested is None or latency < self._rested[1]
            self._step, self._rest, self._rest_length = _BOLD_STEP, 0, 1
            self._ceiling = self._largest
        self._doubt = None
        self._rested = (self._limit, latency)
        self._rest -= 1
        # A limit that was never reached was not tried: there is nothing to learn from another one.
        if self._rest > 0 or not self._fitting:
            self._begin(self._limit)
        else:
            self._try()

    def _is_unlike_before(self, latency: float) -> bool:
        return self._rested is not None and self._rested[0] == self._limit and not _alike(latency, self._rested[1])

    def _judge_trial(self, latency: float) -> None:
        before, latency_before = self._rested or (self._limit, latency)
        # Logarithms of the growth of the limit and, by Little's law, of the throughput; below 0 in a trial of less.
        larger = math.log(self._limit / before)
        faster = larger - math.log(latency / latency_before)
        # Nearly as much more came as was added: the server was not refusing for want of room.
        if self._up and faster > _WELL_WORTH * larger:
            self._ceiling = self._largest
        # Up: the added requests did some work. Down: those taken away had done next to none. The two shares differ,
        # for too few requests leave the server idle, while too many only wait there.
        if faster > (_USEFUL if self._up else _USELESS) * larger:
            self._rested = (self._limit, latency)
            # Twice as far (in the logarithm) the next time; downwards in fine steps only.
            self._step = min(_LARGEST_STEP if self._up else max(self._step, _FINE_STEP), self._step**2)
            self._rest_length = 1
            self._try()
        else:
            # As many as it would take at the old latency, by Little's law: what the trial did gain is kept.
            self._reject(max(before, self._limit * latency_before / latency) if self._up else before)

    def _try(self) -> None:
        """Begin a round at the next limit to try."""
        if self._up:
            target = min(max(self._limit * self._step, self._limit + 1), self._largest)
            # Half the way (in the logarithm) to where the server refused, and no further. The ceiling rises with every
            # trial that meets it, for a server may come to bear more.
            half_way = math.sqrt(self._limit * self._ceiling)
            if target > half_way:
                target = max(self._limit, half_way)
                self._ceiling = min(self._ceiling * _SMALLEST_STEP, self._largest)
        else:
            target = max(1.0, min(self._limit / self._step, self._limit - 1))
        # No room in this direction, at a bound or below the ceiling: the other way, after a rest.
        if target == self._limit:
            self._step = _SMALLEST_STEP
            self._reject(self._limit)
        else:
            self._trial = True
            self._begin(target)

    def _reject(self, limit: float) -> None:
        """Go back to ``limit``, rest, and try a smaller step; when steps are fine, the other way."""
        fine = self._step <= _FINE_STEP
        self._step = _finer(self._step)
        self._rest = self._rest_length
        # Where fine steps find nothing the limit is right for now, so that trials may become rarer.
        if fine or not self._up:
            self._up = not self._up
            self._step = min(self._step, _FINE_STEP)
            self._rest_length = min(_LONGEST_REST, 2 * self._rest_length)
        self._trial = False
        self._begin(limit)

    def _begin(self, limit: float) -> None:
        """Begin a round at ``limit``, at once if it is not above the present one, else by and by."""
        self._target = min(max(limit, 1.0), self._largest)
        self._limit = min(self._limit, self._target)
        # Each of the requests under way makes room for some more when it is answered.
        self._growth = min(_GRADUAL, (self._target - self._limit) / self._limit)
        self._listen()

    def _listen(self) -> None:
        """Forget what went out before: it says nothing of the present limit."""
        self._first = self._requests + 1
        self._fitting = False
        self._settling = self.limit
        self._latencies: list[float] = []
        self._answers: list[tuple[int, float]] = []
        self._time_outs = 0
        self._refusals = 0.0


def _finer(step: float) -> float:
    return max(_SMALLEST_STEP, math.sqrt(step))


def _alike(latency: float, other: float) -> bool:
    return 1 / _CHANGED < latency / other < _CHANGED
