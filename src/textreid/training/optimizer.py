"""Adam with a rate and a decay for each kind of parameter, the rate of each step, and the step itself."""

import math

import torch
from torch import nn

from textreid.config import OptimizerConfig
from textreid.models.trunk import TRUNK
from textreid.training.network import TrainedNetwork, is_of_head


def make_optimizer(network: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    """Build Adam, whose weights and moments stay float32.

    Each group has a ``factor``: the rate of a step is multiplied by it. Parameters of heads learn
    ``head_lr_multiplier`` times as fast, biases of the towers ``bias_lr_multiplier`` times, the trunk of a stem
    ``trunk_lr_multiplier`` times; at 0 it needs no gradient. No bias decays unless ``decay_biases``.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        bias = name.endswith("bias")
        trunk = TRUNK in name
        if trunk and not config.trunk_lr_multiplier:
            parameter.requires_grad_(False)
            continue
        # The rate of a head holds for its biases too.
        factor = config.head_lr_multiplier if is_of_head(name) else config.bias_lr_multiplier if bias else 1.0
        factor *= config.trunk_lr_multiplier if trunk else 1.0
        decay = 0.0 if bias and not config.decay_biases else config.weight_decay
        groups.setdefault((factor, decay), []).append(parameter)
    # Adam as in the release, not AdamW: decay is part of the gradient and goes through the moments.
    return torch.optim.Adam(
        [{"params": group, "factor": factor, "weight_decay": decay} for (factor, decay), group in groups.items()],
        lr=config.learning_rate,
        betas=(config.beta1, config.beta2),
        eps=config.epsilon,
        fused=True,
    )


def warmup_steps(config: OptimizerConfig, steps_per_epoch: int) -> int:
    """Count the steps of the warm-up."""
    return max(config.min_warmup_steps, round(config.warmup_epochs * steps_per_epoch))


def learning_rate(step: int, steps: int, steps_per_epoch: int, config: OptimizerConfig) -> float:
    """Compute the rate of ``step`` (from 0) of ``steps``: linear warm-up, then half a cosine down to the final rate."""
    warmup = warmup_steps(config, steps_per_epoch)
    # step + 1, so that the last step of the warm-up already has the full rate.
    if step < warmup:
        return config.warmup_start + (config.learning_rate - config.warmup_start) * (step + 1) / warmup
    share = (step - warmup) / max(1, steps - warmup)
    span = config.learning_rate - config.final_learning_rate
    return config.final_learning_rate + span * (1 + math.cos(math.pi * share)) / 2


def optimizer_step(
    network: TrainedNetwork, optimizer: torch.optim.Optimizer, learning_rate: float, clip_norm: float = 0.0
) -> None:
    """Step down the gradients at ``learning_rate``, and clear them; under fp16 skip a step that has overflowed.

    Gradients carry the loss scale of ``network.scaler``, which is 1 but under fp16.
    """
    if clip_norm:
        # Under fp16 gradients still carry the loss scale, and the limit is for their true norm.
        network.scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(network.parameters(), clip_norm)
    for group in optimizer.param_groups:
        group["lr"] = learning_rate * group["factor"]
    network.scaler.step(optimizer)
    network.scaler.update()
    optimizer.zero_grad(set_to_none=True)
