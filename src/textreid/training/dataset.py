"""What a run trains on: images, their captions, which images show the same, and the order in which steps draw them."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from textreid.artifacts import fingerprint
from textreid.captions.table import read_captions
from textreid.datasets.records import Benchmark
from textreid.errors import DataError, check_path, check_type

Indices = npt.NDArray[np.int64]

_LOST_CAPTIONS = frozenset({"empty", "no-words", "not-unicode"})
_ORDER, _CAPTIONS = 0, 1  # separate streams of random numbers


class Validation(Protocol):
    """Validation set, and how a model is measured on it; `textreid.evaluation.splits.Validation` is one."""

    @property
    def name(self) -> str:
        """Which data it is, in words, as the model folder and every report of it say."""

    @property
    def images(self) -> Collection[str]:
        """Absolute paths of its images."""

    @property
    def people(self) -> Collection[tuple[str, int]]:
        """Who is on them: folder of the images that an identity is annotated in, and its number."""

    def measure(self, model: Any, /) -> Mapping[str, float]:
        """Return figures of a `textreid.models.Model`, as fractions of 1; R1 among them if it is to choose a model."""


@dataclass(frozen=True)
class TrainingSet:
    """I images with N captions.

    Attributes:
        root: folder that ``images`` are relative to.
        images: paths, each with at least one caption.
        image_index: (N,) position in ``images`` of each caption's image.
        captions: (N,) Arrow strings.
        labels: (I,) images with equal labels are positives of each other's captions. Those below ``identities`` are
            identities; the others stand for one image each.
        identities: number of known identities; 0 where nobody annotated them.
        people: the known identities, by the absolute folder of the images and the number that they are annotated with.
        sources: who wrote the captions: names of MLLMs, or of the data set that people annotated.
        rejected: captions that were left out when the data was read.
        fingerprint: equal for equal paths, captions and labels; says nothing about the contents of image files.

    Raises:
        DataError: all images have one label: there is nothing to tell apart.
    """

    root: Path
    images: tuple[str, ...]
    image_index: Indices
    captions: pa.LargeStringArray
    labels: Indices
    identities: int
    sources: tuple[str, ...]
    rejected: int
    fingerprint: str
    people: frozenset[tuple[str, int]] = frozenset()

    def __post_init__(self) -> None:
        if len(np.unique(self.labels)) < 2:
            what = "one identity" if self.identities else f"{len(self.images)} image"
            raise DataError(f"{self.root}: only {what} with captions to train on: nothing to tell apart")

    def __len__(self) -> int:
        return len(self.image_index)


def captioned_images(images: Path | str, captions: Path | str) -> TrainingSet:
    """Read the captions of a caption table for the images below ``images``; each image is its own label.

    >>> import textreid
    >>> data = textreid.captioned_images("crops", "captions")
    >>> len(data.images), len(data), data.identities  # images, captions, and people that somebody told apart
    (48, 96, 0)

    Raises:
        CaptionError, ArtifactError: as `textreid.captions.table.read_captions`.
        DataError: there is only one image, or ``images`` is not a folder.
    """
    check_path("images", images)
    table = read_captions(captions)
    if not Path(images).is_dir():
        raise DataError(f"{images}: not a folder; the images of {captions} are named relative to it")
    return TrainingSet(
        root=Path(images),
        images=table.images,
        image_index=table.image_index,
        captions=table.captions,
        labels=np.arange(len(table.images)),
        identities=0,
        sources=tuple(dict.fromkeys(slot.split("/")[0] for slot in table.slots)),
        rejected=sum(table.rejected.values()),
        fingerprint=table.fingerprint,
    )


def annotated_people(benchmark: Benchmark) -> TrainingSet:
    """Take the images of a benchmark, or of a split of it, that have captions; labels are its identities.

    Of a benchmark of several splits, ``train`` among them, that one is taken.

    >>> import textreid
    >>> data = textreid.annotated_people(textreid.read_benchmark("mine", "crops"))
    >>> data.identities, data.sources
    (24, ('mine',))

    Raises:
        DataError: no image has a caption, or all have one identity.
    """
    check_type("benchmark", benchmark, Benchmark, "a benchmark, as read_benchmark gives it")
    if "train" in benchmark.splits:
        benchmark = benchmark.split("train")
    known, codes = np.unique([record.identity for record in benchmark.records], return_inverse=True)
    described = [
        (record, code) for record, code in zip(benchmark.records, codes.tolist(), strict=True) if record.captions
    ]
    if not described:
        raise DataError(f"{benchmark.name}: no image has a caption to train on")
    return TrainingSet(
        root=benchmark.image_root,
        images=tuple(record.image for record, _ in described),
        image_index=np.repeat(np.arange(len(described)), [len(record.captions) for record, _ in described]),
        captions=pa.array([caption for record, _ in described for caption in record.captions], pa.large_string()),
        labels=np.array([code for _, code in described], dtype=np.int64),
        identities=len(known),
        sources=(benchmark.name,),
        rejected=sum(rejection.reason in _LOST_CAPTIONS for rejection in benchmark.rejected),
        fingerprint=fingerprint([[record.image, code, list(record.captions)] for record, code in described]),
        people=frozenset((str(benchmark.image_root.resolve()), record.identity) for record in benchmark.records),
    )


def refuse_overlap(data: TrainingSet, validation: Validation) -> None:
    """Compare the images and the people of a training set with those of a validation set.

    Raises:
        DataError: some are in both: figures would be those of a model that has seen them.
    """
    root = data.root.resolve()
    images = set(validation.images)
    shared = [f"{root}/{name}" for name in data.images if f"{root}/{name}" in images]
    people = sorted(data.people.intersection(validation.people))
    if shared or people:
        found = (len(shared), "images", shared[0]) if shared else (len(people), "people", people[0][1])
        raise DataError(
            f"{found[0]} {found[1]}, {found[2]} for one, are in the training set and in the validation set, "
            f"{validation.name}; validate on others, or take them out of the training set "
            "(textreid.evaluation.splits.split_for_training)"
        )


class Draw(NamedTuple):
    """What one step trains on: ``B`` images and ``T`` of their captions."""

    images: Indices  # (B,) indices of images
    caption_index: Indices  # (T,) indices of captions
    image_index: Indices  # (T,) which of the B images each caption belongs to, ascending


class Sampler:
    """Order of an epoch, in batches whose sizes differ by at most one: a pure function of the seed and the step.

    So a run can go on from any step.
    Under ``pair`` an epoch sees every (image, caption) pair once. Under ``image`` it sees every image once, each with
    ``captions_per_image`` of its captions (all, if it has fewer), drawn anew per epoch without replacement.
    """

    def __init__(
        self,
        image_index: Indices,
        batch_size: int,
        epoch_unit: Literal["pair", "image"],
        captions_per_image: int,
        seed: int,
    ) -> None:
        self._image_index = image_index  # (N,) image of each caption
        # Other kinds of sort order equal values differently on different CPUs, and so would the draws.
        self._by_image = np.argsort(image_index, kind="stable")  # captions, grouped by image
        self._images, self._starts, self._counts = np.unique(
            image_index[self._by_image], return_index=True, return_counts=True
        )
        self._batch_size = batch_size
        self._epoch_unit = epoch_unit
        self._captions_per_image = captions_per_image
        self._seed = seed
        self._order: tuple[int, Indices] = (-1, np.empty(0, dtype=np.int64))

    @property
    def units(self) -> int:
        """Pairs or images an epoch sees."""
        return len(self._image_index) if self._epoch_unit == "pair" else len(self._images)

    @property
    def steps_per_epoch(self) -> int:
        """Batches an epoch is cut into."""
        return -(-self.units // self._batch_size)

    def draw(self, step: int) -> Draw:
        """Draw what step ``step`` (from 0) trains on."""
        epoch, batch = divmod(step, self.steps_per_epoch)
        # Equal parts and no short rest: a small last batch would have few negatives to contrast with.
        low, high = (self.units * edge // self.steps_per_epoch for edge in (batch, batch + 1))
        drawn = self._epoch_order(epoch)[low:high]
        if self._epoch_unit == "pair":
            return Draw(self._image_index[drawn], drawn, np.arange(len(drawn)))
        return self._draw_captions(drawn, np.random.default_rng((self._seed, step, _CAPTIONS)))

    def _epoch_order(self, epoch: int) -> Indices:
        # All steps of an epoch share one permutation, which would take too long to draw for each of them.
        if self._order[0] != epoch:
            rng = np.random.default_rng((self._seed, epoch, _ORDER))
            self._order = (epoch, rng.permutation(self.units))
        return self._order[1]

    def _draw_captions(self, drawn: Indices, rng: np.random.Generator) -> Draw:
        """Draw captions of the images at positions ``drawn`` in the list of distinct images."""
        counts = self._counts[drawn]
        image_index = np.repeat(np.arange(len(drawn)), counts)
        rank = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)  # 0, 1, … within each image
        candidates = self._by_image[self._starts[drawn][image_index] + rank]
        # Shuffle the captions within each image, then keep the first few of each.
        shuffled = np.lexsort((rng.random(len(image_index)), image_index))
        kept = shuffled[rank < self._captions_per_image]
        return Draw(self._images[drawn], candidates[kept], image_index[kept])
