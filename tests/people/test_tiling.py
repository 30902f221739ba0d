from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, strategies as st
from tests.people.conftest import BlobDetector, Picture, blobs

from textreid.people.boxes import Detections
from textreid.people.tiling import Tile, detect_at_scales, scales_for, tiles_of


class Small(BlobDetector):
    side, heights = 128, (30, 100)


@given(st.integers(1, 700), st.integers(1, 700), st.integers(40, 300))
def test_tiles_cover_a_picture_and_overlap(width: int, height: int, side: int) -> None:
    tiles = tiles_of(width, height, side)
    covered = np.zeros((height, width), bool)
    for left, top, right, bottom in tiles:
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height
        assert right - left == min(side, width)
        covered[top:bottom, left:right] = True
    assert covered.all()
    starts = sorted({tile.left for tile in tiles})
    assert all(after - before <= side * 0.75 + 1 for before, after in pairwise(starts))


def test_a_picture_that_is_no_larger_than_the_side_is_one_tile() -> None:
    assert tiles_of(100, 50, 128) == [Tile(0, 0, 100, 50)]


def test_everybody_is_found_once_wherever_borders_of_tiles_run() -> None:
    for left in range(0, 296, 7):
        frame = blobs([[(left, 40)]])[0]
        found = detect_at_scales(Small(), frame, [1.0])
        np.testing.assert_allclose(found.boxes, [[left, 40, left + 24, 100]])


def test_boxes_found_at_another_scale_are_in_pixels_of_the_picture() -> None:
    frame = blobs([[(100, 40)]])[0]
    for scale in (0.5, 2.0):
        found = detect_at_scales(BlobDetector(), frame, [scale])
        np.testing.assert_allclose(found.boxes, [[100, 40, 124, 100]], atol=2.5)


def test_nobody_is_found_where_nobody_is() -> None:
    assert len(detect_at_scales(Small(), np.zeros((90, 400, 3), np.uint8), [0.5, 1.0]).scores) == 0


@pytest.mark.parametrize(
    ("size", "pixels"),
    [((768, 576), 442368), ((1920, 1080), 442368), ((3840, 2160), 24e6), ((64, 48), 1e6), ((9, 2000), 1e5)],
)
def test_scales_reach_from_people_as_high_as_the_picture_to_the_pixels_that_were_asked_for(
    size: tuple[int, int], pixels: float
) -> None:
    detector = Small()
    scales = scales_for(detector, *size, pixels)
    assert scales == sorted(scales)
    assert scales[0] * size[1] <= detector.heights[1] + 1
    assert scales[-1] <= 1
    assert scales[-1] == pytest.approx(min(1, (pixels / size[0] / size[1]) ** 0.5)) or len(scales) == 1
    # What is too small at one scale is large enough at the next.
    ratio = detector.heights[1] / detector.heights[0]
    assert all(after / before <= ratio for before, after in pairwise(scales))


def test_a_person_of_any_height_is_seen_at_some_scale() -> None:
    class Strict(Small):
        def detect(self, picture: Picture) -> Detections:
            found = super().detect(picture)
            heights = found.boxes[:, 3] - found.boxes[:, 1]
            return found.take((heights >= self.heights[0]) & (heights <= self.heights[1]))

    detector = Strict()
    scales = scales_for(detector, 1200, 900, 1e9)
    for height in (31, 60, 99, 150, 300, 600, 880):
        frame = np.zeros((900, 1200, 3), np.uint8)
        frame[10 : 10 + height, 200 : 200 + max(8, height // 3)] = 255
        found = detect_at_scales(detector, frame, scales)
        assert len(found.scores) == 1, height
        assert found.boxes[0, 3] - found.boxes[0, 1] == pytest.approx(height, rel=0.1, abs=4)
