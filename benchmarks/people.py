"""How well people in video are found and followed, and how fast: against marks made by hand on vtest.avi.

The video is no part of this repository: Debian's opencv-doc has it.

    apt-get download opencv-doc && dpkg-deb -x opencv-doc_*.deb opencv-doc
    python benchmarks/people.py opencv-doc/usr/share/doc/opencv-doc/examples/data/vtest.avi

``people_vtest.csv`` beside this file marks who is where in 200 of its 795 frames. Figures are of these frames; the
tracker sees all. A person counts as found in a frame where a box has half of the union in common with the mark. Who
leaves the picture and comes back begins a new walk. IDF1 is the harmonic mean of the parts of marks and of boxes that
agree, once every walk is given the one track that fits best.
"""

import argparse
import csv
import json
import os
import platform
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.optimize import linear_sum_assignment

from textreid.images import to_pixels
from textreid.people import Detector, PersonCrop, Video, analyse_video, load_detector
from textreid.people.analysis import look_at
from textreid.people.boxes import Boxes, Detections, iou
from textreid.people.tracking import Features, Tracker

MARKS = Path(__file__).parent / "people_vtest.csv"
OVERLAP = 0.5
RATE = 10.0  # analysed frames a second, which is that of the video
GAP_S = 4.0  # a track that was out of sight so long is drawn through

Placed = dict[int, dict[int, Boxes]]  # by frame, by walk or track


class Frame(NamedTuple):
    """A frame that was looked at: its number, its time in seconds, and what a detector found."""

    number: int
    seconds: float
    found: Detections
    crops: list[npt.NDArray[np.uint8]]


def read_marks(path: Path) -> tuple[Placed, dict[int, str]]:
    """Read marks: where each walk is in each frame that is marked, and whose walk it is."""
    marks: Placed = defaultdict(dict)
    people: dict[int, str] = {}
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(line for line in file if not line.startswith("#")):
            left, top, width, height = (float(row[name]) for name in ("left", "top", "width", "height"))
            walk = int(row["walk"])
            marks[int(row["frame"])][walk] = np.array([left, top, left + width, top + height], np.float32)
            people[walk] = row["person"]
    return dict(marks), people


def matches(marks: dict[int, Boxes], boxes: dict[int, Boxes]) -> list[tuple[int, int]]:
    """Return pairs of a walk and a track that are one in a frame: as many as there can be, each once."""
    if not marks or not boxes:
        return []
    people, tracks = list(marks), list(boxes)
    overlaps = iou(np.stack([marks[person] for person in people]), np.stack([boxes[track] for track in tracks]))
    rows, columns = linear_sum_assignment(np.where(overlaps >= OVERLAP, -overlaps, 10.0))
    return [
        (people[row], tracks[column])
        for row, column in zip(rows, columns, strict=True)
        if overlaps[row, column] >= OVERLAP
    ]


def score(marks: Placed, boxes: Placed) -> dict[str, float]:
    """Return recall, precision, IDF1 and fragments a walk of tracks in the frames that are marked."""
    together: dict[tuple[int, int], int] = defaultdict(int)  # frames in which person and track are one
    overlapping: dict[tuple[int, int], int] = defaultdict(int)
    marked = boxed = matched = 0
    for frame, people in marks.items():
        tracks = boxes.get(frame, {})
        marked, boxed = marked + len(people), boxed + len(tracks)
        for pair in matches(people, tracks):
            together[pair] += 1
            matched += 1
        for person, mark in people.items():
            for track, box in tracks.items():
                overlapping[person, track] += bool(iou(mark[None], box[None])[0, 0] >= OVERLAP)
    people_seen, tracks_seen = ({pair[side] for pair in overlapping} for side in (0, 1))
    rows, columns = sorted(people_seen), sorted(tracks_seen)
    counts = np.array([[overlapping.get((row, column), 0) for column in columns] for row in rows]).reshape(
        len(rows), len(columns)
    )
    same = counts[linear_sum_assignment(-counts)].sum() if counts.size else 0
    everyone = {person for people in marks.values() for person in people}
    fragments = [len({track for person, track in together if person == one}) for one in everyone]
    return {
        "recall": matched / max(marked, 1),
        "precision": matched / max(boxed, 1),
        "IDF1": 2 * same / max(marked + boxed, 1),
        "fragments a walk": float(np.mean([count for count in fragments if count] or [0])),
        "tracks": float(len({track for tracks in boxes.values() for track in tracks})),
    }


def follow(frames: Sequence[Frame], embed: "Embedder | None") -> Placed:
    """Follow people through all frames; where a track was out of sight it is drawn as a straight line."""
    tracker = Tracker()
    seen: dict[int, list[tuple[int, Boxes, int]]] = defaultdict(list)
    numbers: dict[int, int] = {}
    for frame in frames:
        appearance = (lambda places, frame=frame: embed([frame.crops[place] for place in places])) if embed else None
        step = tracker.update(frame.seconds, frame.found, appearance)
        for track, place in step.seen:
            seen[track.serial].append((frame.number, frame.found.boxes[place], place))
            if track.number is not None:
                numbers[track.serial] = track.number
    return drawn_through({numbers[serial]: each for serial, each in seen.items() if serial in numbers})


def drawn_through(tracks: dict[int, list[tuple[int, Boxes, int]]]) -> Placed:
    """Return the boxes of tracks by frame, with straight lines through gaps."""
    placed: Placed = defaultdict(dict)
    for track, sightings in tracks.items():
        for (first, start, _), (last, end, _) in zip(sightings, [*sightings[1:], sightings[-1]], strict=True):
            span = last - first
            placed[first][track] = start
            if span <= GAP_S * RATE:
                for frame in range(first + 1, last):
                    part = np.float32((frame - first) / span)
                    placed[frame][track] = (1 - part) * start + part * end
    return placed


