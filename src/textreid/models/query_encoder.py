"""The text tower in numpy alone: a search answers before torch could be imported.

Equal to `Model.encode_texts` up to rounding.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from textreid.artifacts import read_json, read_manifest
from textreid.config import ModelConfig
from textreid.errors import ConfigError, ModelError
from textreid.models.tokenizer import Tokenizer

Array = npt.NDArray[np.float32]

_FORMAT_VERSION = 1
_NORM_EPSILON = 1e-5


class QueryEncoder:
    """Encodes sentences as the model in a model folder does.

    Attributes:
        config: the configuration of the model.
        tokenizer: the model's.
        fingerprint: the model's; features of images are comparable if made by a model with the same one.
    """

    def __init__(
        self, config: ModelConfig, tokenizer: Tokenizer, weights: Mapping[str, Array], fingerprint: str
    ) -> None:
        self.config = config
        self.fingerprint = fingerprint
        self.tokenizer = tokenizer
        self._weights = weights

    @classmethod
    def load(cls, folder: Path | str) -> Self:
        """Read the text tower of a model folder.

        Raises:
            ModelError: the folder is missing, damaged or holds no such text tower.
        """
        folder = Path(folder)
        manifest = read_manifest(folder, "model", _FORMAT_VERSION)
        try:
            config = ModelConfig.from_dict(read_json(folder / "config.json"))
        except ConfigError as error:
            raise ModelError(f"{folder / 'config.json'}: {error}") from error
        weights = {}
        try:
            with safe_open(folder / "model.safetensors", framework="np") as file:
                for name in file.keys():  # noqa: SIM118 - not a mapping
                    if name.startswith("text_"):
                        weights[name] = np.asarray(file.get_tensor(name), dtype=np.float32)
        except (OSError, SafetensorError) as error:
            raise ModelError(f"{folder / 'model.safetensors'}: cannot be read: {error}") from error
        return cls(config, Tokenizer.load(folder / "tokenizer.json"), weights, manifest["fingerprint"])

    def encode_texts(self, texts: Sequence[str]) -> Array:
        """Features of N sentences: (N, D) float32, each of length 1."""
        features = np.zeros((len(texts), self.config.embedding_dim), np.float32)
        for row, text in enumerate(texts):
            features[row] = self._encode(self.tokenizer.encode([text]).ids[0])
        return features

    def _encode(self, ids: npt.NDArray[np.int64]) -> Array:
        table = self._weights
        hidden = table["text_model.embeddings.token_embedding.weight"][ids]
        hidden = hidden + table["text_model.embeddings.position_embedding.weight"][: len(ids)]
        for layer in range(self.config.text_layers):
            prefix = f"text_model.encoder.layers.{layer}"
            hidden = hidden + self._attention(self._norm(hidden, f"{prefix}.layer_norm1"), f"{prefix}.self_attn")
            inner = self._linear(self._norm(hidden, f"{prefix}.layer_norm2"), f"{prefix}.mlp.fc1")
            hidden = hidden + self._linear(_ACTIVATIONS[self.config.activation](inner), f"{prefix}.mlp.fc2")
        feature = table["text_projection.weight"] @ self._norm(hidden[-1], "text_model.final_layer_norm")
        unit: Array = feature / max(float(np.linalg.norm(feature)), 1e-12)
        return unit

    def _attention(self, hidden: Array, name: str) -> Array:
        length, width = hidden.shape
        heads = self.config.text_heads
        query, key, value = (
            self._linear(hidden, f"{name}.{part}").reshape(length, heads, -1).transpose(1, 0, 2)
            for part in ("q_proj", "k_proj", "v_proj")
        )
        scores = query @ key.transpose(0, 2, 1) * np.float32((width // heads) ** -0.5)
        scores += np.triu(np.full((length, length), -np.inf, np.float32), 1)
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        weights /= weights.sum(axis=-1, keepdims=True)
        return self._linear((weights @ value).transpose(1, 0, 2).reshape(length, width), f"{name}.out_proj")

    def _linear(self, hidden: Array, name: str) -> Array:
        return hidden @ self._weights[f"{name}.weight"].T + self._weights[f"{name}.bias"]

    def _norm(self, hidden: Array, name: str) -> Array:
        centred = hidden - hidden.mean(axis=-1, keepdims=True)
        deviation = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + np.float32(_NORM_EPSILON))
        return centred / deviation * self._weights[f"{name}.weight"] + self._weights[f"{name}.bias"]


def _gelu(values: Array) -> Array:
    error_function = np.frompyfunc(math.erf, 1, 1)
    half: Array = (1 + error_function(values * math.sqrt(0.5)).astype(np.float32)) / 2
    return values * half


def _quick_gelu(values: Array) -> Array:
    return values * (np.tanh(np.float32(0.851) * values) + 1) / 2  # v · sigmoid(1.702 v), which cannot overflow


_ACTIVATIONS = {"gelu": _gelu, "quick_gelu": _quick_gelu}
