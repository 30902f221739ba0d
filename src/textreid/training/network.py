"""What a run trains: the dual encoder, and the heads that its losses need and the exported model does without."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from textreid.config import LossConfig
from textreid.models import DualEncoder
from textreid.training.cross_modal_head import CrossModalHead

ENCODER = "encoder."  # begins the name of every parameter that is no head's


class Outputs(NamedTuple):
    """One forward pass over B images and T captions; D dimensions, C identities, V ids, K masked words.

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
    """

    def __init__(self, encoder: DualEncoder, losses: LossConfig, identities: int, seed: int) -> None:
        super().__init__()
        self.encoder = encoder
        width, vocabulary = encoder.config.embedding_dim, encoder.config.vocabulary_size
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.identity_head = _identity_head(width, identities) if losses.id else None
            self.word_head = CrossModalHead(width, vocabulary) if losses.mlm else None

    def forward(
        self, pixels: Tensor, ids: Tensor, lengths: Tensor, owners: Tensor, chosen: Tensor, token_layer: int
    ) -> Outputs:
        """Encode images and captions, and score identities and words.

        Args:
            pixels, ids, lengths, token_layer: as `DualEncoder.forward` takes them; there may be no image.
            owners: (T,) position of each caption's image among the B.
            chosen: (T, L) bool, the masked words.
        """
        if not len(pixels):
            return self._encode_nothing(pixels, token_layer)
        encoded = self.encoder(pixels, ids, lengths, token_layer, all_tokens=self.word_head is not None)
        images, texts = encoded.image_features, encoded.text_features
        none = images.new_zeros((0, 0))
        return Outputs(
            image_features=images,
            text_features=texts,
            patch_tokens=encoded.patch_tokens,
            image_identities=self.identity_head(images) if self.identity_head else none,
            text_identities=self.identity_head(texts) if self.identity_head else none,
            words=self.word_head(encoded.text_tokens, encoded.image_tokens[owners], lengths, chosen)
            if self.word_head
            else none,
        )

    def _encode_nothing(self, pixels: Tensor, token_layer: int) -> Outputs:
        """No row of anything, from a blank image and caption: so every parameter has a gradient, which is 0."""
        blank = pixels.new_zeros((1, *pixels.shape[1:]))
        ids = torch.zeros((1, 3), dtype=torch.int64, device=pixels.device)
        length, owner, word = ids.new_tensor([3]), ids.new_tensor([0]), torch.tensor([[False, True, False]])
        outputs: Outputs = self(blank, ids, length, owner, word.to(pixels.device), token_layer)
        return Outputs(*(rows[:0] for rows in outputs))


def is_of_head(parameter: str) -> bool:
    """Whether a parameter of `TrainedNetwork` belongs to a head."""
    return not parameter.startswith(ENCODER)


def _identity_head(width: int, identities: int) -> nn.Linear:
    head = nn.Linear(width, identities)
    nn.init.normal_(head.weight, std=0.001)  # all identities alike at first (Jiang & Ye, release)
    nn.init.zeros_(head.bias)
    return head
