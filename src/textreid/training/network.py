"""What a run trains: the dual encoder, and the heads that its losses need and the exported model does without."""

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from textreid.config import Config, LossConfig
from textreid.models import DualEncoder, initialize
from textreid.models.device import Device

ENCODER = "encoder."  # begins the name of every parameter that is not a head's
LAYERS = 4  # of the transformer after the cross-attention (Jiang & Ye, CVPR 2023, §4.1)
_ATTENTION_WIDTH = 64  # channels of an attention head, as in CLIP


class Outputs(NamedTuple):
    """Results of one forward pass over B images and T captions; D dimensions, C identities, V ids, K words to predict.

    Scores are empty where the loss that needs them is off.
    """

    image_features: Tensor  # (B, D), not normalised
    text_features: Tensor  # (T, D), not normalised
    patch_tokens: Tensor  # (B, M, D), detached; see `textreid.models.Encoded`
    image_identities: Tensor  # (B, C) scores
    text_identities: Tensor  # (T, C) scores
    words: Tensor  # (K, V) scores


class TrainedNetwork(nn.Module):
    """The dual encoder with the heads of the ``id`` and ``mlm`` losses, as far as their weights are above 0.

    One linear head serves both modalities, so that an identity has one direction in the shared space.

    Attributes:
        encoder: what is exported.
        scaler: of the losses, so that small gradients are not lost; it scales by 1 but under fp16.
        refinements: of the noise of words, with what they remember of the steps before; None where there are none.
    """

    def __init__(
        self, encoder: DualEncoder, losses: LossConfig, identities: int, seed: int, token_layer: int, compute: Device
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.refinements: nn.Module | None = None
        # bfloat16 has the range of float32; that of float16 is too small for small gradients.
        self.scaler = torch.amp.GradScaler(compute.device.type, enabled=compute.dtype == torch.float16)
        self._compute, self._token_layer = compute, token_layer
        width, vocabulary = encoder.config.embedding_dim, encoder.config.vocabulary_size
        # Heads depend on the seed alone, and the global random numbers go on as if none had been drawn.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.identity_head = _identity_head(width, identities) if losses.id else None
            self.word_head = CrossModalHead(width, vocabulary) if losses.mlm else None

    def autocast(self) -> torch.autocast:
        """Return the context in which the run's precision holds; `forward` enters it by itself."""
        return self._compute.autocast()

    def forward(
        self, pixels: Tensor, ids: Tensor, lengths: Tensor, image_index: Tensor, is_predicted: Tensor
    ) -> Outputs:
        """Encode images and captions, and score identities and words.

        Args:
            pixels, ids, lengths: as `DualEncoder.forward` takes them; there may be no image.
            image_index: (T,) position of each caption's image among the B.
            is_predicted: (T, L) bool, the masked words to score.
        """
        if not len(pixels):
            return self._encode_nothing(pixels)
        with self.autocast():
            encoded = self.encoder(pixels, ids, lengths, self._token_layer, all_tokens=self.word_head is not None)
            images, texts = encoded.image_features, encoded.text_features
            none = images.new_zeros((0, 0))
            return Outputs(
                image_features=images,
                text_features=texts,
                patch_tokens=encoded.patch_tokens,
                image_identities=self.identity_head(images) if self.identity_head else none,
                text_identities=self.identity_head(texts) if self.identity_head else none,
                words=self.word_head(encoded.text_tokens, encoded.image_tokens[image_index], lengths, is_predicted)
                if self.word_head
                else none,
            )

    def _encode_nothing(self, pixels: Tensor) -> Outputs:
        """Return no row of anything, from a blank image and caption: so every parameter has a gradient, which is 0."""
        blank = pixels.new_zeros((1, *pixels.shape[1:]))
        ids = torch.zeros((1, 3), dtype=torch.int64, device=pixels.device)
        length, index, word = ids.new_tensor([3]), ids.new_tensor([0]), torch.tensor([[False, True, False]])
        outputs: Outputs = self(blank, ids, length, index, word.to(pixels.device))
        return Outputs(*(rows[:0] for rows in outputs))


def build_network(config: Config, identities: int, compute: Device, from_weights: bool) -> TrainedNetwork:
    """Build the network of a run on the CPU; without ``from_weights`` at random, to be given its weights later."""
    model, training = config.model, config.training
    encoder = initialize(model if from_weights else replace(model, weights=None, trunk_weights=None), training.seed)
    if training.activation_checkpointing:
        encoder.recompute_layers()
    if training.compile:
        encoder.compile_layers()
    return TrainedNetwork(encoder, config.losses, identities, training.seed, config.masking.layer, compute)


def is_of_head(parameter: str) -> bool:
    """Tell whether a parameter of `TrainedNetwork` belongs to a head."""
    return not parameter.startswith(ENCODER)


def _identity_head(width: int, identities: int) -> nn.Linear:
    head = nn.Linear(width, identities)
    nn.init.normal_(head.weight, std=0.001)  # all identities alike at first (Jiang & Ye, release)
    nn.init.zeros_(head.bias)
    return head


class CrossModalHead(nn.Module):
    """Implicit relation reasoning (Jiang & Ye, CVPR 2023, §3.3): ``Transformer(attention(text, image, image))``.

    The tokens of a caption are the queries, those of its image keys and values; a transformer without causal mask runs
    over what they attend to; a two-layer perceptron scores every word of the vocabulary.

    Retrieval does without it.

    Shapes: ``T`` captions of ``L`` tokens, ``M`` image tokens, ``D`` dimensions, ``V`` ids.
    """

    def __init__(self, width: int, vocabulary_size: int) -> None:
        super().__init__()
        heads = next(count for count in range(max(1, width // _ATTENTION_WIDTH), 0, -1) if width % count == 0)
        self.text_norm = nn.LayerNorm(width)
        self.image_norm = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        layer = nn.TransformerEncoderLayer(
            width, heads, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        # Without dropout, masks of padding change nothing but the values of padding.
        self.transformer = nn.TransformerEncoder(layer, LAYERS, nn.LayerNorm(width), enable_nested_tensor=False)
        self.dense = nn.Linear(width, width)
        self.dense_norm = nn.LayerNorm(width)
        self.vocabulary = nn.Linear(width, vocabulary_size)
        self._initialize(width)

    def forward(self, text_tokens: Tensor, image_tokens: Tensor, lengths: Tensor, is_masked: Tensor) -> Tensor:
        """Score every id at the K masked positions, row by row: (K, V).

        Args:
            text_tokens: (T, L, D) of the masked captions.
            image_tokens: (T, M, D) of the image of each caption, class token included.
            lengths: (T,) tokens of each caption; what lies beyond is padding, which nothing attends to.
            is_masked: (T, L) bool, the positions to predict.
        """
        images = self.image_norm(image_tokens)
        attended, _ = self.attention(self.text_norm(text_tokens), images, images, need_weights=False)
        padding = torch.arange(text_tokens.shape[1], device=lengths.device) >= lengths[:, None]
        hidden = self.transformer(attended, src_key_padding_mask=padding.to(attended.device, non_blocking=True))
        scores: Tensor = self.vocabulary(self.dense_norm(nn.functional.gelu(self.dense(hidden[is_masked]))))
        return scores

    def _initialize(self, width: int) -> None:
        """Draw weights whose deviations shrink with width and depth, as in CLIP's release (Radford et al. 2021)."""
        residual_std = width**-0.5 * (2 * LAYERS) ** -0.5
        _initialize_attention(self.attention, width**-0.5, residual_std)
        for layer in self.transformer.layers:
            _initialize_attention(layer.self_attn, width**-0.5, residual_std)
            nn.init.normal_(layer.linear1.weight, std=(2 * width) ** -0.5)
            nn.init.normal_(layer.linear2.weight, std=residual_std)
        for linear in (self.dense, self.vocabulary):
            nn.init.normal_(linear.weight, std=width**-0.5)
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)


def _initialize_attention(attention: nn.MultiheadAttention, std: float, residual_std: float) -> None:
    nn.init.normal_(attention.in_proj_weight, std=std)
    nn.init.normal_(attention.out_proj.weight, std=residual_std)
