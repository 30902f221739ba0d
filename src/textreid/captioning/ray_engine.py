"""Captioning by many processes, on one machine or a cluster: Ray Data over the images that lack captions.

The driver alone knows the table. Workers get the names of images and give back answers, a batch at a time, in the
order in which they got them: Ray then repeats what a killed worker had in hand without changing what came before.
"""

import asyncio
import os
import pickle
import threading
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from math import ceil
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import pyarrow as pa

from textreid.captioning.asking import Answer, Settings, Slot, caption_image
from textreid.captioning.captioner import Captioner
from textreid.captioning.engine import Job
from textreid.captioning.ray_cluster import connect, doors
from textreid.errors import CaptionError, ConfigError

_BATCH = 16  # images whose answers travel together
_BLOCKS = 2_000  # at most; each costs the driver milliseconds
_BATCHES_AT_ONCE = 4  # of one call of a worker, by Ray Data's own default
_HEARTBEAT, _PATIENCE = 2.0, 30.0  # seconds

T = TypeVar("T")
_Image = tuple[int, str, Sequence[int]]  # its number, its name, and the columns of the slots that it lacks


@dataclass(frozen=True)
class _Result:
    """What a worker made of a batch.

    Attributes:
        worker: which one.
        answers: of each image that it asked for, by number.
        drained: where it was told to stop and has nothing under way any more, how many images it answered in all.
        error: what makes it useless to go on.
    """

    worker: str
    answers: Sequence[tuple[int, list[Answer]]] = ()
    drained: int | None = None
    error: Exception | None = None


class ClusterLostError(CaptionError):
    """The Ray cluster has gone in the middle of a job."""


class RayEngine:
    """Asks from ``workers`` processes, which together work on ``in_flight`` images.

    Keys do not travel in Ray's descriptions of tasks, actors or environments, which its dashboard and its state API
    show: an actor that is made without them is given them in memory, and tells the workers.

    Args:
        open_captioners: makes them in a worker; must be picklable.
        address: ``"host:port"`` or ``"auto"`` of a running cluster, whose machines must have the same textreid and
            see the images under the same path; None starts Ray here.
        workers: processes; the number of CPUs of the cluster when None.
        keys: environment variables that the captioners read.

    Raises:
        ConfigError: ray is not installed, or there is no cluster at ``address``.
    """

    def __init__(
        self,
        open_captioners: Callable[[], Sequence[Captioner]],
        *,
        address: str | None = None,
        workers: int | None = None,
        keys: Mapping[str, str] | None = None,
    ) -> None:
        self._open = open_captioners
        self._ours = connect(address, workers)
        self._keys = dict(keys or {})
        import ray

        self.workers = workers or max(1, int(ray.cluster_resources().get("CPU", 1)))

    async def run(self, job: Job) -> None:
        """Ask once for everything that ``job`` lacks, and deliver every answer."""
        import ray

        work = list(_batches(job))
        if not work:
            return
        with _clear_errors():
            desk = ray.remote(num_cpus=0)(_Desk).remote()
            await desk.hold.remote(self._keys)
        try:
            async with asyncio.TaskGroup() as group:
                attendants = [group.create_task(each) for each in (_watch(doors()), _stop(job, desk))]
                await self._deliver(job, await _in_thread(lambda: self._captioned(job, work, desk)))
                for attendant in attendants:
                    attendant.cancel()
        except* ClusterLostError:
            self._ours = False  # there is nothing left to shut down, and Ray would wait for it
            raise

    async def aclose(self) -> None:
        """Let go of the cluster; a Ray that was started here ends."""
        if self._ours:
            import ray

            ray.shutdown()

    def _captioned(self, job: Job, work: Sequence[Mapping[str, bytes]], desk: Any) -> Any:
        """The data set of results; nothing happens before it is read."""
        import ray

        at_once = ceil(job.settings.in_flight / self.workers)
        calls = 1 + ceil(at_once / (_BATCH * _BATCHES_AT_ONCE))
        with ray.data.DataContext.current(_quiet_context()):
            return ray.data.from_items(work, override_num_blocks=min(_BLOCKS, len(work))).map_batches(
                _Worker,
                fn_constructor_args=(self._open, job.root.resolve(), job.slots, job.settings, desk, at_once),
                batch_size=1,
                batch_format="pyarrow",
                num_cpus=1,
                compute=ray.data.ActorPoolStrategy(
                    size=self.workers, max_tasks_in_flight_per_actor=2 * calls, max_concurrent_calls_per_actor=calls
                ),
            )

    async def _deliver(self, job: Job, dataset: Any) -> None:
        received: Counter[str] = Counter()
        drained: dict[str, int] = {}
        async with aclosing(_read(dataset)) as results:
            async for result in results:
                if result.error:
                    raise result.error
                received[result.worker] += len(result.answers)
                if result.drained is not None:
                    drained[result.worker] = result.drained
                await asyncio.gather(*(job.deliver(number, answers) for number, answers in result.answers))
                if len(drained) >= self.workers and all(received[each] == drained[each] for each in drained):
                    return


class _Desk:
    """The actor that workers ask for keys and for when to stop."""

    def __init__(self) -> None:
        self._keys: dict[str, str] = {}
        self._stopped = asyncio.Event()

    async def hold(self, keys: dict[str, str]) -> None:
        self._keys = keys

    async def keys(self) -> dict[str, str]:
        return self._keys

    async def ping(self) -> None:
        pass

    async def stop(self) -> None:
        self._stopped.set()

    async def stopped(self) -> None:
        await self._stopped.wait()


