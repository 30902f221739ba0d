"""Pictures that show nobody, told by their pixels alone: one colour, noise, or hardly anything.

A model scores such a picture by chance, often above every person. The limits below leave a margin to all pictures of
people they were measured on: 659 photographs of pedestrians, 1,200 drawn ones, 750 drawn before a plain wall, and the
photographs at a third of their brightness or a quarter of their contrast. None of them is told to show nothing.
"""

import numpy as np
import numpy.typing as npt
from PIL import Image

_FLAT_LEVELS, _FLAT_SHARE = 12, 0.99
_GRAIN = 4  # pixels a side that are taken together: noise may have been enlarged
_NOISE_PIXELS = 12  # a side, at least
_NOISE_SHARE = 0.75  # people have at most 0.41 (photographs) and 0.60 (drawn), noise at least 0.78
_CELLS = (12, 28)  # columns and rows
_CELL_LEVELS, _CELL_SHARE = 3.0, 0.1  # of the range of the cells
_BUSY_SHARE = 0.2  # people have at least 0.26


def shows_nothing(picture: Image.Image) -> str:
    """Say why an RGB picture shows nothing: "one colour", "noise", "hardly anything"; "" where it may show something.

    - One colour: in each channel 99 % of the pixels are within 12 levels of the median.
    - Noise, of a grain of up to four pixels: neighbours differ about as much as pixels far apart.
    - Hardly anything, as a gradient, two walls, or a time stamp: of 12 x 28 cells, fewer than a fifth differ from the
      cell above or to the left by a tenth of the range of nine cells in ten.
    """
    cells = np.asarray(picture.resize(_CELLS, Image.Resampling.BOX)).astype(np.int16)
    ordered = np.sort(cells.reshape(-1, 3).T.copy())
    edge = len(ordered[0]) // 20
    span = int((ordered[:, -edge - 1] - ordered[:, edge]).max())  # of nine cells in ten
    if span <= 2 * _FLAT_LEVELS and _is_one_colour(picture):
        return "one colour"
    if _is_noise(picture):
        return "noise"
    return "" if _busy_share(cells, max(_CELL_LEVELS, _CELL_SHARE * span)) >= _BUSY_SHARE else "hardly anything"


def _is_one_colour(picture: Image.Image) -> bool:
    counts = np.asarray(picture.histogram(), dtype=np.int64).reshape(3, 256)
    for channel in counts:
        total = np.cumsum(channel)
        median = int(np.searchsorted(total, total[-1] / 2))
        low, high = max(0, median - _FLAT_LEVELS), min(255, median + _FLAT_LEVELS)
        if channel[low : high + 1].sum() < _FLAT_SHARE * total[-1]:
            return False
    return True


def _is_noise(picture: Image.Image) -> bool:
    left, top = max(0, picture.width // 2 - 64), max(0, picture.height // 2 - 64)
    box = (left, top, min(left + 128, picture.width), min(top + 128, picture.height))
    grain = min(_GRAIN, (box[2] - left) // _NOISE_PIXELS, (box[3] - top) // _NOISE_PIXELS)
    if grain < 1:
        return False
    pixels = np.asarray(picture.crop(box).convert("L").reduce(grain)).astype(np.float32)
    down, right = (pixels[1:] - pixels[:-1]).ravel(), (pixels[:, 1:] - pixels[:, :-1]).ravel()
    differences = (float(down @ down) / down.size + float(right @ right) / right.size) / 2
    return differences > _NOISE_SHARE * 2 * float(pixels.var())  # of independent pixels it is twice the variance


def _busy_share(cells: npt.NDArray[np.int16], least: float) -> float:
    """Share of the cells (rows, columns, 3) that differ from the one above or to the left by more than ``least``."""
    busy = np.zeros(cells.shape, np.bool_)
    np.greater(np.abs(cells[1:] - cells[:-1]), least, out=busy[1:])
    busy[:, 1:] |= np.abs(cells[:, 1:] - cells[:, :-1]) > least
    return float(busy.any(axis=2).mean())
