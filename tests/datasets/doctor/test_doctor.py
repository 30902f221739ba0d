"""The examination of benchmarks, caption tables and folders, with every defect planted once."""

import hashlib
import io
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from rich.console import Console
from tests.datasets.layouts import Entry, entries_of, patchwork, path_of, write_annotations, write_benchmark

from textreid.captions.table import CaptionRow, write_captions
from textreid.datasets.benchmarks import Counts, read_benchmark
from textreid.datasets.doctor.examination import Diagnosis, diagnosis_tables, examine
from textreid.datasets.doctor.findings import RULES
from textreid.datasets.doctor.survey import near_equal, survey
from textreid.errors import ConfigError, DataError
from textreid.images import read_suffixes
from textreid.reporting.tables import to_terminal


def found(diagnosis: Diagnosis) -> dict[str, int]:
    return {finding.rule: finding.count for finding in diagnosis.findings}


def examples(diagnosis: Diagnosis, rule: str) -> str:
    (finding,) = (finding for finding in diagnosis.findings if finding.rule == rule)
    return "\n".join(finding.examples)


def printed(diagnosis: Diagnosis) -> str:
    stream = io.StringIO()
    Console(file=stream, width=160).print(to_terminal(diagnosis_tables(diagnosis), 160))
    return stream.getvalue()


def test_a_healthy_benchmark(tmp_path: Path) -> None:
    entries = write_benchmark(tmp_path, "cuhk-pedes")
    reported: list[tuple[int, int]] = []
    diagnosis = examine(tmp_path, progress=lambda done, total: reported.append((done, total)))
    assert (diagnosis.form, diagnosis.guessed, diagnosis.healthy) == ("generic", True, True)
    assert found(diagnosis) == {}
    assert diagnosis.splits == {"train": Counts(12, 24, 6), "test": Counts(6, 12, 3)}
    assert diagnosis.sizes == {"width": [32, 32, 32], "height": [64, 64, 64], "aspect": [2, 2, 2]}
    assert (diagnosis.decoded, len(entries)) == (18, 18)
    assert reported == [(done, 18) for done in range(1, 19)]
    assert "--benchmark cuhk-pedes checks its size" in printed(diagnosis)
    assert "nothing wrong, 0 to note" in printed(diagnosis)


def test_the_size_of_a_named_benchmark_is_checked(tmp_path: Path) -> None:
    write_benchmark(tmp_path, "icfg-pedes")
    diagnosis = examine(tmp_path)  # its file name says which it is
    assert (diagnosis.form, diagnosis.healthy) == ("icfg-pedes", False)
    assert found(diagnosis) == {"counts": 2}
    assert "ICFG-PEDES: 6 test images (expected 19,848)" in printed(diagnosis).replace("\n", " ")


def plant(folder: Path) -> list[Entry]:
    """A benchmark with each defect once, or as often as the test says; images are numbered in the order of entries."""
    entries = entries_of("rstpreid", {"train": 8, "test": 4})
    images = folder / "imgs"
    write_benchmark(folder, "rstpreid", {"train": 8, "test": 4})
    at = [images / path_of(entry) for entry in entries]
    at[0].unlink()  # absent
    at[1].write_bytes(at[1].read_bytes()[:200])  # unreadable: cut
    at[2].write_text("<!DOCTYPE html><title>Sign in</title>")  # unreadable: a page
    shutil.copy(at[4], at[5])  # the same file twice of one person
    pixels = Image.open(at[6]).convert("RGB")
    pixels.save(at[8].with_suffix(".png"))
    at[8].with_suffix(".png").rename(at[8])  # equal pixels in another file, of another person
    shutil.copy(at[10], at[17])  # the same picture in train and in test
    patchwork(100, (12, 40)).save(at[12])  # small
    Image.new("RGB", (32, 64), "blue").save(images / "nobody.jpg")  # not listed
    Image.new("RGB", (32, 64), "blue").save(at[14])  # blank
    patchwork(101, (96, 64)).save(at[16])  # wide
    patchwork(102, (96, 192)).save(at[18])
    patchwork(102, (96, 192)).resize((64, 128)).save(at[23])  # the same in another size, of another person
    patchwork(103, (96, 192)).save(at[20], quality=95)
    at[20].write_bytes(at[20].read_bytes()[:-2])  # cut
    (images / "phone.heic").touch()
    (images / "clip.mp4").touch()  # not read
    (images / "@eaDir").mkdir()  # a by-product
    (images / "Zoe\u0308.jpg").symlink_to(at[3])  # a decomposed name
    (images / os.fsdecode(b"\xff.png")).symlink_to("nowhere.png")  # a broken link
    shutil.copy(at[3], images / os.fsdecode(b"\xfe.png"))  # a name that is not UTF-8
    entries[14]["captions"] = ["", "Who is it?", "Who is it?"]  # an empty one, and one twice
    entries[15]["captions"] = []
    entries[20]["captions"][0] = entries[18]["captions"][0]  # of different people
    entries[13]["id"] = 11  # somebody of the test split
    entries += [entries[3] | {"captions": ["Once more."]}, entries[7] | {"id": 10_000}]
    write_annotations(folder, "rstpreid", entries)
    return entries


