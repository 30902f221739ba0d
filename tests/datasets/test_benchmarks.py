"""Public benchmarks in their real layouts, read by name."""

import json
import time
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

from textreid.datasets.benchmarks import FORMS, PUBLISHED, form_of, read_benchmark
from textreid.datasets.doctor.counts import check_counts
from textreid.datasets.records import Rejection
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


def test_an_unknown_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="benchmark 'market': no such benchmark"):
        read_benchmark("market", tmp_path)
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


def test_icfg_in_its_full_size(tmp_path: Path) -> None:
    """54,522 entries with tokens, one image listed twice as in the distributed file.

    Its folders are links to one folder: a file system takes a minute to make that many files.
    """
    images, people = {"train": 34_673, "test": 19_848}, {"train": 3_102, "test": 1_000}
    root = tmp_path / "ICFG-PEDES" / "imgs" / "train"
    root.mkdir(parents=True)
    (tmp_path / "shots").mkdir()
    entries: list[Entry] = []
    for split, count in images.items():
        first = people["train"] if split == "test" else 0
        for number in range(count):
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
