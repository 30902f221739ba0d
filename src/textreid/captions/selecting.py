"""Which images of a folder a captioning job is about, and which captions of a table a run is about."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from textreid.captions.table import CaptionRow, is_storable, write_captions
from textreid.captions.writer import caption_rows
from textreid.errors import CaptionError, DataError
from textreid.listing import list_images
from textreid.seeding import generator


@dataclass(frozen=True)
class Selection:
    """Images as the caption table names them (paths relative to the folder, sorted).

    ``unusable`` are the names, made printable, of image files that the table cannot name: the bytes of their names
    are not UTF-8, or would be taken for a path out of the folder elsewhere. Rename them to have them captioned.
    ``notes`` are lines on what else was left out.
    """

    images: tuple[str, ...]
    unusable: tuple[str, ...]
    notes: tuple[str, ...] = ()


def select_images(folder: Path, limit: int | None = None, sample: int | None = None, seed: int = 0) -> Selection:
    """List the image files under ``folder``: all, the first ``limit``, or a random ``sample`` by ``seed``.

    Of one folder, a smaller sample is part of a larger one with the same seed. Files are told by their suffix; one
    that turns out to be no image fails by itself, later.

    Raises:
        DataError: the folder is missing, cannot be listed, or has no usable image.
    """
    listing = list_images(folder)
    names = [path.relative_to(folder).as_posix() for path in listing.images]
    images = [name for name in names if is_storable(name)]
    unusable = [_printable(name) for name in names if not is_storable(name)]
    if not images:
        reasons = [*(["names are not UTF-8"] if unusable else []), *listing.notes()]
        raise DataError(": ".join([f"{folder}: no image files in it", *(["; ".join(reasons)] if reasons else [])]))
    if sample is not None:
        images = _sample(images, sample, seed)
    return Selection(tuple(images[:limit]), tuple(unusable), tuple(map(_printable, listing.notes())))


def select_captions(
    table: Path, out: Path, slots: Collection[str] = (), sample: int | None = None, seed: int = 0
) -> int:
    """Copy a part of a caption table; returns its number of rows.

    Args:
        table: the caption table.
        out: the new one; must not exist.
        slots: those to keep; all when empty.
        sample: images to keep, drawn by ``seed`` among all of the table, so that they are the same whatever the
            slots. Of one table and seed, a smaller sample is part of a larger one.
        seed: of the sample.

    Raises:
        CaptionError: a slot that the table does not have, or fewer images than ``sample``.
        ArtifactError: the table cannot be read, or ``out`` exists or cannot be written.
    """
    # Two passes over the table rather than one that holds its captions.
    known: set[str] = set()
    images: set[str] = set()
    for row in caption_rows(table):
        known.add(row.slot)
        images.add(row.image)
    if missing := sorted(set(slots) - known):
        raise CaptionError(f"{table}: no slot {', '.join(missing)}; there are: {', '.join(sorted(known))}")
    if sample is not None and sample > len(images):
        raise CaptionError(f"{table}: {sample:,} images were asked for, but it has {len(images):,}")
    # Sorted, because a set and the rows of a growing table have no order that lasts.
    kept = images if sample is None else set(_sample(sorted(images), sample, seed))
    written = 0

    def rows() -> Iterator[CaptionRow]:
        nonlocal written
        for row in caption_rows(table):
            if row.image in kept and (not slots or row.slot in slots):
                written += 1
                yield row

    write_captions(out, rows())
    return written


def _sample(names: Sequence[str], count: int, seed: int) -> list[str]:
    """Draw ``count`` of the names, in their order; a smaller draw is part of a larger one."""
    # The beginning of one permutation, whatever the count: this is what makes samples nest.
    chosen = generator("sample", seed).permutation(len(names))[:count]
    return [names[index] for index in sorted(chosen.tolist())]


def _printable(name: str) -> str:
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
