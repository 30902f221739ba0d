"""What chance does to the figures: the expectation of a random ranking, and the spread of a measured mean."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from textreid.evaluation.metrics import Doubles, Indices

RESAMPLES, SEED, LEVEL = 1000, 0, 0.95
_BLOCK_BYTES = 16 << 20  # of draws held at once


def random_ranking(relevant: Indices, gallery: int) -> dict[str, float]:
    """Compute the expected R1, R5, R10, mAP and mINP of a random ranking; exact, not simulated.

    Args:
        relevant: (Q,) number of relevant items of each query, 1 to ``gallery``.
        gallery: number of gallery items.
    """
    sizes, queries = np.unique(relevant, return_counts=True)
    expected = [_expected(int(size), gallery) for size in sizes]
    return {name: float(np.average([e[name] for e in expected], weights=queries)) for name in expected[0]}


def _expected(relevant: int, gallery: int) -> dict[str, float]:
    def hit(depth: int) -> float:
        # Hypergeometric: 1 less the probability that none of the first ranks, drawn without putting back, is relevant.
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


def bootstrap_means(
    values: npt.NDArray[Any],
    groups: npt.NDArray[Any],
    where: npt.NDArray[np.bool_] | None = None,
    *,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> Doubles:
    """Compute the means of ``values`` when whole groups are drawn again with replacement: (resamples, K).

    The captions of one identity succeed and fail together, so drawing single queries would claim too much. Calls
    with the same groups draw alike: the difference of their means is that of a paired comparison.

    Args:
        values: (Q, K) one row a query.
        groups: (Q,) identity of each query.
        where: (Q, K) which of the values count; all when None. A mean over none of them is not a number.
        resamples: number of drawn samples.
        seed: of the draws.
    """
    codes = np.unique(groups, return_inverse=True)[1]
    count = int(codes.max()) + 1
    # A mean is a ratio of two sums over the drawn groups: a sample need only tell how often each group was drawn.
    counted = np.ones(values.shape) if where is None else where.astype(np.float64)
    sums = _sum_by_group(values * counted, codes, count)
    sizes = _sum_by_group(counted, codes, count)
    generator = np.random.default_rng(seed)
    means = np.empty((resamples, values.shape[1]))
    block = max(1, _BLOCK_BYTES // (8 * count))
    for first in range(0, resamples, block):
        rows = min(block, resamples - first)
        # Numbers of their own for the groups of each row, so that one `bincount` counts all rows.
        drawn = generator.integers(0, count, (rows, count)) + count * np.arange(rows)[:, None]
        times = np.bincount(drawn.ravel(), minlength=rows * count).reshape(rows, count).astype(np.float64)
        # A sample may have drawn none of the people of a rare word: 0/0, which `interval` leaves out.
        with np.errstate(invalid="ignore"):
            means[first : first + rows] = (times @ sums) / (times @ sizes)
    return means


def interval(means: Doubles, level: float = LEVEL) -> Doubles:
    """Compute the percentile interval of each column of resampled means (resamples, K): (K, 2)."""
    ends = np.nanquantile(means, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return np.ascontiguousarray(ends.T)


def verdict(ends: Sequence[float], chance: float = 0.0) -> str:
    """Say what the ends of an interval tell of a figure whose value by chance is known."""
    low, high = ends
    return "yes" if low > chance else "misleads" if high < chance else "unclear"


def _sum_by_group(values: Doubles, codes: Indices, count: int) -> Doubles:
    sums = np.empty((count, values.shape[1]))
    for column, each in enumerate(values.T):
        sums[:, column] = np.bincount(codes, each, count)
    return sums
