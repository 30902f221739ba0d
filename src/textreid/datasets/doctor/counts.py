"""Whether a benchmark has the size that its paper gives, and what may be the matter if not."""

from collections import Counter
from dataclasses import dataclass

from textreid.datasets.benchmarks import PUBLISHED, Counts
from textreid.datasets.records import Benchmark


@dataclass(frozen=True)
class Verdict:
    """What became of one split: ``text`` is a sentence for the user."""

    split: str
    as_published: bool
    text: str


def count(benchmark: Benchmark, split: str) -> Counts:
    """Size of a split, as it will be used."""
    records = [record for record in benchmark.records if record.split == split]
    return Counts(
        len(records), sum(len(record.captions) for record in records), len({record.identity for record in records})
    )


def check_counts(benchmark: Benchmark, *splits: str) -> tuple[Verdict, ...]:
    """Compare a benchmark with what was published of it.

    Args:
        benchmark: as `read_benchmark` gives it. One that was never published (``generic``) gets no verdict.
        splits: those to look at; none: all that were published.
    """
    published = PUBLISHED.get(benchmark.form)
    if published is None:
        return ()
    return tuple(
        _verdict(benchmark, published.title, split, expected)
        for split, expected in published.splits.items()
        if not splits or split in splits
    )


def _verdict(benchmark: Benchmark, title: str, split: str, expected: tuple[Counts, ...]) -> Verdict:
    found = count(benchmark, split)
    if found in expected:
        sizes = f"{found.images:,} {split} images, {found.captions:,} captions, {found.identities:,} people"
        differs = "" if found == expected[0] else " of the distributed file (the paper's counts differ slightly)"
        return Verdict(split, True, f"{title}: {sizes}, as expected{differs}")
    if not found.images:
        return Verdict(split, False, f"{title}: no {split} images; {_why_none(benchmark, split)}")
    nearest = min(expected, key=lambda counts: abs(counts.captions - found.captions))
    pairs = [
        (found.images, nearest.images, f"{split} images"),
        (found.captions, nearest.captions, "captions"),
        (found.identities, nearest.identities, "people"),
    ]
    different = ", ".join(f"{is_:,} {what} (expected {be:,})" for is_, be, what in pairs if is_ != be)
    return Verdict(split, False, f"{title}: {different}; {_likeliest_cause(benchmark, split, found, nearest)}")


def _likeliest_cause(benchmark: Benchmark, split: str, found: Counts, expected: Counts) -> str:
    lost = Counter(rejection.reason for rejection in benchmark.rejected if rejection.split == split)
    if lost["absent"]:
        return f"{lost['absent']:,} images are listed but absent: unpack the archive of images again, wholly"
    if lost["contradicting"] or lost["repeated"]:
        return (
            f"{lost['repeated'] + lost['contradicting']:,} entries list an image again: two versions of the annotation "
            "file were joined"
        )
    useless = lost.total()
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
