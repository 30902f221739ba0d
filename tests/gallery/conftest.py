"""A small model with random weights and small pictures: enough to rank, and quick."""

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from textreid.config import ModelConfig
from textreid.models import Model, Tokenizer, initialize

WORDS = ["a woman in a red jacket and blue trousers", "a man with a black coat and a backpack"]
SHAPE = ModelConfig(
    image_height=64,
    image_width=32,
    patch_size=16,
    vision_width=32,
    vision_layers=2,
    vision_heads=2,
    text_width=32,
    text_layers=2,
    text_heads=2,
    text_length=16,
    embedding_dim=16,
    tokenizer="own",
    vocabulary_size=300,
)

if TYPE_CHECKING:
    from textreid.gallery.store import Database

MakeCrops = Callable[..., Path]


def save_model(folder: Path, seed: int) -> Path:
    tokenizer = Tokenizer.learn(WORDS * 20, SHAPE.vocabulary_size, SHAPE.text_length)
    shape = ModelConfig(**{**vars(SHAPE), "vocabulary_size": tokenizer.vocabulary_size})
    Model(initialize(shape, seed), tokenizer).save(folder, "a model with random weights, for tests\n")
    return folder


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("models") / "first", seed=0)


@pytest.fixture(scope="session")
def other_model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("models") / "second", seed=1)


@pytest.fixture
def make_crops(tmp_path: Path) -> MakeCrops:
    """A function that fills a folder with ``count`` pictures, each another, with names 0.png, 1.png, …"""

    def make(count: int, folder: str = "crops", seed: int = 0) -> Path:
        root = tmp_path / folder
        root.mkdir(exist_ok=True)
        generator = np.random.default_rng(seed)
        for number in range(count):
            blocks = generator.integers(0, 256, (8, 4, 3), np.uint8)
            Image.fromarray(blocks).resize((24, 56), Image.Resampling.NEAREST).save(root / f"{number}.png")
        return root

    return make


@pytest.fixture(scope="session")
def gallery_data() -> Iterator[Path]:
    """A data folder whose PostgreSQL server runs as long as the tests of a process do."""
    from textreid.gallery.store.server import embedded_server

    # Not below pytest's own folder, which is closed to the user that root's server runs as.
    with tempfile.TemporaryDirectory(prefix="textreid-test-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        with embedded_server(folder) as server:
            yield folder
            server.close()
            server.wait_stopped()


@pytest.fixture
def database(gallery_data: Path, monkeypatch: pytest.MonkeyPatch) -> "Iterator[Database]":
    """The database that `open_database` and the commands use in this test, empty."""
    from textreid.gallery.store import open_database

    monkeypatch.setenv("TEXTREID_DATA", os.fspath(gallery_data))
    with open_database() as opened:
        yield opened
        for info in opened.galleries():
            opened.delete(info.name)