class _Worker:
    """The actor that asks; Ray Data calls it with one batch after another, several at once in one event loop."""

    def __init__(
        self,
        open_captioners: Callable[[], Sequence[Captioner]],
        root: Path,
        slots: Sequence[Slot],
        settings: Settings,
        desk: Any,
        at_once: int,
    ) -> None:
        self._name = uuid4().hex
        self._open, self._root, self._slots, self._settings, self._desk = open_captioners, root, slots, settings, desk
        self._room = asyncio.Semaphore(at_once)
        self._opening: asyncio.Task[Sequence[Captioner]] | None = None
        self._begun = self._answered = 0
        self._idle = asyncio.Condition()

    async def __call__(self, batch: pa.Table) -> AsyncIterator[pa.Table]:
        try:
            result = await self._result(pickle.loads(batch["work"][0].as_py()))  # noqa: S301 - from our own driver
        except Exception as error:  # to be raised by the driver, which Ray's own error would not tell apart
            result = _Result(self._name, error=error)
        yield pa.table({"result": pa.array([pickle.dumps(result)], pa.binary())})

    async def _result(self, batch: Sequence[_Image]) -> _Result:
        if self._opening is None:
            self._opening = asyncio.create_task(self._opened())
        captioners = await asyncio.shield(self._opening)
        answers = await asyncio.gather(*(self._asked(captioners, image) for image in batch))
        answered = [(image[0], each) for image, each in zip(batch, answers, strict=True) if each is not None]
        if answered:
            return _Result(self._name, answered)
        async with self._idle:
            await self._idle.wait_for(lambda: self._begun == self._answered)
        return _Result(self._name, drained=self._answered)

    async def _opened(self) -> Sequence[Captioner]:
        if not self._root.is_dir():
            raise ConfigError(
                f"{self._root}: a worker of the Ray cluster, on {os.uname().nodename}, sees no such folder; "
                "mount the images under the same path on every machine"
            )
        os.environ.update(await self._desk.keys.remote())
        self._stopped = asyncio.ensure_future(self._desk.stopped.remote())
        return self._open()

    async def _asked(self, captioners: Sequence[Captioner], image: _Image) -> list[Answer] | None:
        """The answers about one image; None if the job was stopped before."""
        _, name, columns = image
        async with self._room:
            if self._stopped.done():
                return None
            self._begun += 1
            lacking = [self._slots[column] for column in columns]
            answers = await asyncio.gather(
                *(
                    caption_image(captioner, self._root, name, slots, self._settings)
                    for captioner in captioners
                    if (slots := [slot for slot in lacking if slot.mllm == captioner.name])
                )
            )
            async with self._idle:
                self._answered += 1
                self._idle.notify_all()
        return [answer for some in answers for answer in some]


def _batches(job: Job) -> Iterator[dict[str, bytes]]:
    """What ``job`` lacks, as rows for Ray Data."""
    columns = {slot.name: column for column, slot in enumerate(job.slots)}
    images = (
        (one.number, one.image, [columns[slot.name] for slot in one.slots])
        for one in job.pending({slot.mllm for slot in job.slots})
    )
    while batch := list(islice(images, _BATCH)):
        yield {"work": pickle.dumps(batch)}


def _quiet_context() -> Any:
    """Ray Data's settings: it is silent, and a batch leaves its worker at once and not when a block is full."""
    import logging

    import ray

    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    context = ray.data.DataContext.get_current().copy()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.target_max_block_size = 1
    context.execution_no_progress_timeout_s = -1  # an MLLM may be slow, or its server away for a while
    return context


async def _read(dataset: Any) -> AsyncGenerator[_Result, None]:
    blocks = _blocks(dataset)
    try:
        while True:
            with _clear_errors():
                block = await _in_thread(lambda: next(blocks, None))
            if block is None:
                return
            for payload in block["result"].to_pylist():
                yield pickle.loads(payload)  # noqa: S301 - from our own workers
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


async def _watch(places: Sequence[tuple[str, int]]) -> None:
    """Find out when the cluster has gone: Ray itself would wait for it, and then end this process without a word."""
    while True:
        for host, port in places:
            try:
                _, writer = await asyncio.wait_for(asyncio.open_connection(host, port), _PATIENCE)
            except OSError as error:
                raise _lost(f"{host}:{port} does not answer any more") from error
            writer.close()
        await asyncio.sleep(_HEARTBEAT)


async def _stop(job: Job, desk: Any) -> None:
    await job.stopped.wait()
    with _clear_errors():
        await desk.stop.remote()


@contextmanager
def _clear_errors() -> Iterator[None]:
    """Turn what Ray raises into one line."""
    import ray.exceptions

    try:
        yield
    except (ray.exceptions.RayError, ConnectionError, TimeoutError) as error:
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise _lost(reason) from error


def _lost(reason: str) -> ClusterLostError:
    return ClusterLostError(f"the Ray cluster failed: {reason}; what was written stays: run the same command to go on")


async def _in_thread(call: Callable[[], T]) -> T:
    """The result of ``call``, in a thread that does not keep the process alive, as an executor's would."""
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
