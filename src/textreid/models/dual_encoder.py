"""The dual encoder: CLIP's two towers, for images of any height and width, with a look inside at any layer.

Parameters carry the names of Hugging Face's ``CLIPModel``, so that its state dicts load one to one; only the
convolutional stem is ours.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Self

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils.checkpoint import checkpoint

from textreid.config import NORM_EPSILON, ModelConfig
from textreid.models.blocks import Encoder, Packing
from textreid.models.trunk import TrunkEmbedding

_DRAWING = {nn.init.normal_, nn.init.uniform_, nn.init.kaiming_uniform_}
_GROUP = 16  # channels of the stem that are normalised together


class Encoded(NamedTuple):
    """What one forward pass gives, for B images of M patches, their texts, and D dimensions.

    Attributes:
        image_features: (B, D), not normalised.
        text_features: one (D,) for each text, not normalised.
        patch_tokens: (B, M, D) of the same image pass at the asked layer, CLS excluded, after the tower's final
            norm and projection; detached.
        image_tokens: (B, 1 + M, D) of the last layer, CLS first, projected likewise; None if they were not asked for.
        text_tokens: (texts, T, D) likewise.
    """

    image_features: torch.Tensor
    text_features: torch.Tensor
    patch_tokens: torch.Tensor
    image_tokens: torch.Tensor | None = None
    text_tokens: torch.Tensor | None = None


class DualEncoder(nn.Module):
    """Image tower and text tower with a shared feature space (Radford et al. 2021; Tan et al. 2024, §3.1).

    There is no dropout and no running statistic: training and evaluation mode compute the same.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.vision_model = _VisionTower(config)
        self.text_model = _TextTower(config)
        self.visual_projection = nn.Linear(config.vision_width, config.embedding_dim, bias=False)
        self.text_projection = nn.Linear(config.text_width, config.embedding_dim, bias=False)
        # The standard deviations of OpenAI's CLIP, here and below; that of the patches is transformers'.
        nn.init.normal_(self.visual_projection.weight, std=config.vision_width**-0.5)
        nn.init.normal_(self.text_projection.weight, std=config.text_width**-0.5)

    @classmethod
    def without_weights(cls, config: ModelConfig) -> Self:
        """Build the network on the meta device: parameters have names and shapes, but no memory and no values."""
        with torch.device("meta"), _NoRandomNumbers():
            return cls(config)

    def compile_layers(self) -> None:
        """Run each transformer layer as `torch.compile` translates it, from its next use on.

        The layers of a tower share one translation; weights keep their names. Sizes of batches may change.
        """
        for block in (*self.vision_model.encoder.layers, *self.text_model.encoder.layers):
            # `dynamic`, because packed texts have another number of tokens in every batch.
            block.compile(dynamic=True)

    def recompute_layers(self) -> None:
        """Compute the inside of each layer again in the backward pass, from now on, instead of keeping it."""
        self.vision_model.recompute = self.text_model.recompute = True

    def forward(
        self,
        pixels: torch.Tensor,
        ids: torch.Tensor,
        lengths: torch.Tensor,
        token_layer: int,
        all_tokens: bool = False,
    ) -> Encoded:
        """Encode B images and their texts; one pass of each tower serves the features and the tokens.

        Args:
            pixels: (B, 3, H, W) float, normalised with the configuration's mean and std.
            ids: (texts, T) token ids, T at most the configuration's ``text_length``.
            lengths: (texts,) tokens of each text, start and end included; on the CPU, wherever the ids are, or else
                this waits for the device.
            token_layer: the layer of the patch tokens, counted from 1.
            all_tokens: whether to give the tokens of the last layer too; 0 beyond the end of a text.
        """
        last, inner = self.vision_model(pixels, token_layer, all_tokens)
        packing = Packing.of(ids, lengths)
        images = self._project_image(last if all_tokens else last[:, 0])
        # After the features: older versions of torch (2.9 for one) would give them the weights that autocast has kept
        # of this pass, and those have no gradient.
        with torch.no_grad():
            patches = self._project_image(inner[:, 1:])
        if not all_tokens:
            return Encoded(images, self._project_text(self.text_model.ends(ids, packing)), patches)
        texts = self._project_text(self.text_model(ids, self.config.text_layers, packing)[0])
        return Encoded(images[:, 0], texts[packing.ends], patches, images, packing.pad(texts))

    def encode_image(self, pixels: torch.Tensor) -> torch.Tensor:
        """Encode pixels (B, 3, H, W) as image features (B, D), not normalised: the projected CLS token."""
        last, _ = self.vision_model(pixels, 0)
        return self._project_image(last[:, 0])

    def encode_text(self, ids: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Encode ids (B, T) as text features (B, D), not normalised: the projected end token, at ``lengths - 1``."""
        hidden = self.text_model(ids, self.config.text_layers)
        # `len` would be a constant in the graph that an export to ONNX traces: a batch of any size needs `shape`.
        return self._project_text(hidden[torch.arange(ids.shape[0], device=ids.device), lengths - 1])

    def encode_packed(self, ids: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Encode texts as `encode_text` does, without products for padding; ``lengths`` as `forward` takes them."""
        return self._project_text(self.text_model.ends(ids, Packing.of(ids, lengths)))

    def text_tokens(self, ids: torch.Tensor, lengths: torch.Tensor, layer: int) -> torch.Tensor:
        """Compute text tokens (B, T, D) at ``layer`` (from 1), after the tower's final norm and projection.

        The pass stops at that layer. What lies beyond the end of a text is 0. ``lengths`` as `forward` takes them.
        """
        packing = Packing.of(ids, lengths)
        return packing.pad(self._project_text(self.text_model(ids, layer, packing)[0]))

    def _project_image(self, hidden: torch.Tensor) -> torch.Tensor:
        """Project hidden states (..., width) of the image tower into the shared space (..., D)."""
        features: torch.Tensor = self.visual_projection(self.vision_model.post_layernorm(hidden))
        return features

    def _project_text(self, hidden: torch.Tensor) -> torch.Tensor:
        """Project hidden states (..., width) of the text tower into the shared space (..., D)."""
        features: torch.Tensor = self.text_projection(self.text_model.final_layer_norm(hidden))
        return features


class _NoRandomNumbers(TorchFunctionMode):
    """Mode in which none are drawn: on the meta device torch would import its compiler for it, which takes 0.8 s."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        named = kwargs or {}
        return (args[0] if args else named["tensor"]) if func in _DRAWING else func(*args, **named)


class _VisionTower(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width = config.vision_width
        self.embeddings = _VisionEmbeddings(config)
        self.pre_layrnorm = nn.LayerNorm(width, eps=NORM_EPSILON)  # the spelling is that of the published weights
        self.encoder = Encoder(width, config.vision_layers, config.vision_heads, config.activation, causal=False)
        self.post_layernorm = nn.LayerNorm(width, eps=NORM_EPSILON)
        self.recompute = False

    def forward(self, pixels: torch.Tensor, layer: int, all_tokens: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
        """Give hidden states after the last layer, (B, 1 + M, width) or CLS alone (B, 1, width), and after ``layer``.

        Layer 0 is what enters the first.
        """
        hidden = self.pre_layrnorm(self.embeddings(pixels))
        inner = hidden
        *blocks, last = self.encoder.layers
        for number, block in enumerate(blocks, start=1):
            hidden = _run_layer(block, hidden, self.recompute)
            if number == layer:
                inner = hidden
        # Features need only CLS of the last layer; its other tokens are computed where they were asked for.
        if all_tokens or layer > len(blocks):
            hidden = _run_layer(last, hidden, self.recompute)
            return hidden, hidden if layer > len(blocks) else inner
        return _run_last(last, hidden, hidden[:, :1]), inner


class _TextTower(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width = config.text_width
        self.embeddings = _TextEmbeddings(config)
        self.encoder = Encoder(width, config.text_layers, config.text_heads, config.activation, causal=True)
        self.final_layer_norm = nn.LayerNorm(width, eps=NORM_EPSILON)
        self.recompute = False

    def forward(self, ids: torch.Tensor, layer: int, packing: Packing | None = None) -> torch.Tensor:
        """Compute hidden states (B, T, width) after ``layer``, or (1, N, width) of packed texts; no later layer is run.

        Attention is causal and padding comes last, so that no token of a text sees padding.
        """
        hidden: torch.Tensor = self.embeddings(ids)
        if packing is not None:
            hidden = packing.unpad(hidden)[None]
        for block in self.encoder.layers[:layer]:
            hidden = _run_layer(block, hidden, self.recompute, packing=packing)
        return hidden

    def ends(self, ids: torch.Tensor, packing: Packing) -> torch.Tensor:
        """Compute hidden states (texts, width) of the end tokens after the last layer."""
        hidden = self(ids, len(self.encoder.layers) - 1, packing)
        return _run_last(self.encoder.layers[-1], hidden, hidden[0, packing.ends, None], packing)[:, 0]


def _run_layer(block: nn.Module, hidden: torch.Tensor, recompute: bool, packing: Packing | None = None) -> torch.Tensor:
    layer = partial(block, packing=packing)
    if recompute and torch.is_grad_enabled():
        # Without dropout a layer draws no random numbers: there is no state of the generator to keep for a repetition.
        layer = partial(checkpoint, layer, use_reentrant=False, preserve_rng_state=False)
    after: torch.Tensor = layer(hidden)
    return after


def _run_last(
    block: nn.Module, hidden: torch.Tensor, query: torch.Tensor, packing: Packing | None = None
) -> torch.Tensor:
    """Run a layer for the tokens ``query`` (B, Q, width) alone."""
    # `forward` in place of a call: so little is left to compute that a translation of its own does not pay.
    after: torch.Tensor = block.forward(hidden, query, packing)
    return after


class _VisionEmbeddings(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width = config.vision_width
        self.class_embedding = nn.Parameter(torch.empty(width))
        nn.init.normal_(self.class_embedding, std=width**-0.5)
        self.patch_embedding = _stem(config)
        self.position_embedding = nn.Embedding(1 + math.prod(config.grid), width)
        nn.init.normal_(self.position_embedding.weight, std=width**-0.5)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Embed pixels (B, 3, H, W) as (B, 1 + M, width)."""
        # In this memory format the CPU convolves faster, and patches come out as rows.
        channels_last = pixels.contiguous(memory_format=torch.channels_last)
        patches = self.patch_embedding(channels_last).flatten(2).transpose(1, 2)
        cls = self.class_embedding.to(patches.dtype).expand(patches.shape[0], 1, -1)
        return torch.cat([cls, patches], dim=1) + self.position_embedding.weight


class _TextEmbeddings(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(config.vocabulary_size, config.text_width)
        self.position_embedding = nn.Embedding(config.text_length, config.text_width)
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        nn.init.normal_(self.position_embedding.weight, std=0.01)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Embed ids (B, T) as (B, T, width)."""
        hidden: torch.Tensor = self.token_embedding(ids) + self.position_embedding.weight[: ids.shape[1]]
        return hidden


def _patches(width: int, patch: int) -> nn.Module:
    projection = nn.Conv2d(3, width, kernel_size=patch, stride=patch, bias=False)
    nn.init.normal_(projection.weight, std=0.02)
    return projection


def _convolutions(width: int, patch: int) -> nn.Module:
    """Stack stride-2 convolutions in place of one projection: trains better from random weights (Xiao et al. 2021).

    Channels double at each step up to the tower's width. Groups are normalised, not the batch: that works with
    few images and keeps no statistics.
    """
    layers: list[nn.Module] = []
    channels, halvings = 3, patch.bit_length() - 1
    for step in range(halvings):
        wider = max(1, (width >> (halvings - 1 - step)) // _GROUP) * _GROUP
        layers += [
            nn.Conv2d(channels, wider, kernel_size=3, stride=2, padding=1, bias=False),
            nn.GroupNorm(wider // _GROUP, wider),
            nn.GELU(),
        ]
        channels = wider
    return nn.Sequential(*layers, nn.Conv2d(channels, width, kernel_size=1))


def _stem(config: ModelConfig) -> nn.Module:
    if config.has_trunk:
        return TrunkEmbedding(config.vision_width, config.stem)
    return {"patch": _patches, "convolutional": _convolutions}[config.stem](config.vision_width, config.patch_size)
