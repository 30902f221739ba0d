"""Into one caption table: the released JSON files, CUHK-PEDES form, Hugging Face folders, other caption tables."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from textreid.captions.json_entries import json_entries
from textreid.captions.table import KINDS, CaptionRow, write_captions
from textreid.captions.writer import caption_rows, is_table
from textreid.errors import CaptionError
from textreid.images import list_images

MAX_REJECTED = 0.05
IMAGE_FIELDS = ("image", "file_path", "img_path", "image_path", "file_name", "filename", "path")
CAPTION_FIELDS = ("captions", "caption", "text")
SLOT_FIELD = "slot"
RELEASED = {"s": "static", "d": "dynamic"}

_BATCH = 4096
_NAMED = 5
_RELEASED_NAME = re.compile(r"T([sd])-([^/]+)\.json")
_SOURCE = re.compile(r"([\w.:+-]+)(?:/([\w-]+))?=(.+)", re.DOTALL)

_Entry = tuple[Any, Sequence[Any], str | None]  # image, its captions, the slot if the entry names one


@dataclass(frozen=True)
class Source:
    """A file or folder of captions, and who wrote them how.

    Attributes:
        path: a JSON object of captions by image path; a JSON list of entries in CUHK-PEDES form; a folder with Arrow
            or Parquet files as the ``datasets`` library writes them; or a caption table, whose rows stay as they are.
        mllm: the writer; the first half of the slot. Empty for a table, which names its own.
        instruction: ``"static"`` (which captions without any instruction count as) or ``"dynamic"``.
        image_field, caption_field: names of the fields or columns; None: the first one that is there of
            `IMAGE_FIELDS` and `CAPTION_FIELDS`.
    """

    path: Path
    mllm: str
    instruction: str = "static"
    image_field: str | None = None
    caption_field: str | None = None

    @classmethod
    def parse(cls, text: str) -> "Source":
        """The source that ``"NAME/static=PATH"``, ``"NAME=PATH"``, or the path of a released file or table stands for.

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
        """The sources that ``text`` stands for: as `parse`, or all released files in the folder of that name.

        Raises:
            CaptionError: it is neither.
        """
        folder = Path(text)
        files = sorted(file for file in folder.glob("T*.json") if _RELEASED_NAME.fullmatch(file.name))
        return [cls.parse(str(file)) for file in files] or [cls.parse(text)]


@dataclass
class Imported:
    """What an import did: rows that were written, and entries or captions that were left out, by rule.

    ``no-image`` (no such file under the image root), ``no-path`` (an entry without an image's path),
    ``no-captions``, ``not-text`` and ``not-unicode`` (half a character). ``examples`` names some.
    """

    rows: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)

    def leave_out(self, rule: str, what: object) -> None:
        """Count one more."""
        self.left_out[rule] += 1
        if len(self.examples) < _NAMED:
            self.examples.append(f"{what!s:.100} ({rule})")


def import_captions(
    sources: Sequence[Source], out: Path, images: Path | None = None, max_rejected: float = MAX_REJECTED
) -> Imported:
    """Write the captions of ``sources`` as the new caption table ``out``.

    The first caption of an entry goes to the slot ``NAME/INSTRUCTION``, further ones to ``NAME/INSTRUCTION-2`` and so
    on, unless the entry names a slot. What nobody recorded stays empty: template, hash of the prompt; the seed is 0.
    Memory holds the names of the images, not the captions.

    Args:
        sources: where the captions are.
        out: folder to write; must not exist.
        images: the image root. An image is found by its path below the root, or else by its base name. None: paths
            are taken as they are, and must be relative. Those of a table always are.
        max_rejected: share of the entries that may be left out.

    Raises:
        CaptionError: a source cannot be read or has another form; a base name that is needed stands for several
            images; two entries of a source describe the same image; a path is not relative where no root is given;
            or more is left out than allowed.
        DataError: ``images`` cannot be listed.
        ArtifactError: ``out`` exists already, or cannot be written.
    """
    if not sources:
        raise CaptionError("nothing to import: no source was given")
    imported = Imported()
    root = None if images is None else _Root(images)
    write_captions(out, _rows(sources, root, imported, max_rejected))
    return imported


