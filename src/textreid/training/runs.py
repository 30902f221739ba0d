"""What the records of a run say: whether it learns, which of its models is kept, and how it stands beside other runs.

No torch here: ``textreid runs`` answers at once.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any, Literal, NamedTuple, Self

from textreid.artifacts import MANIFEST, is_locked, read_json
from textreid.errors import ArtifactError, ConfigError, DataError
from textreid.runlog import METRICS, read_records

Records = Sequence[dict[str, Any]]

ADVICE = "try a longer warm-up (optimizer.min_warmup_steps), a lower optimizer.learning_rate, or more steps"
# Rank-1 accuracy: the figure that the release of the paper chooses its checkpoints by.
FIGURE = "R1"
_CONFIG, _MODEL = "config.json", "model"
_SHARE = 0.1  # of the records, whose mean is the end of a curve
_CLOSE = 0.99  # of the loss of a network that knows nothing


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


@dataclass(frozen=True)
class RunSummary:
    """Summary of a run. What is not known yet, or cannot be read, is None.

    Attributes:
        folder: of the run.
        state: ``complete`` with its model, ``running`` in a process of this machine, ``stopped``, or ``damaged``.
        remark: why it is damaged, or that nothing was learned; or else empty.
        steps: finished, as far as they are logged.
        saved: the step of the newest checkpoint, from which it would go on; 0 where there is none.
        steps_total: of the whole run.
        loss: the last of the log.
        last, best: validations.
        selected_on: the data that chose the model, in words.
        images_per_second: median of the log.
        seconds: that processes worked on it.
        data: fingerprint of its images and captions.
        settings: by dotted name.
    """

    folder: Path
    state: Literal["complete", "running", "stopped", "damaged"]
    remark: str = ""
    steps: int | None = None
    saved: int | None = None
    steps_total: int | None = None
    loss: float | None = None
    last: Validated | None = None
    best: Validated | None = None
    selected_on: str | None = None
    images_per_second: float | None = None
    seconds: float | None = None
    data: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)


def summarize_runs(folders: Iterable[Path]) -> list[RunSummary]:
    """Summarize every run among ``folders`` and their direct subfolders; a summary of one that cannot be read says why.

    Raises:
        DataError: a folder is missing, or neither a run nor a folder of runs.
    """
    found = []
    for folder in folders:
        if not folder.is_dir():
            raise DataError(f"{folder}: no such folder")
        runs = [folder] if _is_run(folder) else sorted(filter(_is_run, folder.iterdir()))
        if not runs:
            raise DataError(f"{folder}: holds no run; give run folders, as of pretrain --out, or a folder of them")
        found += runs
    # A run may be given twice: by itself and by the folder it is in.
    return [_summarize(run) for run in dict.fromkeys(found)]


def differing_settings(runs: Sequence[RunSummary]) -> list[str]:
    """Name, with dots, the settings that are not the same in all ``runs`` whose settings are known."""
    known = [run.settings for run in runs if run.settings]
    names = dict.fromkeys(name for settings in known for name in settings)
    return [name for name in names if any(settings.get(name) != known[0].get(name) for settings in known)]


def _is_run(folder: Path) -> bool:
    """Tell whether it looks like a run, whole or not; a model folder has a manifest."""
    signs = ((folder / METRICS).is_file(), (folder / _CONFIG).is_file(), any(folder.glob("step-*")))
    return folder.is_dir() and any(signs) and not (folder / MANIFEST).exists() and not folder.name.startswith(".")


def _summarize(folder: Path) -> RunSummary:
    try:
        return _read(folder)
    except ArtifactError as error:
        return RunSummary(folder, "damaged", str(error))
    # A file changed by hand, for one, must not hide the other runs.
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        return RunSummary(folder, "damaged", f"{folder}: holds what no run writes: {type(error).__name__}: {error}")


def _read(folder: Path) -> RunSummary:
    config = read_json(folder / _CONFIG)
    settings = {f"{section}.{name}": value for section, values in config.items() for name, value in values.items()}
    records = read_records(folder / METRICS)
    begun = [record for record in records if record["event"] in ("start", "resume")]
    if not begun:
        raise ArtifactError(f"{folder / METRICS}: holds no start of a run")
    trained = [record for record in records if record["event"] == "train"]
    saved = whole_checkpoints(folder)
    selection = Selection.from_records(config["training"]["select"], None, records)
    steps, total = max(int(record["step"]) for record in records), int(begun[-1]["steps"])
    # Both are needed: a run writes its model only after its last step, and may be stopped in between.
    finished = steps == total and (folder / _MODEL / MANIFEST).is_file()
    return RunSummary(
        folder=folder,
        # The lock counts first: a run is still at work when its model is there but its plots are not.
        state="running" if is_locked(folder) else "complete" if finished else "stopped",
        remark=diagnose(records),
        steps=steps,
        saved=int(saved[-1].name.removeprefix("step-")) if saved else 0,
        steps_total=total,
        loss=float(trained[-1]["loss"]) if trained else None,
        last=selection.seen[-1] if selection.seen else None,
        best=selection.best,
        selected_on=read_json(folder / _MODEL / MANIFEST)["selected_on"] if finished else None,
        # The median, because single slow intervals say nothing of the speed.
        images_per_second=median(float(record["images_per_second"]) for record in trained) if trained else None,
        seconds=_seconds(records),
        data=str(begun[-1]["data"]),
        settings=settings,
    )


def whole_checkpoints(run: Path) -> list[Path]:
    """List the folders of the whole checkpoints of a run, oldest first."""
    return sorted(path for path in run.glob("step-*") if (path / MANIFEST).is_file())


def _seconds(records: Records) -> float | None:
    """Add up, of each process that worked on the run, the time from its first record to its last."""
    if any("time" not in record for record in records):
        return None
    total = 0.0
    for record, after in pairwise(records):
        # Between the last record of a process and the resume of the next one, nothing ran.
        if after["event"] != "resume":
            total += float(after["time"]) - float(record["time"])
    return total
