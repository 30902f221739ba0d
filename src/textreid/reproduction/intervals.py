"""Intervals of means over seeds, and what a table with so many seeds can show."""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

# Student's t, 97.5 %, for 1, 2, ... degrees of freedom; beyond these the last is a little too wide.
_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
_T_POWER = (1.376, 1.061, 0.978, 0.941, 0.920, 0.906, 0.896, 0.889, 0.883)  # likewise, 80 %


def interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Return the 95 % interval of a mean by Student's t; None for a single value."""
    if len(values) < 2:
        return None
    half = _T[min(len(values) - 1, len(_T)) - 1] * stdev(values) / math.sqrt(len(values))
    return fmean(values) - half, fmean(values) + half


def reference_of(results: Mapping[str, Any], row: str) -> str | None:
    """Return the id of the row that a row is compared with; None for the reference itself."""
    other: str | None = results["references"].get(row, results["reference"])
    # A reader may have a part of the table only.
    return other if other != row and any(one["id"] == other for one in results["rows"]) else None


def paired(
    measured: Mapping[str, Mapping[str, float]], reference: Mapping[str, Mapping[str, float]], score: str
) -> list[float]:
    """Subtract a score seed by seed: rows of one seed share people and captions, so that differences are paired."""
    return [measured[seed][score] - reference[seed][score] for seed in measured if seed in reference]


def detectable(differences: Sequence[Sequence[float]]) -> float | None:
    """Estimate the true difference that an interval of 95 % leaves 0 out for in 80 % of repetitions.

    Args:
        differences: of each row, over seeds; their variances are pooled.
    """
    several = [one for one in differences if len(one) > 1]
    if not several:
        return None
    seeds = min(len(one) for one in several)
    spread = math.sqrt(fmean(stdev(one) ** 2 for one in several))
    last = min(seeds - 1, len(_T)) - 1
    return (_T[last] + _T_POWER[last]) * spread / math.sqrt(seeds)
