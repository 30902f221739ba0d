"""Pictures that show nobody, told by their pixels alone: one colour, noise, a pattern, or hardly anything.

A model scores such a picture by chance, often above every person. Everything is measured on the picture made small, and
most of it on the channel that differs most.
"""

import math

import numpy as np
import numpy.typing as npt
from PIL import Image

_Planes = npt.NDArray[np.float32]

# Set so that none is told to show nothing of 659 photographs of pedestrians and 3,005 drawn ones (five places, night
# among them, and 1,000 before a plain wall), nor of a sample of them dimmed to 0.3, overexposed 1.8 times, in fog, out
# of focus, moved, compressed with quality 8 and 3, or enlarged from 8 x 20 pixels.
_SLIVER = 16  # one side this many times the other; a person standing has at most 5
_FLAT_LEVELS, _FLAT_SHARE = 12, 0.99
_EVEN_LEVELS = 8  # range of the cells up to which a flat picture is not looked at further: noise alone makes that
_CELLS = (12, 28)  # columns and rows
_CELL_LEVELS, _CELL_SHARE = 3.0, 0.1  # of the range of the cells
_BUSY_SHARE = 0.2  # people have at least 0.26
_BUSY_LINES = 0.2  # of the rows, or columns, of which any cell is busy
_WHITE = 0.72  # noise has at least 0.75 and about 1, people at most 0.5, overexposed 0.64
_FINE = (24, 56)
_NORMAL, _COARSE_NORMAL, _NORMAL_SUM = 0.768, 0.75, 3.14  # a normal distribution has 0.798, each of four
_ROUGH = 0.45  # noise has at least 0.5, blurred people that pass for normal 0.28
_SMOOTH = 0.15  # blurred people have at least 0.19
_ONE_DIRECTION = 0.03  # moved people have at least 0.05
_ROUND = 0.08  # lamps have mostly less than 0.03, blurred people at least 0.1
_TONES, _TONES_OVEREXPOSED = 0.94, 0.985  # in too much light people have two tones nearly: at most 0.97
_WHITEST = 255
_TONE_WIDTH, _TONE_LEVELS, _LESS_COMMON = 0.12, 12, 0.03
# Where four cells meet, from the middle of a picture that is 1 high and 1 wide.
_Y, _X = (
    axis.ravel().astype(np.float32)
    for axis in np.meshgrid(*((np.arange(1, count) / count - 0.5) for count in _CELLS[::-1]), indexing="ij")
)
_MOMENTS = np.stack([_X * _X, _Y * _Y, _X, _Y])
_ONES = np.ones(_CELLS[0] * _CELLS[1], np.float32)
_ROWS_TO_COLUMNS = _CELLS[1] / _CELLS[0]


def shows_nothing(picture: Image.Image) -> str:
    """Say why an RGB picture shows nothing; "" where it may show something.

    - "a sliver": one side is 16 times the other.
    - "one colour": in each channel 99 % of the pixels are within 12 levels of the median.
    - "noise": neighbours differ about as much as pixels far apart, or differences are as normal chance has them from
      fine to coarse. Pictures of things have few large differences at edges, and small ones between.
    - "a pattern": two tones and little between them, as text or a checkerboard has; rows, or columns, that repeat each
      other; all edges run one way.
    - "hardly anything": light that changes smoothly or around one point; or of 12 x 28 cells, fewer than a fifth differ
      from the cell above or to the left by a tenth of the range of nine cells in ten.
    """
    if max(picture.size) >= _SLIVER * min(picture.size):
        return "a sliver" if max(picture.size) > 1 else "one colour"
    pixels = np.frombuffer(picture.resize(_CELLS, Image.Resampling.BOX).tobytes(), np.uint8)
    levels = pixels.reshape(-1, 3).T.astype(np.float32, order="C")
    cells, ordered = levels.reshape(3, _CELLS[1], _CELLS[0]), np.sort(levels)
    edge = ordered.shape[1] // 20
    spans = (ordered[:, -edge - 1] - ordered[:, edge]).tolist()  # of nine cells in ten
    span = max(spans)
    channel = spans.index(span)
    flat = span <= 2 * _FLAT_LEVELS and _is_one_colour(picture)
    if flat and span <= _EVEN_LEVELS:
        return "one colour"
    reason = _of_changes(cells, max(_CELL_LEVELS, _CELL_SHARE * span)) or _of_slopes(cells[channel], picture, channel)
    if not reason and _has_two_tones(picture, channel):
        reason = "a pattern"
    return "one colour" if flat and reason else reason


def _is_one_colour(picture: Image.Image) -> bool:
    counts = np.asarray(picture.histogram(), dtype=np.int64).reshape(3, 256)
    for channel in counts:
        total = np.cumsum(channel)
        median = int(np.searchsorted(total, total[-1] / 2))
        low, high = max(0, median - _FLAT_LEVELS), min(255, median + _FLAT_LEVELS)
        if channel[low : high + 1].sum() < _FLAT_SHARE * total[-1]:
            return False
    return True


