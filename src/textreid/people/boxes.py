"""Boxes as arrays (N, 4) of left, top, right, bottom in pixels: how much they overlap, which of them are one person."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Boxes = npt.NDArray[np.float32]


class Detections(NamedTuple):
    """People found in one picture.

    Attributes:
        boxes: (N, 4) float32: left, top, right, bottom in pixels of the picture.
        scores: (N,) float32 from 0 to 1, of the detector.
    """

    boxes: Boxes
    scores: npt.NDArray[np.float32]

    def take(self, chosen: npt.NDArray[np.intp] | npt.NDArray[np.bool_]) -> "Detections":
        """Return those at some places, or those that a mask (N,) is true of."""
        return Detections(self.boxes[chosen], self.scores[chosen])


def no_detections() -> Detections:
    """Return the detections of a picture without people."""
    return Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32))


def areas(boxes: Boxes) -> npt.NDArray[np.float32]:
    """Return the areas (N,) of boxes in square pixels; of one turned inside out 0."""
    sides: npt.NDArray[np.float32] = np.clip(boxes[:, 2:] - boxes[:, :2], 0, None)
    return sides[:, 0] * sides[:, 1]


def intersections(first: Boxes, second: Boxes) -> npt.NDArray[np.float32]:
    """Return the common area (N, M) of each of N boxes with each of M."""
    corner = np.maximum(first[:, None, :2], second[None, :, :2])
    opposite = np.minimum(first[:, None, 2:], second[None, :, 2:])
    sides: npt.NDArray[np.float32] = np.clip(opposite - corner, 0, None)
    return sides[:, :, 0] * sides[:, :, 1]


def iou(first: Boxes, second: Boxes) -> npt.NDArray[np.float32]:
    """Return intersection over union (N, M) of each of N boxes with each of M; 0 where both have no area."""
    common = intersections(first, second)
    union = areas(first)[:, None] + areas(second)[None, :] - common
    return np.asarray(common / np.maximum(union, 1e-6), np.float32)


def inside(first: Boxes, second: Boxes) -> npt.NDArray[np.float32]:
    """Return the part (N, M) of each of N boxes that lies within each of M: intersection over the first's area."""
    return np.asarray(intersections(first, second) / np.maximum(areas(first)[:, None], 1e-6), np.float32)


def suppress(
    found: Detections, overlap: float = 0.5, cut: npt.NDArray[np.bool_] | None = None, part: float = 0.7
) -> npt.NDArray[np.intp]:
    """Return the places of detections that remain of those that show the same person, the surest first.

    A detection goes where a surer one has more than ``overlap`` of the union in common with it. One that the border of
    a tile ``cut`` ranks below all whole ones, and goes where ``part`` of it lies within one that remains: what a tile
    shows of a person is less than the person.

    Args:
        found: N detections.
        overlap: intersection over union from which on two are one.
        cut: (N,), which of them end at the border of a tile; None says none.
        part: see above.
    """
    cut = np.zeros(len(found.scores), bool) if cut is None else cut
    order = np.lexsort((-found.scores, cut))
    same = iou(found.boxes, found.boxes) > overlap
    within = inside(found.boxes, found.boxes).T
    same |= cut[None, :] & (within > part)
    gone = np.zeros(len(order), bool)
    kept = []
    for place in order:
        if not gone[place]:
            kept.append(place)
            gone |= same[place]
    return np.array(kept, np.intp)