def test_every_defect_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    read_suffixes.cache_clear()
    plant(tmp_path)
    diagnosis = examine(tmp_path)
    assert found(diagnosis) == {
        "counts": 3, "absent": 1, "unreadable": 2, "contradicting": 1, "identity-in-splits": 1, "picture-of-two": 2,
        "picture-in-splits": 1, "useless-captions": 1, "repeated": 1, "no-captions": 1, "equal-pictures": 3,
        "caption-twice": 1, "caption-of-two": 1, "small": 1, "unlisted": 3, "blank": 1, "wide": 1, "near-equal": 1,
        "cut": 1, "not-read": 2, "by-products": 1, "decomposed-names": 1, "bytes-names": 1, "odd-entries": 1,
    }  # fmt: skip
    read_suffixes.cache_clear()
    assert set(found(diagnosis)) == set(RULES) - {"other-spelling"}
    assert not diagnosis.healthy
    assert examples(diagnosis, "absent") == "0000_c1_0000.jpg (absent)"
    assert "0000_c2_0000.jpg: a damaged JPEG file" in examples(diagnosis, "unreadable")
    assert "0001_c1_0001.jpg: not an image" in examples(diagnosis, "unreadable")
    assert examples(diagnosis, "identity-in-splits") == "11: test, train"
    assert "0003_c1_0003.jpg (3), 0004_c1_0004.jpg (4)" in examples(diagnosis, "picture-of-two")
    assert examples(diagnosis, "picture-in-splits") == "0005_c1_0005.jpg (train), 0008_c2_0008.jpg (test)"
    assert "0002_c2_0002.jpg = 0002_c1_0002.jpg" in examples(diagnosis, "equal-pictures")
    assert examples(diagnosis, "caption-twice") == "0007_c1_0007.jpg: Who is it?"
    assert "[9, 10]: Person 9 seen from camera 0, sentence 0." in examples(diagnosis, "caption-of-two")
    assert examples(diagnosis, "small") == "0006_c1_0006.jpg (12x40)"
    assert "nobody.jpg" in examples(diagnosis, "unlisted")
    assert examples(diagnosis, "blank") == "0007_c1_0007.jpg (one colour)"
    assert examples(diagnosis, "wide") == "0008_c1_0008.jpg (96x64)"
    assert examples(diagnosis, "near-equal") == "0011_c2_0011.jpg (11, test) ~ 0009_c1_0009.jpg (9, test)"
    assert examples(diagnosis, "cut") == "0010_c1_0010.jpg"
    assert examples(diagnosis, "not-read") == "1 .heic\n1 .mp4"
    assert examples(diagnosis, "by-products") == "1 @eaDir"
    assert "Zoe\\u0308.jpg" in examples(diagnosis, "decomposed-names")
    assert "\\udcfe.png" in examples(diagnosis, "bytes-names")
    assert examples(diagnosis, "odd-entries").endswith(".png: a broken link")
    text = printed(diagnosis)
    assert "9 wrong, 15 to note" in text
    assert all(rule.what.split()[0] in text for name, rule in RULES.items() if name != "other-spelling")


