"""The text tower in numpy alone: a search answers before torch could be imported.

Equal to `Model.encode_texts` up to rounding. Meant for a few sentences at a time; for many, use the model.
"""

import math
from collections.abc import Mapping, Sequence
from functools import cache
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
        for layer in range(self.config.text_layers):
            prefix = f"text_model.encoder.layers.{layer}"
            normed = self._norm(hidden, f"{prefix}.layer_norm1")
            if layer == self.config.text_layers - 1:
                hidden = hidden[-1:]  # what the other tokens become is not asked any more
            hidden = hidden + self._attention(normed, len(hidden), f"{prefix}.self_attn")
            inner = activation(self._linear(self._norm(hidden, f"{prefix}.layer_norm2"), f"{prefix}.mlp.fc1"))
            hidden = hidden + self._linear(inner, f"{prefix}.mlp.fc2")
        feature: Array = self._weights["text_projection.weight"] @ self._norm(hidden[-1], "text_model.final_layer_norm")
        return feature

    def _attention(self, hidden: Array, asking: int, name: str) -> Array:
        """Attend to all tokens of ``hidden`` (L, W); returns (A, W) of the last ``asking`` of them."""
        length, width = hidden.shape
        heads = self.config.text_heads
        query, key, value = (
            self._linear(rows, f"{name}.{part}").reshape(len(rows), heads, width // heads).transpose(1, 0, 2)
            for part, rows in (("q_proj", hidden[-asking:]), ("k_proj", hidden), ("v_proj", hidden))
        )
        scores = query @ key.transpose(0, 2, 1) * np.float32((width // heads) ** -0.5)
        # A token sees itself and those before it.
        scores[:, *np.triu_indices(asking, 1 + length - asking, length)] = -np.inf
        # The largest is subtracted so that `exp` does not overflow; it is finite, since a token always sees itself.
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        weights /= weights.sum(axis=-1, keepdims=True)
        return self._linear((weights @ value).transpose(1, 0, 2).reshape(asking, width), f"{name}.out_proj")

    def _linear(self, hidden: Array, name: str) -> Array:
        result: Array = hidden @ self._weights[f"{name}.weight"].T + self._weights[f"{name}.bias"]
        return result

    def _norm(self, hidden: Array, name: str) -> Array:
        centred = hidden - hidden.mean(axis=-1, keepdims=True)
        std = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + np.float32(NORM_EPSILON))
        result: Array = centred / std * self._weights[f"{name}.weight"] + self._weights[f"{name}.bias"]
        return result


def _gelu(values: Array) -> Array:
    """Compute ``v · Φ(v)``, with Φ read off a table between whose points it is a line.

    That errs by less than 3e-8, where float32 rounds by 6e-8; the standard library's error function, which is asked for
    each number, took half of the time of a query.
    """
    start, slope = _phi()
    place = np.clip(values, -_TABLE_END, _TABLE_END - 1 / _TABLE_STEPS) * np.float32(_TABLE_STEPS)
    row = np.floor(place).astype(np.intp)
    offset = place - row
    row += _TABLE_END * _TABLE_STEPS
    result: Array = values * (start[row] + slope[row] * offset)
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
