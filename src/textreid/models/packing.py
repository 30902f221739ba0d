"""Captions one after the other, so that no product of matrices is spent on padding."""

from typing import Any, NamedTuple, Self

import torch
from torch import nn
from transformers import AttentionInterface

from textreid.models.device import to_device

CAUSAL = "textreid-causal"  # our kind of attention, by its name in transformers


class Packing(NamedTuple):
    """Texts one after the other, without padding: where each of their N tokens lies in the ids (texts, T).

    Captions of 65 tokens at most have 36 on average, so that almost half of a padded batch is padding.
    """

    places: torch.Tensor  # (N,) among the texts * T
    ends: torch.Tensor  # (texts,) which of the N is the end token of each text
    inside: torch.Tensor  # (texts, T) bool: not padding

    @classmethod
    def of(cls, ids: torch.Tensor, lengths: torch.Tensor) -> Self:
        """Where the tokens of ids (texts, T) lie; lengths (texts,) on a GPU make this wait for it."""
        inside = torch.arange(ids.shape[1], device=lengths.device) < lengths[:, None]
        found = cls(inside.flatten().nonzero()[:, 0], lengths.cumsum(0) - 1, inside)
        return found if lengths.device == ids.device else cls(*(to_device(tensor, ids.device) for tensor in found))

    def spread(self, rows: torch.Tensor) -> torch.Tensor:
        """Rows (N, ...) at their places in zeros (texts, T, ...)."""
        padded = rows.new_zeros((self.inside.numel(), *rows.shape[1:]))
        return padded.index_copy(0, self.places, rows).view(*self.inside.shape, *rows.shape[1:])

    def collect(self, padded: torch.Tensor) -> torch.Tensor:
        """The rows (N, ...) of what stands in (texts, T, ...)."""
        return padded.flatten(0, 1)[self.places]


def _attend_causally(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: None,
    packing: Packing | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Attention within each text, of (texts, heads, T, d), or of packed texts (1, heads, N, d); heads come second last.

    The products of attention are few, so that they may be computed with padding.
    """
    if packing is not None:
        query, key, value = (packing.spread(rows[0].transpose(0, 1)).transpose(1, 2) for rows in (query, key, value))
    mixed = nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True).transpose(1, 2)
    return (mixed if packing is None else packing.collect(mixed)[None]), None


AttentionInterface.register(CAUSAL, _attend_causally)
