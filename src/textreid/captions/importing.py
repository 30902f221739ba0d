"""Into one caption table: the captions of others, in any of the forms that `textreid.captions.forms` reads."""

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from textreid.captions.forms import Entry, Fields, read_entries
from textreid.captions.language import is_unicode
from textreid.captions.table import KINDS, CaptionRow, is_storable, write_captions
from textreid.captions.writer import caption_rows, is_table
from textreid.errors import CaptionError
from textreid.listing import list_images

MAX_REJECTED = 0.05
RELEASED = {"s": "static", "d": "dynamic"}

_NAMED = 5
_RELEASED_NAME = re.compile(r"T([sd])-([^/]+)\.json")
_SOURCE = re.compile(r"([\w.:+-]+)(?:/([\w-]+))?=(.+)", re.DOTALL)
_SUFFIXES = {b"\xff\xd8\xff": ".jpg", b"\x89PNG": ".png", b"RIFF": ".webp", b"GIF8": ".gif", b"BM": ".bmp"}


@dataclass(frozen=True)
class Source:
    """A file or folder of captions, and who wrote them how.

    Attributes:
        path: a file or folder that `read_entries` reads, or a caption table, whose rows stay as they are.
        mllm: the writer; the first half of the slot. Empty for a table, which names its own.
        instruction: ``"static"`` (which captions without any instruction count as) or ``"dynamic"``.
        image_field, caption_field: names of the fields or columns (of captions several, with commas between them);
            None: see `read_entries`.
    """

    path: Path
    mllm: str
    instruction: str = "static"
    image_field: str | None = None
    caption_field: str | None = None

    @classmethod
    def parse(cls, text: str) -> "Source":
        """Read ``"NAME/static=PATH"``, ``"NAME=PATH"``, or the path of a released file or table.

        Raises:
            CaptionError: it is none of these.
        """
        if is_table(Path(text)):
            return cls(Path(text), "")
        given = _SOURCE.fullmatch(text)
        released = _RELEASED_NAME.fullmatch(Path(text).name)
        if released and (not given or Path(text).exists()):
            return cls(Path(text), released[2], RELEASED[released[1]])
        if not given:
            raise CaptionError(
                f"{text}: say whose captions these are, as in 'human={text}' or 'qwen/dynamic={text}'; only files "
                "with a released name such as Ts-qwen.json, and caption tables, need no name"
            )
        kind = given[2] or KINDS[0]
        if kind not in KINDS:
            raise CaptionError(f"{text}: no instruction {kind!r}; known: {', '.join(KINDS)}")
        return cls(Path(given[3]), given[1], kind)

    @classmethod
    def parse_all(cls, text: str) -> "list[Source]":
        """Read what `parse` does, or all released files in the folder of that name.

        Raises:
            CaptionError: it is neither.
        """
        folder = Path(text)
        files = sorted(file for file in folder.glob("T*.json") if _RELEASED_NAME.fullmatch(file.name))
        return [cls.parse(str(file)) for file in files] or [cls.parse(text)]


@dataclass
class Imported:
    """What an import did.

    Attributes:
        rows: that were written.
        matched: entries whose image was found below the root other than by its exact path: by ``suffix`` or by
            ``base-name``.
        left_out: entries or captions by rule: ``no-image`` (no such file under the image root), ``ambiguous`` (several
            files fit alike), ``embedded`` (the image is in the source, and has no path), ``no-path`` (neither),
            ``no-captions``, ``not-text`` and ``not-unicode`` (half a character).
        examples: some of those, with their rule.
    """

    rows: int = 0
    matched: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)

    def leave_out(self, rule: str, what: object) -> None:
        """Count one more."""
        self.left_out[rule] += 1
        if len(self.examples) < _NAMED:
            self.examples.append(f"{what!s:.100} ({rule})")


