"""Ray, started here for one command or found where it runs already, and its data sets, read in an event loop."""

import asyncio
import logging
import os
import pickle
import socket
import threading
import time
from collections.abc import AsyncGenerator, Callable, Collection, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from math import ceil
from typing import Any, Self, TypeVar

import pyarrow as pa

from textreid.captioning.engine import Job
from textreid.errors import ClusterLostError, ConfigError

T = TypeVar("T")
Image = tuple[int, str, Sequence[int]]  # its number, its name, and the columns of the slots that are wanted
_BATCH = 16  # images that travel together
_BLOCKS = 2_000  # at most; each costs the driver milliseconds
_CONNECT_TIMEOUT_S = 5.0
_EXIT_GRACE_S = 10.0  # for the threads of Ray Data to end
_HEARTBEAT_S = 2.0  # between two looks at whether the cluster is there
_RAY_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_DEDUP_LOGS_SKIP_REGEX": "^",  # else its news would come on standard output
    "RAY_worker_niceness": "0",  # workers are as nice as this process, and not nicer by 15
    "RAY_ENABLE_AUTO_CONNECT": "0",  # else it would start anew, unasked, when it was lost
}


class Cluster:
    """Ray, as long as a command needs it; a context manager that ends the Ray that was started here."""

    def __init__(self, address: str | None, workers: int | None) -> None:
        """Start or join it; see `connect`."""
        self._ours = connect(address, workers)
        # What runs by now is Ray's own, or the program's, and need not end before Ray does.
        self._threads = set(threading.enumerate())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind and issubclass(kind, ClusterLostError):
            self.forget()
        self.close()

    def forget(self) -> None:
        """Note that the cluster was lost: there is nothing left to shut down, and Ray would wait for it."""
        self._ours = False

    def close(self) -> None:
        """Leave the cluster; a Ray that was started here ends."""
        if not self._ours:
            return
        import ray

        self._ours = False
        # A thread of Ray Data that asks Ray for something after its shutdown ends the process.
        deadline = time.monotonic() + _EXIT_GRACE_S
        own = {threading.current_thread(), threading.main_thread(), *self._threads}
        for thread in threading.enumerate():
            if thread not in own and not thread.name.startswith("asyncio"):
                thread.join(max(0.0, deadline - time.monotonic()))
        ray.shutdown()


def connect(address: str | None, workers: int | None) -> bool:
    """Start Ray on this machine with ``workers`` CPUs (all of them when None), or join the cluster at ``address``.

    Nothing of it shows: no dashboard, no log lines, no report of usage to Ray's makers. A Ray that this process is
    connected to already is used as it is.

    Returns:
        Whether it is ours to shut down.

    Raises:
        ConfigError: ray is not installed, or there is no cluster at ``address``.
    """
    # Before the import, at which Ray reads some of them; what the user has set stands.
    for name, value in _RAY_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise ConfigError(f'--engine ray: {error}; install the extra: pip install "textreid[cluster]"') from error
    if address:
        _look_for(address)
    if ray.is_initialized():
        return False
    quiet = {"logging_level": logging.ERROR, "log_to_driver": False}
    try:
        with _silence():
            if address:
                ray.init(address, **quiet)
            else:
                ray.init(num_cpus=workers, include_dashboard=False, **quiet)
    except (ConnectionError, RuntimeError, ValueError) as error:
        # Ray explains at length; its first line says what happened.
        place = f"--ray-address {address}" if address else "Ray cannot be started here"
        raise ConfigError(f"{place}: {str(error).strip().splitlines()[0]}") from error
    return True


