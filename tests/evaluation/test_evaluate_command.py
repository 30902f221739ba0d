"""``textreid evaluate`` as a user meets it: a real model folder, real files, a real process."""

import json
import os
import shutil
from functools import partial
from pathlib import Path

import pytest
from PIL import Image
from tests.commands import Run, textreid

from textreid.config import ModelConfig
from textreid.models import Model, Tokenizer, initialize

pytestmark = pytest.mark.slow

COLOURS = {"red": (200, 30, 30), "green": (30, 140, 50), "blue": (40, 80, 180), "yellow": (230, 200, 60)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``data/`` and ``more/``: eight pictures of four people; ``model/``: a model that has learned nothing."""
    folder = tmp_path_factory.mktemp("evaluate")
    entries, captions = [], [f"a {colour} coat" for colour in COLOURS]
    (folder / "data" / "imgs").mkdir(parents=True)
    for i, rgb in enumerate(list(COLOURS.values()) * 2):
        Image.new("RGB", (32, 64), rgb).save(folder / "data" / "imgs" / f"{i}.png")
        entries.append({"split": "test", "id": i % 4 + 1, "file_path": f"{i}.png", "captions": [captions[i % 4]]})
    shutil.copytree(folder / "data", folder / "more")
    (folder / "more" / "reid_raw.json").write_text(json.dumps(entries), encoding="utf-8")
    for i in (8, 9):
        Image.new("RGB", (32, 64), "grey").save(folder / "data" / "imgs" / f"{i}.png")
        entries.append({"split": "train", "id": i, "file_path": f"{i}.png", "captions": ["a grey coat"]})
    (folder / "data" / "reid_raw.json").write_text(json.dumps(entries), encoding="utf-8")
    tokenizer = Tokenizer.learn(captions, 300)
    config = ModelConfig(
        image_height=32, image_width=16, patch_size=8, vision_width=32, vision_layers=2, vision_heads=2,
        text_width=32, text_layers=2, text_heads=2, embedding_dim=16, tokenizer="own",
        text_length=tokenizer.text_length, vocabulary_size=tokenizer.vocabulary_size,
    )  # fmt: skip
    Model(initialize(config), tokenizer).save(folder / "model", card="# Learned nothing\n")
    return folder


def test_everything_at_once(folder: Path) -> None:
    """Tables, report and page agree; a model that cannot be loaded does not lose the others' results."""
    printed = textreid(
        "evaluate", "model", "nowhere", "--benchmark", "data", "--dataset", "generic=more", "--baseline",
        "--image-to-text", "--words", "--swaps", "--report", "out", "--failures", "out/failures.html",
        before=partial(os.chdir, folder), COLUMNS="120", NO_COLOR="1",
    )  # fmt: skip
    assert printed.returncode == 1
    assert printed.stderr.splitlines() == [
        f"textreid: nowhere on {name}: nowhere: no such file or folder" for name in ("data", "more")
    ]
    for text in (
        "data / test: text to image, %",
        "more / test: image to text, %",
        "Across benchmarks",
        "Not evaluated",
    ):
        assert text in printed.stdout
    assert "8 images of 4 people, 8 queries" in printed.stdout
    report = json.loads((folder / "out" / "report.json").read_text(encoding="utf-8"))
    rows = {(row["model"], row["benchmark"]): row for row in report["evaluations"]}
    assert set(rows) == {(model, data) for model in ("model", "colour histograms") for data in ("data", "more")}
    assert rows["colour histograms", "data"]["text_to_image"]["scores"]["R1"] == 1.0
    model = rows["model", "data"]
    assert model["text_to_image"]["chance"]["R1"] == 0.25
    assert f"{100 * model['text_to_image']['scores']['mAP']:.2f}" in printed.stdout
    assert model["image_to_text"]["queries"] == 8
    assert model["words"] == []
    assert {path.name for path in (folder / "out").iterdir()} == {
        "report.json", "report.md", "report.tex", "failures.html",
    }  # fmt: skip
    assert (folder / "out" / "failures.html").read_text(encoding="utf-8").count("<section") == 4


@pytest.fixture
def evaluate(folder: Path, monkeypatch: pytest.MonkeyPatch, textreid: Run) -> Run:
    """The command in this process, in the folder."""
    monkeypatch.chdir(folder)
    return partial(textreid, "evaluate")


def test_json_is_the_report(evaluate: Run) -> None:
    code, data, said = evaluate("model", "--benchmark", "data", "--json", "--split", "val")
    assert (code, said) == (0, "")
    (evaluation,) = json.loads(data)["evaluations"]
    # No split of that name: a tenth of the two people in the training split.
    assert (evaluation["split"], evaluation["identities"], evaluation["images"]) == ("validation", 1, 1)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["model", "--benchmark", "data/imgs"], 1, "give that folder"),
        (["model", "--benchmark", "more", "--split", "train"], 1, "no split 'train'; there are: test (8 images)"),
        (["nowhere", "--benchmark", "data"], 1, "nowhere: no such file or folder"),
        (["model", "--benchmark", "cuhk-pede=data"], 2, "did you mean cuhk-pedes?"),
        (["model", "--benchmark", "icfg-pedes=data"], 1, "read it as cuhk-pedes"),
        (["model", "--benchmark", "nowhere"], 1, "nowhere: no such folder"),
        (
            ["model", "--benchmark", "data", "--benchmark", "data"],
            2,
            "data, data; name one as in --benchmark mine=FOLDER",
        ),
        (["model", "model", "--benchmark", "data"], 2, "a model is named twice"),
        (["model"], 2, "--benchmark"),
        (["model", "--benchmark", "data", "--split", "dev"], 2, "--split"),
        (["model", "--benchmark", "data", "--max-rejected", "2"], 2, "--max-rejected"),
    ],
)
def test_an_error_is_one_line(arguments: list[str], code: int, message: str, evaluate: Run) -> None:
    found, data, said = evaluate(*arguments)
    assert (found, data) == (code, "")
    assert message in said
    assert said.count("\n") == 1


def test_all_that_fails_is_one_error(evaluate: Run, folder: Path) -> None:
    code, _, said = evaluate("a", "b", "--benchmark", "data", "--report", "none")
    assert (code, said) == (1, "textreid: all 2 evaluations failed; the first: a: no such file or folder\n")
    assert not (folder / "none").exists()