def import_captions(
    sources: Sequence[Source],
    out: Path,
    images: Path | None = None,
    max_rejected: float = MAX_REJECTED,
    save_images: Path | None = None,
) -> Imported:
    """Write the captions of ``sources`` as the new caption table ``out``.

    The first caption of an entry goes to the slot ``NAME/INSTRUCTION``, further ones to ``NAME/INSTRUCTION-2`` and so
    on, unless the entry names a slot; those of further entries with the same path count on. What nobody recorded stays
    empty: template, hash of the prompt; the seed is 0.
    Memory holds the names of the images, not the captions.

    Args:
        sources: where the captions are.
        out: folder to write; must not exist.
        images: the image root. An image is found by its path below the root, or else as the one file that shares the
            longest end of the path with it, from the base name and its folder on. The base name alone decides where
            all paths of a source have the same folder, or none. None: paths are taken as they are, and must be
            relative. Those of a table always are.
        max_rejected: share of the entries that may be left out.
        save_images: folder to write the images to that Parquet and Arrow files have in them: under their path, or one
            made from their content; the paths in the table are relative to it. Other images are looked for there.

    Raises:
        CaptionError: a source cannot be read or has another form; two entries of a source describe the same image; a
            path is not relative where no root is given; or more is left out than allowed.
        DataError: ``images`` cannot be listed.
        ArtifactError: ``out`` exists already, or cannot be written.
    """
    if not sources:
        raise CaptionError("nothing to import: no source was given")
    if images and save_images:
        raise CaptionError("images are looked for below one folder: give it, or a folder to save them to, not both")
    if save_images:
        save_images.mkdir(parents=True, exist_ok=True)
    root = images or save_images
    imported = Imported()
    places = None if root is None else _Root(root)
    write_captions(out, _rows(sources, places, imported, max_rejected, save_images))
    return imported


def captions_in(source: Source) -> Iterator[str]:
    """Yield every caption of a source as it stands, whatever image it is of.

    Raises:
        CaptionError: the source cannot be read or has another form.
    """
    for entry in _entries(source):
        yield from (caption for caption in entry.captions if isinstance(caption, str))


def _entries(source: Source, with_content: bool = False) -> Iterator[Entry]:
    return read_entries(source.path, Fields(source.image_field, source.caption_field), with_content)


def _rows(
    sources: Sequence[Source], root: "_Root | None", imported: Imported, max_rejected: float, save: Path | None
) -> Iterator[CaptionRow]:
    for source in sources:
        for row in _described(source, root, imported, save) if source.mllm else caption_rows(source.path):
            imported.rows += 1
            yield row
    left_out = imported.left_out.total()
    if left_out > max_rejected * (imported.rows + left_out):
        hint = "; --save-images FOLDER writes the images that are in the file" if imported.left_out["embedded"] else ""
        raise CaptionError(
            f"{left_out} of {imported.rows + left_out} captions cannot be used (allowed: {max_rejected:.0%}): "
            f"{', '.join(imported.examples)}{hint}"
        )


def _described(source: Source, root: "_Root | None", imported: Imported, save: Path | None) -> Iterator[CaptionRow]:
    described: dict[tuple[str, str], tuple[object, int]] = {}  # what the source called an image, and its captions
    one_folder = _OneFolder(source)
    for entry in _entries(source, save is not None):
        path = _saved(entry, save) if save and entry.content else _place(entry, source, root, imported, one_folder)
        if path is None:
            continue
        if not entry.captions:
            imported.leave_out("no-captions", path)
        own_slot = entry.slot or f"{source.mllm}/{source.instruction}"
        earlier, count = described.get((path, own_slot), (entry.image, 0))
        if count and (entry.keyed or earlier != entry.image):
            raise CaptionError(
                f"{source.path}: entry {entry.image!r} and an earlier one both describe {path!r} in slot {own_slot!r}: "
                "keep one entry an image"
            )
        described[path, own_slot] = entry.image, count + max(1, len(entry.captions))
        for number, caption in enumerate(entry.captions, count + 1):
            if not isinstance(caption, str):
                imported.leave_out("not-text", path)
            elif not is_unicode(caption):
                imported.leave_out("not-unicode", path)
            else:
                yield _row(path, own_slot if number == 1 else f"{own_slot}-{number}", caption)


def _row(image: str, slot: str, caption: str) -> CaptionRow:
    mllm, _, kind = slot.rpartition("/")
    instruction = "dynamic" if kind.startswith("dynamic") else "static"
    return CaptionRow(image, slot, caption, mllm or slot, instruction, "", "", 0)


