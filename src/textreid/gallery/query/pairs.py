"""Labelled pairs: sentences, and the pictures that show whom they describe."""

from pathlib import Path
from typing import NamedTuple

from textreid.errors import AnnotationError
from textreid.rows import read_rows

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
    rows = read_rows(path, Pair._fields)
    pairs = [Pair(*(_field(path, line, name, row.get(name)) for name in Pair._fields)) for line, row in rows]
    found = len({pair.sentence for pair in pairs})
    if found < FEWEST:
        raise AnnotationError(f"{path}: {found} sentences; to tell how high a match scores takes at least {FEWEST}")
    return pairs


def _field(path: Path, line: int, name: str, value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)  # the number of a crop
    if not isinstance(value, str) or not value.strip():
        raise AnnotationError(f"{path}, line {line}: {name}: missing or empty")
    return value.strip()
