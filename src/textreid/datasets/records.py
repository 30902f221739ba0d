"""What a benchmark is made of, whatever file it was read from."""

import hashlib
import json
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self

from textreid.errors import AnnotationError

Reason = Literal["absent", "contradicting", "repeated", "no-captions", "empty", "no-words", "not-unicode"]

VALIDATION = "validation"
VALIDATION_SHARE = 0.1  # of the training identities (Tan et al. 2024, supplement)


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

    ``absent`` (no such file) and ``contradicting`` (an earlier entry gives the same image to another person or split)
    leave out an entry with its captions; ``repeated`` is an entry that agrees with an earlier one of its image, which
    got its captions; ``empty`` (nothing but white space), ``no-words`` (no letter or digit) and ``not-unicode`` (half
    a character) leave out one caption; ``no-captions`` is an image that came without any, which leaves out nothing.
    ``entry`` counts from 0 in the annotation file.
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
        records: in the order of the annotation file, each image once.
        rejected: what was left out of ``records``.
        form: what it was read as, a key of `textreid.datasets.benchmarks.FORMS`.
    """

    name: str
    image_root: Path
    records: tuple[Record, ...]
    rejected: tuple[Rejection, ...] = ()
    form: str = "generic"

    @property
    def splits(self) -> dict[str, int]:
        """Number of images of each split, in the order of first appearance."""
        return dict(Counter(record.split for record in self.records))

    @property
    def list_fingerprint(self) -> str:
        """SHA-256 of what is *listed*: image paths, identities, splits and captions, in canonical order.

        It does not depend on the order or the form of the annotation file, nor on where the images lie, and says
        nothing about their content: a manifest of `textreid doctor` does.
        """
        return lines_digest(self.canonical_lines())

    def canonical_lines(self, digests: Mapping[str, str] | None = None) -> Iterator[str]:
        """Yield one line of JSON an image, sorted by image path: what fingerprints and manifests are made of.

        Args:
            digests: of the content of each image, by its path; put at the end of its line.
        """
        # The same name may be composed otherwise on another disk, and is the same.
        named = ((unicodedata.normalize("NFC", record.image), record) for record in self.records)
        for image, record in sorted(named, key=lambda pair: pair[0]):
            line: dict[str, Any] = {
                "image": image,
                "identity": record.identity,
                "split": record.split,
                "captions": record.captions,
            }
            if digests is not None:
                line["sha256"] = digests[record.image]
            yield json_line(line)

    def split(self, name: str) -> Self:
        """Return the part of the benchmark that belongs to one split.

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

    def validation_split(self, seed: int, share: float = VALIDATION_SHARE) -> tuple[Self, Self]:
        """Set some people aside: the rest, and a part whose records are of split ``"validation"``.

        Nobody is in both. Who is set aside depends on the seed and on the set of identities only, and not on the
        order of the records. Take it of ``benchmark.split("train")``.

        Args:
            seed: of the choice.
            share: of the identities; rounded, but at least one.

        Raises:
            AnnotationError: there are fewer than two people, or the share would leave none for the rest.
        """
        identities = {record.identity for record in self.records}
        count = max(1, round(share * len(identities)))
        if count >= len(identities):
            raise AnnotationError(
                f"{self.name}: setting {share:.0%} of {len(identities)} people aside for validation leaves nobody to "
                "train on"
            )
        # Each identity draws its own lot, so that adding people to the data moves few of those that were chosen.
        chosen = set(sorted(identities, key=lambda identity: _lot(seed, identity))[:count])
        rest = tuple(record for record in self.records if record.identity not in chosen)
        aside = tuple(replace(record, split=VALIDATION) for record in self.records if record.identity in chosen)
        return replace(self, records=rest), replace(self, records=aside, rejected=())


def json_line(value: Mapping[str, Any]) -> str:
    """Write an object as one line of JSON, in the one form that fingerprints are taken of."""
    # Escaped to ASCII, keys in the order they were put: another form would be another fingerprint.
    return json.dumps(value, separators=(",", ":")) + "\n"


def lines_digest(lines: Iterable[str]) -> str:
    """Compute the SHA-256 of lines of text, in hexadecimal."""
    digest = hashlib.sha256()
    for line in lines:
        digest.update(line.encode())
    return digest.hexdigest()


def _lot(seed: int, identity: int) -> bytes:
    return hashlib.sha256(f"validation {seed} {identity}".encode()).digest()
