"""Images in: every file becomes an upright RGB picture, or one `ImageError` that names the file and the reason.

Decoding touches no global state of Pillow, so that any number of threads may read at once. `list_images` finds the
files of a folder, and says what it left out.
"""

import importlib.util
import io
import os
import stat
import unicodedata
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import IO, Literal, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile

from textreid.errors import DataError, ImageError

Interpolation = Literal["bicubic", "bilinear"]
Item = TypeVar("Item")
Result = TypeVar("Result")

MAX_PIXELS = 100_000_000  # a larger picture is refused before it is decoded
SMALLEST = (48, 16)  # height and width in pixels below which a picture shows nobody that words could describe
_READ = (
    ".apng .avif .avifs .bmp .dib .gif .j2k .jfif .jp2 .jpe .jpeg .jpg .mpo .pbm .pgm .png .pnm .ppm .tif .tiff .webp"
)
SUFFIXES = frozenset(_READ.split())
HEIF_SUFFIXES = frozenset({".heic", ".heics", ".heif", ".heifs", ".hif"})  # read where pillow-heif is installed
# Pictures and videos that nothing here reads; other suffixes are no business of a folder of images.
_NOT_READ = ".3gp .arw .avi .cr2 .cr3 .dng .eps .exr .hdr .ico .jxl .jxr .m4v .mkv .mov .mp4 .mpg .nef .orf .pcx .pef "
_NOT_READ += ".psd .raf .raw .rw2 .svg .svgz .tga .webm .wmv .xcf"
_OTHER_SUFFIXES = HEIF_SUFFIXES | frozenset(_NOT_READ.split())
_HEIF_ADVICE = "pip install 'textreid[heic]' reads HEIC"
# In small letters. Synology, QNAP, macOS, Windows, file systems and photo programs put these beside pictures.
_LEFT_BEHIND = "@eadir @tmp @recycle @recently-snapshot #recycle #snapshot @__thumb .@__thumb __macosx lost+found "
_LEFT_BEHIND += "$recycle.bin recycler thumbs.db ehthumbs.db desktop.ini .ds_store .git .picasaoriginals .thumbnails"
_BY_PRODUCTS = frozenset(_LEFT_BEHIND.split()) | {"system volume information"}
_NAMED = 5  # odd entries spelled out

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
_RESAMPLING = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
_ORIENTATION = 0x0112
_CUT = "lacks its end"  # key in the info of a picture
_CUT_SHARE = 0.05  # of the pixels, which a file that is used may leave unknown
_MENDED_BYTES = 256 << 20  # of a file that is tried a second time
# What PNG needs to show its pixels as Pillow does; text, profiles and times are not among it.
_PNG_CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"eXIf")
_SWAPPED = 5  # from this orientation on, height and width change places


@dataclass(frozen=True)
class ImageListing:
    """The image files below a folder, and what else there was.

    Attributes:
        images: those that can be tried, told by their suffix, sorted.
        other_formats: number of pictures and videos of each suffix that is not read.
        by_products: number of files and folders of each kind that other programs left, which are not looked into.
        odd: (path, reason) of what could not be followed: a folder without permission, a broken link, a socket.
    """

    images: list[Path]
    other_formats: Counter[str]
    by_products: Counter[str]
    odd: list[tuple[Path, str]]

    def notes(self) -> list[str]:
        """Return lines for the user on what was left out; empty where nothing was."""
        lines = []
        if self.other_formats:
            advice = "" if self.other_formats.keys().isdisjoint(HEIF_SUFFIXES) else f"; {_HEIF_ADVICE}"
            lines.append(f"not read: {_counted(self.other_formats)}{advice}")
        if self.by_products:
            lines.append(f"left out, made by other programs or hidden: {_counted(self.by_products)}")
        named = [f"left out: {path}: {reason}" for path, reason in self.odd[:_NAMED]]
        more = len(self.odd) - _NAMED
        return [*lines, *named, *([f"left out: {more:,} more that cannot be followed"] if more > 0 else [])]


def name_on_disk(root: Path, name: str) -> str:
    """Find the path ``name`` below ``root`` with its letters composed, or decomposed as macOS has them.

    Returns ``name`` itself where it is there, or no form of it is.
    """
    forms = [name] if name.isascii() else [name, *(unicodedata.normalize(form, name) for form in ("NFC", "NFD"))]
    return next((form for form in forms if (root / form).exists()), name)


