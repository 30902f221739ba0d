import numpy as np
import numpy.typing as npt
import pytest

from textreid.inspection.ranking import Flags, Floats, auroc, average_precision, mean_auroc, reliability


def drawn(seed: int) -> tuple[Floats, Flags, npt.NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 6, 60).astype(float), rng.random(60) < 0.3, rng.integers(0, 8, 60)


def by_pairs(scores: Floats, positive: Flags) -> float:
    pairs = [(high > low) + (high == low) / 2 for high in scores[positive] for low in scores[~positive]]
    return float(np.mean(pairs))


def test_the_area_under_the_curve_equals_its_definition() -> None:
    scores, positive, _ = drawn(0)
    assert auroc(scores, positive) == pytest.approx(by_pairs(scores, positive))
    assert np.isnan(auroc(scores, np.ones(60, dtype=bool)))


def test_the_mean_area_of_groups_equals_a_slow_loop() -> None:
    scores, positive, group = drawn(1)
    areas = [
        by_pairs(scores[group == number], positive[group == number])
        for number in range(8)
        if 0 < positive[group == number].sum() < (group == number).sum()
    ]
    assert len(areas) > 4
    assert mean_auroc(scores, positive, group) == pytest.approx(np.mean(areas))
    assert np.isnan(mean_auroc(scores, positive, np.arange(60)))


def test_average_precision_by_hand_and_by_a_slow_loop() -> None:
    positive = np.array([True, False, True, False])
    assert average_precision(np.array([4.0, 3, 2, 1]), positive) == pytest.approx((1 / 1 + 2 / 3) / 2)
    assert average_precision(np.array([1.0, 1, 1, 1]), positive) == pytest.approx(0.5)  # ties tell nothing
    assert np.isnan(average_precision(np.zeros(4), np.zeros(4, dtype=bool)))
    scores, flags, _ = drawn(2)
    found = [flags[scores >= threshold].mean() for threshold in scores[flags]]
    assert average_precision(scores, flags) == pytest.approx(np.mean(found))


def test_reliability_by_hand() -> None:
    probabilities = np.array([0.05, 0.05, 0.55, 0.55, 1.0])
    error, bins = reliability(probabilities, np.array([False, False, True, False, True]))
    assert np.array(bins) == pytest.approx(np.array([(0.05, 0.0, 2), (0.55, 0.5, 2), (1.0, 1.0, 1)]))
    assert error == pytest.approx((0.05 * 2 + 0.05 * 2 + 0) / 5)
