"""Whether a run learns: means of what its steps measure, and a diagnosis from its records alone."""

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from textreid.errors import TextReidError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_SHARE = 0.1  # of the records, whose mean is the end of a curve
_CLOSE = 0.99  # of the loss of a network that knows nothing
ADVICE = "try a longer warm-up (optimizer.min_warmup_steps), a lower optimizer.learning_rate, or more steps"


class Meters:
    """Means of figures over the steps since the last line of the log.

    Attributes:
        names: of the figures.
        sums: (names + 1,) of each figure, and of the steps; part of a checkpoint, so that the lines of the log
            survive an interruption.
    """

    def __init__(self, names: Sequence[str], device: "torch.device") -> None:
        # Imported here: `textreid.training.runs` and plots need this file too, and do without torch.
        import torch

        self.names = tuple(names)
        self.sums = torch.zeros(len(names) + 1, dtype=torch.float64, device=device)
        self._images = 0
        self._since = time.monotonic()

    def add(self, figures: "Mapping[str, Tensor]", images: int) -> None:
        """Add the figures of one step over ``images``, without waiting for the device; others than `names` are left."""
        import torch

        values = [figures[name].detach().double() for name in self.names]
        self.sums += torch.stack([*values, torch.ones_like(values[0])])
        self._images += images

    def check(self, step: int) -> None:
        """Raise TextReidError if a figure was not finite."""
        # A sum stays NaN or infinite once a figure was, so that no step has to wait for a check of its own.
        if not bool(self.sums.isfinite().all()):
            raise TextReidError(
                f"the loss is no longer finite at step {step}; lower optimizer.learning_rate "
                "or set optimizer.clip_norm, and start again"
            )

    def take(self) -> dict[str, float]:
        """Return the means, and images per second; begins anew."""
        *sums, steps = self.sums.tolist()
        means = {name: value / steps for name, value in zip(self.names, sums, strict=True)}
        means["images_per_second"] = round(self._images / (time.monotonic() - self._since), 1)
        self.sums.zero_()
        self.restart_clock()
        return means

    def restart_clock(self) -> None:
        """Leave what went before (an evaluation, a checkpoint) out of the images per second."""
        self._images, self._since = 0, time.monotonic()


def diagnose(records: Sequence[dict[str, Any]]) -> str:
    """Say what is wrong with the losses of a run in one sentence; empty where they fell.

    A loss must end below that of a network to which all images and sentences are alike
    (`textreid.training.losses.chance_levels`), and the sum below where it began.
    """
    trained = [record for record in records if record["event"] == "train"]
    if len(trained) < 2:
        return ""
    last = trained[-max(1, round(_SHARE * len(trained))) :]
    for name, level in chance_levels_of(records).items():
        end = _mean(name, last)
        if end >= _CLOSE * level:
            return (
                f"nothing learned: the {name} loss is {end:.3f}, and {level:.3f} is that of a model "
                "to which everything looks alike"
            )
    first, end = float(trained[0]["loss"]), _mean("loss", last)
    return f"the loss has not fallen: {first:.3f} at first, {end:.3f} now" if end >= first else ""


def chance_levels_of(records: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Find the chance levels of the losses in the records of a run; older ones have them under another name."""
    start: dict[str, Any] = next((record for record in records if record["event"] == "start"), {})
    levels: dict[str, float] = start.get("chance_levels", start.get("uninformed_losses", {}))
    return levels


def _mean(name: str, records: Sequence[dict[str, Any]]) -> float:
    return sum(float(record[name]) for record in records) / len(records)
