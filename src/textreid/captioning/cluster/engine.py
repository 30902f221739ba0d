"""Captioning by many processes, on one machine or a cluster: Ray Data over the images that lack captions.

The driver alone knows the table. Workers get the names of images and give back answers, a batch at a time, in the
order in which they got them: Ray then repeats what a killed worker had in hand without changing what came before.
"""

import asyncio
import os
import pickle
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow as pa

from textreid.captioning.cluster.connection import (
    Cluster,
    Image,
    batch_of,
    batches_of,
    clear_errors,
    data_set,
    images_lacking,
    in_thread,
    read,
    watch_cluster,
)
from textreid.captioning.cluster.vllm_batch import BatchMLLM, ask_in_batches
from textreid.captioning.engine import FirstAnswers, Job, caption_image
from textreid.captioning.requests import Answer, Captioner, Settings, Slot
from textreid.errors import ClusterLostError, ConfigError

_AT_ONCE = 64  # images of one call of a worker: Ray Data has four of our batches under way


@dataclass(frozen=True)
class _Result:
    """Result that a worker made of a batch.

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


class RayEngine:
    """Engine that asks from ``workers`` processes, which together work on ``in_flight`` images.

    Keys do not travel in Ray's descriptions of tasks, actors or environments, which its dashboard and its state API
    show: an actor that is made without them is given them in memory, and tells the workers.

    Args:
        open_captioners: makes them in a worker; must be picklable.
        address: ``"host:port"`` or ``"auto"`` of a running cluster, whose machines must have the same textreid and
            see the images under the same path; None starts Ray here.
        workers: processes; one for each CPU of the cluster, or GPU where they use them, when None.
        keys: environment variables that the captioners read.
        on_gpu: whether each worker gets a GPU of its own, where there are any.
        batch_mllms: MLLMs that Ray Data's LLM batch API runs, after the captioners.

    Raises:
        ConfigError: ray is not installed, or there is no cluster at ``address``.
    """

    trouble = ""  # workers tell of trouble when they have an answer

    def __init__(
        self,
        open_captioners: Callable[[], Sequence[Captioner]],
        *,
        address: str | None = None,
        workers: int | None = None,
        keys: Mapping[str, str] | None = None,
        on_gpu: bool = False,
        batch_mllms: Sequence[BatchMLLM] = (),
    ) -> None:
        self._open, self._keys, self._batch_mllms = open_captioners, dict(keys or {}), batch_mllms
        self._cluster = Cluster(address, workers)
        import ray

        resources = ray.cluster_resources()
        self._gpus = 1 if on_gpu and resources.get("GPU", 0) >= 1 else 0
        self.workers = workers or max(1, int(resources.get("GPU" if self._gpus else "CPU", 1)))

    async def run(self, job: Job) -> None:
        """Ask once for everything that ``job`` lacks, and deliver every answer."""
        by_workers = {slot.mllm for slot in job.slots} - {one.name for one in self._batch_mllms}
        images = images_lacking(job, by_workers)
        try:
            async with asyncio.TaskGroup() as group:
                watcher = group.create_task(watch_cluster())
                if images:
                    await self._ask_workers(job, images)
                for mllm in self._batch_mllms:
                    await ask_in_batches(mllm, job)
                watcher.cancel()  # the group would wait for it, and it has no end of its own
        except* ClusterLostError:
            self._cluster.forget()
            raise

    async def aclose(self) -> None:
        """Leave the cluster; a Ray that was started here ends."""
        await in_thread(self._cluster.close)

    async def _ask_workers(self, job: Job, images: Sequence[Image]) -> None:
        import ray

        with clear_errors():
            control = ray.remote(num_cpus=0)(_Control).remote()
            # Waited for, since workers ask for the keys before they make a captioner.
            await control.hold.remote(self._keys)
        stop_task = asyncio.create_task(_stop(job, control))
        workers = min(self.workers, batches_of(images))
        try:
            dataset = await in_thread(lambda: self._captioned(job, images, control, workers))
            await _deliver(job, dataset, workers)
        finally:
            stop_task.cancel()

    def _captioned(self, job: Job, images: Sequence[Image], control: Any, workers: int) -> Any:
        """Return the data set of results; nothing happens before it is read."""
        import ray

        at_once = ceil(job.settings.in_flight / workers)
        calls = 1 + ceil(at_once / _AT_ONCE)
        return data_set(images, rows_at_once=True).map_batches(
            _Worker,
            fn_constructor_args=(self._open, job.root.resolve(), job.slots, job.settings, control, at_once, job.useful),
            batch_size=1,
            batch_format="pyarrow",
            num_cpus=1,
            num_gpus=self._gpus,
            compute=ray.data.ActorPoolStrategy(
                size=workers, max_tasks_in_flight_per_actor=2 * calls, max_concurrent_calls_per_actor=calls
            ),
        )


class _Control:
    """The actor that workers ask for keys and for when to stop."""

    def __init__(self) -> None:
        self._keys: dict[str, str] = {}
        self._stopped = asyncio.Event()

    async def hold(self, keys: dict[str, str]) -> None:
        self._keys = keys

    async def keys(self) -> dict[str, str]:
        return self._keys

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
        control: Any,
        at_once: int,
        useful: Collection[str],
    ) -> None:
        self._name = uuid4().hex
        self._open, self._root, self._slots, self._settings = open_captioners, root, slots, settings
        self._control = control
        self._first = FirstAnswers(useful)
        self._room = asyncio.Semaphore(at_once)
        self._opening: asyncio.Task[Sequence[Captioner]] | None = None
        self._begun = self._answered = 0
        self._idle = asyncio.Condition()

    async def __call__(self, batch: pa.Table) -> AsyncIterator[pa.Table]:
        try:
            result = await self._result(batch_of(batch["work"][0].as_py()))
        except Exception as error:  # to be raised by the driver, which Ray's own error would not tell apart
            result = _Result(self._name, error=error)
        yield pa.table({"result": pa.array([pickle.dumps(result)], pa.binary())})

    async def _result(self, batch: Sequence[Image]) -> _Result:
        # One task, for the calls that come at once all wait for the same captioners.
        if self._opening is None:
            self._opening = asyncio.create_task(self._opened())
        captioners = await asyncio.shield(self._opening)
        answers = await asyncio.gather(*(self._asked(captioners, image) for image in batch))
        answered = [(image[0], each) for image, each in zip(batch, answers, strict=True) if each is not None]
        if answered:
            return _Result(self._name, answered)
        # Nothing of this batch was begun, for the job was stopped: the worker's last word, when its other calls end.
        async with self._idle:
            await self._idle.wait_for(lambda: self._begun == self._answered)
        return _Result(self._name, drained=self._answered)

    async def _opened(self) -> Sequence[Captioner]:
        if not self._root.is_dir():
            raise ConfigError(
                f"{self._root}: a worker of the Ray cluster, on {os.uname().nodename}, sees no such folder; "
                "mount the images under the same path on every machine"
            )
        # Before the captioners are made, which read keys and proxies from the environment.
        os.environ.update(await self._control.keys.remote())
        self._stopped = asyncio.ensure_future(self._control.stopped.remote())
        return self._open()

    async def _asked(self, captioners: Sequence[Captioner], image: Image) -> list[Answer] | None:
        """Return the answers about one image; None if the job was stopped before."""
        _, name, columns = image
        async with self._room:
            # Asked inside: what has waited for room must not begin after a stop.
            if self._stopped.done():
                return None
            self._begun += 1
            lacking = [self._slots[column] for column in columns]
            answers = await asyncio.gather(
                *(
                    caption_image(captioner, self._root, name, slots, self._settings, self._first)
                    for captioner in captioners
                    if (slots := [slot for slot in lacking if slot.mllm == captioner.name])
                )
            )
            async with self._idle:
                self._answered += 1
                self._idle.notify_all()
        return [answer for some in answers for answer in some]


async def _deliver(job: Job, dataset: Any, workers: int) -> None:
    received: Counter[str] = Counter()
    drained: dict[str, int] = {}
    async with aclosing(read(dataset)) as blocks:
        async for result in (pickle.loads(row["result"]) async for rows in blocks for row in rows):  # noqa: S301
            if result.error:
                raise result.error
            await asyncio.gather(*(job.deliver(number, answers) for number, answers in result.answers))
            received[result.worker] += len(result.answers)
            if result.drained is not None:
                drained[result.worker] = result.drained
            # To read the data set to its end would send all that is left through the workers. By their counts, for a
            # worker's last word may come before answers of its other calls.
            if len(drained) >= workers and all(received[each] == drained[each] for each in drained):
                return


async def _stop(job: Job, control: Any) -> None:
    await job.stopped.wait()
    with clear_errors():
        await control.stop.remote()
