"""How likely it is that nobody in a gallery is the person that a query describes.

A best score says little by itself: among a million pictures something always fits. What it is worth in one gallery,
with one model, is read off the gallery's own scores. Descriptions of people who are not there (`references`) give
the distribution of best scores when there is nobody. How high a person who is there scores, in standard deviations
above the mean of his query's scores, is a property of the model (`MATCH_STRENGTHS`), or is measured on pairs of
sentences and pictures of this gallery; his best score is that, or the best of the others if that is higher. A
logistic regression parts the two. In a large gallery they hardly differ, and the probability stays near one half.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt

from textreid.errors import ArtifactError, ConfigError

Floats = npt.NDArray[np.floating[Any]]
Answer = Literal["somebody", "nobody", "unclear"]

# Even steps between two round numbers, chosen among three pairs on photographs (docs/benchmarks.md).
MATCH_STRENGTHS = tuple(float(step) for step in np.linspace(0.5, 3.5, 20))
SURE = 0.8  # from which probability an answer is given
_STEPS, _SETTLED, _RIDGE = 50, 1e-8, 1e-6  # of Newton's method


@dataclass(frozen=True)
class Verdict:
    """An answer to whether anybody in a gallery fits a query.

    Attributes:
        probability: that somebody there is the person.
        chance: share of descriptions of people who are not there whose best score in this gallery is as high; the
            p-value of the best score.
        answer: what follows, "unclear" where neither is likely enough.
    """

    probability: float
    chance: float
    answer: Answer

    def __str__(self) -> str:
        said = {
            "somebody": "somebody here probably matches",
            "nobody": "probably nobody here matches",
            "unclear": "whether anybody here matches cannot be told",
        }[self.answer]
        share = f"{self.chance:.0%}" if self.chance >= 0.01 else "less than 1%"
        of_others = f"{share} of descriptions of people who are not here score as high"
        return f"{said}: probability {self.probability:.2f}; {of_others}"


@dataclass(frozen=True)
class Calibration:
    """What best scores mean in one gallery, for one model and one kind of query.

    Attributes:
        slope, intercept: of the log odds that somebody is there, for even odds before the search.
        lowest, highest: best scores between which they were fitted; beyond, those of the nearest are taken.
        reference: best scores of descriptions of people who are not there, ascending.
        pairs: how many labelled pairs told how high a match scores; 0 where that was assumed.
    """

    slope: float
    intercept: float
    lowest: float
    highest: float
    reference: tuple[float, ...]
    pairs: int = 0

    def judge(self, best: float, prior: float = 0.5) -> Verdict:
        """Judge the best score of a query.

        Args:
            best: see there.
            prior: how likely it was before the search that the person is in the gallery.

        Raises:
            ConfigError: ``prior`` is not between 0 and 1.
        """
        if not 0 < prior < 1:
            raise ConfigError(f"prior: expected a probability above 0 and below 1, got {prior:g}")
        within = min(max(best, self.lowest), self.highest)
        # So many descriptions bear no odds above their number.
        bound = math.log(1 + len(self.reference))
        log_odds = min(max(self.slope * within + self.intercept, -bound), bound) + math.log(prior / (1 - prior))
        probability = 1 / (1 + math.exp(-log_odds))
        as_high = len(self.reference) - int(np.searchsorted(self.reference, best, side="left"))
        # One more on both sides: the query itself is as high as itself, and no share is 0 by want of references.
        chance = (1 + as_high) / (1 + len(self.reference))
        answer: Answer = "unclear"
        if probability >= SURE:
            answer = "somebody"
        elif probability <= 1 - SURE:
            answer = "nobody"
        return Verdict(probability, chance, answer)

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON has them."""
        return {**asdict(self), "reference": [round(score, 5) for score in self.reference]}

    @classmethod
    def from_json(cls, values: Any, where: str) -> Self:
        """Make what `to_json` returned; ``where`` it was kept begins the message of an error.

        Raises:
            ArtifactError: a field is missing or is no number.
        """
        try:
            reference = tuple(float(score) for score in values["reference"])
            numbers = [float(values[name]) for name in ("slope", "intercept", "lowest", "highest")]
            return cls(numbers[0], numbers[1], numbers[2], numbers[3], reference, int(values["pairs"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactError(f"{where}: the calibration is damaged ({error}); make it again") from None


def calibrate(
    best: Floats, mean: Floats, std: Floats, strengths: Sequence[float] = MATCH_STRENGTHS, pairs: int = 0
) -> Calibration:
    """Fit what best scores mean in a gallery.

    Args:
        best: (M,) the best scores of M descriptions of people who are not there.
        mean, std: (M,) of the scores that each has in the whole gallery, or in a fair sample.
        strengths: of matches, see `match_strengths`.
        pairs: the attribute.

    Raises:
        ConfigError: there are no descriptions or no strengths, or a score is not finite.
    """
    if not len(best) or not len(strengths) or not np.isfinite([best, mean, std]).all():
        raise ConfigError("a calibration needs finite scores of at least one description, and one strength of a match")
    matched = mean[:, None] + std[:, None] * np.asarray(strengths, np.float64)[None, :]
    present = np.maximum(best[:, None], matched).ravel()
    scores = np.concatenate([best, present]).astype(np.float64)
    is_there = np.repeat([0.0, 1.0], [len(best), len(present)])
    importance = np.repeat([0.5 / len(best), 0.5 / len(present)], [len(best), len(present)])
    slope, intercept = _logistic_regression(scores, is_there, importance)
    reference = tuple(float(score) for score in np.sort(best))
    return Calibration(slope, intercept, float(scores.min()), float(scores.max()), reference, pairs)


def match_strengths(scores: Floats, matches: Sequence[npt.NDArray[np.int64]]) -> list[float]:
    """Measure how high pictures of the right person score, in standard deviations above the mean of their query.

    Args:
        scores: (Q, N) of Q sentences and N pictures.
        matches: (Q) columns of the pictures that show the person of each sentence; where there are none, the
            sentence is left out.
    """
    found = []
    for row, columns in zip(scores, matches, strict=True):
        if len(columns):
            found.append(float((row[columns].max() - row.mean()) / max(float(row.std()), 1e-12)))
    return found


def _logistic_regression(scores: Floats, targets: Floats, importance: Floats) -> tuple[float, float]:
    """Fit log odds, a slope times the score and an intercept, by Newton's method; equal scores give a slope of 0."""
    centre, scale = scores.mean(), max(float(scores.std()), 1e-12)
    inputs = np.stack([(scores - centre) / scale, np.ones_like(scores)], axis=1)
    weights = np.zeros(2)
    for _ in range(_STEPS):
        chances = 1 / (1 + np.exp(-np.clip(inputs @ weights, -30, 30)))
        slope = inputs.T @ (importance * (chances - targets)) + _RIDGE * weights
        curvature = (inputs.T * (importance * chances * (1 - chances))) @ inputs + _RIDGE * np.eye(2)
        step = np.linalg.solve(curvature, slope)
        weights -= step
        if np.abs(step).max() < _SETTLED:
            break
    return float(weights[0] / scale), float(weights[1] - weights[0] * centre / scale)
