"""Reads the generic form: a CSV, JSON Lines or Parquet table with the columns image, caption, identity and split.

One row a caption; an image with several captions has several rows, and one without any has a row whose caption is
empty. Image paths are relative to the folder that the table lies in.
"""

import csv
import io
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from textreid.datasets.entries import MISSING, Annotations, Entry, fields_of, kind, listed, to_benchmark, twice
from textreid.datasets.records import Benchmark
from textreid.errors import AnnotationError, not_utf8

COLUMNS = Entry("image", "identity", "caption", "split")
SUFFIXES = (".csv", ".jsonl", ".parquet")

_Rows = Iterator[tuple[int, dict[str, Any]]]  # where the row stands, from 1


def read_annotation_table(source: Path, max_rejected: float) -> Benchmark:
    """Read a table of annotated images; see the module for its columns.

    Raises:
        AnnotationError: the file cannot be read, has another suffix or lacks a column; a value is of a wrong type
            (names line or row, and column); or more is left out than allowed.
    """
    readers: dict[str, tuple[str, Callable[[Path], _Rows]]] = {
        ".csv": ("line", _csv_rows),
        ".jsonl": ("line", _json_rows),
        ".parquet": ("row", _parquet_rows),
    }
    if source.suffix.lower() not in readers:
        raise AnnotationError(f"{source}: expected a table with one of the suffixes {', '.join(SUFFIXES)}")
    unit, rows = readers[source.suffix.lower()]
    try:
        numbered = list(rows(source))
    except OSError as error:
        raise AnnotationError(f"{source}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise AnnotationError(f"{source}: {not_utf8(error)}") from error
    if not numbered:
        raise AnnotationError(f"{source}: the table has no rows")
    annotations = Annotations(
        source=source,
        image_root=source.parent,
        entries=[_entry(row) for _, row in numbered],
        places=lambda number: f"{unit} {numbered[number][0]}",
        fields=COLUMNS,
        many_an_image=True,
    )
    return to_benchmark(annotations, source.parent.resolve().name, "generic", max_rejected)


def _entry(row: dict[str, Any]) -> Entry:
    image, identity, caption, split = (row.get(column, MISSING) for column in COLUMNS)
    if caption is None or caption == "":
        return Entry(image, identity, [], split)
    return Entry(image, identity, caption if caption is MISSING else [caption], split)


def _csv_rows(source: Path) -> _Rows:
    with io.StringIO(source.read_text(encoding="utf-8-sig"), newline="") as stream:
        reader = csv.DictReader(stream, strict=True)
        line = 1
        try:
            _check_columns(source, reader.fieldnames or [])
            # Counted before a row is read: one with line breaks in quotes is named by the line where it begins.
            line = reader.line_num + 1
            for row in reader:
                # DictReader puts surplus values under the key None, and None under columns that lack one.
                if None in row or None in row.values():
                    more = "more" if None in row else "fewer"
                    raise AnnotationError(
                        f"{source}, line {line}: {more} values than columns; put a text with commas in double quotes"
                    )
                yield line, {**row, "identity": _number(row["identity"])}
                line = reader.line_num + 1
        except csv.Error as error:
            raise AnnotationError(f"{source}, line {line}: not CSV: {error}") from error


def _number(text: str | None) -> Any:
    """Take digits for a number: a CSV value has no type. Anything else stays what it is, and is refused later."""
    # The largest identity, 2**63 - 1, has 19 digits; Python refuses to convert more than some thousand at all.
    return int(text) if text and text.strip().isascii() and text.strip().isdigit() and len(text) < 20 else text


def _json_rows(source: Path) -> _Rows:
    # `splitlines` would also break at U+2028 and U+0085, which JSON may have inside a text.
    for line, text in enumerate(source.read_text(encoding="utf-8-sig").split("\n"), 1):
        if not text.strip():
            continue
        try:
            row = json.loads(text, object_pairs_hook=fields_of)
        except (ValueError, RecursionError) as error:
            raise AnnotationError(f"{source}, line {line}: cannot be read as JSON: {error}") from error
        if not isinstance(row, dict):
            raise AnnotationError(f"{source}, line {line}: expected an object, got {kind(row)}")
        yield line, row


def _parquet_rows(source: Path) -> _Rows:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pa.OSFile(os.fsencode(source)) as file, pq.ParquetFile(file) as table:
            _check_columns(source, table.schema_arrow.names)
            rows = table.read(list(COLUMNS)).to_pylist()
    except pa.ArrowException as error:
        raise AnnotationError(f"{source}: cannot be read as Parquet: {error}") from error
    yield from enumerate(rows, 1)


def _check_columns(source: Path, names: Sequence[str]) -> None:
    """Refuse a table that lacks a column or has one twice; "Caption " beside "caption" may be the one that is meant."""
    missing = [column for column in COLUMNS if column not in names]
    double = [name for name in twice(name.strip().casefold() for name in names) if name.strip('"') in COLUMNS]
    if double and not missing:
        raise AnnotationError(
            f"{source}: more than one column {listed(double)}; there are: {', '.join(map(repr, names))}; rename or "
            "delete all but one"
        )
    if missing:
        raise AnnotationError(
            f"{source}: no column {listed(missing)}; there are: {', '.join(map(str, names)) or 'none'}"
        )
