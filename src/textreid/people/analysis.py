"""Photographs and video in, crops of people out: decoding, detection and tracking side by side.

A video is read once, whatever its length, in memory that does not grow: every ten seconds of it the crops so far are
handed out, with the position from which a later run can go on.
"""

import os
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from itertools import repeat, takewhile
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from textreid.errors import ConfigError
from textreid.images import map_ahead, read_image
from textreid.people.boxes import Detections, areas
from textreid.people.crops import PersonCrop, TrackCrops, as_rectangle, cut_out, goodness, grown, of_use
from textreid.people.detector import Detector, load_detector
from textreid.people.tiling import detect_at_scales, scales_for
from textreid.people.tracking import Features, Track, Tracker, TrackerSettings, settings_at
from textreid.people.video import Frame, Video, is_video

Embed = Callable[[Sequence[npt.NDArray[np.uint8]]], Features]

FRAMES_A_SECOND = 10.0  # analysed
VIDEO_PIXELS = 768 * 576  # that a frame of a video is looked at in
PHOTOGRAPH_PIXELS = 24e6  # that a photograph is looked at in
PHOTOGRAPH_SCORE = 0.4  # from which a person in a photograph counts: no second frame confirms it
WINDOW_S = 10.0  # of a video, after which crops are handed out
CROPS_A_WINDOW = 4  # at most, of one track that is new
CROP_EVERY_S = 2.5  # of a track there is one
_DETECTING, _AHEAD = 2, 4  # threads, and frames read before they are asked for


@dataclass(frozen=True, eq=False)
class Analysed:
    """Part of a video, or a photograph, that has been looked at.

    Attributes:
        crops: of the people in it, in order of time.
        position: milliseconds from the beginning of the video: what is before it has been handed out, what is after
            it has not. A run that ``start`` s there goes on.
        finished: whether the end was reached.
        problem: what is wrong with the video as a whole, in words, where it has been read to its end all the same.
        length: milliseconds that the video lasts, so far as it says; at its end, where that is. None where it says
            nothing, as a stream, or still grows.
    """

    crops: tuple[PersonCrop, ...]
    position: int
    finished: bool
    problem: str | None = None
    length: int | None = None


def find_people(
    source: str | os.PathLike[str],
    *,
    detector: Detector | None = None,
    embed: Embed | None = None,
    frames_a_second: float = FRAMES_A_SECOND,
) -> Iterator[PersonCrop]:
    """Yield the people in a photograph, a video file or a stream: of each walk through a video a few good crops.

    Args:
        source: a path, or an address as ``rtsp://camera/1``.
        detector: what finds people; None takes the bundled one.
        embed: features (N, D), of length 1, of N crops, by which a person is known again who was out of sight.
        frames_a_second: how many frames of a video are looked at.

    Raises:
        ImageError, VideoError: the file cannot be read.
        ConfigError: PyAV, onnxruntime or scipy is not installed.
    """
    if is_video(source):
        parts = analyse_video(source, detector=detector, embed=embed, frames_a_second=frames_a_second)
    else:
        parts = iter([analyse_photograph(Path(source), detector=detector)])
    for part in parts:
        yield from part.crops


def analyse_photograph(
    path: str | os.PathLike[str] | Image.Image, *, detector: Detector | None = None, camera: str | None = None
) -> Analysed:
    """Return all people in a photograph, a file or a picture, from those who fill it down to 50 pixels or so.

    Raises:
        ImageError: it cannot be read.
    """
    picture = np.asarray(read_image(path), np.uint8)
    detector = detector or load_detector()
    scales = scales_for(detector, picture.shape[1], picture.shape[0], PHOTOGRAPH_PIXELS)
    found = detect_at_scales(detector, picture, scales)
    found = found.take((found.scores >= PHOTOGRAPH_SCORE) & of_use(found.boxes))
    crops = tuple(
        PersonCrop(cut_out(picture, grown(box)), as_rectangle(box), float(score), camera=camera)
        for box, score in zip(*found, strict=True)
    )
    return Analysed(crops, 0, finished=True)


def analyse_video(
    source: str | os.PathLike[str],
    *,
    start: int = 0,
    detector: Detector | None = None,
    embed: Embed | None = None,
    frames_a_second: float = FRAMES_A_SECOND,
    camera: str | None = None,
    started: datetime | None = None,
    first_track: int = 0,
    follow: float = 0.0,
    settings: TrackerSettings | None = None,
) -> Iterator[Analysed]:
    """Yield the people in a video, part after part, also where there is nobody.

    Args:
        source: a file, or the address of a stream.
        start: position, of an earlier part, to go on from: milliseconds.
        detector: what finds people; None takes the bundled one.
        embed: features (N, D), of length 1, of N crops (H, W, 3), by which a person is known again who was out of
            sight; None goes by place alone.
        frames_a_second: how many frames are looked at.
        camera: what its crops are said to come from.
        started: wall clock of the first frame, without a zone.
        first_track: number of the first track; a run that goes on says how many there are.
        follow: seconds without growth after which a file that is still written counts as ended; 0 takes it as it is.
        settings: of the tracker; None takes those for so many frames a second.

    Raises:
        VideoError: it cannot be read at all.
        ConfigError: PyAV, onnxruntime or scipy is not installed.
    """
    check_scipy()
    detector = detector or load_detector()
    with Video(source, frames_a_second, start=start / 1000, follow=follow) as video:
        tracker = Tracker(settings or settings_at(video.interval), first_track)
        followed = _Followed(tracker, embed, camera, started)
        length = None if follow > 0 or video.duration is None else round(video.duration * 1000)
        position, boundary = start, start / 1000 + WINDOW_S
        # Closed before the video is: a thread that decodes while its file is closed ends the process.
        with closing(look_at(video, detector)) as looked_at:
            for frame, found in looked_at:
                if frame.seconds >= boundary:
                    position = round(frame.seconds * 1000)
                    boundary = frame.seconds + WINDOW_S
                    yield Analysed(followed.hand_out(), position, finished=False, length=length)
                followed.add(frame, found)
                position = max(position, round(frame.seconds * 1000) + 1)
        yield Analysed(followed.finish(), position, finished=True, problem=video.problem, length=position)


