"""Where a model computes and in which precision, and why."""

from typing import Literal, NamedTuple

import torch

from textreid.errors import ConfigError

Precision = Literal["auto", "fp32", "bf16"]


class Compute(NamedTuple):
    """Device, and the type of matrix products on it."""

    device: torch.device
    dtype: torch.dtype  # of matrix products; weights stay float32
    reason: str

    def autocast(self) -> torch.autocast:
        """Context in which matrix products are computed in `dtype`."""
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)


def choose_compute(precision: Precision, device: str | None = None) -> Compute:
    """The device asked for, else the GPU if there is one, else the CPU; bfloat16 where the hardware multiplies it.

    Raises:
        ConfigError: bf16 is asked for on a GPU that cannot compute it.
    """
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if place.type == "cuda":
        name, fast = torch.cuda.get_device_name(place), torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        name = "this CPU" if torch.cuda.is_available() else "no GPU; this CPU"
        fast = place.type == "cpu" and _cpu_multiplies_bf16()
    if precision == "fp32":
        return Compute(place, torch.float32, "precision is fp32")
    if precision == "bf16":
        if place.type == "cuda" and not fast:
            raise ConfigError(f"precision bf16: {name} cannot compute it; use auto or fp32")
        return Compute(place, torch.bfloat16, "precision is bf16")
    if fast:
        return Compute(place, torch.bfloat16, f"{name} multiplies bfloat16")
    return Compute(place, torch.float32, f"{name} does not multiply bfloat16")


def _cpu_multiplies_bf16() -> bool:
    # Older releases of torch have no public question for it; without an answer float32 is the safe choice.
    questions = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, question, bool)() for question in questions)
