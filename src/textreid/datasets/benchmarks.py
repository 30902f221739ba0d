"""Benchmarks by name: one entry that reads them all, and how large each of them should be."""

from dataclasses import dataclass
from pathlib import Path

from textreid.datasets.annotation_table import SUFFIXES, read_annotation_table
from textreid.datasets.cuhk_form import CUHK, Layout, read_annotated_folder, read_cuhk_form
from textreid.datasets.entries import MAX_REJECTED
from textreid.datasets.records import Benchmark
from textreid.errors import AnnotationError, ConfigError, nearest_name

GENERIC = "generic"
ANNOTATION_TABLE = "annotations.jsonl"  # what a folder calls its table; other suffixes are read as well


@dataclass(frozen=True)
class Counts:
    """Size of a split."""

    images: int
    captions: int
    identities: int


@dataclass(frozen=True)
class Published:
    """A public benchmark: its title, its layout on disk and the size of its splits.

    A split has several sizes where the paper and the distributed file differ: the paper's is the first.
    """

    title: str
    layout: Layout
    splits: dict[str, tuple[Counts, ...]]


PUBLISHED: dict[str, Published] = {
    "cuhk-pedes": Published(
        "CUHK-PEDES",
        CUHK,
        {
            # The paper counts two captions an image; in the file some images have more.
            "train": (Counts(34_054, 68_108, 11_003), Counts(34_054, 68_126, 11_003)),
            "val": (Counts(3_078, 6_156, 1_000), Counts(3_078, 6_158, 1_000)),
            "test": (Counts(3_074, 6_156, 1_000),),
        },
    ),
    "icfg-pedes": Published(
        "ICFG-PEDES",
        Layout(("ICFG_PEDES.json", "ICFG-PEDES.json")),
        {
            # The file is said to list one training image twice, which makes one image less.
            "train": (Counts(34_674, 34_674, 3_102), Counts(34_673, 34_674, 3_102)),
            "test": (Counts(19_848, 19_848, 1_000),),
        },
    ),
    "rstpreid": Published(
        "RSTPReid",
        Layout(("data_captions.json",), path_field="img_path"),
        {
            "train": (Counts(18_505, 37_010, 3_701),),
            "val": (Counts(1_000, 2_000, 200),),
            "test": (Counts(1_000, 2_000, 200),),
        },
    ),
}
FORMS: tuple[str, ...] = (*PUBLISHED, GENERIC)


def read_benchmark(name: str, path: Path, max_rejected: float = MAX_REJECTED) -> Benchmark:
    """Read a benchmark by name; all splits of it.

    Args:
        name: ``"cuhk-pedes"``, ``"icfg-pedes"``, ``"rstpreid"`` (folders as they are distributed) or ``"generic"``
            (a CSV, JSON Lines or Parquet table, a folder that holds one as ``annotations.*``, or one's own folder in
            CUHK-PEDES form).
        path: the folder or table.
        max_rejected: share of the images, and of the captions, that may be left out; what was is in ``rejected``.

    Raises:
        ConfigError: no such name.
        AnnotationError: the folder or table has another form, or breaks it (names the place); or more is left out
            than allowed.
    """
    path = Path(path)
    if name == GENERIC:
        return _read_generic(path, max_rejected)
    if name not in PUBLISHED:
        raise ConfigError(f"benchmark {name!r}: no such benchmark; {nearest_name(name, FORMS)}")
    known = PUBLISHED[name]
    if not known.layout.find(path):
        other = form_of(path)
        if other and other != GENERIC:
            raise AnnotationError(
                f"{path}: has the files of {PUBLISHED[other].title}, not of {known.title}; read it as {other}"
            )
    return read_annotated_folder(path, known.layout, known.title, name, max_rejected)


def form_of(path: Path) -> str | None:
    """The name that a folder or table can be read by, told from the names of its files; None if there is none.

    Any folder in CUHK-PEDES form counts as ``cuhk-pedes`` here.
    """
    named = next((name for name, known in PUBLISHED.items() if known.layout.find(path)), None)
    if named:
        return named
    return GENERIC if path.suffix.lower() in SUFFIXES or _tables(path) else None


def _read_generic(path: Path, max_rejected: float) -> Benchmark:
    tables = _tables(path)
    if len(tables) > 1:
        raise AnnotationError(f"{path}: holds {' and '.join(table.name for table in tables)}; give one of them")
    if tables:
        return read_annotation_table(tables[0], max_rejected)
    if path.is_dir() or not path.exists():
        return read_cuhk_form(path, max_rejected)
    return read_annotation_table(path, max_rejected)


def _tables(folder: Path) -> list[Path]:
    return [table for suffix in SUFFIXES if (table := (folder / ANNOTATION_TABLE).with_suffix(suffix)).is_file()]