def check_scipy() -> None:
    """Refuse to begin a video that could not be followed.

    Raises:
        ConfigError: scipy is not installed.
    """
    try:
        import scipy.optimize  # noqa: F401
    except ImportError:
        raise ConfigError("following people needs scipy: pip install 'textreid[gallery]' installs it") from None


def look_at(video: Video, detector: Detector) -> Generator[tuple[Frame, Detections]]:
    """Yield frames and the people in them; frames are decoded in one thread and looked at in two others."""
    frames = iter(video)
    with closing(map_ahead(lambda _: next(frames, None), repeat(None), 1, _AHEAD)) as decoded:
        some = (frame for frame in takewhile(lambda frame: frame is not None, decoded) if frame)
        with closing(map_ahead(partial(_detect, detector), some, _DETECTING, _AHEAD)) as looked_at:
            yield from looked_at


def _detect(detector: Detector, frame: Frame) -> tuple[Frame, Detections]:
    height, width = frame.pixels.shape[:2]
    return frame, detect_at_scales(detector, frame.pixels, scales_for(detector, width, height, VIDEO_PIXELS))


def _appearance(embed: Embed, frame: Frame, found: Detections, places: list[int]) -> Features:
    return embed([cut_out(frame.pixels, found.boxes[place]) for place in places])


class _Followed:
    """People of a video who are being followed, with the candidates for their crops."""

    def __init__(self, tracker: Tracker, embed: Embed | None, camera: str | None, started: datetime | None) -> None:
        self._tracker, self._embed, self._camera, self._started = tracker, embed, camera, started
        self._candidates: dict[int, TrackCrops] = {}
        self._windows: dict[int, int] = {}
        self._ready: list[PersonCrop] = []

    def add(self, frame: Frame, found: Detections) -> None:
        """Follow people into the next frame."""
        found = found.take(areas(found.boxes) > 0)
        appearance = partial(_appearance, self._embed, frame, found) if self._embed else None
        step = self._tracker.update(frame.seconds, found, appearance)
        self._collect(frame, found, [(track, place) for track, place in step.seen])
        for track in step.ended:
            self._close(track)
        alive = {track.serial for track in self._tracker.tracks}
        self._candidates = {serial: kept for serial, kept in self._candidates.items() if serial in alive}
        self._windows = {serial: count for serial, count in self._windows.items() if serial in alive}

    def hand_out(self) -> tuple[PersonCrop, ...]:
        """Return the crops so far of tracks that are believed; what is not yet believed stays."""
        for track in self._tracker.tracks:
            if track.number is not None:
                self._take(track)
        ready, self._ready = self._ready, []
        return tuple(sorted(ready, key=lambda crop: (crop.seconds or 0.0, crop.track or 0)))

    def finish(self) -> tuple[PersonCrop, ...]:
        """Return the crops that are left, at the end."""
        for track in self._tracker.finish():
            self._close(track)
        return self.hand_out()

    def _collect(self, frame: Frame, found: Detections, seen: list[tuple[Track, int]]) -> None:
        useful = of_use(found.boxes)
        values = goodness(frame.pixels, found.boxes, found.scores)
        for track, place in seen:
            kept = self._candidates.setdefault(track.serial, TrackCrops())
            if not useful[place]:
                continue
            if not kept.wants(frame.seconds, values[place]):
                kept.note(frame.seconds)
                continue
            crop = PersonCrop(
                cut_out(frame.pixels, grown(found.boxes[place])),
                as_rectangle(found.boxes[place]),
                float(found.scores[place]),
                frame=frame.number,
                seconds=frame.seconds,
                time=self._started + timedelta(seconds=frame.seconds) if self._started else None,
                camera=self._camera,
            )
            kept.add(crop, values[place])

    def _close(self, track: Track) -> None:
        self._take(track)
        self._candidates.pop(track.serial, None)
        self._windows.pop(track.serial, None)

    def _take(self, track: Track) -> None:
        """Choose crops of a track: several of the first seconds, then one of each stretch that somebody stays."""
        windows = self._windows.get(track.serial, 0)
        kept = self._candidates.get(track.serial)
        chosen = kept.take(1 if windows else CROPS_A_WINDOW, CROP_EVERY_S) if kept else []
        if chosen:
            self._windows[track.serial] = windows + 1
        self._ready += [crop.of_track(track.number) for crop in chosen]
