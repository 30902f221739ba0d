"""A word's own mean: what is peculiar to the word, and not to the picture, is taken off its noise.

Some words cost a caption something in any picture (rare ones, or those late in a sentence). Measured by the mean of
their noise over the corpus, that is no sign of an error.
"""

import torch
from torch import Tensor, nn

from textreid.training.batch import Batch
from textreid.training.scorers.words import KEYS, Words

DECAY = 0.99  # a step: the network changes, so that statistics remember about a hundred steps
_PRIOR = 10.0  # observations that a word shares with all others


class Centred(nn.Module):
    """Refinement that subtracts the running mean of each word's noise over the steps before.

    Attributes:
        sums, counts: (KEYS,) of the noise of each word, and of how often it was met; both decay.
    """

    sums: Tensor
    counts: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("sums", torch.zeros(KEYS))
        self.register_buffer("counts", torch.zeros(KEYS))

    @torch.no_grad()
    def refine(self, noise: Tensor, batch: Batch, words: Words, images: Tensor) -> Tensor:
        """Subtract the means as they were before this step, then let it count; a rare word has the mean of all."""
        overall = self.sums.sum() / self.counts.sum().clamp(min=1)
        means = (self.sums + _PRIOR * overall) / (self.counts + _PRIOR)
        refined = torch.where(words.is_content, noise - means[words.keys[0]], noise)
        weights = words.begins.float().flatten()
        self.sums.mul_(DECAY).index_add_(0, words.keys[0].flatten(), noise.flatten() * weights)
        self.counts.mul_(DECAY).index_add_(0, words.keys[0].flatten(), weights)
        return refined
