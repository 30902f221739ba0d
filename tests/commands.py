"""The command line in processes forked from one that has loaded torch: each starts in 0.1 seconds, in place of three.

In the process of the tests itself, the fixture ``textreid`` runs it.
"""

import multiprocessing
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

CONTEXT = multiprocessing.get_context("forkserver")
# An optimiser's first step alone loads `torch._dynamo`, 800 modules in 1.5 s.
CONTEXT.set_forkserver_preload(
    ["textreid.cli", "textreid.training.recipe", "textreid.gallery.search", "torch._dynamo", "tests.training.conftest"]
)


class Done(NamedTuple):
    """How a command ended, and what it wrote."""

    returncode: int
    stdout: str
    stderr: str


Run = Callable[..., Done]


def textreid(*arguments: str | Path, before: Callable[[], object] | None = None, **environment: str) -> Done:
    """Run the command line in a process of its own, with more variables; ``before`` is called there first."""
    pipes = [CONTEXT.Pipe(duplex=False) for _ in range(2)]
    senders = [sender for _, sender in pipes]
    words = list(map(str, arguments))
    process = CONTEXT.Process(target=_run, args=(senders, words, {**os.environ, **environment}, before))
    process.start()
    for sender in senders:
        sender.close()
    with ThreadPoolExecutor(2) as readers:
        said = list(readers.map(_read, [receiver for receiver, _ in pipes]))
    process.join()
    assert process.exitcode is not None
    return Done(process.exitcode, *said)


def _read(receiver: Connection) -> str:
    with receiver, open(receiver.fileno(), encoding="utf-8", closefd=False) as stream:
        return stream.read()


def _run(
    senders: Sequence[Connection],
    words: Sequence[str],
    environment: Mapping[str, str],
    before: Callable[[], object] | None,
) -> None:
    from textreid.cli import main

    os.environ.clear()
    os.environ.update(environment)
    for number, sender in enumerate(senders, start=1):
        os.dup2(sender.fileno(), number)
        sender.close()
    # Those that the process was forked with may know a file by what it was.
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)  # noqa: SIM115
    sys.argv = ["textreid", *words]
    if before:
        before()
    main()
