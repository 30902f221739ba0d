"""Reads caption files in the forms of others, entry by entry: JSON, JSON Lines, CSV, Parquet, Arrow.

Memory holds one entry, or one block of rows, however long the file is.
"""

import csv
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from textreid.captions.json_stream import Repeating, json_entries, kind_of, open_text
from textreid.errors import CaptionError, not_utf8

# file_path is of CUHK-PEDES and ICFG-PEDES, img_path of RSTPReid, file_name of COCO and of `datasets`' image folders,
# image_name of Flickr30k, __key__ of WebDataset. image_id is last: in COCO it is a number that points to a name.
_IMAGE_NAMES = (
    "image file_path img_path image_path file_name filename filepath path img image_name __key__ jpg png image_id"
)
IMAGE_FIELDS = tuple(_IMAGE_NAMES.split())
CAPTION_FIELDS = (
    *("captions", "caption", "text", "sentences", "sentence", "descriptions", "description", "comment"),
    "conversations",
)
# raw is of Karpathy's splits of COCO and Flickr30k, value of LLaVA's conversations, content of chat APIs.
_TEXT_KEYS = ("raw", "caption", "text", "sentence", "value", "content")  # of a caption that is an object
_LISTS = ("images", "annotations", "data", "items", "samples", "entries")  # where JSON has its entries one level down
_ABOUT = ("info", "licenses", "categories", "dataset", "version", "type")  # and what stands beside them
SLOT_FIELD = "slot"
# With images of 10 kB embedded, a block takes 40 MB.
_ROWS = 4096
_NUMBERED = re.compile(r"([^\t]+\.\w+)#\d+\t(.*)")  # a line of Flickr30k: image#number, tab, caption; no header


class Entry(NamedTuple):
    """What a file says of one image, unchecked.

    Attributes:
        image: its path, or whatever stands in its place; None where there is no path.
        captions: of the image.
        slot: if the entry names one.
        keyed: whether the path is the entry's key in a JSON object, which stands for all captions of the image.
        embedded: whether the file has the image itself.
        content: that image, if it was asked for.
    """

    image: Any
    captions: Sequence[Any]
    slot: str | None = None
    keyed: bool = False
    embedded: bool = False
    content: bytes | None = None


class Fields(NamedTuple):
    """Names of the fields or columns; None: the first that is there of `IMAGE_FIELDS`, or what looks like captions."""

    image: str | None = None
    captions: str | None = None  # several with commas between them


def read_entries(path: Path, fields: Fields, with_content: bool = False) -> Iterator[Entry]:
    """Read a file of captions, or a folder that has one, or that the ``datasets`` library wrote.

    Without a name for the captions, the first field that is there of `CAPTION_FIELDS` counts, and numbered ones beside
    it (``caption_2``); where there is none, every text whose field has ``caption`` in its name.

    Args:
        path: a JSON object of captions by image path; JSON entries in a list, one a line, or in the form of COCO; a
            table of text with names in its first row, and commas, semicolons, tabs or bars; any of these packed by
            gzip; a Parquet or Arrow file; or a folder of these.
        fields: names of the fields.
        with_content: whether to read the images that are in a Parquet or Arrow file.

    Raises:
        CaptionError: it cannot be read or has another form; two fields have the name of one that is read.
    """
    for file in _files_of(path) if path.is_dir() else [path]:
        if file.suffix in (".parquet", ".arrow"):
            yield from _columns(file, fields, with_content)
        elif kind_of(file) in (".csv", ".tsv", ".txt", ".token"):
            yield from _table_rows(file, fields)
        else:
            yield from _json_form(file, fields)


def _files_of(folder: Path) -> list[Path]:
    # `datasets` leaves what `map` and `filter` computed beside its data, as cache-*.arrow.
    files = sorted(folder.rglob("*.parquet")) or [
        file for file in sorted(folder.rglob("*.arrow")) if not file.name.startswith("cache-")
    ]
    if files:
        return files
    metadata = [file for name in ("jsonl", "csv") for file in sorted(folder.rglob(f"metadata.{name}"))]
    annotations = [file for file in sorted(folder.glob("*.json")) if "caption" in file.name or file.stem == "reid_raw"]
    for found in (metadata, annotations, sorted(folder.glob("*.jsonl"))):
        if len(found) == 1:
            return found
    raise CaptionError(f"{folder}: holds no Arrow or Parquet files, and not one JSON file of captions; give the file")


def _json_form(path: Path, fields: Fields) -> Iterator[Entry]:
    names: dict[Any, Any] | None = None  # of images by id, as COCO has them, before the captions or after them
    for key, value in json_entries(path, _LISTS):
        if key in _ABOUT:
            continue
        if isinstance(key, str) and isinstance(value, str):
            yield Entry(key, (value,), keyed=True)
        elif key in _LISTS and isinstance(value, list) and value and all(isinstance(each, dict) for each in value):
            for each in value:
                if not _only_names(key, each):
                    if names is None and key == "annotations":
                        names = _names_of_images(path)
                    entry = _object_entry(path, each, fields)
                    yield entry._replace(image=(names or {}).get(entry.image, entry.image))
        elif isinstance(value, dict):
            yield _object_entry(path, value, fields, key if isinstance(key, str) else None)
        elif isinstance(key, str):
            yield Entry(key, _joined([value]), keyed=True)
        else:
            raise CaptionError(f"{path}: entry {key} is not an object with an image's path and its captions")


