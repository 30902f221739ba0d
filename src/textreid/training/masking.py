"""Noise-Aware Masking: words that nothing in the image resembles are hidden from the loss more often.

Pure functions (Tan et al. 2024, §3.3, Eq. 1-4). Shapes: ``B`` captions of ``T`` tokens, ``M`` image patches, ``D``
dimensions. A *word* is a token other than start, end and padding; ``is_word`` (B, T) is true for words.
"""

from dataclasses import dataclass
from typing import NamedTuple, Protocol, Self

import torch
import torch.nn.functional as F  # noqa: N812 (the usual name)
from torch import Tensor

from textreid.training.batch import MicroBatch
from textreid.training.network import Outputs, TrainedNetwork

_KEEP_SHARE, _RANDOM_SHARE = 0.1, 0.1  # of the chosen tokens; the others become the mask token
_BISECTIONS = 50


class MaskedTokens(NamedTuple):
    """Result of `mask_tokens`."""

    ids: Tensor  # (B, T) int64, a new tensor
    is_masked: Tensor  # (B, T) bool: hidden, replaced, or chosen and yet kept

    def of(self, captions: slice) -> Self:
        """Return those of some of the captions."""
        return type(self)(self.ids[captions], self.is_masked[captions])


class WordScorer(Protocol):
    """Scorer of the words of captions: how badly each fits its image. Any that has this method can train a model.

    It is asked once for each micro-batch, between its forward pass and the change of the weights.
    """

    def noise(self, network: TrainedNetwork, batch: MicroBatch, outputs: Outputs) -> Tensor:
        """Return the noise (t, L) of each word of the full captions, float32; 0 where there is no word.

        Args:
            network: as it is before the step changes it; encode what you need with ``network.encoder``, inside
                ``network.autocast()`` and with or without gradients.
            batch: the images and captions, with the position of each caption's image.
            outputs: of the forward pass over these images and their *masked* captions; to keep the gradients of the
                losses apart, take them with `torch.autograd.grad` only, of passes of your own.
        """


@dataclass(frozen=True)
class PatchScorer:
    """Scorer of Noise-Aware Masking: a word is noisy if no patch of the image resembles it (Tan et al. 2024, Eq. 1-2).

    Attributes:
        layer: of the tokens of both towers that are compared, from 1.
    """

    layer: int

    @torch.no_grad()
    def noise(self, network: TrainedNetwork, batch: MicroBatch, outputs: Outputs) -> Tensor:
        """Compare the full captions, encoded up to the layer, with the patches that the forward pass has left."""
        if not len(batch.ids):
            return batch.is_word.float()
        with network.autocast():
            tokens = network.encoder.text_tokens(batch.ids, batch.lengths, self.layer)
        return noise_levels(tokens, outputs.patch_tokens[batch.image_index], batch.is_word)


def noise_levels(text_tokens: Tensor, patch_tokens: Tensor, is_word: Tensor) -> Tensor:
    """Compute the noise of each word: one minus its cosine with the most similar patch (Tan et al. 2024, Eq. 1-2).

    Args:
        text_tokens: (B, T, D) token features of the full captions.
        patch_tokens: (B, M, D) patch features of their images, without the class token.
        is_word: (B, T) bool.

    Returns:
        (B, T) float32 in [0, 2]; 0 where there is no word.
    """
    # Noise is the distance of a cosine from 1, near which bfloat16 has steps of 0.4 %.
    with torch.autocast(text_tokens.device.type, enabled=False):
        words = F.normalize(text_tokens.float(), dim=2)
        patches = F.normalize(patch_tokens.float(), dim=2)
        best = torch.bmm(words, patches.transpose(1, 2)).amax(dim=2)  # over the patches, of S, Eq. 1
    return torch.where(is_word, 1 - best, 0.0)  # r, Eq. 2


