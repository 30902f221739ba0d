"""Noise-Aware Masking: words that nothing in the image resembles are hidden from the loss more often.

In place of hiding words, `caption_weights` lets their captions count less.

Pure functions (Tan et al. 2024, §3.3, Eq. 3-4); what scores the words is in `textreid.training.scorers`. Shapes: ``B``
captions of ``T`` tokens. A *word* is a token other than start, end and padding; ``is_word`` (B, T) is true for words.
"""

from typing import NamedTuple, Self

import torch
from torch import Tensor

_KEEP_SHARE, _RANDOM_SHARE = 0.1, 0.1  # of the chosen tokens; the others become the mask token
_BISECTIONS = 50
_HALF_STEP = 5e-4  # below 1, by which half precision, in which probabilities are kept, may be off


class MaskedTokens(NamedTuple):
    """Result of `mask_tokens`."""

    ids: Tensor  # (B, T) int64, a new tensor
    is_masked: Tensor  # (B, T) bool: hidden, replaced, or chosen and yet kept
    is_predicted: Tensor  # (B, T) bool: those of them that the loss of masked words asks for
    weights: Tensor | None = None  # (B,) of the captions in the losses that compare them with images; None: all alike

    def of(self, captions: slice) -> Self:
        """Return those of some of the captions."""
        weights = None if self.weights is None else self.weights[captions]
        return type(self)(self.ids[captions], self.is_masked[captions], self.is_predicted[captions], weights)


def masking_probabilities(
    noise: Tensor, is_word: Tensor, p: float = 0.15, exact_mean: bool = False, shift: bool = True
) -> Tensor:
    """Compute the probability of masking each word in the next epoch (Tan et al. 2024, Eq. 3-4), in [0, 1].

    Noise is shifted per caption to the mean ``p``, then clamped. Clamping raises the mean when noise varies more
    than ``p`` allows; ``exact_mean`` chooses the shift so that the mean after clamping is ``p``. Without ``shift``,
    noise is the probability as it is: what a scorer gives that says how probably a word is wrong.

    Args:
        noise: (B, T) of a scorer.
        is_word: (B, T) bool.
        p: mean probability over the words of a caption.
        exact_mean: whether the mean holds after clamping too.
        shift: whether there is a mean to hold.

    Returns:
        (B, T) float32; 0 where there is no word.
    """
    noise = noise.float()
    if not shift:
        return torch.where(is_word, noise.clamp(0, 1), 0.0)
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
    return MaskedTokens(masked, is_masked, is_predicted=is_masked)


def caption_weights(probabilities: Tensor, is_word: Tensor) -> Tensor:
    """Compute how trustworthy captions are: 1 - the mean probability of their words, (B,) in [0, 1].

    Args:
        probabilities: (B, T) in [0, 1], that a word is wrong.
        is_word: (B, T) bool.
    """
    return 1 - torch.where(is_word, probabilities, 0.0).sum(dim=1) / is_word.sum(dim=1).clamp(min=1)


def trusted_words(probabilities: Tensor, p: float) -> Tensor:
    """Tell which words are no noisier than ``p``, at which all are before anything is known of them: (B, T) bool.

    Args:
        probabilities: (B, T) in [0, 1], of masking each word.
        p: their mean over a caption, or the prior of a scorer that tells how probably a word is wrong.
    """
    return probabilities <= p + _HALF_STEP
