"""Where a model computes and in which precision, and why."""

import os
import shutil
import sys
import sysconfig
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy.typing as npt
import torch
from torch import Tensor

from textreid.errors import ConfigError

Precision = Literal["auto", "fp32", "bf16"]


class Device(NamedTuple):
    """Where a model computes, and the type of its matrix products."""

    device: torch.device
    dtype: torch.dtype  # of matrix products; weights stay float32
    reason: str

    def autocast(self) -> torch.autocast:
        """Context in which matrix products are computed in `dtype`."""
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)


def choose_device(precision: Precision | Literal["fp16"], device: str | None = None) -> Device:
    """Choose the device asked for, else the GPU if there is one, else the CPU; bfloat16 where it is multiplied fast.

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
        return Device(place, torch.float32, "precision is fp32")
    if precision == "fp16":  # for GPUs without bf16; asked for only, because training needs a gradient scaler with it
        return Device(place, torch.float16, "precision is fp16")
    if precision == "bf16":
        if place.type == "cuda" and not fast:
            raise ConfigError(f"precision bf16: {name} cannot compute it; use auto, fp16 or fp32")
        return Device(place, torch.bfloat16, "precision is bf16")
    if fast:
        return Device(place, torch.bfloat16, f"{name} multiplies bfloat16")
    hint = "; fp16 would be faster" if place.type == "cuda" else ""
    return Device(place, torch.float32, f"{name} does not multiply bfloat16{hint}")


def refuse_to_compile(device: torch.device) -> None:
    """Raise ConfigError if torch.compile lacks what it needs for ``device``; it would fail in the first step."""
    compiler = os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")
    header = Path(sysconfig.get_path("include"), "Python.h")
    lacking = [] if shutil.which(compiler) else [f"a C++ compiler ({compiler}; the variable CXX names another)"]
    lacking += [] if header.is_file() else [f"Python's headers ({header})"]
    lacking += ["the package triton"] if device.type == "cuda" and not find_spec("triton") else []
    if lacking:
        raise ConfigError(
            f"training.compile: this machine lacks {' and '.join(lacking)}; install it, or set training.compile=false"
        )


def _cpu_multiplies_bf16() -> bool:
    # Older releases of torch have no public question for it; without an answer float32 is the safe choice.
    questions = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, question, bool)() for question in questions)


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor of the CPU to ``device`` without waiting for what a GPU still has to do."""
    # Only page-locked memory is copied while the GPU computes; torch keeps it until the copy is done.
    return (tensor.pin_memory() if device.type == "cuda" else tensor).to(device, non_blocking=True)


class AsyncCopy:
    """Copy of a tensor on its way to the CPU: a GPU makes it in its turn, and only `wait` waits for it."""

    def __init__(self, tensor: Tensor) -> None:
        on_gpu = tensor.device.type == "cuda"
        self._values = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=on_gpu)
        self._values.copy_(tensor, non_blocking=True)
        self._arrived = torch.cuda.current_stream(tensor.device).record_event() if on_gpu else None

    def wait(self) -> npt.NDArray[Any]:
        """Return the values, once they have arrived."""
        if self._arrived:
            self._arrived.synchronize()
        values: npt.NDArray[Any] = self._values.numpy()
        return values
