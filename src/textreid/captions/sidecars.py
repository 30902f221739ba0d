"""Sidecar files of a caption table: what is known of a caption beside its row.

They are JSON lines, each with ``image`` and ``slot``; of two lines about one caption the later counts.
``errors.jsonl`` has the ``spans`` (half-open, in characters) of the words that the captioner knows to be wrong,
``raw.jsonl`` the ``raw`` answer of a caption that wrappings were ``cut`` from, ``repairs.jsonl`` a caption as it was
``before`` an MLLM was asked again (``by``), with the ``repairs``: pairs of a phrase and what took its place.
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from textreid.errors import ArtifactError

ERRORS, RAW, REPAIRS = "errors.jsonl", "raw.jsonl", "repairs.jsonl"


def write_sidecars(folder: Path, beside: Iterable[tuple[str, Mapping[str, Any]]]) -> None:
    """Append lines to sidecar files, given as file (such as `ERRORS`) and line; they are on the disk when this returns.

    Raises:
        OSError: they cannot be written.
    """
    lines: dict[str, list[str]] = {}
    for name, record in beside:
        lines.setdefault(name, []).append(json.dumps(record, ensure_ascii=False) + "\n")
    for name, records in lines.items():
        # Appended and synced, not replaced: a run adds to these at every batch of answers.
        with (folder / name).open("a", encoding="utf-8") as stream:
            # A crash may have left half a line; an empty one does no harm.
            stream.write(("\n" if stream.tell() else "") + "".join(records))
            stream.flush()
            os.fsync(stream.fileno())


def error_spans(folder: Path) -> dict[tuple[str, str], list[tuple[int, int]]]:
    """Read where the captions of a table are known to be wrong: half-open character spans by image and slot.

    Only a captioner that knows the truth tells; without ``errors.jsonl`` there are none.

    Raises:
        ArtifactError: the file cannot be read.
    """
    return {key: [(start, end) for start, end in line["spans"]] for key, line in _lines(folder / ERRORS)}


def raw_answers(folder: Path) -> dict[tuple[str, str], str]:
    """Read the answers, as they came, of the captions that a wrapping was cut from, by image and slot.

    Raises:
        ArtifactError: the file cannot be read.
    """
    return {key: line["raw"] for key, line in _lines(folder / RAW)}


def repairs_of(folder: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """Read the captions that were repaired, by image and slot: what each was before, and what changed.

    Raises:
        ArtifactError: the file cannot be read.
    """
    return dict(_lines(folder / REPAIRS))


def _lines(path: Path) -> Iterator[tuple[tuple[str, str], dict[str, Any]]]:
    if not path.exists():
        return
    try:
        with path.open(encoding="utf-8") as stream:
            for text in stream:
                with suppress(ValueError):  # half a line, at which a run was killed; a later one says it whole
                    line = json.loads(text)
                    yield (line["image"], line["slot"]), line
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read: {error.strerror or error}") from error
