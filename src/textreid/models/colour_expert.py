"""Colour names as an expert that stands beside a network: independent of it, and as good on photographs as on drawings.

Its features tell where a person wears more of a colour than people usually do. What is usual was found on drawn people
by ``recipes/colour_expert.py``, and is bundled; nothing else is fitted.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from textreid.artifacts import fingerprint, read_json
from textreid.errors import ModelError
from textreid.models.colour_names import ColourNames, Floats

COLOURS = "colours"  # what it is called where models are named
USUAL = Path(__file__).parent / "bundled" / "colours.json"


def names_of_pixels() -> ColourNames:
    """Make what the expert reads pictures with: at three quarters of the baseline's size as good, thrice as fast."""
    return ColourNames(48, 24)


class ColourExpert:
    """Encoder of pictures and sentences by colour names; D is bands × colour words.

    Attributes:
        weight: of its cosine beside those of networks.
        fingerprint: of its constants, and of what is usual.
    """

    weight = 1.0

    def __init__(self, mean: Floats, deviation: Floats) -> None:
        """Take what is usual: mean and standard deviation (D,) of `ColourNames` features of pictures."""
        self._names = names_of_pixels()
        self._mean, self._deviation = mean, deviation
        self.fingerprint = fingerprint([self._names.fingerprint, mean.tolist(), deviation.tolist()])

    @classmethod
    @cache
    def load(cls) -> Self:
        """Read the one that is bundled.

        Raises:
            ArtifactError: its file cannot be read.
            ModelError: the file is damaged.
        """
        content = read_json(USUAL)
        try:
            mean, deviation = (np.array(content[name], np.float32) for name in ("mean", "deviation"))
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"{USUAL}: damaged: expected lists of numbers, mean and deviation") from error
        expected = names_of_pixels().dimension
        if not mean.shape == deviation.shape == (expected,) or not (deviation > 0).all():
            raise ModelError(f"{USUAL}: damaged: expected {expected} numbers in mean and in deviation")
        return cls(mean, deviation)

    @property
    def dimension(self) -> int:
        """Numbers of a feature."""
        return len(self._mean)

    def encode_pixels(self, pixels: npt.NDArray[np.uint8]) -> Floats:
        """Encode pictures (N, 3, H, W) of any size: (N, D), each of length 1."""
        return unit((self._names.describe(pixels) - self._mean) / self._deviation)

    def encode_texts(self, texts: Sequence[str]) -> Floats:
        """Encode N sentences: (N, D), each of length 1, or 0 where no garment has a colour."""
        return unit(self._names.encode_texts(texts))


def unit(features: Floats) -> Floats:
    """Bring rows (N, D) to length 1; what is 0 stays 0."""
    scaled: Floats = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), np.float32(1e-12))
    return scaled
