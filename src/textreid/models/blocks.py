"""Transformer blocks of both towers, and texts packed one after the other so that no product is spent on padding.

Parameters carry Hugging Face's names. B sequences of T tokens; a block is as wide as its tower.
"""

from typing import Any, Literal, NamedTuple, Self

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - as everywhere

from textreid.config import NORM_EPSILON
from textreid.models.device import to_device

# sigmoid(1.702 x) approximates the normal distribution function of exact GELU (Hendrycks & Gimpel 2016).
_QUICK = 1.702


class Packing(NamedTuple):
    """Places of the N tokens of packed texts in the padded ids (texts, T).

    Captions of 65 tokens at most have 36 on average, so that almost half of a padded batch is padding.

    Attributes:
        places: (N,) among the texts · T.
        ends: (texts,) which of the N is the end token of each text.
        not_padding: (texts, T) bool.
    """

    places: torch.Tensor
    ends: torch.Tensor
    not_padding: torch.Tensor

    @classmethod
    def of(cls, ids: torch.Tensor, lengths: torch.Tensor) -> Self:
        """Find the tokens of ids (texts, T); lengths (texts,) on a GPU make this wait for it."""
        # On the device of the lengths: `nonzero` makes the host wait for a GPU, and never for the CPU.
        not_padding = torch.arange(ids.shape[1], device=lengths.device) < lengths[:, None]
        found = cls(not_padding.flatten().nonzero()[:, 0], lengths.cumsum(0) - 1, not_padding)
        return found if lengths.device == ids.device else cls(*(to_device(tensor, ids.device) for tensor in found))

    def pad(self, packed: torch.Tensor) -> torch.Tensor:
        """Put rows (N, ...) at their places in zeros (texts, T, ...)."""
        padded = packed.new_zeros((self.not_padding.numel(), *packed.shape[1:]))
        return padded.index_copy(0, self.places, packed).view(*self.not_padding.shape, *packed.shape[1:])

    def unpad(self, padded: torch.Tensor) -> torch.Tensor:
        """Take the rows (N, ...) out of (texts, T, ...)."""
        return padded.flatten(0, 1)[self.places]


class Attention(nn.Module):
    """Multi-head attention (Vaswani et al. 2017), causal in the text tower."""

    def __init__(self, width: int, heads: int, causal: bool) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.k_proj, self.v_proj, self.q_proj, self.out_proj = (nn.Linear(width, width) for _ in range(4))

    def forward(
        self, hidden: torch.Tensor, query: torch.Tensor | None = None, packing: Packing | None = None
    ) -> torch.Tensor:
        """Let each token attend to the tokens of its sequence; see `Block.forward`."""
        projected = [self.q_proj(hidden if query is None else query), self.k_proj(hidden), self.v_proj(hidden)]
        if packing is not None:
            # The products of attention are few, so that they may be computed with padding: it comes last, and no
            # token of a causal tower sees what comes after it.
            own_tokens = projected if query is None else projected[1:]
            projected[-len(own_tokens) :] = [packing.pad(rows[0]) for rows in own_tokens]
        q, k, v = (rows.unflatten(-1, (self.heads, -1)).transpose(1, 2) for rows in projected)  # (B, heads, T, d)
        if query is None:
            attended = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        else:
            # The query of a packed text is its end token, which sees the whole text: only padding is to be hidden.
            mask = None if packing is None else packing.not_padding[:, None, None]
            attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        attended = attended.transpose(1, 2).flatten(2)
        if packing is not None and query is None:
            # What padding attended to is dropped here; it has reached no token.
            attended = packing.unpad(attended)[None]
        out: torch.Tensor = self.out_proj(attended)
        return out


class Mlp(nn.Module):
    """Two linear layers with an activation between them, four times as wide inside."""

    def __init__(self, width: int, activation: Literal["quick_gelu", "gelu"]) -> None:
        super().__init__()
        self.activation = quick_gelu if activation == "quick_gelu" else F.gelu
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Transform each token (..., width) on its own."""
        out: torch.Tensor = self.fc2(self.activation(self.fc1(hidden)))
        return out


class Block(nn.Module):
    """Attention and MLP, each behind a norm and added to what came in."""

    def __init__(self, width: int, heads: int, activation: Literal["quick_gelu", "gelu"], causal: bool) -> None:
        super().__init__()
        self.self_attn = Attention(width, heads, causal)
        self.layer_norm1 = nn.LayerNorm(width, eps=NORM_EPSILON)
        self.mlp = Mlp(width, activation)
        self.layer_norm2 = nn.LayerNorm(width, eps=NORM_EPSILON)

    def forward(
        self, hidden: torch.Tensor, query: torch.Tensor | None = None, packing: Packing | None = None
    ) -> torch.Tensor:
        """Run the layer on all its inputs, or give the output of some of them alone.

        Args:
            hidden: all inputs, (B, T, width), or (1, N, width) of packed texts.
            query: (B, Q, width), those of the inputs whose output is wanted; they see all of ``hidden``, of packed
                texts their own. Of a tower's last layer only the CLS or end token is used: five sixths of its
                arithmetic can be left out.
            packing: of packed texts.

        Returns:
            Outputs in the shape of ``query``, or else of ``hidden``.
        """
        normed = self.layer_norm1(hidden)
        if query is None:
            after = hidden + self.self_attn(normed, packing=packing)
        else:
            after = query + self.self_attn(normed, self.layer_norm1(query), packing)
        return after + self.mlp(self.layer_norm2(after))  # type: ignore[no-any-return]


class Encoder(nn.Module):
    """Blocks one after the other, with initial weights that shrink with width and depth (Radford et al. 2021)."""

    def __init__(
        self, width: int, depth: int, heads: int, activation: Literal["quick_gelu", "gelu"], causal: bool
    ) -> None:
        super().__init__()
        blocks = [Block(width, heads, activation, causal) for _ in range(depth)]
        self.layers = nn.ModuleList(blocks)
        # As OpenAI's CLIP does, after GPT-2: each layer adds two branches, so that the sum of 2 · depth branches begins
        # at the same scale whatever the depth.
        residual_std = width**-0.5 * (2 * depth) ** -0.5
        # After all blocks are made: a seed gives the same weights as ever only if numbers are drawn in this order.
        for block in blocks:
            attention, mlp = block.self_attn, block.mlp
            for linear, std in (
                (attention.q_proj, width**-0.5),
                (attention.k_proj, width**-0.5),
                (attention.v_proj, width**-0.5),
                (attention.out_proj, residual_std),
                (mlp.fc1, (2 * width) ** -0.5),
                (mlp.fc2, residual_std),
            ):
                nn.init.normal_(linear.weight, std=std)
                nn.init.zeros_(linear.bias)


def quick_gelu(x: torch.Tensor) -> torch.Tensor:
    """Activate each value as OpenAI's CLIP does, x · sigmoid(1.702 x)."""
    activated: torch.Tensor = _ScaledSilu.apply(x)  # type: ignore[no-untyped-call]
    return activated


class _ScaledSilu(torch.autograd.Function):
    """silu(1.702 x) / 1.702: the scales cancel in its derivative, so that the backward pass is one kernel.

    The plain expression keeps a tensor more for the backward pass, and takes 1.7 times as long on a CPU.
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        scaled = _QUICK * x
        ctx.save_for_backward(scaled)
        # In place: the result of silu is new, and it is not what the backward pass keeps.
        return F.silu(scaled).mul_(1 / _QUICK)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        (scaled,) = ctx.saved_tensors
        found: torch.Tensor = torch.ops.aten.silu_backward(gradient, scaled)
        return found
