import numpy as np
import pytest
from hypothesis import given, strategies as st

from textreid.people.boxes import Boxes, Detections, areas, inside, iou, suppress


def boxes(*rows: tuple[float, float, float, float]) -> Boxes:
    return np.array(rows, np.float32).reshape(-1, 4)


def test_overlaps_by_hand() -> None:
    first = boxes((0, 0, 10, 10), (0, 0, 0, 0))
    second = boxes((5, 0, 15, 10), (20, 20, 30, 30), (2, 2, 4, 4))
    assert iou(first, second) == pytest.approx(np.array([[1 / 3, 0, 0.04], [0, 0, 0]]), abs=1e-6)
    np.testing.assert_allclose(inside(second, first)[:, 0], [0.5, 0, 1], atol=1e-6)
    assert areas(boxes((3, 3, 1, 1))).tolist() == [0]
    assert iou(boxes(), second).shape == (0, 3)


@given(st.lists(st.tuples(*[st.integers(0, 20)] * 4), min_size=1, max_size=6))
def test_overlap_agrees_with_counted_pixels(rows: list[tuple[int, int, int, int]]) -> None:
    masks = []
    for left, top, right, bottom in rows:
        mask = np.zeros((20, 20), bool)
        mask[top:bottom, left:right] = True
        masks.append(mask)
    expected = np.array([[int((a & b).sum()) / max(int((a | b).sum()), 1) for b in masks] for a in masks])
    assert iou(boxes(*rows), boxes(*rows)) == pytest.approx(expected, abs=1e-5)


def test_the_surest_of_those_that_overlap_remains() -> None:
    found = Detections(boxes((0, 0, 10, 20), (1, 0, 11, 20), (30, 0, 40, 20)), np.array([0.6, 0.9, 0.3], np.float32))
    assert suppress(found).tolist() == [1, 2]


@pytest.mark.parametrize(("cut", "kept"), [([False, True], [0]), ([False, False], [1, 0])])
def test_half_a_person_at_the_border_of_a_tile_goes_where_the_whole_is(cut: list[bool], kept: list[int]) -> None:
    found = Detections(boxes((0, 0, 10, 40), (0, 20, 10, 40)), np.array([0.5, 0.9], np.float32))
    assert suppress(found, cut=np.array(cut)).tolist() == kept


def test_what_a_border_cut_remains_where_nobody_saw_the_whole() -> None:
    found = Detections(boxes((0, 0, 10, 40), (50, 20, 60, 40)), np.array([0.5, 0.9], np.float32))
    assert suppress(found, cut=np.array([False, True])).tolist() == [0, 1]
