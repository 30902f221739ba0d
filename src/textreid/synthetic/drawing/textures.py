"""Noise fields and cloth textures, made once per process from a fixed seed and cropped at random afterwards."""

from functools import cache

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from textreid.seeding import Chance, generator
from textreid.synthetic.drawing.canvas import Texture
from textreid.synthetic.palette import from_hsv

Field = npt.NDArray[np.float32]
# Wider and taller than any canvas: 384 rows grow to 500 at most where the crop cuts the feet off.
_SIDE = 640


def crop(field: Field, height: int, width: int, chance: Chance) -> Field:
    """Cut a random window of a field."""
    top = chance.whole(0, field.shape[0] - height + 1)
    left = chance.whole(0, field.shape[1] - width + 1)
    return field[top : top + height, left : left + width]


@cache
def noise(across: int, down: int) -> Field:
    """Make smooth noise in about [-1, 1] whose features are ``across`` × ``down`` pixels."""
    rng = generator("noise", across, down)
    return _stretch(rng, max(2, _SIDE // down), max(2, _SIDE // across))


@cache
def grain() -> Field:
    """Make white noise of unit variance (a sum of uniforms), one value a pixel, three channels."""
    values = generator("grain").integers(0, 256, size=(4, _SIDE, _SIDE, 3), dtype=np.int64).sum(axis=0)
    # Four bytes have the mean 510 and the standard deviation 147.8. Numpy's normal distribution would call the
    # platform's `exp` and `log`.
    field: Field = (values.astype(np.float32) - np.float32(510)) / np.float32(147.8)
    return field


@cache
def cloth(texture: Texture, scale: int) -> Field:
    """Make the change of light on a cloth; ``scale`` is the canvas height it is made for, in 128ths."""
    u = scale / 2
    layers: dict[Texture, tuple[tuple[float, Field], ...]] = {
        "folds": ((0.13, _folds(u, 10, 7)), (0.10, _folds(u, 24, 16))),
        "drape": ((0.14, _folds(u, 8, 48)), (0.08, _folds(u, 20, 30))),
        "denim": ((0.08, _folds(u, 9, 12)), (0.09, _folds(u, 16, 22)), (0.04, noise(2, 2))),
        "knit": ((0.09, _folds(u, 14, 10)), (0.05, noise(2, 3))),
        "hair": ((0.16, _folds(u, 3, 14)), (0.10, _folds(u, 8, 8))),
        "quilt": ((1.0, _quilt(u)),),
    }
    total: Field = np.zeros((_SIDE, _SIDE), np.float32)
    for strength, layer in layers.get(texture, ()):
        total += np.float32(strength) * layer
    return total


@cache
def litter(number: int) -> Image.Image:
    """Make a heap of shapes of all sizes that hide each other, as the edges of real places do; RGB."""
    chance = Chance.of("litter", number)
    side = _SIDE // 2
    image = Image.new("RGB", (side, side), (110, 110, 108))
    draw = ImageDraw.Draw(image)
    for step in range(900):
        # From large to small, or the large ones would hide all others.
        reach = side * 0.5 / (1.0 + step * 0.06) * chance.between(0.4, 1.6) + 2
        x, y = chance.between(-0.1, 1.0) * side, chance.between(-0.1, 1.0) * side
        hue = chance.pick((28.0, 35.0, 90.0, 110.0, 210.0, 220.0)) if chance.happens(0.8) else chance.between(0, 360)
        # Mostly near 0: streets are grey, with a few bright signs.
        vivid = chance.unit() * chance.unit() * chance.unit()
        red, green, blue = from_hsv(hue, 0.08 + 0.75 * vivid, chance.between(0.08, 0.96))
        wide, tall = reach * chance.between(0.3, 1.0), reach * chance.between(0.4, 1.4)
        box = (x, y, x + wide, y + tall)
        (draw.rectangle if chance.happens(0.75) else draw.ellipse)(box, fill=(int(red), int(green), int(blue)))
    return image


def _folds(u: float, across: float, down: float) -> Field:
    """Make noise bent into ridges: creases are narrow and dark, the cloth between them is broad."""
    field = noise(max(2, int(across * u)), max(2, int(down * u)))
    ridged: Field = np.minimum(field, np.float32(0.35) - np.float32(0.3) * field)
    return ridged


def _quilt(u: float) -> Field:
    period = 9.0 * u
    rows = np.arange(_SIDE, dtype=np.float32)[:, None] + 3.0 * np.float32(u) * noise(int(60 * u), int(40 * u))
    phase = rows / np.float32(period)
    phase = phase - np.floor(phase)
    bulge = np.float32(1) - np.float32(4) * (phase - np.float32(0.5)) * (phase - np.float32(0.5))
    field: Field = np.float32(0.30) * bulge - np.float32(0.21) + np.float32(0.12) * _folds(u, 9, 5)
    return field


def _stretch(rng: np.random.Generator, rows: int, columns: int) -> Field:
    small = rng.integers(0, 256, size=(rows, columns), dtype=np.uint8)
    large = Image.fromarray(small).resize((_SIDE, _SIDE), Image.Resampling.BICUBIC)
    field: Field = (np.asarray(large, np.float32) - np.float32(127.5)) / np.float32(90)
    return field
