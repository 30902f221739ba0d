"""The first-order form of leaving one out: one forward and one backward pass of the text in place of one a word.

Hiding a word moves its embedding from the token to the mask token. To first order, the evidence against the word
(`leave_one_out`) is the gradient of the caption's log share at that embedding, times the way to the mask.

Shapes: ``t`` captions of up to ``L`` tokens in the micro-batch, ``B`` images in the whole batch, ``W`` the width of the
text tower.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from textreid.training.batch import MicroBatch
from textreid.training.network import Outputs, TrainedNetwork
from textreid.training.scorers.leave_one_out import log_shares
from textreid.training.scorers.words import WordPieces

_SCALE = 64.0  # of gradients: those of a step under float16 would be 0; a power of two, which rounds nothing


@dataclass(frozen=True)
class Gradient:
    """Scorer that follows the gradient of a caption's log share from each of its words to the mask token.

    Attributes:
        pieces: of the vocabulary, on the device of the network.
        mask_id: the token that would hide a word.
        temperature: of the softmax.
        content_only: the evidence of function words and punctuation is 0.
    """

    pieces: WordPieces
    mask_id: int
    temperature: float
    content_only: bool

    def noise(self, network: TrainedNetwork, batch: MicroBatch, outputs: Outputs, images: Tensor) -> Tensor:
        """Return the evidence (t, L) against each word; the tokens of a word share the sum of theirs."""
        embeddings = network.encoder.text_model.embeddings
        with torch.enable_grad(), _leaf(embeddings) as leaves, network.autocast():
            texts = network.encoder.encode_packed(batch.ids, batch.lengths)
            shares = log_shares(texts, images, batch.images.start + batch.image_index, self.temperature)
            (gradient,) = torch.autograd.grad(_SCALE * shares.sum(), leaves)
        with torch.no_grad():
            table = embeddings.token_embedding.weight.float()
            # Positions cancel: the mask would stand where the token stands.
            way = table[self.mask_id] - table[batch.ids]
            evidence = (gradient.float() / _SCALE * way).sum(dim=2)
            words = self.pieces.words(batch.ids, batch.is_word)
            evidence = torch.where(words.is_content if self.content_only else batch.is_word, evidence, 0.0)
            return torch.zeros_like(evidence).scatter_add(1, words.first, evidence).gather(1, words.first)


@contextmanager
def _leaf(embeddings: nn.Module) -> Iterator[list[Tensor]]:
    """Make what the embeddings give (t, L, W) leaves of the graph, while the context lasts; the list gets them."""
    leaves: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
        leaves.append(output.detach().requires_grad_())
        return leaves[-1]

    handle = embeddings.register_forward_hook(keep)
    try:
        yield leaves
    finally:
        handle.remove()
