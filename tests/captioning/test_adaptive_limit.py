"""The limit against servers with a known best one, simulated in virtual time."""

import heapq
import pickle
import random

import pytest

from textreid.captioning.backends.adaptive_limit import AdaptiveLimit


class Simulation:
    """A client that always has work, and a server; time is a number.

    Args:
        service: seconds an answer takes once it is worked on; jitters by 20 %.
        workers: how many the server works on at a time; others queue.
        queue: how many may queue; None for any number.
        batching: how much slower each answer gets with each other one worked on.
        refusing: share of requests that it refuses for no reason.
    """

    def __init__(
        self, service: float, workers: int, queue: int | None = None, batching: float = 0.0, refusing: float = 0.0
    ) -> None:
        self.service, self.workers, self.queue, self.batching = service, workers, queue, batching
        self.refusing = refusing
        self.random = random.Random(5)  # noqa: S311 - jitter
        self.now, self.answered, self.refused = 0.0, 0, 0

    def run(self, limit: AdaptiveLimit, seconds: float) -> float:
        """The answers a second over the second half of the time."""
        free = [0.0] * self.workers
        ends: list[tuple[float, int, float]] = []
        waiting: list[float] = []  # when each of those that queue will be taken up
        half = None
        until = self.now + seconds
        while self.now < until:
            while len(ends) < limit.limit:
                number = limit.start(len(ends) + 1)
                waiting = [start for start in waiting if start > self.now]
                begin = max(self.now, heapq.heappop(free))
                full = self.queue is not None and begin > self.now and len(waiting) >= self.queue
                if full or self.random.random() < self.refusing:
                    heapq.heappush(free, begin)
                    self.refused += 1
                    limit.refused(number)
                    if full:
                        break
                    continue
                if begin > self.now:
                    waiting.append(begin)
                busy = min(len(ends), self.workers)
                end = begin + self.service * (1 + self.batching * busy) * self.random.uniform(0.8, 1.2)
                heapq.heappush(free, end)
                heapq.heappush(ends, (end, number, self.now))
            self.now, number, started = heapq.heappop(ends)
            self.answered += 1
            limit.answered(number, self.now - started)
            if half is None and self.now > until - seconds / 2:
                half = (self.now, self.answered)
        assert half is not None
        return (self.answered - half[1]) / (self.now - half[0])


@pytest.mark.parametrize(("service", "workers"), [(0.5, 150), (2.0, 64), (0.1, 30), (1.0, 400), (1.0, 4)])
def test_finds_the_capacity_of_a_server_that_queues(service: float, workers: int) -> None:
    simulation, limit = Simulation(service, workers), AdaptiveLimit()
    rate = simulation.run(limit, 300 * service)
    assert rate >= 0.97 * workers / service
    assert limit.limit <= 1.6 * workers + 16  # no more than that waits at the server


@pytest.mark.parametrize("queue", [0, 10, 50])
def test_wastes_little_on_a_server_that_refuses(queue: int) -> None:
    simulation, limit = Simulation(0.5, 150, queue), AdaptiveLimit()
    rate = simulation.run(limit, 150)
    assert rate >= (0.93 if queue == 0 else 0.97) * 300
    assert simulation.refused <= 0.01 * simulation.answered


def test_goes_on_rising_where_latency_grows_but_throughput_does_too() -> None:
    # At 128 at once each answer takes 3.6 times as long as alone, yet the server gives 36 times as many.
    simulation, limit = Simulation(0.5, 128, batching=0.02), AdaptiveLimit()
    rate = simulation.run(limit, 400)
    assert rate >= 0.9 * 128 / (0.5 * (1 + 0.02 * 127))


def test_follows_a_server_that_grows_slower_and_faster() -> None:
    simulation, limit = Simulation(0.5, 200), AdaptiveLimit()
    simulation.run(limit, 100)
    simulation.workers = 40
    simulation.run(limit, 300)
    assert limit.limit <= 120
    simulation.workers = 200
    assert simulation.run(limit, 300) >= 0.9 * 400


def test_is_not_raised_by_a_client_with_little_to_send() -> None:
    limit = AdaptiveLimit(start=16)
    for _ in range(1000):
        limit.answered(limit.start(under_way=3), 0.1)
    assert limit.limit == 16


def test_remembers_little_however_long_nothing_is_to_be_learnt() -> None:
    limit = AdaptiveLimit()
    sizes = []
    for _ in range(2):
        for _ in range(15_000):
            limit.answered(limit.start(under_way=1), 0.1)
        sizes.append(len(pickle.dumps(limit)))
    assert max(sizes) < 5_000


def test_starts_fast() -> None:
    # A server that needs 300 at once; a tenth of what it could have done in 20 latencies is lost.
    simulation, limit = Simulation(1.0, 300, queue=100), AdaptiveLimit()
    simulation.run(limit, 20)
    assert simulation.answered >= 0.75 * 300 * 20
    assert simulation.refused <= 0.02 * simulation.answered


def test_stays_within_its_bounds() -> None:
    limit = AdaptiveLimit(start=16, largest=20)
    Simulation(0.5, 100).run(limit, 60)
    assert limit.limit == 20
    for _ in range(1000):
        limit.refused(limit.start(1))
    assert limit.limit == 1


@pytest.mark.parametrize("share", [0.002, 0.01])
def test_refusals_that_have_nothing_to_do_with_load_do_not_starve_it(share: float) -> None:
    simulation, limit = Simulation(0.5, 100, refusing=share), AdaptiveLimit()
    assert simulation.run(limit, 150) >= 0.9 * 200


def test_a_few_time_outs_change_nothing_but_many_do() -> None:
    limit = AdaptiveLimit(start=100)
    for _ in range(10):
        limit.timed_out(limit.start(1))
    assert limit.limit == 100
    limit.timed_out(limit.start(1))
    assert limit.limit == 75
