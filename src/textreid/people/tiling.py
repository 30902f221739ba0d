"""Scales and tiles: a picture that is large beside the people in it is shown to a detector several times.

A detector sees people of some heights in pixels. So the picture is reduced to several scales, and what is then still
larger than the detector's side is cut into tiles that overlap.
"""

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from textreid.people.boxes import Detections, no_detections, suppress

if TYPE_CHECKING:
    from textreid.people.detector import Detector

_OVERLAP = 0.25  # of a tile, with its neighbour: a person smaller than this is whole in one of them
_BORDER = 0.02  # of a tile: a box that comes this near to its border is taken to be cut by it
_TALL = 0.8  # of the greatest height that a detector sees, from which on a coarser scale may see a person better
_SAME_PERSON = 0.5  # of two boxes' union in common


class Tile(NamedTuple):
    """A part of a picture: left, top, right, bottom in whole pixels."""

    left: int
    top: int
    right: int
    bottom: int


def scales_for(detector: "Detector", width: int, height: int, pixels: float) -> list[float]:
    """Return the scales at which a picture is looked at, the smallest first.

    At the smallest, a person as high as the picture is not too high for the detector; at the largest, the picture has
    ``pixels`` pixels, or its own if it has fewer. Those between are as far apart as the detector allows.

    Args:
        detector: what looks.
        width: of the picture, in pixels.
        height: of the picture, in pixels.
        pixels: that the picture is looked at in, at the largest scale.
    """
    least, greatest = detector.heights
    coarse = min(1.0, greatest / height, detector.side / max(width, height))
    fine = max(coarse, min(1.0, math.sqrt(pixels / (width * height))))
    # Half an octave more than the detector needs: people at the end of its range are found less surely.
    steps = math.ceil(math.log(fine / coarse) / math.log(greatest / least / 1.5) - 0.1) if fine > 1.1 * coarse else 0
    return [coarse * (fine / coarse) ** (step / steps) for step in range(steps)] + [fine]


def tiles_of(width: int, height: int, side: int) -> list[Tile]:
    """Return the tiles with which a side covers a picture: of a picture that is not larger, the whole."""
    return [
        Tile(left, top, right, bottom)
        for top, bottom in _spans(height, side)
        for left, right in _spans(width, side)
    ]  # fmt: skip


def _spans(length: int, side: int) -> list[tuple[int, int]]:
    """Cover a length by the fewest spans of a side that overlap enough, at even distances."""
    side = min(side, length)
    count = 1 + math.ceil((length - side) / (side * (1 - _OVERLAP)))
    starts = [round(number * (length - side) / max(count - 1, 1)) for number in range(count)]
    return [(start, start + side) for start in starts]


def detect_at_scales(detector: "Detector", picture: npt.NDArray[np.uint8], scales: list[float]) -> Detections:
    """Return the people in a picture (H, W, 3) seen at some scales, each person once, the surest first."""
    from textreid.people.detector import resized

    height, width = picture.shape[:2]
    parts, cuts = [no_detections()], [np.zeros(0, bool)]
    for scale, finer in zip(scales, [*scales[1:], None], strict=True):
        seen = resized(picture, max(1, round(height * scale)), max(1, round(width * scale)))
        factor = np.tile(np.array([width / seen.shape[1], height / seen.shape[0]], np.float32), 2)
        for tile in tiles_of(seen.shape[1], seen.shape[0], detector.side):
            found = detector.detect(seen[tile.top : tile.bottom, tile.left : tile.right])
            found = found.take(_left_to(scale, finer, detector, found))
            boxes = found.boxes + np.array([tile.left, tile.top, tile.left, tile.top], np.float32)
            parts.append(Detections(boxes * factor, found.scores))
            cuts.append(_cut_by(tile, boxes, seen.shape[1], seen.shape[0]))
    every = Detections(np.concatenate([part.boxes for part in parts]), np.concatenate([part.scores for part in parts]))
    return every.take(suppress(every, _SAME_PERSON, np.concatenate(cuts)))


def _left_to(scale: float, finer: float | None, detector: "Detector", found: Detections) -> npt.NDArray[np.bool_]:
    """Tell which detections at a scale count: those of people who are too tall for the next finer one, if there is one.

    A person is seen best at the finest scale that shows the whole; a second, coarser box of the same person, or one
    of two people, would only be in its way.
    """
    heights = found.boxes[:, 3] - found.boxes[:, 1]
    least = 0.0 if finer is None else _TALL * detector.heights[1] * scale / finer
    return heights >= least


def _cut_by(tile: Tile, boxes: npt.NDArray[np.float32], width: int, height: int) -> npt.NDArray[np.bool_]:
    """Tell which boxes end at a border of the tile that is not one of the picture."""
    near_x, near_y = _BORDER * (tile.right - tile.left), _BORDER * (tile.bottom - tile.top)
    cut = np.zeros(len(boxes), bool)
    if tile.left > 0:
        cut |= boxes[:, 0] < tile.left + near_x
    if tile.top > 0:
        cut |= boxes[:, 1] < tile.top + near_y
    if tile.right < width:
        cut |= boxes[:, 2] > tile.right - near_x
    if tile.bottom < height:
        cut |= boxes[:, 3] > tile.bottom - near_y
    return cut
