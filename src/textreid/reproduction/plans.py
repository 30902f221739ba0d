"""From a row to the commands that make it, at the size of the paper or in miniature on drawn people, and their run."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from textreid.artifacts import read_json, write_json
from textreid.config import Config
from textreid.datasets.benchmarks import PUBLISHED
from textreid.errors import ArtifactError, ConfigError
from textreid.presets import preset
from textreid.reproduction.experiments import LUPERSON_MLLM, Experiment, Row, Scale, rows_by_id
from textreid.reproduction.sources import DrawnPeople, GivenData, Step, Steps

Execute = Callable[[Sequence[str]], object]  # runs `textreid` with these arguments; raises where that fails
Say = Callable[[str], None]
_SLOTS = 4  # captions of an image in LUPerson-MLLM
_CONFIG = "config.json"  # what a training run writes first; before that there is nothing to go on from


@dataclass(frozen=True)
class PlannedRow:
    """A row with one seed.

    Attributes:
        row: what it is.
        seed: of its people, captions, sample and training, as far as they are drawn.
        steps: in order; the last one writes ``report``.
        report: JSON of its evaluation.
        needs: data that were not given, by name.
        size: of its training, in words; empty where nothing is trained.
    """

    row: Row
    seed: int
    steps: tuple[Step, ...]
    report: Path
    needs: tuple[str, ...]
    size: str

    @property
    def missing_options(self) -> str:
        """Write ``needs`` as the options that would give them."""
        return " ".join(f"--data {name}=PATH" for name in self.needs)


@dataclass(frozen=True)
class Plan:
    """An experiment at one scale.

    Attributes:
        experiment: which.
        scale: at which.
        folder: all its files lie below it; rows that experiments share are made once.
        rows: for each seed all rows, so that a table which is stopped has whole seeds to compare.
    """

    experiment: Experiment
    scale: Scale
    folder: Path
    rows: tuple[PlannedRow, ...]


def make_plan(
    experiment: Experiment, scale: Scale, out: Path, seeds: Sequence[int], data: Mapping[str, Path] | None = None
) -> Plan:
    """List the commands of an experiment.

    Args:
        experiment: which.
        scale: one of `experiments.SCALES`.
        out: the folder that holds everything, a folder for each scale.
        seeds: of the repetitions.
        data: where the data sets and weights are, by name; at the paper's scale.

    Raises:
        ConfigError: a setting of a row is refused, or the experiment has no rows at this scale.
    """
    folder = out / scale.name
    rows = experiment.rows[scale.rows]
    if not rows:
        # Of real captions nobody knows which words are wrong.
        raise ConfigError(f"{experiment.name}: an experiment of drawn people only; use --scale mini")
    planned = tuple(_plan_row(row, scale, folder, seed, data or {}) for seed in seeds for row in rows)
    return Plan(experiment, scale, folder, planned)


def _plan_row(row: Row, scale: Scale, folder: Path, seed: int, data: Mapping[str, Path]) -> PlannedRow:
    # Drawn people belong to a seed; data sets that were given are imported once for all seeds.
    steps, own = Steps(), folder / f"seed-{seed}"
    source: DrawnPeople | GivenData = GivenData(data, folder / "data", steps)
    if scale.drawn:
        source = DrawnPeople(scale, own / "data", seed, folder / "lab", steps)
    model = _Planner(scale, own, seed, source, steps).add_model(row)
    report = own / "reports" / row.id
    benchmarks = [part for name in source.measured(scale) for part in ("--benchmark", source.benchmark(name))]
    steps.add(report / "report.json", "evaluate", str(model), *benchmarks, "--report", str(report))
    return PlannedRow(row, seed, steps.in_order(), report / "report.json", source.needs(), size_of(row, scale))


@dataclass(frozen=True)
class _Planner:
    """Planner of the steps that make a model, wherever its people come from."""

    scale: Scale
    own: Path
    seed: int
    source: DrawnPeople | GivenData
    steps: Steps

    def add_model(self, row: Row) -> Path:
        """Add the steps of a row's model; returns its folder."""
        if row.weights:
            return self.source.weights()
        run = self.own / "runs" / row.id
        if row.finetune and row.start:
            start = self.add_model(rows_by_id()[row.start])
            command = ["finetune", str(start), "--benchmark", self.source.people(row.finetune)]
            settings = self.scale.finetune
        else:
            images, table = self._captions(row)
            command = ["pretrain", "--preset", self.scale.preset, "--images", str(images), "--captions", str(table)]
            settings = (*self.scale.pretrain, *self.source.settings())
        # Later settings win: those of a row over those of its scale.
        settings = (*settings, *row.set, f"training.seed={self.seed}")
        assignments = [part for setting in settings for part in ("--set", setting)]
        self.steps.add(run / "model" / "manifest.json", *command, "--out", str(run), *assignments, run=run)
        return run / "model"

    def _captions(self, row: Row) -> tuple[Path, Path]:
        """Add the steps of a row's captions; returns the root of its images and its caption table."""
        images, table = self.source.captions(row)
        count = row.images.get(self.scale.rows)
        if not row.slots and count is None:
            return images, table
        slots = [part for slot in row.slots for part in ("--slot", slot)]
        sample = [] if count is None else ["--sample", str(self.scale.sample(count)), "--seed", str(self.seed)]
        # Named after what is chosen and not after the row: rows with the same captions share the folder.
        names = [*([] if row.slots and table.name == row.captions else [table.name]), *row.slots]
        part = self.own / "captions" / "-".join([*names, *sample[1:2]]).replace("/", "-")
        self.steps.add(part / "manifest.json", "captions", "select", str(table), str(part), *slots, *sample)
        return images, part


