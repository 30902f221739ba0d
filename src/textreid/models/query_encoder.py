"""The text tower in numpy alone: a search answers before torch could be imported.

Equal to `Model.encode_texts` up to rounding. Meant for a few sentences at a time; for many, use the model.
"""

import math
from collections.abc import Mapping, Sequence
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
            hidden = hidden + self._attention(self._norm(hidden, f"{prefix}.layer_norm1"), f"{prefix}.self_attn")
            inner = activation(self._linear(self._norm(hidden, f"{prefix}.layer_norm2"), f"{prefix}.mlp.fc1"))
            hidden = hidden + self._linear(inner, f"{prefix}.mlp.fc2")
        feature: Array = self._weights["text_projection.weight"] @ self._norm(hidden[-1], "text_model.final_layer_norm")
        return feature

    def _attention(self, hidden: Array, name: str) -> Array:
        length, width = hidden.shape
        heads = self.config.text_heads
        query, key, value = (
            self._linear(hidden, f"{name}.{part}").reshape(length, heads, width // heads).transpose(1, 0, 2)
            for part in ("q_proj", "k_proj", "v_proj")
        )
        scores = query @ key.transpose(0, 2, 1) * np.float32((width // heads) ** -0.5)
        scores[:, *np.triu_indices(length, 1)] = -np.inf  # a token sees itself and those before it
        # The largest is subtracted so that `exp` does not overflow; it is finite, since a token always sees itself.
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        weights /= weights.sum(axis=-1, keepdims=True)
        return self._linear((weights @ value).transpose(1, 0, 2).reshape(length, width), f"{name}.out_proj")

    def _linear(self, hidden: Array, name: str) -> Array:
        result: Array = hidden @ self._weights[f"{name}.weight"].T + self._weights[f"{name}.bias"]
        return result

    def _norm(self, hidden: Array, name: str) -> Array:
        centred = hidden - hidden.mean(axis=-1, keepdims=True)
        std = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + np.float32(NORM_EPSILON))
        result: Array = centred / std * self._weights[f"{name}.weight"] + self._weights[f"{name}.bias"]
        return result


def _gelu(values: Array) -> Array:
    """Compute ``v · Φ(v)``. The error function of the standard library is exact, and fast enough for a sentence."""
    scaled = (values * math.sqrt(0.5)).ravel().tolist()
    error = np.fromiter(map(math.erf, scaled), dtype=np.float32, count=values.size).reshape(values.shape)
    return values * (np.float32(0.5) * (1 + error))


def _quick_gelu(values: Array) -> Array:
    """Compute ``v · sigmoid(1.702 v)`` by the hyperbolic tangent, which cannot overflow."""
    # sigmoid(x) = (1 + tanh(x / 2)) / 2, and 0.851 is half of 1.702.
    result: Array = values * (np.float32(0.5) * (1 + np.tanh(np.float32(0.851) * values)))
    return result
