from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoTokenizer, CLIPImageProcessor, CLIPModel

from textreid.artifacts import read_json, write_json
from textreid.config import ModelConfig
from textreid.errors import ArtifactError, ModelError
from textreid.gallery.encoder import GalleryEncoder
from textreid.models import Model, Tokenizer, initialize, load_model
from textreid.models.export.huggingface import export_huggingface

SENTENCES = ["A woman, red jacket & blue jeans.", "", "man " * 60, "a photo of a cat"]


def with_patches(config: ModelConfig, tokenizer: Tokenizer, height: int, width: int) -> Model:
    shape = replace(
        config,
        stem="patch",
        image_height=height,
        image_width=width,
        tokenizer="clip" if tokenizer.vocabulary_size == 49_408 else "own",
        vocabulary_size=tokenizer.vocabulary_size,
        text_length=tokenizer.text_length,
        activation="quick_gelu",
        interpolation="bilinear" if height == width else "bicubic",
        reduced_decoding=width != 32,
        pixel_mean=(0.4, 0.5, 0.6),
    )
    encoder = initialize(shape, seed=4)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return Model(encoder, tokenizer, selected_on="a validation split", training_text=("qwen", "shikra"))


@pytest.mark.parametrize(("height", "width"), [(64, 64), (96, 32), (64, 32), (48, 80)])
@pytest.mark.parametrize("vocabulary", ["own", "clip"])
@torch.inference_mode()
@pytest.mark.slow
def test_transformers_gives_the_same_features(
    vocabulary: str, height: int, width: int, config: ModelConfig, tokenizer: Tokenizer,
    pictures: list[Image.Image], tmp_path: Path,
) -> None:  # fmt: skip
    model = with_patches(config, tokenizer if vocabulary == "own" else Tokenizer.clip(20), height, width)
    folder = tmp_path / "exported"
    export_huggingface(model, folder, "# Card\n\nMade of nothing.\n", license_id="mit")

    loaded: Any = CLIPModel.from_pretrained(folder, output_loading_info=True)
    clip, report = loaded
    assert not any(report.values()), report
    pixels = CLIPImageProcessor.from_pretrained(folder)(pictures, return_tensors="pt")
    texts = AutoTokenizer.from_pretrained(folder)(SENTENCES, padding=True, truncation=True, return_tensors="pt")
    found = clip.eval()(**pixels, **texts, interpolate_pos_encoding=height != width)
    images, words = model.encode_images(pictures), model.encode_texts(SENTENCES)
    assert np.abs(found.image_embeds.numpy() - images).max() < 1e-5
    assert np.abs(found.text_embeds.numpy() - words).max() < 1e-5
    assert np.abs(images[0] - images[1]).max() > 1e-3

    again = load_model(folder)
    assert replace(again.config, weights=None) == model.config
    assert again.selected_on == "a validation split"
    assert again.training_text == ("qwen", "shikra")
    assert np.abs(again.encode_images(pictures) - images).max() < 1e-5
    assert np.array_equal(again.encode_texts(SENTENCES), words)


def test_the_card_says_what_is_known(config: ModelConfig, tokenizer: Tokenizer, tmp_path: Path) -> None:
    model = with_patches(config, tokenizer, 96, 32)
    export_huggingface(model, tmp_path / "known", "# Card\n\n## Data\n", license_id="apache-2.0")
    export_huggingface(model, tmp_path / "unknown", "# Card\n")
    known, unknown = ((tmp_path / name / "README.md").read_text() for name in ("known", "unknown"))
    assert known.startswith("---\nlicense: apache-2.0\n")
    assert "\n### Card\n\n#### Data\n" in known
    assert "interpolate_pos_encoding=True" in known
    assert "Intended use and limits" in known
    assert "\nlicense: unknown\n" in unknown
    assert "not stated" in unknown


def test_what_transformers_cannot_hold_is_refused(model: Model, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no convolutional stem"):
        export_huggingface(model, tmp_path / "out", "# Card\n")
    assert not (tmp_path / "out").exists()


def test_a_search_takes_the_folder(config: ModelConfig, tokenizer: Tokenizer, tmp_path: Path) -> None:
    model = with_patches(config, tokenizer, 96, 32)
    export_huggingface(model, tmp_path / "out", "# Card\n")
    vector, _ = GalleryEncoder(tmp_path / "out", "fp32").encode_query("red jacket")
    assert vector == pytest.approx(model.encode_texts(["red jacket"])[0], abs=1e-6)


def test_a_damaged_section_and_an_existing_folder_are_named(
    config: ModelConfig, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    model = with_patches(config, tokenizer, 96, 32)
    export_huggingface(model, tmp_path / "out", "# Card\n")
    with pytest.raises(ArtifactError, match="exists already"):
        export_huggingface(model, tmp_path / "out", "# Card\n")
    values = read_json(tmp_path / "out" / "config.json")
    del values["textreid"]["image_width"]
    write_json(tmp_path / "out" / "config.json", values)
    with pytest.raises(ModelError, match=r"config\.json: textreid: damaged"):
        load_model(tmp_path / "out")