def _only_names(key: str | int, item: dict[str, Any]) -> bool:
    return key == "images" and "id" in item and not any(name in item for name in CAPTION_FIELDS)


def _names_of_images(path: Path) -> dict[Any, Any]:
    items = ((key, item) for key, value in json_entries(path, _LISTS) if key == "images" for item in value)
    return {item["id"]: _path_in(item) for key, item in items if isinstance(item, dict) and _only_names(key, item)}


def _object_entry(path: Path, value: dict[str, Any], fields: Fields, key: str | None = None) -> Entry:
    pairs = _Pairs(path, value)
    image = value[pairs.pick("image", fields.image, IMAGE_FIELDS)] if key is None else key
    captions = [value[name] for name in pairs.captions(fields.captions, _has_text)]
    return Entry(_path_in(image), _joined(captions), keyed=key is not None)


def _has_text(value: Any) -> bool:
    return isinstance(value, str | list) or value is None


def _table_rows(path: Path, fields: Fields) -> Iterator[Entry]:
    """Yield rows of a CSV or TSV file."""
    try:
        with open_text(path) as stream:
            header = stream.readline()
            if _NUMBERED.match(header):
                yield from _numbered(path, chain([header], stream))
                return
            # Excel writes semicolons where the comma is the decimal sign; Flickr30k has bars with spaces behind them.
            comma = max(",;\t|", key=header.count)
            names = next(csv.reader([header], delimiter=comma, skipinitialspace=True), [])
            rows = csv.reader(stream, delimiter=comma, skipinitialspace=True, strict=True)
            pairs = _Names(path, names)
            image = names.index(pairs.pick("image", fields.image, IMAGE_FIELDS))
            captions = [names.index(name) for name in pairs.captions(fields.captions)]
            for number, row in enumerate(rows, 2):
                if len(row) != len(names):
                    raise CaptionError(f"{path}: row {number} has {len(row)} values under {len(names)} columns")
                yield Entry(row[image], [row[column] for column in captions if row[column]])
    except UnicodeDecodeError as error:
        raise CaptionError(f"{path}: {not_utf8(error)}") from error
    except (OSError, EOFError, UnicodeError, csv.Error) as error:
        raise CaptionError(f"{path}: cannot be read as a table: {error}") from error


def _numbered(path: Path, lines: Iterable[str]) -> Iterator[Entry]:
    for number, line in enumerate(lines, 1):
        found = _NUMBERED.fullmatch(line.rstrip("\r\n"))
        if not found:
            raise CaptionError(f"{path}, line {number}: expected IMAGE#NUMBER, a tab and a caption")
        yield Entry(found[1], (found[2],))


def _columns(path: Path, fields: Fields, with_content: bool) -> Iterator[Entry]:
    import pyarrow as pa

    try:
        for batch in _batches(path, fields, with_content):
            image, *captions = (batch.column(number) for number in range(batch.num_columns))
            slots = captions.pop().to_pylist() if batch.schema.names[-1] == SLOT_FIELD else [None] * len(batch)
            paths, contents = _images_in(image, with_content)
            # `datasets` stores images as a struct of bytes and path, others as bytes; paths are strings.
            embedded = not (pa.types.is_string(image.type) or pa.types.is_large_string(image.type))
            texts = zip(*(column.to_pylist() for column in captions), strict=True)
            for place, content, said, slot in zip(paths, contents, texts, slots, strict=True):
                yield Entry(place, _joined(said), slot, False, embedded, content)
    except (pa.ArrowException, OSError) as error:
        raise CaptionError(f"{path}: cannot be read: {error}") from error


def _images_in(column: Any, with_content: bool) -> tuple[list[Any], list[Any]]:
    """Return paths, and contents where these are asked for, of a column of paths, of images, or of both."""
    import pyarrow as pa

    nothing = [None] * len(column)
    if pa.types.is_struct(column.type):
        names = [field.name for field in column.type]
        paths, contents = (
            column.field(names.index(name)).to_pylist() if name in names else nothing for name in ("path", "bytes")
        )
        return paths, contents
    if pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
        return nothing, column.to_pylist() if with_content else nothing
    return column.to_pylist(), nothing


