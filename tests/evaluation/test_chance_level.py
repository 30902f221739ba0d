from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, strategies as st

from textreid.evaluation.chance_level import bootstrap_means, interval, random_ranking

SIZES = [(gallery, relevant) for gallery in range(1, 9) for relevant in range(1, gallery + 1)] + [(14, 2), (13, 4)]


def enumerated(relevant: int, gallery: int) -> list[float]:
    """The means over every way the relevant items can lie in the ranking."""
    rows = []
    for ranks in combinations(range(1, gallery + 1), relevant):
        precision = sum(found / rank for found, rank in enumerate(ranks, start=1)) / relevant
        rows.append([ranks[0] <= 1, ranks[0] <= 5, ranks[0] <= 10, precision, relevant / ranks[-1]])
    return [float(mean) for mean in np.mean(rows, axis=0)]


@pytest.mark.parametrize(("gallery", "relevant"), SIZES)
def test_the_expectation_is_the_mean_over_all_rankings(gallery: int, relevant: int) -> None:
    found = random_ranking(np.array([relevant]), gallery)
    assert list(found) == ["R1", "R5", "R10", "mAP", "mINP"]
    assert list(found.values()) == pytest.approx(enumerated(relevant, gallery), rel=1e-12)


def test_queries_count_alike() -> None:
    found = random_ranking(np.array([1, 3, 3]), 7)
    expected = np.mean([enumerated(1, 7), enumerated(3, 7), enumerated(3, 7)], axis=0)
    assert list(found.values()) == pytest.approx(expected.tolist())


def test_the_size_of_icfg_pedes() -> None:
    found = random_ranking(np.full(19_848, 20), 19_848)
    assert found["R1"] == pytest.approx(20 / 19_848)
    assert found["mAP"] == pytest.approx(0.00148, rel=0.01)
    assert 0 < found["mINP"] < found["mAP"]


def ends(values: npt.NDArray[Any], people: npt.NDArray[np.int64], resamples: int = 1000, seed: int = 0) -> list[float]:
    found: list[float] = interval(
        bootstrap_means(values[:, None].astype(float), people, resamples=resamples, seed=seed)
    )[0].tolist()
    return found


def test_the_interval_covers_as_often_as_it_says() -> None:
    generator = np.random.default_rng(3)
    covered = 0
    for trial in range(200):
        # 60 people, 4 captions each that share the person's luck: the mean is 0.4.
        luck = np.repeat(generator.random(60) < 0.4, 4)
        low, high = ends(luck, np.repeat(np.arange(60), 4), resamples=500, seed=trial)
        covered += low <= 0.4 <= high
    assert 180 <= covered <= 198


def test_captions_of_one_person_are_not_independent() -> None:
    values = np.repeat(np.arange(20) % 2, 50)
    together = ends(values, np.repeat(np.arange(20), 50))
    apart = ends(values, np.arange(1000))
    assert together[1] - together[0] > 4 * (apart[1] - apart[0])


@given(st.integers(1, 12), st.integers(1, 40), st.integers(0, 2**32))
def test_resampled_means_equal_the_obvious_loop(people: int, queries: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    groups = generator.integers(0, people, queries)
    values, where = generator.random((queries, 3)), generator.random((queries, 3)) < 0.7
    found = bootstrap_means(values, groups, where, resamples=7, seed=seed)
    present = np.unique(groups)
    draws = np.random.default_rng(seed).integers(0, len(present), (7, len(present)))
    for resample, drawn in enumerate(draws):
        rows = np.concatenate([np.flatnonzero(groups == present[each]) for each in drawn])
        for column in range(3):
            counted = [values[row, column] for row in rows if where[row, column]]
            expected = np.mean(counted) if counted else np.nan
            np.testing.assert_allclose(found[resample, column], expected, rtol=1e-9)


def test_neither_blocks_nor_other_columns_change_the_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    values, groups = generator.random((90, 2)), generator.integers(0, 30, 90)
    straight = bootstrap_means(values, groups)
    np.testing.assert_allclose(bootstrap_means(values[:, 1:], groups), straight[:, 1:], rtol=1e-12)
    monkeypatch.setattr("textreid.evaluation.chance_level._BLOCK_BYTES", 8 * 30 * 7)
    np.testing.assert_allclose(bootstrap_means(values, groups), straight, rtol=1e-12)
