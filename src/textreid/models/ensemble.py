"""Several models in use as one."""

from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Literal, NoReturn

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from textreid.errors import ModelError, check_list
from textreid.images import map_ahead, resize_pixels
from textreid.models.attribute_expert import FOLDER, HOST, NETWORK, AttributeExpert
from textreid.models.attribute_network import load_network
from textreid.models.colour_expert import ColourExpert
from textreid.models.device import map_on_cores
from textreid.models.dual_encoder import DualEncoder
from textreid.models.folder import CHOSE_DEFAULT, DEFAULT
from textreid.models.model import Array, Model, Picture
from textreid.models.side_by_side import (
    experts_of,
    join_features,
    join_fingerprints,
    join_presence,
    names_of,
    networks_of,
    weights_of,
)

_DECODING_THREADS = 4  # while the networks compute
_AT_ONCE = 16  # pictures whose colours are named in a piece of work


class Ensemble(Model):
    """Models side by side: the cosine of two features is the mean of the cosines of all, each with its weight.

    A picture is decoded once, for the first network; the others get it reduced from there. What needs the one network
    of a model, as training and conversion do, is told to take a member.

    >>> import textreid
    >>> model = textreid.load_model("small+tiny+colours+attributes")
    >>> [network.config.image_height for network in model.networks]
    [192, 128]

    Attributes:
        networks: at least one.
        experts: what stands beside them.
        names: of all, where they were loaded by their names; else ().
    """

    names: tuple[str, ...] = ()

    def __init__(
        self,
        networks: Sequence[Model],
        experts: Sequence[ColourExpert | AttributeExpert] = (),
        host: Model | None = None,
    ) -> None:
        """Put models side by side.

        Args:
            networks: at least one.
            experts: what stands beside them.
            host: the network whose trunk an `AttributeExpert` reads.
        """
        # Not the one of Model, which puts one network to use: each of these is.
        first = networks[0]
        self.networks, self.experts = tuple(networks), tuple(experts)
        self._shares = weights_of(networks, experts)
        self._host = host
        # In float32: it is too small to gain by rounding.
        self._attributes = load_network(FOLDER / NETWORK).to(host.device) if host else None
        self.tokenizer, self.config, self.precision = first.tokenizer, first.config, first.precision
        self.report = None
        chosen = [network.selected_on for network in networks]
        self.selected_on = "; ".join(dict.fromkeys(map(str, chosen))) if all(chosen) else None
        texts = [network.training_text for network in networks]
        known = [text for text in texts if text is not None]
        self.training_text = tuple(dict.fromkeys(sum(known, ()))) if len(known) == len(texts) else None
        self.presence = join_presence(networks, experts)

    @classmethod
    def of(cls, names: Sequence[str], load: Callable[[str], Model]) -> "Ensemble":
        """Load the members by their names."""
        networks = {name: load(name) for name in networks_of(names)}
        experts = experts_of(names)
        reads = any(isinstance(expert, AttributeExpert) for expert in experts)
        found = cls(list(networks.values()), experts, networks[HOST] if reads else None)
        found.names = tuple(names)
        if found.names == names_of(DEFAULT):
            found.selected_on = f"{found.selected_on}; {CHOSE_DEFAULT}"
        return found

    @property
    def encoder(self) -> DualEncoder:  # type: ignore[override]
        """Refuse: there are several.

        Raises:
            ModelError: always.
        """
        return self._refuse()

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.networks[0].device

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the fingerprints of the members."""
        return join_fingerprints(self.networks, self.experts)

    def encode_images(self, images: Sequence[Picture], batch_size: int = 64) -> Array:
        """Encode N pictures, as `Model.encode_images` does."""
        check_list("images", images, (str, Path, Image.Image), "pictures")
        decoded = map_ahead(self.decode, images, _DECODING_THREADS, 2 * batch_size)
        parts = [self.encode_pixels(np.stack(batch)) for batch in iter(lambda: list(islice(decoded, batch_size)), [])]
        return np.concatenate([self.encode_pixels(np.zeros((0, 3, *_size(self)), np.uint8)), *parts])

    def encode_pixels(self, pixels: npt.NDArray[np.uint8]) -> Array:
        """Encode pixels (N, 3, H, W) uint8, as `decode` gives them: (N, D) float32 features, each of length 1."""
        if not len(pixels):
            networks = sum(network.config.embedding_dim for network in self.networks)
            return np.zeros((0, networks + sum(expert.dimension for expert in self.experts)), np.float32)
        parts, read = [], np.zeros((0, 0), np.float32)
        for network in self.networks:
            resized = resize_pixels(pixels, *_size(network))
            if self._attributes and network is self._host:
                features, read = network.encode_and_read(resized, self._attributes.probabilities)
                parts.append(features)
            else:
                parts.append(network.encode_pixels(resized))
        for expert in self.experts:
            if isinstance(expert, AttributeExpert):
                parts.append(expert.encode_probabilities(read))
            else:
                pieces = np.array_split(pixels, -(-len(pixels) // _AT_ONCE))
                parts.append(np.concatenate(map_on_cores(expert.encode_pixels, pieces)))
        return join_features(parts, self._shares)

    def encode_texts(self, texts: Sequence[str], batch_size: int = 256) -> Array:
        """Encode N sentences, as `Model.encode_texts` does."""
        parts = [network.encode_texts(texts, batch_size) for network in self.networks]
        return join_features([*parts, *(expert.encode_texts(texts) for expert in self.experts)], self._shares)

    def save(
        self, path: Path | str, card: str, dtype: Literal["float32", "float16"] = "float32", replace: bool = False
    ) -> None:
        """Refuse: a folder holds one network.

        Raises:
            ModelError: always.
        """
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise ModelError("several models side by side: this takes one network, so name one of them alone")


def _size(model: Model) -> tuple[int, int]:
    return model.config.image_height, model.config.image_width
