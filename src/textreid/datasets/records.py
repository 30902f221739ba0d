"""What a benchmark is made of, whatever file it was read from."""

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Self

from textreid.errors import AnnotationError

Reason = Literal["absent", "no-captions", "empty", "no-words", "not-unicode"]


@dataclass(frozen=True, slots=True)
class Record:
    """One image, who is on it and how it is described.

    ``image`` is a POSIX path relative to the benchmark's image root. ``captions`` may be empty: the image then
    stands in the gallery and asks nothing.
    """

    image: str
    identity: int
    captions: tuple[str, ...]
    split: str


@dataclass(frozen=True, slots=True)
class Rejection:
    """One thing that was left out, and the rule that did so.

    ``absent`` leaves out an image with its captions; ``empty`` (nothing but white space),
    ``no-words`` (no letter or digit) and ``not-unicode`` (half a character) leave out one caption; ``no-captions``
    is an image that came without any. ``entry`` counts from 0 in the annotation file.
    """

    entry: int
    image: str
    split: str
    reason: Reason


@dataclass(frozen=True)
class Benchmark:
    """Annotated images of one data set, or of one split of it.

    Attributes:
        name: of the data set.
        image_root: folder that the records' image paths are relative to.
        records: in the order of the annotation file.
        rejected: what was left out of ``records``.
    """

    name: str
    image_root: Path
    records: tuple[Record, ...]
    rejected: tuple[Rejection, ...] = ()

    @property
    def splits(self) -> dict[str, int]:
        """Number of images of each split, in the order of first appearance."""
        return dict(Counter(record.split for record in self.records))

    def split(self, name: str) -> Self:
        """The part of the benchmark that belongs to one split.

        Raises:
            AnnotationError: there is no such split; lists those there are.
        """
        records = tuple(record for record in self.records if record.split == name)
        if not records:
            known = ", ".join(f"{split} ({images} images)" for split, images in self.splits.items())
            raise AnnotationError(f"{self.name}: no split {name!r}; there are: {known}")
        return replace(
            self, records=records, rejected=tuple(rejection for rejection in self.rejected if rejection.split == name)
        )
