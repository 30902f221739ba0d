"""Where people and sentences come from: data sets that were given, or a program that draws them."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from textreid.reproduction.experiments import LUPERSON_MLLM, Row, Scale

CLIP = "openai/clip-vit-base-patch16"  # on the hub, where no weights are given
DATA = (
    "luperson", LUPERSON_MLLM, "clip", "cuhk-pedes", "icfg-pedes", "rstpreid",
    "mals", "mals-images", "luperson-t", "luperson-t-images",
)  # fmt: skip
# Not the domains that are measured on (`MINI`).
_TRAIN_DOMAINS = ("street", "mall")
_LAB_DOMAINS = ("plaza", "lobby")  # what the stand-in for CLIP has seen: good cameras, on which small things show
_TRUNK = "model.trunk_weights=small"
# The captions of these files name no writer, and a slot needs one.
_WRITERS = {"mals": "MALS", "luperson-t": "LUPerson-T"}
_USUAL_LABELS = {"static", "dynamic"}
_MANIFEST = "manifest.json"


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


class Steps:
    """Steps in the order they are needed, each once."""

    def __init__(self) -> None:
        self._steps: dict[Path, Step] = {}

    def add(self, makes: Path, *arguments: str, run: Path | None = None) -> None:
        """Add a step, unless one that makes the same is there."""
        # Rows share steps: the first to need one adds it.
        self._steps.setdefault(makes, Step(arguments, makes, run))

    def in_order(self) -> tuple[Step, ...]:
        """Return all of them."""
        return tuple(self._steps.values())


class GivenData:
    """Data sets and weights that lie somewhere; a name in capitals stands for one that was not given."""

    def __init__(self, data: Mapping[str, Path], folder: Path, steps: Steps) -> None:
        self._data, self._folder, self._steps = data, folder, steps
        # A dict, for the order in which they were asked for.
        self._needs: dict[str, None] = {}

    def needs(self) -> tuple[str, ...]:
        """Name what was asked for and not given."""
        return tuple(self._needs)

    def measured(self, scale: Scale) -> tuple[str, ...]:
        """Name the benchmarks that were given, or else all."""
        # Who has one benchmark measures on that one; who has none is shown what all would take.
        return tuple(name for name in scale.benchmarks if name in self._data) or scale.benchmarks

    def benchmark(self, name: str) -> str:
        """Write a benchmark as ``--benchmark`` takes it."""
        return f"{name}={self._path(name)}"

    people = benchmark  # the training split is in the same folder

    def weights(self) -> Path:
        """Add the step that makes CLIP at the size of a pedestrian; returns its folder."""
        folder = self._folder / "clip"
        source = str(self._data.get("clip", CLIP))
        self._steps.add(folder / _MANIFEST, "convert", source, str(folder), "--image-size", "384x128")
        return folder

    def settings(self) -> tuple[str, ...]:
        """Return the settings of pre-training that follow from what was given."""
        return (f"model.weights={self._data['clip']}",) if "clip" in self._data else ()

    def captions(self, row: Row) -> tuple[Path, Path]:
        """Add the step that imports the source of a row; returns the root of its images and its caption table.

        What was given has the errors and the templates that it has.
        """
        source = row.captions
        table = self._folder / source
        if source == LUPERSON_MLLM:
            images, captions = self._path("luperson"), self._path(source)
        else:
            images, captions = self._path(f"{source}-images"), f"{_WRITERS[source]}={self._path(source)}"
        arguments = ("captions", "import", captions, "--images", images, "--out", str(table))
        self._steps.add(table / _MANIFEST, *arguments)
        return Path(images), table

    def _path(self, name: str) -> str:
        if name in self._data:
            return str(self._data[name])
        self._needs[name] = None
        return name.upper()


class DrawnPeople:
    """People whom a program draws, other ones in every corpus of a seed; captioned by simulated MLLMs."""

    def __init__(self, scale: Scale, folder: Path, seed: int, lab: Path, steps: Steps) -> None:
        self._scale, self._folder, self._seed, self._lab, self._steps = scale, folder, seed, lab, steps

    def needs(self) -> tuple[str, ...]:
        """Return an empty tuple: whatever is needed is drawn."""
        return ()

    def measured(self, scale: Scale) -> tuple[str, ...]:
        """Name all benchmarks."""
        return scale.benchmarks

    def benchmark(self, name: str) -> str:
        """Draw people to measure on; written as ``--benchmark`` takes them."""
        scale = self._scale
        # Ranges of numbers follow one another, so that nobody who is measured was trained on; `people` goes on here.
        first = len(_TRAIN_DOMAINS) * scale.people + scale.benchmarks.index(name) * scale.test_people
        return str(self._draw("test", name, scale.test_people, first))

    def people(self, name: str) -> str:
        """Draw people to fine-tune on; likewise."""
        scale = self._scale
        before = len(_TRAIN_DOMAINS) * scale.people + len(scale.benchmarks) * scale.test_people
        first = before + scale.benchmarks.index(name) * scale.tuning_people
        return str(self._draw("train", name, scale.tuning_people, first))

    def weights(self) -> Path:
        """Add the steps that make the stand-in for CLIP, the same for all seeds; returns its folder.

        It has read short captions without errors, and seen other domains than all rows.
        """
        people, captions, run = self._lab / "people", self._lab / "captions", self._lab / "run"
        for domain in _LAB_DOMAINS:
            self._steps.add(
                people / domain / _MANIFEST,
                *("synthesize", str(people / domain), "--domain", domain, "--split", "train", "--workers", "1"),
                *("--identities", str(self._scale.lab_people), "--images", "2", "--seed", "0"),
            )
        self._steps.add(
            captions / _MANIFEST,
            *("caption", str(people), "--out", str(captions), "--templates", "general"),
            *("--mllm", "qwen=simulated:0", "--mllm", "shikra=simulated:0", "--seed", "0"),
        )
        settings = [part for setting in (*self._scale.lab_clip, _TRUNK) for part in ("--set", setting)]
        command = ("pretrain", "--preset", self._scale.preset, "--images", str(people), "--captions", str(captions))
        self._steps.add(run / "model" / _MANIFEST, *command, "--out", str(run), *settings, run=run)
        return run / "model"

    def settings(self) -> tuple[str, ...]:
        """Return the settings of pre-training that follow from where it starts."""
        return (f"model.weights={self.weights()}",)

    def captions(self, row: Row) -> tuple[Path, Path]:
        """Draw and caption people for a row to pre-train on; returns their root and their caption table."""
        for number, domain in enumerate(_TRAIN_DOMAINS):
            self._draw("people", domain, self._scale.people, number * self._scale.people)
        images, table = self._folder / "people", self._folder / row.captions
        if row.captions == LUPERSON_MLLM:
            rate = "" if row.error_rate is None else f":{row.error_rate:g}"
            rate += f":{row.error_kind}" if row.error_kind else ""
            writers: tuple[str, ...] = ("--mllm", f"qwen=simulated{rate}", "--mllm", f"shikra=simulated{rate}")
            labels = sorted({slot.partition("/")[2] for slot in row.slots})
            # The two labels that are usual are in one table, whichever of them a row takes.
            if row.templates or not {*labels} <= _USUAL_LABELS:
                writers += ("--slots", ",".join(labels))
                rate += "".join(f"-{label}" for label in labels)
            if row.templates:
                writers += ("--templates", f"own:{row.templates}")
                rate += f"-{row.templates}"
            table = table.with_name(row.captions + rate.replace(":", "-"))
        else:
            # In place of LUPerson-T: captions whose colours are read off the pixels (docs/reproduce.md).
            writers = ("--mllm", "pixels=describe", "--slots", "static")
        arguments = ("caption", str(images), "--out", str(table), *writers, "--seed", str(self._seed))
        self._steps.add(table / _MANIFEST, *arguments)
        return images, table

    def _draw(self, use: str, domain: str, people: int, first: int) -> Path:
        folder, split = self._folder / use / domain, "test" if use == "test" else "train"
        self._steps.add(
            folder / _MANIFEST,
            *("synthesize", str(folder), "--domain", domain, "--split", split, "--workers", "1"),
            *("--identities", str(people), "--images", "2"),
            *("--first-identity", str(first), "--seed", str(self._seed)),
        )
        return folder
