"""A model in use: pictures and sentences in, comparable vectors out; and its folder on disk."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from os import PathLike
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from safetensors.torch import save

from textreid.artifacts import new_folder, write_bytes, write_json, write_text
from textreid.config import ModelConfig
from textreid.datasets.images import read_image, to_pixels
from textreid.errors import ModelError
from textreid.models.dual_encoder import DualEncoder
from textreid.models.tokenizer import Tokenizer

FORMAT_VERSION = 1
Picture = str | PathLike[str] | Image.Image


class Model:
    """A dual encoder with its tokenizer, ready to encode.

    Attributes:
        encoder: the network; it stays in evaluation mode while it encodes.
        tokenizer: text to token ids.
        config: the shape of the network and the normalisation of its pixels.
    """

    def __init__(self, encoder: DualEncoder, tokenizer: Tokenizer) -> None:
        config = encoder.config
        if tokenizer.vocabulary_size != config.vocabulary_size:
            raise ModelError(
                f"the tokenizer has {tokenizer.vocabulary_size} tokens, the text tower {config.vocabulary_size}"
            )
        if tokenizer.text_length > config.text_length:
            raise ModelError(
                f"the tokenizer gives up to {tokenizer.text_length} tokens, the text tower takes {config.text_length}"
            )
        self.encoder = encoder
        self.tokenizer = tokenizer
        self.config: ModelConfig = config

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.encoder.visual_projection.weight.device

    def encode_images(self, images: Sequence[Picture], batch_size: int = 64) -> npt.NDArray[np.float32]:
        """Features of N pictures (files or Pillow images): (N, D) float32, each of length 1.

        Raises:
            ImageError: a picture cannot be read.
        """
        config = self.config
        size = (config.image_height, config.image_width)
        with ThreadPoolExecutor(max_workers=2) as pool:
            decoded = _ahead(pool, images, size, batch_size * 2)
            parts = [self.encode_pixels(pixels) for pixels in _batches(decoded, batch_size)]
        return np.concatenate(parts) if parts else np.zeros((0, config.embedding_dim), np.float32)

    def encode_pixels(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Features (N, D) of decoded pictures (N, 3, H, W) uint8 as `textreid.datasets.images.to_pixels` gives them."""
        with _evaluation(self.encoder):
            features = self.encoder.encode_image(normalise(torch.from_numpy(pixels).to(self.device), self.config))
        return _unit(features)

    def encode_texts(self, texts: Sequence[str], batch_size: int = 256) -> npt.NDArray[np.float32]:
        """Features of N sentences: (N, D) float32, each of length 1. A text that is too long keeps its beginning."""
        tokens = self.tokenizer.encode(texts)
        features = np.zeros((len(texts), self.config.embedding_dim), np.float32)
        order = np.argsort(tokens.lengths, kind="stable")
        with _evaluation(self.encoder):
            for begin in range(0, len(order), batch_size):
                rows = order[begin : begin + batch_size]
                lengths = tokens.lengths[rows]
                ids = torch.from_numpy(tokens.ids[rows, : int(lengths.max())]).to(self.device)
                features[rows] = _unit(self.encoder.encode_text(ids, torch.from_numpy(lengths).to(self.device)))
        return features

    def save(
        self, path: Path | str, card: str, dtype: Literal["float32", "float16"] = "float32", replace: bool = False
    ) -> None:
        """Write the model folder: ``config.json``, ``model.safetensors``, ``tokenizer.json``, ``card.md``."""
        kind = {"float32": torch.float32, "float16": torch.float16}[dtype]
        state = {name: t.detach().to("cpu", kind).contiguous() for name, t in self.encoder.state_dict().items()}
        fingerprint = _fingerprint(state, self.config, self.tokenizer)
        with new_folder(
            Path(path), "model", FORMAT_VERSION, replace=replace, fingerprint=fingerprint, dtype=dtype
        ) as folder:
            write_json(folder / "config.json", asdict(self.config))
            write_bytes(folder / "model.safetensors", save(state))
            self.tokenizer.save(folder / "tokenizer.json")
            write_text(folder / "card.md", card)

    @property
    def fingerprint(self) -> str:
        """SHA-256 over weights, configuration and tokenizer: equal fingerprints, equal features."""
        return _fingerprint(self.encoder.state_dict(), self.config, self.tokenizer)


def normalise(pixels: torch.Tensor, config: ModelConfig) -> torch.Tensor:
    """uint8 pixels (N, 3, H, W) to float32 with the configuration's mean and deviation."""
    mean = torch.tensor(config.pixel_mean, device=pixels.device).view(3, 1, 1)
    deviation = torch.tensor(config.pixel_std, device=pixels.device).view(3, 1, 1)
    return (pixels.float() / 255 - mean) / deviation


class _evaluation:  # noqa: N801
    def __init__(self, encoder: DualEncoder) -> None:
        self._encoder = encoder
        self._inference = torch.inference_mode()

    def __enter__(self) -> None:
        self._training = self._encoder.training
        self._encoder.eval()
        self._inference.__enter__()

    def __exit__(self, *details: object) -> None:
        self._inference.__exit__(None, None, None)
        self._encoder.train(self._training)


def _unit(features: torch.Tensor) -> npt.NDArray[np.float32]:
    unit: npt.NDArray[np.float32] = torch.nn.functional.normalize(features.float(), dim=-1).cpu().numpy()
    return unit


def _ahead(
    pool: ThreadPoolExecutor, images: Sequence[Picture], size: tuple[int, int], depth: int
) -> Iterator[npt.NDArray[np.uint8]]:
    """Decode in threads, in order, at most ``depth`` pictures ahead."""
    from collections import deque

    def decode(image: Picture) -> npt.NDArray[np.uint8]:
        return to_pixels(read_image(image, at_least=size), *size)

    waiting = deque(pool.submit(decode, image) for image in images[:depth])
    following = iter(images[depth:])
    while waiting:
        yield waiting.popleft().result()
        for image in following:
            waiting.append(pool.submit(decode, image))
            break


def _batches(items: Iterable[npt.NDArray[np.uint8]], size: int) -> Iterator[npt.NDArray[np.uint8]]:
    batch: list[npt.NDArray[np.uint8]] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield np.stack(batch)
            batch = []
    if batch:
        yield np.stack(batch)


def _fingerprint(state: dict[str, torch.Tensor], config: ModelConfig, tokenizer: Tokenizer) -> str:
    digest = hashlib.sha256(json.dumps(asdict(config), sort_keys=True).encode())
    digest.update(tokenizer.to_json().encode())
    for name, tensor in sorted(state.items()):
        digest.update(f"{name} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().to("cpu", torch.float32).contiguous().numpy().tobytes())
    return digest.hexdigest()
