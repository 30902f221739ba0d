"""The scorer of the paper: a word is noisy if no patch of the image resembles it (Tan et al. 2024, §3.3, Eq. 1-2).

Shapes: ``B`` captions of ``T`` tokens, ``M`` image patches, ``D`` dimensions.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 (the usual name)
from torch import Tensor

from textreid.training.batch import MicroBatch
from textreid.training.network import Outputs, TrainedNetwork


@dataclass(frozen=True)
class PatchScorer:
    """Scorer of Noise-Aware Masking: a word is noisy if no patch of the image resembles it (Tan et al. 2024, Eq. 1-2).

    Attributes:
        layer: of the tokens of both towers that are compared, from 1.
    """

    layer: int

    @torch.no_grad()
    def noise(self, network: TrainedNetwork, batch: MicroBatch, outputs: Outputs, images: Tensor) -> Tensor:
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