def masking_probabilities(noise: Tensor, is_word: Tensor, p: float = 0.15, exact_mean: bool = False) -> Tensor:
    """Compute the probability of masking each word in the next epoch (Tan et al. 2024, Eq. 3-4), in [0, 1].

    Noise is shifted per caption to the mean ``p``, then clamped. Clamping raises the mean when noise varies more
    than ``p`` allows; ``exact_mean`` chooses the shift so that the mean after clamping is ``p``.

    Args:
        noise: (B, T) from `noise_levels`.
        is_word: (B, T) bool.
        p: mean probability over the words of a caption.
        exact_mean: whether the mean holds after clamping too.

    Returns:
        (B, T) float32; 0 where there is no word.
    """
    noise = noise.float()
    words = is_word.sum(dim=1, keepdim=True).clamp(min=1)
    mean = torch.where(is_word, noise, 0.0).sum(dim=1, keepdim=True) / words
    shifted = noise - mean + p  # r', Eq. 3-4
    if exact_mean:
        shifted = shifted + _shift_to_mean(shifted, is_word, words, p)
    return torch.where(is_word, shifted.clamp(0, 1), 0.0)


def _shift_to_mean(shifted: Tensor, is_word: Tensor, words: Tensor, p: float) -> Tensor:
    """Find, per row, what to add so that the clamped mean is ``p``; the mean grows with it, so bisect. (B, 1)."""
    values = shifted.double()
    # At `low` every word of a row has 0, at `high` every word 1, so the shift lies between.
    # The limits of 1e3 keep rows without words finite.
    low = -torch.where(is_word, values, -torch.inf).amax(dim=1, keepdim=True).clamp(min=-1e3)
    high = 1 - torch.where(is_word, values, torch.inf).amin(dim=1, keepdim=True).clamp(max=1e3)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        mean = torch.where(is_word, (values + middle).clamp(0, 1), 0.0).sum(dim=1, keepdim=True) / words
        low, high = torch.where(mean < p, middle, low), torch.where(mean < p, high, middle)
    return ((low + high) / 2).float()


def mask_tokens(
    ids: Tensor,
    probabilities: Tensor,
    is_word: Tensor,
    generator: torch.Generator | None,
    mask_id: int,
    vocabulary_size: int,
) -> MaskedTokens:
    """Choose words by their probability; hide 80 % of those chosen, replace 10 %, keep 10 % (as BERT does).

    Special tokens have the last ids of a vocabulary, the mask token first among them; id 0 is the padding. So a
    replacement is drawn from ``1 … mask_id - 1``. Tokens outside ``is_word`` never change; ``ids`` is not written to.

    Args:
        ids: (B, T) int64.
        probabilities: (B, T) in [0, 1].
        is_word: (B, T) bool.
        generator: source of randomness, on the device of ``ids``.
        mask_id: id of the mask token.
        vocabulary_size: number of ids.

    Raises:
        ValueError: shapes differ, or ``mask_id`` is not an id of the vocabulary.
    """
    if not ids.shape == probabilities.shape == is_word.shape:
        raise ValueError(
            f"shapes differ: ids {tuple(ids.shape)}, probabilities {tuple(probabilities.shape)}, "
            f"is_word {tuple(is_word.shape)}"
        )
    if not 1 < mask_id < vocabulary_size:
        raise ValueError(f"mask_id {mask_id} must lie between 2 and vocabulary_size {vocabulary_size} - 1")
    # Drawn for all positions: to draw for the chosen ones alone, their number would have to come from the device.
    draws = torch.rand((2, *ids.shape), generator=generator, device=ids.device)
    substitutes = torch.randint(1, mask_id, ids.shape, generator=generator, device=ids.device)
    is_masked = (draws[0] < probabilities) & is_word
    fate = draws[1]
    # Between the two shares, a chosen word stays as it is.
    masked = torch.where(is_masked & (fate >= _KEEP_SHARE + _RANDOM_SHARE), mask_id, ids)
    masked = torch.where(is_masked & (fate < _RANDOM_SHARE), substitutes, masked)
    return MaskedTokens(masked, is_masked)
