"""``textreid doctor`` and ``textreid unpack`` as a user types them."""

import json
from pathlib import Path

import pytest
from PIL import Image
from tests.commands import Run
from tests.datasets.layouts import write_benchmark
from tests.datasets.test_shards import shard, two_shards


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, textreid: Run) -> Run:
    """The command line in ``tmp_path``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    return textreid


def test_doctor_of_a_healthy_folder(run: Run, tmp_path: Path) -> None:
    write_benchmark(tmp_path / "people", "cuhk-pedes")
    code, out, error = run("doctor", "people", "--manifest", "people.jsonl")
    assert (code, error) == (0, "manifest: people.jsonl\n")
    assert "nothing wrong, 0 to note" in out
    assert "decoded 18 images in " in out
    assert len((tmp_path / "people.jsonl").read_text().splitlines()) == 19


def test_doctor_of_a_sick_one(run: Run, tmp_path: Path) -> None:
    write_benchmark(tmp_path / "people", "cuhk-pedes")
    code, out, error = run("doctor", "people", "--benchmark", "cuhk-pedes", "--json")
    assert (code, error) == (1, "")
    report = json.loads(out)
    assert [finding["rule"] for finding in report["findings"]] == ["counts"]
    assert report["verdicts"][1]["text"].startswith("CUHK-PEDES: no val images; no entry is of split 'val'")
    code, out, error = run("doctor", "people/imgs", "--benchmark", "cuhk-pedes")
    assert (code, out) == (1, "")
    assert error == (
        f"textreid: people/imgs: has no reid_raw.json, but {tmp_path.resolve()}/people has; give that folder\n"
    )
    assert run("doctor", "people", "--benchmark", "cuhk-pedse")[0] == 2
    for arguments in (["people", "--benchmark", "mine"], ["--benchmark", "mine=people"]):  # any label, as of evaluate
        assert run("doctor", *arguments)[0] == 0
    assert run("doctor", "people", "--benchmark", "mine=people")[0] == 0
    assert "two places to look at" in run("doctor", "people", "--benchmark", "mine=others")[2]
    assert run("doctor", "--benchmark", "generic=people")[0] == 0
    assert run("doctor")[0] == 2


def test_unpack_then_doctor(run: Run, tmp_path: Path) -> None:
    two_shards(tmp_path / "shards")
    code, out, error = run("unpack", "shards/{000000..000001}.tar", "--out", "people", "--json")
    assert (code, json.loads(out)) == (0, {"samples": 6, "captions": 6})
    assert run("doctor", "people", "--benchmark", "generic")[0] == 0
    code, out, error = run("unpack", "shards", "--out", "people")
    assert (code, out) == (1, "")
    assert "people: exists already" in error


def test_unpack_says_what_comes_next(run: Run, tmp_path: Path) -> None:
    Image.new("RGB", (8, 16)).save(tmp_path / "0.png")
    shard(tmp_path / "x.tar", {"0.png": (tmp_path / "0.png").read_bytes(), "0.txt": "a man"})
    code, out, error = run("unpack", "x.tar", "--out", "out", "--writer", "human")
    assert (code, out.split()) == (0, ["samples", "1", "captions", "1"])
    assert error == "next: textreid pretrain --images out/imgs --captions out/captions --out RUN\n"


def test_unpack_says_what_was_left_out_and_how_to_mend_it(run: Run, tmp_path: Path) -> None:
    members = {"0.jpg": b"x", "0.txt": "a man", "1.jpg": b"x", "2.jpg": b"x", "2.txt": "a woman", "1.txt": "late"}
    shard(tmp_path / "x.tar", members)
    code, out, error = run("unpack", "x.tar", "--out", "out", "--max-rejected", "0.9")
    assert (code, out.split()[:2]) == (0, ["samples", "2"])
    lines = error.splitlines()
    assert lines[0].startswith("left out, scattered: the files of a sample do not stand next to each other")
    assert lines[0].endswith("the first: x.tar: 1 (scattered)")
    assert lines[1] == (
        "left out, no-captions: neither a caption (in KEY.txt, or as caption or captions in KEY.json) nor a person; "
        "the first: x.tar: 1 (no-captions)"
    )