def training_config(row: Row, scale: Scale, seed: int = 0) -> Config:
    """Return the settings of a row's own training, but for the network that fine-tuning takes from its start.

    Raises:
        ConfigError: one is refused.
    """
    name, settings = ("finetune", scale.finetune) if row.finetune else (scale.preset, scale.pretrain)
    return preset(name).override([*settings, *row.set, f"training.seed={seed}"])


def size_of(row: Row, scale: Scale) -> str:
    """Say the data and steps of a row's own training in words; empty where nothing is trained.

    At the paper's scale also the operations, 6 for each parameter and token, from which follows what hardware needs.
    """
    if row.weights:
        return ""
    training = training_config(row, scale).training
    images, captions = _images_and_captions(row, scale)
    if images is None:
        return f"{training.epochs} epochs, {training.batch_size} {training.epoch_unit}s at once"
    units = captions if training.epoch_unit == "pair" else images
    steps = training.epochs * -(-units // training.batch_size)
    words = (
        f"{images:,} images, {captions:,} captions; {training.epochs} epochs, {steps:,} steps of "
        f"{training.batch_size} {training.epoch_unit}s"
    )
    return words if scale.drawn else f"{words}; about {_operations(row, scale, units):.1e} operations"


def _images_and_captions(row: Row, scale: Scale) -> tuple[int | None, int]:
    if row.finetune and scale.drawn:
        # `DrawnPeople` draws two crops of each, and every crop has two sentences.
        return 2 * scale.tuning_people, 4 * scale.tuning_people
    if row.finetune:
        train = PUBLISHED[row.finetune].splits["train"][0]
        return train.images, train.captions
    images = scale.images_of(row)
    slots = len(row.slots) or (_SLOTS if row.captions == LUPERSON_MLLM else 1)
    return images, slots * (images or 0)


def _operations(row: Row, scale: Scale, pairs: int) -> float:
    config = training_config(row, scale)
    model = config.model
    patches = model.grid[0] * model.grid[1]
    # A block of width w has 12 w² weights: 4 in its attention, 8 in its MLP. Embeddings and heads are left out.
    image = 12 * model.vision_layers * model.vision_width**2 * (1 + patches)
    text = 12 * model.text_layers * model.text_width**2 * model.text_length
    # Two operations a weight and token on the way forward, four on the way back.
    return 6.0 * (image + text) * pairs * config.training.epochs


def run_plan(plan: Plan, execute: Execute, say: Say) -> list[str]:
    """Run every step that is not done, in order; returns why rows were left out.

    Raises:
        ConfigError: no row has the data it needs.
        ArtifactError: the folder holds results of other commands (of another version, or other data).
        TextReidError: whatever a command raises; the same call goes on from there.
    """
    ready = [row for row in plan.rows if not row.needs]
    # Rows that lack data are told and left out: whoever has one data set shall get the rows that it takes.
    left_out = [f"{row.row.label}: give {row.missing_options}" for row in plan.rows if row.needs]
    if not ready:
        raise ConfigError(f"nothing to run: {'; '.join(left_out)}")
    for number, row in enumerate(ready, start=1):
        say(f"[{number}/{len(ready)}] {row.row.label}, seed {row.seed}")
        for step in row.steps:
            _run_step(plan.folder, step, execute, say)
    return left_out


def _run_step(folder: Path, step: Step, execute: Execute, say: Say) -> None:
    note = folder / "steps" / ("-".join(step.makes.relative_to(folder).parts) + ".json")
    arguments = list(step.arguments)
    if note.exists() or step.makes.exists():
        # A result without a note was made by somebody else: it is never taken for ours.
        made_by = read_json(note)["arguments"] if note.exists() else None
        if made_by != arguments:
            raise ArtifactError(
                f"{step.makes.parent}: made by other arguments of textreid than it would be now (see {note}); choose "
                "another folder with --out, or remove both"
            )
    if step.makes.exists():
        return
    # Before the command runs, so that what it leaves when it is interrupted is known for its own.
    write_json(note, {"arguments": arguments})
    # Only a training has to be told: `caption` goes on by itself, and the others begin again.
    resumed = ["--resume"] if step.run and (step.run / _CONFIG).is_file() else []
    say("$ textreid " + " ".join([*arguments, *resumed]))
    start = time.monotonic()
    execute([*arguments, *resumed])
    write_json(note, {"arguments": arguments, "seconds": round(time.monotonic() - start, 1), "resumed": bool(resumed)})
