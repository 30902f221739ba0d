"""How large the experiments are made."""

from dataclasses import dataclass, replace

from textreid.datasets.benchmarks import PUBLISHED
from textreid.reproduction.experiments import LUPERSON_MLLM, Row

_TINY_TOWERS = (
    "model.image_height=64", "model.image_width=32", "model.vision_width=96", "model.vision_layers=2",
    "model.vision_heads=3", "model.text_width=64", "model.text_layers=2", "model.text_heads=2",
    "model.text_length=48", "model.embedding_dim=128", "model.vocabulary_size=1024",
)  # fmt: skip


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

    @property
    def people(self) -> int:
        """Drawn in each training domain."""
        return self.images // 4

    def sample(self, images: int) -> int:
        """How many images it takes where a row asks for ``images``."""
        return max(1, round(images * self.share))

    def images_of(self, row: Row) -> int | None:
        """How many images a row trains on; None where that is not known here."""
        if self.rows in row.images:
            return self.sample(row.images[self.rows])
        return self.images if row.captions == LUPERSON_MLLM or self.drawn else None


PAPER = Scale(
    name="paper",
    rows="paper",
    preset="paper",
    pretrain=(),
    finetune=(),
    benchmarks=tuple(PUBLISHED),
    seeds=1,
    drawn=False,
    images=1_000_000,
)
MINI = Scale(
    name="mini",
    rows="mini",
    preset="tiny",
    # One caption a step whatever the number of slots: rows differ in what is said, not in how long they learn.
    pretrain=(
        *_TINY_TOWERS, "masking.layer=2", "optimizer.warmup_epochs=1", "optimizer.min_warmup_steps=0",
        "training.epochs=16", "training.batch_size=64",
        "training.captions_per_image=1", "augmentation.pad=2", "augmentation.erase=0", "augmentation.scale=0",
        "augmentation.colour=0.1", "augmentation.blur=0",
    ),
    finetune=("training.epochs=6", "training.select=last", "optimizer.learning_rate=1e-4", "optimizer.warmup_epochs=1"),
    benchmarks=("campus", "station"),
    seeds=3,
    drawn=True,
    images=2_400,
    test_people=100,
    tuning_people=150,
)  # fmt: skip
QUICK = replace(
    MINI,
    name="quick",
    pretrain=(*MINI.pretrain, "training.epochs=2", "training.batch_size=8", "training.checkpoint_every=4"),
    finetune=(*MINI.finetune, "training.epochs=2", "training.batch_size=8"),
    images=80,
    test_people=6,
    tuning_people=8,
    share=80 / 2_400,
    seeds=2,
)