def _of_changes(cells: _Planes, least: float) -> str:
    """Judge cells (3, rows, columns) by where they differ from the one above or to the left by more than ``least``."""
    down = np.abs(cells[:, 1:] - cells[:, :-1]).max(axis=0) > least
    right = np.abs(cells[:, :, 1:] - cells[:, :, :-1]).max(axis=0) > least
    count = np.count_nonzero
    busy = count(right) + count(down[:, 0]) + count(down[:, 1:] > right[1:])
    if busy < _BUSY_SHARE * cells[0].size:
        return "hardly anything"
    lines = min(count(down.any(axis=1)) / len(down), count(right.any(axis=0)) / right.shape[1])
    return "a pattern" if lines < _BUSY_LINES else ""


def _of_slopes(cells: _Planes, picture: Image.Image, channel: int) -> str:
    """Judge one channel, as cells (rows, columns), by the differences between neighbours."""
    down, right = cells[1:] - cells[:-1], cells[:, 1:] - cells[:, :-1]
    down_energy, right_energy = _energy(down), _energy(right)
    flat = cells.ravel()
    variance = float(flat @ flat) / flat.size - (float(_ONES @ flat) / flat.size) ** 2
    if down_energy + right_energy > _WHITE * 4 * variance:  # of independent cells each is twice the variance
        return "noise"
    if _normality(right) > _NORMAL and _normality(down) > _NORMAL and _is_normal(cells, picture, channel):
        return "noise"
    if _energy(right[:, 1:] - right[:, :-1]) + _energy(down[1:] - down[:-1]) < _SMOOTH * (down_energy + right_energy):
        return "hardly anything"
    return _of_directions(right, down, picture.width / picture.height)


def _energy(differences: _Planes) -> float:
    flat = differences.ravel()
    return float(flat @ flat) / flat.size


def _normality(differences: _Planes) -> float:
    """Mean size in units of the root of the mean square: 0.8 of a normal distribution, less of one with long tails."""
    flat = differences.ravel()
    square = float(flat @ flat) * flat.size
    return float(np.abs(flat).sum()) / math.sqrt(square) if square else 0.0


def _is_normal(cells: _Planes, picture: Image.Image, channel: int) -> bool:
    """Say whether differences are normal in a coarser picture and in a finer one, as those of the cells are."""
    coarse = cells[::2, ::2] + cells[1::2, ::2] + cells[::2, 1::2] + cells[1::2, 1::2]
    if min(_normality(coarse[1:] - coarse[:-1]), _normality(coarse[:, 1:] - coarse[:, :-1])) < _COARSE_NORMAL:
        return False
    size = (min(_FINE[0], picture.width), min(_FINE[1], picture.height))
    fine = np.asarray(picture.resize(size, Image.Resampling.BOX))[:, :, channel].astype(np.float32)
    down, right = fine[1:] - fine[:-1], fine[:, 1:] - fine[:, :-1]
    if _energy(down[1:] - down[:-1]) + _energy(right[:, 1:] - right[:, :-1]) < _ROUGH * (
        _energy(down) + _energy(right)
    ):
        return False
    differences = (down, right, cells[1:] - cells[:-1], cells[:, 1:] - cells[:, :-1])
    normal = [_normality(one) for one in differences]
    return min(normal) > _NORMAL and sum(normal) > _NORMAL_SUM


def _of_directions(right: _Planes, down: _Planes, aspect: float) -> str:
    """Tell slopes that run in one direction, and slopes that all point to one centre, as of a lamp.

    A slope s at place p points to the centre c where the cross product of p - c with s is 0: least squares in c.
    """
    across, along = (right[1:] + right[:-1]).ravel() / aspect, (down[:, 1:] + down[:, :-1]).ravel() * _ROWS_TO_COLUMNS
    xx, yy, xy = float(across @ across), float(along @ along), float(across @ along)
    half, root = (xx + yy) / 2, math.hypot((xx - yy) / 2, xy)
    if half - root < _ONE_DIRECTION * (half + root):  # the eigenvalues
        return "a pattern"
    moment = _X * along * aspect - _Y * across
    determinant, m_along, m_across = xx * yy - xy * xy, float(moment @ along), float(moment @ across)
    x, y = (xx * m_along - xy * m_across) / determinant, (xy * m_along - yy * m_across) / determinant
    past = float(moment @ moment) - x * m_along + y * m_across
    total_xx, total_yy, total_x, total_y = (_MOMENTS @ (across * across + along * along)).tolist()
    far = total_xx * aspect**2 + total_yy - 2 * (x * total_x * aspect + y * total_y) + (x * x + y * y) * (xx + yy)
    return "hardly anything" if past < _ROUND * far else ""


def _has_two_tones(picture: Image.Image, channel: int) -> bool:
    """Say whether nearly all pixels have one of two levels, and the less common one is no mere highlight."""
    points = np.frombuffer(picture.resize(_CELLS, Image.Resampling.NEAREST).tobytes(), np.uint8)
    levels = np.sort(points[channel::3])
    rest = len(levels) // 50
    low, high = int(levels[rest]), int(levels[-rest - 1])
    if high - low < _TONE_LEVELS:
        return False
    wide = int(_TONE_WIDTH * (high - low))
    dark = np.count_nonzero(levels <= low + wide) / len(levels)
    light = np.count_nonzero(levels >= high - wide) / len(levels)
    least = _TONES_OVEREXPOSED if high == _WHITEST and light > dark else _TONES
    return bool(dark + light > least and min(dark, light) > _LESS_COMMON)
