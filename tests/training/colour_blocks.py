"""A corpus a small model learns in seconds: two blocks of colour, and the sentence that names them."""

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from textreid.config import Config
from textreid.datasets.captions import CaptionRow, write_captions
from textreid.presets import tiny

COLOURS = {
    "red": (200, 30, 30), "green": (30, 160, 40), "blue": (30, 50, 200), "white": (240, 240, 240),
    "black": (15, 15, 15), "yellow": (230, 220, 40), "purple": (120, 30, 140), "orange": (240, 140, 20),
}  # fmt: skip
PATTERNS = ("a {} top over {} trousers", "the trousers are {1}, the top is {0}")


def write_corpus(folder: Path, images: int, seed: int = 0, names: Sequence[str] = tuple(COLOURS)) -> tuple[Path, Path]:
    """Write ``images`` pictures and two captions of each; returns the image root and the caption table."""
    rng = np.random.default_rng(seed)
    outfits = list(itertools.product(names, names))
    rows = []
    (folder / "imgs").mkdir(parents=True)
    for index in range(images):
        top, bottom = outfits[int(rng.integers(len(outfits)))]
        pixels = np.concatenate([np.full((16, 16, 3), COLOURS[name]) for name in (top, bottom)])
        noisy = np.clip(pixels + rng.normal(0, 12, pixels.shape), 0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(folder / "imgs" / f"{index:04}.png")
        rows += [
            CaptionRow(f"{index:04}.png", f"m/{slot}", pattern.format(top, bottom), "m", "static", "", "", seed)
            for slot, pattern in enumerate(PATTERNS)
        ]
    write_captions(folder / "captions", rows)
    return folder / "imgs", folder / "captions"


def small_config(*assignments: str) -> Config:
    """A two-layer model of 32 dimensions that trains on the corpus for two epochs."""
    return tiny().override(
        [
            "model.image_height=32", "model.image_width=16", "model.patch_size=8", "model.stem=patch",
            "model.vision_width=32", "model.vision_layers=2", "model.vision_heads=2", "model.text_width=32",
            "model.text_layers=2", "model.text_heads=2", "model.text_length=24", "model.embedding_dim=32",
            "model.vocabulary_size=300", "masking.layer=2", "augmentation.pad=1", "augmentation.flip=0.5",
            "training.epochs=2", "training.batch_size=16", "training.log_every=1", "training.precision=fp32",
            *assignments,
        ]
    )  # fmt: skip
