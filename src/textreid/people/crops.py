"""Crops: what is cut out for a person, and which few of hundreds are kept: sharp, whole, spread in time."""

import io
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from textreid.images import SMALLEST
from textreid.people.boxes import Boxes, inside

_QUALITY_OF_JPEG = 92
_LEAST = (11, 36)  # width and height in pixels from which a person is handed out
_BORDER = 0.01  # of the picture: a box this near to its border is taken to be cut by it
_LOOKED_AT = (32, 64)  # width and height at which sharpness is measured
_SHARP = 25.0  # mean difference from the neighbours at which a crop counts as sharp
_TALL = 128.0  # pixels: a person this high has all that a model looks at
_BINS = 8  # candidates kept of a track
_FIRST_BIN_S = 0.5


@dataclass(frozen=True, eq=False)
class PersonCrop:
    """Person cut out of a photograph or a frame of a video.

    Attributes:
        pixels: (H, W, 3) uint8, RGB, upright; of somebody far away with some surroundings.
        frame: number of the frame in order of display, from 0; None of a photograph. After a seek, by the frame's time.
        seconds: of the frame since the beginning of the video; None of a photograph.
        time: wall clock of the camera, without a zone; None where nobody told when the recording began.
        box: x, y, width, height in pixels of the upright picture.
        track: number of the person's track within this video; None of a photograph.
        confidence: of the detector, from 0 to 1.
        camera: what the caller called it.
    """

    pixels: npt.NDArray[np.uint8]
    box: tuple[float, float, float, float]
    confidence: float
    frame: int | None = None
    seconds: float | None = None
    time: datetime | None = None
    track: int | None = None
    camera: str | None = None

    @cached_property
    def jpeg(self) -> bytes:
        """The crop as a JPEG file."""
        file = io.BytesIO()
        Image.fromarray(self.pixels).save(file, "JPEG", quality=_QUALITY_OF_JPEG)
        return file.getvalue()

    def of_track(self, number: int | None) -> "PersonCrop":
        """Return the same crop with the number of a track."""
        return replace(self, track=number)


def cut_out(picture: npt.NDArray[np.uint8], box: Boxes) -> npt.NDArray[np.uint8]:
    """Return a copy of the part of a picture (H, W, 3) within a box (4,), of one pixel at least."""
    height, width = picture.shape[:2]
    left, top = (max(0, min(int(start), size - 1)) for start, size in zip(box[:2], (width, height), strict=True))
    right, bottom = (
        max(start + 1, min(round(float(end)), size))
        for start, end, size in zip((left, top), box[2:], (width, height), strict=True)
    )
    return picture[top:bottom, left:right].copy()


def of_use(boxes: Boxes) -> npt.NDArray[np.bool_]:
    """Tell which boxes (N, 4) show enough of a person to be handed out."""
    sides = boxes[:, 2:] - boxes[:, :2]
    return np.asarray((sides >= np.array(_LEAST, np.float32)).all(axis=1), np.bool_)


def grown(box: Boxes) -> Boxes:
    """Return a box (4,) with as much of its surroundings as a picture needs that a search does not leave out."""
    height, width = SMALLEST
    missing = np.maximum(np.array([width, height]) + 1 - (box[2:] - box[:2]), 0) / 2  # one for what rounding takes
    return np.concatenate([box[:2] - missing, box[2:] + missing]).astype(np.float32)


def as_rectangle(box: Boxes) -> tuple[float, float, float, float]:
    """Return x, y, width and height of a box (4,), in tenths of pixels."""
    left, top, right, bottom = (round(float(value), 1) for value in box)
    return left, top, round(right - left, 1), round(bottom - top, 1)


