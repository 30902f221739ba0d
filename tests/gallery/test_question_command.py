"""``textreid search`` with questions of several parts, of a folder and of a gallery."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.captioning.server import Server
from tests.commands import Done, Run

from textreid.cli.question import QuestionWords
from textreid.errors import ConfigError
from textreid.gallery.query.evidence import check_evidence
from textreid.gallery.store import Database

pytestmark = pytest.mark.slow

QUERY = "a woman in a red jacket"
MakeCrops = Callable[..., Path]


@pytest.fixture(autouse=True)
def _workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def run(make_crops: MakeCrops, model_folder: Path, textreid: Run) -> Run:
    """A function that searches twelve crops, of which one is there twice."""
    folder = make_crops(12)
    (folder / "copy.png").write_bytes((folder / "3.png").read_bytes())
    return lambda *arguments: textreid("search", *arguments, "--images", folder, "--model", model_folder)


def answer_of(result: Done) -> dict[str, Any]:
    assert result.returncode == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_every_part_of_a_question_is_understood(run: Run, tmp_path: Path) -> None:
    picture = tmp_path / "crops" / "3.png"
    found = answer_of(
        run(QUERY, "--also", "a man with a backpack", "--like", picture, "--without", "a hat", "--group", "--json")
    )
    assert found["query"] == f"{QUERY} · a man with a backpack · like 3.png · without a hat"
    first = found["results"][0]
    # The model has random weights, and sees little difference between noise and noise.
    assert {Path(first["path"]).name, *(Path(path).name for path in first["alike"])} >= {"3.png", "copy.png"}
    assert len(found["results"]) < 12
    judged = answer_of(run(QUERY, "--right", "crops/5.png", "--wrong", "crops/3.png", "--json", "--top", "20"))
    names = [Path(result["path"]).name for result in judged["results"]]
    assert len(names) == 12
    assert "3.png" not in names
    pictures_alone = answer_of(run("--like", picture, "--json"))
    assert pictures_alone["results"][0]["score"] == pytest.approx(1, abs=1e-3)


def test_nobody_and_evidence_are_told_and_written(run: Run, tmp_path: Path) -> None:
    result = run(QUERY, "--nobody", "--prior", "0.2", "--evidence", "out.zip", "--json", "--top", "3")
    verdict = answer_of(result)["verdict"]
    assert verdict["answer"] in ("somebody", "nobody", "unclear")
    assert 0 < verdict["probability"] < 0.9
    assert f"probability {verdict['probability']:.2f}" in result.stderr
    assert "evidence: out.zip, SHA-256 " in result.stderr
    assert check_evidence(tmp_path / "out.zip") == 5
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        content = json.loads(archive.read("results.json"))
    assert content["query"] == QUERY
    assert len(content["model_sha256"]) == 64
    assert content["searched"].endswith("crops: 13 images")
    assert [Path(one["facts"]["file"]).parent.name for one in content["results"]] == ["crops"] * 3


def test_a_language_model_rewrites_the_query(run: Run) -> None:
    with Server(answer=lambda question: "1. a lady in a red coat\n2. a woman wears a red jacket") as server:
        result = run("femme en veste rouge", "--rewrite", f"qwen={server.url}#sim", "--json")
        found = answer_of(result)
        assert len(server.questions) == 1
    lines = result.stderr.splitlines()
    assert lines[0].startswith("the query, without pictures, goes to http://127.0.0.1")
    assert lines[1:3] == ["in other words: a lady in a red coat", "in other words: a woman wears a red jacket"]
    assert found["query"] == "femme en veste rouge"
    plain = answer_of(run("femme en veste rouge", "--json"))
    assert [hit["score"] for hit in plain["results"]] != [hit["score"] for hit in found["results"]]


def test_a_gallery_is_asked_the_same(
    database: Database, make_crops: MakeCrops, model_folder: Path, textreid: Run, tmp_path: Path
) -> None:
    crops = make_crops(12)
    assert textreid("index", crops, "--gallery", "demo", "--model", model_folder).returncode == 0

    def ask(*arguments: str | Path) -> Done:
        return textreid("search", *arguments, "--gallery", "demo", "--json")

    first = answer_of(ask(QUERY, "--no-group", "--top", "12"))
    assert len(first["results"]) == 12
    grouped = answer_of(ask(QUERY, "--top", "12"))["results"]
    assert sum(1 + len(result["alike"]) for result in grouped) == 12
    assert len(grouped) < 12
    judged = (str(first["results"][5]["crop"]), "crops/3.png")
    found = answer_of(
        ask(QUERY, "--also", "a man", "--without", "a hat", "--right", judged[0], "--wrong", judged[1], "--no-group")
    )
    assert found["query"] == f"{QUERY} · a man · without a hat"
    assert "3.png" not in {Path(result["path"]).name for result in found["results"]}
    alike = answer_of(ask("--like", crops / "7.png", "--no-group"))
    assert Path(alike["results"][0]["path"]).name == "7.png"
    number = alike["results"][0]["crop"]
    by_number = answer_of(ask("--like", str(number), "--no-group"))
    assert (by_number["query"], by_number["results"][0]["crop"]) == (f"like crop {number}", number)
    rows = [f"{QUERY} and {n} trousers,crops/{n}.png" for n in range(10)]
    (tmp_path / "pairs.csv").write_text("\n".join(["sentence,image", *rows]), encoding="utf-8")
    told = ask(QUERY, "--nobody", "--labelled", "pairs.csv", "--evidence", "out.zip", "--no-group", "--top", "2")
    assert 0 < answer_of(told)["verdict"]["probability"] < 1
    assert check_evidence(tmp_path / "out.zip") == 4
    strengths = database.store("demo").fact("match_strengths")
    assert len(strengths) == 10
    assert ask(QUERY, "--right", "nowhere.png").returncode == 1


def test_a_question_for_nobody_is_one_line(run: Run) -> None:
    result = run()
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == "textreid: nothing to look for: give a sentence, or a picture with --like\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (QuestionWords(QUERY, prior=0.5, like=[Path("1.png")]), "--nobody: is known of sentences alone"),
        (QuestionWords(QUERY, evidence=Path("out.tar")), r"--evidence out\.tar: evidence is a \.zip file"),
        (QuestionWords(QUERY, rewrite="http://127.0.0.1/v1#m"), "--rewrite: expected NAME=URL#MODEL"),
        (QuestionWords(QUERY, prior=1.0), "--prior: expected a probability above 0 and below 1, got 1"),
        (QuestionWords("", without=["a hat"]), "nothing to look for"),
    ],
)
def test_what_cannot_be_meant_is_refused(words: QuestionWords, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        words.read()
