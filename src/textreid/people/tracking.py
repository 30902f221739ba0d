"""A tracker: which detections of one frame are the people of the frames before.

Each person has a Kalman filter of place and size. A frame's detections are given to people by the Hungarian algorithm
in three rounds: sure detections by overlap with where each person should be, and by appearance too where people cross;
unsure ones to those left over, since a person half hidden is still there; and sure ones left over, by appearance, to
people who have been out of sight.
Times are in seconds, so that the rate of the frames may vary.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from textreid.people.boxes import Boxes, Detections, iou

Features = npt.NDArray[np.float32]
Appearance = Callable[[list[int]], Features]  # features (N, D), of length 1, of some of a frame's detections


@dataclass(frozen=True)
class TrackerSettings:
    """Settings of a tracker: scores and overlaps from 0 to 1, times in seconds."""

    sure: float = 0.45  # score from which a detection may begin a track
    unsure: float = 0.25  # score from which it may continue one
    overlap: float = 0.15  # with where a person should be, from which on a sure detection is that person
    unsure_overlap: float = 0.3  # the same of an unsure one
    confirm: int = 3  # detections before a track is believed
    patience: float = 3.0  # out of sight until a track ends
    trust: float = 1.0  # out of sight until overlap alone does not tell who somebody is, where looks can be asked for
    doubt: float = 0.35  # out of sight until a track not yet believed ends
    alike: float = 0.75  # cosine of appearances from which two may be one person
    weight: float = 0.5  # of the cosine of appearances beside overlap, where two people cross
    unknown: float = 0.6  # cosine that stands for somebody whose appearance is not known yet
    look_every: float = 0.8  # between two looks at a person's appearance
    reach: float = 2.0  # body heights a second that a person out of sight may have moved


def settings_at(interval: float) -> TrackerSettings:
    """Return the settings for frames so many seconds apart.

    Where a person walks on by more than a width from one frame to the next, no second frame confirms anybody: who is
    surely seen is believed at once, as in a photograph, and known again by looks.
    """
    usual = TrackerSettings()
    if interval <= usual.doubt:
        return usual
    return replace(usual, confirm=1, patience=max(usual.patience, 2.5 * interval))


# Standard deviations, in parts of the height of the person: the walk of people, and the aim of detectors.
_AIM = np.array([0.05, 0.05, 0.06, 0.06])  # of a detection: centre x, centre y, width, height
_TURN = np.array([1.5, 1.0, 0.2, 0.2])  # change of speed within a second
_FIRST_SPEED = np.array([1.0, 0.7, 0.1, 0.1])  # a second, of somebody just seen


class BoxFilter:
    """Kalman filter of a box: centre, width and height, each with a speed of its own; they do not mix.

    Attributes:
        place: (4,) centre x, centre y, width, height in pixels.
        speed: (4,) the same a second.
    """

    def __init__(self, box: Boxes) -> None:
        """Begin at a box (4,)."""
        self.place = _centred(box)
        self.speed = np.zeros(4)
        height = self.place[3]
        self._var_place = (_AIM * height) ** 2
        self._var_speed = (_FIRST_SPEED * height) ** 2
        self._covariance = np.zeros(4)

    def predict(self, seconds: float) -> None:
        """Move on by a time."""
        noise = (_TURN * self.place[3]) ** 2  # of an acceleration that is constant within the step
        self.place = self.place + self.speed * seconds
        self.place[2:] = np.maximum(self.place[2:], 1.0)
        self._var_place = (
            self._var_place + seconds * (2 * self._covariance + seconds * self._var_speed) + noise * seconds**4 / 4
        )
        self._covariance = self._covariance + seconds * self._var_speed + noise * seconds**3 / 2
        self._var_speed = self._var_speed + noise * seconds**2

    def update(self, box: Boxes, doubt: float = 1.0) -> None:
        """Take a detection (4,) into account; with more ``doubt`` it counts less."""
        error = _centred(box) - self.place
        noise = (doubt * _AIM * self.place[3]) ** 2
        gain_place = self._var_place / (self._var_place + noise)
        gain_speed = self._covariance / (self._var_place + noise)
        self.place = self.place + gain_place * error
        self.speed = self.speed + gain_speed * error
        self._var_speed = self._var_speed - gain_speed * self._covariance
        self._covariance = (1 - gain_place) * self._covariance
        self._var_place = (1 - gain_place) * self._var_place

    @property
    def box(self) -> Boxes:
        """Corners (4,) of the box."""
        half = self.place[2:] / 2
        return np.concatenate([self.place[:2] - half, self.place[:2] + half]).astype(np.float32)


def _centred(box: Boxes) -> npt.NDArray[np.float64]:
    return np.concatenate([(box[:2] + box[2:]) / 2, box[2:] - box[:2]]).astype(np.float64)


@dataclass(eq=False)
class Track:
    """Person followed through frames.

    Attributes:
        serial: of all tracks begun, those that came to nothing too.
        filter: where the person is.
        seen: seconds, when the person was detected last.
        number: of the track, from 0, once it is believed; before that None.
        hits: how often the person was detected.
        features: (D,) mean appearance, or None where nobody looked.
    """

    serial: int
    filter: BoxFilter
    seen: float
    number: int | None = None
    hits: int = 1
    features: Features | None = None
    looked: float = field(default=-1e9)


class Sighting(NamedTuple):
    """A track, and the detection of the present frame that is it."""

    track: Track
    detection: int


class Step(NamedTuple):
    """What a frame brought: people seen, and tracks that have ended, believed ones only."""

    seen: list[Sighting]
    ended: list[Track]


class Tracker:
    """Tracker of people through the frames of one camera."""

    def __init__(self, settings: TrackerSettings | None = None, first: int = 0) -> None:
        """Begin without people; the first track believed gets the number ``first``."""
        self.settings = settings or TrackerSettings()
        self.tracks: list[Track] = []
        self._next, self._serial = first, 0
        self._now: float | None = None

    def update(self, seconds: float, found: Detections, appearance: Appearance | None = None) -> Step:
        """Take in the detections of a frame that is later than the one before.

        Args:
            seconds: time of the frame.
            found: its detections.
            appearance: called with the places of detections whose features are wanted, mostly few or none.
        """
        elapsed = 0.0 if self._now is None else max(seconds - self._now, 0.0)
        self._now = seconds
        ended = self._end(seconds)
        for track in self.tracks:
            track.filter.predict(elapsed)
        sure = [int(place) for place in np.flatnonzero(found.scores >= self.settings.sure)]
        unsure = [
            int(place)
            for place in np.flatnonzero((found.scores < self.settings.sure) & (found.scores >= self.settings.unsure))
        ]
        trust = self.settings.trust if appearance else self.settings.patience
        recent = [track for track in self.tracks if seconds - track.seen <= trust]
        seen = self._by_overlap(recent, found, sure, self.settings.overlap, appearance)
        seen += self._by_overlap(_but(recent, seen), found, unsure, self.settings.unsure_overlap)
        for track, place in seen:
            doubt = 1.0 if found.scores[place] >= self.settings.sure else 2.0
            track.filter.update(found.boxes[place], doubt)
        rest = [place for place in sure if place not in {sighting.detection for sighting in seen}]
        returned = self._by_appearance(_but(self.tracks, seen), found, rest, appearance) if appearance else []
        for track, place in returned:
            track.filter = BoxFilter(found.boxes[place])  # where it was says little after so long
        seen += returned
        for track, _ in seen:
            track.seen, track.hits = seconds, track.hits + 1
        seen += self._begin(found, [place for place in rest if place not in {each.detection for each in returned}])
        self._believe(seen)
        if appearance:
            self._look(seen, found, appearance)
        return Step(seen, ended)

    def finish(self) -> list[Track]:
        """End all tracks; return those believed."""
        tracks, self.tracks = self.tracks, []
        return [track for track in tracks if track.number is not None]

    def _end(self, seconds: float) -> list[Track]:
        limit = {True: self.settings.patience, False: self.settings.doubt}
        gone = [track for track in self.tracks if seconds - track.seen > limit[track.number is not None]]
        self.tracks = [track for track in self.tracks if track not in gone]
        return [track for track in gone if track.number is not None]

    def _by_overlap(
        self,
        tracks: list[Track],
        found: Detections,
        places: list[int],
        least: float,
        appearance: Appearance | None = None,
    ) -> list[Sighting]:
        if not tracks or not places:
            return []
        expected = np.stack([track.filter.box for track in tracks])
        overlaps = iou(expected, found.boxes[places])
        allowed = overlaps >= least
        costs = -overlaps.astype(np.float64)
        if appearance:
            costs -= self._alike_where_in_doubt(tracks, places, allowed, appearance)
        return [Sighting(tracks[row], places[column]) for row, column in assign(costs, allowed)]

    def _alike_where_in_doubt(
        self, tracks: list[Track], places: list[int], allowed: npt.NDArray[np.bool_], appearance: Appearance
    ) -> npt.NDArray[np.float64]:
        """Return what appearance adds to overlaps (N, M): 0, but for detections that two people may be, who cross."""
        bonus = np.zeros(allowed.shape)
        known = np.array([track.features is not None for track in tracks])
        doubtful = np.flatnonzero((allowed & known[:, None]).sum(axis=0) >= 2)
        if len(doubtful):
            features = appearance([places[column] for column in doubtful])
            for column, feature in zip(doubtful, features, strict=True):
                for row in np.flatnonzero(allowed[:, column]):
                    seen = tracks[row].features
                    alike = self.settings.unknown if seen is None else float(seen @ feature)
                    bonus[row, column] = self.settings.weight * alike
        return bonus

    def _by_appearance(
        self, tracks: list[Track], found: Detections, places: list[int], appearance: Appearance
    ) -> list[Sighting]:
        """Give detections that nobody was expected at to people out of sight, who look so and can have come there."""
        tracks = [track for track in tracks if track.features is not None and track.number is not None]
        if not tracks or not places:
            return []
        near = np.array([[self._within_reach(track, found.boxes[place]) for place in places] for track in tracks])
        if not near.any():
            return []
        known = np.stack([track.features for track in tracks if track.features is not None])
        alike = known @ appearance(places).T
        return [
            Sighting(tracks[row], places[column])
            for row, column in assign(-alike, near & (alike >= self.settings.alike))
        ]

    def _within_reach(self, track: Track, box: Boxes) -> bool:
        place, height = _centred(box), track.filter.place[3]
        since = (self._now or 0.0) - track.seen
        last = track.filter.place[:2] - track.filter.speed[:2] * since
        away = min(np.hypot(*(place[:2] - last)), np.hypot(*(place[:2] - track.filter.place[:2])))
        return bool(away <= height * (0.5 + self.settings.reach * since) and 0.6 < place[3] / height < 1.6)

    def _begin(self, found: Detections, places: Iterable[int]) -> list[Sighting]:
        begun = []
        for place in places:
            track = Track(self._serial, BoxFilter(found.boxes[place]), self._now or 0.0)
            self._serial += 1
            self.tracks.append(track)
            begun.append(Sighting(track, place))
        return begun

    def _believe(self, seen: list[Sighting]) -> None:
        for track, _ in seen:
            if track.number is None and track.hits >= self.settings.confirm:
                track.number, self._next = self._next, self._next + 1

    def _look(self, seen: list[Sighting], found: Detections, appearance: Appearance) -> None:
        """Learn how people look who were not looked at for a while and of whom nobody else hides a part."""
        now = self._now or 0.0
        due = [
            each
            for each in seen
            if each.track.number is not None
            and now - each.track.looked >= self.settings.look_every
            and found.scores[each.detection] >= self.settings.sure
        ]
        if not due:
            return
        overlaps = iou(found.boxes, found.boxes)
        np.fill_diagonal(overlaps, 0)
        due = [each for each in due if overlaps[each.detection].max() < 0.15 or each.track.features is None]
        features = appearance([each.detection for each in due]) if due else np.zeros((0, 1), np.float32)
        for (track, _), feature in zip(due, features, strict=True):
            mixed = feature if track.features is None else 0.7 * track.features + 0.3 * feature
            track.features = (mixed / max(float(np.linalg.norm(mixed)), 1e-9)).astype(np.float32)
            track.looked = now


def assign(costs: npt.NDArray[np.floating], allowed: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return pairs (row, column) of least cost in all, each row and column once, out of those allowed."""
    from scipy.optimize import linear_sum_assignment

    forbidden = 1e3  # above any sum of costs, so that one allowed pair more is always worth it
    rows, columns = linear_sum_assignment(np.where(allowed, costs, forbidden))
    return [(int(row), int(column)) for row, column in zip(rows, columns, strict=True) if allowed[row, column]]


def _but(tracks: list[Track], seen: list[Sighting]) -> list[Track]:
    taken = {each.track.serial for each in seen}
    return [track for track in tracks if track.serial not in taken]
