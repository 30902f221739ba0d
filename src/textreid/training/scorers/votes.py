"""Votes: whether the other captions of an image say a word too, and how often captions of an image agree on it.

Of captions of one image, a share ``g`` of those beside one that says a word says it as well; of any captions, a share
``f`` does. If the word is wrong, another caption says it by chance only. So each other caption adds evidence in nats:
``log(f / g)`` if it says the word, ``log((1 - f) / (1 - g))`` if not. Words on which captions never agree say nothing.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from textreid.training.batch import Batch
from textreid.training.scorers.centred import DECAY
from textreid.training.scorers.words import KEYS, Words

_PRIOR = 5.0  # other captions that agree by chance only, of which each word's share begins
_LEAST = 1e-3  # share


class Votes(nn.Module):
    """Refinement that adds the evidence of the other captions of the same image in the step; none of an only caption.

    It counts words, and likewise pairs of words: that the jacket is red, and the shoes are not.

    Attributes:
        captions: () how many were met, and ``said`` (2, KEYS) how many of them say each word and each pair.
        others: (2, KEYS) how many other captions stood beside one that says it, and ``agreed`` how many of them say it
            too. All decay.
    """

    captions: Tensor
    said: Tensor
    others: Tensor
    agreed: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("captions", torch.zeros(()))
        for name in ("said", "others", "agreed"):
            self.register_buffer(name, torch.zeros(2, KEYS))

    @torch.no_grad()
    def refine(self, noise: Tensor, batch: Batch, words: Words, images: Tensor) -> Tensor:
        """Add the evidence by the shares as they were before this step, then let it count."""
        most = int(np.diff(batch.caption_edges).max(initial=0))
        evidence = torch.zeros_like(noise)
        counted = []
        for kind, keys in enumerate(words.keys):
            agreeing, others = count_agreeing(keys, words.begins, batch.image_index, most)
            yes, no = self._evidence(kind)
            evidence += agreeing * yes[keys] + (others[:, None] - agreeing) * no[keys]
            counted.append((_once_each(words.begins, keys).float(), agreeing, others[:, None]))
        self._remember(words.keys, counted)
        return noise + torch.where(words.is_content, evidence.gather(1, words.first), 0.0)

    def _evidence(self, kind: int) -> tuple[Tensor, Tensor]:
        """Compute the evidence (KEYS,) of another caption that says a word, and of one that does not."""
        f = (self.said[kind] / self.captions.clamp(min=1)).clamp(_LEAST, 1 - _LEAST)
        g = ((self.agreed[kind] + _PRIOR * f) / (self.others[kind] + _PRIOR)).clamp(_LEAST, 1 - _LEAST)
        return (f / g).log(), ((1 - f) / (1 - g)).log()

    def _remember(self, keys: Tensor, counted: Sequence[tuple[Tensor, Tensor, Tensor]]) -> None:
        for total in self.buffers():
            total.mul_(DECAY)
        self.captions += keys.shape[1]
        for kind, (weights, agreeing, others) in enumerate(counted):
            places = keys[kind].flatten()
            self.said[kind].index_add_(0, places, weights.flatten())
            self.others[kind].index_add_(0, places, (weights * others).flatten())
            self.agreed[kind].index_add_(0, places, (weights * agreeing).flatten())


def count_agreeing(keys: Tensor, begins: Tensor, image_index: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Count the other captions of its image that say each word too (T, L), and all others (T,).

    Args:
        keys: (T, L) of words.
        begins: (T, L) where words begin that count.
        image_index: (T,) ascending.
        most: captions that an image has at most.
    """
    said = torch.where(begins, keys, -1)
    agreeing = torch.zeros(keys.shape, device=keys.device)
    others = torch.zeros(len(keys), device=keys.device)
    # The captions of an image stand together: compare each with the next, with the one after it, and so on.
    for step in range(1, min(most, len(keys))):
        siblings = image_index[:-step] == image_index[step:]
        for one, other in ((slice(None, -step), slice(step, None)), (slice(step, None), slice(None, -step))):
            agreeing[one] += (keys[one, :, None] == said[other, None]).any(dim=2) & siblings[:, None]
            others[one] += siblings
    return agreeing, others


def _once_each(begins: Tensor, keys: Tensor) -> Tensor:
    """Keep the first of each word of a caption, (T, L)."""
    earlier = (keys[:, :, None] == keys[:, None]) & begins[:, None]
    return begins & ~earlier.tril(diagonal=-1).any(dim=2)
