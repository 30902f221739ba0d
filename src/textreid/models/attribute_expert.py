"""Attributes as an expert that stands beside a network: a picture is read by parts of the body, a sentence by rules.

Its inner product is how likely a picture's attributes are those that the sentence tells of: the sum, over what is
told, of the log probability of the values that fit its words, less what is usual. Pictures are read by
`AttributeNetwork` from the maps of the trunk of the bundled ``small``, which computes them anyhow; what is here needs
no torch.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from textreid.artifacts import fingerprint, read_json
from textreid.errors import ModelError
from textreid.models.attribute_reading import ATTRIBUTES, read_sentence
from textreid.models.colour_expert import unit

Floats = npt.NDArray[np.float32]

ATTRIBUTE_EXPERT = "attributes"  # what it is called where models are named
HOST = "small"  # whose trunk it reads
FOLDER = Path(__file__).parent / "bundled" / "attributes"
USUAL, NETWORK = "usual.json", "network.safetensors"
_COUNTS = {"shoes": 0.5, "shoes_colour": 0.5}  # small parts are seen less surely; other attributes count 1
LEAST = 0.003  # probability that anything has, whatever the network says
_SCALE = 0.05  # of the sum of log probabilities: a picture's row is then hardly ever longer than 1


class AttributeExpert:
    """Encoder of pictures and sentences by attributes; D is the number of all values, and one.

    Attributes:
        weight: of its cosine beside those of networks.
        fingerprint: of the network's weights, of what is usual, and of how sentences are read.
    """

    weight = 4.0

    def __init__(self, usual: Mapping[str, Floats], shares: Mapping[str, Floats], network: str) -> None:
        """Take what is usual.

        Args:
            usual: mean log probability of each value of `ATTRIBUTES`.
            shares: how common each value is.
            network: SHA-256 of the weights that read pictures.
        """
        self._usual, self._shares = np.concatenate([usual[name] for name in ATTRIBUTES]), dict(shares)
        numbers = {name: [usual[name].tolist(), shares[name].tolist()] for name in ATTRIBUTES}
        self.fingerprint = fingerprint([network, numbers, LEAST, _SCALE, _COUNTS])

    @classmethod
    @cache
    def load(cls) -> Self:
        """Read the one that is bundled.

        Raises:
            ArtifactError: its file cannot be read.
            ModelError: the file is damaged.
        """
        file = FOLDER / USUAL
        content = read_json(file)
        try:
            usual, shares = (
                {name: np.array(content[kind][name], np.float32) for name in ATTRIBUTES} for kind in ("usual", "shares")
            )
            network = str(content["network"])
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"{file}: damaged: expected numbers for each attribute, in usual and in shares") from error
        for name, values in ATTRIBUTES.items():
            if not usual[name].shape == shares[name].shape == (len(values),) or not (shares[name] > 0).all():
                raise ModelError(f"{file}: damaged: {name}: expected {len(values)} numbers in usual and in shares")
        return cls(usual, shares, network)

    @property
    def dimension(self) -> int:
        """Numbers of a feature."""
        return sum(len(values) for values in ATTRIBUTES.values()) + 1

    def encode_probabilities(self, found: Floats) -> Floats:
        """Encode the probabilities (N, D - 1) of all values in N pictures: (N, D), each of length 1.

        The last number fills each row up to length 1: without it, pictures that show little would count for more.
        """
        rows = np.float32(_SCALE) * (np.log(np.maximum(found, np.float32(LEAST))) - self._usual)
        rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1)
        rest = np.sqrt(np.maximum(1 - np.square(rows).sum(axis=1, keepdims=True), 0))
        encoded: Floats = np.concatenate([rows, rest], axis=1)
        return encoded

    def encode_texts(self, texts: Sequence[str]) -> Floats:
        """Encode N sentences: (N, D), each of length 1, or 0 where a sentence tells of no attribute."""
        rows = [self._encode_text(text) for text in texts]
        return unit(np.stack(rows) if rows else np.zeros((0, self.dimension), np.float32))

    def _encode_text(self, text: str) -> Floats:
        weights = {name: np.zeros(len(values), np.float32) for name, values in ATTRIBUTES.items()}
        for told in read_sentence(text):
            meant = told.fits * self._shares[told.attribute]
            weights[told.attribute] += meant / meant.sum()
        # What is told of twice, as the colours of black and white shoes, counts once.
        rows = [_COUNTS.get(name, 1.0) * row / max(1.0, row.sum()) for name, row in weights.items()]
        encoded: Floats = np.concatenate([*rows, np.zeros(1, np.float32)]).astype(np.float32)
        return encoded
