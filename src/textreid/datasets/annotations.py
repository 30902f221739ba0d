"""Reads a benchmark's annotation file, checks every entry of it, and says what was left out.

CUHK-PEDES form (Li et al., CVPR 2017) is a folder with the images under ``imgs/`` and a list of entries
``{"split", "captions", "file_path", "id"}`` in ``reid_raw.json``.
"""

import json
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from textreid.datasets.records import Benchmark, Reason, Record, Rejection
from textreid.errors import AnnotationError

IMAGES = "imgs"
ANNOTATIONS = "reid_raw.json"
MAX_REJECTED = 0.05
_NAMED = 5  # problems spelled out in one message


def read_cuhk_form(folder: Path, max_rejected: float = MAX_REJECTED) -> Benchmark:
    """Read a folder in CUHK-PEDES form.

    Identities are whole numbers from 0 and may skip. Images may lie in sub-folders of ``imgs/``. Captions that
    are empty or hold no letter or digit are left out; an image that keeps none stays in the gallery. Images that
    are listed but absent are left out with their captions. Both are counted in ``rejected``.

    Args:
        folder: holds ``imgs/`` and ``reid_raw.json``.
        max_rejected: share of the images, and of the captions, that may be left out.

    Raises:
        AnnotationError: the folder has another form; the file is not JSON (names the line); an entry lacks a
            field, has one of a wrong type, a path that leaves ``imgs/``, or the path of an earlier entry (names
            entry and field); or more is left out than allowed.
    """
    folder = Path(folder)
    _check_folder(folder)
    source = folder / ANNOTATIONS
    entries = _read_entries(source)
    problems = list(_problems(entries))
    if problems:
        raise AnnotationError(f"{source}: {_listed(problems)}")
    records: list[Record] = []
    rejected: list[Rejection] = []
    for index, entry in enumerate(entries):
        record, left_out = _read_record(index, entry, folder / IMAGES)
        rejected += left_out
        records += [record] if record else []
    _check_share(source, [r for r in rejected if r.reason == "absent"], len(entries), "images", max_rejected)
    captions = sum(max(1, len(entry["captions"])) for entry in entries)
    _check_share(source, [r for r in rejected if r.reason != "absent"], captions, "captions", max_rejected)
    return Benchmark(folder.resolve().name, folder / IMAGES, tuple(records), tuple(rejected))


def _check_folder(folder: Path) -> None:
    if (folder / ANNOTATIONS).is_file() and (folder / IMAGES).is_dir():
        return
    if not folder.exists():
        raise AnnotationError(f"{folder}: no such folder")
    if folder.is_file():
        raise AnnotationError(f"{folder}: is a file; give the folder that holds {IMAGES}/ and {ANNOTATIONS}")
    for other in [folder.resolve().parent, *sorted(folder.glob("*/"))]:
        if (other / ANNOTATIONS).is_file() and (other / IMAGES).is_dir():
            raise AnnotationError(f"{folder}: has no {ANNOTATIONS}, but {other} has; give that folder")
    missing = ([] if (folder / IMAGES).is_dir() else [f"{IMAGES}/"]) + (
        [] if (folder / ANNOTATIONS).is_file() else [ANNOTATIONS]
    )
    raise AnnotationError(f"{folder}: has no {' and no '.join(missing)}; CUHK-PEDES form needs both")


