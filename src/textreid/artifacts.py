"""Files and folders that are either whole or not there.

A file is written beside its final name, flushed to disk, then renamed. A folder is built under a
temporary sibling name, gets its ``manifest.json`` last, and is then renamed: a folder with a manifest is
complete, one without was interrupted. A killed process leaves a hidden ``.NAME.PID.partial``, which is never read.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from textreid.errors import ArtifactError, ResumeError

MANIFEST = "manifest.json"
LOCK = ".lock"
_READ_BYTES = 1 << 20
_LOOKING_S = 0.2  # `is_locked` holds a lock for the time of a look


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Yield a path beside ``path`` that takes its place, flushed to disk, when the block ends without an error.

    Raises:
        ArtifactError: the disk is full, or the folder is missing or read-only; or there is a device or a folder.
    """
    if os.path.exists(path) and not os.path.isfile(path):  # noqa: PTH110, PTH113 - a closed folder is told below
        raise ArtifactError(f"{path}: is no file, and would be replaced by one; give the name of a file")
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        with partial.open("rb") as stream:
            # Before the rename: a name may reach the disk before the bytes, and a power cut then leaves an empty file.
            os.fsync(stream.fileno())
        partial.replace(path)
        sync_names(path.parent)
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be written: {_reason(error, path.parent)}") from error
    finally:
        with suppress(OSError):
            partial.unlink()


def sync_names(folder: Path) -> None:
    """Flush to disk which names a folder holds, where the system can (Windows opens no folders); raises OSError."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_bytes(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path`` so that a crash or a full disk leaves the old file or the new, never a part.

    Raises:
        ArtifactError: the disk is full, or the folder is missing or read-only.
    """
    with new_file(path) as partial:
        partial.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8, whole or not at all."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, sort_keys=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        ArtifactError: the file is missing or is not JSON; names the line.
    """
    try:
        # Editors on Windows put a byte order mark first, which json refuses.
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise ArtifactError(f"{path}: not valid JSON: {error}") from error


@contextmanager
def new_folder(path: Path, kind: str, format_version: int, replace: bool = False, **facts: Any) -> Iterator[Path]:
    """Yield a temporary folder that becomes ``path`` when the block ends without an error.

    Args:
        path: the final folder.
        kind: what it is (``"model"``, ``"checkpoint"``), checked when it is read.
        format_version: of the contents.
        replace: whether an existing folder at ``path`` may be replaced.
        facts: further entries of the manifest (counts, fingerprints).

    Raises:
        ArtifactError: ``path`` exists and may not be replaced, or cannot be written.
    """
    if path.exists() and not replace:
        raise ArtifactError(f"{path}: exists already; choose another folder or remove it")
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        yield partial
        write_manifest(partial, kind, format_version, **facts)
        _put_in_place(partial, path)
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be written: {_reason(error, partial)}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_manifest(folder: Path, kind: str, format_version: int, **facts: Any) -> None:
    """Declare ``folder`` complete: its manifest lists the files that are in it now, with their sizes.

    Raises:
        ArtifactError: it cannot be written.
    """
    files = {file.name: file.stat().st_size for file in sorted(folder.iterdir()) if file.is_file()}
    for name in (MANIFEST, LOCK):  # a lock is of those who write, not of what they wrote
        files.pop(name, None)
    write_json(folder / MANIFEST, {"kind": kind, "format_version": format_version, **facts, "files": files})


def _put_in_place(partial: Path, path: Path) -> None:
    """Rename ``partial`` to ``path``; a folder that stands there is deleted only when the new one is in place."""
    # A folder cannot be renamed to one that holds something: the old one steps aside first.
    old = path.with_name(f".{path.name}.{os.getpid()}.old")
    if path.exists():
        path.rename(old)
    try:
        partial.rename(path)
    except OSError:
        if old.exists():
            old.rename(path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _reason(error: OSError, folder: Path) -> str:
    """Say what went wrong, and with which file if it is not one of ``folder``."""
    reason = error.strerror or str(error)
    name = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else None
    return reason if name is None or Path(name).is_relative_to(folder) else f"{reason}: {name}"


def read_manifest(path: Path, kind: str, format_version: int) -> dict[str, Any]:
    """Read the manifest of the folder ``path`` and check that the folder is what it says and whole.

    Raises:
        ArtifactError: no manifest (interrupted or foreign), another kind, another format version, or a file
            that is missing or has another size than was written.
    """
    if not (path / MANIFEST).is_file():
        raise ArtifactError(f"{path}: no {MANIFEST}: not a {kind} folder, or its writing was interrupted")
    manifest = read_json(path / MANIFEST)
    found = manifest.get("kind") if isinstance(manifest, dict) else None
    if found != kind:
        raise ArtifactError(f"{path}: holds a {found or 'foreign'} folder, not a {kind} folder")
    if manifest.get("format_version") != format_version:
        raise ArtifactError(
            f"{path}: {kind} format {manifest.get('format_version')}; this version of textreid reads {format_version}"
        )
    files = manifest.get("files", {})
    if not isinstance(files, dict):
        raise ArtifactError(f"{path / MANIFEST}: damaged: 'files' is no table of sizes")
    for name, size in files.items():
        file = path / name
        if not file.is_file():
            raise ArtifactError(f"{file}: missing, though the manifest lists it")
        if file.stat().st_size != size:
            raise ArtifactError(f"{file}: {file.stat().st_size} bytes, but {size} were written: truncated or edited")
    return dict(manifest)


def file_digest(path: Path) -> str:
    """Compute the SHA-256 of a file's bytes, in hexadecimal; raises OSError."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_READ_BYTES):
            digest.update(block)
    return digest.hexdigest()


def fingerprint(value: Any) -> str:
    """Compute the SHA-256 of a JSON value in canonical form, in hexadecimal: equal values, equal fingerprints."""
    canonical = json.dumps(value, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


@contextmanager
def locked(folder: Path, busy: str) -> Iterator[None]:
    """Hold the lock of ``folder``, which one process at a time has; the death of the process gives it back.

    Where files cannot be locked (some network disks) everybody may enter.

    Args:
        folder: must exist.
        busy: what the error says of a folder that another process holds.

    Raises:
        ResumeError: another process holds it.
        ArtifactError: the folder cannot be written.
    """
    from filelock import FileLock, Timeout  # here: a search, which locks nothing, would wait for it

    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=_LOOKING_S)
    except Timeout as error:
        raise ResumeError(f"{folder}: {busy}") from error
    except NotImplementedError:
        pass
    except OSError as error:
        raise ArtifactError(f"{folder}: cannot be written: {error.strerror or error}") from error
    try:
        yield
    finally:
        lock.release()


def is_locked(folder: Path) -> bool:
    """Tell whether a process on this machine works in ``folder``, as far as the lock of `locked` tells."""
    # Asking for a lock makes its file: a look must not leave one in a folder that nobody locked.
    if not (folder / LOCK).exists():
        return False
    from filelock import FileLock, Timeout

    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    except (NotImplementedError, OSError):
        return False
    lock.release()
    return False