def goodness(picture: npt.NDArray[np.uint8], boxes: Boxes, scores: npt.NDArray[np.float32]) -> list[float]:
    """Return how good a crop each box (N, 4) of a picture makes, from 0 to 1: sure, sharp, large, whole, not hidden."""
    if not len(boxes):
        return []
    hidden = _hidden(boxes)
    height, width = picture.shape[:2]
    values = []
    for box, score, part in zip(boxes, scores, hidden, strict=True):
        sharp = min(1.0, _sharpness(cut_out(picture, box)) / _SHARP)
        large = min(1.0, float(box[3] - box[1]) / _TALL)
        edges = (box[0] / width, box[1] / height, 1 - box[2] / width, 1 - box[3] / height)
        whole = 0.3 if min(edges) < _BORDER else 1.0
        values.append(float(score) * (0.25 + 0.75 * sharp) * large**0.5 * whole * (1 - float(part)))
    return values


def _hidden(boxes: Boxes) -> npt.NDArray[np.float32]:
    """Return the greatest part (N,) of each box that another covers whose feet are lower, and who stands in front."""
    parts = inside(boxes, boxes)
    in_front = boxes[None, :, 3] > boxes[:, None, 3]
    covered: npt.NDArray[np.float32] = np.where(in_front, parts, np.float32(0)).max(axis=1)
    return covered


def _sharpness(crop: npt.NDArray[np.uint8]) -> float:
    """Return the mean difference of a crop's pixels, seen at one size, from the mean of their four neighbours."""
    grey = np.asarray(Image.fromarray(crop).convert("L").resize(_LOOKED_AT, Image.Resampling.BILINEAR), np.float32)
    around = (grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]) / 4
    return float(2 * np.abs(grey[1:-1, 1:-1] - around).mean())


class Candidate(NamedTuple):
    """A crop that may be handed out, and how good it is."""

    crop: PersonCrop
    goodness: float


class TrackCrops:
    """Candidates of one track: the best of each stretch of its time, in bounded memory however long it lasts."""

    def __init__(self) -> None:
        self._forget()

    def _forget(self) -> None:
        self._bins: dict[int, Candidate] = {}
        self._width = _FIRST_BIN_S
        self._first: float | None = None
        self._last = 0.0

    def wants(self, seconds: float, goodness: float) -> bool:
        """Tell whether a crop so good would be kept."""
        best = self._bins.get(int(seconds / self._width))
        return best is None or goodness > best.goodness

    def note(self, seconds: float) -> None:
        """Take notice that the person was seen."""
        self._first = seconds if self._first is None else self._first
        self._last = seconds

    def add(self, crop: PersonCrop, goodness: float) -> None:
        """Keep a crop of a video if it is the best of its stretch."""
        seconds = crop.seconds or 0.0
        self.note(seconds)
        if not self.wants(seconds, goodness):
            return
        self._bins[int(seconds / self._width)] = Candidate(crop, goodness)
        while len(self._bins) > _BINS:
            self._width *= 2
            merged: dict[int, Candidate] = {}
            for candidate in self._bins.values():
                place = int((candidate.crop.seconds or 0.0) / self._width)
                if place not in merged or candidate.goodness > merged[place].goodness:
                    merged[place] = candidate
            self._bins = merged

    def take(self, most: int, one_every: float) -> list[PersonCrop]:
        """Hand out a few good crops in order of time, and forget all.

        Args:
            most: crops.
            one_every: seconds of the track for which there is one; a shorter track has one.
        """
        if not self._bins or self._first is None:
            return []
        span = self._last - self._first
        left, chosen = list(self._bins.values()), list[PersonCrop]()
        count = min(most, 1 + int(span / one_every))
        while left and len(chosen) < count:
            best = max(left, key=lambda candidate: self._worth(candidate, chosen, span / count))
            left.remove(best)
            chosen.append(best.crop)
        self._forget()
        return sorted(chosen, key=lambda crop: crop.seconds or 0.0)

    @staticmethod
    def _worth(candidate: Candidate, chosen: list[PersonCrop], apart: float) -> float:
        """Return the goodness of a candidate, less where one chosen before is near in time."""
        near = min((abs((candidate.crop.seconds or 0.0) - (crop.seconds or 0.0)) for crop in chosen), default=apart)
        return candidate.goodness * min(1.0, near / apart if apart > 0 else 1.0)
