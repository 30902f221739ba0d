"""Means over the steps since the last line of the log."""

import time
from collections.abc import Mapping

import torch
from torch import Tensor

from textreid.errors import TextReidError


class Totals:
    """Sums of the figures in ``names``; part of a checkpoint, so that the lines of the log survive an interruption."""

    def __init__(self, names: tuple[str, ...], device: torch.device) -> None:
        self._names = names
        self.sums = torch.zeros(len(names) + 1, dtype=torch.float64, device=device)  # the last counts steps
        self._images = 0
        self._since = time.monotonic()

    def add(self, images: int, figures: Mapping[str, Tensor]) -> None:
        """Add the figures of one step, without waiting for the device."""
        values = [figures[name].detach().double() for name in self._names]
        self.sums += torch.stack([*values, torch.ones_like(values[0])])
        self._images += images

    def check(self, step: int) -> None:
        """Raise TextReidError if a figure was not finite."""
        if not bool(torch.isfinite(self.sums).all()):
            raise TextReidError(
                f"the loss is no longer finite at step {step}; lower optimizer.learning_rate "
                "or set optimizer.clip_norm, and start again"
            )

    def take(self) -> dict[str, float]:
        """The means, and images per second; begins anew."""
        *sums, steps = self.sums.tolist()
        means = {name: value / steps for name, value in zip(self._names, sums, strict=True)}
        means["images_per_second"] = round(self._images / (time.monotonic() - self._since), 1)
        self.sums.zero_()
        self.restart_clock()
        return means

    def restart_clock(self) -> None:
        """Leave what went before (an evaluation, a checkpoint) out of the images per second."""
        self._images, self._since = 0, time.monotonic()
