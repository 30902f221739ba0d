"""Who does the asking of a captioning job: this process, or (`textreid.captioning.cluster.engine`) many."""

import asyncio
from collections.abc import Callable, Collection, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from textreid.captioning.requests import Answer, Captioner, FirstAnswers, Settings, Slot, caption_image

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Work:
    """Slots that one image lacks: ``number`` is its place in the job, ``slots`` are in the job's order."""

    number: int
    image: str
    slots: tuple[Slot, ...]


class Job(Protocol):
    """View that an engine has of a captioning job.

    Attributes:
        root: folder of the images.
        slots: what every image gets.
        settings: how to ask.
        useful: MLLMs that have given usable captions.
        stopped: set when nothing more may be begun; what is under way is to be finished and delivered.
    """

    root: Path
    slots: tuple[Slot, ...]
    settings: Settings
    useful: Collection[str]
    stopped: asyncio.Event

    def pending(self, mllms: Collection[str]) -> Iterator[Work]:
        """Yield the images that lack captions of ``mllms``; ends when the job is stopped."""
        ...

    async def deliver(self, number: int, answers: Sequence[Answer]) -> None:
        """Take the answers of image ``number``; they are on the disk when this returns.

        Raises:
            CaptionError: it is useless to go on.
            ArtifactError: they cannot be written.
        """
        ...


class Engine(Protocol):
    """Way of bringing the images of a job to the MLLMs and the answers back."""

    @property
    def trouble(self) -> str:
        """What goes wrong at this moment, for the user to see; empty if nothing."""
        ...

    async def run(self, job: Job) -> None:
        """Ask once for everything that ``job`` lacks, and deliver every answer."""
        ...

    async def aclose(self) -> None:
        """Free whatever is held; nothing is under way."""
        ...


class LocalEngine:
    """Engine that asks from this process: one event loop, ``in_flight`` images of each captioner at once."""

    def __init__(self, captioners: Sequence[Captioner]) -> None:
        self._captioners = captioners

    @property
    def trouble(self) -> str:
        """What the captioners say that goes wrong."""
        return "; ".join(filter(None, (getattr(captioner, "trouble", "") for captioner in self._captioners)))

    async def run(self, job: Job) -> None:
        """Ask once for everything that ``job`` lacks, and deliver every answer."""
        first = FirstAnswers(job.useful)
        # A group, so that what is fatal to one captioner ends the calls of all at once.
        async with asyncio.TaskGroup() as group:
            for captioner in self._captioners:
                # Each goes through the images by itself: a slow MLLM does not hold up a fast one. Its tasks share one
                # iterator, so that none waits for the slowest of a batch, and none reads ahead.
                work = job.pending({captioner.name})
                for _ in range(job.settings.in_flight):
                    group.create_task(self._work(job, captioner, work, first))

    async def aclose(self) -> None:
        """Close the captioners."""
        for captioner in self._captioners:
            await captioner.aclose()

    @staticmethod
    async def _work(job: Job, captioner: Captioner, work: Iterator[Work], first: FirstAnswers) -> None:
        for one in work:
            answers = await caption_image(captioner, job.root, one.image, one.slots, job.settings, first)
            await job.deliver(one.number, answers)


def run_to_end(main: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
    """Run ``main`` in an event loop; where one runs already, as in a notebook, in another thread."""
    # asyncio.run refuses to run inside a loop, and the loop of a notebook belongs to somebody else.
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(main())
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: asyncio.run(main())).result()
