"""The image files of a folder, and what else there was: every entry is listed, counted or named with a reason."""

import os
import re
import unicodedata
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from textreid.errors import DataError
from textreid.images import HEIF_ADVICE, HEIF_SUFFIXES, read_suffixes

# Pictures and videos that textreid does not read; other suffixes are not counted: they are not pictures.
_NOT_READ = ".3gp .arw .avi .cr2 .cr3 .dng .eps .exr .hdr .ico .jxl .jxr .m4v .mkv .mov .mp4 .mpg .nef .orf .pcx .pef "
_NOT_READ += ".psd .raf .raw .rw2 .svg .svgz .tga .webm .wmv .xcf"
_OTHER_SUFFIXES = HEIF_SUFFIXES | frozenset(_NOT_READ.split())
# In small letters. Synology, QNAP, macOS, Windows, file systems and photo programs put these beside pictures.
_LEFT_BEHIND = "@eadir @tmp @recycle @recently-snapshot #recycle #snapshot @__thumb .@__thumb __macosx lost+found "
_LEFT_BEHIND += "$recycle.bin recycler thumbs.db ehthumbs.db desktop.ini .ds_store .git .picasaoriginals .thumbnails "
_LEFT_BEHIND += "@sharebin @synologydrive found.000 ~snapshot"
_WITH_SPACES = ("system volume information", "network trash folder", "temporary items")
_BY_PRODUCTS = frozenset(_LEFT_BEHIND.split()) | frozenset(_WITH_SPACES)
# How files of the formats that are read begin: a suffix that is no word (of `curl`, of a download's second copy) tells
# nothing of the format.
_BEGINNINGS = re.compile(rb"(?s)\xff\xd8\xff|\x89PNG\r\n|GIF8|II\*\0|MM\0\*|RIFF....WEBP|....ftyp(?:avif|hei|mif1)")
_NAMED = 5  # odd entries spelled out


@dataclass(frozen=True)
class ImageListing:
    """The image files below a folder, and what else there was.

    Attributes:
        images: those that can be tried, told by their suffix, or by their beginning where that is no word; sorted.
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
            advice = "" if self.other_formats.keys().isdisjoint(HEIF_SUFFIXES) else f"; {HEIF_ADVICE}"
            lines.append(f"not read: {counted(self.other_formats)}{advice}")
        if self.by_products:
            lines.append(f"left out, made by other programs or hidden: {counted(self.by_products)}")
        named = [f"left out: {path}: {reason}" for path, reason in self.odd[:_NAMED]]
        more = len(self.odd) - _NAMED
        return [*lines, *named, *([f"left out: {more:,} more that cannot be followed"] if more > 0 else [])]


def name_on_disk(root: Path, name: str) -> str:
    """Find the path ``name`` below ``root`` with its letters composed, or decomposed as macOS has them.

    Returns ``name`` itself where it is there, or no form of it is.
    """
    forms = [name] if name.isascii() else [name, *(unicodedata.normalize(form, name) for form in ("NFC", "NFD"))]
    # Unlike Path.exists, it says no of what nobody may look at, and of a name that is too long.
    return next((form for form in forms if os.path.exists(root / form)), name)  # noqa: PTH110


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
        elif not suffix[1:].isalpha() and entry.is_file() and _begins_as_image(entry.path):
            found.images.append(Path(entry.path))
    except OSError as error:  # a link that leads back to itself
        found.odd.append((Path(entry.path), error.strerror or str(error)))
    return False


def _begins_as_image(path: str) -> bool:
    with open(path, "rb") as stream:  # noqa: PTH123
        return _BEGINNINGS.match(stream.read(16)) is not None


def by_product(name: str) -> str:
    """Name the kind of a file or folder that another program left, or that is hidden; "" for any other."""
    if name.startswith("._"):
        return "._*"
    if name.lower() in _BY_PRODUCTS:
        return name
    if name.endswith(("~", ".lrdata")):  # a copy that an editor kept; previews of Lightroom
        return "*~" if name.endswith("~") else "*.lrdata"
    return "hidden" if name.startswith(".") else ""


def counted(numbers: Counter[str]) -> str:
    """Write numbers with their names, the greatest first."""
    return ", ".join(f"{count:,} {name}" for name, count in sorted(numbers.items(), key=lambda item: (-item[1], item)))
