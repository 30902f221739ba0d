"""The experiments of the paper, read from ``experiments.toml``, and the sizes at which they are made."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.resources import files
from typing import Any

from textreid.datasets.benchmarks import PUBLISHED
from textreid.errors import ConfigError, nearest_name

LUPERSON_MLLM = "luperson-mllm"
# Two shallow transformers, the image's above the bundled model's trunk. That has seen photographs of things, so that
# what is small has a name soon; it stays as it is, and its maps of unchanged pictures are computed once a row.
_LAB_TOWERS = (
    "model.stem=efficientnet-lite0", "optimizer.trunk_lr_multiplier=0", "training.cache_images=maps",
    "model.pixel_mean=[0.485, 0.456, 0.406]", "model.pixel_std=[0.229, 0.224, 0.225]",
    "model.vision_width=128", "model.vision_layers=2", "model.vision_heads=2",
    "model.text_width=128", "model.text_layers=2", "model.text_heads=2", "model.text_length=64",
    "model.vocabulary_size=2048", "masking.layer=2",
    "augmentation.flip=0", "augmentation.pad=0", "augmentation.erase=0", "augmentation.scale=0",
    "augmentation.colour=0", "augmentation.blur=0",
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One model and what it learns from.

    Attributes:
        id: unique, and part of file names.
        label: for readers.
        published: name of its rows in ``published.toml``; None where nothing was published.
        captions: source of its sentences.
        slots: captions of an image that it learns from; all where empty.
        images: how many, by scale; all where a scale is not there.
        set: settings on top of those of the scale, as ``section.name=value``.
        error_rate: of simulated captioners, who err as often as real ones (0.15) where nothing is said.
        error_kind: the only kind of error that they make; every kind where None.
        templates: how many of our own the dynamic instruction borrows from; all where None.
        weights: data that holds the weights of a row that is not trained; None where it is.
        start: id of the row whose model it is fine-tuned from; None where it is pre-trained.
        finetune: the benchmark it is fine-tuned on.
    """

    id: str
    label: str
    published: str | None = None
    captions: str = LUPERSON_MLLM
    slots: tuple[str, ...] = ()
    images: Mapping[str, int] = field(default_factory=dict)
    set: tuple[str, ...] = ()
    error_rate: float | None = None
    error_kind: str | None = None
    templates: int | None = None
    weights: str | None = None
    start: str | None = None
    finetune: str | None = None


@dataclass(frozen=True)
class Experiment:
    """A table or a figure.

    Attributes:
        name: what it is about.
        alias: another name; a number of ours, not checked against the paper's.
        title: for readers.
        rows: by scale.
        reference: id of the row that the others are compared with, if any.
        x: what a figure shows along its axis, ``"images"`` or a setting; None for a table.
        references: id of the row that a row is compared with, by id, where that is another than ``reference``.
        bounds: id of the row whose gain is all that a row can have, by id.
    """

    name: str
    alias: str
    title: str
    rows: Mapping[str, tuple[Row, ...]]
    reference: str | None
    x: str | None
    references: Mapping[str, str] = field(default_factory=dict)
    bounds: Mapping[str, str] = field(default_factory=dict)


@cache
def rows_by_id() -> Mapping[str, Row]:
    """Read every row, by id."""
    rows = {}
    for name, table in _tables()["rows"].items():
        values: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in table.items()}
        rows[name] = Row(id=name, **values)
    return rows


@cache
def experiments() -> tuple[Experiment, ...]:
    """Read every experiment."""
    known = rows_by_id()
    return tuple(
        Experiment(
            name=name,
            alias=table["alias"],
            title=table["title"],
            rows={scale: tuple(known[row] for row in table.get(scale, ())) for scale in ("paper", "mini")},
            reference=table.get("reference"),
            x=table.get("x"),
            references=table.get("references", {}),
            bounds=table.get("bounds", {}),
        )
        for name, table in _tables()["experiments"].items()
    )


def find_experiment(name: str) -> Experiment:
    """Find an experiment by its name or alias.

    Raises:
        ConfigError: there is none; names the nearest.
    """
    known = {key: one for one in experiments() for key in (one.name, one.alias)}
    if name not in known:
        raise ConfigError(f"no experiment {name!r}; {nearest_name(name, known)}")
    return known[name]


