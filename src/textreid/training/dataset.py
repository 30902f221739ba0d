"""What a run trains on: images, their captions, and which images show the same."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from textreid.artifacts import fingerprint
from textreid.captions.table import read_captions
from textreid.datasets.records import Benchmark
from textreid.errors import DataError
from textreid.training.sampler import Indices

_LOST_CAPTIONS = frozenset({"empty", "no-words", "not-unicode"})


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

    def __post_init__(self) -> None:
        if len(np.unique(self.labels)) < 2:
            what = "one identity" if self.identities else f"{len(self.images)} image"
            raise DataError(f"{self.root}: only {what} with captions to train on: nothing to tell apart")

    def __len__(self) -> int:
        return len(self.image_index)


def captioned_images(images: Path, captions: Path) -> TrainingSet:
    """Images below ``images`` with the captions of a caption table; each image is its own label.

    Raises:
        CaptionError, ArtifactError: as `textreid.captions.table.read_captions`.
        DataError: there is only one image.
    """
    table = read_captions(captions)
    return TrainingSet(
        root=images,
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
    """The images of a benchmark, or of a split of it, that have captions; labels are its identities.

    Raises:
        DataError: no image has a caption, or all have one identity.
    """
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
    )
