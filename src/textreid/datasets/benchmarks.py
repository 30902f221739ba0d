"""Benchmarks by name: one entry that reads them all, how large each of them should be, and what may be wrong if not."""

import difflib
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from textreid.datasets.annotation_table import SUFFIXES, read_annotation_table
from textreid.datasets.cuhk_form import CUHK, Layout, read_annotated_folder
from textreid.datasets.entries import MAX_REJECTED
from textreid.datasets.records import Benchmark
from textreid.errors import AnnotationError, ConfigError, check_path, check_type

GENERIC = "generic"
ANNOTATION_TABLE = "annotations.jsonl"  # what a folder calls its table; other suffixes are read as well
# "cuhkpedes" is 0.95 like its benchmark, "icfg_peds" 0.84, "rstpreid-small" 0.73.
_SLIP = 0.8  # a label as near as this to the name of a benchmark is taken for a slip


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


def read_benchmark(name: str, path: str | Path, max_rejected: float = MAX_REJECTED) -> Benchmark:
    """Read annotated people by name; all splits of them.

    >>> import textreid
    >>> people = textreid.read_benchmark("mine", "unseen")  # or ("cuhk-pedes", "CUHK-PEDES")
    >>> people.name, people.splits  # images of each split
    ('mine', {'test': 24})

    Args:
        name: ``"cuhk-pedes"``, ``"icfg-pedes"`` or ``"rstpreid"`` for a folder as it is distributed. Any other name is
            a label of one's own data: a CSV, JSON Lines or Parquet table, a folder that holds one as
            ``annotations.*``, or a folder in the form of one of the three. ``"generic"`` is labelled by its folder.
        path: the folder or table.
        max_rejected: share of the images, and of the captions, that may be left out; what was is in ``rejected``.

    Raises:
        ConfigError: the label is empty, or a slip of the name of a benchmark.
        AnnotationError: the folder or table has another form, or breaks it (names the place); or more is left out
            than allowed.

    """
    check_type("name", name, str, "a name like cuhk-pedes")
    check_path("path", path)
    path = Path(path)
    # The paper writes ICFG-PEDES, its file is called ICFG_PEDES.
    form = name.lower().replace("_", "-")
    # What is labelled otherwise is never compared with published sizes, whatever its files are called.
    if form not in PUBLISHED:
        _check_label(name)
        benchmark = _read_own(path, max_rejected)
        return benchmark if form == GENERIC else replace(benchmark, name=name)
    known = PUBLISHED[form]
    if not known.layout.find(path):
        other = form_of(path)
        if other and other != GENERIC:
            raise AnnotationError(
                f"{path}: has the files of {PUBLISHED[other].title}, not of {known.title}; read it as {other}"
            )
    return read_annotated_folder(path, known.layout, known.title, form, max_rejected)


def read_named(argument: str, max_rejected: float = MAX_REJECTED) -> Benchmark:
    """Read what ``--benchmark`` names: ``NAME=PATH`` as `read_benchmark`, or one's own data by ``PATH`` alone.

    A path that exists may hold an equals sign.
    """
    name, equals, path = argument.partition("=")
    if not equals or Path(argument).exists():
        name, path = GENERIC, argument
    return read_benchmark(name, path, max_rejected)


def _check_label(name: str) -> None:
    if not name.strip():
        raise ConfigError("a benchmark without a name; write NAME=PATH, as mine=FOLDER, or PATH alone")
    # Refused, not only noted: under a label the sizes would not be checked, and nobody would know.
    slips = difflib.get_close_matches(name.lower(), PUBLISHED, n=1, cutoff=_SLIP)
    if slips:
        raise ConfigError(
            f"benchmark {name!r}: did you mean {slips[0]}? A label of your own data differs more from it, as in "
            "mine=FOLDER"
        )


def form_of(path: Path) -> str | None:
    """Tell from the names of its files the name that a folder or table can be read by; None if it has no known form.

    Any folder in CUHK-PEDES form counts as ``cuhk-pedes`` here.
    """
    named = next((name for name, known in PUBLISHED.items() if known.layout.find(path)), None)
    if named:
        return named
    return GENERIC if path.suffix.lower() in SUFFIXES or _tables(path) else None