def _saved(entry: Entry, folder: Path) -> str:
    """Write the image of an entry below ``folder``, unless it is there; returns its path relative to it."""
    content = entry.content or b""
    # 80 bits are enough: among 10 million images two share them with a chance of 4 in 100 billion.
    digest = hashlib.sha256(content).hexdigest()[:20]
    suffix = next((suffix for start, suffix in _SUFFIXES.items() if content.startswith(start)), ".jpg")
    name = _plain(entry.image) if isinstance(entry.image, str) and is_unicode(entry.image) else ""
    if not name or not is_storable(name) or ((folder / name).exists() and (folder / name).read_bytes() != content):
        name = f"{digest}{suffix}"  # no name, one that leads out of the folder, or that of another image
    target = folder / name
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        # Renamed when whole: an import that was killed leaves no half image under a name that the next one trusts.
        partial = target.with_name(f".{digest}.partial")
        partial.write_bytes(content)
        partial.replace(target)
    return name


def _place(
    entry: Entry, source: Source, root: "_Root | None", imported: Imported, one_folder: "_OneFolder"
) -> str | None:
    """Return the image's path relative to the root; None if it is left out, which has then been counted."""
    image = entry.image
    if not isinstance(image, str) or not image.strip():
        imported.leave_out("embedded" if entry.embedded else "no-path", source.path)
        return None
    if not is_unicode(image):
        imported.leave_out("not-unicode", ascii(image))
        return None
    path = _plain(image)
    # With a root even absolute paths and '..' are fine: only a file that was found below it is named.
    if root is not None:
        found = root.find(path, one_folder)
        if found.how in ("no-image", "ambiguous"):
            imported.leave_out(found.how, image)
            return None
        if found.how != "exact":
            imported.matched[found.how] += 1
        return found.path
    if path.startswith("/") or re.match(r"[A-Za-z]:|(.*/)?\.\.(/|$)", path):
        raise CaptionError(
            f"{source.path}: {image!r} is not a path below an image root; give the folder of the images, and they "
            "are looked for there"
        )
    return path


def _plain(path: str) -> str:
    return path.replace("\\", "/").removeprefix("./")


class _OneFolder:
    """Whether all paths of a source have the same folder, or none: then folders tell nothing apart."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._answer: bool | None = None

    def __bool__(self) -> bool:
        # Reads the source a second time, so only when a path needs the answer, and no further than a second folder.
        if self._answer is None:
            folders: set[str] = set()
            for entry in _entries(self._source):
                if isinstance(entry.image, str):
                    folders.add(_plain(entry.image).rpartition("/")[0])
                if len(folders) > 1:
                    break
            self._answer = len(folders) < 2
        return self._answer


class _Found(NamedTuple):
    how: Literal["exact", "suffix", "base-name", "ambiguous", "no-image"]
    path: str = ""


class _Root:
    """The images of a folder, found by relative path, by the end of it, or by base name.

    Names are compared in Unicode's composed form: macOS and some archives decompose them.
    """

    def __init__(self, folder: Path) -> None:
        self._places: dict[str, str | list[str]] = {}
        for image in list_images(folder).images:
            path = image.relative_to(folder).as_posix()
            name = _composed(image.name)
            # A list only where names repeat: for each of LUPerson's 4.2 million images it would take 64 bytes more.
            place = self._places.setdefault(name, path)
            if isinstance(place, list):
                place.append(path)
            elif place != path:
                self._places[name] = [place, path]

    def find(self, path: str, one_folder: _OneFolder) -> _Found:
        place = self._places.get(_composed(path.rpartition("/")[2]), [])
        # An exact path is looked for first: it needs no comparison of parts.
        if path == place:
            return _Found("exact", path)
        places = [place] if isinstance(place, str) else place
        if path in places:
            return _Found("exact", path)
        wanted = _composed(path).split("/")
        shared = {each: _shared_end(wanted, _composed(each).split("/")) for each in places}
        longest = max(shared.values(), default=0)
        best = [each for each, length in shared.items() if length == longest]
        # All parts agree once both are composed: the same path in the spelling of another system.
        if longest == len(wanted) and [each.count("/") + 1 for each in best] == [longest]:
            return _Found("exact", best[0])
        # Where folders tell images apart, a/1.jpg must not get the caption of b/1.jpg.
        if longest < 2 and (not best or not one_folder):
            return _Found("no-image")
        return _Found("ambiguous") if len(best) > 1 else _Found("suffix" if longest > 1 else "base-name", best[0])


def _composed(name: str) -> str:
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def _shared_end(one: Sequence[str], other: Sequence[str]) -> int:
    """Return how many parts two paths have in common, from their ends on."""
    pairs = zip(reversed(one), reversed(other), strict=False)
    return next((length for length, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))
