from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from textreid.config import ModelConfig
from textreid.models import Model, Tokenizer, initialize

WORDS = ("woman", "man", "red", "blue", "green", "jacket", "coat", "jeans", "skirt", "backpack", "handbag", "shoes")


@pytest.fixture(scope="session")
def captions() -> list[str]:
    rng = np.random.default_rng(0)
    return [f"A {' '.join(rng.choice(WORDS, size=rng.integers(2, 9)))}." for _ in range(200)]


@pytest.fixture(scope="session")
def tokenizer(captions: list[str]) -> Tokenizer:
    return Tokenizer.learn(captions, 320, text_length=24)


@pytest.fixture(scope="session")
def config(tokenizer: Tokenizer) -> ModelConfig:
    return ModelConfig(
        image_height=64,
        image_width=32,
        patch_size=16,
        stem="convolutional",
        vision_width=32,
        vision_layers=3,
        vision_heads=2,
        text_width=48,
        text_layers=2,
        text_heads=3,
        text_length=24,
        embedding_dim=20,
        activation="gelu",
        tokenizer="own",
        vocabulary_size=tokenizer.vocabulary_size,
    )


@pytest.fixture(scope="session")
def model(config: ModelConfig, tokenizer: Tokenizer) -> Model:
    return Model(initialize(config, seed=3), tokenizer)


@pytest.fixture
def folder(model: Model, tmp_path: Path) -> Path:
    model.save(tmp_path / "model", "# A model for tests\n")
    return tmp_path / "model"


@pytest.fixture(scope="session")
def pictures() -> list[Image.Image]:
    rng = np.random.default_rng(1)
    return [
        Image.fromarray(rng.integers(0, 256, (6, 4, 3), dtype=np.uint8)).resize((30 + 3 * n, 70)) for n in range(13)
    ]
