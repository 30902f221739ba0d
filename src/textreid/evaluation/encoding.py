"""Both sides of a benchmark's split as one model encodes them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from textreid.datasets.records import Benchmark, Record
from textreid.errors import DataError, ImageError
from textreid.evaluation.metrics import Floats, Indices
from textreid.images import read_image

Progress = Callable[[int, int], None]  # images done, images in all

MAX_UNREADABLE = 0.05
_BATCH = 512  # images handed to the model at once


class Features(Protocol):
    """What encodes both sides into one space."""

    def encode_images(self, images: Sequence[Path], /) -> Floats:
        """Return (N, D) features of N image files; raises `ImageError` where one cannot be read."""

    def encode_texts(self, texts: Sequence[str], /) -> Floats:
        """Return (N, D) features of N texts."""


class Encoder(Features, Protocol):
    """What can be evaluated: `textreid.Model`, or anything else that encodes and says where it comes from."""

    @property
    def fingerprint(self) -> str:
        """Equal for encoders that encode alike."""

    @property
    def selected_on(self) -> str | None:
        """The data that chose this checkpoint among others, in words; None where it was not recorded."""

    @property
    def training_text(self) -> tuple[str, ...] | None:
        """Where the sentences it learned from come from (data sets, MLLMs); None where it was not recorded."""


@dataclass(frozen=True)
class EncodedSplit:
    """The images of a split that can be read, their sentences, and the features of both.

    Attributes:
        name, form, root: of the benchmark, and the folder of its images.
        records: G images, the gallery.
        image_features: (G, D).
        captions: Q sentences about those images, the queries.
        text_features: (Q, D).
        image_index: (Q,) the record that each caption was written for.
        left_out: (image, reason) of everything that is not here.
    """

    name: str
    form: str
    root: Path
    records: tuple[Record, ...]
    image_features: Floats
    captions: tuple[str, ...]
    text_features: Floats
    image_index: Indices
    left_out: tuple[tuple[str, str], ...]

    @property
    def image_ids(self) -> Indices:
        """(G,) identity of each image."""
        return np.array([record.identity for record in self.records], dtype=np.int64)

    @property
    def caption_ids(self) -> Indices:
        """(Q,) identity that each caption describes."""
        return self.image_ids[self.image_index]


def encode_split(
    model: Encoder, part: Benchmark, *, max_unreadable: float = MAX_UNREADABLE, progress: Progress | None = None
) -> EncodedSplit:
    """Encode every image and every caption of one split.

    Images that cannot be read are left out with their captions, and counted.

    Args:
        model: encodes both sides.
        part: one split of a benchmark.
        max_unreadable: share of the images that may be unreadable.
        progress: told after each batch of images.

    Raises:
        DataError: more of its images than allowed cannot be read, or no image of it has a usable caption.
    """
    records, images, unreadable = _encode_gallery(model, part, max_unreadable, progress)
    # With the image that a caption was written for: swaps and failures need it, and an identity has several.
    queries = [(row, caption) for row, record in enumerate(records) for caption in record.captions]
    if not queries:
        raise DataError(f"{part.name}: no image of split {part.records[0].split!r} has a usable caption")
    image_index, captions = zip(*queries, strict=True)
    return EncodedSplit(
        name=part.name,
        form=part.form,
        root=part.image_root,
        records=tuple(records),
        image_features=images,
        captions=captions,
        text_features=model.encode_texts(captions),
        image_index=np.array(image_index, dtype=np.int64),
        left_out=(
            *((rejection.image, str(rejection.reason)) for rejection in part.rejected),
            *((image, "unreadable") for image in unreadable),
        ),
    )


def _encode_gallery(
    model: Encoder, part: Benchmark, max_unreadable: float, progress: Progress | None
) -> tuple[list[Record], Floats, list[str]]:
    """Return the records whose image can be read, their features, and the images that cannot."""
    records: list[Record] = []
    features: list[Floats] = []
    problems: dict[str, ImageError] = {}
    for first in range(0, len(part.records), _BATCH):
        batch = part.records[first : first + _BATCH]
        try:
            features.append(model.encode_images([part.image_root / record.image for record in batch]))
        except ImageError:
            # The error names one image, and there may be more: look at each of the batch, then encode the others.
            problems |= _unreadable(part.image_root, batch)
            batch = tuple(record for record in batch if record.image not in problems)
            if batch:
                features.append(model.encode_images([part.image_root / record.image for record in batch]))
        records += batch
        if progress:
            progress(min(first + _BATCH, len(part.records)), len(part.records))
    if not records or len(problems) > max_unreadable * len(part.records):
        raise DataError(
            f"{part.image_root}: {len(problems)} of {len(part.records)} images cannot be read "
            f"(allowed: {max_unreadable:.0%}); the first: {next(iter(problems.values()))}"
        )
    return records, np.concatenate(features), list(problems)


def _unreadable(root: Path, records: Sequence[Record]) -> dict[str, ImageError]:
    """Find the images that cannot be read, and why."""
    problems = {}
    for record in records:
        try:
            read_image(root / record.image)
        except ImageError as error:
            problems[record.image] = error
    return problems
