"""Every preset is a valid configuration that survives being written and read."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from textreid.config import Config
from textreid.errors import ConfigError, ResumeError
from textreid.models import load_model
from textreid.presets import PRESETS, preset, settings_of_run


def test_there_are_presets() -> None:
    assert {"tiny", "small", "paper", "fast", "finetune"} <= set(PRESETS)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_valid_and_survives_a_file(name: str, tmp_path: Path) -> None:
    config = preset(name)
    assert config.contradictions() == []
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config.to_dict()), encoding="utf-8")
    assert Config.load(path) == config


def test_the_paper_preset_is_the_paper() -> None:
    config = preset("paper")
    assert (config.model.image_height, config.model.image_width, config.model.patch_size) == (384, 128, 16)
    assert config.model.interpolation == "bilinear"  # as its release resizes pictures
    assert (config.masking.method, config.masking.probability, config.masking.layer) == ("nam", 0.15, 10)
    assert (config.losses.sdm, config.losses.itc, config.losses.temperature) == (1.0, 0.0, 0.02)
    assert (config.training.epochs, config.training.batch_size, config.training.epoch_unit) == (30, 512, "pair")
    assert (config.optimizer.learning_rate, config.optimizer.warmup_epochs) == (1e-5, 5)


@pytest.mark.parametrize("name", ["small", "tiny"])
def test_the_bundled_models_have_the_shapes_of_their_presets(name: str) -> None:
    bundled = load_model(name).config
    shape = replace(preset(name).model, trunk_weights=None, vocabulary_size=bundled.vocabulary_size)
    assert bundled == shape


def test_the_fast_preset_is_the_paper_with_four_captions_an_image() -> None:
    fast, paper = preset("fast"), preset("paper")
    training = fast.training
    assert (training.epoch_unit, training.captions_per_image, training.batch_size) == ("image", 4, 128)
    assert training.batch_size * training.captions_per_image == paper.training.batch_size
    assert replace(fast, training=paper.training) == paper


def test_the_finetune_preset_is_the_recipe_of_irra() -> None:
    config = preset("finetune")
    assert config.losses.weights() == {"sdm": 1.0, "id": 1.0, "mlm": 1.0}
    assert (config.masking.method, config.masking.probability) == ("em", 0.15)
    optimizer, training = config.optimizer, config.training
    assert (optimizer.head_lr_multiplier, optimizer.bias_lr_multiplier, optimizer.decay_biases) == (5.0, 2.0, False)
    assert (optimizer.learning_rate, optimizer.epsilon, optimizer.warmup_epochs) == (1e-5, 1e-8, 5.0)
    assert (training.epochs, training.batch_size, training.epoch_unit) == (60, 64, "pair")
    assert (training.precision, training.select) == ("auto", "validation")
    assert config.augmentation == preset("paper").augmentation


def test_an_unknown_preset_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"no preset 'tinny'; did you mean tiny\?"):
        preset("tinny")
    with pytest.raises(ConfigError, match="known: tiny, small, clip-vit-b16, paper, fast, finetune"):
        preset("zzz")


def test_a_run_that_goes_on_starts_from_its_own_settings(tmp_path: Path) -> None:
    with pytest.raises(ResumeError, match="no run to resume; start it without --resume"):
        settings_of_run(tmp_path)
    config = preset("tiny").override(["training.epochs=3"])
    (tmp_path / "config.json").write_text(json.dumps(config.to_dict()))
    assert settings_of_run(tmp_path) == config
