"""A corpus on disk: its form, its truth, its independence of workers, and what a bad one is told."""

import json
import os
import signal
from pathlib import Path

import pytest
from PIL import Image

from textreid.artifacts import read_manifest
from textreid.cli.app import app
from textreid.datasets.benchmarks import read_benchmark
from textreid.errors import AnnotationError, ArtifactError, ConfigError
from textreid.synthetic import DOMAINS, read_people, write_corpus
from textreid.synthetic.drawing.render import Shot


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpora") / "street"
    write_corpus(folder, "street", identities=5, images_per_identity=3, seed=4, split="test")
    return folder


def _contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def test_workers_do_not_change_a_byte(corpus: Path, tmp_path: Path) -> None:
    write_corpus(tmp_path / "two", "street", identities=5, images_per_identity=3, seed=4, split="test", workers=2)
    first, second = _contents(corpus), _contents(tmp_path / "two")
    assert len(first) == 15 + 3
    assert first == second


def _killed(*_: object) -> Shot:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def test_a_worker_that_is_killed_ends_the_job(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="ended from outside"):
        write_corpus(tmp_path / "killed", "street", 3, 1, seed=4, workers=2, renderer=_killed)
    assert not (tmp_path / "killed").exists()


def test_the_truth_and_the_annotation_fit_the_images(corpus: Path) -> None:
    people = read_people(corpus)
    names = {file.name for file in (corpus / "imgs").iterdir()}
    rows = json.loads((corpus / "reid_raw.json").read_text())
    assert names == {row["file_path"] for row in rows}
    assert set(people) == {f"imgs/{name}" for name in names}
    assert len(people) == 15
    identities: dict[int, set[str]] = {}
    for row in rows:
        assert set(row) == {"split", "captions", "file_path", "id"}
        assert row["split"] == "test"
        assert len(row["captions"]) == 2
        assert all(caption.strip() for caption in row["captions"])
        identities.setdefault(row["id"], set()).add(json.dumps(people[f"imgs/{row['file_path']}"][0].to_dict()))
    assert sorted(identities) == [1, 2, 3, 4, 5]
    assert all(len(persons) == 1 for persons in identities.values())
    low = min(camera.heights[0] for camera in DOMAINS["street"].cameras)
    high = max(camera.heights[1] for camera in DOMAINS["street"].cameras)
    for name in names:
        with Image.open(corpus / "imgs" / name) as image:
            assert image.format == "JPEG"
            assert low <= image.height <= high


def test_the_benchmark_reader_reads_it(corpus: Path) -> None:
    benchmark = read_benchmark("generic", corpus)
    assert len(benchmark.records) == 15
    assert not benchmark.rejected


def test_the_truth_of_several_corpora_is_read_from_their_common_root(tmp_path: Path) -> None:
    for number, domain in enumerate(("street", "mall")):
        write_corpus(tmp_path / domain, domain, 1, 2, seed=4, first_identity=number)
    people = read_people(tmp_path)
    assert [path.split("/")[:2] for path in sorted(people)] == 2 * [["mall", "imgs"]] + 2 * [["street", "imgs"]]
    assert all((tmp_path / path).is_file() for path in people)


def test_the_manifest_states_the_corpus(corpus: Path) -> None:
    manifest = read_manifest(corpus, "synthetic-corpus", 1)
    assert manifest["images"] == 15
    assert (manifest["domain"], manifest["seed"], manifest["identities"]) == ("street", 4, 5)
    assert len(manifest["fingerprint"]) == 64


def test_ranges_of_identities_share_nobody_and_can_be_made_apart(corpus: Path, tmp_path: Path) -> None:
    write_corpus(tmp_path / "late", "street", 2, 3, seed=4, first_identity=3)
    late = read_people(tmp_path / "late")
    whole = read_people(corpus)
    assert set(late) < set(whole)
    assert all(whole[name] == truth for name, truth in late.items())


def test_images_of_a_person_come_from_different_cameras(tmp_path: Path) -> None:
    write_corpus(tmp_path / "mall", "mall", 3, 6, seed=0)
    rows = [json.loads(line) for line in (tmp_path / "mall" / "people.jsonl").read_text().splitlines()]
    for identity in range(3):
        assert sorted(row["camera"] for row in rows if row["identity"] == identity) == [0, 1, 2, 3, 4, 5]


def test_other_seeds_are_other_people(corpus: Path, tmp_path: Path) -> None:
    write_corpus(tmp_path / "other", "street", 5, 3, seed=5)
    first = [truth[0] for truth in read_people(corpus).values()]
    second = [truth[0] for truth in read_people(tmp_path / "other").values()]
    assert first != second


def test_progress_counts_images(tmp_path: Path) -> None:
    seen: list[int] = []
    write_corpus(tmp_path / "p", "night", 3, 2, seed=0, progress=seen.append)
    assert seen == [2, 4, 6]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("beach", 1, 1, 0), "beach.*street"),
        (("street", 0, 1, 0), "identities.*0"),
        (("street", 1, 0, 0), "images per identity.*0"),
    ],
)
def test_impossible_orders_are_refused(tmp_path: Path, arguments: tuple[str, int, int, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        write_corpus(tmp_path / "x", *arguments)
    assert not list(tmp_path.iterdir())


def test_an_existing_folder_is_left_alone(corpus: Path) -> None:
    before = _contents(corpus)
    with pytest.raises(ArtifactError, match="exists already"):
        write_corpus(corpus, "street", 1, 1, 0)
    assert _contents(corpus) == before


def test_a_broken_truth_is_named(corpus: Path, tmp_path: Path) -> None:
    write_corpus(tmp_path / "c", "street", 2, 1, 0)
    path = tmp_path / "c" / "people.jsonl"
    text = path.read_text()
    path.write_text(text.replace('"identity"', '"idEntity"').replace('"gender"', '"gendEr"', 1))
    with pytest.raises(AnnotationError, match="line 1"):
        read_people(tmp_path / "c")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ArtifactError, match="no synthetic corpus"):
        read_people(tmp_path / "empty")


def test_the_command_prints_the_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "made"
    arguments = ["synthesize", str(out), "--domain", "campus", "--identities", "2", "--images", "2", "--seed", "1"]
    app(args=arguments, prog_name="textreid", standalone_mode=False)
    captured = capsys.readouterr()
    assert (captured.out.strip(), captured.err) == (str(out), "")  # a short task shows nothing off a terminal
    assert len(read_people(out)) == 4
