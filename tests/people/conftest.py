"""Drawn people who walk, videos of them, and a detector that needs no network where the network is not the matter."""

from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest
from scipy import ndimage

from textreid.people.boxes import Detections, no_detections
from textreid.seeding import generator
from textreid.synthetic import sample_person
from textreid.synthetic.domains import DOMAINS
from textreid.synthetic.drawing.render import render

Picture = npt.NDArray[np.uint8]
WriteVideo = Callable[..., Path]


class BlobDetector:
    """Detector of what is much brighter than black: each connected part is somebody."""

    name, side, heights = "blobs", 4096, (4, 4096)

    def detect(self, picture: Picture) -> Detections:
        parts, count = ndimage.label(picture.max(axis=2) > 60)
        if not count:
            return no_detections()
        found = [(columns.start, rows.start, columns.stop, rows.stop) for rows, columns in ndimage.find_objects(parts)]
        return Detections(np.array(found, np.float32), np.full(count, 0.9, np.float32))


@pytest.fixture(scope="session")
def people() -> list[Picture]:
    """Four drawn people, 150 pixels high."""
    domain = DOMAINS["plaza"]
    shots = [render(sample_person(domain, generator("person", number)), number, domain, 0, number) for number in (1, 5)]
    return [np.asarray(shot.image.resize((60, 150)), np.uint8) for shot in shots]


def write_video(
    path: Path,
    frames: Iterable[Picture],
    codec: str = "mpeg4",
    rate: int = 10,
    *,
    pixels: str = "yuv420p",
    stamps: Sequence[int] | None = None,
    base: Fraction | None = None,
    prepare: Callable[[Any], None] = lambda stream: None,
    options: dict[str, str] | None = None,
    file_format: str | None = None,
) -> Path:
    """Write pictures (H, W, 3) as a video; ``stamps`` are times of frames in units of ``base``."""
    pictures = list(frames)
    with av.open(str(path), "w", format=file_format) as container:
        stream: Any = container.add_stream(codec, rate=rate, options=options or {})
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = pixels
        if codec == "mpeg4":
            stream.bit_rate = 2_000_000
        if base is not None:
            stream.codec_context.time_base = base
        prepare(stream)
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            if stamps is not None:
                frame.pts, frame.time_base = stamps[number], base or Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def numbered(count: int, height: int = 48, width: int = 64) -> list[Picture]:
    """Frames whose mean brightness tells their number: 8 grey levels a frame, from 16 on."""
    return [np.full((height, width, 3), 16 + 8 * number % 232, np.uint8) for number in range(count)]


def blobs(places: Sequence[Sequence[tuple[int, int]]], height: int = 160, width: int = 320) -> list[Picture]:
    """Frames with a bright upright rectangle of 60 by 24 pixels at each (left, top)."""
    frames = []
    for frame_places in places:
        frame = np.zeros((height, width, 3), np.uint8)
        for number, (left, top) in enumerate(frame_places):
            frame[top : top + 60, max(left, 0) : max(left + 24, 0)] = (200, 80 + 60 * (number % 3), 220 - 70 * number)
        frames.append(frame)
    return frames
