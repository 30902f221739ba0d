"""Which camera saw a picture, and when: told by its path, by a table beside the pictures, or by its EXIF.

A table goes before the path, and both before EXIF, field by field. Times are the wall clock of the camera.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from PIL import Image

from textreid.errors import AnnotationError, ConfigError, nearest_name
from textreid.gallery.store.rows import Facts
from textreid.rows import has_json_lines, read_rows

_FIELDS = {
    "camera": r"[^/]+?",
    "date": r"\d{4}[-_.]?\d\d[-_.]?\d\d",
    "time": r"\d\d[-_:.h]?\d\d(?:[-_:.m]?\d\d(?:[.,]\d{1,6})?)?",
    "tag": r"[^/]+?",
}
_PLACEHOLDER = re.compile(r"(\{[^}]*\}|\*+|\?)")
_COLUMNS = ("path", "camera", "time", "tags")
_EXIF_IFD, _TAKEN, _SUBSECONDS, _CHANGED, _MODEL = 0x8769, 0x9003, 0x9291, 0x0132, 0x0110


@dataclass(frozen=True)
class PathPattern:
    """A pattern such as ``{camera}/{date}/{time}_*.jpg``, for paths below what is indexed.

    ``{camera}`` and ``{tag}`` are any text, ``{date}`` is 2026-05-31 or 20260531, ``{time}`` is 14-05-09, 140509 or
    14:05; ``*`` is anything within one name. A date without a time is its midnight.

    Attributes:
        text: as it was written.
        parts: its names, one for each folder and the file, each as the pieces that it is made of.
    """

    text: str
    parts: tuple[tuple[str, ...], ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a pattern.

        Raises:
            ConfigError: it names no field or an unknown one, one twice, or a time without a date.
        """
        parts = tuple(
            tuple(piece for piece in _PLACEHOLDER.split(name) if piece) for name in text.strip("/").split("/")
        )
        names = [piece[1:-1] for part in parts for piece in part if piece.startswith("{")]
        for name in names:
            if name not in _FIELDS:
                raise ConfigError(f"--pattern {text}: {{{name}}} is not known; {nearest_name(name, _FIELDS)}")
            if name != "tag" and names.count(name) > 1:
                raise ConfigError(f"--pattern {text}: {{{name}}} stands there twice")
        if not names:
            raise ConfigError(
                f"--pattern {text}: names no field; known: {', '.join(f'{{{name}}}' for name in _FIELDS)}"
            )
        if "time" in names and "date" not in names:
            raise ConfigError(f"--pattern {text}: {{time}} needs a {{date}}, or nobody knows of which day")
        return cls(text, parts)

    def read(self, path: str) -> Facts | str:
        """Read what a path below the source tells, or say which part of it does not fit."""
        names = path.split("/")
        if len(names) != len(self.parts):
            return f"{path}: has {len(names)} parts, and the pattern {self.text} {len(self.parts)}"
        found: dict[str, list[str]] = {}
        for name, pieces in zip(names, self.parts, strict=True):
            match = _match(pieces, name)
            if match is None:
                return f"{path}: {name!r} is not {''.join(pieces)}{_where(pieces, name)}"
            for key, value in match:
                found.setdefault(key, []).append(value)
        time = None
        if "date" in found:
            try:
                time = _parse_time(found["date"][0], found.get("time", [""])[0])
            except ValueError as error:
                return f"{path}: {' '.join((*found['date'], *found.get('time', []))):s} is no time: {error}"
        return Facts(found.get("camera", [None])[0], time, tuple(found.get("tag", ())))


def _match(pieces: tuple[str, ...], name: str, whole: bool = True) -> list[tuple[str, str]] | None:
    """Return the fields of a name in order, if it fits (only its beginning, if not ``whole``)."""
    expression, fields = "", []
    for piece in pieces:
        if piece.startswith("{"):
            expression += f"({_FIELDS[piece[1:-1]]})"
            fields.append(piece[1:-1])
        else:
            expression += {"?": "[^/]"}.get(piece, "[^/]*") if piece[0] in "*?" else re.escape(piece)
    found = re.fullmatch(expression, name) if whole else re.match(expression, name)
    return None if found is None else list(zip(fields, found.groups(), strict=True))


