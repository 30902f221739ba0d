"""Labelled pairs: sentences, and the pictures that show whom they describe."""

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from textreid.artifacts import read_table_text
from textreid.errors import AnnotationError

FEWEST = 10  # sentences from which it can be told how high a match scores


class Pair(NamedTuple):
    """A sentence and a picture of whom it describes: path of a file, or number of a crop of a gallery, as text."""

    sentence: str
    image: str


def read_pairs(path: Path) -> list[Pair]:
    """Read pairs from a CSV file with the columns ``sentence`` and ``image``, or from JSON Lines with those fields.

    A sentence that several pictures fit has as many lines. Relative paths are relative to the working folder.

    Raises:
        AnnotationError: it cannot be read, a line has no such field, or there are fewer than `FEWEST` sentences.
    """
    text = read_table_text(path)
    rows = _json_rows(path, text) if path.suffix.lower() in (".jsonl", ".ndjson") else _table_rows(path, text)
    pairs = [Pair(*(_field(path, line, row, name) for name in Pair._fields)) for line, row in rows]
    found = len({pair.sentence for pair in pairs})
    if found < FEWEST:
        raise AnnotationError(f"{path}: {found} sentences; to tell how high a match scores takes at least {FEWEST}")
    return pairs


def _table_rows(path: Path, text: str) -> Iterator[tuple[int, object]]:
    reader = csv.DictReader(io.StringIO(text, newline=""))
    missing = [name for name in Pair._fields if name not in (reader.fieldnames or ())]
    if missing:
        raise AnnotationError(f"{path}, line 1: no column {missing[0]!r}; expected sentence,image")
    try:
        for row in reader:
            yield reader.line_num, row
    except csv.Error as error:
        raise AnnotationError(f"{path}, line {reader.line_num}: {error}") from error


def _json_rows(path: Path, text: str) -> Iterator[tuple[int, object]]:
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except ValueError as error:
                raise AnnotationError(f"{path}, line {number}: not JSON: {error}") from error


def _field(path: Path, line: int, row: object, name: str) -> str:
    value = row.get(name) if isinstance(row, dict) else None
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)  # the number of a crop
    if not isinstance(value, str) or not value.strip():
        raise AnnotationError(f"{path}, line {line}: {name}: missing or empty")
    return value.strip()
