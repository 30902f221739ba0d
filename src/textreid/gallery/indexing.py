"""A folder of pictures as a matrix of vectors, computing only those that no earlier search computed."""

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from textreid.artifacts import file_digest
from textreid.emptiness import shows_nothing
from textreid.errors import DataError, ImageError
from textreid.gallery.embedding_cache import EmbeddingCache, FileStamp
from textreid.gallery.encoder import GalleryEncoder
from textreid.images import SMALLEST, lacks_its_end, map_ahead, read_suffixes
from textreid.listing import list_images
from textreid.version import __version__

BATCH_SIZE = 64  # also what an interruption can lose
REJECTED_AT_MOST = 0.5  # of the images of a folder
_HASHED_AT_ONCE = 1024
_THREADS = 4
_AHEAD = 2 * BATCH_SIZE  # pictures decoded before they are embedded

_CHANGED = "changed while it was read"
_OF_THE_MOMENT = (_CHANGED, "cannot be read")  # of a file, not of its content: a network disk may answer next time
_SHOWS_NOTHING = "shows nothing: "  # how the reason begins why a picture that can be read is left out

_LACKS_END = "lacks its end"  # stands in the cache for a version of textreid: vectors outlive versions too
_NAMED_AT_MOST = 3

Report = Callable[[str, int, int], None]  # "read", "load" (the model) or "embed"; how many are done; of how many


@dataclass(frozen=True)
class Rejected:
    """An image file that could not be used, and why."""

    path: Path
    reason: str

    @property
    def shows_nothing(self) -> bool:
        """Whether it can be read, and shows one colour, noise, or too few pixels."""
        return self.reason.startswith(_SHOWS_NOTHING)


@dataclass(frozen=True)
class FolderIndex:
    """The images of a folder and their vectors.

    Attributes:
        folder: as it was given.
        real_folder: the same without links.
        paths: (N) the images below ``real_folder`` that could be read, sorted.
        rows: (N,) the row of ``features`` that belongs to each path; files of equal content share one.
        features: (M, D) float32, each of length 1.
        rejected: the images that could not be read, or show nothing.
        notes: lines on what was left out when the folder was listed, and on images that lack their end.
    """

    folder: Path
    real_folder: Path
    paths: tuple[Path, ...]
    rows: npt.NDArray[np.int64]
    features: npt.NDArray[np.float32]
    rejected: tuple[Rejected, ...]
    notes: tuple[str, ...] = ()

    def path(self, number: int) -> Path:
        """Return the path of an image as a user writes it: below the folder as it was given."""
        return self.folder / self.paths[number].relative_to(self.real_folder)


def index_folder(
    folder: Path, encoder: GalleryEncoder, cache: EmbeddingCache, report: Report | None = None
) -> FolderIndex:
    """Embed the images below ``folder`` that ``cache`` does not know, and return the vectors of all.

    Every batch is stored before the next is begun, so that an interrupted call is continued by the next one.

    Raises:
        DataError: the folder is missing or has no images, or more than half of them cannot be read, or none of them
            shows anything.
        ArtifactError: the cache cannot be used.
    """
    real = Path(os.path.realpath(folder))
    listing = list_images(real)
    # As bytes: SQLite refuses the text that Python makes of a name that is not UTF-8.
    images = {os.fsencode(path): path for path in listing.images}
    if not images:
        looked_for = f"looked for {', '.join(sorted(read_suffixes()))}"
        raise DataError(f"{folder}: no images below this folder ({'; '.join([looked_for, *listing.notes()])})")
    rejected: dict[bytes, str] = {}
    files = _identify(images, real, cache, rejected, report or _silent)
    unreadable = cache.unreadable(__version__, real)
    # One file for each content: a duplicate is embedded once. Reversed, because the last to be put in stays: the first.
    first = {files[name][1]: name for name in reversed(images) if name in files}
    usable = first.keys() - unreadable.keys()
    for space in encoder.spaces:
        digests, features = cache.vectors(space, real)
        if usable <= set(digests):
            break
    else:  # no space has all of them: only now is the model needed
        report = report or _silent
        report("load", 0, 1)
        digests, _ = cache.vectors(encoder.space, real)
        report("load", 1, 1)
        # Sorted: a set has another order in each process, and the last bit of a vector depends on its place in a batch.
        missing = sorted(first[digest] for digest in usable.difference(digests))
        todo = [(files[name][1], images[name], files[name][0]) for name in missing]
        _embed(todo, encoder, cache, unreadable, report)
        digests, features = cache.vectors(encoder.space, real)
    row_of = {digest: row for row, digest in enumerate(digests)}
    for name, (_, digest) in files.items():
        if digest not in row_of:
            rejected[name] = unreadable.get(digest, _CHANGED)
    refused = tuple(
        Rejected(folder / path.relative_to(real), rejected[name]) for name, path in images.items() if name in rejected
    )
    _check_rejected(folder, refused, len(images))
    used = [name for name in images if name not in rejected]
    rows = np.array([row_of[files[name][1]] for name in used], np.int64)
    cut = cache.unreadable(_LACKS_END, real)
    notes = (*listing.notes(), *_note_cut([images[name].name for name in used if files[name][1] in cut]))
    return FolderIndex(folder, real, tuple(images[name] for name in used), rows, features, refused, notes)


