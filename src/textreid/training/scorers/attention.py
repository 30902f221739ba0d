"""Gradient attention: a word is noisy if the caption's fit to its image does not come from it.

GA-DMS (EMNLP 2025) finds informative words by attention and its gradient; this is our own form of the idea, after the
relevance of Chefer et al. (ICCV 2021). In the last layer of the text tower the end token attends to every word. What a
word adds to the fit, to first order, is its attention times the gradient of the caption's log share at that attention;
summed over heads where it is above 0, that is the word's relevance. Noise is one minus its share of the caption's
largest, in [0, 1]: a ranking, no evidence.

Shapes: ``t`` captions of up to ``L`` tokens in the micro-batch, ``h`` heads of ``d`` channels.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from textreid.models.blocks import Attention, Packing
from textreid.training.batch import MicroBatch
from textreid.training.network import Outputs, TrainedNetwork
from textreid.training.scorers.leave_one_out import log_shares

_SCALE = 64.0  # of gradients, as those of `gradient`


@dataclass(frozen=True)
class AttentionScorer:
    """Scorer that follows the last attention of the end token back to the words.

    Attributes:
        temperature: of the softmax over the images of the step.
    """

    temperature: float

    def noise(self, network: TrainedNetwork, batch: MicroBatch, outputs: Outputs, images: Tensor) -> Tensor:
        """Return the noise (t, L) of each word."""
        if not len(batch.ids):
            return batch.is_word.float()
        attention = cast("Attention", network.encoder.text_model.encoder.layers[-1].self_attn)
        with torch.enable_grad(), _kept(attention) as kept, network.autocast():
            texts = network.encoder.encode_packed(batch.ids, batch.lengths)
            shares = log_shares(texts, images, batch.images.start + batch.image_index, self.temperature)
            (gradient,) = torch.autograd.grad(_SCALE * shares.sum(), kept["attended"])
        packing = Packing.of(batch.ids, batch.lengths)
        with torch.no_grad(), torch.autocast(texts.device.type, enabled=False):
            query = _heads(kept["q"].reshape(len(batch.ids), 1, -1), attention.heads)
            key, value = (_heads(packing.pad(kept[name][0]), attention.heads) for name in ("k", "v"))
            scores = (query @ key.transpose(2, 3))[:, :, 0] / query.shape[3] ** 0.5
            weights = scores.masked_fill(~packing.not_padding[:, None], -torch.inf).softmax(dim=2)
            slope = (_heads(gradient.reshape(len(batch.ids), 1, -1), attention.heads) @ value.transpose(2, 3))[:, :, 0]
            relevance = torch.where(batch.is_word, (weights * slope / _SCALE).clamp(min=0).sum(dim=1), 0.0)
            largest = relevance.amax(dim=1, keepdim=True)
            # A caption of which no word speaks for the image has no word that is better than another.
            return torch.where(batch.is_word, 1 - relevance / torch.where(largest > 0, largest, 1.0), 0.0)


def _heads(rows: Tensor, heads: int) -> Tensor:
    """Split (t, L, width) into (t, h, L, d), float32."""
    return rows.float().view(*rows.shape[:-1], heads, -1).transpose(1, 2)


@contextmanager
def _kept(attention: Attention) -> Iterator[dict[str, Tensor]]:
    """Keep the projections of an attention and what it attended to, while the context lasts."""
    kept: dict[str, Tensor] = {}

    def keep(name: str, module: nn.Module) -> torch.utils.hooks.RemovableHandle:
        return module.register_forward_hook(lambda _module, _inputs, output: kept.__setitem__(name, output))

    def keep_attended(_module: nn.Module, inputs: tuple[Tensor]) -> None:
        kept["attended"] = inputs[0]

    handles = [
        keep(name, module)
        for name, module in zip("qkv", (attention.q_proj, attention.k_proj, attention.v_proj), strict=True)
    ]
    handles.append(attention.out_proj.register_forward_pre_hook(keep_attended))
    try:
        yield kept
    finally:
        for handle in handles:
            handle.remove()
