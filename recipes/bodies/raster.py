"""A z-buffer in numpy: which triangle of a mesh covers each pixel, and where in the triangle the pixel lies."""

from dataclasses import dataclass

import numpy as np

from bodies.mesh import Flags, Floats, Indices


@dataclass(frozen=True)
class Fragments:
    """Covered pixels: flat indices (P,), the nearest face of each (P,), its weights (P, 3) and its nearness (P,)."""

    pixels: Indices
    faces: Indices
    weights: Floats
    nearness: Floats

    def interpolate(self, values: Floats, faces: Indices) -> Floats:
        """Return (P, C) values at the pixels from (V, C) values at the vertices."""
        corners = faces[self.faces]
        total: Floats = self.weights[:, :1] * values[corners[:, 0]]
        total += self.weights[:, 1:2] * values[corners[:, 1]]
        total += self.weights[:, 2:] * values[corners[:, 2]]
        return total


def rasterise(points: Floats, nearness: Floats, faces: Indices, one_sided: Flags, size: tuple[int, int]) -> Fragments:
    """Find what each pixel shows.

    Args:
        points: (V, 2) places in the picture, x to the right and y down, in pixels.
        nearness: (V,) what is larger hides what is smaller; linear in the picture, as the inverse of the distance is.
        faces: (F, 3) triangles.
        one_sided: (F,) those that are seen only where they run clockwise in the picture.
        size: rows and columns of the picture.

    Returns:
        The covered pixels, each once. A pixel is covered when its centre lies in a triangle.
    """
    rows, columns = size
    corners = points[faces]
    first, second, third = corners[:, 0], corners[:, 1], corners[:, 2]
    area = _cross(second - first, third - first)
    low = np.maximum(np.ceil(corners.min(axis=1) - np.float32(0.5)), 0).astype(np.int64)
    high = np.minimum(np.floor(corners.max(axis=1) - np.float32(0.5)), np.array([columns - 1, rows - 1])).astype(
        np.int64
    )
    extent = high - low + 1
    # In a picture, where y goes down, clockwise has a positive area.
    drawn = np.flatnonzero((extent > 0).all(axis=1) & ((area > 1e-6) | (~one_sided & (area < -1e-6))))
    pieces = [
        _covered(drawn[chosen], corners, area, low, columns, (wide, tall), high)
        for wide, tall, chosen in _by_size(extent[drawn])
    ]
    if not pieces:
        nothing = np.zeros(0, np.int64)
        return Fragments(nothing, nothing, np.zeros((0, 3), np.float32), np.zeros(0, np.float32))
    pixels = np.concatenate([piece[0] for piece in pieces])
    owners = np.concatenate([piece[1] for piece in pieces])
    weights = np.concatenate([piece[2] for piece in pieces])
    depth = np.einsum("ij,ij->i", weights, nearness[faces[owners]])
    nearest = np.full(rows * columns, -np.inf, np.float32)
    np.maximum.at(nearest, pixels, depth)
    winner = np.full(rows * columns, -1, np.int64)
    won = np.flatnonzero(depth == nearest[pixels])
    # Where two are equally near, the later one is taken: numpy assigns in order.
    winner[pixels[won]] = won
    shown = np.flatnonzero(winner >= 0)
    chosen = winner[shown]
    return Fragments(shown, owners[chosen], weights[chosen], depth[chosen])


def _cross(a: Floats, b: Floats) -> Floats:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]


def _by_size(extent: Indices) -> list[tuple[int, int, Indices]]:
    """Group triangles by the powers of two of their width and height, so that each group is one array operation."""
    power = np.ceil(np.log2(np.maximum(extent, 1))).astype(np.int64)
    keys = power[:, 0] * 32 + power[:, 1]
    groups = []
    for key in np.unique(keys).tolist():
        chosen = np.flatnonzero(keys == key)
        # The power rounds up: within a group the largest true extent is enough.
        wide, tall = extent[chosen].max(axis=0).tolist()
        groups.append((wide, tall, chosen))
    return groups


def _covered(
    numbers: Indices, corners: Floats, area: Floats, low: Indices, columns: int, extent: tuple[int, int], high: Indices
) -> tuple[Indices, Indices, Floats]:
    """Return pixels, faces and weights of the fragments of triangles that are at most ``extent`` wide and tall."""
    wide, tall = extent
    x = low[numbers, 0, None] + np.tile(np.arange(wide), tall)
    y = low[numbers, 1, None] + np.repeat(np.arange(tall), wide)
    inside = (x <= high[numbers, 0, None]) & (y <= high[numbers, 1, None])
    px, py = x.astype(np.float32) + np.float32(0.5), y.astype(np.float32) + np.float32(0.5)
    scale = np.float32(1) / area[numbers, None]
    (ax, ay), (bx, by), (cx, cy) = (corners[numbers, n].T[:, :, None] for n in range(3))
    first = ((bx - px) * (cy - py) - (by - py) * (cx - px)) * scale
    second = ((cx - px) * (ay - py) - (cy - py) * (ax - px)) * scale
    third = np.float32(1) - first - second
    inside &= (first >= 0) & (second >= 0) & (third >= 0)
    which, where = np.nonzero(inside)
    weights = np.stack((first[which, where], second[which, where], third[which, where]), axis=1)
    return y[which, where] * columns + x[which, where], numbers[which], weights
