"""What a run trains on: images, their captions, and which images show the same."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from textreid.artifacts import fingerprint
from textreid.captions.sidecars import error_spans
from textreid.captions.table import CaptionTable, read_captions
from textreid.datasets.records import Benchmark
from textreid.errors import DataError, check_path, check_type

Indices = npt.NDArray[np.int64]

_LOST_CAPTIONS = frozenset({"empty", "no-words", "not-unicode"})


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
        images_lost: images that were left out then, because they have no usable caption or are not there.
        errors: half-open character spans of known errors, by index of the caption; empty where no captioner knows.
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
    images_lost: int = 0
    errors: Mapping[int, tuple[tuple[int, int], ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(np.unique(self.labels)) < 2:
            what = "one identity" if self.identities else f"{len(self.images)} image"
            raise DataError(f"{self.root}: only {what} with captions to train on: nothing to tell apart")

    def __len__(self) -> int:
        return len(self.image_index)

    def refuse_overlap(self, validation: Validation) -> None:
        """Compare the images and the people with those of a validation set.

        Raises:
            DataError: some are in both: figures would be those of a model that has seen them.
        """
        root = self.root.resolve()
        images = set(validation.images)
        shared = [f"{root}/{name}" for name in self.images if f"{root}/{name}" in images]
        people = sorted(self.people.intersection(validation.people))
        if shared or people:
            found = (len(shared), "images", shared[0]) if shared else (len(people), "people", people[0][1])
            raise DataError(
                f"{found[0]} {found[1]}, {found[2]} for one, are in the training set and in the validation set, "
                f"{validation.name}; validate on others, or take them out of the training set "
                "(textreid.evaluation.splits.split_for_training)"
            )


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
        images_lost=table.images_lost,
        errors=_known_errors(table, Path(captions)),
    )


def _known_errors(table: CaptionTable, folder: Path) -> dict[int, tuple[tuple[int, int], ...]]:
    # Millions of captions without known errors shall cost nothing.
    if not (spans := error_spans(folder)):
        return {}
    keys = ((table.images[i], table.slots[s]) for i, s in zip(table.image_index, table.slot_index, strict=True))
    return {caption: tuple(found) for caption, key in enumerate(keys) if (found := spans.get(key))}


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
    lost = {rejection.image for rejection in benchmark.rejected if rejection.reason in {*_LOST_CAPTIONS, "absent"}}
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
        images_lost=len(lost - {record.image for record, _ in described}),
    )
