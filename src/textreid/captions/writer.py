"""A caption table that is written over hours and many runs, and loses nothing that it acknowledged.

While it grows, the folder holds ``job.json`` (what is being asked of which images), the parts so far, and one journal
``journal-N.jsonl``, whose rows become part N when there are enough of them. Each line of the journal is the CRC-32 of
a row and the row, so that a line cut off by a crash is seen; rows count as written when they are synced to disk.
The manifest comes last: with it the folder is a caption table like any other.
"""

import json
import os
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import IO, Any, Self

import pyarrow as pa

from textreid.artifacts import (
    LOCK,
    MANIFEST,
    file_digest,
    locked,
    new_file,
    read_json,
    sync_names,
    write_json,
    write_manifest,
)
from textreid.captions import table
from textreid.captions.sidecars import write_sidecars
from textreid.captions.table import PART_ROWS, CaptionRow, is_storable, part_name, read_part, write_part
from textreid.errors import ArtifactError, CaptionError, ResumeError

JOB = "job.json"
_JOB_KIND, _JOB_VERSION = "caption-job", 2


class GrowingTable:
    """A caption table that rows can be appended to; one process at a time.

    Args:
        folder: made if it is missing; otherwise without rows, or begun earlier with ``facts`` that agree.
        facts: what decides its rows (images, models, prompts, seed): JSON values without secrets. Those of later jobs
            must be equal, except that a mapping may have other keys: the table then has the entries of both.
        part_rows: rows of a part.

    Attributes:
        damaged: lines inside the journal that were altered on the disk; their rows are gone.

    Raises:
        ResumeError: the folder was begun with other facts (names each that differs), by another version or by
            something else, or another process is writing to it.
        ArtifactError: it cannot be read or written.
    """

    def __init__(self, folder: Path, facts: Mapping[str, Any], part_rows: int = PART_ROWS) -> None:
        self.folder = folder
        self.damaged = 0
        self._part_rows = part_rows
        with _write_errors_explained(folder), ExitStack() as held:
            folder.mkdir(parents=True, exist_ok=True)
            # Before anything is read: another process may be at its last row, or about to write a larger job.
            held.enter_context(locked(folder, "another process is writing to it; wait for it or stop it"))
            self._larger_job = _begin(folder, facts)
            # Parts before the journal: the number of the first missing one says which journal is the current one.
            self._part = next(number for number in count() if not (folder / part_name(number)).exists())
            for number in range(self._part):  # a crash came between a part and the removal of its journal
                _journal_path(folder, number).unlink(missing_ok=True)
            self._journal, self._rows, self._size = self._open_journal()
            # Only now: an error above gives the lock back.
            self._held = held.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._journal:
            self._journal.close()
        self._held.close()

    @property
    def complete(self) -> bool:
        """Whether the manifest is there."""
        return (self.folder / MANIFEST).is_file()

    def stored(self) -> Iterator[tuple[pa.Array, pa.Array, pa.Array]]:
        """Yield the image, slot and status of every row that is there: Arrow strings, a block at a time."""
        for number in range(self._part):
            for batch in read_part(self.folder / part_name(number), ["image", "slot", "status"]).to_batches():
                yield batch["image"], batch["slot"], batch["status"]
        path = _journal_path(self.folder, self._part)
        rows = [row for row, _ in _journal_rows(path) if row] if self._journal else []
        columns = ([getattr(row, name) for row in rows] for name in ("image", "slot", "status"))
        image, slot, status = (pa.array(values, pa.string()) for values in columns)
        yield image, slot, status

    def append(self, rows: Sequence[CaptionRow], beside: Iterable[tuple[str, Mapping[str, Any]]] = ()) -> None:
        """Add ``rows``, whose keys must be new; they are on the disk when this returns, none of them if it raises.

        Args:
            rows: what to add.
            beside: sidecar file and line of what else is known of them; see `textreid.captions.sidecars`.

        Raises:
            CaptionError: the table cannot hold an image path.
            ArtifactError: they cannot be written: the disk is full, or read-only.
        """
        if not rows:
            return
        for row in rows:
            if not is_storable(row.image):
                raise CaptionError(f"image {row.image!r}: not a path that the table can hold; rename the file")
        with _write_errors_explained(self.folder):
            # The manifest goes first: as long as there is one, it speaks of every row.
            self._no_longer_complete()
            # Only with the first new row: a job that ends before leaves the table complete and its record as it was.
            if self._larger_job:
                write_json(self.folder / JOB, self._larger_job)
                self._larger_job = None
            write_sidecars(self.folder, beside)  # before the rows: these may lack nothing that is known of them
            self._write(b"".join(map(_line, rows)))
            self._rows += len(rows)
            if self._rows >= self._part_rows:
                self._make_part()

    def drop(self, chosen: Callable[[str, str], bool]) -> int:
        """Remove the rows whose slot and status are ``chosen``, so that they can be asked for again; returns how many.

        Raises:
            ArtifactError: a part cannot be written again; it is still there as it was.
        """
        dropped = 0
        with _write_errors_explained(self.folder):
            if self._rows:
                self._make_part()
            for number in range(self._part):
                path = self.folder / part_name(number)
                keys = read_part(path, ["slot", "status"])
                # Two small columns tell whether a part must be written again at all; most need not.
                found = sum(map(chosen, keys["slot"].to_pylist(), keys["status"].to_pylist()))
                if found:
                    self._no_longer_complete()
                    with new_file(path) as partial:
                        write_part(partial, (row for row in _part_rows(path) if not chosen(row.slot, row.status)))
                    dropped += found
        return dropped

    def finish(self) -> dict[str, int]:
        """Turn the journal into the last part and write the manifest; returns the number of rows by status.

        Raises:
            CaptionError: there are no rows.
            ArtifactError: the disk is full or read-only; nothing is lost, and it may be tried again.
        """
        statuses: Counter[str] = Counter()
        digests = {}
        with _write_errors_explained(self.folder):
            if self._rows:
                self._make_part()
            for name in map(part_name, range(self._part)):
                statuses.update(table.count_statuses(read_part(self.folder / name, ["status"])["status"]))
                digests[name] = file_digest(self.folder / name)
            if not statuses:
                raise CaptionError(f"{self.folder}: a caption table needs at least one row")
            facts = {"statuses": dict(sorted(statuses.items())), "digests": digests}
            write_manifest(self.folder, table.KIND, table.FORMAT_VERSION, **facts)
        return statuses

    def _open_journal(self) -> tuple[IO[bytes] | None, int, int]:
        """Open the journal of the next part, cut behind its last whole line; its number of rows, and of bytes."""
        path = _journal_path(self.folder, self._part)
        if not path.exists():
            return None, 0, 0
        size = number = 0
        damaged = unreadable = 0
        for row, end in _journal_rows(path):
            # Bad lines behind the last good one are taken for an append that a crash cut, of which nobody was told that
            # it is safe: they are cut off. One with good lines behind it was altered on the disk, and is counted.
            if row is None:
                unreadable += 1
                continue
            number, size, damaged = number + 1, end, unreadable
        self.damaged = damaged
        stream = path.open("r+b", buffering=0)
        # Otherwise the next row would stand on the same line as half of the last.
        stream.truncate(size)
        stream.seek(size)
        return stream, number, size

    def _write(self, lines: bytes) -> None:
        """Append to the journal and sync; on an error the journal is as it was."""
        if self._journal is None:
            self._journal = _journal_path(self.folder, self._part).open("wb", buffering=0)
            # Syncing a file does not sync its name: a new journal could be gone after a power cut, rows and all.
            sync_names(self.folder)
        try:
            view = memoryview(lines)
            while view:
                # Without a buffer a write may take only a part, as on a disk that is nearly full.
                view = view[self._journal.write(view) :]
            os.fsync(self._journal.fileno())
        except OSError:
            with suppress(OSError):
                # Half a row must not stay: with rows behind it, it would count as damage.
                self._journal.truncate(self._size)
                self._journal.seek(self._size)
            raise
        self._size += len(lines)

    def _make_part(self) -> None:
        """Turn the journal into a part."""
        path = _journal_path(self.folder, self._part)
        # On the disk before the journal goes: a crash in between leaves both, and `__init__` removes the journal.
        with new_file(self.folder / part_name(self._part)) as partial:
            write_part(partial, (row for row, _ in _journal_rows(path) if row))
        # Closed before it is removed: Windows cannot remove an open file.
        if self._journal:
            self._journal.close()
        path.unlink()
        self._journal, self._rows, self._size = None, 0, 0
        self._part += 1

    def _no_longer_complete(self) -> None:
        if self.complete:
            (self.folder / MANIFEST).unlink()
            sync_names(self.folder)


