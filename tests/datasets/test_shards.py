"""WebDataset shards, unpacked once: what comes out is what pretraining and evaluation read."""

import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from textreid.artifacts import read_manifest
from textreid.captions.table import read_captions
from textreid.datasets.benchmarks import read_benchmark
from textreid.datasets.records import Record
from textreid.datasets.shards import LARGEST_MEMBER, list_shards, unpack_shards
from textreid.errors import AnnotationError, ArtifactError
from textreid.images import read_image


def jpeg(shade: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (16, 32), (shade, 0, 0)).save(stream, "JPEG")
    return stream.getvalue()


def shard(path: Path, members: Mapping[str, Any], mode: str = "w") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, content in members.items():
            raw = json.dumps(content) if isinstance(content, dict) else content
            data = raw.encode() if isinstance(raw, str) else raw
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def two_shards(folder: Path) -> list[Path]:
    def sample(number: int, key: str, person: int) -> dict[str, Any]:
        return {
            f"{key}.jpg": jpeg(100 * number + 40 * person),
            f"{key}.txt": f"Person {person} of shard {number}.\n",
            f"{key}.json": {"identity": person, "split": "test", "width": 16},
        }

    return [
        shard(
            folder / f"{number:06d}.tar",
            sample(number, "0000", 0) | sample(number, "0001", 1) | sample(number, "0002", 2),
        )
        for number in range(2)
    ]


def test_samples_become_images_captions_and_annotations(tmp_path: Path) -> None:
    out = tmp_path / "out"
    unpacked = unpack_shards(two_shards(tmp_path / "shards"), out, writer="qwen")
    assert (unpacked.samples, unpacked.captions, unpacked.annotated) == (6, 6, True)
    assert unpacked.left_out.total() == 0
    benchmark = read_benchmark("generic", out)
    assert benchmark.records[4] == Record("imgs/000001/0001.jpg", 1, ("Person 1 of shard 1.",), "test")
    assert len(benchmark.records) == 6
    table = read_captions(out / "captions")
    assert (table.slots, len(table)) == (("qwen/static",), 6)
    images = [read_image(out / "imgs" / image) for image in table.images]
    assert [image.size for image in images] == [(16, 32)] * 6
    assert (out / "imgs" / "000001" / "0002.jpg").read_bytes() == jpeg(180)
    facts = read_manifest(out, "unpacked-shards", 1)["facts"]
    assert facts == {"samples": 6, "captions": 6, "left_out": {}}


def test_captions_may_stand_in_the_json(tmp_path: Path) -> None:
    members: dict[str, Any] = {
        "./a/0.png": jpeg(0), "./a/0.json": {"caption": "one"},
        "./a/1.JPG": jpeg(1), "./a/1.json": {"captions": [" two ", "three", ""]},
        "./a/2.jpg": jpeg(2), "./a/2.json": {"caption": "not this"}, "./a/2.txt": "four",
    }  # fmt: skip
    unpacked = unpack_shards([shard(tmp_path / "x.tar", members)], tmp_path / "out")
    assert (unpacked.samples, unpacked.captions, unpacked.annotated) == (3, 4, False)
    table = read_captions(tmp_path / "out" / "captions")
    found = {
        (table.images[i], table.slots[s]): table.caption(n)
        for n, (i, s) in enumerate(zip(table.image_index, table.slot_index, strict=True))
    }
    assert found == {
        ("x/a/0.png", "shards/static"): "one",
        ("x/a/1.jpg", "shards/static"): "two",
        ("x/a/1.jpg", "shards/static-2"): "three",
        ("x/a/2.jpg", "shards/static"): "four",
    }
    assert not (tmp_path / "out" / "annotations.jsonl").exists()


