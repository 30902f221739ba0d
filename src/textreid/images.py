"""Images in: every file becomes an upright RGB picture, or one `ImageError` that names the file and the reason.

Decoding touches no global state of Pillow, so that any number of threads may read at once.
"""

import os
import stat
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import IO, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile

from textreid.errors import DataError, ImageError

Item = TypeVar("Item")
Result = TypeVar("Result")

MAX_PIXELS = 100_000_000  # a larger picture is refused before it is decoded
SUFFIXES = frozenset({".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})

# Formats that cameras and data sets use. Others stay closed: some of Pillow's readers start programs (EPS).
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # by EXIF orientation
_ORIENTATION = 0x0112
_SWAPPED = 5  # from this orientation on, height and width change places


def read_image(source: str | os.PathLike[str] | Image.Image, at_least: tuple[int, int] | None = None) -> Image.Image:
    """Decode an image: upright by its EXIF orientation, transparency over white, 8-bit RGB, first frame.

    Args:
        source: a file, or a Pillow image (which is left as it was).
        at_least: (height, width) that the caller will reduce the image to. A JPEG more than twice that large is
            decoded at 1/2, 1/4 or 1/8 of its size, which is faster and is never below twice this size.

    Raises:
        ImageError: the file is missing, empty, truncated, not an image of a supported format, or has more than
            100 megapixels (decided from the header, before decoding).
    """
    if isinstance(source, Image.Image):
        name = str(getattr(source, "filename", "")) or f"image {source.width}x{source.height} {source.mode}"
        return _decode(source, name, None)
    name = os.fspath(source)
    try:
        if not stat.S_ISREG(Path(name).stat().st_mode):
            raise ImageError(f"{name}: not a file")
        with Path(name).open("rb") as stream:
            return _decode(_identify(stream, name), name, at_least)
    except OSError as error:
        raise ImageError(f"{name}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise ImageError(f"{name!r}: not a possible file name") from error


def list_images(folder: Path) -> list[Path]:
    """All image files under ``folder``, by suffix, sorted; hidden files and folders are left out.

    Links to folders are followed, each folder once.

    Raises:
        DataError: ``folder`` or one of its folders is missing or cannot be listed.
    """

    def refuse(error: OSError) -> None:
        raise DataError(f"{error.filename}: cannot be listed: {error.strerror}") from error

    found: list[Path] = []
    seen: set[str] = set()
    for parent, folders, files in os.walk(folder, onerror=refuse, followlinks=True):
        real = os.path.realpath(parent)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        names = (name for name in files if not name.startswith("."))
        found += [Path(parent, name) for name in names if os.path.splitext(name)[1].lower() in SUFFIXES]  # noqa: PTH122
    return sorted(found, key=lambda path: path.as_posix())


def to_pixels(image: Image.Image, height: int, width: int) -> npt.NDArray[np.uint8]:
    """Resize an RGB image, whatever its aspect ratio, to (3, height, width) uint8; bicubic with antialiasing."""
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    return np.ascontiguousarray(np.asarray(image, dtype=np.uint8).transpose(2, 0, 1))


def _identify(stream: IO[bytes], name: str) -> Image.Image:
    """Read the header, as `Image.open` does, which however warns of size through the process-wide filters."""
    Image.preinit()
    if any(kind not in Image.OPEN for kind in _FORMATS):
        Image.init()
    prefix = stream.read(16)
    if not prefix:
        raise ImageError(f"{name}: the file is empty")
    for kind in _FORMATS:
        factory, accept = Image.OPEN[kind]
        try:
            if accept is None or accept(prefix) is True:  # text would say that the format was not built in
                stream.seek(0)
                return factory(stream, name)
        except Exception as error:  # decoders raise almost anything on damaged data
            raise ImageError(f"{name}: a damaged {kind} file: {error}") from error
    raise ImageError(f"{name}: not an image (known formats: {', '.join(_FORMATS)})")


def _decode(image: Image.Image, name: str, at_least: tuple[int, int] | None) -> Image.Image:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ImageError(
            f"{name}: {width}x{height} pixels, more than the {MAX_PIXELS // 1_000_000} megapixels that are accepted"
        )
    if not width or not height:
        raise ImageError(f"{name}: has no pixels ({width}x{height})")
    orientation = _orientation(image)
    if at_least and isinstance(image, ImageFile.ImageFile):
        needed = at_least[::-1] if orientation < _SWAPPED else at_least
        image.draft(None, (2 * needed[0], 2 * needed[1]))
    try:
        image.load()
        picture = _to_rgb(image, name)
        return picture.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else picture
    except ImageError:
        raise
    except Exception as error:
        raise ImageError(f"{name}: damaged or truncated: {error}") from error


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # damaged EXIF says nothing about the pixels
        return 1


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    if image.mode == "F":
        raise ImageError(f"{name}: floating-point pixels have no defined white; convert the file to 8 or 16 bits")
    if image.mode == "I" or image.mode.startswith("I;"):
        grey = np.clip(np.asarray(image, dtype=np.int64), 0, 0xFFFF) // 257
        return Image.fromarray(grey.astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return image.convert("RGB")


def map_ahead(work: Callable[[Item], Result], items: Iterable[Item], threads: int, ahead: int) -> Generator[Result]:
    """Yield ``work(item)`` in the order of the items, computed in threads up to ``ahead`` items before it is asked for.

    Pillow decodes without holding the interpreter, so that threads decode as fast as processes. Close the generator
    to drop what was begun; with no threads, each result is computed when it is asked for.
    """
    if threads < 1:
        yield from map(work, items)
        return
    upcoming = iter(items)
    with ThreadPoolExecutor(threads) as pool:
        waiting = deque(pool.submit(work, item) for item in islice(upcoming, ahead))
        try:
            while waiting:
                result = waiting.popleft().result()
                waiting.extend(pool.submit(work, item) for item in islice(upcoming, 1))
                yield result
        finally:
            for future in waiting:
                future.cancel()
