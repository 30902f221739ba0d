"""Several models as one: features side by side, so that the cosine of two is the weighted mean of the models' cosines.

Models that err apart rank better together. ``small+tiny`` names two networks; ``colours`` and ``attributes`` among
the names are experts, whose sentences are read by rules. This is the part that needs no torch: names, features, and
the text side of a search.
"""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt

from textreid.errors import ModelError
from textreid.models.attribute_expert import ATTRIBUTE_EXPERT, HOST, AttributeExpert
from textreid.models.colour_expert import COLOURS, ColourExpert
from textreid.models.folder import BUNDLED
from textreid.models.presence import Presence
from textreid.models.query_encoder import QueryEncoder

Array = npt.NDArray[np.float32]
_PLUS = "+"
_EXPERTS = (COLOURS, ATTRIBUTE_EXPERT)


class Expert(Protocol):
    """What stands beside networks and reads sentences by rules."""

    weight: float  # of its cosine, beside 1 of each network

    @property
    def fingerprint(self) -> str:
        """Equal for experts that encode alike."""

    @property
    def dimension(self) -> int:
        """Numbers of a feature."""

    def encode_texts(self, texts: Sequence[str]) -> Array:
        """Encode N sentences: (N, D), each of length 1, or 0 where a sentence says nothing to the expert."""


class Named(Protocol):
    """Network that tells its features from those of others."""

    presence: Presence | None

    @property
    def fingerprint(self) -> str:
        """Equal for models that encode alike."""


def names_of(name_or_path: object) -> tuple[str, ...]:
    """Split the name of several models, as ``small+tiny+colours``; () for anything else, a path that exists included.

    Raises:
        ModelError: an expert lacks what it stands beside, or a name is empty or given twice.
    """
    name = os.fspath(name_or_path) if isinstance(name_or_path, str | os.PathLike) else ""
    if name in _EXPERTS:
        raise ModelError(f"{name}: an expert that stands beside a model: name both, as in {HOST}{_PLUS}{name}")
    if not isinstance(name, str) or _PLUS not in name or Path(name).exists():
        return ()
    names = tuple(name.split(_PLUS))
    if not all(names) or len(set(names)) < len(names) or not networks_of(names):
        raise ModelError(f"{name}: expected different models with {_PLUS} between them, as in small{_PLUS}tiny")
    if ATTRIBUTE_EXPERT in names and HOST not in names:
        raise ModelError(f"{name}: {ATTRIBUTE_EXPERT} reads the trunk of {HOST}: name it too")
    return names


def networks_of(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names without those of experts."""
    return tuple(name for name in names if name not in _EXPERTS)


def experts_of(names: Sequence[str]) -> tuple[ColourExpert | AttributeExpert, ...]:
    """Load the experts that are named, in the order of their names."""
    return tuple(
        ColourExpert.load() if name == COLOURS else AttributeExpert.load() for name in names if name in _EXPERTS
    )


def weights_of(networks: Sequence[object], experts: Sequence[Expert]) -> Array:
    """Return the share of each member's cosine in the mean; they sum to 1."""
    weights = np.array([*(1.0 for _ in networks), *(expert.weight for expert in experts)], np.float32)
    shares: Array = weights / weights.sum()
    return shares


def join_features(parts: Sequence[Array], shares: Array) -> Array:
    """Put features (N, D) of length 1 side by side, each by its share: (N, sum of the D), of length 1."""
    joined: Array = np.concatenate([part * root for part, root in zip(parts, np.sqrt(shares), strict=True)], axis=1)
    return joined


def join_fingerprints(networks: Sequence[Named], experts: Sequence[Expert]) -> str:
    """Make one fingerprint of those of the members, in their order."""
    marks = [network.fingerprint for network in networks] + [expert.fingerprint for expert in experts]
    return hashlib.sha256(" ".join(marks).encode()).hexdigest()


def join_presence(networks: Sequence[Named], experts: Sequence[Expert]) -> Presence | None:
    """Make one measure of those of the networks, if each has one: the means of their log odds and penalties."""
    known = [each.presence for each in networks]
    having = [each for each in known if each]
    if len(having) < len(known) or not having:
        return None
    shares, even = weights_of(networks, experts), 1 / len(known)
    weights = [
        each.weights * (np.float32(even) / np.sqrt(share))
        for each, share in zip(having, shares, strict=False)  # the networks come first
    ]
    weights += [np.zeros(expert.dimension, np.float32) for expert in experts]
    return Presence(
        join_fingerprints(networks, experts),
        np.concatenate(weights),
        bias=even * sum(each.bias for each in having),
        threshold=even * sum(each.threshold for each in having),
        # Not by their shares: experts know nothing of empty places, and score them as if somebody stood there.
        penalty=even * sum(each.penalty for each in having),
    )


class QueryEncoders(QueryEncoder):
    """Encodes sentences as an `Ensemble` does, in numpy alone."""

    def __init__(self, networks: Sequence[QueryEncoder], experts: Sequence[Expert]) -> None:
        first = networks[0]
        super().__init__(
            first.config, first.tokenizer, {}, join_fingerprints(networks, experts), join_presence(networks, experts)
        )
        self._members: tuple[QueryEncoder | Expert, ...] = (*networks, *experts)
        self._shares = weights_of(networks, experts)

    @classmethod
    def of(cls, names: Sequence[str]) -> Self:
        """Read the text sides of model folders and bundled models.

        Raises:
            ArtifactError, ModelError: as `QueryEncoder.load`.
        """
        folders = [BUNDLED.get(name, Path(name)) for name in networks_of(names)]
        return cls([QueryEncoder.load(folder) for folder in folders], experts_of(names))

    def encode_texts(self, texts: Sequence[str]) -> Array:
        """Encode N sentences: (N, D) float32 features, each of length 1."""
        return join_features([member.encode_texts(texts) for member in self._members], self._shares)