@pytest.mark.parametrize(
    ("reason", "members"),
    [
        ("no-image", {"k.txt": "a man"}),
        ("no-captions", {"k.jpg": b"x"}),
        ("no-captions", {"k.jpg": b"x", "k.txt": " \n"}),
        ("not-text", {"k.jpg": b"x", "k.txt": b"\xff\xfe"}),
        ("not-text", {"k.jpg": b"x", "k.json": {"captions": "a man"}}),
        ("not-text", {"k.jpg": b"x", "k.json": {"captions": [3]}}),
        ("not-text", {"k.jpg": b"x", "k.json": '{"caption": "\\ud800"}'}),
        ("not-json", {"k.jpg": b"x", "k.json": "{"}),
        ("not-json", {"k.jpg": b"x", "k.json": "[]"}),
        ("bad-annotation", {"k.jpg": b"x", "k.txt": "a", "k.json": {"identity": "7"}}),
        ("bad-annotation", {"k.jpg": b"x", "k.txt": "a", "k.json": {"identity": -1}}),
        ("bad-annotation", {"k.jpg": b"x", "k.txt": "a", "k.json": {"split": 1}}),
        ("bad-name", {"../k.jpg": b"x", "../k.txt": "a"}),
        ("bad-name", {"/k.jpg": b"x", "/k.txt": "a"}),
        ("not-json", {"k.jpg": b"x", "k.json": '{"caption": "a", "caption": "b"}'}),
        ("repeated", {"0.jpg": b"x", "0.txt": "again"}),
        ("scattered", {"0.json": {"caption": "too late"}}),
        ("dots", {"k.1.jpg": b"x", "k.2.jpg": b"x", "k.txt": "a"}),
    ],
)
def test_an_unusable_sample_is_left_out_and_counted(reason: str, members: dict[str, Any], tmp_path: Path) -> None:
    good: dict[str, Any] = {
        name: content for n in range(3) for name, content in ((f"{n}.jpg", b"x"), (f"{n}.txt", "a"))
    }
    path = tmp_path / "shards" / "x.tar"
    shard(path, good)
    shard(path, members, mode="a")
    unpacked = unpack_shards([path], tmp_path / "out", max_rejected=0.25)
    assert (unpacked.samples, dict(unpacked.left_out)) == (3, {reason: 1})
    assert sorted(file.name for file in (tmp_path / "out" / "imgs").rglob("*.*")) == ["0.jpg", "1.jpg", "2.jpg"]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["out", "shards"]
    with pytest.raises(AnnotationError, match=rf"1 of 4 samples cannot be used \(allowed: 20%\): x.tar: .*{reason}"):
        unpack_shards([path], tmp_path / "again", max_rejected=0.2)
    assert not (tmp_path / "again").exists()


def test_an_unsorted_shard_says_which_rule_it_breaks(tmp_path: Path) -> None:
    names = [f"{number}.{suffix}" for suffix in ("jpg", "txt") for number in range(3)]
    path = shard(tmp_path / "x.tar", dict.fromkeys(names, b"x"))
    with pytest.raises(AnnotationError) as caught:
        unpack_shards([path], tmp_path / "out")
    assert "(scattered); " in str(caught.value)
    assert ". scattered: the files of a sample do not stand next to each other" in str(caught.value)
    assert "tar --sort=name" in str(caught.value)


def test_dots_in_names_say_where_a_key_ends(tmp_path: Path) -> None:
    members = {f"cam1.{number}.{suffix}": b"x" for number in range(6) for suffix in ("jpg", "txt")}
    with pytest.raises(AnnotationError, match=r"cam1 \(dots\)\. dots: WebDataset ends a key at the first dot"):
        unpack_shards([shard(tmp_path / "x.tar", members)], tmp_path / "out")
    fine = {"v1.0/0.jpg": jpeg(0), "v1.0/0.mask.png": b"x", "v1.0/0.txt": "a man"}  # of a folder, of a second picture
    assert unpack_shards([shard(tmp_path / "y.tar", fine)], tmp_path / "out").samples == 1


def test_a_key_twice_in_a_row_is_no_quiet_overwriting(tmp_path: Path) -> None:
    path = shard(tmp_path / "x.tar", {"0.jpg": jpeg(0), "0.txt": "one"})
    shard(path, {"0.jpg": jpeg(200), "0.txt": "two"}, mode="a")
    with pytest.raises(AnnotationError, match=r"0 \(repeated\)\. repeated: .* a key of its own"):
        unpack_shards([path], tmp_path / "out")


def test_what_macos_adds_to_a_tar_file_is_skipped(tmp_path: Path) -> None:
    members = {"./._0.jpg": b"\0\5\x16\7", "./0.jpg": jpeg(0), "./._0.txt": b"x", "./0.txt": "a man", ".DS_Store": b""}
    unpacked = unpack_shards([shard(tmp_path / "x.tar", members)], tmp_path / "out")
    assert (unpacked.samples, unpacked.left_out.total()) == (1, 0)


def test_a_giant_member_is_not_read(tmp_path: Path) -> None:
    members: dict[str, Any] = {"0.jpg": jpeg(0), "0.txt": "a", "1.jpg": b"\0" * (LARGEST_MEMBER + 1), "1.txt": "b"}
    unpacked = unpack_shards([shard(tmp_path / "x.tar", members)], tmp_path / "out", max_rejected=0.5)
    assert dict(unpacked.left_out) == {"too-large": 1}


