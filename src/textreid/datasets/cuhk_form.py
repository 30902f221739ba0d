"""Reads folders of images under ``imgs/`` with one JSON list of entries: CUHK-PEDES and the sets that took its form."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from textreid.datasets.entries import MISSING, Annotations, Entry, to_benchmark
from textreid.datasets.records import Benchmark
from textreid.errors import AnnotationError, not_utf8
from textreid.rows import fields_of, json_kind, listed

IMAGES = "imgs"


@dataclass(frozen=True)
class Layout:
    """Where a data set keeps its annotations.

    Attributes:
        files: names of the annotation file; the first is the usual one.
        path_field: what its entries call the path of the image.
    """

    files: tuple[str, ...] = ("reid_raw.json",)
    path_field: str = "file_path"

    def find(self, folder: Path) -> Path | None:
        """Find the annotation file of a folder of this layout; None if the folder has another."""
        # Images as well as the file: the folder above or below may be the one that has both.
        if not (folder / IMAGES).is_dir():
            return None
        return next((folder / name for name in self.files if (folder / name).is_file()), None)


# CUHK-PEDES' reid_raw.json, whose form ICFG-PEDES has too; RSTPReid calls the path img_path.
CUHK = Layout()


def read_annotated_folder(folder: Path, layout: Layout, name: str, form: str, max_rejected: float) -> Benchmark:
    """Read a folder that holds ``imgs/`` and a list of ``{"split", "captions", "file_path", "id"}``.

    Identities are whole numbers from 0 and may skip. Images may lie in sub-folders of ``imgs/``. Captions that
    are empty or hold no letter or digit are left out; an image that keeps none stays in the gallery. Images that
    are listed but absent are left out with their captions. An image that is listed again with the same identity and
    split gets the further captions. All of it is counted in ``rejected``.

    Args:
        folder: holds ``imgs/`` and the annotation file.
        layout: how that file is called.
        name: of the benchmark.
        form: what it is read as.
        max_rejected: share of the images, and of the captions, that may be left out.

    Raises:
        AnnotationError: the folder has another form (says which folder nearby has the right one); the file is not
            JSON (names the line); an entry lacks a field, has one of a wrong type or a path that leaves ``imgs/``
            (names entry and field); or more is left out than allowed.
    """
    source = layout.find(folder) or _refuse_folder(folder, layout)
    fields = Entry(layout.path_field, "id", "captions", "split")
    entries = [Entry(*(entry.get(field, MISSING) for field in fields)) for entry in _read_entries(source)]
    annotations = Annotations(source, folder / IMAGES, entries, "entry {}".format, fields)
    return to_benchmark(annotations, name, form, max_rejected)


def _refuse_folder(folder: Path, layout: Layout) -> Path:
    """Raise the error that tells a user with the wrong folder which is the right one."""
    usual = layout.files[0]
    if not folder.exists():
        raise AnnotationError(f"{folder}: no such folder")
    if folder.is_file():
        raise AnnotationError(f"{folder}: is a file; give the folder that holds {IMAGES}/ and {usual}")
    here = folder.resolve()
    # Archives often unpack into a folder of their name, and that into another.
    below = (
        path.parent for depth in ("*", "*/*") for name in layout.files for path in sorted(here.glob(f"{depth}/{name}"))
    )
    for other in [*list(here.parents)[:2], *below]:
        if layout.find(other):
            raise AnnotationError(f"{folder}: has no {usual}, but {other} has; give that folder")
    present = [(folder / IMAGES).is_dir(), any((folder / name).is_file() for name in layout.files)]
    missing = [what for what, there in zip((f"{IMAGES}/", usual), present, strict=True) if not there]
    raise AnnotationError(f"{folder}: has no {' and no '.join(missing)}; both are needed")


def _read_entries(source: Path) -> list[dict[str, Any]]:
    try:
        entries = json.loads(source.read_text(encoding="utf-8-sig"), object_pairs_hook=fields_of)
    except OSError as error:
        raise AnnotationError(f"{source}: cannot be read: {error.strerror or error}") from error
    # The two errors of decoding are ValueErrors, and so stand before it; a field that stands twice is one as well.
    except json.JSONDecodeError as error:
        raise AnnotationError(f"{source}, line {error.lineno}, column {error.colno}: not JSON: {error.msg}") from error
    except UnicodeDecodeError as error:
        raise AnnotationError(f"{source}: {not_utf8(error)}") from error
    except RecursionError as error:
        raise AnnotationError(f"{source}: nested too deeply; expected a list of entries, one an image") from error
    except ValueError as error:
        raise AnnotationError(f"{source}: cannot be read as JSON: {error}") from error
    if not isinstance(entries, list):
        raise AnnotationError(f"{source}: holds {json_kind(entries)}; expected a list of entries, one an image")
    if not entries:
        raise AnnotationError(f"{source}: the list of entries is empty")
    foreign = [
        f"entry {n}: expected an object, got {json_kind(e)}" for n, e in enumerate(entries) if not isinstance(e, dict)
    ]
    if foreign:
        raise AnnotationError(f"{source}: {listed(foreign)}")
    # Told once for the file, not of each entry.
    if not any("split" in entry for entry in entries):
        raise AnnotationError(
            f'{source}: no entry has a field "split"; add "split": "test" to those that are to be evaluated'
        )
    return entries
