"""A captioner that says what a test wants, and a place where a job runs with it."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from textreid.captioning.counts import JobCounts
from textreid.captioning.engine import LocalEngine
from textreid.captioning.job import caption_images
from textreid.captioning.requests import Caption, Captioner, CaptionFailure, Request, Settings, Usage, slots_of
from textreid.captions.table import CaptionRow
from textreid.captions.writer import caption_rows

GOOD = Caption("A man in a red coat and black shoes.", usage=Usage(100, 10))
LATER = CaptionFailure("time-out", "no answer within 5 s")
NEVER = CaptionFailure("unreadable-image", "2.jpg: damaged", permanent=True)
Reply = Callable[[str, Request, int], Caption | CaptionFailure]


def tokens(usage: Usage) -> tuple[int, int]:
    """The tokens of a usage, whatever the time."""
    return usage.prompt_tokens, usage.completion_tokens


@dataclass
class Scripted:
    """A captioner that follows ``reply(image, request, times asked before)`` and remembers what it was asked."""

    root: Path
    reply: Reply = lambda image, request, times: GOOD
    name: str = "qwen"
    asked: list[tuple[str, Request]] = field(default_factory=list)
    busy: int = 0
    busiest: int = 0
    closed: bool = False

    async def caption(self, image: Path, requests: Sequence[Request]) -> list[Caption | CaptionFailure]:
        name = image.relative_to(self.root).as_posix()
        self.busy += 1
        self.busiest = max(self.busiest, self.busy)
        await asyncio.sleep(0.001)
        self.busy -= 1
        answers = []
        for request in requests:
            times = sum(each[0] == name and each[1].instruction.kind == request.instruction.kind for each in self.asked)
            self.asked.append((name, request))
            answers.append(self.reply(name, request, times))
        return answers

    async def aclose(self) -> None:
        self.closed = True


@dataclass(frozen=True)
class Place:
    """Where a job works, and how it is run."""

    root: Path
    out: Path

    def run(
        self,
        captioner: Captioner,
        images: int = 6,
        settings: Settings | None = None,
        *,
        kinds: Sequence[str] = ("static", "dynamic"),
        retry_failed: bool = False,
        watch: Callable[[JobCounts], None] = lambda counts: None,
    ) -> JobCounts:
        names = [f"{number}.jpg" for number in range(images)]
        slots = slots_of([captioner.name], kinds)
        return caption_images(
            self.root, names, self.out, LocalEngine([captioner]), slots, settings or Settings(),
            retry_failed=retry_failed, watch=watch,
        )  # fmt: skip

    def rows(self) -> dict[tuple[str, str], CaptionRow]:
        found = list(caption_rows(self.out))
        by_key = {(row.image, row.slot): row for row in found}
        assert len(by_key) == len(found)
        return by_key