def test_findings_say_how_long_they_take_and_what_to_do(tmp_path: Path) -> None:
    plant(tmp_path)
    report = examine(tmp_path).to_dict()
    assert json.loads(json.dumps(report)) == report
    assert report["healthy"] is False
    by_rule = {finding["rule"]: finding for finding in report["findings"]}
    assert by_rule["picture-of-two"]["minutes"] == 1.0  # two groups, half a minute each
    assert by_rule["absent"]["minutes"] == 0
    assert by_rule["absent"]["advice"] == "unpack the archive of images again, wholly"
    assert [finding["wrong"] for finding in report["findings"]] == [True] * 9 + [False] * (len(report["findings"]) - 9)


def test_a_folder_of_images(tmp_path: Path) -> None:
    for number, size in enumerate([(30, 60), (50, 90), (40, 200)]):
        patchwork(number, size).save(tmp_path / f"{number}.png")
    shutil.copy(tmp_path / "1.png", tmp_path / "again.png")
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    diagnosis = examine(tmp_path)
    assert (diagnosis.form, diagnosis.splits) == ("images", {"all": Counts(5, 0, 0)})
    assert found(diagnosis) == {"unreadable": 1, "equal-pictures": 1}
    assert diagnosis.sizes == {"width": [30, 50, 50], "height": [60, 90, 200], "aspect": [1.8, 2, 5]}
    assert [json.loads(line)["image"] for line in diagnosis.manifest.lines] == ["0.png", "1.png", "2.png", "again.png"]


def caption_table(folder: Path) -> Path:
    texts = {"a.png": ["one", "one"], "b.png": ["two", ""], "gone.png": ["three"]}
    write_captions(
        folder / "table",
        (
            CaptionRow(image, f"m/static-{n}", text, "m", "static", "", "", 0)
            for image, captions in texts.items()
            for n, text in enumerate(captions)
        ),
    )
    (folder / "images").mkdir()
    for number, image in enumerate(["a.png", "b.png"]):
        patchwork(number).save(folder / "images" / image)
    return folder / "table"


def test_a_caption_table(tmp_path: Path) -> None:
    table = caption_table(tmp_path)
    alone = examine(table)
    assert (alone.form, alone.splits) == ("captions", {"all": Counts(3, 4, 0)})
    assert found(alone) == {"useless-captions": 1, "caption-twice": 1}
    assert examples(alone, "caption-twice") == "a.png"
    assert "content_sha256" not in alone.manifest.facts
    with_images = examine(table, images=tmp_path / "images")
    assert found(with_images) == {"absent": 1, "useless-captions": 1, "caption-twice": 1}
    assert with_images.decoded == 2
    assert [json.loads(line)["captions"] for line in with_images.manifest.lines] == [
        {"m/static-0": "one", "m/static-1": "one"}, {"m/static-0": "two"},
    ]  # fmt: skip


def test_a_table_and_a_folder_that_spell_names_differently(tmp_path: Path) -> None:
    names = ["caf\u00e9.png", "gone.png"]
    rows = (CaptionRow(name, "m/static", "a man", "m", "static", "", "", 0) for name in names)
    write_captions(tmp_path / "table", rows)
    (tmp_path / "images").mkdir()
    patchwork(0).save(tmp_path / "images" / "cafe\u0301.png")
    diagnosis = examine(tmp_path / "table", images=tmp_path / "images")
    assert found(diagnosis) == {"absent": 1, "other-spelling": 1, "decomposed-names": 1}
    assert examples(diagnosis, "other-spelling") == "'caf\\xe9.png'"
    assert diagnosis.decoded == 1


def test_copies_are_near_and_others_are_not(tmp_path: Path) -> None:
    names = [f"{number}.png" for number in range(60)]
    for number, name in enumerate(names):
        patchwork(number, (96, 192)).save(tmp_path / name)
    for number in range(0, 60, 2):
        copy = patchwork(number, (96, 192)).resize((60, 118))
        copy.save(tmp_path / f"copy{number}.jpg", quality=60)
        names.append(f"copy{number}.jpg")
    pictures = survey(tmp_path, names).pictures
    pairs = near_equal([pictures[name] for name in names])
    assert set(pairs) <= {(2 * n, 60 + n) for n in range(30)}
    assert len(pairs) >= 28
    assert near_equal([]) == []


