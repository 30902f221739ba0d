"""``textreid convert`` as a user meets it, in this process: torch is imported once."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from textreid.cli.app import app
from textreid.config import ModelConfig
from textreid.models import Model, OnnxModel, Tokenizer, initialize, load_model
from textreid.synthetic import write_corpus

pytestmark = pytest.mark.slow


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["convert", *map(str, arguments)], catch_exceptions=True)


def test_to_a_model_folder_of_another_image_size(folder: Path, tmp_path: Path, pictures: list[Image.Image]) -> None:
    result = run(folder, tmp_path / "out", "--image-size", "96x32", "--json")
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert "position_embedding.weight resized from 4x2 to 6x2 patches" in result.stderr
    converted = load_model(tmp_path / "out")
    assert (said["form"], said["fingerprint"]) == ("model", converted.fingerprint)
    assert said["bytes"] == sum(file.stat().st_size for file in (tmp_path / "out").iterdir())
    expected = load_model(folder, image_size=(96, 32)).encode_images(pictures)
    assert np.array_equal(converted.encode_images(pictures), expected)
    card = (tmp_path / "out" / "card.md").read_text()
    assert card.startswith("# A model for tests\n")
    assert "for images of 96 by 32 pixels" in card


def test_int8_is_measured_on_the_given_benchmark(config: ModelConfig, tokenizer: Tokenizer, tmp_path: Path) -> None:
    model = Model(initialize(replace(config, stem="patch", vision_layers=1, text_layers=1), seed=6), tokenizer)
    model.save(tmp_path / "exact", "# Small\n")
    write_corpus(tmp_path / "people", "station", 6, 2, seed=3)
    result = run(tmp_path / "exact", tmp_path / "out", "--to", "onnx", "--int8", "--measure", tmp_path / "people")
    assert result.exit_code == 0, result.output
    paths = sorted((tmp_path / "people" / "imgs").iterdir())
    exported = OnnxModel.load(tmp_path / "out")
    cosines = (exported.encode_images(paths) * model.encode_images(paths)).sum(axis=1)
    assert "12 images, 24 captions" in result.stdout
    assert f"images {cosines.mean():.4f} on average and {cosines.min():.4f} at least" in result.stdout
    assert "| R1 |" in result.stdout
    card = (tmp_path / "out" / "card.md").read_text()
    assert "## Loss by 8-bit integers" in card
    assert result.stdout.split("\n\n")[0] in card


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--int8"], "--int8 needs --to onnx"),
        (["--to", "onnx", "--measure", "x"], "--measure needs --int8"),
        (["--license", "mit"], "--license needs --to huggingface"),
        (["--image-size", "384"], "not a size like 384x128"),
        (["--to", "onxx"], "onxx"),
    ],
)
def test_contradictory_options_are_refused(options: list[str], message: str, folder: Path, tmp_path: Path) -> None:
    result = run(folder, tmp_path / "out", *options)
    assert result.exit_code == 2
    assert message in result.output
    assert not (tmp_path / "out").exists()


def test_a_failed_measurement_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    result = run(folder, tmp_path / "out", "--to", "onnx", "--int8", "--measure", tmp_path / "nothing")
    assert result.exit_code == 1
    assert "nothing" in str(result.exception)
    assert not (tmp_path / "out").exists()
