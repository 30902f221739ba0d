"""Tables that people write by hand or with a spreadsheet: rows of CSV or JSON Lines, each with its line."""

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from textreid.errors import AnnotationError, not_utf8

NAMED = 5  # items spelled out in one message


def has_json_lines(path: Path) -> bool:
    """Tell by the suffix whether a table is JSON Lines, whose values have types; in CSV all are text."""
    return path.suffix.lower() in (".jsonl", ".ndjson", ".json")


def read_rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the line where each row of a table begins, and its values by column.

    CSV has commas, semicolons or tabs, and names of columns in its first line, which are written in small letters.

    Args:
        path: the table, in UTF-8.
        columns: those that CSV must have, and each row of it a value of; a row of JSON Lines may lack any.

    Raises:
        AnnotationError: it cannot be read, or is neither; CSV lacks a column, has one twice, or a row with too many
            or too few values; a field stands twice in an object. Names the line.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise AnnotationError(f"{path}: {not_utf8(error)}") from error
    except OSError as error:
        raise AnnotationError(f"{path}: cannot be read: {error.strerror or error}") from error
    yield from _json_rows(path, text) if has_json_lines(path) else _csv_rows(path, text, columns)


def _csv_rows(path: Path, text: str, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    delimiter = max(",;\t", key=text.split("\n", 1)[0].count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    line = 1
    try:
        reader.fieldnames = column_names(path, reader.fieldnames or (), columns)
        # Counted before a row is read: one with line breaks in quotes is named by the line where it begins.
        line = reader.line_num + 1
        for row in reader:
            # DictReader puts surplus values under the key None, and None under columns that lack one.
            if None in row or any(row[column] is None for column in columns):
                more = "more" if None in row else "fewer"
                raise AnnotationError(
                    f"{path}, line {line}: {more} values than columns; put a text with commas in double quotes"
                )
            yield line, {name: value for name, value in row.items() if value is not None}
            line = reader.line_num + 1
    except csv.Error as error:
        raise AnnotationError(f"{path}, line {line}: not CSV: {error}") from error


def column_names(path: Path, given: Sequence[str], columns: Sequence[str]) -> list[str]:
    """Write the names of columns in small letters; raises AnnotationError if one of ``columns`` is not there once."""
    names = [name.strip().lower() for name in given]
    missing = [column for column in columns if column not in names]
    if missing:
        raise AnnotationError(f"{path}: no column {listed(missing)}; there are: {', '.join(given) or 'none'}")
    double = [column for column in columns if names.count(column) > 1]
    if double:
        raise AnnotationError(
            f"{path}: more than one column {listed(double)}; there are: {', '.join(map(repr, given))}; rename or "
            "delete all but one"
        )
    return names


def _json_rows(path: Path, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    # `splitlines` would also break at U+2028 and U+0085, which JSON may have inside a text.
    for line, content in enumerate(text.split("\n"), 1):
        if not content.strip():
            continue
        try:
            row = json.loads(content, object_pairs_hook=fields_of)
        except (ValueError, RecursionError) as error:
            raise AnnotationError(f"{path}, line {line}: not JSON: {error}") from error
        if not isinstance(row, dict):
            raise AnnotationError(f"{path}, line {line}: expected an object, got {json_kind(row)}")
        yield line, row


def fields_of(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object of JSON, as ``object_pairs_hook``; `json` alone keeps the last of two equal fields in silence.

    Raises:
        ValueError: a field stands twice.
    """
    fields = dict(pairs)
    if len(fields) < len(pairs):
        double = [f'"{name}"' for name, count in Counter(name for name, _ in pairs).items() if count > 1]
        raise ValueError(f"{listed(double)} more than once in one object")
    return fields


def json_kind(value: Any) -> str:
    """Name what a JSON value is, for a message."""
    names = {dict: "an object", list: "a list", bool: "true or false", type(None): "null"}
    return names.get(type(value)) or f"{value!r:.60}"


def listed(items: Sequence[str]) -> str:
    """Name the first few, and how many more there are."""
    more = f"; and {len(items) - NAMED} more" if len(items) > NAMED else ""
    return "; ".join(items[:NAMED]) + more
