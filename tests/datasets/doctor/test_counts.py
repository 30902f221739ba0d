"""Verdicts on the size of a benchmark, at the real sizes."""

from dataclasses import replace
from pathlib import Path

import pytest

from textreid.datasets.benchmarks import PUBLISHED, Counts
from textreid.datasets.doctor.counts import check_counts, count
from textreid.datasets.records import Benchmark, Record, Rejection

TEST_VERDICTS = {
    "cuhk-pedes": "CUHK-PEDES: 3,074 test images, 6,156 captions, 1,000 people, as expected",
    "icfg-pedes": "ICFG-PEDES: 19,848 test images, 19,848 captions, 1,000 people, as expected",
    "rstpreid": "RSTPReid: 1,000 test images, 2,000 captions, 200 people, as expected",
}


def split_of(split: str, counts: Counts, first_identity: int) -> list[Record]:
    """Records that add up to exactly these counts."""
    each, extra = divmod(counts.captions, counts.images)
    return [
        Record(
            f"{split}/{n}.jpg",
            first_identity + n % counts.identities,
            tuple(f"caption {i}" for i in range(each + (n < extra))),
            split,
        )
        for n in range(counts.images)
    ]


def whole(form: str, version: int = 0) -> Benchmark:
    records: list[Record] = []
    first = 1
    for split, versions in PUBLISHED[form].splits.items():
        counts = versions[min(version, len(versions) - 1)]
        records += split_of(split, counts, first)
        first += counts.identities
    return Benchmark(PUBLISHED[form].title, Path("nowhere"), tuple(records), form=form)


@pytest.mark.parametrize("form", TEST_VERDICTS)
def test_the_published_sizes_are_as_expected(form: str) -> None:
    benchmark = whole(form)
    verdicts = check_counts(benchmark)
    assert [verdict.split for verdict in verdicts] == list(PUBLISHED[form].splits)
    assert all(verdict.as_published and verdict.text.endswith(", as expected") for verdict in verdicts)
    (test,) = check_counts(benchmark, "test")
    assert test.text == TEST_VERDICTS[form]
    assert check_counts(benchmark.split("test"), "test") == (test,)


@pytest.mark.parametrize(("form", "captions"), [("cuhk-pedes", "68,126"), ("icfg-pedes", "34,674")])
def test_the_distributed_file_may_differ_from_the_paper(form: str, captions: str) -> None:
    (train,) = check_counts(whole(form, version=1), "train")
    assert train.as_published
    assert f" train images, {captions} captions, " in train.text
    assert train.text.endswith("as expected of the distributed file (the paper's counts differ slightly)")


def drop(benchmark: Benchmark, images: int, *rejected: Rejection) -> Benchmark:
    """Without the first few test images."""
    first = next(n for n, record in enumerate(benchmark.records) if record.split == "test")
    records = benchmark.records[:first] + benchmark.records[first + images :]
    return replace(benchmark, records=records, rejected=rejected)


def test_each_cause_is_named() -> None:
    benchmark = whole("rstpreid")
    absent = [Rejection(n, f"test/{n}.jpg", "test", "absent") for n in range(4)]
    again = Rejection(9, "test/9.jpg", "test", "repeated")
    mute = replace(benchmark.records[-1], captions=("caption 0",))
    useless = Rejection(9, mute.image, "test", "empty")
    moved = replace(benchmark.records[0], split="test")
    short = "RSTPReid: 996 test images (expected 1,000), 1,992 captions (expected 2,000); "
    cases = {
        short + "4 images are listed but absent: unpack": drop(benchmark, 4, *absent),
        short + "the annotation file is an excerpt, or another": drop(benchmark, 4),
        short + "1 entries list an image again": drop(benchmark, 4, again),
        "RSTPReid: 1,999 captions (expected 2,000); 1 captions say nothing": replace(
            benchmark, records=(*benchmark.records[:-1], mute), rejected=(useless,)
        ),
        "RSTPReid: 1,001 test images (expected 1,000), 2,002 captions (expected 2,000), 201 people (expected 200); "
        "images of other splits are counted here": replace(benchmark, records=(moved, *benchmark.records[1:])),
        "RSTPReid: no test images; no entry is of split 'test' (there are: train, val)": drop(benchmark, 1000),
        "RSTPReid: no test images; all 4 that are listed are absent": drop(benchmark, 1000, *absent),
    }
    for text, case in cases.items():
        (verdict,) = check_counts(case, "test")
        assert not verdict.as_published
        assert verdict.text.startswith(text)
    assert len(cases) == 7


def test_ones_own_data_gets_no_verdict() -> None:
    own = replace(whole("rstpreid"), form="generic")
    assert check_counts(own) == ()
    assert count(own, "test") == Counts(1_000, 2_000, 200)
    assert count(own, "nowhere") == Counts(0, 0, 0)