def is_table(folder: Path) -> bool:
    """Tell whether this is a caption table, complete or still growing; other folders of textreid have manifests too.

    Raises:
        ArtifactError: its manifest cannot be read.
    """
    if not (folder / MANIFEST).is_file():
        return (folder / JOB).is_file()
    manifest = read_json(folder / MANIFEST)
    return isinstance(manifest, dict) and manifest.get("kind") == table.KIND


def caption_rows(folder: Path) -> Iterator[CaptionRow]:
    """Yield every row of a table, complete or still growing, whatever its status; another process may be writing to it.

    Raises:
        ArtifactError: ``folder`` is not a caption table.
        CaptionError: a part is damaged.
    """
    if not any((folder / name).exists() for name in (MANIFEST, JOB)):
        raise ArtifactError(f"{folder}: not a caption table: neither {MANIFEST} nor {JOB} is there")
    for number in count():
        part, journal = folder / part_name(number), _journal_path(folder, number)
        if part.exists():
            yield from _part_rows(part)
            continue
        try:
            rows = [row for row, _ in _journal_rows(journal) if row]
        except FileNotFoundError:
            if part.exists():  # the journal became a part at this moment
                yield from _part_rows(part)
                continue
            return
        yield from rows


def _begin(folder: Path, facts: Mapping[str, Any]) -> dict[str, Any] | None:
    """Write ``job.json``, or compare it with that of earlier runs; returns what it is to be from the next row on."""
    path = folder / JOB
    # Through JSON, so that tuples equal the lists that the file has.
    job = json.loads(json.dumps({"kind": _JOB_KIND, "format_version": _JOB_VERSION, **facts}))
    if not path.exists():
        strangers = sorted(
            entry.name for entry in folder.iterdir() if entry.name != LOCK and not entry.name.startswith(f".{JOB}.")
        )
        if strangers:
            raise ResumeError(
                f"{folder}: holds {strangers[0]} but no {JOB}, so it was not begun by a captioning job; "
                "choose another folder"
            )
        write_json(path, job)
        return None
    found = read_json(path)
    if not isinstance(found, dict) or found.get("kind") != _JOB_KIND:
        raise ResumeError(f"{path}: not the record of a captioning job; choose another folder")
    if found.get("format_version") != _JOB_VERSION:
        raise ResumeError(
            f"{folder}: written by another version of textreid (format {found.get('format_version')}, "
            f"this one writes {_JOB_VERSION}); choose another folder"
        )
    differing = list(_differences(found, job))
    if differing and not any(folder.glob("part-*")) and not any(folder.glob("journal-*")):
        write_json(path, job)  # nothing was written with the other settings
        return None
    if differing:
        raise ResumeError(
            f"{folder}: begun with other settings ({'; '.join(differing)}); use the same, or choose another folder"
        )
    larger = {name: {**found[name], **job[name]} if isinstance(job[name], dict) else job[name] for name in job}
    return larger if larger != found else None


