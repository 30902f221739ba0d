import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from textreid.datasets.benchmarks import read_benchmark
from textreid.datasets.records import Record, Rejection
from textreid.errors import AnnotationError


def entry(image: str = "a.png", identity: Any = 0, captions: Any = ("a man in red",), split: Any = "test") -> Any:
    return {
        "split": split,
        "captions": list(captions) if isinstance(captions, tuple) else captions,
        "file_path": image,
        "id": identity,
    }


def without(field: str) -> Any:
    return {name: value for name, value in entry().items() if name != field}


def write(folder: Path, content: Any, images: Sequence[str] = ("a.png",)) -> Path:
    """A folder with files by these names and ``content``: entries, or the annotation file's very bytes."""
    (folder / "imgs").mkdir(parents=True)
    for image in images:
        (folder / "imgs" / image).parent.mkdir(exist_ok=True)
        (folder / "imgs" / image).touch()
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    (folder / "reid_raw.json").write_bytes(raw)
    return folder


def refusal(folder: Path, **options: float) -> str:
    with pytest.raises(AnnotationError) as caught:
        read_benchmark("generic", folder, **options)
    message = str(caught.value)
    assert str(folder) in message
    return message


def test_it_reads_every_field(tmp_path: Path) -> None:
    entries = [
        entry("a.png", 1, ("one", "two")),
        entry("./sub//b.png", 7, ("three",), "train"),
        entry("sub/c.png", 0, ("穿红色外套的女人", "امرأة", "x " * 5000)),
    ]
    benchmark = read_benchmark("generic", write(tmp_path / "data", entries, ["a.png", "sub/b.png", "sub/c.png"]))
    assert benchmark.name == "data"
    assert benchmark.image_root == tmp_path / "data" / "imgs"
    assert benchmark.records == (
        Record("a.png", 1, ("one", "two"), "test"),
        Record("sub/b.png", 7, ("three",), "train"),
        Record("sub/c.png", 0, ("穿红色外套的女人", "امرأة", "x " * 5000), "test"),
    )
    assert benchmark.rejected == ()
    assert benchmark.splits == {"test": 2, "train": 1}


def test_a_byte_order_mark_is_fine(tmp_path: Path) -> None:
    content = b"\xef\xbb\xbf" + json.dumps([entry()]).encode()
    assert len(read_benchmark("generic", write(tmp_path, content)).records) == 1


def test_a_split_is_a_benchmark_too(tmp_path: Path) -> None:
    entries = [entry("a.png"), entry("b.png", captions=("...",), split="train"), entry("gone.png", split="train")]
    benchmark = read_benchmark("generic", write(tmp_path, entries, ["a.png", "b.png"]), max_rejected=0.5)
    train = benchmark.split("train")
    assert [record.image for record in train.records] == ["b.png"]
    assert [rejection.entry for rejection in train.rejected] == [1, 2]
    assert benchmark.split("test").rejected == ()
    with pytest.raises(AnnotationError, match=r"no split 'val'; there are: test \(1 images\), train \(1 images\)"):
        benchmark.split("val")