@contextmanager
def _silence() -> Iterator[None]:
    """Keep the C++ part of Ray, which tells of its own log level, from standard error."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _look_for(address: str) -> None:
    """Fail at once, and not after a minute, where nobody listens."""
    host, colon, port = address.rpartition(":")
    if address == "auto":
        return
    if not colon or not port.isdecimal() or "/" in host:
        raise ConfigError(
            f'--ray-address {address}: expected HOST:PORT of the head node, or "auto"; '
            "this command must run on a machine of the cluster"
        )
    try:
        socket.create_connection((host, int(port)), _CONNECT_TIMEOUT_S).close()
    except (OSError, OverflowError) as error:
        raise ConfigError(f"--ray-address {address}: no Ray cluster answers there: {error}") from error


async def watch_cluster() -> None:
    """Find out when the cluster has gone: Ray itself would wait for it, and then end this process without a word.

    Its head and its part on this machine are looked for; without either, nothing goes on.
    """
    import ray

    context = ray.get_runtime_context()
    here = next(node for node in ray.nodes() if node["NodeID"] == context.get_node_id())
    head = context.gcs_address.rpartition(":")
    while True:
        for host, port in ((head[0], head[2]), (here["NodeManagerAddress"], here["NodeManagerPort"])):
            try:
                _, writer = await asyncio.wait_for(asyncio.open_connection(host, port), _CONNECT_TIMEOUT_S)
            except OSError as error:
                raise _lost(f"{host}:{port} does not answer any more") from error
            writer.close()
        await asyncio.sleep(_HEARTBEAT_S)


@contextmanager
def clear_errors() -> Iterator[None]:
    """Turn what Ray raises into one line."""
    import ray.exceptions

    try:
        yield
    except (ray.exceptions.RayError, ConnectionError, TimeoutError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        # Of an actor that cannot be made Ray shows the traceback, whose last line is the cause.
        raise _lost(lines[-1] if "creation task" in lines[0] else lines[0]) from error


def _lost(reason: str) -> ClusterLostError:
    return ClusterLostError(f"the Ray cluster failed: {reason}; what was written stays: run the same command to go on")


def images_lacking(job: Job, mllms: Collection[str]) -> list[Image]:
    """Return the images that lack captions of ``mllms``, as they travel: each image's slots by their places alone."""
    columns = {slot.name: column for column, slot in enumerate(job.slots)}
    return [(one.number, one.image, [columns[slot.name] for slot in one.slots]) for one in job.pending(mllms)]


def data_set(images: Sequence[Image], rows_at_once: bool = False) -> Any:
    """Return ``images`` as a data set, in rows of a batch each; see `batch_of`. Nothing happens before it is read.

    If ``rows_at_once``, what is made of a row leaves its worker at once, and not when a block is full.
    """
    import ray

    starts = range(0, len(images), _BATCH)
    rows = [{"work": pickle.dumps(list(images[start : start + _BATCH]))} for start in starts]
    with ray.data.DataContext.current(_quiet_context(rows_at_once)):
        return ray.data.from_items(rows, override_num_blocks=min(_BLOCKS, len(rows)))


def batches_of(images: Sequence[Image]) -> int:
    """Return the number of rows in the data set of ``images``."""
    return ceil(len(images) / _BATCH)


def batch_of(work: bytes) -> list[Image]:
    """Return the images of a row."""
    batch: list[Image] = pickle.loads(work)  # noqa: S301 - from `data_set`
    return batch


def _quiet_context(rows_at_once: bool) -> Any:
    import ray

    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    context = ray.data.DataContext.get_current().copy()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.execution_no_progress_timeout_s = -1  # an MLLM may be slow, or its server away for a while
    if rows_at_once:
        context.target_max_block_size = 1
    return context


async def read(dataset: Any) -> AsyncGenerator[list[dict[str, Any]], None]:
    """Yield the rows of ``dataset``, those that come together in one list.

    Raises:
        ClusterLostError: Ray cannot go on.
    """
    blocks = _blocks(dataset)
    try:
        while True:
            with clear_errors():
                block = await in_thread(lambda: next(blocks, None))
            if block is None:
                return
            yield block.to_pylist()
    finally:
        with suppress(ValueError):  # it is being read at this moment, and ends with its reader
            blocks.close()


def _blocks(dataset: Any) -> Generator[pa.Table, None, None]:
    import ray.exceptions

    blocks = iter(dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0))
    try:
        for block in blocks:  # noqa: UP028 - it would close them by itself
            yield block
    finally:
        with suppress(ray.exceptions.RayError):  # the cluster may have gone
            blocks.close()


async def in_thread(call: Callable[[], T]) -> T:
    """Return the result of ``call``, in a thread that does not keep the process alive, as an executor's would."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if future.cancelled():
            return
        if error:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    def work() -> None:
        result, error = None, None
        try:
            result = call()
        except BaseException as problem:
            error = problem
        with suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=work, daemon=True).start()
    return await future