class Embedder:
    """Features of crops by the bundled model."""

    def __init__(self) -> None:
        from textreid.models import load_model

        self._model = load_model()
        self.count = 0

    def __call__(self, crops: Sequence[npt.NDArray[np.uint8]]) -> Features:
        """Return features (N, D) of N crops, of length 1."""
        self.count += len(crops)
        config = self._model.config
        pixels = [to_pixels(Image.fromarray(crop), config.image_height, config.image_width) for crop in crops]
        return np.asarray(self._model.encode_pixels(np.stack(pixels)), np.float32)


def detect(path: Path, detector: Detector) -> list[Frame]:
    """Look at every frame."""
    from textreid.people.crops import cut_out

    with Video(path, RATE) as video:
        return [
            Frame(frame.number, frame.seconds, found, [cut_out(frame.pixels, box) for box in found.boxes])
            for frame, found in look_at(video, detector)
        ]


def walks_found(marks: Placed, crops: Sequence[PersonCrop]) -> set[int]:
    """Return the walks of which a crop was handed out: in its frame, or between the marks before and after it."""
    found = set()
    marked = sorted(marks)
    for crop in crops:
        frame = crop.frame or 0
        before = max(each for each in marked if each <= frame)
        after = min((each for each in marked if each >= frame), default=before)
        part = np.float32((frame - before) / max(after - before, 1))
        left, top, width, height = crop.box
        box = np.array([[left, top, left + width, top + height]], np.float32)
        for walk in marks[before].keys() & marks[after].keys():
            mark = (1 - part) * marks[before][walk] + part * marks[after][walk]
            if iou(mark[None], box)[0, 0] >= OVERLAP:
                found.add(walk)
    return found


def bytetrack(frames: Sequence[Frame]) -> Placed:
    """Follow people with ByteTrack of the package trackers, which needs supervision and OpenCV."""
    import supervision
    from trackers import ByteTrackTracker

    tracker = ByteTrackTracker(frame_rate=RATE)
    seen: dict[int, list[tuple[int, Boxes, int]]] = defaultdict(list)
    for frame in frames:
        given = supervision.Detections(xyxy=frame.found.boxes, confidence=frame.found.scores)
        followed = tracker.update(given)
        for box, track in zip(followed.xyxy, followed.tracker_id, strict=True):
            if track >= 0:
                seen[int(track)].append((frame.number, np.asarray(box, np.float32), 0))
    return drawn_through(seen)


def of_detector(marks: Placed, frames: Sequence[Frame], least: float) -> dict[str, float]:
    """Return recall and precision of what a detector found with a score at least, without a tracker."""
    boxes = {
        frame.number: {place: box for place, box in enumerate(frame.found.boxes) if frame.found.scores[place] >= least}
        for frame in frames
    }
    scored = score(marks, boxes)
    return {"recall": scored["recall"], "precision": scored["precision"]}


def main() -> None:
    """Measure, print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", type=Path)
    parser.add_argument("--marks", type=Path, default=MARKS)
    parser.add_argument("--detector", type=Path, help="an ONNX file; else the bundled one")
    parser.add_argument("--rounds", type=int, default=3, help="of the whole analysis, for its time")
    parser.add_argument("--bytetrack", action="store_true", help="beside ours; needs trackers and supervision")
    options = parser.parse_args()
    (marks, people), detector = read_marks(options.marks), load_detector(options.detector)
    frames = detect(options.video, detector)
    embed = Embedder()
    embed([np.zeros((64, 32, 3), np.uint8)])  # what is set up at the first use is no part of a video's time
    figures: dict[str, object] = {
        "marks": sum(map(len, marks.values())),
        "detector, score 0.3": of_detector(marks, frames, 0.3),
        "detector, score 0.5": of_detector(marks, frames, 0.5),
        "tracker, by place": score(marks, follow(frames, None)),
        "tracker, by place and looks": score(marks, follow(frames, embed)),
    }
    if options.bytetrack:
        figures["ByteTrack"] = score(marks, bytetrack(frames))
    seconds, busy, crops = [], [], list[PersonCrop]()
    for _ in range(options.rounds):
        embed.count = 0
        start, start_busy = time.perf_counter(), time.process_time()
        crops = [crop for part in analyse_video(options.video, detector=detector, embed=embed) for crop in part.crops]
        seconds.append(time.perf_counter() - start)
        busy.append(time.process_time() - start_busy)
    length = frames[-1].seconds + 1 / RATE
    found = walks_found(marks, crops)
    known = {person for person in people.values() if person <= "vt10"}
    figures |= {
        "crops": len(crops),
        "tracks with crops": len({crop.track for crop in crops}),
        "walks with a crop": f"{len(found)} of {len(people)}",
        "of the ten people known, with a crop": len(known & {people[walk] for walk in found}),
        "people without a crop": sorted(set(people.values()) - {people[walk] for walk in found}),
        "crops embedded on the way": embed.count,
        "times real time": {"median": round(length / float(np.median(seconds)), 2), "seconds": seconds},
        "seconds of processors a second of video": round(float(np.median(busy)) / length, 3),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}",
    }
    print(json.dumps(figures, indent=1, default=lambda value: round(value, 3)))


if __name__ == "__main__":
    main()
