"""A model in use: pictures and sentences in, comparable vectors out; and its folder on disk."""

import copy
import hashlib
import json
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from itertools import islice
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from safetensors.torch import save

from textreid.artifacts import new_folder, write_bytes, write_json, write_text
from textreid.config import ModelConfig
from textreid.errors import ModelError
from textreid.images import read_image, to_pixels
from textreid.models.device import Precision, choose_device
from textreid.models.dual_encoder import DualEncoder
from textreid.models.folder import CARD, CONFIG, FORMAT_VERSION, KIND, TOKENIZER, WEIGHTS, check_tokenizer
from textreid.models.tokenizer import Tokenizer

Picture = str | PathLike[str] | Image.Image

_THREADS = 4  # that decode pictures while the network computes
_TOKENS = 1600  # that one core of a CPU works on at once: 8 pictures of the paper's model, which its cache holds


class Model:
    """A dual encoder with its tokenizer.

    In float32, the default, machines agree up to rounding. In bfloat16, which some processors multiply twice as fast,
    features differ from those by about 0.0001 in cosine; what is saved, and the fingerprint, are the same.

    Attributes:
        encoder: the network, on any device.
        tokenizer: text to token ids.
        config: the shape of the network and the normalisation of its pixels.
        selected_on: the data that chose this checkpoint among others, in words; None where nobody recorded it.
        training_text: where the sentences it learned from come from (names of data sets, of MLLMs, of the weights it
            started from); None where nobody recorded it.
        precision: of the features, ``"fp32"`` or ``"bf16"``.
    """

    def __init__(
        self,
        encoder: DualEncoder,
        tokenizer: Tokenizer,
        selected_on: str | None = None,
        training_text: tuple[str, ...] | None = None,
        precision: Precision = "fp32",
    ) -> None:
        """Put a network to use.

        Args:
            encoder: stays as it is. bfloat16 copies it, and does not see it change afterwards.
            tokenizer: fits its text tower.
            selected_on: the attribute.
            training_text: the attribute.
            precision: what to compute in; ``"auto"`` is bf16 where the device multiplies it, else fp32.

        Raises:
            ModelError: tokenizer and network do not fit each other.
            ConfigError: bf16 is asked for on a GPU that cannot compute it.
        """
        check_tokenizer(tokenizer, encoder.config, "model")
        self.encoder = encoder
        self.tokenizer = tokenizer
        self.config: ModelConfig = encoder.config
        self.selected_on = selected_on
        self.training_text = training_text
        rounded = choose_device(precision, str(self.device)).dtype == torch.bfloat16
        self.precision: Literal["fp32", "bf16"] = "bf16" if rounded else "fp32"
        self._network = copy.deepcopy(encoder).to(torch.bfloat16) if rounded else encoder

    @property
    def device(self) -> torch.device:
        """Where the weights are, and where encoding happens."""
        return self.encoder.visual_projection.weight.device

    @property
    def fingerprint(self) -> str:
        """SHA-256 over weights, configuration and tokenizer: models with equal fingerprints encode alike."""
        return _fingerprint(self.encoder.state_dict(), self.config, self.tokenizer)

    def encode_images(self, images: Sequence[Picture], batch_size: int = 64) -> npt.NDArray[np.float32]:
        """Features of N pictures (files or Pillow images): (N, D) float32, each of length 1.

        Raises:
            ImageError: a picture cannot be read; names it.
        """
        if isinstance(images, (str, PathLike, Image.Image)):
            raise TypeError("encode_images takes a list of pictures, not one")
        with ThreadPoolExecutor(_THREADS) as pool:
            decoded = self._decode_ahead(images, pool, 2 * batch_size)
            parts = [part for pixels in _stacks(decoded, batch_size) for part in self._encode_pixels(pixels)]
        return self._joined(parts)

    def encode_pixels(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Features (N, D) of pixels (N, 3, H, W) uint8, as `textreid.images.to_pixels` gives them."""
        return self._joined(self._encode_pixels(pixels))

    def normalize(self, pixels: npt.NDArray[np.uint8]) -> torch.Tensor:
        """What `encoder` takes, (N, 3, H, W) float32 on its device, of pixels uint8."""
        scaled = self._on_device(pixels).float() / 255
        mean, deviation = (
            scaled.new_tensor(values).view(3, 1, 1) for values in (self.config.pixel_mean, self.config.pixel_std)
        )
        return (scaled - mean) / deviation

    def encode_texts(self, texts: Sequence[str], batch_size: int = 256) -> npt.NDArray[np.float32]:
        """Features of N sentences: (N, D) float32, each of length 1. One that is too long keeps its beginning."""
        if isinstance(texts, str):
            raise TypeError("encode_texts takes a list of sentences, not one")
        tokens = self.tokenizer.encode(texts)
        by_length = np.argsort(tokens.lengths, kind="stable")[::-1]  # little padding; the long ones do not come last
        batches: list[npt.NDArray[np.int64]] = []
        done = 0
        while done < len(texts):
            size = self._at_once(int(tokens.lengths[by_length[done]]), batch_size)
            batches.append(by_length[done : done + size])
            done += size

        def encode(rows: npt.NDArray[np.int64]) -> torch.Tensor:
            lengths = tokens.lengths[rows]
            ids = self._on_device(tokens.ids[rows, : lengths.max()])
            return self._network.encode_text(ids, self._on_device(lengths))

        features = np.zeros((len(texts), self.config.embedding_dim), np.float32)
        features[by_length] = self._joined(self._each(encode, batches))
        return features

    def save(
        self, path: Path | str, card: str, dtype: Literal["float32", "float16"] = "float32", replace: bool = False
    ) -> None:
        """Write the model folder, whole or not at all.

        Args:
            path: the folder.
            card: Markdown that says what the model was made from and how good it is.
            dtype: of the weights in the file; "float16" halves it and rounds them.
            replace: whether a folder at ``path`` may be replaced.

        Raises:
            ArtifactError: ``path`` exists, or cannot be written.
            ModelError: a weight is not a finite number of that type.
        """
        kind = {"float32": torch.float32, "float16": torch.float16}[dtype]
        state = {
            name: tensor.detach().to("cpu", kind).contiguous() for name, tensor in self.encoder.state_dict().items()
        }
        broken = [name for name, tensor in state.items() if not torch.isfinite(tensor).all()]
        if broken:
            raise ModelError(f"{path}: not saved: {len(broken)} tensors are not finite in {dtype}, first {broken[0]}")
        mark = _fingerprint(state, self.config, self.tokenizer)
        facts = {
            "fingerprint": mark,
            "dtype": dtype,
            "selected_on": self.selected_on,
            "training_text": self.training_text,
        }
        with new_folder(Path(path), KIND, FORMAT_VERSION, replace=replace, **facts) as folder:
            write_json(folder / CONFIG, asdict(self.config))
            write_bytes(folder / WEIGHTS, save(state))
            self.tokenizer.save(folder / TOKENIZER)
            write_text(folder / CARD, card)

    def _encode_pixels(self, pixels: npt.NDArray[np.uint8]) -> list[torch.Tensor]:
        """Features (n, D) of length 1, on the device, in parts; a GPU may still be computing them."""
        tokens = 1 + math.prod(self.config.grid)
        parts = -(-len(pixels) // self._at_once(tokens, max(1, len(pixels))))

        def encode(part: npt.NDArray[np.uint8]) -> torch.Tensor:
            normal = self.normalize(part).to(self._network.visual_projection.weight.dtype)
            return self._network.encode_image(normal)

        return self._each(encode, np.array_split(pixels, parts)) if parts else []

    def _at_once(self, tokens: int, most: int) -> int:
        """How many sequences of so many tokens are computed together."""
        return max(1, min(most, _TOKENS // tokens)) if self.device.type == "cpu" else most

    def _each(self, encode: Callable[[Any], torch.Tensor], batches: Sequence[Any]) -> list[torch.Tensor]:
        """Unit features of each batch. The cores of a CPU take a batch each: none waits for another within a layer."""

        def compute(batch: Any) -> torch.Tensor:
            with torch.inference_mode():
                return torch.nn.functional.normalize(encode(batch).float(), dim=-1)

        threads = torch.get_num_threads()
        workers = min(threads, len(batches)) if self.device.type == "cpu" else 1
        if workers < 2:
            return [compute(batch) for batch in batches]
        torch.set_num_threads(threads // workers)  # new threads take it over when they start
        try:
            with ThreadPoolExecutor(workers) as pool:
                return list(pool.map(compute, batches))
        finally:
            torch.set_num_threads(threads)

    def _on_device(self, values: npt.NDArray[Any]) -> torch.Tensor:
        tensor = torch.tensor(values)
        if self.device.type == "cuda":
            tensor = tensor.pin_memory()  # so that the copy does not hold up the next batch
        return tensor.to(self.device, non_blocking=True)

    def _joined(self, parts: list[torch.Tensor]) -> npt.NDArray[np.float32]:
        none = torch.zeros(0, self.config.embedding_dim, device=self.device)
        features: npt.NDArray[np.float32] = torch.cat([none, *parts]).cpu().numpy()
        return features

    def _decode_ahead(
        self, images: Sequence[Picture], pool: ThreadPoolExecutor, depth: int
    ) -> Iterator[npt.NDArray[np.uint8]]:
        """Pixels (3, H, W) of each picture in order; up to ``depth`` are decoded before they are asked for."""
        size = (self.config.image_height, self.config.image_width)

        def decode(image: Picture) -> npt.NDArray[np.uint8]:
            return to_pixels(read_image(image, at_least=size), *size)

        upcoming = iter(images)
        waiting = deque(pool.submit(decode, image) for image in islice(upcoming, depth))
        try:
            while waiting:
                yield waiting.popleft().result()
                waiting.extend(pool.submit(decode, image) for image in islice(upcoming, 1))
        finally:
            for future in waiting:
                future.cancel()


def _stacks(items: Iterable[npt.NDArray[np.uint8]], size: int) -> Iterator[npt.NDArray[np.uint8]]:
    remaining = iter(items)
    while batch := list(islice(remaining, size)):
        yield np.stack(batch)


def _fingerprint(state: dict[str, torch.Tensor], config: ModelConfig, tokenizer: Tokenizer) -> str:
    # What training started from does not change what the model computes.
    shape = {name: value for name, value in asdict(config).items() if name != "weights"}
    digest = hashlib.sha256(json.dumps(shape, sort_keys=True).encode())
    digest.update(tokenizer.to_json().encode())
    for name, tensor in sorted(state.items()):
        digest.update(f"{name} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().to("cpu", torch.float32).contiguous().numpy().tobytes())
    return digest.hexdigest()
