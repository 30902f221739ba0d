"""Public benchmarks in their real layouts, read by name."""

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest
from tests.datasets.layouts import (
    ANNOTATIONS,
    SHOTS,
    Entry,
    entries_of,
    make_entry,
    path_of,
    write_annotations,
    write_benchmark,
)

from textreid.datasets.benchmarks import (
    FORMS,
    PUBLISHED,
    Counts,
    check_counts,
    count,
    form_of,
    read_benchmark,
    read_named,
)
from textreid.datasets.records import Benchmark, Record, Rejection
from textreid.errors import AnnotationError, ConfigError

TITLES = {"cuhk-pedes": "CUHK-PEDES", "icfg-pedes": "ICFG-PEDES", "rstpreid": "RSTPReid"}


@pytest.mark.parametrize("form", TITLES)
def test_each_layout_is_read(form: str, tmp_path: Path) -> None:
    entries = write_benchmark(tmp_path / "data", form)
    benchmark = read_benchmark(form, tmp_path / "data")
    assert (benchmark.name, benchmark.form, benchmark.rejected) == (TITLES[form], form, ())
    assert benchmark.splits == {"train": 6 * SHOTS, "test": 3 * SHOTS}
    assert [(r.image, r.identity, list(r.captions), r.split) for r in benchmark.records] == [
        (path_of(entry), entry["id"], entry["captions"], entry["split"]) for entry in entries
    ]
    assert all((benchmark.image_root / record.image).is_file() for record in benchmark.records)


@pytest.mark.parametrize("form", TITLES)
def test_a_byte_order_mark_and_windows_paths_change_nothing(form: str, tmp_path: Path) -> None:
    entries = write_benchmark(tmp_path, form)
    before = read_benchmark(form, tmp_path)
    field = "img_path" if form == "rstpreid" else "file_path"
    windows = [entry | {field: ".\\" + entry[field].replace("/", "\\")} for entry in reversed(entries)]
    (tmp_path / ANNOTATIONS[form]).write_bytes(b"\xef\xbb\xbf" + json.dumps(windows, indent=1).encode())
    after = read_benchmark(form, tmp_path)
    assert set(after.records) == set(before.records)
    assert after.list_fingerprint == before.list_fingerprint


def test_the_other_spelling_of_icfg_is_read(tmp_path: Path) -> None:
    write_benchmark(tmp_path, "icfg-pedes")
    (tmp_path / "ICFG_PEDES.json").rename(tmp_path / "ICFG-PEDES.json")
    assert len(read_benchmark("icfg-pedes", tmp_path).records) == 9 * SHOTS


@pytest.mark.parametrize("form", TITLES)
@pytest.mark.parametrize("given", ["", "outer", "outer/inner/imgs"])
def test_a_folder_too_high_or_too_deep_names_the_right_one(form: str, given: str, tmp_path: Path) -> None:
    write_benchmark(tmp_path / "outer" / "inner", form)
    with pytest.raises(AnnotationError) as caught:
        read_benchmark(form, tmp_path / given)
    assert str(caught.value).startswith(f"{tmp_path / given}: has no {ANNOTATIONS[form]}, but ")
    assert f"{tmp_path}/outer/inner has; give that folder" in str(caught.value)


@pytest.mark.parametrize("asked", TITLES)
@pytest.mark.parametrize("there", TITLES)
def test_another_benchmark_is_recognised(asked: str, there: str, tmp_path: Path) -> None:
    write_benchmark(tmp_path, there)
    assert form_of(tmp_path) == there
    if asked == there:
        assert read_benchmark(asked, tmp_path).form == asked
        return
    message = f"has the files of {TITLES[there]}, not of {TITLES[asked]}; read it as {there}"
    with pytest.raises(AnnotationError, match=message):
        read_benchmark(asked, tmp_path)


@pytest.mark.parametrize("there", TITLES)
def test_any_label_may_name_own_data(there: str, tmp_path: Path) -> None:
    write_benchmark(tmp_path / "data", there)
    whole = read_benchmark(there, tmp_path / "data")
    for argument, name in (
        (f"mine={tmp_path}/data", "mine"),
        (f"{tmp_path}/data", "data"),
        (f"generic={tmp_path}/data", "data"),
    ):
        benchmark = read_named(argument)
        assert (benchmark.name, benchmark.form) == (name, "generic")
        assert benchmark.records == whole.records
    for spelling in (there, there.upper(), there.replace("-", "_")):
        assert read_named(f"{spelling}={tmp_path}/data") == whole


