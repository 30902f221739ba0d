"""CLIP's activation, with a derivative that keeps less and computes less."""

from typing import Any

import torch
from torch import nn

_QUICK = 1.702


class QuickGelu(nn.Module):
    """CLIP's activation, x · sigmoid(1.702 x)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Activate each value."""
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
        return nn.functional.silu(scaled).mul_(1 / _QUICK)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        (scaled,) = ctx.saved_tensors
        found: torch.Tensor = torch.ops.aten.silu_backward(gradient, scaled)
        return found