@pytest.mark.parametrize("cut", [0, 512, 700, 1024, 5 * 1024 + 100, 6 * 1024])
def test_a_cut_shard_is_an_error_and_leaves_nothing(cut: int, tmp_path: Path) -> None:
    path, other = two_shards(tmp_path / "shards")
    whole = path.read_bytes()
    assert len(whole) > 6 * 1024
    path.write_bytes(whole[:cut])
    with pytest.raises(AnnotationError, match=r"000000\.tar: damaged or cut off after \d samples: .*fetch it again"):
        unpack_shards([path, other], tmp_path / "out")
    assert [file.name for file in tmp_path.iterdir()] == ["shards"]


@pytest.mark.parametrize("compression", ["gz", "bz2", "xz"])
def test_a_compressed_shard_is_refused(compression: str, tmp_path: Path) -> None:
    path = shard(tmp_path / "x.tar", {"0.jpg": jpeg(0), "0.txt": "one"}, mode=f"w:{compression}")
    with pytest.raises(AnnotationError, match=r"x\.tar: is compressed; decompress it first"):
        unpack_shards([path], tmp_path / "out")


def test_what_is_no_tar_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n" * 20)
    with pytest.raises(AnnotationError, match=r"x\.tar: not a tar file, whatever its name"):
        unpack_shards([tmp_path / "x.tar"], tmp_path / "out")
    (tmp_path / "x.tar").write_bytes(b"\x28\xb5\x2f\xfd" + bytes(1024))
    with pytest.raises(AnnotationError, match=r"x\.tar: is compressed"):
        unpack_shards([tmp_path / "x.tar"], tmp_path / "out")


def test_what_other_programs_left_in_a_shard_is_skipped_and_counted(tmp_path: Path) -> None:
    left = {f"{place}{name}": jpeg(1) for place in ("@eaDir/", "x/__MACOSX/") for name in ("0.jpg", "0.txt")}
    path = shard(tmp_path / "x.tar", {"./._0.jpg": b"x", **left, "./0.jpg": jpeg(0), "./0.txt": "a man"})
    unpacked = unpack_shards([path], tmp_path / "out")
    assert (unpacked.samples, unpacked.left_out) == (1, {})
    assert unpacked.by_products == {"@eaDir": 2, "__MACOSX": 2, "._*": 1}


def test_all_samples_name_people_or_none_does(tmp_path: Path) -> None:
    annotated: dict[str, Any] = {"0.jpg": jpeg(0), "0.txt": "a", "0.json": {"identity": 1, "split": "test"}}
    plain: dict[str, Any] = {"1.jpg": jpeg(1), "1.txt": "b", "1.json": {"identity": 1}}
    for members, which in (
        ({**annotated, **plain}, "'1' has no identity"),
        ({**plain, **annotated}, "'0' has identity"),
    ):
        path = shard(tmp_path / "x.tar", members)
        with pytest.raises(AnnotationError, match=which):
            unpack_shards([path], tmp_path / "out")


def test_no_caption_at_all_is_an_error(tmp_path: Path) -> None:
    path = shard(tmp_path / "x.tar", {"0.jpg": jpeg(0), "0.json": {"identity": 1, "split": "test"}})
    with pytest.raises(AnnotationError, match="no sample of these shards has a caption"):
        unpack_shards([path], tmp_path / "out")


def test_an_existing_folder_is_kept(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(ArtifactError, match="exists already"):
        unpack_shards(two_shards(tmp_path / "shards"), tmp_path / "out")


def test_shards_are_named_by_file_folder_or_pattern(tmp_path: Path) -> None:
    shards = two_shards(tmp_path / "s")
    assert list_shards(str(shards[1])) == shards[1:]
    assert list_shards(str(tmp_path / "s")) == shards
    assert list_shards(str(tmp_path / "s" / "{000000..000001}.tar")) == shards
    assert list_shards(str(tmp_path / "s" / "00000{0..1}.tar")) == shards
    nested = shard(tmp_path / "b-1" / "2.tar", {"0.txt": "a"})
    assert list_shards(str(tmp_path / "b-{1..1}" / "{2..2}.tar")) == [nested]
    for pattern, missing in (("{000000..000002}.tar", "000002.tar"), ("x.tar", "x.tar")):
        with pytest.raises(AnnotationError, match=f"no such shards: .*{missing}"):
            list_shards(str(tmp_path / "s" / pattern))
    (tmp_path / "empty").mkdir()
    with pytest.raises(AnnotationError, match=r"no file \*\.tar in this folder"):
        list_shards(str(tmp_path / "empty"))
