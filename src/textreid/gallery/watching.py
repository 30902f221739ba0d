"""People whom Frigate has seen into a gallery, each with camera, time, zones and a link back to Frigate's event.

A round asks for what is new, and stores a few events at a time. What is in the gallery is not asked for again, so that
a round that was killed is continued by the next one.
"""

import hashlib
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from zoneinfo import ZoneInfo

import numpy as np
from PIL import Image

from textreid.errors import ConfigError, ImageError
from textreid.gallery.embedding_cache import FileStamp
from textreid.gallery.encoder import GalleryEncoder
from textreid.gallery.frigate import AwayError, Frigate, FrigateError, FrigateEvent
from textreid.gallery.indexing import why_empty
from textreid.gallery.store.indexing import exclusively, in_parts
from textreid.gallery.store.media import crops_of
from textreid.gallery.store.rows import Facts, NewFile
from textreid.gallery.store.store import Store
from textreid.images import read_image
from textreid.people import Detector, PersonCrop, analyse_photograph
from textreid.people.crops import as_rectangle, cut_out, grown
from textreid.version import __version__

_BATCH = 16  # events a transaction
_LOOKED_UP_AT_ONCE = 1024
_LATE_S = 600.0  # an event is told of when Frigate is sure, which may be after later ones
# An event without an end is taken as it is after that long, and a picture that is not answered given up.
_PATIENCE_S = 3600.0


@dataclass(frozen=True)
class Watched:
    """Which events are taken, and how their times are read.

    Attributes:
        cameras: of these; all when empty.
        since: seconds since 1970 from which on, where nothing is known of this Frigate yet.
        zone: of the cameras' wall clock; None takes that of this machine.
    """

    cameras: frozenset[str] = frozenset()
    since: float = 0.0
    zone: ZoneInfo | None = None

    def clock(self, seconds: float) -> datetime:
        """Return what a clock on the wall says so many seconds after 1970."""
        return datetime.fromtimestamp(seconds, self.zone).replace(tzinfo=None)


@dataclass
class WatchReport:
    """What a round did, in events.

    Attributes:
        indexed: are in the gallery now.
        waiting: are still in sight, or could not be had: the next round asks for them.
        quarantined: cannot be used; link and reason of each.
    """

    indexed: int = 0
    waiting: int = 0
    quarantined: list[tuple[str, str]] = field(default_factory=list)


def index_events(
    frigate: Frigate,
    store: Store,
    encoder: GalleryEncoder,
    detector: Callable[[], Detector],
    watched: Watched,
    now: float,
    stopped: Callable[[], bool] = lambda: False,
) -> WatchReport:
    """Bring the people whom Frigate has seen since the last round into a gallery.

    Args:
        frigate: that is asked.
        store: the gallery.
        encoder: its model.
        detector: loads what finds people, for thumbnails.
        watched: which events.
        now: seconds since 1970.
        stopped: asked before each batch; whether to leave the rest to the next round.

    Raises:
        AwayError, FrigateError: Frigate does not answer, or refuses.
        StoreError: the database refuses or went away, or another process watches the same Frigate.
    """
    report, lock = WatchReport(), f"frigate {frigate.url}"
    key = " ".join([lock, *sorted(watched.cameras)])  # for other cameras it begins anew
    with exclusively(store, lock, f"{frigate.url}: another process watches it for gallery {store.name!r}"):
        # Never ahead of the clock: of one that was set back, events would be waited for in vain.
        position = min(float(store.fact(key) or watched.since), now)
        events, wrong = frigate.events(max(0.0, watched.since, position - _LATE_S))
        report.quarantined += [(frigate.url, one) for one in wrong]
        new = [event for event in _unknown(frigate, store, events, report) if _of(watched, event)]
        # Until these are done, the next round begins no later.
        held = [event.start for event in new if event.end is None and now - event.start < _PATIENCE_S]
        done = [event for event in new if event.end is not None or now - event.start >= _PATIENCE_S]
        for batch in in_parts(done, _BATCH):
            if stopped():
                report.waiting = len(held)
                return report
            files, failed = _look(frigate, encoder, detector, watched, batch, now, report)
            if files:
                store.add(frigate.url, files)
            report.indexed += sum(bool(file.crops) for file in files)
            held += failed
            store.set_fact(key, min(batch[-1].start, *held, now))
        if not done and events:
            store.set_fact(key, min(events[-1].start, *held, now))
    report.waiting = len(held)
    return report