def _note_cut(names: Sequence[str]) -> list[str]:
    if not names:
        return []
    more = ", …" if len(names) > _NAMED_AT_MOST else ""
    which = "image lacks its" if len(names) == 1 else "images lack their"
    return [f"{len(names):,} {which} end, ranked by what is there: {', '.join(names[:_NAMED_AT_MOST])}{more}"]


def _check_rejected(folder: Path, rejected: Sequence[Rejected], images: int) -> None:
    unreadable = [one for one in rejected if not one.shows_nothing]
    if len(unreadable) > REJECTED_AT_MOST * images:
        raise DataError(
            f"{folder}: {len(unreadable)} of {images} images cannot be read, the first is {unreadable[0].path}: "
            f"{unreadable[0].reason}"
        )
    if len(rejected) == images:
        raise DataError(
            f"{folder}: none of the {images} images can be ranked; {rejected[0].path}: {rejected[0].reason}"
        )


def _identify(
    images: Mapping[bytes, Path], folder: Path, cache: EmbeddingCache, rejected: dict[bytes, str], report: Report
) -> dict[bytes, tuple[FileStamp, bytes]]:
    """Stamp and content digest of every image; reads only the files whose stamp changed since the last look."""
    before = cache.known_files(folder)
    files: dict[bytes, tuple[FileStamp, bytes]] = {}
    changed: list[bytes] = []
    for name in images:
        seen = before.get(name)
        try:
            stamp = FileStamp.of(name)
        except OSError as error:
            rejected[name] = error.strerror or str(error)
            continue
        if seen and seen[0] == stamp:
            files[name] = seen
        else:
            changed.append(name)
    results = map_ahead(_stamp_and_digest, (images[name] for name in changed), _THREADS, _HASHED_AT_ONCE)
    with closing(results):
        for begin in range(0, len(changed), _HASHED_AT_ONCE):
            new = {}
            # The list first: zip sees its end before it takes a result, which would be the first of the next round.
            for name, result in zip(changed[begin : begin + _HASHED_AT_ONCE], results, strict=False):
                if isinstance(result, str):
                    rejected[name] = result
                else:
                    new[name] = result
            cache.remember_files(new)
            files |= new
            report("read", min(begin + _HASHED_AT_ONCE, len(changed)), len(changed))
    # Last, when new names are known: the content of a renamed file would be of no file before, and lose its vector.
    if gone := before.keys() - images.keys():
        cache.forget_files(gone)
    return files


def _stamp_and_digest(path: Path) -> tuple[FileStamp, bytes] | str:
    try:
        # The stamp first: if the file changes while it is read, that is an old one, and the next search reads again.
        return FileStamp.of(path), bytes.fromhex(file_digest(path))
    except OSError as error:
        return error.strerror or str(error)


def _embed(
    todo: Sequence[tuple[bytes, Path, FileStamp]],
    encoder: GalleryEncoder,
    cache: EmbeddingCache,
    unreadable: dict[bytes, str],
    report: Report,
) -> None:
    def decode(file: tuple[bytes, Path, FileStamp]) -> tuple[npt.NDArray[np.uint8], Image.Image] | str:
        _, path, stamp = file
        try:
            decoded = encoder.decode(path)
            # The vector belongs to the content that was hashed, so a file that changed since then has none.
            return decoded if FileStamp.of(path) == stamp else _CHANGED
        except ImageError as error:
            return str(error).removeprefix(f"{path}: ")
        except OSError:  # it was deleted since it was decoded
            return _CHANGED

    report("embed", 0, len(todo))
    with closing(map_ahead(decode, todo, _THREADS, _AHEAD)) as results:
        for begin in range(0, len(todo), BATCH_SIZE):
            batch = [digest for digest, _, _ in todo[begin : begin + BATCH_SIZE]]
            pixels, refused = {}, {}
            cut: dict[bytes, str] = {}
            for digest, result in zip(batch, results, strict=False):
                # Judged here and not by the threads: its many short steps hold the interpreter, and the model waits.
                reason = result if isinstance(result, str) else why_empty(result[1])
                if isinstance(result, str) or reason:
                    refused[digest] = reason
                else:
                    pixels[digest] = result[0]
                    cut |= {digest: _LACKS_END} if lacks_its_end(result[1]) else {}
            cache.store_unreadable(_LACKS_END, cut)
            if pixels:
                features = encoder.encode_pixels(np.stack(list(pixels.values())))
                cache.store_vectors(encoder.space, dict(zip(pixels, features, strict=True)))
            unreadable |= refused
            cache.store_unreadable(
                __version__, {d: why for d, why in refused.items() if not why.startswith(_OF_THE_MOMENT)}
            )
            report("embed", begin + len(batch), len(todo))


def why_empty(picture: Image.Image) -> str:
    """Say why a picture is left out though it can be read; a model scores it by chance, often above every person."""
    height, width = SMALLEST
    if picture.height < height or picture.width < width:
        size = f"{picture.width}x{picture.height}"
        return f"{_SHOWS_NOTHING}{size} pixels, fewer than the {width}x{height} of a person"
    nothing = shows_nothing(picture)
    return f"{_SHOWS_NOTHING}{nothing}" if nothing else ""


def _silent(stage: str, done: int, total: int) -> None:
    pass
