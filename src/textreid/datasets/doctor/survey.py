"""Looks at every image of a list: decodes it, measures it, and takes digests of its file and of its pixels."""

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from textreid.artifacts import file_digest
from textreid.emptiness import shows_nothing
from textreid.errors import ImageError
from textreid.images import lacks_its_end, map_ahead, read_image
from textreid.listing import name_on_disk

_THREADS = os.cpu_count() or 4
# What waits is a Picture of some hundred bytes, not its pixels, so many can wait while one slow file is read.
_AHEAD = 64 * _THREADS  # pictures begun before they are asked for
# Taller than wide, as people are; nine columns have eight differences, which makes 8 x 16 bits.
_GRADIENTS = (9, 16)  # width and height that a picture is reduced to for its perceptual hash
_ALIKE_BITS = 14  # of 128; copies in another size or quality differ in fewer, different crops in 26 and more
_BLOCK = 4096  # hashes compared with each other at once

Progress = Callable[[int, int], None]  # images that are done, of how many


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded image.

    Attributes:
        width, height: in pixels, upright.
        content, pixels: SHA-256 of its file and of its RGB pixels, in hex.
        gradients: perceptual hash of 128 bits: where a picture of 9 x 16 grey pixels grows brighter to the right.
        nothing: why it shows nothing, as `shows_nothing` says, or "".
        cut: whether its file lacks its end.
    """

    width: int
    height: int
    content: str
    pixels: str
    gradients: bytes
    nothing: str
    cut: bool


@dataclass(frozen=True)
class Survey:
    """What became of every image: a picture, or why it cannot be read. Both by path below the root.

    ``seconds`` is the time that the look at them took.
    """

    pictures: dict[str, Picture]
    unreadable: dict[str, str]
    seconds: float

    @property
    def contents(self) -> dict[str, str]:
        """Digest of the file of each picture."""
        return {image: picture.content for image, picture in self.pictures.items()}


def survey(root: Path, images: Sequence[str], progress: Progress | None = None) -> Survey:
    """Decode all ``images`` below ``root``; ``progress`` is called with how many are done, and of how many."""
    pictures: dict[str, Picture] = {}
    unreadable: dict[str, str] = {}
    start = time.monotonic()
    # Looking for the name is done in the threads too: on network storage each look takes a while.
    looks = map_ahead(lambda image: _look(root / name_on_disk(root, image)), images, _THREADS, _AHEAD)
    for done, (image, result) in enumerate(zip(images, looks, strict=True), 1):
        if isinstance(result, Picture):
            pictures[image] = result
        else:
            unreadable[image] = result
        if progress:
            progress(done, len(images))
    return Survey(pictures, unreadable, time.monotonic() - start)


def near_equal(pictures: Sequence[Picture]) -> list[tuple[int, int]]:
    """Find pictures that look alike, as pairs of numbers (an earlier one, a later one); each later one once.

    Exact up to some thousand pictures. Of more, hashes are sorted by each of their 16-bit parts in turn and compared
    with their neighbours, which finds all that differ in fewer than 8 bits unless thousands share a part.
    """
    hashes = np.frombuffer(b"".join(picture.gradients for picture in pictures), np.uint8).reshape(-1, 16)
    # Of signs, the product counts the bits that agree less those that differ: one matrix product for a block.
    signs = np.unpackbits(hashes, axis=1).astype(np.float32) * 2 - 1
    first: dict[int, int] = {}
    # Seven bits that differ lie in at most seven of the eight parts, so one part is equal, and sorting by it brings
    # the two together.
    for part in hashes.reshape(-1, 8, 2).transpose(1, 0, 2) if len(hashes) > _BLOCK else hashes[None, :, :2]:
        # `lexsort` sorts by its last key first, here the first byte.
        order = np.lexsort((part[:, 1], part[:, 0]))
        # Blocks overlap by half, so that neighbours of up to half a block meet in one of them.
        for start in range(0, max(1, len(order) - _BLOCK // 2), _BLOCK // 2):
            # Back in the order of the list, so that the upper triangle has the earlier one first.
            block = np.sort(order[start : start + _BLOCK])
            distance = (128 - signs[block] @ signs[block].T) / 2
            for early, late in np.argwhere(np.triu(distance <= _ALIKE_BITS, 1)).tolist():
                # One pair for each later picture: a track of n frames would have n * (n - 1) / 2.
                first.setdefault(int(block[late]), int(block[early]))
    return sorted((early, late) for late, early in first.items())


def _look(path: Path) -> Picture | str:
    try:
        image = read_image(path)
        content = file_digest(path)
    except ImageError as error:
        return str(error).removeprefix(f"{path}: ")
    except OSError as error:
        return error.strerror or str(error)
    width, height = image.size
    # With the size: pixels alone may be the same for 2 x 8 and 4 x 4.
    pixels = hashlib.sha256(f"{width} {height} ".encode())
    pixels.update(image.tobytes())
    return Picture(
        width, height, content, pixels.hexdigest(), _gradients(image), shows_nothing(image), lacks_its_end(image)
    )


def _gradients(image: Image.Image) -> bytes:
    # BOX averages every pixel. Most signs of differences stay when a picture is made brighter or compressed again.
    grey: npt.NDArray[np.uint8] = np.asarray(image.convert("L").resize(_GRADIENTS, Image.Resampling.BOX))
    return np.packbits(grey[:, 1:] > grey[:, :-1]).tobytes()
