"""Text-to-image evaluation of a model on a benchmark: every caption of a split asks, every image of it answers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from textreid.artifacts import fingerprint
from textreid.datasets.images import read_image
from textreid.datasets.records import Benchmark, Record
from textreid.errors import DataError, ImageError
from textreid.evaluation.metrics import RetrievalMetrics, retrieval_metrics

MAX_UNREADABLE = 0.05
_BATCH = 256  # images decoded at once


class Encoder(Protocol):
    """What can be evaluated: `textreid.Model`, or anything that encodes both sides into one space."""

    @property
    def fingerprint(self) -> str:
        """Equal for encoders that encode alike."""

    def encode_images(self, images: Sequence[Any], /) -> npt.NDArray[np.float32]:
        """(N, D) features of N pictures."""

    def encode_texts(self, texts: Sequence[str], /) -> npt.NDArray[np.float32]:
        """(N, D) features of N texts."""


@dataclass(frozen=True)
class Evaluation:
    """What was measured, of what, on what."""

    benchmark: str
    split: str
    model: str
    metrics: RetrievalMetrics
    images: int
    captions: int
    identities: int
    data: str  # fingerprint of the images and captions that were used
    rejected: dict[str, int]

    def scores(self) -> dict[str, float]:
        """R1, R5, R10, mAP and mINP as fractions of 1."""
        return self.metrics.scores()


def evaluate_model(model: Encoder, benchmark: Benchmark, split: str = "test") -> Evaluation:
    """Measure text-to-image retrieval on one split.

    Raises:
        AnnotationError: there is no such split.
        DataError: more than 5 % of its images cannot be read, or nothing can be measured.
    """
    part = benchmark.split(split)
    records, features, unreadable = [], [], []
    for first in range(0, len(part.records), _BATCH):
        pictures, read, failed = _read(part, part.records[first : first + _BATCH])
        unreadable += failed
        records += read
        features += [model.encode_images(pictures)] if pictures else []
    if len(unreadable) > MAX_UNREADABLE * len(part.records):
        raise DataError(
            f"{part.image_root}: {len(unreadable)} of {len(part.records)} images cannot be read, "
            f"more than the {MAX_UNREADABLE:.0%} allowed; the first: {unreadable[0]}"
        )
    asked = [(caption, record.identity) for record in records for caption in record.captions]
    if not asked:
        raise DataError(f"{part.name}: no image of split {split!r} has a usable caption")
    metrics = retrieval_metrics(
        model.encode_texts([caption for caption, _ in asked]),
        np.concatenate(features),
        [identity for _, identity in asked],
        [record.identity for record in records],
    )
    return Evaluation(
        benchmark=part.name,
        split=split,
        model=model.fingerprint,
        metrics=metrics,
        images=len(records),
        captions=len(asked),
        identities=len({record.identity for record in records}),
        data=fingerprint([[r.image, r.identity, r.captions] for r in records]),
        rejected={"unreadable": len(unreadable)} if unreadable else {},
    )


def _read(part: Benchmark, records: Sequence[Record]) -> tuple[list[Image.Image], list[Record], list[str]]:
    """The pictures that can be read, their records, and why the others cannot."""
    pictures, read, failed = [], [], []
    for record in records:
        try:
            pictures.append(read_image(part.image_root / record.image))
            read.append(record)
        except ImageError as error:
            failed.append(str(error))
    return pictures, read, failed
