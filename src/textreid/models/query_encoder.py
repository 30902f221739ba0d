"""The text tower in numpy alone: a search answers before torch could be imported.

Equal to `Model.encode_texts` up to rounding. Meant for a few sentences at a time; for many, use the model.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from textreid.config import NORM_EPSILON, ModelConfig
from textreid.errors import ModelError, check_list
from textreid.models.folder import WEIGHTS, check_shapes, open_folder, text_tower_shapes
from textreid.models.presence import Presence
from textreid.models.tokenizer import Tokenizer

Array = npt.NDArray[np.float32]
_TABLE_END, _TABLE_STEPS = 8, 1024  # of Φ: from -8 to 8, so many points to 1


class QueryEncoder:
    """Encodes sentences as the model in a model folder does.

    Attributes:
        config: the configuration of the model.
        tokenizer: the model's.
        fingerprint: the model's; features of images are comparable if made by a model with the same one.
        presence: tells of features of images which seem to show nobody; None where the folder has no such file.
    """

    def __init__(
        self,
        config: ModelConfig,
        tokenizer: Tokenizer,
        weights: Mapping[str, Array],
        fingerprint: str,
        presence: Presence | None = None,
    ) -> None:
        self.config = config
        self.tokenizer = tokenizer
        self.fingerprint = fingerprint
        self.presence = presence
        self._weights = weights

    @classmethod
    def load(cls, folder: Path | str) -> Self:
        """Read the text tower of a model folder.

        Raises:
            ArtifactError: the folder is missing, foreign, incomplete or of another format version.
            ModelError: its parts are damaged or do not fit each other.
        """
        opened = open_folder(Path(folder))
        file = opened.path / WEIGHTS
        try:
            # `safe_open` reads one tensor when it is asked for: the image tower, most of the file, stays on disk.
            with safe_open(file, framework="np") as tensors:
                names = [name for name in tensors.keys() if name.startswith("text_")]  # noqa: SIM118 - no mapping
                weights = {name: np.asarray(tensors.get_tensor(name), dtype=np.float32) for name in names}
        except (OSError, SafetensorError) as error:
            raise ModelError(f"{file}: cannot be read: {error}") from error
        check_shapes({name: w.shape for name, w in weights.items()}, text_tower_shapes(opened.config), str(file))
        return cls(opened.config, opened.tokenizer, weights, opened.fingerprint, opened.presence)

    def encode_texts(self, texts: Sequence[str]) -> Array:
        """Encode N sentences: (N, D) float32 features, each of length 1.

        Raises:
            ArgumentError: ``texts`` is not a list of sentences.
        """
        check_list("texts", texts, str, "sentences")
        features = np.zeros((len(texts), self.config.embedding_dim), dtype=np.float32)
        for row, text in enumerate(texts):
            # One sentence at a time has no padding: there is nothing to hide, and the end token is the last row.
            feature = self._feature(self.tokenizer.encode([text]).ids[0])
            # As torch's `normalize`, which divides by at least 1e-12.
            features[row] = feature / max(float(np.linalg.norm(feature)), 1e-12)
        return features

    def _feature(self, ids: npt.NDArray[np.int64]) -> Array:
        hidden = self._weights["text_model.embeddings.token_embedding.weight"][ids]
        hidden = hidden + self._weights["text_model.embeddings.position_embedding.weight"][: len(ids)]
        activation = _gelu if self.config.activation == "gelu" else _quick_gelu
        *inner, last = self._layers
        for layer in inner:
            hidden = layer.apply(hidden, hidden, activation, self._mask[: len(ids), : len(ids)])
        # What the other tokens become is not asked any more; the last one sees them all.
        hidden = last.apply(hidden, hidden[-1:], activation, None)
        feature: Array = self._weights["text_projection.weight"] @ self._final(hidden)[0]
        return feature

    @cached_property
    def _layers(self) -> "list[_Layer]":
        prefix = "text_model.encoder.layers"
        return [
            _Layer.of(self._weights, f"{prefix}.{number}", self.config.text_heads)
            for number in range(self.config.text_layers)
        ]

    @cached_property
    def _final(self) -> "_Norm":
        return _Norm.of(self._weights, "text_model.final_layer_norm")

    @cached_property
    def _mask(self) -> Array:
        """What is added to scores so that a token sees itself and those before it, (L, L)."""
        length = len(self._weights["text_model.embeddings.position_embedding.weight"])
        return np.triu(np.full((length, length), -np.inf, np.float32), 1)


@dataclass(frozen=True, eq=False)
class _Linear:
    """Weights (inputs, outputs) and bias; stored so, a product with the few rows of a sentence takes half the time."""

    weight: Array
    bias: Array

    @classmethod
    def of(cls, weights: Mapping[str, Array], *names: str) -> Self:
        """Read one, or several that take the same rows, as one."""
        joined = np.concatenate([weights[f"{name}.weight"] for name in names])
        return cls(np.ascontiguousarray(joined.T), np.concatenate([weights[f"{name}.bias"] for name in names]))

    def __call__(self, hidden: Array) -> Array:
        result: Array = hidden @ self.weight
        result += self.bias
        return result


@dataclass(frozen=True, eq=False)
class _Norm:
    weight: Array
    bias: Array

    @classmethod
    def of(cls, weights: Mapping[str, Array], name: str) -> Self:
        return cls(weights[f"{name}.weight"], weights[f"{name}.bias"])

    def __call__(self, hidden: Array) -> Array:
        share = np.float32(1 / hidden.shape[-1])
        mean: Array = np.add.reduce(hidden, axis=-1, keepdims=True)
        centred: Array = hidden - mean * share
        variance = np.einsum("ij,ij->i", centred, centred)[:, None] * share
        centred /= np.sqrt(variance + np.float32(NORM_EPSILON))
        centred *= self.weight
        centred += self.bias
        return centred


@dataclass(frozen=True, eq=False)
class _Layer:
    """Layer of the text tower: attention, then a perceptron."""

    before: _Norm
    query: _Linear
    key_value: _Linear
    output: _Linear
    between: _Norm
    inner: _Linear
    outer: _Linear
    heads: int

    @classmethod
    def of(cls, weights: Mapping[str, Array], name: str, heads: int) -> Self:
        """Read one."""
        attention = f"{name}.self_attn"
        return cls(
            _Norm.of(weights, f"{name}.layer_norm1"),
            _Linear.of(weights, f"{attention}.q_proj"),
            _Linear.of(weights, f"{attention}.k_proj", f"{attention}.v_proj"),
            _Linear.of(weights, f"{attention}.out_proj"),
            _Norm.of(weights, f"{name}.layer_norm2"),
            _Linear.of(weights, f"{name}.mlp.fc1"),
            _Linear.of(weights, f"{name}.mlp.fc2"),
            heads,
        )

    def apply(self, hidden: Array, asking: Array, activation: Callable[[Array], Array], mask: Array | None) -> Array:
        """Let the last tokens (A, W) of ``hidden`` (L, W) attend to all; returns what they become."""
        count, width = asking.shape
        depth = width // self.heads
        normed = self.before(hidden)
        query = self.query(normed[-count:]).reshape(count, self.heads, depth).transpose(1, 0, 2)
        both = self.key_value(normed).reshape(len(hidden), 2, self.heads, depth)
        scores = query @ both[:, 0].transpose(1, 2, 0)
        scores *= np.float32(depth**-0.5)
        if mask is not None:
            scores += mask
        # The largest is subtracted so that `exp` does not overflow; it is finite, since a token always sees itself.
        scores -= scores.max(axis=-1, keepdims=True)
        weights = np.exp(scores, out=scores)
        weights /= np.add.reduce(weights, axis=-1, keepdims=True)
        seen = (weights @ both[:, 1].transpose(1, 0, 2)).transpose(1, 0, 2).reshape(count, width)
        attended: Array = asking + self.output(seen)
        attended += self.outer(activation(self.inner(self.between(attended))))
        return attended


def _gelu(values: Array) -> Array:
    """Compute ``v · Φ(v)``, with Φ read off a table between whose points it is a line.

    That errs by less than 3e-8, where float32 rounds by 6e-8; the standard library's error function, which is asked for
    each number, took half of the time of a query.
    """
    start, slope = _phi()
    place = np.clip(values, -_TABLE_END, _TABLE_END - 1 / _TABLE_STEPS)
    place *= np.float32(_TABLE_STEPS)
    floor = np.floor(place)
    place -= floor
    row = floor.astype(np.intp)
    row += _TABLE_END * _TABLE_STEPS
    result: Array = slope.take(row)
    result *= place
    result += start.take(row)
    result *= values
    return result


@cache
def _phi() -> tuple[Array, Array]:
    """Return Φ, the share of a normal distribution below v, at equal steps of v, and how much it grows to the next."""
    count = 2 * _TABLE_END * _TABLE_STEPS + 1
    exact = np.array([0.5 * math.erfc((_TABLE_END - i / _TABLE_STEPS) * math.sqrt(0.5)) for i in range(count)])
    return exact[:-1].astype(np.float32), np.diff(exact).astype(np.float32)


def _quick_gelu(values: Array) -> Array:
    """Compute ``v · sigmoid(1.702 v)`` by the hyperbolic tangent, which cannot overflow."""
    # sigmoid(x) = (1 + tanh(x / 2)) / 2, and 0.851 is half of 1.702.
    result: Array = values * (np.float32(0.5) * (1 + np.tanh(np.float32(0.851) * values)))
    return result
