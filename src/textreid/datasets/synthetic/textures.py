"""Noise fields and cloth textures, made once per process from a fixed seed and cropped at random afterwards."""

from functools import cache

import numpy as np
import numpy.typing as npt
from PIL import Image

from textreid.datasets.synthetic.canvas import Texture
from textreid.datasets.synthetic.chance import Chance, generator

Field = npt.NDArray[np.float32]
_SIDE = 640


def crop(field: Field, height: int, width: int, chance: Chance) -> Field:
    """A random window of a field."""
    top = chance.whole(0, field.shape[0] - height + 1)
    left = chance.whole(0, field.shape[1] - width + 1)
    return field[top : top + height, left : left + width]


@cache
def noise(across: int, down: int) -> Field:
    """Smooth noise in about [-1, 1] whose features are ``across`` × ``down`` pixels."""
    rng = generator("noise", across, down)
    return _stretch(rng, max(2, _SIDE // down), max(2, _SIDE // across))


@cache
def grain() -> Field:
    """White noise of unit variance (a sum of uniforms), one value a pixel, three channels."""
    values = generator("grain").integers(0, 256, size=(4, _SIDE, _SIDE, 3), dtype=np.int64).sum(axis=0)
    return ((values.astype(np.float32) - np.float32(510)) / np.float32(147.8)).astype(np.float32)


@cache
def cloth(texture: Texture, scale: int) -> Field:
    """Change of light on a cloth; ``scale`` is the canvas height it is made for, in 128ths."""
    u = scale / 2
    if texture == "folds":
        return 0.13 * _folds(u, 10, 7) + 0.10 * _folds(u, 24, 16)
    if texture == "drape":
        return 0.14 * _folds(u, 8, 48) + 0.08 * _folds(u, 20, 30)
    if texture == "denim":
        return 0.08 * _folds(u, 9, 12) + 0.09 * _folds(u, 16, 22) + 0.04 * noise(2, 2)
    if texture == "knit":
        return 0.09 * _folds(u, 14, 10) + 0.05 * noise(2, 3)
    if texture == "hair":
        return 0.16 * _folds(u, 3, 14) + 0.10 * _folds(u, 8, 8)
    if texture == "quilt":
        return _quilt(u)
    return np.zeros((_SIDE, _SIDE), np.float32)


def _folds(u: float, across: float, down: float) -> Field:
    """Noise bent into ridges: creases are narrow and dark, the cloth between them is broad."""
    field = noise(max(2, int(across * u)), max(2, int(down * u)))
    return np.minimum(field, np.float32(0.35) - np.float32(0.3) * field).astype(np.float32)


def _quilt(u: float) -> Field:
    period = 9.0 * u
    rows = np.arange(_SIDE, dtype=np.float32)[:, None] + 3.0 * np.float32(u) * noise(int(60 * u), int(40 * u))
    phase = rows / np.float32(period)
    phase = phase - np.floor(phase)
    bulge = np.float32(1) - np.float32(4) * (phase - np.float32(0.5)) * (phase - np.float32(0.5))
    return (np.float32(0.42) * bulge - np.float32(0.30) + np.float32(0.12) * _folds(u, 9, 5)).astype(np.float32)


def _stretch(rng: np.random.Generator, rows: int, columns: int) -> Field:
    small = rng.integers(0, 256, size=(rows, columns), dtype=np.uint8)
    large = Image.fromarray(small).resize((_SIDE, _SIDE), Image.Resampling.BICUBIC)
    return ((np.asarray(large, np.float32) - np.float32(127.5)) / np.float32(90)).astype(np.float32)