def test_many_pictures_are_compared_in_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("textreid.datasets.doctor.survey._BLOCK", 8)
    for number in range(40):
        patchwork(number, (96, 192)).save(tmp_path / f"{number}.png")
        patchwork(number, (96, 192)).point(lambda value: 0.9 * value + 9).save(tmp_path / f"again{number}.png")
    pictures = survey(tmp_path, sorted(path.name for path in tmp_path.iterdir())).pictures
    names = list(pictures)
    pairs = near_equal(list(pictures.values()))
    assert {(names[one].removeprefix("again"), names[other]) for one, other in pairs} <= {
        (f"{number}.png", f"{number}.png") for number in range(40)
    } | {(f"{number}.png", f"again{number}.png") for number in range(40)}
    assert len(pairs) == 40


def refuse_released(folder: Path) -> None:
    (folder / "Ts-qwen.json").write_text("{}")


def refuse_shards(folder: Path) -> None:
    (folder / "000000.tar").touch()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (refuse_released, "released captions are imported first: textreid captions import"),
        (refuse_shards, "shards are unpacked first: textreid unpack"),
        (lambda _: None, "no images below this folder, and no benchmark or caption table"),
    ],
)
def test_what_cannot_be_examined_is_told(make: Any, message: str, tmp_path: Path) -> None:
    make(tmp_path)
    with pytest.raises(DataError, match=message):
        examine(tmp_path)


def test_a_form_that_is_not_known_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no such benchmark; did you mean cuhk-pedes\?"):
        examine(tmp_path, "cuhk")


def test_an_image_root_belongs_to_a_table(tmp_path: Path) -> None:
    write_benchmark(tmp_path, "rstpreid")
    with pytest.raises(DataError, match="an image root is needed for a caption table only"):
        examine(tmp_path, images=tmp_path)
    (tmp_path / "x.txt").touch()
    with pytest.raises(DataError, match=r"x\.txt: no table of annotations; give a folder"):
        examine(tmp_path / "x.txt")


def test_the_manifest_lists_what_can_be_used(tmp_path: Path) -> None:
    entries = plant(tmp_path / "data")
    manifest = examine(tmp_path / "data").manifest
    manifest.write(tmp_path / "manifest.jsonl")
    head, _, body = (tmp_path / "manifest.jsonl").read_text(encoding="utf-8").partition("\n")
    facts = json.loads(head)
    assert facts == manifest.facts
    assert facts["content_sha256"] == hashlib.sha256(body.encode()).hexdigest()
    lines = [json.loads(line) for line in body.splitlines()]
    assert [line["image"] for line in lines] == sorted(path_of(entry) for entry in entries[3:24])
    assert facts["images"] == len(lines) == 21  # 24, less one absent and two unreadable
    image = tmp_path / "data" / "imgs" / lines[0]["image"]
    assert lines[0]["sha256"] == hashlib.sha256(image.read_bytes()).hexdigest()
    assert {name: split["images"] for name, split in facts["splits"].items()} == {"train": 13, "test": 8}
    lists = [{key: value for key, value in line.items() if key != "sha256"} for line in lines]
    text = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lists)
    assert facts["list_sha256"] == hashlib.sha256(text.encode()).hexdigest()


def test_a_split_has_the_fingerprints_that_a_report_carries(tmp_path: Path) -> None:
    write_benchmark(tmp_path / "one", "rstpreid")
    entries = write_benchmark(tmp_path / "two", "rstpreid")
    write_annotations(tmp_path / "two", "rstpreid", entries[::-1])
    facts = [examine(tmp_path / name).manifest.facts for name in ("one", "two")]
    assert facts[0]["splits"] == facts[1]["splits"]
    test = read_benchmark("rstpreid", tmp_path / "two").split("test")
    before = facts[0]["splits"]["test"]
    assert before["list_sha256"] == test.list_fingerprint
    Image.new("RGB", (32, 64), "pink").save(test.image_root / test.records[0].image)
    after = examine(tmp_path / "two").manifest.facts["splits"]["test"]
    assert after["list_sha256"] == before["list_sha256"]
    assert after["content_sha256"] != before["content_sha256"]
