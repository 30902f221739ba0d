"""Attributes as an expert that stands beside a network: a picture is read by parts of the body, a sentence by rules.

Its inner product is how much likelier the words of a sentence are to be said of the picture than of anybody: the sum,
over all that is told, of the logarithm of that ratio. Pictures are read by
`AttributeNetwork` from the maps of the trunk of the bundled ``small``, which computes them anyhow; what is here needs
no torch.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from textreid.artifacts import fingerprint, read_json
from textreid.errors import ModelError
from textreid.models.attribute_reading import ATTRIBUTES, Told, all_told, read_sentence
from textreid.models.colour_expert import unit

Floats = npt.NDArray[np.float32]

ATTRIBUTE_EXPERT = "attributes"  # what it is called where models are named
HOST = "small"  # whose trunk it reads
FOLDER = Path(__file__).parent / "bundled" / "attributes"
SHARES, NETWORK = "shares.json", "network.safetensors"
_COUNTS = {"shoes": 0.5, "shoes_colour": 0.5}  # small parts are seen less surely; other attributes count 1
_SCALE = 0.05  # of the logarithms: a picture's row is then hardly ever longer than 1


class AttributeExpert:
    """Encoder of pictures and sentences by attributes; D is the number of all that can be told, and one.

    Attributes:
        weight: of its cosine beside those of networks.
        fingerprint: of the network's weights, of what is usual, and of how sentences are read.
    """

    weight = 6.0

    def __init__(self, shares: Mapping[str, Floats], network: str) -> None:
        """Take what is usual.

        Args:
            shares: how common each value of `ATTRIBUTES` is.
            network: SHA-256 of the weights that read pictures.
        """
        told = all_told()
        self._places = {one: place for place, one in enumerate(told)}
        self._fits = np.stack([_side_by_side(one) for one in told], axis=1)
        self._usual = np.log(np.concatenate([shares[name] for name in ATTRIBUTES]) @ self._fits)
        self.fingerprint = fingerprint([network, told, self._usual.tolist(), _SCALE, _COUNTS])

    @classmethod
    @cache
    def load(cls) -> Self:
        """Read the one that is bundled.

        Raises:
            ArtifactError: its file cannot be read.
            ModelError: the file is damaged.
        """
        file = FOLDER / SHARES
        content = read_json(file)
        try:
            shares = {name: np.array(content["shares"][name], np.float32) for name in ATTRIBUTES}
            network = str(content["network"])
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"{file}: damaged: expected numbers for each attribute in shares, and network") from error
        for name, values in ATTRIBUTES.items():
            if shares[name].shape != (len(values),) or not (shares[name] > 0).all():
                raise ModelError(f"{file}: damaged: {name}: expected {len(values)} numbers above 0 in shares")
        return cls(shares, network)

    @property
    def dimension(self) -> int:
        """Numbers of a feature."""
        return len(self._places) + 1

    def encode_probabilities(self, found: Floats) -> Floats:
        """Encode the probabilities (N, values of all `ATTRIBUTES`) of N pictures: (N, D), each of length 1.

        The last number fills each row up to length 1: without it, pictures that show little would count for more.
        """
        rows = np.float32(_SCALE) * (np.log(found @ self._fits) - self._usual)
        rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1)
        rest = np.sqrt(np.maximum(1 - np.square(rows).sum(axis=1, keepdims=True), 0))
        encoded: Floats = np.concatenate([rows, rest], axis=1)
        return encoded

    def encode_texts(self, texts: Sequence[str]) -> Floats:
        """Encode N sentences: (N, D), each of length 1, or 0 where a sentence tells of no attribute."""
        rows = [self._encode_text(text) for text in texts]
        return unit(np.stack(rows) if rows else np.zeros((0, self.dimension), np.float32))

    def _encode_text(self, text: str) -> Floats:
        told = read_sentence(text)
        times = Counter(one.attribute for one in told)
        row = np.zeros(self.dimension, np.float32)
        for one in told:
            # What is told of twice, as the colours of black and white shoes, counts once.
            row[self._places[one]] = _COUNTS.get(one.attribute, 1.0) / times[one.attribute]
        return row


def _side_by_side(told: Told) -> Floats:
    """Return how well each value of all attributes fits (values of all,), 0 for those of other attributes."""
    fits = [told.fits if name == told.attribute else [0.0] * len(values) for name, values in ATTRIBUTES.items()]
    return np.concatenate(fits).astype(np.float32)
