"""A model in use: pictures and sentences in, comparable vectors out; and its folder on disk."""

import copy
import hashlib
import json
import math
import weakref
from collections.abc import Callable, Sequence
from dataclasses import asdict
from itertools import islice
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from safetensors.torch import save

from textreid.artifacts import new_folder, write_bytes, write_json, write_text
from textreid.config import ModelConfig
from textreid.errors import ArgumentError, DataError, ModelError, check_list
from textreid.images import map_ahead, read_pixels
from textreid.models.checkpoints.report import KeyReport
from textreid.models.device import Precision, choose_device, map_on_cores, to_device
from textreid.models.dual_encoder import DualEncoder
from textreid.models.folder import CARD, CONFIG, FORMAT_VERSION, KIND, TOKENIZER, WEIGHTS, check_tokenizer
from textreid.models.presence import PRESENCE, Presence
from textreid.models.tokenizer import Tokenizer

if TYPE_CHECKING:
    from textreid.models.trunk import TrunkEmbedding

Picture = str | PathLike[str] | Image.Image
Array = npt.NDArray[np.float32]

_DECODING_THREADS = 4  # while the network computes
_NEWER = {"interpolation": "bicubic", "reduced_decoding": True}  # settings, and what every model did before them
_TOKENS = 1600  # that one core of a CPU works on at once: 8 pictures of the paper's model, which its cache holds


