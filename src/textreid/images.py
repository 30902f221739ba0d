"""Images in: every file becomes an upright RGB picture, or one `ImageError` that names the file and the reason.

Decoding touches no global state of Pillow, so that any number of threads may read at once.
"""

import base64
import ctypes
import importlib.util
import io
import os
import stat
import sys
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from itertools import islice
from pathlib import Path
from typing import IO, Literal, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile

from textreid.cut_files import CUT_SHARE, completed, missing_end, without_metadata
from textreid.errors import ImageError

Interpolation = Literal["bicubic", "bilinear"]
Item = TypeVar("Item")
Result = TypeVar("Result")

MAX_PIXELS = 100_000_000  # a larger picture is refused before it is decoded
SMALLEST = (48, 16)  # height and width in pixels below which a person is too small to be described
_READ = (
    ".apng .avif .avifs .bmp .dib .gif .j2k .jfif .jp2 .jpe .jpeg .jpg .mpo .pbm .pgm .png .pnm .ppm .tif .tiff .webp"
)
SUFFIXES = frozenset(_READ.split())
HEIF_SUFFIXES = frozenset({".heic", ".heics", ".heif", ".heifs", ".hif"})  # read where pillow-heif is installed
HEIF_ADVICE = "pip install 'textreid[heic]' reads HEIC"

# Formats that cameras and data sets use. Others stay closed: some of Pillow's readers start programs (EPS).
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "AVIF", "JPEG2000")
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")  # at byte 8 of the file
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # by EXIF orientation
RESAMPLING = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
_ORIENTATION = 0x0112
_CUT = "lacks its end"  # key in the info of a picture
_MENDED_BYTES = 256 << 20  # of a file that is tried a second time
_SWAPPED = 5  # from this orientation on, height and width change places


def read_image(source: str | os.PathLike[str] | Image.Image, at_least: tuple[int, int] | None = None) -> Image.Image:
    """Decode an image: upright by its EXIF orientation, transparency over white, 8-bit RGB, first frame.

    Metadata that Pillow refuses is left out, and a file that lacks only its end is completed: see `lacks_its_end`.

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
    if not isinstance(source, (str, os.PathLike)):
        raise ImageError(f"{type(source).__name__} {str(source)[:40]!r}: neither the path of a file nor a Pillow image")
    name = os.fspath(source)
    try:
        if not stat.S_ISREG(Path(name).stat().st_mode):
            raise ImageError(f"{name}: not a file")
        with Path(name).open("rb") as stream:
            try:
                return _decode(_identify(stream, name), name, at_least)
            except _DamagedError as error:
                stream.seek(0)
                content = stream.read(_MENDED_BYTES + 1)
                picture = _mend(content, name, at_least) if len(content) <= _MENDED_BYTES else None
                if picture is None:
                    cut = missing_end(content)
                    raise ImageError(f"{name}: {cut}" if cut else str(error)) from error.__cause__
                return picture
    except OSError as error:
        raise ImageError(f"{name}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise ImageError(f"{name!r}: not a possible file name") from error


@cache
def read_suffixes() -> frozenset[str]:
    """Return the suffixes, in small letters, of the files that this installation reads as images."""
    return SUFFIXES | HEIF_SUFFIXES if importlib.util.find_spec("pillow_heif") else SUFFIXES


def lacks_its_end(picture: Image.Image) -> bool:
    """Tell whether the file that `read_image` made this picture of was cut short by so little that it could be used."""
    return bool(picture.info.get(_CUT))


def silence_decoders() -> None:
    """Keep off standard error what Pillow and libtiff say there of damaged files, in the whole of this process.

    For the command line, which names such files itself.
    """
    if not sys.warnoptions:
        warnings.filterwarnings("ignore", module=r"PIL\.")
    # Pillow does not pass on libtiff's own switch, and has a copy of it under some name.
    with suppress(OSError, AttributeError):
        maps = Path("/proc/self/maps").read_text(encoding="utf-8", errors="surrogateescape")
        for library in {line.split(maxsplit=5)[-1] for line in maps.splitlines() if "/libtiff" in line}:
            ctypes.CDLL(library).TIFFSetErrorHandler(None)
            ctypes.CDLL(library).TIFFSetWarningHandler(None)


def read_pixels(
    source: str | os.PathLike[str] | Image.Image,
    height: int,
    width: int,
    interpolation: Interpolation = "bicubic",
    reduced_decoding: bool = True,
) -> npt.NDArray[np.uint8]:
    """Read an image and resize it, as `read_image` and `to_pixels` do.

    With ``reduced_decoding`` a large JPEG is decoded at a part of its size: faster, and its pixels differ a little.

    Raises:
        ImageError: as of `read_image`.
    """
    image = read_image(source, at_least=(height, width) if reduced_decoding else None)
    return to_pixels(image, height, width, interpolation)


def to_pixels(
    image: Image.Image, height: int, width: int, interpolation: Interpolation = "bicubic"
) -> npt.NDArray[np.uint8]:
    """Resize an RGB image, whatever its aspect ratio, to (3, height, width) uint8, with antialiasing.

    ``interpolation`` is of the model that sees the pixels: its features are its own only with the resize of its
    training.
    """
    if image.size != (width, height):
        image = image.resize((width, height), RESAMPLING[interpolation])
    return np.ascontiguousarray(np.asarray(image, dtype=np.uint8).transpose(2, 0, 1))


def resize_pixels(pixels: npt.NDArray[np.uint8], height: int, width: int) -> npt.NDArray[np.uint8]:
    """Resize pictures that were decoded already, (N, 3, H, W), as `to_pixels` does each: (N, 3, height, width)."""
    if pixels.shape[2:] == (height, width) or not len(pixels):
        return pixels
    pictures = (Image.fromarray(np.ascontiguousarray(one)) for one in np.moveaxis(pixels, 1, -1))
    return np.stack([to_pixels(picture, height, width) for picture in pictures])


def as_data_uri(content: bytes, kind: str = "image/jpeg") -> str:
    """Return the address that holds a picture itself: the bytes of a file of such a MIME type."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


