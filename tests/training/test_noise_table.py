from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from textreid.errors import ArtifactError, TextReidError
from textreid.training.noise_table import BINS, NoiseTable


def test_starts_at_the_given_probability(tmp_path: Path) -> None:
    table = NoiseTable.create(tmp_path / "noise.npy", captions=70_000, text_length=3, probability=0.15)
    found = table.read(np.array([0, 65_535, 65_536, 69_999]), 3)
    assert found.dtype == np.float32
    assert found.shape == (4, 3)
    assert np.allclose(found, 0.15, atol=1e-4)
    assert (tmp_path / "noise.npy").stat().st_size == 128 + 70_000 * 3 * 2
    assert np.load(tmp_path / "noise.npy").dtype == np.float16  # any tool that reads .npy reads it


@given(
    rows=st.lists(st.integers(0, 19), min_size=1, max_size=10, unique=True),
    length=st.integers(1, 8),
    seed=st.integers(0, 99),
)
@settings(deadline=None, max_examples=25)
def test_reads_what_was_written_and_leaves_the_rest(
    rows: list[int], length: int, seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    table = NoiseTable.create(tmp_path_factory.mktemp("table") / "noise.npy", 20, 8, 0.5)
    values = np.random.default_rng(seed).random((len(rows), length), dtype=np.float32)
    table.write(np.array(rows), torch.from_numpy(values))
    found = table.read(np.arange(20), 8)
    assert np.allclose(found[rows, :length], values, atol=5e-4)
    found[rows, :length] = 0.5
    assert (found == 0.5).all()


def test_restores_exactly_and_keeps_the_saved_copy_apart(tmp_path: Path) -> None:
    table = NoiseTable.create(tmp_path / "a.npy", 5, 4, 0.15)
    table.write(np.array([3, 1]), torch.tensor([[0.1, 0.2], [0.3, 1.0]]))
    table.save(tmp_path / "saved.npy")
    before = table.read(np.arange(5), 4)
    table.write(np.arange(5), torch.zeros(5, 4))
    restored = NoiseTable.restore(tmp_path / "b.npy", tmp_path / "saved.npy", 5, 4)
    assert (restored.read(np.arange(5), 4) == before).all()
    restored.write(np.arange(5), torch.ones(5, 4))
    assert (NoiseTable.restore(tmp_path / "c.npy", tmp_path / "saved.npy", 5, 4).read(np.arange(5), 4) == before).all()


@pytest.mark.parametrize("wrong", [np.nan, -0.1, 1.1, np.inf])
def test_refuses_to_write_what_is_not_a_probability(tmp_path: Path, wrong: float) -> None:
    table = NoiseTable.create(tmp_path / "noise.npy", 3, 2, 0.15)
    askings = (
        lambda: table.read(np.array([2]), 1),
        lambda: table.save(tmp_path / "saved.npy"),
        lambda: table.write(np.array([1]), torch.zeros(1, 2)),
    )
    for asking in askings:
        table.write(np.array([0, 2]), torch.tensor([[0.1, 0.1], [0.1, wrong]]))
        with pytest.raises(TextReidError, match="diverged"):
            asking()
    assert not (tmp_path / "saved.npy").exists()
    assert np.allclose(table.read(np.arange(3), 2), 0.15, atol=1e-4)


def test_nobody_waits_for_what_is_not_read(tmp_path: Path) -> None:
    table = NoiseTable.create(tmp_path / "noise.npy", 4, 2, 0.5)
    table.write(np.array([0, 1]), torch.ones(2, 2))
    table.read(np.array([2, 3]), 2)
    assert (np.load(tmp_path / "noise.npy") == 0.5).all()  # still on its way
    assert (table.read(np.array([3, 1]), 2) == [[0.5, 0.5], [1, 1]]).all()
    assert (np.load(tmp_path / "noise.npy")[:2] == 1).all()


def saved_table(folder: Path, values: np.ndarray[tuple[int, int], np.dtype[np.float16]]) -> Path:
    np.save(folder / "saved.npy", values)
    return folder / "saved.npy"


def test_refuses_a_table_of_another_shape(tmp_path: Path) -> None:
    saved = saved_table(tmp_path, np.zeros((4, 6), dtype=np.float16))
    with pytest.raises(ArtifactError, match=r"\(4, 6\) float16.*\(5, 6\) float16"):
        NoiseTable.restore(tmp_path / "noise.npy", saved, 5, 6)


def test_refuses_a_damaged_table(tmp_path: Path) -> None:
    values = np.zeros((70_000, 2), dtype=np.float16)
    values[69_000, 1] = np.nan
    with pytest.raises(ArtifactError, match="rows from 65536: damaged"):
        NoiseTable.restore(tmp_path / "noise.npy", saved_table(tmp_path, values), 70_000, 2)
    (tmp_path / "saved.npy").write_bytes((tmp_path / "saved.npy").read_bytes()[:1000])
    with pytest.raises(ArtifactError, match="cannot be read as a noise table"):
        NoiseTable.restore(tmp_path / "noise.npy", tmp_path / "saved.npy", 70_000, 2)


def test_says_where_it_cannot_write(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"missing/noise\.npy: cannot be written: No such file"):
        NoiseTable.create(tmp_path / "missing" / "noise.npy", 3, 2, 0.15)


@given(lengths=st.lists(st.integers(2, 9), min_size=1, max_size=12), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=25)
def test_counts_the_words_of_each_part_and_nothing_else(
    lengths: list[int], seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    table = NoiseTable.create(tmp_path_factory.mktemp("table") / "noise.npy", len(lengths), 9, 0.15)
    values = np.random.default_rng(seed).choice(np.array([0, 0.25, 0.51, 1], np.float32), (len(lengths), 9))
    table.write(np.arange(len(lengths)), torch.from_numpy(values))
    expected = np.zeros(BINS, dtype=int)
    for row, length in zip(values.tolist(), lengths, strict=True):
        for value in row[1 : length - 1]:
            expected[min(int(value * BINS), BINS - 1)] += 1
    assert table.histogram(np.array(lengths)).tolist() == expected.tolist()
    assert expected.sum() == sum(lengths) - 2 * len(lengths)


def test_counts_over_the_border_of_a_block(tmp_path: Path) -> None:
    table = NoiseTable.create(tmp_path / "noise.npy", captions=70_000, text_length=3, probability=0.15)
    table.write(np.array([65_535, 65_536]), torch.full((2, 3), 0.91))
    counts = table.histogram(np.full(70_000, 3))
    assert {index: int(count) for index, count in enumerate(counts) if count} == {7: 69_998, 45: 2}
