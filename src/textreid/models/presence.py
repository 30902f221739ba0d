"""Which pictures seem to show nobody: one linear measure of the features of one model, in an optional file beside it.

A model that only ever saw people scores an empty place by chance, often above every person. Its features know better:
a logistic regression on them parts drawn people from drawn empty places, and photographs of both. It costs a search
one product a picture. A picture is not cut off at a threshold but loses as much of its score as it seems empty:
measured, that brings fewer empty places among the first ten, and fewer people down (docs/benchmarks.md).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeGuard

import numpy as np
import numpy.typing as npt

from textreid.artifacts import read_json, write_json
from textreid.errors import ModelError, in_short

PRESENCE = "presence.json"

_RIDGE = 1e-6  # on the squared weights of features of length 1; chosen on held-out drawings: of 1e-3 to 1e-6 the best
_STEPS, _SETTLED = 50, 1e-6  # of Newton's method, which takes about ten
_DIGITS = 4  # of weights of which the largest are about 30

Array = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Presence:
    """What tells features of pictures of people from features of empty places.

    Attributes:
        fingerprint: of the model whose features it judges; those of another mean nothing to it.
        weights: (D,) float32; their product with a feature, and the bias, are the log odds that somebody is there.
        bias: see there.
        threshold: log odds below which a picture seems to show nobody, and a search says so.
        penalty: what a score loses for each unit of log odds below even odds.
        made: what it was fitted to, and what it found there.
    """

    fingerprint: str
    weights: Array
    bias: float
    threshold: float
    penalty: float
    made: Mapping[str, Any] = field(default_factory=dict)

    def log_odds(self, features: Array) -> Array:
        """Return the log odds (N,) that there is somebody in the pictures with features (N, D) of length 1."""
        odds: Array = features @ self.weights + np.float32(self.bias)
        return odds

    def losses(self, log_odds: Array) -> Array:
        """Return what the scores of pictures lose, (N,): nothing where somebody is as likely there as not."""
        return np.float32(self.penalty) * np.maximum(-log_odds, np.float32(0))

    @classmethod
    def read(cls, path: Path, fingerprint: str, embedding_dim: int) -> Self:
        """Read the file of a model with this fingerprint and so many numbers a feature.

        Raises:
            ArtifactError: it cannot be read, or is not JSON.
            ModelError: it is damaged, or belongs to another model; names the field.
        """
        content = read_json(path)
        if not isinstance(content, dict):
            raise ModelError(f"{path}: damaged: expected an object with weights, bias, threshold and penalty")
        if content.get("fingerprint") != fingerprint:
            raise ModelError(
                f"{path}: fingerprint: made for another model than {fingerprint[:12]}; recipes/presence.py makes it"
            )
        weights = content.get("weights")
        if not isinstance(weights, list) or len(weights) != embedding_dim or not all(map(_is_number, weights)):
            raise ModelError(f"{path}: weights: damaged: expected {embedding_dim} numbers")
        for name in ("bias", "threshold", "penalty"):
            if not _is_number(content.get(name)):
                raise ModelError(f"{path}: {name}: damaged: expected a number, not {in_short(content.get(name))}")
        bias, threshold, penalty = (float(content[name]) for name in ("bias", "threshold", "penalty"))
        made = content.get("made") or {}
        return cls(fingerprint, np.array(weights, np.float32), bias, threshold, penalty, made)

    def write(self, path: Path) -> None:
        """Write the file, whole or not at all.

        Raises:
            ArtifactError: it cannot be written.
        """
        numbers = {name: round(getattr(self, name), _DIGITS) for name in ("bias", "threshold", "penalty")}
        weights = [round(float(weight), _DIGITS) for weight in self.weights]
        write_json(path, {"fingerprint": self.fingerprint, **numbers, "made": self.made, "weights": weights})


def fit_log_odds(people: Array, empty: Array) -> tuple[Array, float]:
    """Fit weights (D,) and bias to features (P, D) of people and (E, D) of empty pictures, by logistic regression.

    Both kinds weigh the same, however many there are of each.
    """
    inputs = np.concatenate([people, empty]).astype(np.float64)
    inputs = np.concatenate([inputs, np.ones((len(inputs), 1))], axis=1)
    targets = np.repeat([1.0, 0.0], [len(people), len(empty)])
    importance = np.repeat([0.5 / len(people), 0.5 / len(empty)], [len(people), len(empty)])
    ridge = np.full(inputs.shape[1], _RIDGE)
    ridge[-1] = 0  # the bias is free
    weights = np.zeros(inputs.shape[1])
    for _ in range(_STEPS):
        chances = 1 / (1 + np.exp(-np.clip(inputs @ weights, -30, 30)))
        slope = inputs.T @ (importance * (chances - targets)) + ridge * weights
        curvature = (inputs.T * (importance * chances * (1 - chances))) @ inputs + np.diag(ridge)
        step = np.linalg.solve(curvature, slope)
        weights -= step
        if np.abs(step).max() < _SETTLED * np.abs(weights).max():
            break
    return np.round(weights[:-1], _DIGITS).astype(np.float32), round(float(weights[-1]), _DIGITS)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