def _read_own(path: Path, max_rejected: float) -> Benchmark:
    """Read one's own data, named after its folder."""
    tables = _tables(path)
    if len(tables) > 1:
        raise AnnotationError(f"{path}: holds {' and '.join(table.name for table in tables)}; give one of them")
    if tables:
        return read_annotation_table(tables[0], max_rejected)
    if path.is_dir() or not path.exists() or path.suffix == ".json":
        # Without a known file CUHK's layout stays, whose reader says what is missing.
        layout = next((known.layout for known in PUBLISHED.values() if known.layout.find(path)), CUHK)
        return read_annotated_folder(path, layout, path.resolve().name, GENERIC, max_rejected)
    return read_annotation_table(path, max_rejected)


def _tables(folder: Path) -> list[Path]:
    return [table for suffix in SUFFIXES if (table := (folder / ANNOTATION_TABLE).with_suffix(suffix)).is_file()]


@dataclass(frozen=True)
class CountCheck:
    """Whether one split has its published size; ``text`` is a sentence for the user."""

    split: str
    as_published: bool
    text: str


def count(benchmark: Benchmark, split: str) -> Counts:
    """Count a split, as it will be used."""
    records = [record for record in benchmark.records if record.split == split]
    return Counts(
        len(records), sum(len(record.captions) for record in records), len({record.identity for record in records})
    )


def check_counts(benchmark: Benchmark, *splits: str) -> tuple[CountCheck, ...]:
    """Compare a benchmark with what was published of it.

    Args:
        benchmark: as `read_benchmark` gives it. One that was never published (``generic``) is not checked.
        splits: those to look at; none: all that were published.
    """
    published = PUBLISHED.get(benchmark.form)
    if published is None:
        return ()
    return tuple(
        _check_split(benchmark, published.title, split, expected)
        for split, expected in published.splits.items()
        if not splits or split in splits
    )


def _check_split(benchmark: Benchmark, title: str, split: str, expected: tuple[Counts, ...]) -> CountCheck:
    found = count(benchmark, split)
    if found in expected:
        sizes = f"{found.images:,} {split} images, {found.captions:,} captions, {found.identities:,} people"
        differs = "" if found == expected[0] else " of the distributed file (the paper's counts differ slightly)"
        return CountCheck(split, True, f"{title}: {sizes}, as expected{differs}")
    if not found.images:
        return CountCheck(split, False, f"{title}: no {split} images; {_why_none(benchmark, split)}")
    nearest = min(expected, key=lambda counts: abs(counts.captions - found.captions))
    pairs = [
        (found.images, nearest.images, f"{split} images"),
        (found.captions, nearest.captions, "captions"),
        (found.identities, nearest.identities, "people"),
    ]
    different = ", ".join(f"{is_:,} {what} (expected {be:,})" for is_, be, what in pairs if is_ != be)
    return CountCheck(split, False, f"{title}: {different}; {_likeliest_cause(benchmark, split, found, nearest)}")


def _likeliest_cause(benchmark: Benchmark, split: str, found: Counts, expected: Counts) -> str:
    lost = Counter(rejection.reason for rejection in benchmark.rejected if rejection.split == split)
    # Absent images come first, since they take their captions with them.
    if lost["absent"]:
        return f"{lost['absent']:,} images are listed but absent: unpack the archive of images again, wholly"
    if lost["contradicting"] or lost["repeated"]:
        return (
            f"{lost['repeated'] + lost['contradicting']:,} entries list an image again: two versions of the annotation "
            "file were joined"
        )
    useless = lost.total()
    # They alone make up for the difference, so the file is not an excerpt.
    if useless and found.captions + useless == expected.captions:
        return f"{useless:,} captions say nothing and were left out: take the annotation file from its source again"
    moved = [other for other in benchmark.splits if other != split and found.images > expected.images]
    if moved:
        return "images of other splits are counted here: the file was divided anew"
    return "the annotation file is an excerpt, or another version than the published one"


def _why_none(benchmark: Benchmark, split: str) -> str:
    absent = sum(rejection.reason == "absent" for rejection in benchmark.rejected if rejection.split == split)
    if absent:
        return f"all {absent:,} that are listed are absent: unpack the archive of images again, wholly"
    known = ", ".join(benchmark.splits)
    return f"no entry is of split {split!r} (there are: {known}): an excerpt, or another version of the file"
