"""Several models as one: features side by side, so that the cosine of two is the mean of the models' cosines.

Models that err apart rank better together. ``small+tiny`` names two networks; ``colours`` among the names is the
expert for colour names. This is the part that needs no torch: names, features, and the text side of a search.
"""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt

from textreid.errors import ModelError
from textreid.models.colour_expert import COLOURS, ColourExpert
from textreid.models.folder import BUNDLED
from textreid.models.presence import Presence
from textreid.models.query_encoder import QueryEncoder

Array = npt.NDArray[np.float32]
_PLUS = "+"


class Named(Protocol):
    """Network that tells its features from those of others."""

    presence: Presence | None

    @property
    def fingerprint(self) -> str:
        """Equal for models that encode alike."""


def names_of(name_or_path: object) -> tuple[str, ...]:
    """Split the name of several models, as ``small+tiny+colours``; () for anything else, a path that exists included.

    Raises:
        ModelError: the expert stands alone, or a name is empty or given twice.
    """
    name = os.fspath(name_or_path) if isinstance(name_or_path, str | os.PathLike) else ""
    if name == COLOURS:
        raise ModelError(f"{name}: an expert that stands beside a model: name both, as in small{_PLUS}{name}")
    if not isinstance(name, str) or _PLUS not in name or Path(name).exists():
        return ()
    names = tuple(name.split(_PLUS))
    if not all(names) or len(set(names)) < len(names) or names == (COLOURS,):
        raise ModelError(f"{name}: expected different models with {_PLUS} between them, as in small{_PLUS}tiny")
    return names


def networks_of(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names without the expert's."""
    return tuple(name for name in names if name != COLOURS)


def expert_of(names: Sequence[str]) -> ColourExpert | None:
    """Load the expert, if it is named."""
    return ColourExpert.load() if COLOURS in names else None


def join_features(parts: Sequence[Array]) -> Array:
    """Put features (N, D) of length 1 side by side: (N, sum of the D), of length 1."""
    joined: Array = np.concatenate(parts, axis=1) * np.float32(len(parts) ** -0.5)
    return joined


def join_fingerprints(networks: Sequence[Named], expert: ColourExpert | None) -> str:
    """Make one fingerprint of those of the members, in their order."""
    marks = [network.fingerprint for network in networks] + ([expert.fingerprint] if expert else [])
    return hashlib.sha256(" ".join(marks).encode()).hexdigest()


def join_presence(networks: Sequence[Named], expert: ColourExpert | None) -> Presence | None:
    """Make one measure of those of the members that have one: their log odds are averaged, as their scores are."""
    known = [each.presence for each in networks]
    having = [each for each in known if each]
    if len(having) < len(known) or not having:
        return None
    parts, share = len(known) + bool(expert), 1 / len(known)
    weights = [each.weights * np.float32(share * parts**0.5) for each in having]
    if expert:
        weights.append(np.zeros(expert.dimension, np.float32))
    return Presence(
        join_fingerprints(networks, expert),
        np.concatenate(weights),
        bias=share * sum(each.bias for each in having),
        threshold=share * sum(each.threshold for each in having),
        # A score is the mean over all parts, the expert's too, which knows nothing of empty places.
        penalty=sum(each.penalty for each in having) / parts,
    )


class QueryEncoders(QueryEncoder):
    """Encodes sentences as an `Ensemble` does, in numpy alone."""

    def __init__(self, networks: Sequence[QueryEncoder], expert: ColourExpert | None) -> None:
        first = networks[0]
        super().__init__(
            first.config, first.tokenizer, {}, join_fingerprints(networks, expert), join_presence(networks, expert)
        )
        self._networks, self._expert = tuple(networks), expert

    @classmethod
    def of(cls, names: Sequence[str]) -> Self:
        """Read the text sides of model folders and bundled models.

        Raises:
            ArtifactError, ModelError: as `QueryEncoder.load`.
        """
        folders = [BUNDLED.get(name, Path(name)) for name in networks_of(names)]
        return cls([QueryEncoder.load(folder) for folder in folders], expert_of(names))

    def encode_texts(self, texts: Sequence[str]) -> Array:
        """Encode N sentences: (N, D) float32 features, each of length 1."""
        parts = [network.encode_texts(texts) for network in self._networks]
        return join_features([*parts, *([self._expert.encode_texts(texts)] if self._expert else [])])
