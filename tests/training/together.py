"""Several processes of one run on this machine, as torchrun starts them, without the seconds of importing torch."""

import faulthandler
import json
import os
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple

import torch
from tests.commands import CONTEXT
from torch.distributed import TCPStore  # type: ignore[attr-defined]

_SECONDS = 120  # after which a process counts as hung


class Together(NamedTuple):
    """Processes that were started, and where they meet: kept outside of them, as torchrun does."""

    processes: list[BaseProcess]
    results: list[Connection]
    store: TCPStore


def start(count: int, work: Callable[..., Any], *arguments: Any) -> Together:
    """Start ``work(*arguments)`` in ``count`` processes."""
    started = Together([], [], TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False))
    for rank in range(count):
        receiver, sender = CONTEXT.Pipe(duplex=False)
        process = CONTEXT.Process(target=_run, args=(sender, rank, count, started.store.port, work, arguments))
        process.start()
        sender.close()
        started.processes.append(process)
        started.results.append(receiver)
    return started


def run_together(count: int, work: Callable[..., Any], *arguments: Any) -> list[Any]:
    """What ``work(*arguments)`` returns in each of ``count`` processes."""
    results: dict[int, Any] = {}
    started = start(count, work, *arguments)
    try:
        while len(results) < count:
            waiting = {receiver: rank for rank, receiver in enumerate(started.results) if rank not in results}
            ready = wait(list(waiting), _SECONDS)
            assert ready, f"processes {sorted(waiting.values())} hang"
            for receiver in ready:
                assert isinstance(receiver, Connection)
                good, result = receiver.recv()
                assert good, f"process {waiting[receiver]}: {result}"
                results[waiting[receiver]] = result
    finally:
        for process in started.processes:
            process.kill()
            process.join()
    return [results[rank] for rank in range(count)]


def _run(
    sender: Connection, rank: int, count: int, port: int, work: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(count), LOCAL_WORLD_SIZE=str(count),
        MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), TORCHELASTIC_USE_AGENT_STORE="True",
        TORCHELASTIC_RESTART_COUNT="0",
    )  # fmt: skip
    torch.set_num_threads(1)
    faulthandler.dump_traceback_later(_SECONDS - 20)
    try:
        sender.send((True, work(*arguments)))
    except Exception:
        sender.send((False, traceback.format_exc()))


def step_of(out: Path) -> int:
    """The last step in the log of the run ``out``."""
    metrics = out / "metrics.jsonl"
    lines = metrics.read_text().split("\n")[:-1] if metrics.exists() else []
    return max((json.loads(line)["step"] for line in lines), default=0)


def wait_for_step(out: Path, step: int, started: Together) -> None:
    """Return as soon as the log of the run ``out`` has reached ``step``."""
    deadline = time.monotonic() + _SECONDS
    while time.monotonic() < deadline and all(process.is_alive() for process in started.processes):
        if step_of(out) >= step:
            return
        time.sleep(0.002)
    raise AssertionError(f"the run did not reach step {step}")