def list_images(folder: Path) -> ImageListing:
    """Find all image files under ``folder`` by suffix; by-products of other programs and hidden files are left out.

    Links to folders are followed, each folder once. What cannot be followed is named, and the rest is listed.

    Raises:
        DataError: ``folder`` itself is missing or cannot be listed.
    """
    found = ImageListing([], Counter(), Counter(), [])
    seen: set[str] = set()
    waiting = [Path(folder)]
    while waiting:
        parent = waiting.pop()
        try:
            real = os.path.realpath(parent)
            if real in seen:
                continue
            seen.add(real)
            with os.scandir(parent) as entries:
                waiting += [Path(entry.path) for entry in entries if _list_entry(entry, found)]
        except OSError as error:
            if parent == Path(folder):
                raise DataError(f"{folder}: cannot be listed: {error.strerror}") from error
            found.odd.append((parent, f"cannot be listed: {error.strerror}"))
    found.images.sort(key=lambda path: path.as_posix())
    found.odd.sort()
    return found


def _list_entry(entry: os.DirEntry[str], found: ImageListing) -> bool:
    """Add a file to what was found; returns whether the entry is a folder to be looked into."""
    left_behind = by_product(entry.name)
    if left_behind:
        found.by_products[left_behind] += 1
        return False
    try:
        if entry.is_dir():
            return True
        # Calling os.path rather than Path: a folder may have millions of files.
        suffix = os.path.splitext(entry.name)[1].lower()  # noqa: PTH122
        if suffix in read_suffixes():
            if entry.is_file():
                found.images.append(Path(entry.path))
            else:
                found.odd.append((Path(entry.path), "a broken link" if entry.is_symlink() else "not a file"))
        elif suffix in _OTHER_SUFFIXES:
            found.other_formats[suffix] += 1
    except OSError as error:  # a link that leads back to itself
        found.odd.append((Path(entry.path), error.strerror or str(error)))
    return False


def by_product(name: str) -> str:
    """Name the kind of a file or folder that another program left, or that is hidden; "" for any other."""
    if name.startswith("._"):
        return "._*"
    if name.lower() in _BY_PRODUCTS:
        return name
    return "hidden" if name.startswith(".") else ""


def _counted(numbers: Counter[str]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in sorted(numbers.items(), key=lambda item: (-item[1], item)))


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
                picture = _mend(stream, name, at_least)
                if picture is None:
                    raise ImageError(str(error)) from error.__cause__
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
        image = image.resize((width, height), _RESAMPLING[interpolation])
    return np.ascontiguousarray(np.asarray(image, dtype=np.uint8).transpose(2, 0, 1))


class _DamagedError(ImageError):
    """Error of a decoder, which a second look may mend."""


def _mend(stream: IO[bytes], name: str, at_least: tuple[int, int] | None) -> Image.Image | None:
    """Decode a damaged file without its metadata, or with its end made up where that changes few pixels.

    What a decoder makes of a cut file tells nothing of how much it had to invent. So the end is made up in two ways:
    the pixels that differ are those that the file does not have.
    """
    stream.seek(0)
    content = stream.read(_MENDED_BYTES + 1)
    if len(content) > _MENDED_BYTES:
        return None
    try:
        if content.startswith(b"\x89PNG"):
            return _decode(_identify(io.BytesIO(_without_metadata(content)), name), name, at_least)
        length = max(4096, len(content) // 16)
        ends = [bytes([fill]) * length for fill in (0, 0x55)]
        if content.startswith(b"\xff\xd8"):  # a JPEG without its end mark shows what it has, and grey
            content = content.rstrip(b"\xff")  # half a mark
            ends = [b"\xff\xd9", ends[1] + b"\xff\xd9"]
        first, second = (_decode(_identify(io.BytesIO(content + end), name), name, at_least) for end in ends)
    except _DamagedError:
        return None
    unknown = (np.asarray(first) != np.asarray(second)).any(axis=-1).mean()
    if unknown > _CUT_SHARE:
        return None
    first.info[_CUT] = True
    return first


def _without_metadata(png: bytes) -> bytes:
    """Keep the chunks of a PNG that its pixels need."""
    kept, place = [png[:8]], 8
    while place + 12 <= len(png):
        end = place + 12 + int.from_bytes(png[place : place + 4], "big")
        if png[place + 4 : place + 8] in _PNG_CHUNKS:
            kept.append(png[place:end])
        place = end
    return b"".join(kept)


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
            raise _DamagedError(f"{name}: a damaged {kind} file: {error}") from error
    if prefix[4:8] == b"ftyp" and prefix[8:12] in _HEIF_BRANDS:
        return _identify_heif(stream, name)
    raise ImageError(f"{name}: not an image (known formats: {', '.join(_FORMATS)})")


def _identify_heif(stream: IO[bytes], name: str) -> Image.Image:
    try:
        from pillow_heif import HeifImageFile
    except ImportError:
        raise ImageError(f"{name}: HEIC is not read: {_HEIF_ADVICE}") from None
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
