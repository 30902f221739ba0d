"""Files that somebody sends to be indexed: checked one by one, kept in a folder of the job; no address is fetched.

What is uploaded is a copy of ours: it is deleted with the last that the gallery has of it, and when a crop of it is
erased.
"""

import errno
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from textreid.errors import ConfigError, ImageError
from textreid.gallery.store import Crop, Database, DiskFullError, Store
from textreid.gallery.store.server import data_folder
from textreid.images import read_image, read_suffixes

Kind = Literal["crops", "photographs", "video"]
MOST_FILES = 200
LARGEST_IMAGE = 32 << 20  # bytes
_LONGEST_NAME = 150  # bytes: file systems take 255
_ROOM = 256 << 20  # bytes that stay free on the disk
_BLOCK = 1 << 20
# Of containers that hold the video itself. A playlist names addresses, which FFmpeg would fetch.
_VIDEOS = {
    ".mp4": (4, b"ftyp"), ".m4v": (4, b"ftyp"), ".mov": (4, b"ftyp"), ".avi": (0, b"RIFF"),
    ".mkv": (0, b"\x1aE\xdf\xa3"), ".webm": (0, b"\x1aE\xdf\xa3"),
}  # fmt: skip


@dataclass(frozen=True)
class Sent:
    """A file as a client sends it: the name that it gives, and the bytes."""

    name: str
    content: IO[bytes]


def upload_folder(database: Database, gallery: int) -> Path:
    """Return where uploads into a gallery are kept, one folder a job."""
    return _of_server(database) / str(gallery)


def _of_server(database: Database) -> Path:
    # Galleries of several servers may have one number.
    server = hashlib.sha256(database.place.encode()).hexdigest()[:12]
    return data_folder() / "uploads" / server


def receive(store: Store, kind: Kind, files: Sequence[Sent]) -> Path:
    """Check files and keep them in a new folder, all or none.

    Raises:
        ConfigError: one of them cannot be what it shall be; names it and says why.
        DiskFullError: there is no room.
    """
    if not files:
        raise ConfigError("files: nothing was sent")
    if kind == "video" and len(files) > 1:
        raise ConfigError(f"files: one video at a time, not {len(files)}")
    folder = upload_folder(store.database, store.id) / secrets.token_hex(12)
    try:
        folder.mkdir(parents=True, mode=0o700)
        _check_room(folder)
        for number, file in enumerate(files, start=1):
            _keep(file, kind, folder, number)
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        kind_of = DiskFullError if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) else ConfigError
        raise kind_of(f"the upload cannot be kept: {error.strerror or type(error).__name__}") from error
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder


def _check_room(folder: Path) -> None:
    if shutil.disk_usage(folder).free < _ROOM:
        raise DiskFullError(f"{folder}: less than {_ROOM >> 20} MiB are left on the disk")


def _keep(file: Sent, kind: Kind, folder: Path, number: int) -> None:
    name = _checked_name(file.name)
    suffix = Path(name).suffix.lower()
    allowed = sorted(_VIDEOS if kind == "video" else read_suffixes())
    if suffix not in allowed:
        raise ConfigError(f"{name}: expected a name that ends in one of {' '.join(allowed)}")
    # Numbered, so that files of one name do not meet, and none is hidden or an option.
    path = folder / f"{number:03d}-{name}"
    with path.open("xb") as stream:
        shutil.copyfileobj(file.content, stream, _BLOCK)
    if kind == "video":
        place, magic = _VIDEOS[suffix]
        with path.open("rb") as stream:
            beginning = stream.read(16)
        if beginning[place : place + len(magic)] != magic or (suffix == ".avi" and beginning[8:12] != b"AVI "):
            raise ConfigError(f"{name}: not a video of the form that its name tells")
    else:
        _check_image(path, name)


def _check_image(path: Path, name: str) -> None:
    if path.stat().st_size > LARGEST_IMAGE:
        raise ConfigError(f"{name}: larger than {LARGEST_IMAGE >> 20} MiB")
    try:
        read_image(path)
    except ImageError as error:
        raise ConfigError(f"{name}: {str(error).replace(os.fspath(path), '').lstrip(': ')}") from error


def _checked_name(name: str) -> str:
    """Return the name of a file that a client gives.

    Raises:
        ConfigError: it is a path, is hidden, has signs that cannot be printed, or is too long.
    """
    shown = "".join(sign if sign.isprintable() else "�" for sign in name[:80])
    if not name or name.startswith(".") or "/" in name or "\\" in name or ":" in name:
        raise ConfigError(f"{shown!r}: not the plain name of a file")
    if not name.isprintable() or len(os.fsencode(name)) > _LONGEST_NAME:
        raise ConfigError(f"{shown!r}: a name has at most {_LONGEST_NAME} bytes, and signs that can be printed")
    return name


def delete_uploads(store: Store, crops: Iterable[Crop]) -> set[Path]:
    """Delete the uploaded files that crops are or were cut from; returns them. Files of others are not touched."""
    own = upload_folder(store.database, store.id)
    gone = {crop.path for crop in crops if crop.path.is_relative_to(own)}
    for path in gone:
        path.unlink(missing_ok=True)
    return gone


def delete_unused(folder: Path, used: set[Path]) -> None:
    """Delete what the gallery has nothing of, when a job has ended; the folder too, if nothing is left in it."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if path not in used:
            path.unlink(missing_ok=True)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def delete_abandoned(database: Database, gallery: int, known: set[Path]) -> None:
    """Delete folders of uploads that no job knows, as of one killed while it was sent, and galleries gone."""
    _delete_but(upload_folder(database, gallery), known)
    _delete_but(_of_server(database), {upload_folder(database, info.id) for info in database.galleries()})


def _delete_but(root: Path, known: set[Path]) -> None:
    for folder in root.iterdir() if root.is_dir() else ():
        if folder not in known:
            shutil.rmtree(folder, ignore_errors=True)


def delete_gallery(store: Store) -> int:
    """Delete a gallery for good, and what was uploaded into it; returns how many files that were.

    Raises:
        StoreError: the database refuses, or is gone.
    """
    folder = upload_folder(store.database, store.id)
    count = sum(path.is_file() for path in folder.rglob("*"))
    # First, as in an erasure: after a kill the gallery is still there to be deleted again.
    shutil.rmtree(folder, ignore_errors=True)
    store.database.delete(store.name)
    return count