def _where(pieces: tuple[str, ...], name: str) -> str:
    """Name the first piece of a pattern that a name lacks."""
    for count in range(1, len(pieces) + 1):
        if _match(pieces[:count], name, whole=False) is None:
            return f": no {pieces[count - 1]} there" if len(pieces) > 1 else ""
    return ": more follows"


def _parse_time(date: str, time: str) -> datetime:
    digits = re.sub(r"[-_.]", "", date)
    year, month, day = int(digits[:4]), int(digits[4:6]), int(digits[6:8])
    clock, _, fraction = time.replace(",", ".").partition(".") if re.search(r"[.,]\d{3,}$", time) else (time, "", "")
    numbers = re.sub(r"\D", "", clock).ljust(6, "0")
    microsecond = int(fraction.ljust(6, "0")[:6]) if fraction else 0
    hour, minute, second = int(numbers[:2]), int(numbers[2:4]), int(numbers[4:6])
    return datetime(year, month, day, hour, minute, second, microsecond)


def read_sidecar(path: Path) -> dict[str, Facts]:
    """Read a table of pictures, CSV with a header or JSONL, with path and any of camera, time and tags.

    Paths are below the source, or absolute; times ISO 8601 without a zone; tags a list, in CSV parted by spaces.

    Raises:
        AnnotationError: it cannot be read; names line and field.
    """
    table: dict[str, Facts] = {}
    for line, row in read_rows(path, ("path",)):
        if not has_json_lines(path):
            row["tags"] = row.get("tags", "").replace(",", " ").split()
        name = row.get("path")
        if not isinstance(name, str) or not name:
            raise AnnotationError(f"{path}, line {line}: path: missing or empty")
        name = name.replace("\\", "/").removeprefix("./")
        if name in table:
            raise AnnotationError(f"{path}, line {line}: path: {name} stands there twice")
        table[name] = _facts(path, line, row)
    if not table:
        raise AnnotationError(f"{path}: no rows; expected columns {', '.join(_COLUMNS)}")
    return table


def _facts(path: Path, line: int, row: Mapping[str, Any]) -> Facts:
    camera, time, tags = row.get("camera") or None, row.get("time") or None, row.get("tags") or ()
    if camera is not None and not isinstance(camera, str | int):
        raise AnnotationError(f"{path}, line {line}: camera: expected a name, not {camera!r}")
    if isinstance(tags, str) or not isinstance(tags, list | tuple) or not all(isinstance(tag, str) for tag in tags):
        raise AnnotationError(f"{path}, line {line}: tags: expected a list of words, not {tags!r}")
    moment = None
    if time is not None:
        try:
            moment = datetime.fromisoformat(str(time).strip())
        except ValueError as error:
            raise AnnotationError(f"{path}, line {line}: time: {error}; expected 2026-05-31 14:05:09") from error
        if moment.tzinfo is not None:
            raise AnnotationError(
                f"{path}, line {line}: time: {time} has a zone; expected the wall clock of the camera"
            )
    return Facts(None if camera is None else str(camera), moment, tuple(tags))


def read_exif(path: Path) -> Facts:
    """Read when a picture was taken and the model of the camera, as far as its EXIF says; never fails."""
    try:
        with Image.open(path) as picture:
            tags = picture.getexif()
            detail = tags.get_ifd(_EXIF_IFD)
        taken, model = detail.get(_TAKEN) or tags.get(_CHANGED), tags.get(_MODEL)
        time = datetime.strptime(str(taken).strip("\0 "), "%Y:%m:%d %H:%M:%S") if taken else None
        fraction = str(detail.get(_SUBSECONDS) or "").strip("\0 ")
        if time and fraction.isdigit():
            time = time.replace(microsecond=int(fraction.ljust(6, "0")[:6]))
    except Exception:
        return Facts()
    return Facts(str(model).strip("\0 ") or None if model else None, time)


def merged(first: Facts, second: Facts) -> Facts:
    """Return what ``first`` says, and ``second`` where that is silent."""
    return Facts(first.camera or second.camera, first.time or second.time, first.tags or second.tags)
