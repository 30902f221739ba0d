"""The dual encoder: CLIP's two towers, for images of any height and width, with a look inside at any layer.

Parameters carry the names of Hugging Face's ``CLIPModel``, so that its state dicts load one to one; only the
convolutional stem is ours.
"""

from typing import Any, NamedTuple

import torch
from torch import nn
from transformers.models.clip.configuration_clip import CLIPTextConfig, CLIPVisionConfig
from transformers.models.clip.modeling_clip import CLIPEncoder

from textreid.config import ModelConfig

_STEM_GROUP = 16  # channels that share a group normalisation


class Encoded(NamedTuple):
    """What one forward pass gives: B images and their B texts, D dimensions, M patches.

    Attributes:
        image_features: (B, D), not normalised.
        text_features: (B, D), not normalised.
        patch_tokens: (B, M, D) of the same image pass at the asked layer, CLS excluded, after the tower's final
            norm and projection, detached.
    """

    image_features: torch.Tensor
    text_features: torch.Tensor
    patch_tokens: torch.Tensor


class DualEncoder(nn.Module):
    """Image tower and text tower with a shared feature space (Radford et al. 2021; Tan et al. 2024, §3.1)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.vision_model = _VisionTower(config)
        self.text_model = _TextTower(config)
        self.visual_projection = nn.Linear(config.vision_width, config.embedding_dim, bias=False)
        self.text_projection = nn.Linear(config.text_width, config.embedding_dim, bias=False)
        self._initialise()

    def forward(self, pixels: torch.Tensor, ids: torch.Tensor, lengths: torch.Tensor, token_layer: int) -> Encoded:
        """Encode B pairs; one image pass serves the features and the patch tokens.

        Args:
            pixels: (B, 3, H, W) float, normalised with the configuration's mean and deviation.
            ids: (B, T) token ids, T at most the configuration's ``text_length``.
            lengths: (B,) tokens of each text, start and end included.
            token_layer: the layer of the patch tokens, counted from 1.
        """
        last, inner = self.vision_model(pixels, token_layer)
        with torch.no_grad():
            patches = self.visual_projection(self.vision_model.post_layernorm(inner[:, 1:]))
        return Encoded(self._image_features(last), self.encode_text(ids, lengths), patches)

    def encode_image(self, pixels: torch.Tensor) -> torch.Tensor:
        """Image features (B, D), not normalised, from pixels (B, 3, H, W): the projected CLS token."""
        return self._image_features(self.vision_model(pixels)[0])

    def encode_text(self, ids: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Text features (B, D), not normalised, from ids (B, T): the projected end token, at ``lengths - 1``."""
        hidden = self.text_model(ids)
        ends = hidden[torch.arange(len(ids), device=ids.device), lengths - 1]
        features: torch.Tensor = self.text_projection(self.text_model.final_layer_norm(ends))
        return features

    def text_tokens(self, ids: torch.Tensor, lengths: torch.Tensor, layer: int) -> torch.Tensor:
        """Text tokens (B, T, D) at ``layer`` (from 1), after the tower's final norm and projection.

        The pass stops at that layer and at the longest text. Rows beyond a text's length are zero.
        """
        longest = int(lengths.max())
        hidden = self.text_model(ids[:, :longest], layer)
        tokens = self.text_projection(self.text_model.final_layer_norm(hidden))
        valid = torch.arange(longest, device=ids.device) < lengths[:, None]
        tokens = tokens * valid[..., None]
        return nn.functional.pad(tokens, (0, 0, 0, ids.shape[1] - longest))

    def _image_features(self, hidden: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.visual_projection(self.vision_model.post_layernorm(hidden[:, 0]))
        return features

    @torch.no_grad()
    def _initialise(self) -> None:
        """CLIP's initialisation: deviations that shrink with width and depth (Radford et al. 2021, released code)."""
        for tower in (self.vision_model, self.text_model):
            width, depth = tower.encoder.config.hidden_size, tower.encoder.config.num_hidden_layers
            inner = width**-0.5 * (2 * depth) ** -0.5
            for layer in tower.encoder.layers:
                attention = layer.self_attn
                for projection in (attention.q_proj, attention.k_proj, attention.v_proj):
                    nn.init.normal_(projection.weight, std=width**-0.5)
                    nn.init.zeros_(projection.bias)
                for linear, deviation in (
                    (attention.out_proj, inner),
                    (layer.mlp.fc1, (2 * width) ** -0.5),
                    (layer.mlp.fc2, inner),
                ):
                    nn.init.normal_(linear.weight, std=deviation)
                    nn.init.zeros_(linear.bias)
        for projection in (self.visual_projection, self.text_projection):
            nn.init.normal_(projection.weight, std=projection.in_features**-0.5)


class _VisionTower(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width = config.vision_width
        self.embeddings = _VisionEmbeddings(config)
        self.pre_layrnorm = nn.LayerNorm(width, eps=1e-5)  # the spelling is that of the published weights
        self.encoder = _encoder(
            CLIPVisionConfig(
                hidden_size=width,
                intermediate_size=4 * width,
                num_hidden_layers=config.vision_layers,
                num_attention_heads=config.vision_heads,
                hidden_act=config.activation,
                attn_implementation="sdpa",
            )
        )
        self.post_layernorm = nn.LayerNorm(width, eps=1e-5)

    def forward(self, pixels: torch.Tensor, layer: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Hidden states (B, 1 + M, width) after the last layer and after ``layer`` (the last when None)."""
        hidden = self.pre_layrnorm(self.embeddings(pixels))
        inner = hidden
        for number, block in enumerate(self.encoder.layers, start=1):
            hidden = block(hidden, attention_mask=None, is_causal=False)
            if layer is None or number == layer:
                inner = hidden
        return hidden, inner


class _TextTower(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width = config.text_width
        self.embeddings = _TextEmbeddings(config)
        self.encoder = _encoder(
            CLIPTextConfig(
                hidden_size=width,
                intermediate_size=4 * width,
                num_hidden_layers=config.text_layers,
                num_attention_heads=config.text_heads,
                hidden_act=config.activation,
                attn_implementation="sdpa",
            )
        )
        self.final_layer_norm = nn.LayerNorm(width, eps=1e-5)

    def forward(self, ids: torch.Tensor, layer: int | None = None) -> torch.Tensor:
        """Hidden states (B, T, width) after ``layer`` (the last when None), later layers not run.

        Attention is causal and padding comes last, so that no valid token sees padding.
        """
        hidden: torch.Tensor = self.embeddings(ids)
        for block in self.encoder.layers[:layer]:
            hidden = block(hidden, attention_mask=None, is_causal=True)
        return hidden


class _VisionEmbeddings(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width, patch = config.vision_width, config.patch_size
        self.class_embedding = nn.Parameter(torch.randn(width) * width**-0.5)
        if config.stem == "patch":
            self.patch_embedding: nn.Module = nn.Conv2d(3, width, kernel_size=patch, stride=patch, bias=False)
            nn.init.normal_(self.patch_embedding.weight, std=0.02)  # type: ignore[arg-type]
        else:
            self.patch_embedding = _convolutional_stem(width, patch)
        positions = 1 + (config.image_height // patch) * (config.image_width // patch)
        self.position_embedding = nn.Embedding(positions, width)
        nn.init.normal_(self.position_embedding.weight, std=0.02)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        patches = self.patch_embedding(pixels).flatten(2).transpose(1, 2)
        cls = self.class_embedding.to(patches.dtype).expand(len(pixels), 1, -1)
        return torch.cat([cls, patches], dim=1) + self.position_embedding.weight


class _TextEmbeddings(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(config.vocabulary_size, config.text_width)
        self.position_embedding = nn.Embedding(config.text_length, config.text_width)
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        nn.init.normal_(self.position_embedding.weight, std=0.01)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        hidden: torch.Tensor = self.token_embedding(ids) + self.position_embedding.weight[: ids.shape[1]]
        return hidden


def _convolutional_stem(width: int, patch: int) -> nn.Sequential:
    """Stride-2 convolutions in place of one patch projection: trains faster from scratch (Xiao et al. 2021)."""
    steps = patch.bit_length() - 1
    layers: list[nn.Module] = []
    channels = 3
    for step in range(steps):
        wider = max(_STEM_GROUP, width >> (steps - 1 - step) >> 1) // _STEM_GROUP * _STEM_GROUP
        layers += [
            nn.Conv2d(channels, wider, kernel_size=3, stride=2, padding=1, bias=False),
            nn.GroupNorm(wider // _STEM_GROUP, wider),
            nn.GELU(),
        ]
        channels = wider
    layers.append(nn.Conv2d(channels, width, kernel_size=1))
    return nn.Sequential(*layers)


def _encoder(config: Any) -> CLIPEncoder:
    return CLIPEncoder(config)
