"""``textreid evaluate`` as a user meets it: a real model folder, real files, a real process."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from textreid.config import ModelConfig
from textreid.models import Model, Tokenizer, initialize

COLOURS = {"red": (200, 30, 30), "green": (30, 140, 50), "blue": (40, 80, 180), "yellow": (230, 200, 60)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``data/``: eight pictures of four people; ``model/``: a model that has learned nothing."""
    folder = tmp_path_factory.mktemp("evaluate")
    entries, captions = [], [f"a {colour} coat" for colour in COLOURS]
    (folder / "data" / "imgs").mkdir(parents=True)
    for i, rgb in enumerate(list(COLOURS.values()) * 2):
        Image.new("RGB", (32, 64), rgb).save(folder / "data" / "imgs" / f"{i}.png")
        entries.append({"split": "test", "id": i % 4 + 1, "file_path": f"{i}.png", "captions": [captions[i % 4]]})
    (folder / "data" / "reid_raw.json").write_text(json.dumps(entries), encoding="utf-8")
    tokenizer = Tokenizer.learn(captions, 300)
    config = ModelConfig(
        image_height=32, image_width=16, patch_size=8, vision_width=32, vision_layers=2, vision_heads=2,
        text_width=32, text_layers=2, text_heads=2, embedding_dim=16, tokenizer="own",
        text_length=tokenizer.text_length, vocabulary_size=tokenizer.vocabulary_size,
    )  # fmt: skip
    Model(initialize(config), tokenizer).save(folder / "model", card="# Learned nothing\n")
    return folder


def evaluate(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from textreid.cli import main; main()", "evaluate", *arguments]
    environment = {**os.environ, "COLUMNS": "120", "NO_COLOR": "1"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=folder)


def test_table_report_and_json_agree(folder: Path) -> None:
    printed = evaluate(folder, "model", "--dataset", "data", "--baseline", "--out", "out/report.json")
    assert (printed.returncode, printed.stderr) == (0, "")
    assert "data / test: text to image, %" in printed.stdout
    assert "8 images of 4 people, 8 queries" in printed.stdout
    model, baseline = json.loads((folder / "out" / "report.json").read_text(encoding="utf-8"))["evaluations"]
    assert (model["name"], baseline["name"]) == ("model", "colour histograms")
    assert baseline["scores"]["R1"] == 1.0
    assert model["chance"]["R1"] == 0.25
    assert f"{100 * model['scores']['mAP']:.2f}" in printed.stdout
    again = evaluate(folder, "model", "--dataset", "data", "--json")
    assert json.loads(again.stdout)["evaluations"] == [model]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["model", "--dataset", "data/imgs"], 1, "give that folder"),
        (["model", "--dataset", "data", "--split", "val"], 1, "no split 'val'; there are: test (8 images)"),
        (["nowhere", "--dataset", "data"], 1, "nowhere"),
        (["model"], 2, "--dataset"),
        (["model", "--dataset", "data", "--max-rejected", "2"], 2, "--max-rejected"),
    ],
)
def test_an_error_is_one_line(arguments: list[str], code: int, message: str, folder: Path) -> None:
    result = evaluate(folder, *arguments)
    assert (result.returncode, result.stdout) == (code, "")
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
