"""Which model of a run is kept: the last, or the one that ranked best on a validation set."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Self

from textreid.errors import ConfigError

FIGURE = "R1"


class Validated(NamedTuple):
    """What was measured after ``step`` steps."""

    step: int
    epoch: float
    score: float


def validations(records: Iterable[Mapping[str, Any]], on: str | None) -> list[dict[str, Any]]:
    """The validations among ``records``; those that do not name their set, as logs once did not, were on ``on``."""
    return [{"watched": on, **record} for record in records if record["event"] == "validation"]


@dataclass
class Selection:
    """Follows the validations of a run, from the first epoch on: the model it starts from is no candidate.

    Attributes:
        rule: of ``training.select``.
        on: the validation set, in words; None where there is none.
        seen: what was measured on it.
        watched: every set that anything was measured on: a run may go on with another, unless that chooses its model.
    """

    rule: Literal["last", "validation"]
    on: str | None
    seen: list[Validated] = field(default_factory=list)
    watched: list[str] = field(default_factory=list)

    @classmethod
    def from_records(
        cls, rule: Literal["last", "validation"], on: str | None, records: Iterable[Mapping[str, Any]]
    ) -> Self:
        """The selection as it stood when the log held ``records``; ``on`` is None for the set they end with."""
        measured = validations(records, on)
        if measured:
            on = on or measured[-1]["watched"]
        watched = dict.fromkeys(record["watched"] for record in measured if record["watched"])
        selection = cls(rule, on, watched=list(watched))
        for record in measured:
            if record["watched"] == on:
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
        if self.on and self.on not in self.watched:
            self.watched.append(self.on)
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
        """R1 of the last model and of the best, for a reader; empty where none was measured."""
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
        """For the model folder: the data that chose among the models of the run, or was watched."""
        if self.kept_step:
            return f"{self.on} ({FIGURE})"
        return "nothing: the last step" + (f"; watched: {', '.join(self.watched)}" if self.watched else "")
