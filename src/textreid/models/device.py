"""Where a model computes and in which precision, and why."""

import os
import shutil
import sys
import sysconfig
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import numpy.typing as npt
import torch
from torch import Tensor

from textreid.errors import ConfigError, check_choice, check_type

Precision = Literal["auto", "fp32", "bf16"]
Item = TypeVar("Item")
Result = TypeVar("Result")

_pools: dict[int, ThreadPoolExecutor] = {}  # by process: a fork has none of the threads of its parent
_making_a_pool = threading.Lock()


class Device(NamedTuple):
    """Where a model computes, and the type of its matrix products."""

    device: torch.device
    dtype: torch.dtype  # of matrix products; weights stay float32
    reason: str

    def autocast(self) -> torch.autocast:
        """Make the context in which matrix products are computed in `dtype`."""
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)


def choose_device(
    precision: Precision | Literal["fp16"], device: str | None = None, *, training: bool = False
) -> Device:
    """Choose the device asked for, else the GPU if there is one, else the CPU; bfloat16 where it is multiplied fast.

    Args:
        precision: of the products; auto chooses between bf16 and fp32.
        device: of torch; None chooses.
        training: whether gradients are computed too, which fewer processors gain by.

    Raises:
        ConfigError: torch cannot compute on ``device``, or bf16 is asked for on a GPU that cannot compute it.
    """
    check_choice("precision", precision, ("auto", "fp32", "bf16", "fp16"))
    place = _open(device) if device is not None else torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if place.type == "cuda":
        # Without `including_emulation=False` torch says yes of GPUs that have no instruction for it.
        name, fast = torch.cuda.get_device_name(place), torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        name = "this CPU" if torch.cuda.is_available() else "no GPU; this CPU"
        fast = place.type == "cpu" and _cpu_multiplies_bf16(training)
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
    return Device(place, torch.float32, f"{name} gains nothing by bfloat16{hint}")


def _open(device: str) -> torch.device:
    check_type("device", device, str, "a device of torch, like cpu or cuda:1")
    try:
        place = torch.device(device)
        # Only using a device shows that it is there: `torch.device` takes any number.
        torch.zeros(1, device=place).cpu()
    except (RuntimeError, AssertionError) as error:  # torch raises both for a device that is not there
        reason = str(error).split(".")[0].split("\n")[0]
        raise ConfigError(f"device {device!r}: torch cannot compute there: {reason[:120]}") from error
    return place


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


def _cpu_multiplies_bf16(training: bool) -> bool:
    # Processors that multiply rows (AVX512-BF16) and not matrices (AMX) encode a little faster in bfloat16, but train
    # 1.5 times as fast in float32.
    # Older releases of torch have no public question for it; without an answer float32 is the safe choice.
    questions = ["_is_amx_tile_supported", *([] if training else ["_is_avx512_bf16_supported"])]
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


def map_on_cores(work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """Compute ``work(item)`` of each item, on as many cores as torch may use in the calling thread.

    Cores that share an operation wait for each other after each one; with an item each they do not.
    """
    workers = min(torch.get_num_threads(), len(items))
    if workers < 2:
        return [work(item) for item in items]
    results: dict[int, Result] = {}
    numbered, taking = iter(enumerate(items)), threading.Lock()

    def work_through() -> None:
        while True:
            with taking:
                number, item = next(numbered, (None, None))
            if number is None:
                return
            results[number] = work(item)  # type: ignore[arg-type]

    futures = [_one_core_each().submit(work_through) for _ in range(workers)]
    for future in futures:
        # Raises the first error of the work.
        future.result()
    return [results[number] for number in range(len(items))]


def _one_core_each() -> ThreadPoolExecutor:
    """Return threads in which torch uses one core; made once a process, since making them is seen by others.

    torch's number of threads is one of the calling thread, and also what threads that start later begin with. So it is
    set in threads of our own, and the latter is put back at once.
    """
    with _making_a_pool:
        if os.getpid() not in _pools:
            before = torch.get_num_threads()
            count = max(before, os.cpu_count() or 1)
            # An executor starts a thread for a task only while none is idle: behind the barrier, none is until all run.
            started = threading.Barrier(count + 1)

            def start() -> None:
                torch.get_num_threads()  # the first question of a thread would undo what it had set before
                torch.set_num_threads(1)
                started.wait()

            pool = ThreadPoolExecutor(count, "textreid", start)
            for _ in range(count):
                pool.submit(int)
            started.wait()
            torch.set_num_threads(before)
            _pools[os.getpid()] = pool
        return _pools[os.getpid()]
