"""A corpus a small model learns in seconds (two blocks of colour, and sentences that name them), and that model."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from textreid.config import Config
from textreid.datasets.captions import CaptionRow, write_captions
from textreid.presets import tiny

COLOURS = {
    "red": (200, 30, 30), "green": (30, 160, 40), "blue": (30, 50, 200), "white": (240, 240, 240),
    "black": (15, 15, 15), "yellow": (230, 220, 40), "purple": (120, 30, 140), "orange": (240, 140, 20),
}  # fmt: skip
OUTFITS = list(itertools.product(COLOURS, COLOURS))
PATTERNS = ("a {} top over {} trousers", "the trousers are {1}, the top is {0}")

ConfigMaker = Callable[..., Config]


@dataclass(frozen=True)
class Corpus:
    images: Path
    captions: Path
    outfits: list[tuple[str, str]]  # of each image, in the order of their names


def write_corpus(folder: Path, images: int, seed: int = 0, broken: tuple[int, ...] = ()) -> Corpus:
    """``images`` pictures with two captions each; those with an index in ``broken`` cannot be decoded."""
    rng = np.random.default_rng(seed)
    outfits = [OUTFITS[int(rng.integers(len(OUTFITS)))] for _ in range(images)]
    root = folder / "imgs"
    root.mkdir(parents=True)
    rows = []
    for index, outfit in enumerate(outfits):
        name = f"{index:04}.png"
        pixels = np.concatenate([np.full((16, 16, 3), COLOURS[colour]) for colour in outfit])
        noisy = np.clip(pixels + rng.normal(0, 12, pixels.shape), 0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(root / name)
        if index in broken:
            (root / name).write_bytes((root / name).read_bytes()[:100])
        rows += [
            CaptionRow(name, f"m/{slot}", pattern.format(*outfit), "m", "static", "", "", seed)
            for slot, pattern in enumerate(PATTERNS)
        ]
    write_captions(folder / "captions", rows)
    return Corpus(root, folder / "captions", outfits)


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """Small products gain nothing from threads, and wait for each other on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def no_plots() -> Iterator[None]:
    """Drawing takes longer than a small run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("textreid.training.recipe.plot_run", lambda metrics: [])
        yield


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return write_corpus(tmp_path_factory.mktemp("corpus"), images=60)


@pytest.fixture(scope="session")
def make_corpus() -> Callable[..., Corpus]:
    return write_corpus


@pytest.fixture(scope="session")
def small_config() -> ConfigMaker:
    """Settings of a two-layer model of 32 dimensions, with further ``section.name=value`` assignments."""

    def make(*assignments: str) -> Config:
        return tiny().override(
            [
                "model.image_height=32", "model.image_width=16", "model.patch_size=8", "model.stem=patch",
                "model.vision_width=32", "model.vision_layers=2", "model.vision_heads=2",
                "model.text_width=32", "model.text_layers=2", "model.text_heads=2", "model.text_length=24",
                "model.embedding_dim=32", "model.vocabulary_size=300", "masking.layer=2", "augmentation.pad=1",
                "training.epochs=3", "training.batch_size=16", "training.log_every=1", "training.captions_per_image=1",
                "training.precision=fp32",
                *assignments,
            ]
        )  # fmt: skip

    return make