def _batches(path: Path, fields: Fields, with_content: bool) -> Iterator[Any]:
    """Yield record batches of a file: image, captions, and the slot where there is such a column."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if path.suffix == ".parquet":
        with pa.OSFile(os.fsencode(path)) as file, pq.ParquetFile(file) as parquet:
            schema = parquet.schema_arrow
            chosen = _chosen(path, fields, schema)
            image = schema.field(chosen[0]).type
            only_path = not with_content and pa.types.is_struct(image) and image.get_field_index("path") >= 0
            # Of an embedded image only the path is read, unless the image is wanted.
            leaves = [f"{chosen[0]}.path" if only_path else chosen[0], *chosen[1:]]
            for batch in parquet.iter_batches(_ROWS, columns=leaves):
                yield batch.select(chosen)
        return
    with pa.memory_map(os.fsencode(path)) as mapped:
        try:
            # `datasets` writes Arrow's stream form; the file form, which others write, has the same suffix.
            reader = pa.ipc.open_stream(mapped)
        except pa.ArrowInvalid:
            # The attempt has read the first bytes.
            mapped.seek(0)
            whole = pa.ipc.open_file(mapped)
            reader = (whole.get_batch(number) for number in range(whole.num_record_batches))
        for batch in reader:
            chosen = _chosen(path, fields, batch.schema)
            for start in range(0, len(batch), _ROWS):
                yield batch.slice(start, _ROWS).select(chosen)


def _chosen(path: Path, fields: Fields, schema: Any) -> list[str]:
    import pyarrow as pa

    def has_text(name: str) -> bool:
        kind = schema.field(name).type
        while pa.types.is_list(kind) or pa.types.is_large_list(kind):
            kind = kind.value_type
        return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind))

    names = _Names(path, schema.names)
    image = names.pick("image", fields.image, IMAGE_FIELDS)
    return [image, *names.captions(fields.captions, has_text), *names.of(SLOT_FIELD)]


class _Names:
    """The names of the fields of an entry, or of the columns of a table."""

    def __init__(self, path: Path, names: Iterable[str]) -> None:
        self._path, self._names = path, list(names)

    def of(self, *names: str, exact: Sequence[str] = ()) -> list[str]:
        """Return those of ``names`` that are there; raises CaptionError for one that is there twice.

        "Caption" beside "caption" may be the one that is meant, unless the user wrote the name: it is ``exact``.
        """
        for name in names:
            alike = [own for own in self._names if str(own).strip().lower() == name]
            if self._names.count(name) > 1 or (name not in exact and len(alike) > 1):
                raise CaptionError(
                    f"{self._path}: two columns or fields are called {name!r}, and either may be meant; rename one"
                )
        # The exact names first: with `Image` and `image` side by side the second is meant.
        found = [name for name in names if name in self._names]
        return found or [own for name in names for own in self._names if str(own).strip().lower() == name]

    def pick(self, what: str, wanted: str | None, known: tuple[str, ...]) -> str:
        """Return the name ``wanted``, or the first of ``known``; raises CaptionError where it is not there."""
        found = self.of(wanted, exact=(wanted,)) if wanted else self.of(*known)
        if not found:
            raise CaptionError(
                f"{self._path}: no field {wanted or ' or '.join(known)} for the {what}; there are: "
                f"{', '.join(map(str, self._names))}; name it with --{what}-field"
            )
        return found[0]

    def captions(self, wanted: str | None, has_text: Callable[[str], bool] = lambda name: True) -> list[str]:
        """Return the names of the captions: those ``wanted``, or those that look like captions and have texts."""
        if wanted:
            return [self.pick("caption", name, ()) for name in wanted.split(",")]
        known = self.of(*CAPTION_FIELDS)[:1]
        if known:
            numbered = re.compile(rf"{re.escape(known[0].removesuffix('s'))}s?[ _-]?\d+")
            return [*known, *self.of(*(name for name in self._names if numbered.fullmatch(name) and has_text(name)))]
        found = [name for name in dict.fromkeys(self._names) if "caption" in name.lower() and has_text(name)]
        return self.of(*found) or [self.pick("caption", None, CAPTION_FIELDS)]


class _Pairs(_Names):
    """The names of the fields of a JSON object."""

    def __init__(self, path: Path, value: dict[str, Any]) -> None:
        super().__init__(path, [*value, *(value.repeated if isinstance(value, Repeating) else ())])
        self._value = value

    def captions(self, wanted: str | None, has_text: Callable[[Any], bool] = _has_text) -> list[str]:
        """Return the names of the captions; see `_Names`."""
        return super().captions(wanted, lambda name: has_text(self._value[name]))


def _path_in(image: Any) -> Any:
    """Return the path of an image that is written as an object."""
    return next((image[name] for name in IMAGE_FIELDS if name in image), None) if isinstance(image, dict) else image


def _joined(values: Iterable[Any]) -> list[Any]:
    """Return the captions of several fields, each of which may hold one, a list of them, or none."""
    lists = (value if isinstance(value, list) else [value] for value in values if value is not None)
    return [text for each in lists for caption in each for text in _texts_in(caption)]


def _texts_in(caption: Any) -> list[Any]:
    """Return the text of a caption that is an object, such as an answer in a conversation; none of a question."""
    if not isinstance(caption, dict):
        return [caption]
    # LLaVA and ShareGPT say from, chat APIs role.
    if caption.get("from", caption.get("role")) in ("human", "user", "system"):
        return []
    return [next((caption[key] for key in _TEXT_KEYS if key in caption), caption)]
