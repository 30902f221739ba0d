"""Position tables of the image tower for another grid of patches.

transformers' CLIP stores tables of square grids only. With ``interpolate_pos_encoding=True`` it resizes its table to
the grid of the image at hand, by bicubic interpolation. That is linear, along each side on its own, and from a longer
side to a shorter one it loses rows: there are square tables which it turns into exactly the wanted one, up to rounding.
"""

import torch
from torch import nn

from textreid.errors import ModelError


def resize_positions(table: torch.Tensor, before: tuple[int, int], after: tuple[int, int]) -> torch.Tensor:
    """Resize a table (1 + h · w, D) to another grid of patches; bilinear, the row of CLS is kept (Tan et al. 2024).

    Raises:
        ModelError: the table is not of the grid ``before``.
    """
    if len(table) != 1 + before[0] * before[1]:
        raise ModelError(
            f"a position table of {len(table)} rows does not cover CLS and {before[0]}x{before[1]} patches"
        )
    # Positions come row by row from the top left, in the order in which the patches are flattened.
    grid = table[1:].T.reshape(1, -1, *before)
    # align_corners=False: a position is the middle of a patch, so that corners of the two grids do not coincide.
    resized = nn.functional.interpolate(grid, size=after, mode="bilinear", align_corners=False)
    return torch.cat([table[:1], resized.flatten(2)[0].T])


def to_square(table: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """Find the table (1 + s², D), s the longer side, that `from_square` turns into ``table`` (1 + h · w, D).

    Of all such tables the one nearest to the enlarged grid, so that square images find sensible positions too.
    """
    side = max(grid)
    positions = table[1:].double().reshape(*grid, -1)
    # One side after the other: a bicubic weight is a product of a weight down and a weight across.
    for axis, size in enumerate(grid):
        reduce, enlarge = _resampling(side, size), _resampling(size, side)
        # The least change of the enlarged table that makes its reduction exact.
        exact = enlarge + torch.linalg.pinv(reduce) @ (torch.eye(size, dtype=torch.float64) - reduce @ enlarge)
        positions = torch.tensordot(exact, positions, dims=([1], [axis])).movedim(0, axis)
    return torch.cat([table[:1], positions.reshape(side * side, -1).to(table.dtype)])


def from_square(table: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """Compute the table (1 + h · w, D) that transformers' CLIP uses for a grid, given its table (1 + s², D)."""
    side = max(grid)
    square = table[1:].T.reshape(1, -1, side, side)
    # Without antialiasing, as in transformers' `interpolate_pos_encoding`: every option has to be the same there.
    resized = nn.functional.interpolate(square, size=grid, mode="bicubic", align_corners=False)
    return torch.cat([table[:1], resized.flatten(2)[0].T])


def _resampling(before: int, after: int) -> torch.Tensor:
    """Compute the matrix (after, before) of bicubic interpolation along one side."""
    # Interpolation is linear: what it makes of unit vectors are the columns of its matrix.
    units = torch.eye(before, dtype=torch.float64)[None, :, :, None]
    return nn.functional.interpolate(units, size=(after, 1), mode="bicubic", align_corners=False)[0, :, :, 0].T