class _DamagedError(ImageError):
    """Error of a decoder, which a second look may mend."""


def _mend(content: bytes, name: str, at_least: tuple[int, int] | None) -> Image.Image | None:
    """Decode a damaged file without its metadata, or with its end made up where that changes few pixels.

    What a decoder makes of a cut file does not tell how much it had to invent. So the end is made up in two ways:
    the pixels that differ are those that the file does not have. The end of a PNG or a GIF tells its pixels itself.
    """
    try:
        if content.startswith(b"\x89PNG"):
            with suppress(_DamagedError):
                return _decode(_identify(io.BytesIO(without_metadata(content)), name), name, at_least)
        if content.startswith((b"\x89PNG", b"GIF8")):
            whole = completed(content, MAX_PIXELS)
            if whole is None:
                return None
            picture = _decode(_identify(io.BytesIO(whole), name), name, at_least)
            picture.info[_CUT] = True
            return picture
        length = max(4096, len(content) // 16)
        ends = [bytes([fill]) * length for fill in (0, 0x55)]
        if content.startswith(b"\xff\xd8"):  # a JPEG without its end mark shows what it has, and grey
            content = content.rstrip(b"\xff")  # half a mark
            ends = [b"\xff\xd9", ends[1] + b"\xff\xd9"]
        first, second = (_decode(_identify(io.BytesIO(content + end), name), name, at_least) for end in ends)
    except _DamagedError:
        return None
    unknown = (np.asarray(first) != np.asarray(second)).any(axis=-1).mean()
    if unknown > CUT_SHARE:
        return None
    first.info[_CUT] = True
    return first


def _identify(stream: IO[bytes], name: str) -> Image.Image:
    """Read the header as `Image.open` does, without its warning of size, which goes through process-wide filters."""
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
            raise _DamagedError(f"{name}: a damaged {kind} file: {error}") from error
    if prefix[4:8] == b"ftyp" and prefix[8:12] in _HEIF_BRANDS:
        return _identify_heif(stream, name)
    raise ImageError(f"{name}: not an image (known formats: {', '.join(_FORMATS)})")


def _identify_heif(stream: IO[bytes], name: str) -> Image.Image:
    try:
        from pillow_heif import HeifImageFile
    except ImportError:
        raise ImageError(f"{name}: HEIC is not read: {HEIF_ADVICE}") from None
    stream.seek(0)
    try:
        picture: Image.Image = HeifImageFile(stream, name)  # type: ignore[no-untyped-call]
    except Exception as error:  # as any decoder
        raise ImageError(f"{name}: a damaged HEIC file: {error}") from error
    return picture


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
        raise _DamagedError(f"{name}: damaged or truncated: {error}") from error


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # damaged EXIF says nothing about the pixels
        return 1


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    if image.mode == "F":
        raise ImageError(f"{name}: floating-point pixels have no defined white; convert the file to 8 or 16 bits")
    if image.mode == "I" or image.mode.startswith("I;"):
        # Pillow's own conversion of 16 bits clips at 255: most pixels become white. 65,535, white here, is 257 · 255.
        grey = np.clip(np.asarray(image, dtype=np.int64), 0, 0xFFFF) // 257
        return Image.fromarray(grey.astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        # Over white, as viewers show it: without alpha, transparent pixels would show the colours that they hide.
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
