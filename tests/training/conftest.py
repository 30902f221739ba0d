"""A corpus a small model learns in seconds (two blocks of colour, and sentences that name them), and that model."""

import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from textreid.captions.table import CaptionRow, write_captions
from textreid.config import Config
from textreid.models import Model
from textreid.presets import tiny
from textreid.runlog import RunLog
from textreid.training import captioned_images, train

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


@dataclass(frozen=True)
class Validating:
    """A validation set that is measured by any function."""

    measure: Callable[[Model], Mapping[str, float]]
    name: str = "a validation set"
    images: frozenset[str] = frozenset()
    people: frozenset[tuple[str, int]] = frozenset()


def train_on(corpus: Corpus, config: Config, out: Path, **options: Any) -> Model:
    """Train on a corpus without a word on the console, unless a log is given."""
    options.setdefault("log", RunLog(out, console=False))
    return train(config, captioned_images(corpus.images, corpus.captions), out, **options)


def draw_outfit(outfit: tuple[str, str], rng: np.random.Generator, warm: bool = False) -> Image.Image:
    """Two blocks of colour with noise; ``warm`` light shifts them."""
    pixels = np.concatenate([np.full((16, 16, 3), COLOURS[colour]) for colour in outfit])
    cast = np.array([80, 0, -80]) if warm else 0
    return Image.fromarray(np.clip(pixels + cast + rng.normal(0, 12, pixels.shape), 0, 255).astype(np.uint8))


def write_corpus(folder: Path, images: int, seed: int = 0, broken: tuple[int, ...] = ()) -> Corpus:
    """``images`` pictures with two captions each; those with an index in ``broken`` cannot be decoded."""
    rng = np.random.default_rng(seed)
    outfits = [OUTFITS[int(rng.integers(len(OUTFITS)))] for _ in range(images)]
    root = folder / "imgs"
    root.mkdir(parents=True)
    rows = []
    for index, outfit in enumerate(outfits):
        name = f"{index:04}.png"
        draw_outfit(outfit, rng).save(root / name)
        if index in broken:
            (root / name).write_bytes((root / name).read_bytes()[:100])
        rows += [
            CaptionRow(name, f"m/{slot}", pattern.format(*outfit), "m", "static", "", "", seed)
            for slot, pattern in enumerate(PATTERNS)
        ]
    write_captions(folder / "captions", rows)
    return Corpus(root, folder / "captions", outfits)


def write_people(folder: Path, splits: dict[str, int], images_each: int, seed: int = 0) -> Path:
    """A folder in CUHK-PEDES form: an outfit is an identity; pictures have a warm cast, sentences another pattern.

    ``splits`` gives the number of identities of each; nobody is in two.
    """
    rng = np.random.default_rng(seed)
    (folder / "imgs").mkdir(parents=True)
    order = [OUTFITS[index] for index in rng.permutation(len(OUTFITS))]
    names = [split for split, count in splits.items() for _ in range(count)]
    entries = []
    for identity, (split, outfit) in enumerate(zip(names, order, strict=False)):
        top, bottom = outfit
        captions = [f"{top} shirt and {bottom} pants", f"wears {bottom} pants below a {top} shirt"]
        for shot in range(images_each):
            name = f"{identity:03}_{shot}.png"
            draw_outfit(outfit, rng, warm=True).save(folder / "imgs" / name)
            # Numbers of identities skip, as they do in the benchmarks.
            entries.append({"split": split, "captions": captions, "file_path": name, "id": 10 * identity + 3})
    (folder / "reid_raw.json").write_text(json.dumps(entries))
    return folder


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
def make_people() -> Callable[..., Path]:
    return write_people


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
                "training.precision=fp32", "optimizer.min_warmup_steps=0",
                *assignments,
            ]
        )  # fmt: skip

    return make
