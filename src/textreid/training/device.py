"""Where a run computes and in which precision, and why."""

from typing import Literal, NamedTuple

import torch

from textreid.errors import ConfigError
from textreid.training.processes import local_processes, local_rank


class Compute(NamedTuple):
    """Device and autocast type of a run."""

    device: torch.device
    dtype: torch.dtype  # of matrix products; weights stay float32
    reason: str

    def autocast(self) -> torch.autocast:
        """Context in which matrix products are computed in `dtype`."""
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)


def choose_compute(precision: Literal["auto", "fp32", "bf16"]) -> Compute:
    """The GPU if there is one, else the CPU; bfloat16 where the hardware multiplies it.

    Raises:
        ConfigError: bf16 is asked for on a GPU that cannot compute it, or this machine has fewer GPUs than processes.
    """
    if torch.cuda.is_available():
        if torch.cuda.device_count() < local_processes():
            raise ConfigError(
                f"torchrun: {local_processes()} processes on this machine with {torch.cuda.device_count()} GPUs; "
                "start one for each (--nproc-per-node)"
            )
        torch.cuda.set_device(local_rank())
        name, fast = torch.cuda.get_device_name(), torch.cuda.is_bf16_supported(including_emulation=False)
        device = torch.device("cuda", local_rank())
    else:
        name, fast = "no GPU; this CPU", _cpu_multiplies_bf16()
        device = torch.device("cpu")
    if precision == "fp32":
        return Compute(device, torch.float32, "training.precision is fp32")
    if precision == "bf16":
        if device.type == "cuda" and not fast:
            raise ConfigError(f"training.precision: bf16, but {name} cannot compute it; use auto or fp32")
        return Compute(device, torch.bfloat16, "training.precision is bf16")
    if fast:
        return Compute(device, torch.bfloat16, f"{name} multiplies bfloat16")
    return Compute(device, torch.float32, f"{name} does not multiply bfloat16")


def _cpu_multiplies_bf16() -> bool:
    # Older releases of torch have no public question for it; without an answer float32 is the safe choice.
    questions = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, question, bool)() for question in questions)