def captions_in(source: Source) -> Iterator[str]:
    """Every caption of a source as it stands, whatever image it is of.

    Raises:
        CaptionError: the source cannot be read or has another form.
    """
    for _, captions, _ in _entries(source):
        yield from (caption for caption in captions if isinstance(caption, str))


def _rows(
    sources: Sequence[Source], root: "_Root | None", imported: Imported, max_rejected: float
) -> Iterator[CaptionRow]:
    for source in sources:
        for row in _described(source, root, imported) if source.mllm else caption_rows(source.path):
            imported.rows += 1
            yield row
    left_out = imported.left_out.total()
    if left_out > max_rejected * (imported.rows + left_out):
        raise CaptionError(
            f"{left_out} of {imported.rows + left_out} captions cannot be used (allowed: {max_rejected:.0%}): "
            f"{', '.join(imported.examples)}"
        )


def _described(source: Source, root: "_Root | None", imported: Imported) -> Iterator[CaptionRow]:
    described: set[tuple[str, str]] = set()
    for image, captions, slot in _entries(source):
        path = _place(image, source, root, imported)
        if path is None:
            continue
        if not captions:
            imported.leave_out("no-captions", path)
        own_slot = slot or f"{source.mllm}/{source.instruction}"
        if (path, own_slot) in described:
            raise CaptionError(
                f"{source.path}: entry {image!r} and an earlier one both describe {path!r} in slot {own_slot!r}; "
                "images are told apart by base name where their paths do not match: keep one entry an image"
            )
        described.add((path, own_slot))
        for number, caption in enumerate(captions, 1):
            if not isinstance(caption, str):
                imported.leave_out("not-text", path)
            elif not _is_unicode(caption):
                imported.leave_out("not-unicode", path)
            else:
                yield _row(path, own_slot if number == 1 else f"{own_slot}-{number}", caption)


def _row(image: str, slot: str, caption: str) -> CaptionRow:
    mllm, _, kind = slot.rpartition("/")
    instruction = "dynamic" if kind.startswith("dynamic") else "static"
    return CaptionRow(image, slot, caption, mllm or slot, instruction, "", "", 0)


def _place(image: Any, source: Source, root: "_Root | None", imported: Imported) -> str | None:
    """The image's path relative to the root; None if it is left out, which has then been counted."""
    if not isinstance(image, str) or not image.strip():
        imported.leave_out("no-path", source.path)
        return None
    if not _is_unicode(image):
        imported.leave_out("not-unicode", ascii(image))
        return None
    path = image.replace("\\", "/").removeprefix("./")
    if root is not None:
        found = root.find(path, source)
        if found is None:
            imported.leave_out("no-image", image)
        return found
    if path.startswith("/") or re.match(r"[A-Za-z]:|(.*/)?\.\.(/|$)", path):
        raise CaptionError(
            f"{source.path}: {image!r} is not a path below an image root; give the folder of the images, and they "
            "are matched by base name"
        )
    return path


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


