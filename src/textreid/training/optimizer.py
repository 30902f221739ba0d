"""Adam with a rate and a decay for each kind of parameter, and the rate of each step."""

import math

import torch
from torch import nn

from textreid.config import OptimizerConfig
from textreid.training.network import is_of_head


def make_optimizer(network: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    """Adam whose weights and moments stay float32.

    Each group has a ``factor``: the rate of a step is multiplied by it. Parameters of heads learn
    ``head_lr_multiplier`` times as fast, biases of the towers ``bias_lr_multiplier`` times; no bias decays unless
    ``decay_biases``.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        bias = name.endswith("bias")
        factor = config.head_lr_multiplier if is_of_head(name) else config.bias_lr_multiplier if bias else 1.0
        decay = 0.0 if bias and not config.decay_biases else config.weight_decay
        groups.setdefault((factor, decay), []).append(parameter)
    return torch.optim.Adam(
        [{"params": group, "factor": factor, "weight_decay": decay} for (factor, decay), group in groups.items()],
        lr=config.learning_rate,
        betas=(config.beta1, config.beta2),
        eps=config.epsilon,
        fused=True,
    )


def warmup_steps(config: OptimizerConfig, steps_per_epoch: int) -> int:
    """Steps of the warm-up."""
    return max(config.min_warmup_steps, round(config.warmup_epochs * steps_per_epoch))


def learning_rate(step: int, steps: int, steps_per_epoch: int, config: OptimizerConfig) -> float:
    """Rate of step ``step`` (from 0) of ``steps``: linear warm-up, then half a cosine down to the final rate."""
    warmup = warmup_steps(config, steps_per_epoch)
    if step < warmup:
        return config.warmup_start + (config.learning_rate - config.warmup_start) * (step + 1) / warmup
    share = (step - warmup) / max(1, steps - warmup)
    span = config.learning_rate - config.final_learning_rate
    return config.final_learning_rate + span * (1 + math.cos(math.pi * share)) / 2


def update(network: nn.Module, optimizer: torch.optim.Optimizer, rate: float, clip_norm: float) -> None:
    """Step down the gradients at ``rate``, and clear them."""
    if clip_norm:
        torch.nn.utils.clip_grad_norm_(network.parameters(), clip_norm)
    for group in optimizer.param_groups:
        group["lr"] = rate * group["factor"]
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
