"""Folders of crops into a gallery: only what is new is embedded, what is gone is forgotten, what is bad is named.

A file is looked at by its size and times, then by the digest of its content, and embedded only if no file of the
gallery has that content. Every batch is stored before the next is begun: a run that is killed at any moment is
continued by the same command.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import numpy.typing as npt

from textreid.artifacts import file_digest
from textreid.errors import ConfigError, DataError, ImageError
from textreid.gallery.embedding_cache import FileStamp
from textreid.gallery.encoder import GalleryEncoder
from textreid.gallery.indexing import why_empty
from textreid.gallery.store import writing
from textreid.gallery.store.database import Database
from textreid.gallery.store.errors import PassingError
from textreid.gallery.store.provenance import PathPattern, merged, read_exif
from textreid.gallery.store.rows import Facts, KnownFile, NewCrop, NewFile
from textreid.gallery.store.store import Store
from textreid.images import map_ahead
from textreid.listing import list_images
from textreid.people import is_video
from textreid.version import __version__

if TYPE_CHECKING:
    from textreid.models.device import Precision

BATCH_SIZE = 64  # files a transaction, where nothing is embedded
_LOOKED_UP_AT_ONCE = 1024
_THREADS = 4
_OF_THE_MOMENT = "cannot be read"  # a network disk may answer next time

Item = TypeVar("Item")
# Finds people in new photographs and stores them; yields how many more are done.
Embedding = Callable[[Sequence["Pending"], str, "Store", GalleryEncoder, "IndexReport"], Iterator[int]]
MakeEncoder = Callable[["str | Path | None", "Precision"], GalleryEncoder]
Report = Callable[[int, int], None]  # how many files are done, of how many


@dataclass(frozen=True)
class Knowledge:
    """What is known of pictures beside their pixels.

    Attributes:
        pattern: of their paths below the source.
        table: of a sidecar, by path below the source or absolute.
        camera: of those of which neither of them tells it.
        tags: that every picture gets.
    """

    pattern: PathPattern | None = None
    table: dict[str, Facts] = field(default_factory=dict)
    camera: str | None = None
    tags: tuple[str, ...] = ()

    def of(self, path: Path, name: str) -> tuple[Facts, str]:
        """Return what is known of the file ``path``, called ``name`` below its source, and why the pattern is not."""
        facts = self.table.get(name) or self.table.get(os.fspath(path)) or Facts()
        problem = ""
        if self.pattern:
            read = self.pattern.read(name)
            problem = read if isinstance(read, str) else ""
            facts = facts if isinstance(read, str) else merged(facts, read)
        return Facts(facts.camera or self.camera, facts.time, tuple(dict.fromkeys((*facts.tags, *self.tags)))), problem


@dataclass
class IndexReport:
    """What an indexing did, in files.

    Attributes:
        embedded: looked at by the model.
        copied: with a content that the gallery had, as of a file that was renamed.
        unchanged: as the gallery had them.
        updated: of those, with another camera, time or tags than before.
        deleted: gone from the source, and so from the gallery.
        quarantined: cannot be used now; path and reason of each.
        unmatched: whose path the pattern does not fit, each with the part that does not.
        notes: lines on what was left out when the folder was listed.
    """

    embedded: int = 0
    copied: int = 0
    unchanged: int = 0
    updated: int = 0
    deleted: int = 0
    quarantined: list[tuple[Path, str]] = field(default_factory=list)
    unmatched: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class Pending:
    """A file that is new to a gallery, with what is known of it."""

    path: Path
    stamp: FileStamp
    digest: bytes
    facts: Facts


def index_crops(
    folder: Path,
    store: Store,
    encoder: GalleryEncoder,
    knowledge: Knowledge | None = None,
    report: Report | None = None,
    done: IndexReport | None = None,
    *,
    photographs: Embedding | None = None,
    may_be_empty: bool = False,
) -> IndexReport:
    """Bring the crops below a folder, one person each, into a gallery, and take out those that are gone.

    Args:
        folder: with its subfolders; or one image file.
        store: the gallery.
        encoder: the model of the gallery (`encoder_of`).
        knowledge: cameras, times and tags.
        report: called with progress.
        done: is added to as files are done, for who is interrupted; a new one by default.
        photographs: what finds the people in the images, where these are no crops.
        may_be_empty: whether a folder without images is right, as one of videos is.

    Raises:
        DataError: the folder is missing, or has no images.
        ConfigError: the pattern fits none of the files; says which part.
        StoreError: the database refuses or went away, or another process indexes the folder.
    """
    knowledge, done = knowledge or Knowledge(), done or IndexReport()
    root = Path(os.path.realpath(folder))
    single = root.is_file()
    listing = None if single else list_images(root)
    images = [root] if listing is None else listing.images
    if listing is not None:
        # Videos are read too, and named by who does that.
        readable = [suffix for suffix in listing.other_formats if is_video(f"video{suffix}")]
        for suffix in readable:
            del listing.other_formats[suffix]
        done.notes += listing.notes()
    source = os.fspath(root)
    base = root.parent if single else root
    with exclusively(store, source, f"{folder}: another process indexes it into gallery {store.name!r}"):
        if not images and not may_be_empty and not store.sources().get(source):
            raise DataError(f"{folder}: no images below this folder; {'; '.join(done.notes)}".rstrip("; "))
        _check_pattern(images, base, knowledge, done)
        finished = 0
        for part in in_parts(images, _LOOKED_UP_AT_ONCE):
            for count in _index_part(part, base, source, store, encoder, knowledge, done, photographs):
                finished += count
                if report:
                    report(finished, len(images))
        done.deleted += _forget_missing(store, source, {os.fspath(path) for path in images})
    return done


def _check_pattern(images: Sequence[Path], base: Path, knowledge: Knowledge, done: IndexReport) -> None:
    if knowledge.pattern is None:
        return
    problems = [knowledge.of(path, path.relative_to(base).as_posix())[1] for path in images]
    unmatched = [problem for problem in problems if problem]
    if unmatched and len(unmatched) == len(images):
        raise ConfigError(f"--pattern fits none of {len(images):,} files; {unmatched[0]}")
    done.unmatched += unmatched


def _index_part(
    paths: Sequence[Path], base: Path, source: str, store: Store, encoder: GalleryEncoder, knowledge: Knowledge,
    done: IndexReport, photographs: Embedding | None,
) -> Iterator[int]:  # fmt: skip
    """Index some files; yields how many more are done."""
    names = {}
    for path in paths:
        try:
            names[os.fspath(path)] = os.fspath(path).encode("utf-8").decode("utf-8")
        except UnicodeEncodeError:
            done.quarantined.append((path, "its name is not UTF-8, which a database of text cannot keep; rename it"))
    kind = "photograph" if photographs else "crop"
    known = {name: file for name, file in store.known_files(list(names)).items() if file.kind == kind}
    new: list[Pending] = []
    changes: dict[int, tuple[Facts, Facts]] = {}
    touched: dict[int, FileStamp] = {}
    with closing(map_ahead(lambda name: _look(name, known.get(name)), names, _THREADS, 64)) as looks:
        for name, look in zip(names, looks, strict=True):
            path = Path(name)
            facts, _ = knowledge.of(path, path.relative_to(base).as_posix())
            before = known.get(name)
            if isinstance(look, str):  # it may be readable next time: nothing is kept of it
                done.quarantined.append((path, look))
            elif before and before.digest == look[1] and (not before.problem or before.version == __version__):
                _unchanged(path, before, look[0], facts, changes, touched, done)
            else:
                new.append(Pending(path, look[0], look[1], facts))
    if changes or touched:
        store.change_facts(changes, touched)
    yield len(paths) - len(new)
    if photographs:
        yield from photographs(new, source, store, encoder, done)
        return
    contents = {file.digest for file in new}
    copies = store.database.run(lambda c: writing.known_contents(c, store.id, list(contents))) if new else {}
    copied = [file for file in new if file.digest in copies]
    for batch in in_parts(copied, BATCH_SIZE):
        store.add(source, [_stored(file, copies[file.digest], with_exif(file)) for file in batch])
        done.copied += len(batch)
        yield len(batch)
    yield from _embed([file for file in new if file.digest not in copies], source, store, encoder, done)


def _look(name: str, before: KnownFile | None) -> tuple[FileStamp, bytes] | str:
    """Stamp and digest of a file, read only if its stamp changed; or why it cannot be read."""
    try:
        stamp = FileStamp.of(Path(name))
        if before and before.digest and before.stamp == stamp:
            return stamp, before.digest
        return stamp, bytes.fromhex(file_digest(Path(name)))
    except OSError as error:
        return error.strerror or str(error)


def _unchanged(
    path: Path, before: KnownFile, stamp: FileStamp, facts: Facts, changes: dict[int, tuple[Facts, Facts]],
    touched: dict[int, FileStamp], done: IndexReport,
) -> None:  # fmt: skip
    if before.problem:
        done.quarantined.append((path, before.problem))
        return
    done.unchanged += 1
    if before.stamp != stamp:
        touched[before.id] = stamp
    # What EXIF told stays known where nothing else is said now.
    wanted = Facts(facts.camera or before.facts.camera, facts.time or before.facts.time, facts.tags)
    if wanted != before.facts:
        changes[before.id] = (before.facts, wanted)
        done.updated += 1


def _embed(
    files: Sequence[Pending], source: str, store: Store, encoder: GalleryEncoder, done: IndexReport
) -> Iterator[int]:
    def decode(file: Pending) -> tuple[npt.NDArray[np.uint8], str, Facts] | str:
        try:
            pixels, picture = encoder.decode(file.path)
            return pixels, why_empty(picture), with_exif(file)
        except ImageError as error:
            return str(error).removeprefix(f"{file.path}: ")

    with closing(map_ahead(decode, files, _THREADS, 2 * encoder.batch_size)) as decoded:
        for batch in in_parts(files, encoder.batch_size):
            results = [next(decoded) for _ in batch]
            good = [(file, *result) for file, result in zip(batch, results, strict=True) if _usable(result)]
            stored = []
            if good:
                vectors = encoder.encode_pixels(np.stack([pixels for _, pixels, _, _ in good]))
                crops = new_crops(encoder, vectors, [file.digest for file, _, _, _ in good])
                stored = [_stored(good[i][0], crop, good[i][3]) for i, crop in enumerate(crops)]
            for file, result in zip(batch, results, strict=True):
                problem = result if isinstance(result, str) else result[1]
                if problem:
                    done.quarantined.append((file.path, problem))
                if problem and not problem.startswith(_OF_THE_MOMENT):
                    stored.append(NewFile(os.fspath(file.path), file.stamp, file.digest, (), file.facts, problem))
            # Of what changed since it was hashed the vector is not that of the digest: the next run embeds it.
            store.add(source, [one for one in stored if _is_as_it_was(one)])
            done.embedded += len(good)
            yield len(batch)


def in_parts(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    """Yield items in parts of ``size``, the last perhaps smaller."""
    return (items[begin : begin + size] for begin in range(0, len(items), size))


def _usable(result: tuple[npt.NDArray[np.uint8], str, Facts] | str) -> bool:
    return not isinstance(result, str) and not result[1]


def _is_as_it_was(file: NewFile) -> bool:
    try:
        return FileStamp.of(Path(file.path)) == file.stamp
    except OSError:
        return False


def new_crops(encoder: GalleryEncoder, vectors: npt.NDArray[np.float32], digests: Sequence[bytes]) -> list[NewCrop]:
    """Make crops of vectors (N, D), with what the model says of whether they show somebody."""
    if encoder.presence is None:
        return [NewCrop(vector, digest) for vector, digest in zip(vectors, digests, strict=True)]
    odds = encoder.presence.log_odds(vectors)
    losses = encoder.presence.losses(odds)
    return [
        NewCrop(vector, digest, presence=float(odd), loss=float(loss))
        for vector, digest, odd, loss in zip(vectors, digests, odds, losses, strict=True)
    ]


def with_exif(file: Pending) -> Facts:
    """Return what is known of a file, and what its EXIF says where that is silent."""
    return file.facts if file.facts.camera and file.facts.time else merged(file.facts, read_exif(file.path))


def _stored(file: Pending, crop: NewCrop, facts: Facts) -> NewFile:
    return NewFile(os.fspath(file.path), file.stamp, file.digest, (writing.with_facts(crop, facts),), facts)


def _forget_missing(store: Store, source: str, present: set[str]) -> int:
    """Delete the files of a source, and those below it, that are gone; returns how many there were."""
    query = (
        "SELECT f.path FROM file f JOIN source s ON s.id = f.source_id WHERE f.gallery_id = %s "
        "AND (s.uri = %s OR starts_with(f.path, %s)) ORDER BY f.path"
    )
    rows = store.database.run(lambda c: c.execute(query, (store.id, source, f"{source}/")).fetchall())
    # Below a folder there may be what was indexed in another way: only what no longer exists is gone.
    gone = [path for (path,) in rows if path not in present and not os.path.lexists(path)]
    for part in in_parts(gone, _LOOKED_UP_AT_ONCE):
        store.database.run(lambda c, part=part: writing.delete_files(c, store.id, part))  # type: ignore[misc]
    return len(gone)


@contextmanager
def exclusively(store: Store, source: str, busy: str) -> Iterator[None]:
    """Keep other processes from indexing the same source into a gallery while the block runs.

    Raises:
        PassingError: one does; says ``busy``.
    """
    key = f"{store.id} {source}"
    query = "SELECT pg_try_advisory_lock(hashtextextended(%s, 7))"
    row = store.database.run(lambda c: c.execute(query, (key,)).fetchone())
    if row is None or not row[0]:
        raise PassingError(busy)
    try:
        yield
    finally:
        # The end of the connection gives it back too: a database that went away is told by whoever needed it.
        store.database.unlock(key)


def open_gallery(
    database: Database, name: str, model: str | None = None, precision: "Precision" = "auto",
    make_encoder: "MakeEncoder" = GalleryEncoder,
) -> tuple[Store, GalleryEncoder]:  # fmt: skip
    """Open the gallery ``name`` and its model; a new one is made with the model and precision that are named.

    Args:
        database: that holds it.
        name: of the gallery.
        model: a name or a folder.
        precision: of its vectors.
        make_encoder: opens a model in a precision, here or on a cluster.

    Raises:
        StoreError: the gallery is there, and another model embedded it.
        ModelError, ArtifactError, DownloadError: as `textreid.load_model`.
    """
    if name in {info.name for info in database.galleries()}:
        store = database.store(name)
        return store, encoder_of(store, model, make_encoder)
    encoder = make_encoder(model, precision)
    return database.create(name, place_of(encoder), encoder.space, encoder.dim), encoder


def place_of(encoder: GalleryEncoder) -> str:
    """Return where a model is found from any folder."""
    return os.path.abspath(encoder.name) if Path(encoder.name).is_dir() else encoder.name  # noqa: PTH100


def encoder_of(
    store: Store, model: "str | Path | None" = None, make_encoder: "MakeEncoder" = GalleryEncoder
) -> GalleryEncoder:
    """Open the model that embedded a gallery, in its precision.

    Args:
        store: the gallery.
        model: where it is now, if not where it was when the gallery was made.
        make_encoder: see `open_gallery`.

    Raises:
        StoreError: that is another model.
        ModelError, ArtifactError, DownloadError: as `textreid.load_model`.
    """
    encoder = make_encoder(model or store.model, "bf16" if store.fingerprint.endswith(" bf16") else "fp32")
    store.check_model(encoder.spaces[0], place_of(encoder))
    return encoder
