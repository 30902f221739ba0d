"""The processes of one run: torchrun starts one for each GPU, or several on CPUs; a plain start is a single one.

Every process knows the whole batch of a step and works on its slice of the images, so that what is computed does not
depend on how many there are. Only the first one reads and writes the run folder.
"""

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from itertools import pairwise
from threading import Event
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from textreid.errors import ConfigError, ProcessError, TextReidError

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store

T = TypeVar("T")

_STARTUP_TIMEOUT = timedelta(days=1)  # for processes that read their data more slowly
_HEARTBEAT_S = 1.0  # seconds between two signs of life of a process that works while others wait
_EXIT_GRACE_S = 0.5  # seconds; a thread of gloo that still waits for Python's lock, to drop a tensor, aborts the exit
_REPORT_GRACE_S = 10.0  # seconds in which the processes that are left say so; the first may be writing a checkpoint
_REPORT, _LEFT = "report", "left"  # keys of the store

# A group of processes that is taken down waits for its threads while it holds Python's lock, which they may wait for.
_KEPT_GROUPS: list[dist.ProcessGroup | None] = []


class Processes:
    """One process of a run, ``rank`` of ``count``; alone, it waits for no other and adds nothing up.

    All processes must call the same methods in the same order.
    """

    def __init__(self, rank: int = 0, count: int = 1, store: "Store | None" = None) -> None:
        self.rank = rank
        self.count = count
        self._store = store
        self._questions = 0

    @property
    def is_first(self) -> bool:
        """Tell whether this is the process that reads and writes the run folder."""
        return self.rank == 0

    def slices_of(self, rows: int) -> list[slice]:
        """Share ``rows`` out among the processes; the shares differ by at most one."""
        edges = [rows * rank // self.count for rank in range(self.count + 1)]
        return [slice(low, high) for low, high in pairwise(edges)]

    def slice_of(self, rows: int) -> slice:
        """Return this process' share of ``rows``."""
        return self.slices_of(rows)[self.rank]

    def on_rank0(self, work: Callable[[], T]) -> T:
        """Run ``work`` in the first process and return its result in all, which wait as long as it shows life."""
        if self.count == 1:
            return work()
        result: list[Any] = [None]
        # A broadcast alone would count the first process as hung after the timeout of the group, and an evaluation
        # takes longer: so both sides exchange a vote every second until the first has finished.
        if self.is_first:
            with self._heartbeat():
                result = [work()]
        else:
            while not self._all_finished(True):
                pass
        dist.broadcast_object_list(result, src=0, device=torch.device("cpu"))
        return cast("T", result[0])

    def all_gather_object(self, value: T) -> list[T]:
        """Return the ``value``, made of JSON, of each process; waits for all, which may read their data for a day."""
        if self._store is None:
            return [value]
        # Keys stay in the store: a number of its own keeps each question from the answers of an earlier one.
        self._questions += 1
        keys = [f"{self._questions}/{rank}" for rank in range(self.count)]
        self._store.set(keys[self.rank], json.dumps(value))
        self._store.wait(keys, _STARTUP_TIMEOUT)
        return [json.loads(self._store.get(key)) for key in keys]

    @contextmanager
    def _heartbeat(self) -> Iterator[None]:
        """Tell the waiting processes every second that this one works, and in the end that it has finished."""
        finished, failed = Event(), Event()

        def tell() -> None:
            while not self._all_finished(finished.wait(_HEARTBEAT_S)) and not failed.is_set():
                pass

        with ThreadPoolExecutor(1) as pool:
            telling = pool.submit(tell)
            try:
                yield
            except BaseException:
                failed.set()
                raise
            finished.set()
            telling.result()

    def _all_finished(self, this: bool) -> bool:
        return bool(self.all_true(np.array([this]))[0])

    def all_true(self, flags: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Tell which of ``flags`` are true in every process."""
        if self.count == 1:
            return flags
        votes = torch.from_numpy(flags.astype(np.uint8))
        dist.all_reduce(votes, dist.ReduceOp.MIN)
        return votes.numpy().astype(np.bool_)

    def any_true(self, flag: bool) -> bool:
        """Tell whether ``flag`` is true in some process."""
        return not self.all_true(np.array([not flag]))[0]

    def all_gather(self, rows: Tensor, counts: Sequence[int]) -> Tensor:
        """Return the rows of all processes, in their order; process ``i`` has ``counts[i]`` of them."""
        if self.count == 1:
            return rows
        # Gloo and NCCL gather rows of one shape only: pad to the longest share, then cut.
        padded = rows.new_zeros((max(counts), *rows.shape[1:]))
        padded[: len(rows)] = rows
        received = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(received, padded)
        return torch.cat([part[:count] for part, count in zip(received, counts, strict=True)])

    def all_reduce(self, values: Tensor) -> Tensor:
        """Return the sum of ``values`` over the processes; may be written into ``values``."""
        if self.count > 1:
            dist.all_reduce(values)
        return values

    def broadcast(self, values: Tensor) -> Tensor:
        """Return ``values`` of the first process; in the others they are overwritten."""
        if self.count > 1:
            dist.broadcast(values, src=0)
        return values

    def broadcast_weights(self, network: nn.Module) -> None:
        """Give the weights of the first process to the others."""
        # These are the tensors of the network themselves: what is received changes it.
        for weights in network.state_dict().values():
            self.broadcast(weights)

    def broadcast_moments(self, optimizer: torch.optim.Optimizer) -> None:
        """Give the optimizer's state of the first process, as restored from a checkpoint, to the others."""
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        state = optimizer.state
        # A new optimizer has no moments yet, so the others learn first what will come.
        shapes = [{key: (value.shape, value.dtype) for key, value in state[p].items()} for p in parameters]
        for parameter, keys in zip(parameters, self.on_rank0(lambda: shapes), strict=True):
            for key, (shape, dtype) in keys.items():
                empty = torch.empty(shape, dtype=dtype, device=parameter.device)
                self.broadcast(state[parameter].setdefault(key, empty))

    def wrap(self, network: nn.Module) -> nn.Module:
        """Return the network as all processes train it: the first one's weights, and gradients averaged over them."""
        if self.count == 1:
            return network
        return DistributedDataParallel(network, gradient_as_bucket_view=True)


def synced_if(last: bool, ddp: nn.Module) -> AbstractContextManager[None]:
    """Keep the gradients of a pass in this process unless it is the ``last``, which averages those of all passes."""
    return ddp.no_sync() if isinstance(ddp, DistributedDataParallel) and not last else nullcontext()


@contextmanager
def processes_of_run(timeout: int) -> Iterator[Processes]:
    """Meet the other processes that torchrun started, if it did.

    Whatever ends one of them ends all, and the user is told once: an error that another process has reported is
    marked as `TextReidError.reported`.

    Args:
        timeout: seconds without an answer from another process after which it counts as hung.

    Raises:
        ProcessError: another process failed, was killed or hangs.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Processes()
        return
    store, rank, count = next(iter(rendezvous("env://")))
    # Votes and objects are on the CPU even where the network is on a GPU.
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    processes = Processes(rank, count, store)
    # Some have read their data hours earlier: they wait here, since the group has the short timeout of a step.
    processes.all_gather_object(None)
    dist.init_process_group(backend, store=store, rank=rank, world_size=count, timeout=timedelta(seconds=timeout))
    _KEPT_GROUPS.append(dist.group.WORLD)
    try:
        yield processes
        processes.any_true(False)  # nobody hangs up while another is listening
    except TextReidError as error:
        error.reported = not _report(store, rank)
        raise
    except Exception as error:
        if not _is_of_connection(error):
            _report(store, rank)
            raise
        lost = ProcessError(_describe_loss(store, rank, count, timeout))
        lost.reported = not _report(store, rank)
        raise lost from error
    else:
        dist.destroy_process_group()
    finally:
        time.sleep(_EXIT_GRACE_S)


def _report(store: "Store", rank: int) -> bool:
    """Tell whether this process is the first that has something to report."""
    try:
        # One indivisible request to the store: a single process finds its own rank there.
        return bool(store.compare_set(_REPORT, "", str(rank)).decode() == str(rank))
    except RuntimeError:  # the store went down with the process that kept it
        return True


def _is_of_connection(error: Exception) -> bool:
    # Gloo has no class of errors; its messages begin with the path of its source.
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error))


def _describe_loss(store: "Store", rank: int, count: int, timeout: int) -> str:
    try:
        store.set(f"{_LEFT}/{rank}", "")
        deadline = time.monotonic() + _REPORT_GRACE_S
        while True:
            missing = [str(other) for other in range(count) if not store.check([f"{_LEFT}/{other}"])]
            if len(missing) <= 1 or time.monotonic() > deadline:
                break
            time.sleep(0.1)
    except RuntimeError:
        missing = []
    who = f"process {' and '.join(missing)} of 0 to {count - 1}" if missing else "another process"
    return (
        f"{who} ended, or gave no answer for {timeout} s (training.timeout); "
        "go on from the last checkpoint with --resume"
    )


def local_processes() -> int:
    """Count the processes of the run on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def own_gpu() -> str | None:
    """Find the GPU of this process, one of several on a machine with GPUs; None where there is nothing to choose.

    Raises:
        ConfigError: this machine has fewer GPUs than processes of the run.
    """
    if local_processes() == 1 or not torch.cuda.is_available():
        return None
    if torch.cuda.device_count() < local_processes():
        raise ConfigError(
            f"torchrun: {local_processes()} processes on this machine with {torch.cuda.device_count()} GPUs; "
            "start one for each (--nproc-per-node)"
        )
    rank = int(os.environ["LOCAL_RANK"])
    torch.cuda.set_device(rank)
    return f"cuda:{rank}"
