"""Reads the generic form: a CSV, JSON Lines or Parquet table with the columns image, caption, identity and split.

One row a caption; an image with several captions has several rows, and one without any has a row whose caption is
empty. Image paths are relative to the folder that the table lies in.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from textreid.datasets.entries import MISSING, Annotations, Entry, to_benchmark
from textreid.datasets.records import Benchmark
from textreid.errors import AnnotationError
from textreid.rows import column_names, read_rows

COLUMNS = Entry("image", "identity", "caption", "split")
SUFFIXES = (".csv", ".jsonl", ".parquet")


def read_annotation_table(source: Path, max_rejected: float) -> Benchmark:
    """Read a table of annotated images; see the module for its columns.

    Raises:
        AnnotationError: the file cannot be read, has another suffix or lacks a column; a value is of a wrong type
            (names line or row, and column); or more is left out than allowed.
    """
    suffix = source.suffix.lower()
    if suffix not in SUFFIXES:
        raise AnnotationError(f"{source}: expected a table with one of the suffixes {', '.join(SUFFIXES)}")
    numbered = list(_parquet_rows(source) if suffix == ".parquet" else read_rows(source, COLUMNS))
    if not numbered:
        raise AnnotationError(f"{source}: the table has no rows")
    unit = "row" if suffix == ".parquet" else "line"
    annotations = Annotations(
        source=source,
        image_root=source.parent,
        entries=[_entry(row, typed=suffix != ".csv") for _, row in numbered],
        places=lambda number: f"{unit} {numbered[number][0]}",
        fields=COLUMNS,
        many_an_image=True,
    )
    return to_benchmark(annotations, source.parent.resolve().name, "generic", max_rejected)


def _entry(row: dict[str, Any], typed: bool) -> Entry:
    image, identity, caption, split = (row.get(column, MISSING) for column in COLUMNS)
    if not typed:
        identity = _number(identity)
    if caption is None or caption == "":
        return Entry(image, identity, [], split)
    return Entry(image, identity, caption if caption is MISSING else [caption], split)


def _number(text: str) -> int | str:
    """Take digits for a number: a CSV value has no type. Anything else stays what it is, and is refused later."""
    # The largest identity, 2**63 - 1, has 19 digits; Python refuses to convert more than some thousand at all.
    return int(text) if text.strip().isascii() and text.strip().isdigit() and len(text) < 20 else text


def _parquet_rows(source: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pa.OSFile(os.fsencode(source)) as file, pq.ParquetFile(file) as table:
            given = table.schema_arrow.names
            names = column_names(source, given, COLUMNS)
            wanted = {name: own for name, own in zip(given, names, strict=True) if own in COLUMNS}
            rows = table.read(list(wanted)).rename_columns(wanted).to_pylist()
    except OSError as error:
        raise AnnotationError(f"{source}: cannot be read: {error.strerror or error}") from error
    except pa.ArrowException as error:
        raise AnnotationError(f"{source}: cannot be read as Parquet: {error}") from error
    yield from enumerate(rows, 1)
