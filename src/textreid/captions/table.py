"""The caption table: Parquet parts and a manifest, one row per (image, slot).

This file and `textreid.captions.writer`, which writes a table over many runs, alone know how captions are stored. A
table is a folder with ``part-00000.parquet``, ``part-00001.parquet``, ... in one pinned schema, and a ``manifest.json``
that is written last. A *slot* names who was asked and how (``"qwen/static"``); an image has at most one caption a slot.
"""

import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import chain, islice
from operator import attrgetter
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from textreid.artifacts import file_digest, fingerprint, new_folder, read_manifest
from textreid.captions.cleaning import MAX_CHARACTERS, MAX_WORDS, is_empty, is_too_long
from textreid.captions.language import is_unicode
from textreid.errors import CaptionError, check_path

Kind = Literal["static", "dynamic"]
KINDS: tuple[Kind, ...] = ("static", "dynamic")  # of instructions
KIND = "captions"
FORMAT_VERSION = 1
# The four million captions of LUPerson-MLLM make 31 parts.
PART_ROWS = 1 << 17
_BLOCK_ROWS = 1 << 14

# Pinned: a part whose types or nullability differ was written by something else, and is refused.
_SCHEMA = pa.schema(
    [
        pa.field("image", pa.string(), nullable=False),
        pa.field("slot", pa.string(), nullable=False),
        pa.field("caption", pa.string(), nullable=False),
        pa.field("mllm", pa.string(), nullable=False),
        pa.field("instruction", pa.string(), nullable=False),
        pa.field("template_id", pa.string(), nullable=False),
        pa.field("prompt_hash", pa.string(), nullable=False),
        pa.field("seed", pa.int64(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
    ]
)
COLUMNS: tuple[str, ...] = tuple(_SCHEMA.names)
values_of = attrgetter(*COLUMNS)  # of a row, in the order of the columns
# Absolute (POSIX or Windows), empty, or with a ".." component.
_LEAVES_ROOT = r"^$|^[/\\]|^[A-Za-z]:|(^|[/\\])\.\.([/\\]|$)"


@dataclass(frozen=True, slots=True)
class CaptionRow:
    """One caption and where it comes from.

    ``image`` is a POSIX path relative to the image root; ``instruction`` is ``"static"`` or ``"dynamic"``;
    ``template_id`` is empty without a template; ``status`` is ``"ok"`` or the rule that rejected the caption.
    """

    image: str
    slot: str
    caption: str
    mllm: str
    instruction: str
    template_id: str
    prompt_hash: str
    seed: int
    status: str = "ok"


@dataclass(frozen=True)
class CaptionTable:
    """The usable captions of a table, N in all, kept in Arrow memory.

    Attributes:
        images: distinct image paths with at least one usable caption, sorted.
        image_index: (N,) int64, position in ``images`` of each caption's image.
        slots: distinct slot names, sorted.
        slot_index: (N,) int64, position in ``slots`` of each caption's slot.
        captions: (N,) Arrow strings, in the order of the table.
        rejected: number of captions left out, by status.
        fingerprint: equal for tables with equal parts.
        images_lost: number of images all of whose captions were left out.
    """

    images: tuple[str, ...]
    image_index: npt.NDArray[np.int64]
    slots: tuple[str, ...]
    slot_index: npt.NDArray[np.int64]
    captions: pa.LargeStringArray
    rejected: dict[str, int]
    fingerprint: str
    images_lost: int = 0

    def __len__(self) -> int:
        return len(self.image_index)

    def caption(self, index: int) -> str:
        """Return the text of caption ``index``, counted from 0."""
        return str(self.captions[index])


def is_storable(image: str) -> bool:
    """Tell whether the table can hold an image path: within the image root, and text (not bytes of another script)."""
    return not re.search(_LEAVES_ROOT, image) and is_unicode(image)


def part_name(number: int) -> str:
    """Name the file of part ``number``, counted from 0."""
    return f"part-{number:05}.parquet"


def write_part(path: Path, rows: Iterable[CaptionRow]) -> dict[str, int]:
    """Write ``rows`` as one part, a block at a time; returns the number of rows by status.

    A row marked ``ok`` whose text cannot be used gets the status of the rule it breaks.

    Raises:
        CaptionError: an image path leaves the image root.
        OSError: the file cannot be written.
    """
    statuses: Counter[str] = Counter()
    first_row = 0
    remaining = iter(rows)
    # By its bytes: pyarrow takes a path for UTF-8, and a folder may have another name.
    with pa.OSFile(os.fsencode(path), "wb") as file, pq.ParquetWriter(file, _SCHEMA, compression="zstd") as writer:
        while block := list(islice(remaining, _BLOCK_ROWS)):
            columns = zip(*map(values_of, block), strict=True)
            table = pa.Table.from_arrays(
                [pa.array(values, field.type) for values, field in zip(columns, _SCHEMA, strict=True)], schema=_SCHEMA
            )
            table = table.set_column(_SCHEMA.get_field_index("status"), _SCHEMA.field("status"), _screen(table))
            _check_paths(table["image"], path.name, first_row)
            first_row += len(block)
            statuses.update(count_statuses(table["status"]))
            writer.write_table(table)
    return statuses


def read_part(path: Path, columns: Sequence[str] = COLUMNS) -> pa.Table:
    """Read columns of one part.

    Raises:
        CaptionError: it is damaged, or its columns are not those of a caption table.
    """
    try:
        with pa.OSFile(os.fsencode(path)) as file:
            part = pq.ParquetFile(file)
            if not part.schema_arrow.equals(_SCHEMA):
                raise CaptionError(f"{path}: its columns are not those of a caption table: {part.schema_arrow.names}")
            return part.read(list(columns))
    except (pa.ArrowException, OSError) as error:
        raise CaptionError(f"{path}: cannot be read as Parquet: {error}") from error


def write_captions(folder: Path, rows: Iterable[CaptionRow], part_rows: int = PART_ROWS) -> None:
    """Write ``rows`` as a new caption table, there whole or not at all; memory holds a block of rows at a time.

    Raises:
        CaptionError: no rows, two with the same image and slot, or a path that leaves the image root.
        ArtifactError: ``folder`` exists already, or cannot be written.
    """
    statuses: dict[str, int] = {}
    digests: dict[str, str] = {}
    counted: Counter[str] = Counter()
    keys = _Keys()
    remaining = iter(rows)
    with new_folder(folder, KIND, FORMAT_VERSION, statuses=statuses, digests=digests) as partial:
        # One row ahead: whether there is another part is known only by its first row.
        while (first := next(remaining, None)) is not None:
            path = partial / part_name(len(digests))
            counted.update(write_part(path, chain([first], islice(remaining, part_rows - 1))))
            digests[path.name] = file_digest(path)
            # Read back from the file: the rows are gone by now, and two columns are small.
            keys.add(read_part(path, ["image", "slot"]))
        if not digests:
            raise CaptionError(f"{folder}: a caption table needs at least one row")
        keys.refuse_duplicates(folder)
        statuses |= sorted(counted.items())  # new_folder writes it into the manifest after this block


def read_captions(folder: Path | str) -> CaptionTable:
    """Read the captions of a table that training can use.

    >>> import textreid
    >>> table = textreid.read_captions("captions")
    >>> table.slots
    ('draft/dynamic', 'draft/static')
    >>> table.images[table.image_index[0]], table.caption(0)  # the first caption, and its image
    ('imgs/street_...jpg', '...')

    Captions that are ``empty`` or ``too-long`` by the rules of `textreid.captions.cleaning` are left out and counted by
    status, as are those that were written with another status than ``ok``.

    Raises:
        CaptionError: a part has another schema, a path leaves the image root (names the row), two rows have the
            same image and slot (names them), or no caption can be used.
        ArtifactError: the folder is not a caption table, or is incomplete or altered.
    """
    check_path("folder", folder)
    folder = Path(folder)
    manifest = read_manifest(folder, KIND, FORMAT_VERSION)
    digests: dict[str, str] = manifest["digests"]
    for name, digest in digests.items():
        # The manifest's sizes, which `read_manifest` checks, miss an edit that keeps the length.
        if file_digest(folder / name) != digest:
            raise CaptionError(f"{folder / name}: its contents changed after it was written; write the table again")
    keys = _Keys()
    captions, usable = [], []
    statuses: Counter[str] = Counter()
    for name in digests:
        table = read_part(folder / name, [*COLUMNS[:3], "status"])
        _check_paths(table["image"], folder / name)
        status = _screen(table)
        statuses.update(count_statuses(status))
        keys.add(table)
        good = pc.equal(status, "ok")
        usable.append(good.to_numpy())
        # A column of `string` has 32-bit offsets and cannot be combined beyond 2 GiB; `large_string` can.
        captions.append(table["caption"].filter(good).cast(pa.large_string()))
    keys.refuse_duplicates(folder)
    rejected = {rule: count for rule, count in sorted(statuses.items()) if rule != "ok"}
    if "ok" not in statuses:
        raise CaptionError(f"{folder}: no caption can be used; rejected: {rejected}")
    mask = np.concatenate(usable)
    images, image_index = _sorted_index(keys.images, np.concatenate(keys.image_codes)[mask])
    slots, slot_index = _sorted_index(keys.slots, np.concatenate(keys.slot_codes)[mask])
    return CaptionTable(
        images, image_index, slots, slot_index,
        pa.chunked_array([c for column in captions for c in column.chunks], pa.large_string()).combine_chunks(),
        rejected, fingerprint(list(digests.values())), len(keys.images) - len(images),
    )  # fmt: skip


class _Keys:
    """The (image, slot) keys of a table as integer codes: 16 bytes a row, and each distinct name once."""

    def __init__(self) -> None:
        self.images: dict[str, int] = {}
        self.slots: dict[str, int] = {}
        self.image_codes: list[npt.NDArray[np.int64]] = []
        self.slot_codes: list[npt.NDArray[np.int64]] = []

    def add(self, table: pa.Table) -> None:
        self.image_codes.append(_codes(table["image"], self.images))
        self.slot_codes.append(_codes(table["slot"], self.slots))

    # One sort of integers; a set of pairs of strings takes hundreds of megabytes for millions of rows.
    def refuse_duplicates(self, folder: Path) -> None:
        keys = np.sort(np.concatenate(self.image_codes) * len(self.slots) + np.concatenate(self.slot_codes))
        twice = np.flatnonzero(keys[1:] == keys[:-1])
        if twice.size:
            image, slot = divmod(int(keys[twice[0]]), len(self.slots))
            raise CaptionError(
                f"{folder}: image {list(self.images)[image]!r} has more than one caption in slot "
                f"{list(self.slots)[slot]!r} ({twice.size} rows too many in all); keep one a slot"
            )


def _codes(column: pa.ChunkedArray, known: dict[str, int]) -> npt.NDArray[np.int64]:
    """Give (N,) codes to the column's values; values not in ``known`` are added to it."""
    # Names repeat, so Python sees each once a part, not once a row.
    encoded = column.combine_chunks().dictionary_encode()
    codes = [known.setdefault(value, len(known)) for value in encoded.dictionary.to_pylist()]
    positions: npt.NDArray[np.int64] = np.array(codes, dtype=np.int64)[encoded.indices.to_numpy()]
    return positions


def _sorted_index(known: dict[str, int], codes: npt.NDArray[np.int64]) -> tuple[tuple[str, ...], npt.NDArray[np.int64]]:
    """Return the names that occur among ``codes``, sorted, and each code's position among them."""
    names = list(known)
    present = sorted(np.unique(codes).tolist(), key=names.__getitem__)
    position = np.zeros(len(names), dtype=np.int64)
    position[present] = np.arange(len(present))
    return tuple(names[code] for code in present), position[codes]


def _screen(table: pa.Table) -> pa.ChunkedArray:
    """Return the status of each row: what it was marked with, or which rule for any table an ``ok`` one breaks."""
    text, marked = table["caption"].combine_chunks(), table["status"].combine_chunks()
    # The rules are slow on millions of captions, so Arrow finds the few that may break one: without an ASCII letter,
    # or long enough for too many words, with as many spaces or other white space between them.
    characters = pc.utf8_length(text)
    # More than 150 words have more than 300 characters, so most texts are not searched for spaces.
    long = pc.if_else(pc.greater(characters, 2 * MAX_WORDS), text, "")
    suspect = reduce(
        pc.or_,
        (
            pc.invert(pc.match_substring_regex(text, "[A-Za-z]")),
            pc.greater(characters, MAX_CHARACTERS),
            pc.greater_equal(pc.count_substring(long, " "), MAX_WORDS),
            pc.match_substring_regex(long, r"[^\x20-\x7e]"),
        ),
    )
    rows = np.flatnonzero(pc.and_(suspect, pc.equal(marked, "ok")).to_numpy(zero_copy_only=False)).tolist()
    broken = {
        row: "empty" if is_empty(caption) else "too-long"
        for row, caption in zip(rows, text.take(rows).to_pylist() if rows else [], strict=True)
        if is_empty(caption) or is_too_long(caption)
    }
    if not broken:
        return pa.chunked_array([marked])
    mask = np.isin(np.arange(len(marked)), list(broken))
    return pa.chunked_array([pc.replace_with_mask(marked, pa.array(mask), pa.array(broken.values(), pa.string()))])


def count_statuses(status: pa.ChunkedArray) -> dict[str, int]:
    """Count the rows by their status."""
    return {entry["values"]: entry["counts"] for entry in status.value_counts().to_pylist()}


def _check_paths(images: pa.ChunkedArray, part: object, first_row: int = 0) -> None:
    leaving: Any = pc.match_substring_regex(images, _LEAVES_ROOT).to_numpy()
    if leaving.any():
        row = int(leaving.argmax())
        raise CaptionError(
            f"{part}, row {first_row + row}: image {images[row].as_py()!r} leaves the image root; "
            "write paths relative to the root, without '..'"
        )