def _differences(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> Iterator[str]:
    """Yield where two records contradict each other; an entry that only one of two mappings has does not."""
    for name in dict.fromkeys([*wanted, *found]):
        old, new = found.get(name), wanted.get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            shared = {key: new[key] for key in new if key in old}
            yield from (f"{name}: {each}" for each in _differences({key: old[key] for key in shared}, shared))
        elif old != new:
            yield f"{name}: {_shown(old)} there, {_shown(new)} now"


def _shown(value: Any) -> str:
    return "nothing" if value is None else json.dumps(value, ensure_ascii=False)


def _journal_path(folder: Path, number: int) -> Path:
    return folder / f"journal-{number:05}.jsonl"


def _line(row: CaptionRow) -> bytes:
    content = json.dumps(table.values_of(row), ensure_ascii=False, separators=(",", ":")).encode()
    return b"%08x %b\n" % (zlib.crc32(content), content)


def _journal_rows(path: Path) -> Iterator[tuple[CaptionRow | None, int]]:
    """Yield each line's row, None for a line that is not as it was written, and the byte at which the line ends."""
    end = 0
    with path.open("rb") as stream:
        for line in stream:
            end += len(line)
            sum_, _, content = line.removesuffix(b"\n").partition(b" ")
            whole = line.endswith(b"\n") and sum_ == b"%08x" % zlib.crc32(content)
            yield (CaptionRow(*json.loads(content)) if whole else None), end


def _part_rows(path: Path) -> Iterator[CaptionRow]:
    for batch in read_part(path).to_batches(max_chunksize=1 << 12):
        for values in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            yield CaptionRow(*values)


@contextmanager
def _write_errors_explained(folder: Path) -> Iterator[None]:
    """Say of what cannot be written that the rows before it are safe."""
    try:
        yield
    except (OSError, ArtifactError) as error:
        reason = error if isinstance(error, OSError) else error.__cause__
        if isinstance(error, ResumeError) or not isinstance(reason, OSError):
            raise
        raise ArtifactError(
            f"{folder}: cannot be written: {reason.strerror or reason}; what was written before is safe, so make room "
            "or set the permissions and run the same command again"
        ) from reason
