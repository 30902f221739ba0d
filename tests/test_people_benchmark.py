"""The measure of tracks against marks, on cases worked by hand, and the marks themselves."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "people.py"

pytestmark = pytest.mark.skipif(not SCRIPT.is_file(), reason="there is no checkout with benchmarks")


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("people_benchmark", SCRIPT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["people_benchmark"] = module
    spec.loader.exec_module(module)
    return module


def placed(walks: dict[int, list[float | None]]) -> dict[int, dict[int, object]]:
    """Boxes of 10 by 20 pixels by frame and walk, from the left edge in each frame; None where nobody is."""
    frames = range(len(next(iter(walks.values()))))
    return {
        frame: {
            walk: np.array([left, 0, left + 10, 20], np.float32)
            for walk, lefts in walks.items()
            if (left := lefts[frame]) is not None
        }
        for frame in frames
    }


def test_tracks_that_are_the_walks_score_one(benchmark: ModuleType) -> None:
    marks = placed({1: [0, 5, 10], 2: [50, 50, None]})
    scores = benchmark.score(marks, placed({7: [0, 5, 10], 8: [50, 50, None]}))
    assert scores == {"recall": 1, "precision": 1, "IDF1": 1, "fragments a walk": 1, "tracks": 2}


def test_a_case_by_hand(benchmark: ModuleType) -> None:
    # One walk of four frames: track 1 has the first three, track 2 the last and a place where nobody is.
    scores = benchmark.score(placed({1: [0, 0, 0, 0]}), placed({1: [0, 0, 0, None], 2: [None, None, 90, 0]}))
    assert scores["recall"] == 1
    assert scores["precision"] == pytest.approx(4 / 5)
    assert scores["IDF1"] == pytest.approx(2 * 3 / (4 + 5))
    assert scores["fragments a walk"] == 2


def test_two_tracks_that_change_places_cost_identity_only(benchmark: ModuleType) -> None:
    marks = placed({1: [0, 0, 0, 0], 2: [50, 50, 50, 50]})
    scores = benchmark.score(marks, placed({1: [0, 0, 0, 50], 2: [50, 50, 50, 0]}))
    assert (scores["recall"], scores["precision"]) == (1, 1)
    assert scores["IDF1"] == pytest.approx(6 / 8)


def test_a_box_that_is_half_beside_the_person_is_none(benchmark: ModuleType) -> None:
    scores = benchmark.score(placed({1: [0]}), placed({1: [5]}))
    assert (scores["recall"], scores["precision"], scores["IDF1"]) == (0, 0, 0)


def test_the_marks_are_of_two_hundred_frames_and_consistent(benchmark: ModuleType) -> None:
    marks, people = benchmark.read_marks(benchmark.MARKS)
    assert len(marks) == 200
    assert {f"vt{number:02}" for number in range(1, 11)} <= set(people.values())
    assert set(people) == {walk for boxes in marks.values() for walk in boxes}
    for boxes in marks.values():
        walks = [people[walk] for walk in boxes]
        assert len(walks) == len(set(walks))  # nobody is in two places
        for left, top, right, bottom in boxes.values():
            assert 0 <= left < right <= 768
            assert 0 <= top < bottom <= 576
