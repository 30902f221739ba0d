"""Which endpoint a request goes to, and when: limits, circuit breakers and pauses of one model's servers."""

import asyncio
import random
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from textreid.captioning.backends.adaptive_limit import AdaptiveLimit

_OPENS_AFTER = 5  # failures in a row; where 7 % fail by chance, five in a row come twice in a million requests
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0  # seconds between two probes of an endpoint that is down
_PAUSES_AFTER = 3  # refusals in a row; the first two may be strays, which `AdaptiveLimit` bears as well


class EndpointDownError(Exception):
    """No endpoint has answered for as long as one is to be waited for."""


@dataclass(eq=False)
class Endpoint:
    """One server of a model.

    A circuit breaker stops sending after five failures in a row, and then lets one request through now and again
    until one is answered. After three refusals in a row nothing is sent for as long as the server asked.

    Attributes:
        url: where it is.
        limit: how many requests may be under way.
        under_way: how many are.
        outcomes: how many requests ended how: "ok", or the kind of failure.
    """

    url: str
    limit: AdaptiveLimit = field(default_factory=AdaptiveLimit)
    under_way: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    down_since: float | None = None
    resumes_at: float = 0.0
    _failures: int = 0
    _refusals: int = 0
    _pause: float = _FIRST_PAUSE

    def has_room(self, now: float) -> bool:
        """Tell whether a request may start."""
        if now < self.resumes_at:
            return False
        return self.under_way < (self.limit.limit if self.down_since is None else 1)

    def answered(self, number: int, seconds: float) -> None:
        """Learn that request ``number`` was answered."""
        self.limit.answered(number, seconds)
        self.recovered()

    def recovered(self) -> None:
        """Learn that the server works: it gave an answer, even if it was that the request was at fault."""
        self.down_since = None
        self._failures = self._refusals = 0
        self._pause = _FIRST_PAUSE

    def refused(self, number: int, retry_after: float, now: float) -> None:
        """Learn that request ``number`` was one too many, as the server said, and when to try again."""
        self.limit.refused(number)
        # A refusal is an answer: somebody is there.
        self.down_since, self._failures = None, 0
        self._refusals += 1
        if self._refusals >= _PAUSES_AFTER:
            self.resumes_at = max(self.resumes_at, now + min(retry_after, _LONGEST_PAUSE))

    def failed(self, number: int, now: float, timed_out: bool) -> None:
        """Learn that there was no proper answer to request ``number``."""
        if timed_out:
            self.limit.timed_out(number)
        self._failures += 1
        # In a pause it is the others of a full limit that fail, one by one: they must not make the next pause longer.
        if self._failures < _OPENS_AFTER or now < self.resumes_at:
            return
        self.down_since = self.down_since or now
        self.resumes_at = now + self._pause * random.uniform(0.8, 1.2)  # noqa: S311 - jitter
        self._pause = min(_LONGEST_PAUSE, 2 * self._pause)


@dataclass(frozen=True, slots=True)
class Permit:
    """The right to send one request."""

    endpoint: Endpoint
    number: int
    started: float


class Dispatcher:
    """Queue for the right to send a request; lives in one event loop.

    Requests queue at an endpoint of their choice, so that an image's requests meet at one prefix cache; an endpoint
    that has room and no queue takes from the longest other one, so that none is idle while requests wait.

    Args:
        endpoints: servers of the same model.
        outage: seconds without any endpoint after which those who wait are told so.
    """

    def __init__(self, endpoints: Sequence[Endpoint], outage: float) -> None:
        self._queues: dict[Endpoint, deque[asyncio.Future[Permit]]] = {endpoint: deque() for endpoint in endpoints}
        self._assigned: Counter[Endpoint] = Counter()
        self._outage = outage
        self._timer: asyncio.TimerHandle | None = None

    @contextmanager
    def preferred(self) -> Iterator[Endpoint]:
        """Yield the endpoint for the requests of one more image: up if one is, and with the fewest for its limit."""
        endpoint = min(
            self._queues,
            key=lambda endpoint: (endpoint.down_since is not None, self._assigned[endpoint] / endpoint.limit.limit),
        )
        self._assigned[endpoint] += 1
        try:
            yield endpoint
        finally:
            self._assigned[endpoint] -= 1

    async def acquire(self, endpoint: Endpoint) -> Permit:
        """Wait for the right to send one request, preferably to ``endpoint``; give it back with `release`.

        Raises:
            EndpointDownError: every endpoint has been down for too long.
        """
        future: asyncio.Future[Permit] = asyncio.get_running_loop().create_future()
        self._queues[endpoint].append(future)
        self._hand_out()
        try:
            return await future
        except asyncio.CancelledError:
            # The permit may have come in the same turn of the loop: kept, it would take a place for ever.
            if future.done() and not future.cancelled() and future.exception() is None:
                self.release(future.result())
            raise

    def release(self, permit: Permit) -> None:
        """Give the permit of a request that has ended back."""
        permit.endpoint.under_way -= 1
        self._hand_out()

    def _hand_out(self) -> None:
        now = time.monotonic()
        # All serve their own queues first: an image's requests should stay together at one prefix cache.
        for endpoint, queue in self._queues.items():
            self._serve(endpoint, queue, now)
        for endpoint in self._queues:
            self._serve(endpoint, max(self._queues.values(), key=len), now)
        if any(self._queues.values()):
            self._tell_of_outage(now)
            self._wake_when_one_resumes(now)

    @staticmethod
    def _serve(endpoint: Endpoint, queue: deque[asyncio.Future[Permit]], now: float) -> None:
        while queue and endpoint.has_room(now):
            future = queue.popleft()
            if not future.done():  # else it was cancelled
                endpoint.under_way += 1
                future.set_result(Permit(endpoint, endpoint.limit.start(endpoint.under_way), now))

    def _tell_of_outage(self, now: float) -> None:
        since = [endpoint.down_since for endpoint in self._queues]
        if any(start is None or now - start < self._outage for start in since):
            return
        for queue in self._queues.values():
            while queue:
                future = queue.popleft()
                if not future.done():
                    future.set_exception(EndpointDownError())

    def _wake_when_one_resumes(self, now: float) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
        # A pause ends without any request that would hand out the next permits.
        pauses = [endpoint.resumes_at for endpoint in self._queues if endpoint.resumes_at > now]
        if pauses:
            # A little later, for the loop may call a tick of its clock too early.
            self._timer = asyncio.get_running_loop().call_later(min(pauses) - now + 0.001, self._hand_out)
