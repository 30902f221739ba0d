"""Photographs and video into a gallery: the people in them are detected, followed, cut out and embedded.

What has been looked at of a video is stored every ten seconds of it, with the position: a run that is killed goes on
from there, and so does one on a recording that has grown. Photographs are files like crops, but of many people each.
"""

import hashlib
import os
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image

from textreid.errors import DataError, ImageError, VideoError
from textreid.gallery.embedding_cache import FileStamp
from textreid.gallery.encoder import GalleryEncoder
from textreid.gallery.store.indexing import IndexReport, Knowledge, Pending, exclusively, in_parts, new_crops, with_exif
from textreid.gallery.store.rows import Facts, KnownFile, NewCrop, NewFile
from textreid.gallery.store.store import Store
from textreid.listing import by_product
from textreid.people import Analysed, Detector, PersonCrop, analyse_photograph, analyse_video, is_stream, is_video
from textreid.people.analysis import FRAMES_A_SECOND
from textreid.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable

_BEGINNING = 1 << 20  # bytes by which a video that has grown is known again


def find_videos(folder: Path) -> list[Path]:
    """Find the videos below a folder, in order; what other programs left, or is hidden, is not looked into."""
    found = []
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not by_product(name)]
        found += [Path(parent, name) for name in names if is_video(name) and not by_product(name)]
    return sorted(found)


def index_video(
    source: str,
    store: Store,
    encoder: GalleryEncoder,
    detector: Detector,
    knowledge: Knowledge | None = None,
    report: "Callable[[float, float | None, int], None] | None" = None,
    done: IndexReport | None = None,
    *,
    follow: float = 0.0,
    frames_a_second: float = FRAMES_A_SECOND,
) -> IndexReport:
    """Bring the people of a video or stream into a gallery: of each walk a few crops.

    Args:
        source: a file, or an address as ``rtsp://camera/1``; that ends when the stream does.
        store: the gallery.
        encoder: the model of the gallery.
        detector: what finds people.
        knowledge: its camera, the time of its beginning, and tags. A stream begins now.
        report: called with the seconds that have been looked at, first with those of earlier runs; how many there are,
            None where the video does not tell; and the crops so far.
        done: is added to, for who is interrupted; a new one by default.
        follow: seconds without growth after which a file that is still written counts as ended.
        frames_a_second: how many frames are looked at.

    Raises:
        DataError: there is no such file.
        StoreError: the database refuses or went away, or another process indexes the video.
        ConfigError: a package is missing.
    """
    knowledge, done = knowledge or Knowledge(), done or IndexReport()
    stream = is_stream(source)
    name = source if stream else os.path.realpath(source)
    facts, problem = knowledge.of(Path(name), Path(name).name)
    done.unmatched += [problem] if problem else []
    if stream and facts.time is None:
        facts = Facts(facts.camera, datetime.now(UTC).astimezone().replace(tzinfo=None), facts.tags)
    try:
        stamp, digest = (FileStamp(0, 0, 0), None) if stream else _identify(Path(name))
    except OSError as error:
        raise DataError(f"{source}: cannot be read: {error.strerror or error}") from error
    with exclusively(store, name, f"{source}: another process indexes it into gallery {store.name!r}"):
        before = store.known_files([name]).get(name)
        if before and not stream and _is_done(before, stamp, digest):
            _unchanged(before, facts, store, done)
            return done
        begun = NewFile(name, stamp, digest, facts=facts, kind="video", finished=False)
        goes_on = before is not None and before.kind == "video" and (stream or before.digest == digest)
        start = before.position if before and goes_on else 0
        crops = 0
        if report:
            report(start / 1000, None, 0)
        try:
            for part in _analyse(begun, start, store, encoder, detector, follow, frames_a_second):
                crops += len(part.crops)
                done.embedded += len(part.crops)
                done.quarantined += [(Path(name), part.problem)] if part.problem else []
                if report:
                    report(part.position / 1000, part.length and part.length / 1000, crops)
        except (VideoError, ImageError) as error:
            said = str(error).removeprefix(f"{source}: ").removeprefix(f"{name}: ")
            done.quarantined.append((Path(name), said))
            if not stream:
                store.add(name, [NewFile(name, stamp, digest, (), facts, said, kind="video")])
    return done