def _read_entries(source: Path) -> list[Any]:
    try:
        entries = json.loads(source.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise AnnotationError(f"{source}: cannot be read: {error.strerror or error}") from error
    except json.JSONDecodeError as error:
        raise AnnotationError(f"{source}, line {error.lineno}, column {error.colno}: not JSON: {error.msg}") from error
    except UnicodeDecodeError as error:
        raise AnnotationError(f"{source}: not UTF-8 text: {error.reason} at byte {error.start}") from error
    except RecursionError as error:
        raise AnnotationError(f"{source}: nested too deeply; expected a list of entries, one an image") from error
    except ValueError as error:
        raise AnnotationError(f"{source}: not JSON: {error}") from error
    if not isinstance(entries, list):
        raise AnnotationError(f"{source}: holds {_kind(entries)}; expected a list of entries, one an image")
    if not entries:
        raise AnnotationError(f"{source}: the list of entries is empty")
    if not any(isinstance(entry, dict) and "split" in entry for entry in entries):
        raise AnnotationError(
            f'{source}: no entry has a field "split"; add "split": "test" to those that are to be evaluated'
        )
    return entries


def _problems(entries: list[Any]) -> Iterator[str]:
    """What is wrong with the entries, one sentence a field."""
    seen: dict[PurePosixPath, int] = {}
    for index, entry in enumerate(entries):
        if not isinstance(entry, dict):
            yield f"entry {index}: expected an object, got {_kind(entry)}"
            continue
        for field, check in _FIELDS.items():
            problem = check(entry[field]) if field in entry else "missing"
            if problem:
                yield f'entry {index}, "{field}": {problem}'
            elif field == "file_path":
                first = seen.setdefault(PurePosixPath(entry[field]), index)
                if first != index:
                    yield f'entry {index}, "{field}": {entry[field]!r} is the image of entry {first} already'


def _check_split(value: Any) -> str:
    return "" if isinstance(value, str) and value.strip() else f"expected the name of a split, got {_kind(value)}"


def _check_id(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int):
        return f"expected a whole number, got {_kind(value)}"
    return "" if 0 <= value < 2**63 else f"expected a whole number from 0, got {value}"


def _check_captions(value: Any) -> str:
    if not isinstance(value, list):
        return f"expected a list of texts, got {_kind(value)}"
    wrong = [f"[{i}] is {_kind(caption)}" for i, caption in enumerate(value) if not isinstance(caption, str)]
    return f"expected a list of texts, but {', '.join(wrong[:_NAMED])}" if wrong else ""


def _check_path(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        return f"expected a path, got {_kind(value)}"
    if "\\" in value:
        return f"{value!r} has backslashes; write forward slashes"
    if "\0" in value or value.endswith("/"):
        return f"{value!r} is not the path of a file"
    if value.startswith("/") or PureWindowsPath(value).drive:
        return f"{value!r} is absolute; write it relative to {IMAGES}/"
    if ".." in PurePosixPath(value).parts:
        return f"{value!r} leaves {IMAGES}/; write it without '..'"
    return ""


_FIELDS = {"split": _check_split, "captions": _check_captions, "file_path": _check_path, "id": _check_id}


def _read_record(index: int, entry: dict[str, Any], root: Path) -> tuple[Record | None, list[Rejection]]:
    image, split = str(PurePosixPath(entry["file_path"])), entry["split"]
    if not (root / image).is_file():
        return None, [Rejection(index, image, split, "absent")]
    reasons: list[Reason | None] = [_refuse(caption) for caption in entry["captions"]] or ["no-captions"]
    kept = tuple(c for c, reason in zip(entry["captions"], reasons, strict=False) if reason is None)
    rejected = [Rejection(index, image, split, reason) for reason in reasons if reason is not None]
    return Record(image, entry["id"], kept, split), rejected


def _refuse(caption: str) -> Reason | None:
    if not caption.strip():
        return "empty"
    if any("\ud800" <= character <= "\udfff" for character in caption):
        return "not-unicode"
    return None if any(character.isalnum() for character in caption) else "no-words"


def _check_share(source: Path, rejected: list[Rejection], total: int, what: str, allowed: float) -> None:
    if len(rejected) > allowed * total or len(rejected) == total:
        named = _listed([f"{r.image} ({r.reason})" for r in rejected])
        raise AnnotationError(
            f"{source}: {len(rejected)} of {total} {what} cannot be used (allowed: {allowed:.0%}): {named}"
        )


def _listed(items: list[str]) -> str:
    more = f"; and {len(items) - _NAMED} more" if len(items) > _NAMED else ""
    return "; ".join(items[:_NAMED]) + more


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", bool: "true or false", type(None): "null"}
    return names.get(type(value)) or f"{value!r:.60}"
