"""Seeded chance that is the same on every machine: exact arithmetic on PCG64 uniforms alone."""

import zlib
from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np

_T = TypeVar("_T")
_BUFFER = 256


def generator(*keys: int | str) -> np.random.Generator:
    """Make a PCG64 generator seeded by a path of numbers and names."""
    # CRC-32, because `hash` of a string differs between processes; modulo, because a seed must not be negative.
    words = [zlib.crc32(key.encode()) if isinstance(key, str) else key % (1 << 64) for key in keys]
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(words)))


class Chance:
    """Draws built on uniforms only: other distributions would call the platform's ``exp`` and ``log``."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._ready: list[float] = []

    @classmethod
    def of(cls, *keys: int | str) -> "Chance":
        """Make a chance seeded by a path of numbers and names."""
        return cls(generator(*keys))

    def unit(self) -> float:
        """Draw a number in [0, 1)."""
        if not self._ready:
            self._ready = self._rng.random(_BUFFER).tolist()
        return self._ready.pop()

    def between(self, low: float, high: float) -> float:
        """Draw a number in [low, high)."""
        return low + (high - low) * self.unit()

    def middle(self, low: float, high: float) -> float:
        """Draw a number in [low, high) that prefers the middle (triangular)."""
        return low + (high - low) * 0.5 * (self.unit() + self.unit())

    def whole(self, low: int, high: int) -> int:
        """Draw a whole number in [low, high)."""
        return low + int(self.unit() * (high - low))

    def happens(self, probability: float) -> bool:
        """Draw True with the given probability."""
        return self.unit() < probability

    def pick(self, values: Sequence[_T]) -> _T:
        """Draw one of ``values``, all alike."""
        return values[int(self.unit() * len(values))]

    def weighted(self, weights: Mapping[_T, float]) -> _T:
        """Draw one of the keys, in proportion to its weight."""
        point = self.unit() * sum(weights.values())
        for value, weight in weights.items():
            point -= weight
            if point < 0:
                return value
        return [value for value, weight in weights.items() if weight > 0][-1]  # rounding left a crumb