def _identify(path: Path) -> tuple[FileStamp, bytes]:
    """Stamp of a video, and digest of its beginning: all of it is not worth reading twice."""
    stamp = FileStamp.of(path)
    with path.open("rb") as stream:
        return stamp, hashlib.sha256(stream.read(_BEGINNING)).digest()


def _is_done(before: KnownFile, stamp: FileStamp, digest: bytes | None) -> bool:
    same = before.kind == "video" and before.finished and before.digest == digest and before.stamp.size == stamp.size
    return same and (not before.problem or before.version == __version__)


def _unchanged(before: KnownFile, facts: Facts, store: Store, done: IndexReport) -> None:
    if before.problem:
        done.quarantined.append((Path(before.path), before.problem))
    done.unchanged += 1
    wanted = Facts(facts.camera or before.facts.camera, facts.time or before.facts.time, facts.tags)
    if wanted != before.facts:
        store.change_facts({before.id: (before.facts, wanted)}, {})
        done.updated += 1


def _analyse(
    file: NewFile, start: int, store: Store, encoder: GalleryEncoder, detector: Detector, follow: float,
    frames_a_second: float,
) -> Iterator[Analysed]:  # fmt: skip
    """Analyse a video from ``start`` on, and store each part before the next."""
    known = store.known_files([file.path]).get(file.path) if start else None
    parts = analyse_video(
        file.path, start=start, detector=detector, embed=lambda pictures: embed_pictures(encoder, pictures),
        camera=file.facts.camera, started=file.facts.time, first_track=store.next_track(known.id) if known else 0,
        follow=follow, frames_a_second=frames_a_second,
    )  # fmt: skip
    append = start > 0
    for part in parts:
        crops = crops_of(part.crops, encoder, file.facts)
        finished = part.finished and not is_stream(file.path)
        stored = NewFile(
            file.path,
            file.stamp,
            file.digest,
            crops,
            file.facts,
            part.problem,
            part.position,
            finished,
            append,
            "video",
        )
        store.add(file.path, [stored])
        append = True
        yield part


def embed_pictures(encoder: GalleryEncoder, pictures: Sequence[npt.NDArray[np.uint8]]) -> npt.NDArray[np.float32]:
    """Return the vectors (N, D) of pictures (H, W, 3) uint8 of any size."""
    if not pictures:
        return np.zeros((0, encoder.dim), np.float32)
    parts = [
        encoder.encode_pixels(np.stack([encoder.decode(Image.fromarray(picture))[0] for picture in some]))
        for some in in_parts(pictures, encoder.batch_size)
    ]
    return np.concatenate(parts)


def crops_of(people: Sequence[PersonCrop], encoder: GalleryEncoder, facts: Facts) -> list[NewCrop]:
    """Embed people; what they do not know themselves is what is known of their file."""
    vectors = embed_pictures(encoder, [person.pixels for person in people])
    digests = [hashlib.sha256(person.jpeg).digest() for person in people]
    return [
        NewCrop(
            crop.embedding, crop.digest, person.jpeg, person.frame, person.seconds, person.time or facts.time,
            person.camera or facts.camera, person.box, person.track, facts.tags, crop.presence, crop.loss,
            person.confidence,
        )
        for person, crop in zip(people, new_crops(encoder, vectors, digests), strict=True)
    ]  # fmt: skip


def embed_photographs(
    detector: Detector, files: Sequence[Pending], source: str, store: Store, encoder: GalleryEncoder, done: IndexReport
) -> Iterator[int]:
    """Find the people in photographs and store them, one photograph a transaction; yields how many more are done."""
    for file in files:
        facts, crops, problem = with_exif(file), list[NewCrop](), None
        try:
            crops = crops_of(analyse_photograph(file.path, detector=detector).crops, encoder, facts)
        except ImageError as error:
            problem = str(error).removeprefix(f"{file.path}: ")
            done.quarantined.append((file.path, problem))
        stored = NewFile(os.fspath(file.path), file.stamp, file.digest, crops, facts, problem, kind="photograph")
        store.add(source, [stored])
        done.embedded += len(crops)
        yield 1
