"""Who does the asking of a captioning job: this process, or (`textreid.captioning.cluster.engine`) many."""

import asyncio
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from textreid.captioning.requests import Answer, Captioner, Settings, Slot, caption_image


@dataclass(frozen=True, slots=True)
class Work:
    """What one image lacks: ``number`` is its place in the job, ``slots`` are in the job's order."""

    number: int
    image: str
    slots: tuple[Slot, ...]


class Job(Protocol):
    """What an engine sees of a captioning job.

    Attributes:
        root: folder of the images.
        slots: what every image gets.
        settings: how to ask.
        stopped: set when nothing more may be begun; what is under way is to be finished and delivered.
    """

    root: Path
    slots: tuple[Slot, ...]
    settings: Settings
    stopped: asyncio.Event

    def pending(self, mllms: Collection[str]) -> Iterator[Work]:
        """The images that lack captions of ``mllms``; ends when the job is stopped."""
        ...

    async def deliver(self, number: int, answers: Sequence[Answer]) -> None:
        """Take the answers of image ``number``; they are on the disk when this returns.

        Raises:
            CaptionError: it is useless to go on.
            ArtifactError: they cannot be written.
        """
        ...


class Engine(Protocol):
    """Brings the images of a job to the MLLMs and the answers back."""

    async def run(self, job: Job) -> None:
        """Ask once for everything that ``job`` lacks, and deliver every answer."""
        ...

    async def aclose(self) -> None:
        """Let go of everything; nothing is under way."""
        ...


class LocalEngine:
    """Asks from this process: one event loop, ``in_flight`` images of each captioner at once."""

    def __init__(self, captioners: Sequence[Captioner]) -> None:
        self._captioners = captioners

    async def run(self, job: Job) -> None:
        """Ask once for everything that ``job`` lacks, and deliver every answer."""
        async with asyncio.TaskGroup() as group:
            for captioner in self._captioners:
                work = job.pending({captioner.name})
                for _ in range(job.settings.in_flight):
                    group.create_task(self._work(job, captioner, work))

    async def aclose(self) -> None:
        """Close the captioners."""
        for captioner in self._captioners:
            await captioner.aclose()

    @staticmethod
    async def _work(job: Job, captioner: Captioner, work: Iterator[Work]) -> None:
        for one in work:
            await job.deliver(one.number, await caption_image(captioner, job.root, one.image, one.slots, job.settings))
