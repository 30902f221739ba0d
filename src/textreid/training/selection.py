"""Which model of a run is kept: the last, or the one that ranked best on a validation set."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Self

from textreid.errors import ConfigError

# Rank-1 accuracy: the figure that the release of the paper chooses its checkpoints by.
FIGURE = "R1"


class Validated(NamedTuple):
    """Score that was measured after ``step`` steps."""

    step: int
    epoch: float
    score: float


def validations(records: Iterable[Mapping[str, Any]], default: str | None) -> list[dict[str, Any]]:
    """List the validations among ``records``, each with its ``validation_set``.

    Older logs call it ``watched``, and the oldest do not name it: those were on ``default``.
    """
    return [
        {**record, "validation_set": record.get("validation_set", record.get("watched", default))}
        for record in records
        if record["event"] == "validation"
    ]


@dataclass
class Selection:
    """Choice among the models of a run, by its validations from the first epoch on: not the one it starts from.

    Attributes:
        rule: of ``training.select``.
        validation_set: in words; None where there is none.
        seen: what was measured on it.
        all_sets: everything that was measured on: a run may go on with another, unless that chooses its model.
    """

    rule: Literal["last", "validation"]
    validation_set: str | None
    seen: list[Validated] = field(default_factory=list)
    all_sets: list[str] = field(default_factory=list)

    @classmethod
    def from_records(
        cls,
        rule: Literal["last", "validation"],
        validation_set: str | None,
        records: Iterable[Mapping[str, Any]],
    ) -> Self:
        """Rebuild the selection as it stood when the log held ``records``; None is the set that they end with."""
        measured = validations(records, validation_set)
        if measured:
            validation_set = validation_set or measured[-1]["validation_set"]
        names = dict.fromkeys(record["validation_set"] for record in measured if record["validation_set"])
        selection = cls(rule, validation_set, all_sets=list(names))
        for record in measured:
            if record["validation_set"] == validation_set:
                # By `offer`, so that a run that goes on chooses as one that never stopped.
                selection.offer(record["step"], record["epoch"], record)
        return selection

    @property
    def best(self) -> Validated | None:
        """The highest R1; the earliest of equal ones."""
        return max(self.seen, key=lambda validated: validated.score, default=None)

    def offer(self, step: int, epoch: float, figures: Mapping[str, Any]) -> bool:
        """Note a validation; returns whether its model is the one to keep so far.

        Raises:
            ConfigError: the rule needs R1, which ``figures`` lacks.
        """
        if self.validation_set and self.validation_set not in self.all_sets:
            self.all_sets.append(self.validation_set)
        if step == 0:
            return False
        if FIGURE not in figures:
            if self.rule == "validation":
                raise ConfigError(f"training.select: validation, but the figures of it hold no {FIGURE}")
            return False
        self.seen.append(Validated(step, epoch, figures[FIGURE]))
        return self.kept_step == step

    @property
    def kept_step(self) -> int | None:
        """The step whose checkpoint is to be kept whatever comes after; None under the rule ``last``."""
        return self.best.step if self.best and self.rule == "validation" else None

    def describe(self) -> str:
        """Describe R1 of the last model and of the best; empty where none was measured."""
        if not self.best:
            return ""
        best, last = self.best, self.seen[-1]
        if best is last:
            return f"{FIGURE} {last.score:.4g} after epoch {last.epoch:g}, the last and best"
        return (
            f"{FIGURE} {last.score:.4g} after epoch {last.epoch:g}, the last; "
            f"best {best.score:.4g} after epoch {best.epoch:g}"
        )

    def selected_on(self) -> str:
        """Name, for the model folder, the data that chose among the models of the run, or that it was measured on."""
        # It is never 0: `offer` does not take the weights that a run starts from.
        if self.kept_step:
            return f"{self.validation_set} ({FIGURE})"
        return "nothing: the last step" + (f"; watched: {', '.join(self.all_sets)}" if self.all_sets else "")
