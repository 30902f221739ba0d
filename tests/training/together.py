"""Several processes of one run on this machine, as torchrun starts them, without the seconds of importing torch."""

import faulthandler
import multiprocessing
import os
import socket
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

import torch

_SECONDS = 120  # after which a process counts as hung
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["textreid.training.recipe"])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def start(count: int, work: Callable[..., Any], *arguments: Any) -> list[tuple[BaseProcess, Connection]]:
    """Start ``work(*arguments)`` in ``count`` processes; its result comes through the connection."""
    port = free_port()
    started: list[tuple[BaseProcess, Connection]] = []
    for rank in range(count):
        receiver, sender = _CONTEXT.Pipe(duplex=False)
        process = _CONTEXT.Process(target=_run, args=(sender, rank, count, port, work, arguments))
        process.start()
        sender.close()
        started.append((process, receiver))
    return started


def run_together(count: int, work: Callable[..., Any], *arguments: Any) -> list[Any]:
    """What ``work(*arguments)`` returns in each of ``count`` processes."""
    results: dict[int, Any] = {}
    started = start(count, work, *arguments)
    try:
        while len(results) < count:
            waiting = {receiver: rank for rank, (_, receiver) in enumerate(started) if rank not in results}
            ready = wait(list(waiting), _SECONDS)
            assert ready, f"processes {sorted(waiting.values())} hang"
            for receiver in ready:
                assert isinstance(receiver, Connection)
                good, result = receiver.recv()
                assert good, f"process {waiting[receiver]}: {result}"
                results[waiting[receiver]] = result
    finally:
        for process, _ in started:
            process.kill()
    return [results[rank] for rank in range(count)]


def _run(
    sender: Connection, rank: int, count: int, port: int, work: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(count), LOCAL_WORLD_SIZE=str(count),
        MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port),
    )  # fmt: skip
    torch.set_num_threads(1)
    faulthandler.dump_traceback_later(_SECONDS - 20)
    try:
        sender.send((True, work(*arguments)))
    except BaseException:
        sender.send((False, traceback.format_exc()))