def test_a_path_may_hold_an_equals_sign(tmp_path: Path) -> None:
    write_benchmark(tmp_path / "a=b", "cuhk-pedes")
    assert read_named(f"{tmp_path}/a=b").name == "a=b"
    assert read_named(f"mine={tmp_path}/a=b").name == "mine"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cuhk-pede", "'cuhk-pede': did you mean cuhk-pedes?"),
        ("RSTPReID-", "did you mean rstpreid?"),
        ("icfg pedes", "did you mean icfg-pedes?"),
        ("", "write NAME=PATH, as mine=FOLDER"),
        (" ", "write NAME=PATH, as mine=FOLDER"),
    ],
)
def test_a_slip_of_a_name_is_not_a_label(name: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read_benchmark(name, tmp_path)
    assert message in str(caught.value)
    assert FORMS == ("cuhk-pedes", "icfg-pedes", "rstpreid", "generic")


def test_absent_images_are_counted_up_to_the_rate(tmp_path: Path) -> None:
    entries = write_benchmark(tmp_path, "rstpreid", {"train": 30, "test": 20})
    for entry in entries[:5]:
        (tmp_path / "imgs" / path_of(entry)).unlink()
    benchmark = read_benchmark("rstpreid", tmp_path)
    assert benchmark.rejected == tuple(Rejection(n, path_of(entries[n]), "train", "absent") for n in range(5))
    assert len(benchmark.records) == 95
    (tmp_path / "imgs" / path_of(entries[5])).unlink()
    with pytest.raises(AnnotationError, match=r"6 of 100 images cannot be used \(allowed: 5%\)"):
        read_benchmark("rstpreid", tmp_path)
    assert len(read_benchmark("rstpreid", tmp_path, max_rejected=0.06).records) == 94


@pytest.mark.parametrize(("where", "found"), [("imgs/imgs", "imgs/imgs"), ("", "data")])
def test_images_in_the_wrong_place_are_found(where: str, found: str, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    write_benchmark(folder, "icfg-pedes")
    (folder / "imgs").rename(tmp_path / "moved")
    (folder / "imgs").mkdir()
    if where:
        (tmp_path / "moved").rename(folder / where)
    else:
        for part in (tmp_path / "moved").iterdir():
            part.rename(folder / part.name)
    with pytest.raises(AnnotationError) as caught:
        read_benchmark("icfg-pedes", folder)
    image = "train/0000/0000_000_01_0303morning_0015_0.jpg"
    place = tmp_path / found if where == "" else folder / found
    assert f"; {image} was looked for at {folder / 'imgs' / image}; it lies in {place}: " in str(caught.value)


@pytest.mark.parametrize("form", TITLES)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id": "12"}, "\"id\": expected a whole number, got '12'"),
        ({"captions": None}, '"captions": expected a list of texts, got null'),
        ({"captions": [1]}, '"captions": expected a list of texts, but [0] is 1'),
        ({"split": ["test"]}, '"split": expected the name of a split, got a list'),
    ],
)
def test_a_wrong_type_is_named(form: str, change: dict[str, object], message: str, tmp_path: Path) -> None:
    entries = write_benchmark(tmp_path, form)
    write_annotations(tmp_path, form, [*entries[:3], entries[3] | change, *entries[4:]])
    with pytest.raises(AnnotationError) as caught:
        read_benchmark(form, tmp_path)
    assert str(caught.value) == f"{tmp_path / ANNOTATIONS[form]}: entry 3, {message}"


def test_the_path_field_is_the_benchmarks_own(tmp_path: Path) -> None:
    entries = write_benchmark(tmp_path, "rstpreid")
    write_annotations(tmp_path, "rstpreid", [{**entry, "file_path": "a.jpg", "img_path": 3} for entry in entries])
    with pytest.raises(AnnotationError, match='entry 0, "img_path": expected a path, got 3'):
        read_benchmark("rstpreid", tmp_path)


def test_an_image_without_captions_stays_in_the_gallery(tmp_path: Path) -> None:
    entries = write_benchmark(tmp_path, "cuhk-pedes")
    write_annotations(tmp_path, "cuhk-pedes", [entries[0] | {"captions": []}, *entries[1:]])
    benchmark = read_benchmark("cuhk-pedes", tmp_path, max_rejected=0.0)
    assert benchmark.records[0].captions == ()
    assert [rejection.reason for rejection in benchmark.rejected] == ["no-captions"]


@pytest.mark.slow
def test_icfg_in_its_full_size(tmp_path: Path) -> None:
    """54,522 entries with tokens, one image listed twice as in the distributed file.

    Its folders are links to one folder: a file system takes a minute to make that many files.
    """
    images, people = {"train": 34_673, "test": 19_848}, {"train": 3_102, "test": 1_000}
    root = tmp_path / "ICFG-PEDES" / "imgs" / "train"
    root.mkdir(parents=True)
    (tmp_path / "shots").mkdir()
    entries: list[Entry] = []
    for split, size in images.items():
        first = people["train"] if split == "test" else 0
        for number in range(size):
            entry = make_entry("icfg-pedes", split, first + number % people[split], number // people[split])
            entries.append(entry | {"file_path": "train/{}/{}.jpg".format(*divmod(len(entries), 250))})
    entries.append(entries[0] | {"captions": ["The same picture once more."]})
    assert len(entries) == 54_522
    for number in range(250):
        (tmp_path / "shots" / f"{number}.jpg").touch()
        (root / str(number)).symlink_to(tmp_path / "shots")
    write_annotations(tmp_path / "ICFG-PEDES", "icfg-pedes", entries)
    start = time.process_time()
    benchmark = read_benchmark("icfg-pedes", tmp_path / "ICFG-PEDES")
    seconds = time.process_time() - start
    assert [verdict.text for verdict in check_counts(benchmark)] == [
        "ICFG-PEDES: 34,673 train images, 34,674 captions, 3,102 people, as expected of the distributed file (the "
        "paper's counts differ slightly)",
        "ICFG-PEDES: 19,848 test images, 19,848 captions, 1,000 people, as expected",
    ]
    assert [rejection.reason for rejection in benchmark.rejected] == ["repeated"]
    assert seconds < 10  # 1 s on an idle core


def test_published_sizes_are_whole() -> None:
    assert sum(sizes[-1].captions for sizes in PUBLISHED["cuhk-pedes"].splits.values()) == 80_440
    assert sum(sizes[0].images for sizes in PUBLISHED["cuhk-pedes"].splits.values()) == 40_206
    assert sum(sizes[0].images for sizes in PUBLISHED["icfg-pedes"].splits.values()) == 54_522
    assert sum(sizes[0].images for sizes in PUBLISHED["rstpreid"].splits.values()) == 20_505
    assert all(2 <= len(known.splits) <= 3 for known in PUBLISHED.values())
    assert len(entries_of("rstpreid", {"test": 2})) == 2 * SHOTS


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
