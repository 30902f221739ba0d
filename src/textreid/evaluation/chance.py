"""What chance does to the figures: the expectation of a random ranking, and the spread of a measured mean."""

from typing import Any

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int64]


def random_ranking(relevant: Indices, gallery: int) -> dict[str, float]:
    """Expected R1, R5, R10, mAP and mINP where every order of the gallery is equally likely; exact, not simulated.

    Args:
        relevant: (Q,) number of relevant items of each query, 1 to ``gallery``.
        gallery: number of gallery items.
    """
    sizes, queries = np.unique(relevant, return_counts=True)
    expected = [_expected(int(size), gallery) for size in sizes]
    return {name: float(np.average([e[name] for e in expected], weights=queries)) for name in expected[0]}


def _expected(relevant: int, gallery: int) -> dict[str, float]:
    def hit(depth: int) -> float:
        drawn = np.arange(min(depth, gallery))
        return float(1 - np.prod(np.maximum(gallery - relevant - drawn, 0) / (gallery - drawn)))

    # A relevant item is at rank k with probability 1/G; each of the others then precedes it with (k - 1)/(G - 1).
    harmonic = float(np.sum(1 / np.arange(1, gallery + 1)))
    others = (relevant - 1) / max(1, gallery - 1)
    precision = (harmonic + others * (gallery - harmonic)) / gallery
    # Of the last relevant item's rank M: P(M <= G) = 1, P(M <= m - 1) = P(M <= m) (m - R)/m, P(M = m) = P(M <= m) R/m.
    last = np.arange(gallery, relevant - 1, -1, dtype=np.float64)
    at_most = np.cumprod(np.concatenate([[1.0], (last[:-1] - relevant) / last[:-1]]))
    penalty = float(relevant**2 * np.sum(at_most / last**2))
    return {"R1": hit(1), "R5": hit(5), "R10": hit(10), "mAP": precision, "mINP": penalty}


def bootstrap_interval(
    values: npt.NDArray[Any], groups: npt.NDArray[Any], *, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Percentile interval of the mean of ``values`` when whole groups are drawn again with replacement.

    The captions of one identity succeed and fail together, so drawing single queries would claim too much.

    Args:
        values: (Q,) one value a query.
        groups: (Q,) identity of each query.
        level: coverage.
        resamples: number of drawn samples.
        seed: of the draws.
    """
    codes = np.unique(groups, return_inverse=True)[1]
    sums, counts = np.bincount(codes, values), np.bincount(codes)
    drawn = np.random.default_rng(seed).integers(0, len(counts), (resamples, len(counts)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
