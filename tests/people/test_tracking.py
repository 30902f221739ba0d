from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, strategies as st

from textreid.people.boxes import Boxes, Detections
from textreid.people.tracking import BoxFilter, Features, Step, Tracker, TrackerSettings, assign


def detections(*lefts: float, score: float = 0.9) -> Detections:
    """People 20 wide and 50 high, at the same height in the picture."""
    boxes = np.array([(left, 100, left + 20, 150) for left in lefts], np.float32).reshape(-1, 4)
    return Detections(boxes, np.full(len(lefts), score, np.float32))


def numbers(step: Step) -> list[int | None]:
    """Number of each detection's track, in the order of the detections."""
    return [track.number for track, _ in sorted(step.seen, key=lambda sighting: sighting.detection)]


@given(st.floats(5, 60), st.floats(-150, 150), st.lists(st.floats(0.02, 0.5), min_size=20, max_size=20))
def test_the_filter_learns_a_constant_speed_at_any_rate_of_frames(
    height: float, speed: float, steps: list[float]
) -> None:
    def at(seconds: float) -> Boxes:
        return np.array([speed * seconds, 0, speed * seconds + height / 2, height], np.float32)

    estimate, now = BoxFilter(at(0)), 0.0
    for step in steps:
        now += step
        estimate.predict(step)
        estimate.update(at(now))
    now += 0.3
    estimate.predict(0.3)
    error = np.abs(estimate.box - at(now)).max()
    assert error < 0.15 * height + 0.05 * abs(speed)


def test_the_filter_agrees_with_matrices() -> None:
    """The textbook's equations, one coordinate at a time."""
    estimate = BoxFilter(np.array([0, 0, 10, 40], np.float32))
    aim, turn, first = 0.05 * 40, 1.5 * 40, 1.0 * 40
    state, covariance = np.array([5.0, 0.0]), np.diag([aim**2, first**2])
    for seconds, left in ((0.1, 2.0), (0.4, 9.0), (0.1, 14.0)):
        move = np.array([[1, seconds], [0, 1]])
        noise = np.array([[seconds**4 / 4, seconds**3 / 2], [seconds**3 / 2, seconds**2]]) * turn**2
        state, covariance = move @ state, move @ covariance @ move.T + noise
        gain = covariance[:, 0] / (covariance[0, 0] + aim**2)
        state = state + gain * (left + 5 - state[0])
        covariance = covariance - np.outer(gain, covariance[0])
        estimate.predict(seconds)
        estimate.update(np.array([left, 0, left + 10, 40], np.float32))
        assert (estimate.place[0], estimate.speed[0]) == pytest.approx(tuple(state), rel=1e-6)


def test_assignment_by_hand() -> None:
    costs = np.array([[0.1, 0.2], [0.15, 0.9], [0.5, 0.5]])
    assert sorted(assign(costs, np.ones((3, 2), bool))) == [(0, 1), (1, 0)]
    allowed = np.array([[True, False], [True, False], [False, False]])
    assert assign(costs, allowed) == [(0, 0)]


@given(st.integers(0, 10**6))
def test_assignment_is_the_best_of_all(seed: int) -> None:
    from itertools import permutations

    rng = np.random.default_rng(seed)
    costs, allowed = rng.random((3, 4)), rng.random((3, 4)) > 0.3
    totals = {
        columns: sum(costs[row, column] if allowed[row, column] else 1e3 for row, column in enumerate(columns))
        for columns in permutations(range(4), 3)
    }
    best = min(totals, key=lambda columns: totals[columns])
    expected = [(row, column) for row, column in enumerate(best) if allowed[row, column]]
    assert assign(costs, allowed) == expected


def test_two_people_who_pass_each_other_keep_their_numbers() -> None:
    tracker = Tracker()
    seen = [numbers(tracker.update(frame / 10, detections(5 * frame, 158 - 5 * frame))) for frame in range(31)]
    assert seen[2:] == [[0, 1]] * 29


