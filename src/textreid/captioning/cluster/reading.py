"""Data sets of Ray, read in an event loop."""

import asyncio
import logging
import pickle
import threading
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import suppress
from math import ceil
from typing import Any, TypeVar

import pyarrow as pa

from textreid.captioning.cluster.connection import clear_errors

T = TypeVar("T")
Image = tuple[int, str, Sequence[int]]  # its number, its name, and the columns of the slots that are wanted
_BATCH = 16  # images that travel together
_BLOCKS = 2_000  # at most; each costs the driver milliseconds


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
