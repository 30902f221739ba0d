"""From a row to the commands that make it: at the size of the paper, or in miniature on drawn people."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from textreid.reproduction.experiments import LUPERSON_MLLM, Experiment, Row, rows_by_id
from textreid.reproduction.scales import MINI, PAPER, QUICK, Scale
from textreid.reproduction.sizes import size_of

SCALES = {scale.name: scale for scale in (PAPER, MINI, QUICK)}
CLIP = "openai/clip-vit-base-patch16"  # on the hub; --data clip=PATH takes its place
_TRAIN_DOMAINS = ("street", "mall")
_ORIGINALS = {"mals": "MALS", "luperson-t": "LUPerson-T"}


class Step(NamedTuple):
    """One command.

    Attributes:
        arguments: of ``textreid``.
        makes: what is there when it is done, and not before.
        run: folder of a training run, which goes on where it was stopped; None for other commands.
    """

    arguments: tuple[str, ...]
    makes: Path
    run: Path | None = None


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


@dataclass(frozen=True)
class Plan:
    """An experiment at one scale.

    Attributes:
        experiment: which.
        scale: at which.
        folder: all its files lie below it; rows that experiments share are made once.
        rows: for each row all its seeds.
    """

    experiment: Experiment
    scale: Scale
    folder: Path
    rows: tuple[PlannedRow, ...]


def make_plan(
    experiment: Experiment, scale: Scale, out: Path, seeds: Sequence[int], data: Mapping[str, Path] | None = None
) -> Plan:
    """The commands of an experiment.

    Args:
        experiment: which.
        scale: one of `SCALES`.
        out: the folder that holds everything, a folder for each scale.
        seeds: of the repetitions.
        data: where the data sets and weights are, by name; at the paper's scale.

    Raises:
        ConfigError: a setting of a row is refused.
    """
    folder = out / scale.name
    rows = experiment.rows[scale.rows]
    planned = tuple(
        _Planner(scale, folder, seed, None if scale.drawn else dict(data or {})).plan(row)
        for row in rows
        for seed in seeds
    )
    return Plan(experiment, scale, folder, planned)


class _Planner:
    """Makes the steps of rows with one seed. ``data`` is None where people are drawn."""

    def __init__(self, scale: Scale, folder: Path, seed: int, data: dict[str, Path] | None) -> None:
        self._scale, self._seed, self._data = scale, seed, data
        self._shared = folder / "data" / (f"seed-{seed}" if data is None else "")
        self._own = folder / f"seed-{seed}"
        self._steps: dict[Path, Step] = {}
        self._needs: dict[str, None] = {}

    def plan(self, row: Row) -> PlannedRow:
        model = self._model(row)
        report = self._own / "reports" / row.id
        benchmarks = [part for name in self._measured(row) for part in ("--benchmark", self._benchmark(name))]
        self._add(report / "report.json", "evaluate", str(model), *benchmarks, "--report", str(report))
        return PlannedRow(
            row,
            self._seed,
            tuple(self._steps.values()),
            report / "report.json",
            tuple(self._needs),
            size_of(row, self._scale),
        )

    def _measured(self, row: Row) -> list[str]:
        """The benchmarks that a row is measured on; at the paper's scale those that are given, or else all."""
        names = self._scale.benchmarks
        given = [name for name in names if self._data is None or name in self._data]
        return given or list(names)

    def _model(self, row: Row) -> Path:
        """Add what makes the model of a row; returns its folder."""
        if row.weights:
            folder = self._shared / row.weights
            source = self._given("clip", CLIP)
            self._add(folder / "manifest.json", "convert", source, str(folder), "--image-size", "384x128")
            return folder
        settings = (*row.set, f"training.seed={self._seed}")
        if row.finetune and row.start:
            start = self._model(rows_by_id()[row.start])
            command = ["finetune", str(start), "--benchmark", self._people(row.finetune)]
            settings = (*self._scale.finetune, *settings)
        else:
            images, table = self._captions(row)
            command = ["pretrain", "--preset", self._scale.preset, "--images", str(images), "--captions", str(table)]
            settings = (*self._scale.pretrain, *settings)
            if self._data is not None and "clip" in self._data:
                settings = (f"model.weights={self._data['clip']}", *settings)
        run = self._own / "runs" / row.id
        assignments = [part for setting in settings for part in ("--set", setting)]
        self._add(run / "model" / "manifest.json", *command, "--out", str(run), *assignments, run=run)
        return run / "model"

    def _captions(self, row: Row) -> tuple[Path, Path]:
        """Add what makes the caption table of a row; returns the root of the images and the table."""
        if self._data is None:
            images, table = self._drawn_captions(row.captions)
        else:
            images, table = self._given_captions(row.captions)
        count = row.images.get(self._scale.rows)
        if not row.slots and count is None:
            return images, table
        slots = [part for slot in row.slots for part in ("--slot", slot)]
        sample = [] if count is None else ["--sample", str(self._scale.sample(count)), "--seed", str(self._seed)]
        names = [slot.replace("/", "-") for slot in row.slots] or [row.captions]
        part = self._own / "captions" / "-".join([*names, *sample[1:2]])
        self._add(part / "manifest.json", "captions", "select", str(table), str(part), *slots, *sample)
        return images, part

    def _drawn_captions(self, source: str) -> tuple[Path, Path]:
        images = self._shared / "people"
        for number, domain in enumerate(_TRAIN_DOMAINS):
            self._draw(images / domain, domain, "train", self._scale.people, number * self._scale.people)
        table = self._shared / source
        mllms = ["qwen=simulated", "shikra=simulated"] if source == LUPERSON_MLLM else ["pixels=describe"]
        named = [part for mllm in mllms for part in ("--mllm", mllm)]
        slots = () if source == LUPERSON_MLLM else ("--slots", "static")
        self._add(
            table / "manifest.json",
            *("caption", str(images), "--out", str(table), *named, *slots, "--seed", str(self._seed)),
        )
        return images, table

    def _given_captions(self, source: str) -> tuple[Path, Path]:
        table = self._shared / source
        if source == LUPERSON_MLLM:
            images, captions = self._given("luperson"), self._given(source)
        else:
            images, captions = self._given(f"{source}-images"), f"{_ORIGINALS[source]}={self._given(source)}"
        self._add(
            table / "manifest.json", "captions", "import", captions, "--images", images, "--out", str(table)
        )  # fmt: skip
        return Path(images), table

    def _benchmark(self, name: str) -> str:
        """The test people, as ``--benchmark`` takes them."""
        if self._data is not None:
            return f"{name}={self._given(name)}"
        first = len(_TRAIN_DOMAINS) * self._scale.people + self._scale.benchmarks.index(name) * self._scale.test_people
        return str(self._draw(self._shared / "test" / name, name, "test", self._scale.test_people, first))

    def _people(self, name: str) -> str:
        """The people to fine-tune on, likewise."""
        if self._data is not None:
            return f"{name}={self._given(name)}"
        scale = self._scale
        first = (
            len(_TRAIN_DOMAINS) * scale.people
            + len(scale.benchmarks) * scale.test_people
            + scale.benchmarks.index(name) * scale.tuning_people
        )
        return str(self._draw(self._shared / "train" / name, name, "train", scale.tuning_people, first))

    def _draw(self, folder: Path, domain: str, split: str, people: int, first: int) -> Path:
        images = 3 if split == "test" else 2
        self._add(
            folder / "manifest.json",
            *("synthesize", str(folder), "--domain", domain, "--split", split, "--workers", "2"),
            *("--identities", str(people), "--images", str(images), "--first-identity", str(first)),
            *("--seed", str(self._seed)),
        )
        return folder

    def _given(self, name: str, otherwise: str | None = None) -> str:
        path = (self._data or {}).get(name)
        if path is None and otherwise is None:
            self._needs[name] = None
        return otherwise or name.upper() if path is None else str(path)

    def _add(self, makes: Path, *arguments: str, run: Path | None = None) -> None:
        self._steps.setdefault(makes, Step(arguments, makes, run))