def test_who_is_seen_less_surely_for_a_while_keeps_the_number() -> None:
    tracker = Tracker()
    for frame in range(20):
        step = tracker.update(frame / 10, detections(5 * frame, score=0.25 if 8 <= frame < 14 else 0.9))
        assert numbers(step) == [0 if frame >= 2 else None]


def test_what_is_unsure_from_the_beginning_is_nobody() -> None:
    tracker = Tracker()
    assert all(not tracker.update(frame / 10, detections(5 * frame, score=0.3)).seen for frame in range(10))


def test_who_is_not_seen_for_some_frames_is_expected_where_the_walk_leads() -> None:
    tracker = Tracker()
    for frame in range(25):
        gone = 10 <= frame < 18
        step = tracker.update(frame / 10, detections() if gone else detections(6 * frame))
        assert numbers(step) == ([] if gone else [0 if frame >= 2 else None])


def test_a_flash_is_nobody() -> None:
    tracker = Tracker()
    ended = [tracker.update(frame / 10, detections(40) if frame < 2 else detections()).ended for frame in range(100)]
    assert ended == [[]] * 100
    assert tracker.tracks == []
    assert tracker.finish() == []


def test_a_track_ends_once_after_the_patience() -> None:
    tracker = Tracker(TrackerSettings(patience=1.0), first=7)
    for frame in range(5):
        tracker.update(frame / 10, detections(40))
    ended = [(frame, tracker.update(frame / 10, detections()).ended) for frame in range(5, 40)]
    gone = [(frame, track.number) for frame, tracks in ended for track in tracks]
    assert gone == [(15, 7)]


RED, BLUE = np.array([1, 0], np.float32), np.array([0, 1], np.float32)


@pytest.mark.parametrize(("looks", "number"), [(RED, 0), (BLUE, 1)])
def test_who_comes_back_elsewhere_is_known_by_looks(looks: Features, number: int) -> None:
    tracker = Tracker()
    asked = 0

    def appearance(present: Features) -> Step:
        nonlocal asked

        def features(places: list[int]) -> Features:
            nonlocal asked
            asked += len(places)
            return np.stack([present] * len(places))

        return tracker.update(now, found, features)

    for frame in range(10):
        now, found = frame / 10, detections(3 * frame)
        appearance(RED)
    for frame in range(30, 35):  # behind a pillar, and out on its other side sooner than expected
        now, found = frame / 10, detections(90)
        step = appearance(looks)
    assert numbers(step) == [number]
    assert asked < 10  # embedding costs more than tracking: it is asked for now and then


def test_looks_tell_who_is_who_where_two_people_turn_round_as_they_meet() -> None:
    def numbers_after(embed: bool) -> list[int | None]:
        tracker, looks = Tracker(), np.stack([RED, BLUE])
        for frame in range(17 + 3):
            away = 2 * abs(16 - frame)  # they walk up to each other, and go back where they came from
            found = detections(100 - away, 100 + away)
            step = tracker.update(frame / 10, found, (lambda places: looks[places]) if embed else None)
        return numbers(step)

    assert numbers_after(embed=True) == [0, 1]
    assert numbers_after(embed=False) == [1, 0]  # it looks as if they had passed each other


def test_who_looks_alike_but_cannot_have_come_so_far_is_somebody_else() -> None:
    tracker = Tracker()

    def features(places: list[int]) -> Features:
        return np.stack([RED] * len(places))

    for frame in range(10):
        tracker.update(frame / 10, detections(0), features)
    for frame in range(12, 17):
        step = tracker.update(frame / 10, detections(900), features)
    assert numbers(step) == [1]


def test_an_empty_scene() -> None:
    tracker = Tracker()
    for now, later in pairwise([0.0, 0.1, 5.0, 5.0]):
        assert later >= now
        assert tracker.update(later, detections()) == Step([], [])
