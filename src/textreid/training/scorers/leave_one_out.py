"""Leaving one out: a word is noisy if its caption fits the image better without it, among the images of the step.

With a word hidden behind the mask token, the image gets another share of the softmax over all images of the step. The
logarithm of the ratio is the evidence against the word, in nats: above 0, the word leads away from the image.

Shapes: ``b`` images and ``t`` captions of up to ``L`` tokens in the micro-batch, ``B`` images in the whole batch, ``D``
dimensions.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 (the usual name)
from torch import Tensor

from textreid.training.batch import MicroBatch
from textreid.training.network import Outputs, TrainedNetwork
from textreid.training.scorers.words import WordPieces

_AT_ONCE = 1024  # captions that are encoded in one pass


@dataclass(frozen=True)
class LeaveOneOut:
    """Scorer that encodes a caption once for each of its words, without that word.

    Attributes:
        pieces: of the vocabulary, on the device of the network.
        mask_id: the token that hides a word.
        temperature: of the softmax.
        whole_words: hide all tokens of a word at once, and give them all its evidence.
        content_only: leave function words and punctuation where they are; their evidence is 0.
    """

    pieces: WordPieces
    mask_id: int
    temperature: float
    whole_words: bool
    content_only: bool

    @torch.no_grad()
    def noise(self, network: TrainedNetwork, batch: MicroBatch, outputs: Outputs, images: Tensor) -> Tensor:
        """Return the evidence (t, L) against each word."""
        words = self.pieces.words(batch.ids, batch.is_word)
        positions = torch.arange(batch.ids.shape[1], device=batch.ids.device).expand_as(batch.ids)
        first = words.first if self.whole_words else positions
        taken = words.is_content if self.content_only else batch.is_word
        caption, place = (taken & (first == positions)).nonzero(as_tuple=True)
        # One row more for each caption, without a place to hide: itself.
        caption = torch.cat([torch.arange(len(batch.ids), device=caption.device), caption])
        place = torch.cat([place.new_full((len(batch.ids),), -1), place])
        found = [
            self._fit(network, batch, torch.where(first[rows] == places[:, None], self.mask_id, batch.ids[rows]),
                      rows, images)
            for rows, places in zip(torch.split(caption, _AT_ONCE), torch.split(place, _AT_ONCE), strict=True)
        ]  # fmt: skip
        fits = torch.cat([images.new_zeros(0), *found])
        complete, without = fits[: len(batch.ids)], fits[len(batch.ids) :]
        evidence = torch.zeros_like(batch.is_word, dtype=torch.float32)
        evidence[caption[len(batch.ids) :], place[len(batch.ids) :]] = without - complete[caption[len(batch.ids) :]]
        return torch.where(taken, evidence.gather(1, first), 0.0)

    def _fit(self, network: TrainedNetwork, batch: MicroBatch, ids: Tensor, rows: Tensor, images: Tensor) -> Tensor:
        """Encode the captions ``rows`` with other ids, and measure how well each fits its image."""
        with network.autocast():
            texts = network.encoder.encode_packed(ids, batch.lengths[rows.cpu()])
        return log_shares(texts, images, batch.images.start + batch.image_index[rows], self.temperature)


def log_shares(texts: Tensor, images: Tensor, own: Tensor, temperature: float) -> Tensor:
    """Compute the logarithm (t,) of the share of each text's own image in the softmax over the images.

    Args:
        texts: (t, D) features of texts.
        images: (B, D) features of images.
        own: (t,) which of the images each text is of.
        temperature: of the softmax over cosines.
    """
    with torch.autocast(texts.device.type, enabled=False):
        cosines = F.normalize(texts.float(), dim=1) @ F.normalize(images.float(), dim=1).T
        return (cosines / temperature).log_softmax(dim=1).gather(1, own[:, None])[:, 0]