def _of(watched: Watched, event: FrigateEvent) -> bool:
    return not watched.cameras or event.camera in watched.cameras


def _unknown(
    frigate: Frigate, store: Store, events: Iterable[FrigateEvent], report: WatchReport
) -> list[FrigateEvent]:  # fmt: skip
    """Return the events that the gallery does not have, or has quarantined by another version."""
    new = []
    for part in in_parts(list(events), _LOOKED_UP_AT_ONCE):
        known = store.known_files([frigate.link(event) for event in part])
        for event in part:
            before = known.get(frigate.link(event))
            if before is None or (before.problem and before.version != __version__):
                new.append(event)
    return new


def _look(
    frigate: Frigate, encoder: GalleryEncoder, detector: Callable[[], Detector], watched: Watched,
    events: Sequence[FrigateEvent], now: float, report: WatchReport,
) -> tuple[list[NewFile], list[float]]:  # fmt: skip
    """Fetch the pictures of events and embed who is in them; returns what is to be stored, and starts of the failed."""
    files, people, failed = list[NewFile](), list[PersonCrop](), list[float]()
    for event in events:
        facts = Facts(event.camera, watched.clock(event.start), event.zones)
        content, problem = b"", None
        try:
            content, whole = frigate.picture(event)
            person = _person(content, event if whole else None, detector)
            people.append(replace(person, camera=facts.camera, time=facts.time, confidence=event.score))
        except AwayError as error:
            if now - event.start < _PATIENCE_S:
                failed.append(event.start)
                continue
            problem = str(error)
        except (FrigateError, ImageError) as error:
            problem = str(error)
        stamp = FileStamp(len(content), 0, 0)
        digest = hashlib.sha256(content).digest() if content else None
        files.append(NewFile(frigate.link(event), stamp, digest, (), facts, problem, kind="photograph"))
        report.quarantined += [(frigate.link(event), problem)] if problem else []
    found = iter(crops_of(people, encoder, Facts()) if people else ())
    files = [
        file if file.problem else replace(file, crops=(replace(next(found), tags=file.facts.tags),)) for file in files
    ]
    return files, failed


def _person(content: bytes, of: FrigateEvent | None, detector: Callable[[], Detector]) -> PersonCrop:
    """Cut somebody out of a frame by Frigate's box, or find them in a thumbnail.

    Raises:
        ImageError: it is no picture, or shows nobody.
    """
    try:
        picture = read_image(Image.open(io.BytesIO(content)))
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise ImageError(f"what Frigate keeps of it is no picture: {error}"[:200].replace("\n", " ")) from error
    if of is None or of.box is None:
        found = analyse_photograph(picture, detector=detector()).crops
        if not found:
            raise ImageError("nobody is found in its thumbnail, and Frigate keeps no frame of it")
        person = max(found, key=lambda one: one.box[2] * one.box[3])  # around whom the thumbnail was cut
    else:
        x, y, width, height = of.box
        corners = np.array([x, y, x + width, y + height], np.float32)
        corners *= np.array([picture.width, picture.height] * 2, np.float32)
        person = PersonCrop(cut_out(np.asarray(picture, np.uint8), grown(corners)), as_rectangle(corners), of.score)
    if reason := why_empty(Image.fromarray(person.pixels)):
        raise ImageError(reason)
    return person


def zone_of(name: str) -> ZoneInfo:
    """Read the name of a time zone, as ``Europe/Berlin``.

    Raises:
        ConfigError: there is none of that name.
    """
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(f"--zone {name!r}: no time zone of this machine, as Europe/Berlin") from error