@pytest.mark.parametrize("field", ["split", "captions", "file_path", "id"])
def test_a_missing_field_is_named(field: str, tmp_path: Path) -> None:
    message = refusal(write(tmp_path, [entry("b.png"), without(field)], ["a.png", "b.png"]))
    assert message.endswith(f'reid_raw.json: entry 1, "{field}": missing')


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (entry(identity="12"), "\"id\": expected a whole number, got '12'"),
        (entry(identity=1.5), '"id": expected a whole number, got 1.5'),
        (entry(identity=True), '"id": expected a whole number, got true or false'),
        (entry(identity=-1), '"id": expected a whole number from 0, got -1'),
        (entry(identity=2**70), '"id": expected a whole number from 0'),
        (entry(captions="a man"), "\"captions\": expected a list of texts, got 'a man'"),
        (entry(captions=None), '"captions": expected a list of texts, got null'),
        (entry(captions=["a", 3]), '"captions": expected a list of texts, but [1] is 3'),
        (entry(split=3), '"split": expected the name of a split, got 3'),
        (entry(split=" "), '"split": expected the name of a split'),
        (entry(image=7), '"file_path": expected a path, got 7'),  # type: ignore[arg-type]
        (entry(image=""), '"file_path": expected a path'),
        (entry(image="/etc/passwd"), "is absolute; write it relative to imgs/"),
        (entry(image="C:/people/a.png"), "is absolute"),
        (entry(image="../a.png"), "leaves imgs/"),
        (entry(image="sub/../../a.png"), "leaves imgs/"),
        (entry(image="C:\\people\\a.png"), "is absolute"),
        (entry(image="\\a.png"), "is absolute"),
        (entry(image="..\\a.png"), "leaves imgs/"),
        (entry(image="sub\\"), "is not the path of a file"),
        (entry(image="a.png\0"), "is not the path of a file"),
        (entry(image="sub/"), "is not the path of a file"),
        (["split", "test"], "entry 1: expected an object, got a list"),
        (None, "entry 1: expected an object, got null"),
    ],
)
def test_a_wrong_value_is_named_with_its_entry(changed: Any, message: str, tmp_path: Path) -> None:
    found = refusal(write(tmp_path, [entry("b.png"), changed], ["a.png", "b.png"]))
    assert "reid_raw.json: entry 1" in found
    assert message in found


def test_a_path_written_on_windows_is_read(tmp_path: Path) -> None:
    benchmark = read_benchmark(
        "generic", write(tmp_path, [entry("cam_a\\a.png"), entry(".\\b.png")], ["cam_a/a.png", "b.png"])
    )
    assert [record.image for record in benchmark.records] == ["cam_a/a.png", "b.png"]


@pytest.mark.parametrize("again", ["a.png", "./a.png", "sub/.//b.png", "sub\\b.png"])
def test_an_image_listed_again_gets_the_further_captions(again: str, tmp_path: Path) -> None:
    captions = {"a.png": ["a man in red"], "sub/b.png": ["a man in red"]}
    entries = [entry("a.png"), entry("sub/b.png"), entry(again, captions=("seen from behind",))]
    benchmark = read_benchmark("generic", write(tmp_path, entries, ["a.png", "sub/b.png"]))
    image = "a.png" if again.endswith("a.png") else "sub/b.png"
    captions[image].append("seen from behind")
    assert {record.image: list(record.captions) for record in benchmark.records} == captions
    assert benchmark.rejected == (Rejection(2, image, "test", "repeated"),)


@pytest.mark.parametrize("change", [{"identity": 5}, {"split": "train"}])
def test_an_image_of_two_people_or_splits_keeps_the_first(change: dict[str, Any], tmp_path: Path) -> None:
    entries = [entry("a.png"), entry("a.png", captions=("another",), **change)]
    folder = write(tmp_path, entries)
    benchmark = read_benchmark("generic", folder, max_rejected=0.5)
    assert benchmark.records == (Record("a.png", 0, ("a man in red",), "test"),)
    assert [(r.entry, r.reason) for r in benchmark.rejected] == [(1, "contradicting")]
    assert "1 of 2 images cannot be used (allowed: 5%): a.png (contradicting)" in refusal(folder)


def test_many_problems_make_a_short_message(tmp_path: Path) -> None:
    message = refusal(write(tmp_path, [entry(f"{i}.png", "x") for i in range(100)]))
    assert message.count('"id"') == 5
    assert message.endswith("; and 95 more")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "line 1, column 1: not JSON"),
        (b'[\n{"split": "test",\n]', "line 3, column 1: not JSON"),
        (b"\xff\xfe[\x00]\x00", "not UTF-8 text"),
        (b"[" * 100_000, "nested too deeply"),
        (b"[" + b"9" * 5000 + b"]", "cannot be read as JSON"),
        (b'[{"split": "test", "captions": ["a"], "captions": ["b"]}]', '"captions" more than once in one object'),
        (b"{}", "holds an object; expected a list of entries"),
        (b"[]", "the list of entries is empty"),
        (json.dumps([without("split")]).encode(), 'no entry has a field "split"; add "split": "test"'),
    ],
)
def test_a_file_that_is_no_list_of_entries_is_refused(content: bytes, message: str, tmp_path: Path) -> None:
    assert message in refusal(write(tmp_path, content))