class Model:
    """A dual encoder with its tokenizer.

    >>> import textreid
    >>> model = textreid.load_model()
    >>> model.encode_texts(["a woman in a red jacket", "a man"]).shape  # each of length 1
    (2, 716)

    In float32, the default, machines agree up to rounding. In bfloat16, which some processors multiply twice as fast,
    features differ from those by about 0.0001 in cosine; what is saved, and the fingerprint, are the same.

    Attributes:
        encoder: the network, on any device.
        tokenizer: text to token ids.
        config: the shape of the network and the normalisation of its pixels.
        selected_on: the data that chose this checkpoint among others, in words; None where it was not recorded.
        training_text: where the sentences it learned from come from (names of data sets, of MLLMs, of the weights it
            started from); None where it was not recorded.
        precision: of the features, ``"fp32"`` or ``"bf16"``.
        report: what became of each tensor of the file it was loaded from; None where it was not loaded.
        presence: tells of features of images which seem to show nobody, as long as the model has its fingerprint;
            None where the folder it was loaded from has no such file.
    """

    def __init__(
        self,
        encoder: DualEncoder,
        tokenizer: Tokenizer,
        selected_on: str | None = None,
        training_text: tuple[str, ...] | None = None,
        precision: Precision = "fp32",
        report: KeyReport | None = None,
        presence: Presence | None = None,
    ) -> None:
        """Put a network to use.

        Args:
            encoder: stays as it is. bfloat16 copies it, and does not see it change afterwards.
            tokenizer: fits its text tower.
            selected_on: the attribute.
            training_text: the attribute.
            precision: what to compute in; ``"auto"`` is bf16 where the device multiplies it, else fp32.
            report: the attribute.
            presence: the attribute.

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
        self.report = report
        self.presence = presence
        self._fingerprinted: tuple[list[Any], str] | None = None  # versions of the tensors, and theirs
        rounded = choose_device(precision, str(self.device)).dtype == torch.bfloat16
        self.precision: Literal["fp32", "bf16"] = "bf16" if rounded else "fp32"
        self._network = copy.deepcopy(encoder).to(torch.bfloat16) if rounded else encoder

    @property
    def device(self) -> torch.device:
        """Where the weights are, and where encoding happens."""
        return self.encoder.visual_projection.weight.device

    @property
    def fingerprint(self) -> str:
        """SHA-256 over weights, configuration and tokenizer: models with equal fingerprints encode alike.

        Computed once, and again after a tensor was replaced or changed in place; changes through ``.data`` are not
        seen.
        """
        state = self.encoder.state_dict(keep_vars=True)
        if any(tensor.is_inference() for tensor in state.values()):  # torch does not count their changes
            return _fingerprint(state, self.config, self.tokenizer)
        versions = [(weakref.ref(tensor), tensor.data_ptr(), tensor._version) for tensor in state.values()]
        # A tensor has one reference as long as it lives; references that are compared would compare their tensors.
        if not self._fingerprinted or not all(
            now is then and facts == same
            for (now, *facts), (then, *same) in zip(versions, self._fingerprinted[0], strict=True)
        ):
            self._fingerprinted = versions, _fingerprint(state, self.config, self.tokenizer)
        return self._fingerprinted[1]

    def encode_images(self, images: Sequence[Picture], batch_size: int = 64) -> Array:
        """Encode N pictures (files or Pillow images): (N, D) float32 features, each of length 1.

        Raises:
            ImageError: a picture cannot be read; names it.
            ArgumentError: ``images`` is not a list of pictures.
        """
        check_list("images", images, (str, PathLike, Image.Image), "pictures")
        # Two batches ahead: one is waiting when the network is done with the one before it.
        decoded = map_ahead(self.decode, images, _DECODING_THREADS, 2 * batch_size)
        batches = iter(lambda: list(islice(decoded, batch_size)), [])
        return self._to_numpy([part for batch in batches for part in self._encode_pixels(np.stack(batch))])

    def decode(self, image: Picture) -> npt.NDArray[np.uint8]:
        """Read a picture as this model wants it: (3, H, W) uint8.

        Raises:
            ImageError: it cannot be read.
        """
        c = self.config
        return read_pixels(image, c.image_height, c.image_width, c.interpolation, c.reduced_decoding)

    def encode_pixels(self, pixels: npt.NDArray[np.uint8]) -> Array:
        """Encode pixels (N, 3, H, W) uint8, as `decode` gives them: (N, D) float32 features, each of length 1.

        Raises:
            ArgumentError: they are of another type or shape.
        """
        return self._to_numpy(self._encode_pixels(pixels))

    def encode_and_read(
        self, pixels: npt.NDArray[np.uint8], read: Callable[[torch.Tensor], torch.Tensor]
    ) -> tuple[Array, Array]:
        """Encode pixels as `encode_pixels` does, and read the maps of the trunk, which are computed once for both.

        Args:
            pixels: (N, 3, H, W) uint8, as `decode` gives them; at least one.
            read: computes (n, K) of `TrunkEmbedding.maps` of n pictures; called from several threads on a CPU.

        Returns:
            The features (N, D), and what ``read`` gave, (N, K).

        Raises:
            ArgumentError: they are of another type or shape.
        """
        both = torch.cat(self._encode_pixels(pixels, read)).cpu().numpy()
        features, found = np.split(both, [self.config.embedding_dim], axis=1)
        return features, found

    def normalize(self, pixels: npt.NDArray[np.uint8]) -> torch.Tensor:
        """Make of pixels uint8 what `encoder` takes, (N, 3, H, W) float32 on its device."""
        # A copy: torch warns of arrays that are read-only, as those of Pillow are, when it shares their memory.
        scaled = to_device(torch.tensor(pixels), self.device).float() / 255
        mean, std = (
            scaled.new_tensor(values).view(3, 1, 1) for values in (self.config.pixel_mean, self.config.pixel_std)
        )
        return (scaled - mean) / std

    def encode_texts(self, texts: Sequence[str], batch_size: int = 256) -> Array:
        """Encode N sentences: (N, D) float32 features, each of length 1. One that is too long keeps its beginning.

        Raises:
            ArgumentError: ``texts`` is not a list of sentences.
        """
        check_list("texts", texts, str, "sentences")
        tokens = self.tokenizer.encode(texts)
        by_length = np.argsort(tokens.lengths, kind="stable")[::-1]  # little padding; the long ones do not come last
        batches: list[npt.NDArray[np.int64]] = []
        done = 0
        while done < len(texts):
            size = self._at_once(int(tokens.lengths[by_length[done]]), batch_size, len(texts))
            batches.append(by_length[done : done + size])
            done += size

        def encode(rows: npt.NDArray[np.int64]) -> torch.Tensor:
            lengths = tokens.lengths[rows]
            arrays = (torch.tensor(array) for array in (tokens.ids[rows, : lengths.max()], lengths))
            ids, on_device = (to_device(array, self.device) for array in arrays)
            return _unit(self._network.encode_text(ids, on_device))

        features = np.zeros((len(texts), self.config.embedding_dim), np.float32)
        features[by_length] = self._to_numpy(self._each(encode, batches))
        return features

    def similarity(self, texts: Sequence[str], images: Sequence[Picture]) -> Array:
        """Compare each of N sentences with each of M pictures: (N, M) float32 cosine similarities.

        They rank the pictures for a sentence; they are not probabilities.

        >>> from PIL import Image
        >>> from textreid import load_model
        >>> pictures = [Image.new("RGB", (64, 128), colour) for colour in ("red", "blue")]
        >>> load_model().similarity(["a woman in a red jacket", "a man"], pictures).shape
        (2, 2)

        Raises:
            ImageError: a picture cannot be read; names it.
            ArgumentError: an argument is not such a list.
            DataError: one of the lists is empty.
        """
        for name, given in (("texts", texts), ("images", images)):
            if isinstance(given, Sequence) and not len(given):
                raise DataError(f"{name}: an empty list; there is nothing to compare")
        return self.encode_texts(texts) @ self.encode_images(images).T

    def save(
        self, path: Path | str, card: str, dtype: Literal["float32", "float16"] = "float32", replace: bool = False
    ) -> None:
        """Write the model folder, whole or not at all; with `presence`, if what is written has its fingerprint.

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
        # float16 ends at 65,504: a larger weight would be written as infinity.
        broken = [name for name, tensor in state.items() if not torch.isfinite(tensor).all()]
        if broken:
            raise ModelError(f"{path}: not saved: {len(broken)} tensors are not finite in {dtype}, first {broken[0]}")
        # Of the rounded weights: it has to be the fingerprint of the model that the folder gives when it is read.
        mark = _fingerprint(state, self.config, self.tokenizer)
        facts = {
            "fingerprint": mark,
            "dtype": dtype,
            "selected_on": self.selected_on,
            "training_text": self.training_text,
        }
        with new_folder(Path(path), KIND, FORMAT_VERSION, replace=replace, **facts) as folder:
            # Without files of the machine that trained it: all weights are beside it.
            write_json(folder / CONFIG, asdict(self.config) | {"weights": None, "trunk_weights": None})
            write_bytes(folder / WEIGHTS, save(state))
            self.tokenizer.save(folder / TOKENIZER)
            write_text(folder / CARD, card)
            if self.presence and self.presence.fingerprint == mark:
                self.presence.write(folder / PRESENCE)

    def _encode_pixels(
        self, pixels: npt.NDArray[np.uint8], read: Callable[[torch.Tensor], torch.Tensor] | None = None
    ) -> list[torch.Tensor]:
        """Encode in parts, to features (n, D) of length 1 on the device; a GPU may still be computing them.

        What ``read`` makes of the trunk's maps follows the features.
        """
        height, width = self.config.image_height, self.config.image_width
        array = np.asarray(pixels)
        if array.dtype != np.uint8 or array.shape[1:] != (3, height, width):
            raise ArgumentError(
                f"pixels: expected (N, 3, {height}, {width}) of uint8, got {array.shape} of {array.dtype}"
            )
        tokens = 1 + math.prod(self.config.grid)
        parts = -(-len(array) // self._at_once(tokens, max(1, len(array)), len(array)))

        def encode(part: npt.NDArray[np.uint8]) -> torch.Tensor:
            normal = self.normalize(part).to(self._network.visual_projection.weight.dtype)
            if read is None:
                return _unit(self._network.encode_image(normal))
            trunk = cast("TrunkEmbedding", self._network.vision_model.embeddings.patch_embedding)
            maps = trunk.maps(normal)
            return torch.cat([_unit(self._network.encode_image(maps)), read(maps.float())], dim=1)

        return self._each(encode, np.array_split(array, parts)) if parts else []

    def _at_once(self, tokens: int, most: int, count: int) -> int:
        """Say how many of ``count`` sequences of so many tokens to compute at once: a core has a cache and a share."""
        if self.device.type != "cpu":
            return most
        return max(1, min(most, _TOKENS // tokens, -(-count // torch.get_num_threads())))

    def _each(self, encode: Callable[[Any], torch.Tensor], batches: Sequence[Any]) -> list[torch.Tensor]:
        """Compute features of each batch; the cores of a CPU take a batch each."""

        def compute(batch: Any) -> torch.Tensor:
            # Here, in the thread that computes: the mode is one of a thread, not of the process.
            with torch.inference_mode():
                return encode(batch)

        if self.device.type == "cpu":
            return map_on_cores(compute, batches)
        return [compute(batch) for batch in batches]

    def _to_numpy(self, parts: list[torch.Tensor]) -> Array:
        none = torch.zeros(0, self.config.embedding_dim, device=self.device)
        features: Array = torch.cat([none, *parts]).cpu().numpy()
        return features


def _unit(features: torch.Tensor) -> torch.Tensor:
    """Bring features to length 1, in float32: rounded to bfloat16, lengths would differ from 1 by up to 0.3 %."""
    return torch.nn.functional.normalize(features.float(), dim=-1)


def _fingerprint(state: dict[str, torch.Tensor], config: ModelConfig, tokenizer: Tokenizer) -> str:
    # What training started from does not change what the model computes; and a model keeps the fingerprint that it had
    # before a setting was introduced.
    kept = {name for name, usual in _NEWER.items() if getattr(config, name) == usual} | {"weights", "trunk_weights"}
    shape = {name: value for name, value in asdict(config).items() if name not in kept}
    digest = hashlib.sha256(json.dumps(shape, sort_keys=True).encode())
    digest.update(tokenizer.to_json().encode())
    # By name: the order in which a network registers its tensors does not change what it computes.
    for name, tensor in sorted(state.items()):
        digest.update(f"{name} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().to("cpu", torch.float32).contiguous().numpy().tobytes())
    return digest.hexdigest()
