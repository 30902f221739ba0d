"""Whether a run has learned anything, from its records alone."""

from collections.abc import Sequence
from typing import Any

_SHARE = 0.1  # of the records, whose mean is the end of a curve
_CLOSE = 0.99  # of the loss of a network that knows nothing
REMEDY = "try a longer warm-up (optimizer.min_warmup_steps), a lower optimizer.learning_rate, or more steps"


def complaint(records: Sequence[dict[str, Any]]) -> str:
    """What is wrong with the losses of a run in one sentence; empty where they fell.

    A loss must end below that of a network to which all images and sentences are alike
    (`textreid.training.uninformed`), and the sum below where it began.
    """
    trained = [record for record in records if record["event"] == "train"]
    if len(trained) < 2:
        return ""
    last = trained[-max(1, round(_SHARE * len(trained))) :]
    begun = next((record for record in records if record["event"] == "start"), {})
    for name, uninformed in begun.get("uninformed_losses", {}).items():
        end = _mean(name, last)
        if end >= _CLOSE * uninformed:
            return (
                f"nothing learned: the {name} loss is {end:.3f}, and {uninformed:.3f} is that of a model "
                "to which everything looks alike"
            )
    first, end = float(trained[0]["loss"]), _mean("loss", last)
    return f"the loss has not fallen: {first:.3f} at first, {end:.3f} now" if end >= first else ""


def _mean(name: str, records: Sequence[dict[str, Any]]) -> float:
    return sum(float(record[name]) for record in records) / len(records)