def test_captions_that_say_nothing_are_left_out_and_counted(tmp_path: Path) -> None:
    entries = [
        entry("a.png", 0, ("", "a man in red", " \n\t")),
        entry("b.png", 0, ("?!", "…。")),
        entry("c.png", 1, ()),
        entry("d.png", 1, ("a \ud800 lone surrogate", "42")),
    ]
    benchmark = read_benchmark(
        "generic", write(tmp_path, entries, ["a.png", "b.png", "c.png", "d.png"]), max_rejected=0.9
    )
    assert [record.captions for record in benchmark.records] == [("a man in red",), (), (), ("42",)]
    assert [(r.entry, r.reason) for r in benchmark.rejected] == [
        (0, "empty"), (0, "empty"), (1, "no-words"), (1, "no-words"), (2, "no-captions"), (3, "not-unicode"),
    ]  # fmt: skip


def test_too_many_useless_captions_are_an_error(tmp_path: Path) -> None:
    images = [f"{i}.png" for i in range(40)]
    entries = [entry(image, captions=("words", "" if i < 5 else "more")) for i, image in enumerate(images)]
    folder = write(tmp_path, entries, images)
    message = refusal(folder)
    assert "5 of 80 captions cannot be used (allowed: 5%): 0.png (empty); 1.png (empty)" in message
    assert len(read_benchmark("generic", folder, max_rejected=5 / 80).rejected) == 5


def test_absent_images_are_left_out_up_to_a_rate(tmp_path: Path) -> None:
    entries = [entry(f"{i}.png", i, ("words", "")[: 1 + (i == 0)]) for i in range(40)]
    folder = write(tmp_path, entries, [f"{i}.png" for i in range(2, 40)])
    benchmark = read_benchmark("generic", folder)
    assert len(benchmark.records) == 38
    assert benchmark.rejected == (Rejection(0, "0.png", "test", "absent"), Rejection(1, "1.png", "test", "absent"))
    (folder / "imgs" / "2.png").unlink()
    message = refusal(folder)
    assert "3 of 40 images cannot be used" in message
    assert "0.png (absent); 1.png (absent); 2.png (absent)" in message


def test_nothing_left_is_an_error_whatever_is_allowed(tmp_path: Path) -> None:
    assert "1 of 1 images" in refusal(write(tmp_path, [entry()], []), max_rejected=1.0)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("data/imgs", "/data has; give that folder"),
        ("", "/data has; give that folder"),
        ("data/reid_raw.json", "is a file; give the folder that holds imgs/ and reid_raw.json"),
        ("nowhere", "no such folder"),
        ("data/imgs/sub", "/data has; give that folder"),
        ("data/imgs/sub/deep/deeper", "has no imgs/ and no reid_raw.json; both are needed"),
    ],
)
def test_a_folder_beside_the_right_one_is_told_apart(given: str, message: str, tmp_path: Path) -> None:
    write(tmp_path / "data", [entry("sub/a.png")], ["sub/a.png"])
    (tmp_path / "data" / "imgs" / "sub" / "deep" / "deeper").mkdir(parents=True)
    assert message in refusal(tmp_path / given)


def test_a_folder_without_images_is_told(tmp_path: Path) -> None:
    (tmp_path / "reid_raw.json").write_text("[]", encoding="utf-8")
    assert refusal(tmp_path).endswith("has no imgs/; both are needed")
