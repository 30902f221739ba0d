import pytest
import torch
from hypothesis import given, strategies as st

from textreid.errors import ModelError
from textreid.models.positions import from_square, resize_positions, to_square


@given(st.integers(1, 24), st.integers(1, 24))
def test_a_square_table_gives_back_any_grid(rows: int, columns: int) -> None:
    generator = torch.Generator().manual_seed(rows * 100 + columns)
    table = torch.randn(1 + rows * columns, 3, generator=generator)
    square = to_square(table, (rows, columns))
    assert square.shape == (1 + max(rows, columns) ** 2, 3)
    torch.testing.assert_close(from_square(square, (rows, columns)), table, rtol=0, atol=1e-5)


def test_a_square_grid_is_kept_and_another_stays_smooth() -> None:
    table = torch.randn(1 + 5 * 5, 2)
    torch.testing.assert_close(to_square(table, (5, 5)), table)
    flat = torch.full((1 + 24 * 8, 1), 0.5)
    torch.testing.assert_close(to_square(flat, (24, 8)), torch.full((1 + 24 * 24, 1), 0.5))


def test_positions_of_the_same_grid_stay() -> None:
    table = torch.randn(1 + 6, 4)
    torch.testing.assert_close(resize_positions(table, (2, 3), (2, 3)), table)
    torch.testing.assert_close(resize_positions(torch.ones(7, 4), (2, 3), (5, 2)), torch.ones(11, 4))
    with pytest.raises(ModelError, match="7 rows does not cover CLS and 3x3 patches"):
        resize_positions(table, (3, 3), (2, 2))
