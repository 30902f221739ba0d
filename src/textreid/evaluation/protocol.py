"""Text-to-image evaluation of a model on a benchmark: every caption of a split asks, every image of it answers."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from textreid.artifacts import fingerprint
from textreid.datasets.images import read_image
from textreid.datasets.records import Benchmark, Record
from textreid.errors import DataError, ImageError
from textreid.evaluation.chance import bootstrap_interval, random_ranking
from textreid.evaluation.metrics import RetrievalMetrics, retrieval_metrics

MAX_UNREADABLE = 0.05
_BATCH = 512  # images handed to the model at once
_EXAMPLES = 5  # of what was left out, named in the report


class Encoder(Protocol):
    """What can be evaluated: `textreid.Model`, or anything else that encodes both sides into one space."""

    @property
    def fingerprint(self) -> str:
        """Equal for encoders that encode alike."""

    def encode_images(self, images: Sequence[Path], /) -> npt.NDArray[np.float32]:
        """(N, D) features of N image files; raises `ImageError` where one cannot be read."""

    def encode_texts(self, texts: Sequence[str], /) -> npt.NDArray[np.float32]:
        """(N, D) features of N texts."""


@dataclass(frozen=True)
class Evaluation:
    """What was measured, of which model, on exactly which data.

    Attributes:
        name: of the model, as a reader knows it.
        fingerprint: of the model.
        selected_on: data that chose the checkpoint, or None where that is not recorded.
        benchmark, split: what it was measured on.
        images, captions, identities: sizes of the gallery, of the set of queries, and of the gallery's people.
        data: fingerprint of the list of images, identities and captions that were used.
        rejected: number of things left out, by reason.
        rejected_examples: the first few of them.
        metrics: what was measured.
        intervals: 95 % bootstrap interval, over identities, of R1 and mAP.
        chance: expectation of a random ranking of the same gallery for the same queries.
    """

    name: str
    fingerprint: str
    selected_on: str | None
    benchmark: str
    split: str
    images: int
    captions: int
    identities: int
    data: str
    rejected: dict[str, int]
    rejected_examples: tuple[str, ...]
    metrics: RetrievalMetrics
    intervals: dict[str, tuple[float, float]]
    chance: dict[str, float]

    def scores(self) -> dict[str, float]:
        """R1, R5, R10, mAP and mINP as fractions of 1."""
        return self.metrics.scores()

    def to_dict(self) -> dict[str, Any]:
        """JSON values, as `textreid.evaluation.report` reads them."""
        return {
            "name": self.name,
            "fingerprint": self.fingerprint,
            "selected_on": self.selected_on,
            "benchmark": self.benchmark,
            "split": self.split,
            "images": self.images,
            "captions": self.captions,
            "identities": self.identities,
            "data": self.data,
            "rejected": self.rejected,
            "rejected_examples": list(self.rejected_examples),
            "queries": self.metrics.queries,
            "queries_without_match": len(self.metrics.without_match),
            "scores": self.scores(),
            "intervals": {name: list(ends) for name, ends in self.intervals.items()},
            "chance": self.chance,
        }


def evaluate_model(
    model: Encoder,
    benchmark: Benchmark,
    split: str = "test",
    *,
    name: str = "model",
    selected_on: str | None = None,
    max_unreadable: float = MAX_UNREADABLE,
) -> Evaluation:
    """Measure text-to-image retrieval on one split.

    Images that cannot be read are left out with their captions, and counted.

    Args:
        model: encodes both sides.
        benchmark: as `textreid.datasets.annotations.read_cuhk_form` reads it.
        split: which part of it.
        name: of the model, for the report.
        selected_on: data that chose the checkpoint, for the report.
        max_unreadable: share of the images that may be unreadable.

    Raises:
        AnnotationError: there is no such split.
        DataError: more of its images than allowed cannot be read, or no image of it has a usable caption.
    """
    part = benchmark.split(split)
    records, gallery, unreadable = _encode_gallery(model, part, max_unreadable)
    asked = [(caption, record.identity) for record in records for caption in record.captions]
    if not asked:
        raise DataError(f"{part.name}: no image of split {split!r} has a usable caption")
    captions, identities = zip(*asked, strict=True)
    owners = [record.identity for record in records]
    metrics = retrieval_metrics(model.encode_texts(captions), gallery, identities, owners, per_query=True)
    each = metrics.per_query
    if each is None:
        raise RuntimeError("values of each query were asked for")
    groups = np.array(identities)[each.query]
    left_out = [(r.image, r.reason) for r in part.rejected] + [(image, "unreadable") for image in unreadable]
    return Evaluation(
        name=name,
        fingerprint=model.fingerprint,
        selected_on=selected_on,
        benchmark=part.name,
        split=split,
        images=len(records),
        captions=len(captions),
        identities=len(set(owners)),
        data=fingerprint([[record.image, record.identity, record.captions] for record in records]),
        rejected=dict(Counter(reason for _, reason in left_out)),
        rejected_examples=tuple(f"{image} ({reason})" for image, reason in left_out[:_EXAMPLES]),
        metrics=metrics,
        intervals={
            "R1": bootstrap_interval(each.rank == 1, groups),
            "mAP": bootstrap_interval(each.average_precision, groups),
        },
        chance=random_ranking(each.relevant, len(records)),
    )


def _encode_gallery(
    model: Encoder, part: Benchmark, max_unreadable: float
) -> tuple[list[Record], npt.NDArray[np.float32], list[str]]:
    """The records whose image can be read, their features, and the images that cannot."""
    records: list[Record] = []
    features: list[npt.NDArray[np.float32]] = []
    problems: dict[str, ImageError] = {}
    for first in range(0, len(part.records), _BATCH):
        batch = part.records[first : first + _BATCH]
        try:
            features.append(model.encode_images([part.image_root / record.image for record in batch]))
        except ImageError:
            problems |= _unreadable(part.image_root, batch)
            batch = tuple(record for record in batch if record.image not in problems)
            if batch:
                features.append(model.encode_images([part.image_root / record.image for record in batch]))
        records += batch
    if not records or len(problems) > max_unreadable * len(part.records):
        raise DataError(
            f"{part.image_root}: {len(problems)} of {len(part.records)} images cannot be read "
            f"(allowed: {max_unreadable:.0%}); the first: {next(iter(problems.values()))}"
        )
    return records, np.concatenate(features), list(problems)


def _unreadable(root: Path, records: Sequence[Record]) -> dict[str, ImageError]:
    """The images that cannot be read, and why."""
    problems = {}
    for record in records:
        try:
            read_image(root / record.image)
        except ImageError as error:
            problems[record.image] = error
    return problems
