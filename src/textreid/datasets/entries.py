"""From the entries of any annotation file to a benchmark: checks each, and says what was left out."""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from textreid.captions.language import is_unicode
from textreid.datasets.records import Benchmark, Reason, Record, Rejection
from textreid.errors import AnnotationError
from textreid.listing import name_on_disk
from textreid.rows import NAMED, json_kind, listed

MAX_REJECTED = 0.05
_LOST_IMAGES = ("absent", "contradicting")
_DRIVE = re.compile("[A-Za-z]:")
LOST_CAPTIONS = ("empty", "no-words", "not-unicode")


class Entry(NamedTuple):
    """One entry as it stands in the file, unchecked; `MISSING` where it has no such field."""

    image: Any
    identity: Any
    captions: Any
    split: Any


# Not None: null is a value that a file can give, and a wrong one.
MISSING = object()


@dataclass(frozen=True)
class Annotations:
    """An annotation file that was read but not checked.

    Attributes:
        source: the file.
        image_root: folder that its image paths are relative to.
        entries: in the order of the file.
        places: where an entry stands, as the user would look for it ("entry 3", "line 5").
        fields: what the file calls image, identity, captions and split.
        many_an_image: whether it is normal that several entries speak of the same image.
    """

    source: Path
    image_root: Path
    entries: Sequence[Entry]
    places: Callable[[int], str]
    fields: Entry
    many_an_image: bool = False


def to_benchmark(annotations: Annotations, name: str, form: str, max_rejected: float) -> Benchmark:
    """Check every entry, find its image, and make one record an image.

    Args:
        annotations: as a reader of some form gives them.
        name: of the benchmark.
        form: what it was read as.
        max_rejected: share of the images, and of the captions, that may be left out.

    Raises:
        AnnotationError: an entry lacks a field, or has one of a wrong type or a path that leaves the image root
            (names place and field); or more is left out than allowed.
    """
    # All are found before the first is told, since one cause often spoils many entries.
    problems = list(_problems(annotations))
    if problems:
        raise AnnotationError(f"{annotations.source}: {listed(problems)}")
    collected: dict[str, Record] = {}
    rejected: list[Rejection] = []
    find = _Files(annotations.image_root).find
    for number, entry in enumerate(annotations.entries):
        _collect(number, entry, annotations.many_an_image, find, collected, rejected)
    _check_images(annotations, rejected, max_rejected)
    captions = sum(len(entry.captions) for entry in annotations.entries)
    _check_share(annotations.source, rejected, LOST_CAPTIONS, captions, "captions", max_rejected)
    return Benchmark(name, annotations.image_root, tuple(collected.values()), tuple(rejected), form)


def _problems(annotations: Annotations) -> Iterator[str]:
    """Yield what is wrong with the entries, one sentence a field."""
    root = annotations.image_root.name
    for number, entry in enumerate(annotations.entries):
        values = zip(annotations.fields, entry, (_check_path, _check_id, _check_captions, _check_split), strict=True)
        for field, value, check in values:
            problem = "missing" if value is MISSING else check(value, root)
            if problem:
                yield f'{annotations.places(number)}, "{field}": {problem}'


def _check_split(value: Any, _: str) -> str:
    return "" if isinstance(value, str) and value.strip() else f"expected the name of a split, got {json_kind(value)}"


def _check_id(value: Any, _: str) -> str:
    # A bool is an int to Python.
    if isinstance(value, bool) or not isinstance(value, int):
        return f"expected a whole number, got {json_kind(value)}"
    # Evaluation holds identities as int64.
    return "" if 0 <= value < 2**63 else f"expected a whole number from 0, got {value}"


def _check_captions(value: Any, _: str) -> str:
    if not isinstance(value, list):
        return f"expected a list of texts, got {json_kind(value)}"
    wrong = [f"[{i}] is {json_kind(caption)}" for i, caption in enumerate(value) if not isinstance(caption, str)]
    return f"expected a list of texts, but {', '.join(wrong[:NAMED])}" if wrong else ""


def _check_path(value: Any, root: str) -> str:
    if not isinstance(value, str) or not value.strip():
        return f"expected a path, got {json_kind(value)}"
    path = value.replace("\\", "/")
    parts = path.split("/")
    if path.startswith("/") or _DRIVE.match(path):
        return f"{value!r} is absolute; write it relative to {root}/"
    if ".." in parts:
        return f"{value!r} leaves {root}/; write it without '..'"
    return f"{value!r} is not the path of a file" if parts[-1] in ("", ".") or "\0" in path else ""