class _Root:
    """The images of a folder, found by relative path or by base name."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._places: dict[str, str | list[str]] = {}
        for image in list_images(folder).images:
            path = image.relative_to(folder).as_posix()
            place = self._places.setdefault(image.name, path)
            if isinstance(place, list):
                place.append(path)
            elif place != path:
                self._places[image.name] = [place, path]

    def find(self, path: str, source: Source) -> str | None:
        place = self._places.get(path.rpartition("/")[2])
        if not isinstance(place, list):
            return place
        if path in place:
            return path
        raise CaptionError(
            f"{source.path}: {path!r} could be any of {len(place)} images under {self._folder} with this base name: "
            f"{', '.join(place[:_NAMED])}; write paths relative to the image root, or import from a folder that has "
            "each base name once"
        )


def _entries(source: Source) -> Iterator[_Entry]:
    path = source.path
    if not path.is_dir():
        return _json_form(source)
    files = sorted(path.rglob("*.parquet")) or [
        file for file in sorted(path.rglob("*.arrow")) if not file.name.startswith("cache-")
    ]
    if files:
        return _columns(source, files)
    annotations = [file for file in sorted(path.glob("*.json")) if "caption" in file.name or file.stem == "reid_raw"]
    if len(annotations) == 1:
        return _json_form(Source(annotations[0], source.mllm, source.instruction, *_fields_of(source)))
    raise CaptionError(f"{path}: holds no Arrow or Parquet files; give the folder that does, or a JSON file")


def _fields_of(source: Source) -> tuple[str | None, str | None]:
    return source.image_field, source.caption_field


def _json_form(source: Source) -> Iterator[_Entry]:
    for key, value in json_entries(source.path):
        if isinstance(key, str):
            yield key, _several(value), None
        elif isinstance(value, dict):
            image = value.get(_pick(source, value, "image", source.image_field, IMAGE_FIELDS))
            captions = value.get(_pick(source, value, "caption", source.caption_field, CAPTION_FIELDS))
            yield image, _several(captions), None
        else:
            raise CaptionError(f"{source.path}: entry {key} is no object with an image's path and its captions")


def _columns(source: Source, files: Sequence[Path]) -> Iterator[_Entry]:
    import pyarrow as pa

    for file in files:
        try:
            for batch in _batches(source, file):
                names = batch.schema.names
                slots = batch[SLOT_FIELD].to_pylist() if SLOT_FIELD in names else [None] * len(batch)
                for image, captions, slot in zip(batch[0].to_pylist(), batch[1].to_pylist(), slots, strict=True):
                    path = image.get("path") if isinstance(image, dict) else image
                    yield path, _several(captions), slot
        except (pa.ArrowException, OSError) as error:
            raise CaptionError(f"{file}: cannot be read: {error}") from error


def _batches(source: Source, file: Path) -> Iterator[Any]:
    """Record batches of a file: image, caption, and the slot where there is such a column."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if file.suffix == ".parquet":
        parquet = pq.ParquetFile(file)
        chosen = _chosen(source, parquet.schema_arrow)
        # Of an embedded image only the path is read.
        leaves = [f"{n}.path" if pa.types.is_struct(parquet.schema_arrow.field(n).type) else n for n in chosen]
        for batch in parquet.iter_batches(_BATCH, columns=leaves):
            yield batch.select(chosen)
        return
    with pa.memory_map(str(file)) as mapped:
        try:
            reader = pa.ipc.open_stream(mapped)
        except pa.ArrowInvalid:
            mapped.seek(0)
            whole = pa.ipc.open_file(mapped)
            reader = (whole.get_batch(number) for number in range(whole.num_record_batches))
        for batch in reader:
            chosen = _chosen(source, batch.schema)
            for start in range(0, len(batch), _BATCH):
                yield batch.slice(start, _BATCH).select(chosen)


def _chosen(source: Source, schema: Any) -> list[str]:
    fields = (
        _pick(source, schema.names, "image", source.image_field, IMAGE_FIELDS),
        _pick(source, schema.names, "caption", source.caption_field, CAPTION_FIELDS),
    )
    return [*fields, *([SLOT_FIELD] if SLOT_FIELD in schema.names else [])]


def _pick(source: Source, names: Iterable[str], what: str, wanted: str | None, known: tuple[str, ...]) -> str:
    present = list(names)
    chosen = next((name for name in ((wanted,) if wanted else known) if name in present), None)
    if chosen is None:
        raise CaptionError(
            f"{source.path}: no field {wanted or ' or '.join(known)} for the {what}; there are: "
            f"{', '.join(map(str, present))}; name it with --{what}-field"
        )
    return chosen


def _several(captions: Any) -> Sequence[Any]:
    if isinstance(captions, list):
        return captions
    return [] if captions is None else [captions]
