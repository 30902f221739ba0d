"""Several sentences, pictures, what was not seen, and right and wrong results, as one vector.

The score of a picture is the product of its features with that vector, so that whatever searches for one sentence, an
index of a database included, searches for all of this. It costs no accuracy: of the ways to fuse that were measured
(docs/benchmarks.md) the mean of the cosines is the best, and that is the product with the mean of the vectors.
"""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from textreid.errors import ConfigError

Array = npt.NDArray[np.float32]

# All chosen on photographs (docs/benchmarks.md).
PICTURE_SHARE = 0.8  # of a score that sentences have a part in as well: cosines between pictures differ more
WITHOUT_WEIGHT = 0.2  # of a direction of length 1, beside a query of length 1
RIGHT_WEIGHT, WRONG_WEIGHT = 2.0, 0.5  # Rocchio's beta and gamma, where the query's own weight, alpha, is 1


def _none() -> Array:
    return np.zeros((0, 0), np.float32)


@dataclass(frozen=True, eq=False)
class QueryFeatures:
    """Features of everything that a query is made of; each part may be empty, (0, D) or (0, 0).

    Attributes:
        sentences: (S, D) of what witnesses said, each of length 1 or less.
        pictures: (P, D) of pictures of the person, each of length 1.
        without: (W, D) directions of what was not seen, see `direction_of`.
    """

    sentences: Array = field(default_factory=_none)
    pictures: Array = field(default_factory=_none)
    without: Array = field(default_factory=_none)

    def vector(self) -> Array:
        """Fuse to (D,): the mean of the sentences and that of the pictures, less what was not seen.

        It is as long as they are on average, so that scores stay cosines; of one sentence alone it is that sentence's
        features.

        Raises:
            ConfigError: there is neither a sentence nor a picture.
        """
        parts = [part.mean(axis=0) for part in (self.sentences, self.pictures) if len(part)]
        if not parts:
            raise ConfigError("nothing to look for: give a sentence, or a picture with --like")
        shares = [1.0] if len(parts) == 1 else [1 - PICTURE_SHARE, PICTURE_SHARE]
        vector = sum((share * part for share, part in zip(shares, parts, strict=True)), np.zeros_like(parts[0]))
        if len(self.without):
            vector = vector - WITHOUT_WEIGHT * self.without.sum(axis=0)
        # Of length 1, but for models side by side, of which one may have nothing to say of a sentence.
        lengths = [np.linalg.norm(part, axis=1) for part in (self.sentences, self.pictures) if len(part)]
        return _unit(vector) * np.float32(np.concatenate(lengths).mean())


def without_sentences(thing: str) -> tuple[str, str]:
    """Return two sentences that differ in one thing alone; the difference of their features points to it.

    >>> without_sentences("a red hat")
    ('a person with a red hat', 'a person')
    """
    return f"a person with {' '.join(thing.split())}", "a person"


def direction_of(with_it: Array, plain: Array) -> Array:
    """Return the direction (D,), of length 1, from the features of a sentence to those of one that says more.

    The features of the thing's name alone do not point to it: those of every sentence have much in common, and
    subtracting that puts down whatever fits sentences well. Measured, what has the thing is told from what has not
    better by the difference.
    """
    return _unit(with_it - plain)


def refine(vector: Array, right: Array, wrong: Array) -> Array:
    """Move a query (D,) towards right results (R, D) and away from wrong ones (W, D), as Rocchio did; (D,) of length 1.

    Wrong results alone change nothing: measured, what is least like them is not what was looked for.
    """
    if not len(right):
        return vector
    moved = vector + RIGHT_WEIGHT * right.mean(axis=0)
    if len(wrong):
        moved = moved - WRONG_WEIGHT * wrong.mean(axis=0)
    return _unit(moved)


def _unit(vector: Array) -> Array:
    return np.asarray(vector / max(float(np.linalg.norm(vector)), 1e-12), np.float32)
