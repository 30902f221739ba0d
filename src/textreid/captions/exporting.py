"""A caption table in the forms that other programs read. Only usable captions are written."""

import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from textreid.artifacts import new_file
from textreid.captions.importing import RELEASED
from textreid.captions.table import CaptionTable, read_captions
from textreid.errors import ArtifactError, CaptionError

# Arrow holds a caption in its bytes and an offset, a Python string in some 50 bytes more.
_BLOCK = 1 << 16
_LETTERS = {kind: letter for letter, kind in RELEASED.items()}


def export_captions(captions: Path, out: Path, form: str) -> list[Path]:
    """Write the table ``captions`` in another form into the new folder ``out``; the files it wrote.

    Args:
        captions: a caption table.
        out: folder to write; must not exist, or be empty.
        form: one of `FORMS`: ``"released"``, one ``Ts-NAME.json`` or ``Td-NAME.json`` a slot, each an object of
            captions by image path; ``"cuhk"``, one list ``reid_raw.json`` in which every image is its own identity
            (Tan et al. 2024 train so); ``"datasets"``, a folder that ``datasets.load_dataset`` reads, with the
            columns image, slot and caption.

    Raises:
        CaptionError: the form is unknown, the table cannot be read, or a slot has no name in the released form.
        ArtifactError: ``out`` holds something already, or cannot be written.
    """
    if form not in FORMS:
        raise CaptionError(f"no form {form!r}; known: {', '.join(FORMS)}")
    table = read_captions(captions)
    try:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise ArtifactError(f"{out}: exists already; choose another folder or remove it")
        out.mkdir(parents=True, exist_ok=True)
        return FORMS[form](table, out)
    except OSError as error:
        raise ArtifactError(f"{out}: cannot be written: {error.strerror or error}") from error


def _released(table: CaptionTable, out: Path) -> list[Path]:
    names = [_released_name(slot) for slot in table.slots]
    for number, name in enumerate(names):
        chosen = np.flatnonzero(table.slot_index == number)
        chosen = chosen[np.argsort(table.image_index[chosen], kind="stable")]
        pairs = (
            f"{json.dumps(image, ensure_ascii=False)}: {json.dumps(caption, ensure_ascii=False)}"
            for image, _, caption in _texts(table, chosen)
        )
        _write_items(out / name, "{}", pairs)
    return [out / name for name in names]


def _released_name(slot: str) -> str:
    mllm, _, instruction = slot.rpartition("/")
    if instruction not in _LETTERS or not mllm or "/" in mllm:
        raise CaptionError(
            f"slot {slot!r} has no name in the released form, which knows NAME/static and NAME/dynamic; "
            "use another form"
        )
    return f"T{_LETTERS[instruction]}-{mllm}.json"


def _cuhk(table: CaptionTable, out: Path) -> list[Path]:
    # `lexsort` sorts by its last key first: by image, then by slot.
    order = np.lexsort((table.slot_index, table.image_index))

    def entries() -> Iterator[str]:
        current, identity = "", 0
        captions: list[str] = []
        for image, _, caption in _texts(table, order):
            if image != current and captions:
                identity += 1
                yield _cuhk_entry(current, captions, identity)
                captions = []
            current = image
            captions.append(caption)
        yield _cuhk_entry(current, captions, identity + 1)

    _write_items(out / "reid_raw.json", "[]", entries())
    return [out / "reid_raw.json"]


def _cuhk_entry(image: str, captions: list[str], identity: int) -> str:
    entry = {"split": "train", "captions": captions, "file_path": image, "id": identity}
    return json.dumps(entry, ensure_ascii=False)


def _datasets(table: CaptionTable, out: Path) -> list[Path]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    # `load_dataset` tells the split by this name.
    path = out / "data" / "train-00000-of-00001.parquet"
    path.parent.mkdir()
    schema = pa.schema([(name, pa.string()) for name in ("image", "slot", "caption")])
    with (
        new_file(path) as partial,
        pa.OSFile(os.fsencode(partial), "wb") as file,
        pq.ParquetWriter(file, schema, compression="zstd") as writer,
    ):
        for start in range(0, len(table), _BLOCK):
            rows = list(_texts(table, np.arange(start, min(start + _BLOCK, len(table)))))
            columns = [pa.array(column, pa.string()) for column in zip(*rows, strict=True)]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))
    return [path]


FORMS: dict[str, Callable[[CaptionTable, Path], list[Path]]] = {
    "released": _released,
    "cuhk": _cuhk,
    "datasets": _datasets,
}


def _texts(table: CaptionTable, rows: npt.NDArray[np.int64]) -> Iterator[tuple[str, str, str]]:
    """Yield image, slot and caption of ``rows``, in their order; Python holds one block of them at a time."""
    for start in range(0, len(rows), _BLOCK):
        block = rows[start : start + _BLOCK]
        captions = table.captions.take(block).to_pylist()
        images, slots = table.image_index[block].tolist(), table.slot_index[block].tolist()
        for image, slot, caption in zip(images, slots, captions, strict=True):
            yield table.images[image], table.slots[slot], caption


def _write_items(path: Path, brackets: str, items: Iterable[str]) -> None:
    """Write a JSON object or list, one item a line, whole or not at all."""
    with new_file(path) as partial, partial.open("w", encoding="utf-8") as stream:
        stream.write(brackets[0])
        separator = "\n"
        for item in items:
            stream.write(separator + item)
            separator = ",\n"
        stream.write(f"\n{brackets[1]}\n")
