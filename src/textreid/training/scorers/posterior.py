"""From evidence to noise: how probable it is that a word is wrong, and that function words cannot be.

Evidence in nats is a logarithm of a likelihood ratio. With the probability that any word is wrong as the prior, Bayes'
rule makes it the probability that this word is: 0.15 stays 0.15 where there is no evidence, as in the paper's first
epoch. Equations 3 and 4 then shift it to the mean that a caption shall have, as they do with the noise of the paper.
"""

import math

import torch
from torch import Tensor, nn

from textreid.training.batch import Batch
from textreid.training.scorers.words import Words

_LEAST = 1e-6  # prior: at 0 and 1 no evidence would count


class Posterior(nn.Module):
    """Refinement that makes a probability of evidence.

    Attributes:
        prior: logarithm of the odds that a word is wrong, before any evidence.
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        p = min(max(probability, _LEAST), 1 - _LEAST)
        self.prior = math.log(p / (1 - p))

    def refine(self, noise: Tensor, batch: Batch, words: Words, images: Tensor) -> Tensor:
        """Return the probability (T, L) that each word is wrong; 0 where there is no word."""
        return torch.where(batch.is_word, (noise + self.prior).sigmoid(), 0.0)


class ContentOnly(nn.Module):
    """Refinement that takes all noise off function words and punctuation: they have no picture that tells."""

    def refine(self, noise: Tensor, batch: Batch, words: Words, images: Tensor) -> Tensor:
        """Return the noise (T, L), 0 but for content words."""
        return torch.where(words.is_content, noise, 0.0)