@cache
def _tables() -> dict[str, dict[str, dict[str, Any]]]:
    text = files("textreid.reproduction").joinpath("experiments.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


@dataclass(frozen=True)
class Scale:
    """A size of the experiments.

    Attributes:
        name: of its folder.
        rows: which rows of an experiment it takes, ``"paper"`` or ``"mini"``.
        preset, pretrain: settings of pre-training.
        finetune: settings of fine-tuning, on top of the preset of that name.
        benchmarks: what every row is measured on.
        seeds: repetitions that are made where nobody asks for another number.
        drawn: whether people are drawn, and not read from data sets.
        images: captioned images in all; of drawn people there are two images each, in two domains.
        test_people, tuning_people: drawn in each of the benchmarks, to measure on and to fine-tune on.
        share: of the images that rows ask for, where they ask for a number.
        lab_people, lab_clip: people of each domain that the stand-in for CLIP learns from, and its settings.
    """

    name: str
    rows: str
    preset: str
    pretrain: tuple[str, ...]
    finetune: tuple[str, ...]
    benchmarks: tuple[str, ...]
    seeds: int
    drawn: bool
    images: int
    test_people: int = 0
    tuning_people: int = 0
    share: float = 1.0
    lab_people: int = 0
    lab_clip: tuple[str, ...] = ()

    @property
    def people(self) -> int:
        """Count the people who are drawn in each training domain."""
        # Two images of each, in two domains.
        return self.images // 4

    def sample(self, images: int) -> int:
        """Scale the number of images that a row asks for."""
        # A small share may round to 0, and a sample of no images is refused.
        return max(1, round(images * self.share))

    def images_of(self, row: Row) -> int | None:
        """Count the images that a row trains on; None where that is not known here."""
        if self.rows in row.images:
            return self.sample(row.images[self.rows])
        # Of other data sets the number is known when they are imported, not before.
        return self.images if row.captions == LUPERSON_MLLM or self.drawn else None


PAPER = Scale(
    name="paper",
    rows="paper",
    preset="paper",
    pretrain=(),
    finetune=(),
    # Those that figures were published on, which stand beside the measured ones.
    benchmarks=tuple(PUBLISHED),
    seeds=1,
    drawn=False,
    images=1_000_000,
)
MINI = Scale(
    name="mini",
    rows="mini",
    preset="tiny",
    # An image and two of its captions a step, whatever the number of slots: rows differ in what is said, not in how
    # long they learn.
    pretrain=(
        *_LAB_TOWERS, "optimizer.learning_rate=5e-4", "optimizer.warmup_epochs=0.5", "optimizer.min_warmup_steps=0",
        "training.epochs=5", "training.batch_size=64", "training.captions_per_image=2", "losses.itc=0", "losses.sdm=1",
    ),
    finetune=("training.epochs=6", "training.select=last", "optimizer.learning_rate=1e-4", "optimizer.warmup_epochs=1"),
    # Nobody is pre-trained on these domains: their people and cameras are new.
    benchmarks=("campus", "station"),
    # Student's t is 12.7 for two seeds and 4.3 for three: an interval of two says hardly anything.
    seeds=3,
    drawn=True,
    images=2_000,
    test_people=150,
    tuning_people=150,
    lab_people=1_500,
    lab_clip=(
        *_LAB_TOWERS, "masking.method=none", "training.epochs=12", "training.batch_size=128",
        "training.captions_per_image=3",
    ),
)  # fmt: skip
_QUICK = ("model.image_height=64", "model.image_width=32", "training.epochs=2", "training.batch_size=8")
QUICK = replace(
    MINI,
    name="quick",
    pretrain=(*MINI.pretrain, *_QUICK, "training.checkpoint_every=4"),
    finetune=(*MINI.finetune, "training.epochs=2", "training.batch_size=8"),
    images=80,
    test_people=6,
    tuning_people=8,
    # Samples shrink with the whole, so that a row of 200 in 2,000 is still a tenth.
    share=80 / 2_000,
    seeds=2,
    lab_people=10,
    lab_clip=(*MINI.lab_clip, *_QUICK, "optimizer.min_warmup_steps=2"),
)
SCALES = {scale.name: scale for scale in (PAPER, MINI, QUICK)}
