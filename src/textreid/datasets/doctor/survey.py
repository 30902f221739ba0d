"""Looks at every image of a list: decodes it, measures it, and takes digests of its file and of its pixels."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from textreid.artifacts import file_digest
from textreid.errors import DataError, ImageError
from textreid.images import read_image

_AT_ONCE = 1024  # images handed to the threads; Pillow decodes without holding the interpreter

Progress = Callable[[int], None]
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded image: its size in pixels, upright, and the SHA-256 of its file and of its RGB pixels, in hex."""

    width: int
    height: int
    content: str
    pixels: str


@dataclass(frozen=True)
class Survey:
    """What became of every image: a picture, or the reason why there is none. Both by path below the root."""

    pictures: dict[str, Picture]
    unreadable: dict[str, str]


def survey(root: Path, images: Sequence[str], progress: Progress | None = None) -> Survey:
    """Decode all ``images`` below ``root``; ``progress`` is called with the number that are done."""
    pictures: dict[str, Picture] = {}
    unreadable: dict[str, str] = {}
    for done, (image, result) in enumerate(_in_threads(lambda image: _look(root / image), images), 1):
        if isinstance(result, Picture):
            pictures[image] = result
        else:
            unreadable[image] = result
        if progress:
            progress(done)
    return Survey(pictures, unreadable)


def content_digests(root: Path, images: Sequence[str]) -> dict[str, str]:
    """SHA-256 of the files of ``images``, without decoding them.

    Raises:
        DataError: one cannot be read.
    """
    try:
        return dict(_in_threads(lambda image: file_digest(root / image), images))
    except OSError as error:
        raise DataError(f"{error.filename}: cannot be read: {error.strerror or error}") from error


def _in_threads(work: Callable[[str], _Result], images: Sequence[str]) -> Iterator[tuple[str, _Result]]:
    with ThreadPoolExecutor() as pool:
        for first in range(0, len(images), _AT_ONCE):
            batch = images[first : first + _AT_ONCE]
            yield from zip(batch, pool.map(work, batch), strict=True)


def _look(path: Path) -> Picture | str:
    try:
        image = read_image(path)
        content = file_digest(path)
    except ImageError as error:
        return str(error).removeprefix(f"{path}: ")
    except OSError as error:
        return error.strerror or str(error)
    return Picture(image.width, image.height, content, _pixel_digest(image.size, image.tobytes()))


def _pixel_digest(size: tuple[int, int], pixels: bytes) -> str:
    digest = hashlib.sha256("{} {} ".format(*size).encode())
    digest.update(pixels)
    return digest.hexdigest()
