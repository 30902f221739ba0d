"""The asking of a captioning job: about one image, and who does it about all.

That is this process, or many of them (`textreid.captioning.cluster.engine`).
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from textreid.captioning.requests import (
    NO_THOUGHTS,
    Answer,
    Captioner,
    Settings,
    Slot,
    answer_of,
    is_rejected,
    requests_for,
)
from textreid.captions.cleaning import OK
from textreid.captions.table import CaptionRow
from textreid.errors import CaptionError

_T = TypeVar("_T")
# First answers of an MLLM, and images that they are about, after which none that can be used means that none will be.
# Both, for a picture without a person alone gives nine: three slots, three attempts.
_ANSWERS, _IMAGES = 48, 12
_EXAMPLE = 300  # characters
_ADVICE = {
    "empty": f"does the model only think, or not see pictures? try {NO_THOUGHTS}, or more --max-tokens",
    "unfinished": "give it more --max-tokens, or serve it with a longer context",
    "markup": f"serve the model with its own chat template, or turn its thoughts off: {NO_THOUGHTS}",
    "unfilled-slot": "the model does not follow templates: leave them out with --slots static",
    "refusal": "does the server pass pictures on, and is the model one that sees? try another model",
    "other-language": "the model answers in another language than English: try another model",
    "repeated-loop": "raise --temperature, or check the server's sampling and its chat template",
    "too-short": "is this a model that follows instructions? raise --max-tokens, or try another model",
    "too-long": f"lower --max-tokens, or turn its thoughts off: {NO_THOUGHTS}",
    "not-about-a-person": "does the server pass pictures on, and are these pictures of people?",
}


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


class FirstAnswers:
    """Test of the first answers of each MLLM: where a few dozen have come and not one can be used, the job stops.

    Without it a model that thinks aloud, or a server with the wrong chat template, would be asked about a whole corpus
    three times over for nothing.

    Args:
        useful: MLLMs that have given usable captions before.
    """

    def __init__(self, useful: Collection[str] = ()) -> None:
        self._useful = set(useful)
        self._rejected: dict[str, list[CaptionRow]] = {}

    def see(self, answer: Answer) -> None:
        """Take note of an answer, whether it will be asked for again or not.

        Raises:
            CaptionError: it is the last of too many that cannot be used; says why, with an example, and what to do.
        """
        row = answer.row
        # Failures have a limit of their own, --max-failures, and tell nothing of the MLLM's words.
        if answer.failure or row.mllm in self._useful:
            return
        if row.status == OK:
            self._useful.add(row.mllm)
            self._rejected.pop(row.mllm, None)
            return
        rejected = self._rejected.setdefault(row.mllm, [])
        rejected.append(row)
        if len(rejected) >= _ANSWERS and len({each.image for each in rejected}) >= _IMAGES:
            raise CaptionError(unusable(rejected))


def unusable(rows: Sequence[CaptionRow]) -> str:
    """Say why none of these answers of one MLLM can be used, with an example and what to do about it."""
    reasons = Counter(row.status for row in rows).most_common()
    first = next(row for row in rows if row.status == reasons[0][0])
    text = first.caption if len(first.caption) <= _EXAMPLE else first.caption[:_EXAMPLE] + "…"
    return (
        f"{first.mllm}: none of its first {len(rows)} answers can be used "
        f"({', '.join(f'{reason} {count}' for reason, count in reasons)}); one, about {first.image}: {text!r}; "
        f"{_ADVICE.get(first.status, 'try another model')}; then run the command again: nothing of them was saved"
    )


async def caption_image(
    captioner: Captioner, root: Path, image: str, slots: Sequence[Slot], settings: Settings, first: FirstAnswers
) -> list[Answer]:
    """Ask for the captions of one image in ``slots`` of one MLLM, and again for those that a cleaning rule rejects.

    The last answer stays if all are rejected, with the rule as its status.

    Raises:
        CaptionError: as `FirstAnswers.see`, which is shown every answer.
    """
    plans = {slot.name: requests_for(image, slot, settings) for slot in slots}
    answers: dict[str, Answer] = {}
    for turn in range(settings.attempts):
        open_ = [slot for slot in slots if (last := answers.get(slot.name)) is None or is_rejected(last)]
        if not open_:
            break
        requests = [plans[slot.name][turn] for slot in open_]
        # In one call, so that a server with a prefix cache reads the picture once.
        captions = await captioner.caption(root / image, requests)
        for slot, request, caption in zip(open_, requests, captions, strict=True):
            answer = answers[slot.name] = answer_of(image, slot, request, caption, answers.get(slot.name))
            # Here, not at the end of all turns: an MLLM of no use is then stopped after a third of the requests.
            first.see(answer)
    return [answers[slot.name] for slot in slots]


AskAboutImage = Callable[
    [Captioner, Path, str, Sequence[Slot], Settings, FirstAnswers], Coroutine[Any, Any, list[Answer]]
]


class LocalEngine:
    """Engine that asks from this process: one event loop, ``in_flight`` images of each captioner at once.

    Args:
        captioners: who is asked.
        ask: asks about one image.
    """

    def __init__(self, captioners: Sequence[Captioner], ask: AskAboutImage = caption_image) -> None:
        self._captioners, self._ask_about = captioners, ask

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

    async def _work(self, job: Job, captioner: Captioner, work: Iterator[Work], first: FirstAnswers) -> None:
        for one in work:
            answers = await self._ask_about(captioner, job.root, one.image, one.slots, job.settings, first)
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
