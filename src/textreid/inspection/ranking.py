"""How well scores rank positives above negatives, and whether probabilities are right."""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
_BINS = 10


def auroc(scores: Floats, positive: Flags) -> float:
    """Return the probability that a positive scores above a negative, ties counted half; NaN without one of either.

    It is the area under the receiver operating characteristic.
    """
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    positives, negatives = int(positive.sum()), int((~positive).sum())
    if not positives or not negatives:
        return float("nan")
    return float((ranks[positive].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def average_precision(scores: Floats, positive: Flags) -> float:
    """Return the mean, over positives, of the share of positives among what scores as high; NaN without one.

    Equal scores are one step: their order tells nothing.
    """
    if not positive.any():
        return float("nan")
    _, inverse, counts = np.unique(-scores, return_inverse=True, return_counts=True)
    hits = np.bincount(inverse, positive)
    return float((np.cumsum(hits) / np.cumsum(counts) * hits).sum() / hits.sum())


def mean_auroc(scores: Floats, positive: Flags, group: npt.NDArray[np.int64]) -> float:
    """Return the mean of `auroc` within each group that has positives and negatives; NaN without such a group."""
    order = np.argsort(group, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(group[order])) + 1)
    areas = [auroc(scores[part], positive[part]) for part in parts]
    kept = [area for area in areas if not np.isnan(area)]
    return float(np.mean(kept)) if kept else float("nan")


def reliability(probabilities: Floats, positive: Flags) -> tuple[float, list[tuple[float, float, int]]]:
    """Compare probabilities with how often they come true.

    Returns:
        The expected calibration error: the distance of mean probability and share of positives in each tenth of [0, 1],
        weighted by how many fall into it; and for each tenth that is not empty (mean probability, share, number).
    """
    tenth = np.minimum((probabilities * _BINS).astype(np.int64), _BINS - 1)
    bins = [
        (float(probabilities[tenth == number].mean()), float(positive[tenth == number].mean()), int(count))
        for number, count in enumerate(np.bincount(tenth, minlength=_BINS))
        if count
    ]
    return sum(abs(mean - share) * count for mean, share, count in bins) / max(1, len(probabilities)), bins