def _normal(path: str) -> str:
    """Write a path as every system does: files made on Windows have its separator."""
    return "/".join(part for part in path.replace("\\", "/").split("/") if part not in ("", "."))


class _Files:
    """Files below a root. Lists each folder once: on network storage a look at each file takes long."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._folders: dict[str, frozenset[str]] = {}

    def find(self, path: str) -> str | None:
        """Return the path as the disk spells it, which may compose its letters otherwise; None: no such file."""
        folder, _, name = path.rpartition("/")
        if folder not in self._folders:
            self._folders[folder] = self._list(folder)
        if name in self._folders[folder]:
            return path
        found = name_on_disk(self._root, path)
        return found if (self._root / found).is_file() else None  # names may differ in their case only

    def _list(self, folder: str) -> frozenset[str]:
        try:
            with os.scandir(self._root / folder) as entries:
                return frozenset(entry.name for entry in entries if entry.is_file())
        except OSError:
            # Missing or without permission: its images are absent, and are told with the others.
            return frozenset()


def _collect(
    number: int,
    entry: Entry,
    many_an_image: bool,
    find: Callable[[str], str | None],
    collected: dict[str, Record],
    rejected: list[Rejection],
) -> None:
    """Add one entry to the records of its image, or to what is left out."""
    image = _normal(entry.image)
    found = image if image in collected else find(image)
    if found is None:
        rejected.append(Rejection(number, image, entry.split, "absent"))
        return
    # By the name on the disk: two spellings of one image are one image.
    image, earlier = found, collected.get(found)
    if earlier and (earlier.identity, earlier.split) != (entry.identity, entry.split):
        rejected.append(Rejection(number, image, entry.split, "contradicting"))
        return
    if earlier and not many_an_image:
        rejected.append(Rejection(number, image, entry.split, "repeated"))
    reasons: list[Reason | None] = [_refuse(caption) for caption in entry.captions] or ["no-captions"]
    kept = tuple(c for c, reason in zip(entry.captions, reasons, strict=False) if reason is None)
    rejected += [Rejection(number, image, entry.split, reason) for reason in reasons if reason is not None]
    before = earlier.captions if earlier else ()
    # In the place of the earlier record: a dict keeps the order in which keys came first.
    collected[image] = Record(image, entry.identity, before + kept, entry.split)


def _refuse(caption: str) -> Reason | None:
    if not caption.strip():
        return "empty"
    if not is_unicode(caption):
        return "not-unicode"
    return None if any(character.isalnum() for character in caption) else "no-words"


def _check_images(annotations: Annotations, rejected: list[Rejection], allowed: float) -> None:
    what = "rows" if annotations.many_an_image else "images"
    try:
        _check_share(annotations.source, rejected, _LOST_IMAGES, len(annotations.entries), what, allowed)
    except AnnotationError as error:
        absent = next((r.image for r in rejected if r.reason == "absent"), None)
        if absent is None:
            raise
        raise AnnotationError(f"{error}{_whereabouts(annotations.image_root, absent)}") from error


def _whereabouts(root: Path, image: str) -> str:
    """Say where an absent image was looked for, and where it lies instead if that is near."""
    nearby = [root.parent, *(path for path in sorted(root.glob("*/")) if path.is_dir())] if root.is_dir() else []
    found = next((place for place in nearby if (place / image).is_file()), None)
    hint = f"; it lies in {found}: the images belong into {root}" if found else ""
    return f"; {image} was looked for at {root / image}{hint}"


def _check_share(
    source: Path, rejected: list[Rejection], reasons: Sequence[str], total: int, what: str, allowed: float
) -> None:
    lost = [rejection for rejection in rejected if rejection.reason in reasons]
    # Never all of it, whatever is allowed: an empty benchmark has no scores.
    if lost and (len(lost) > allowed * total or len(lost) == total):
        named = listed([f"{rejection.image} ({rejection.reason})" for rejection in lost])
        raise AnnotationError(
            f"{source}: {len(lost)} of {total} {what} cannot be used (allowed: {allowed:.0%}): {named}"
        )
