import sysconfig
import threading
from pathlib import Path

import pytest
import torch

from textreid.errors import ConfigError
from textreid.models import device as module
from textreid.models.device import AsyncCopy, choose_device, map_on_cores, refuse_to_compile, to_device


@pytest.mark.parametrize(
    ("precision", "fast", "dtype", "reason"),
    [
        ("auto", True, torch.bfloat16, "no GPU; this CPU multiplies bfloat16"),
        ("auto", False, torch.float32, "no GPU; this CPU gains nothing by bfloat16"),
        ("fp32", True, torch.float32, "precision is fp32"),
        ("bf16", False, torch.bfloat16, "precision is bf16"),
        ("fp16", False, torch.float16, "precision is fp16"),
    ],
)
def test_precision_on_a_cpu(
    precision: str, fast: bool, dtype: torch.dtype, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(module, "_cpu_multiplies_bf16", lambda _: fast)
    compute = choose_device(precision)  # type: ignore[arg-type]
    assert (compute.device.type, compute.dtype, compute.reason) == ("cpu", dtype, reason)
    with compute.autocast():
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert product.dtype == dtype


def test_this_cpu_answers() -> None:
    encodes, trains = module._cpu_multiplies_bf16(training=False), module._cpu_multiplies_bf16(training=True)
    assert encodes or not trains


def test_compiling_is_refused_where_it_would_fail_in_the_first_step(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(tmp_path))
    with pytest.raises(ConfigError, match=r"compile: .*\(no-such-compiler; .* and Python's headers .*compile=false"):
        refuse_to_compile(torch.device("cpu"))
    (tmp_path / "Python.h").touch()
    (tmp_path / "cxx").touch(mode=0o755)
    monkeypatch.setenv("CXX", str(tmp_path / "cxx"))
    refuse_to_compile(torch.device("cpu"))
    monkeypatch.setattr(module, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match="lacks the package triton; install it"):
        refuse_to_compile(torch.device("cuda"))


def test_a_tensor_arrives_as_it_was_when_it_was_fetched() -> None:
    tensor = to_device(torch.arange(3.0), torch.device("cpu"))
    fetched = AsyncCopy(tensor)
    tensor += 1
    assert fetched.wait().tolist() == [0, 1, 2]


@pytest.mark.gpu
def test_a_tensor_travels_to_a_gpu_and_back_without_waiting() -> None:
    torch.cuda.set_sync_debug_mode("error")
    try:
        there = to_device(torch.arange(1000.0), torch.device("cuda"))
        fetched = AsyncCopy(there * 2)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert fetched.wait().tolist() == list(range(0, 2000, 2))


@pytest.mark.parametrize("threads", [1, 2])
def test_items_are_computed_on_as_many_cores_as_torch_has(threads: int) -> None:
    before, numbers, together = torch.get_num_threads(), set(), threading.Barrier(threads)

    def work(item: int) -> int:
        numbers.add(torch.get_num_threads())
        together.wait(30)  # with fewer threads than that at a time, nobody gets on
        return item * item

    try:
        torch.set_num_threads(threads)
        assert map_on_cores(work, range(12)) == [item * item for item in range(12)]
        assert numbers == {1}
        assert torch.get_num_threads() == threads
        with pytest.raises(ZeroDivisionError):
            map_on_cores(lambda item: 1 // (item - 2), range(12))
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
