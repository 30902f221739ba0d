"""What an image is asked, what a captioner is, and what becomes of an answer: the terms of a captioning job.

A captioner is one method from a picture and the requests about it to captions. What a caption is asked with depends on
the seed, the image and the slot alone, so images may be asked about anywhere and in any order.
"""

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from textreid.captioning.instructions import (
    Instruction,
    dynamic_instructions,
    static_instruction,
    style_instructions,
)
from textreid.captioning.templates import Template
from textreid.captions.cleaning import OK, Cleaned, clean
from textreid.captions.sidecars import ERRORS, RAW
from textreid.captions.table import CaptionRow
from textreid.errors import ConfigError, nearest_name
from textreid.images import read_image
from textreid.seeding import Chance

if TYPE_CHECKING:
    from PIL.Image import Image

Span = tuple[int, int]
FAILED = "failed-"  # in front of the kind of a failure: the status of a row without a caption
_JPEG_QUALITY = 90
# In lower case: OpenAI and vLLM say length, Anthropic and Gemini max_tokens, Mistral model_length.
_CUT_OFF = ("length", "max_tokens", "max_output_tokens", "model_length")
# OpenAI and Azure say content_filter; the other names are those of Gemini.
_WITHHELD = ("content_filter", "safety", "prohibited_content", "recitation", "blocklist")
NO_THOUGHTS = """--field chat_template_kwargs='{"enable_thinking": false}'"""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens that were read and written, as the server counts them (zeros where nobody counts), and the time.

    ``seconds`` is that of a whole MLLM, from the start of a run to its last answer in it; single answers have none.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.seconds + other.seconds,
        )


@dataclass(frozen=True, slots=True)
class Request:
    """One caption that is wanted of a picture: how it is asked for, and the seed of the answer."""

    instruction: Instruction
    seed: int


@dataclass(frozen=True, slots=True)
class Caption:
    """A caption as it came, and where it is known to be wrong.

    ``errors`` holds half-open character spans, in order, without overlap; only a captioner that knows the truth
    fills it, so an empty one says nothing about a real MLLM.

    Attributes:
        text: the answer as it came, wrappings and all.
        errors: see above.
        usage: what it took.
        finish_reason: why it ends, in the server's words (``"stop"``, ``"length"``); empty where that is not known.
        notices: what the captioner has found out meanwhile and its user should be told.
    """

    text: str
    errors: tuple[Span, ...] = ()
    usage: Usage = Usage()
    finish_reason: str = ""
    notices: tuple[str, ...] = ()

    @property
    def cut_off(self) -> bool:
        """Whether it ends because it reached the most tokens allowed."""
        return self.finish_reason.lower() in _CUT_OFF


@dataclass(frozen=True, slots=True)
class CaptionFailure:
    """Reason why a request has no answer, after whatever retries the captioner makes by itself.

    Attributes:
        kind: short name in the form of ``"time-out"``, ``"http-500"``, ``"unreadable-image"``; it is counted, and
            ``failed-KIND`` is the status of a row that stays without a caption.
        message: what happened, for people; holds no secret.
        permanent: the same request would fail again, whenever it is made (a damaged image).
        fatal: every request would fail like this (a refused key, an unknown model): the job stops and says so.
        notices: as of `Caption`.
    """

    kind: str
    message: str
    permanent: bool = False
    fatal: bool = False
    notices: tuple[str, ...] = ()


class Captioner(Protocol):
    """Anything that writes sentences about a picture.

    `caption` is called for many pictures at once, in one event loop; how many requests are really under way is the
    captioner's own decision. One that asks again by itself may say in an attribute ``trouble`` what goes wrong.
    """

    @property
    def name(self) -> str:
        """The first half of its slots: ``"qwen"`` in ``"qwen/static"``."""
        ...

    async def caption(self, image: Path, requests: Sequence[Request]) -> list[Caption | CaptionFailure]:
        """Answer every request about the file ``image``, in their order; what cannot be answered is a failure."""
        ...

    async def aclose(self) -> None:
        """Let go of connections and threads; no request is under way."""
        ...


@dataclass(frozen=True)
class Settings:
    """Settings of a job.

    Attributes:
        seed: of the choice of instructions and of the MLLMs' sampling.
        attempts: how often one caption is asked for, at most, while the cleaning rules reject it.
        max_failures: share of captions that may be missing in the end; above it the job fails.
        in_flight: images that an MLLM works on at once, at most; captioners may go below it by themselves.
    """

    seed: int = 0
    attempts: int = 3
    max_failures: float = 0.05
    in_flight: int = 256

    def __post_init__(self) -> None:
        if self.attempts < 1 or self.in_flight < 1 or not 0 <= self.max_failures <= 1:
            raise ConfigError("attempts and in_flight must be 1 or more, and max_failures from 0 to 1")


@dataclass(frozen=True)
class Slot:
    """Caption that every image gets: ``mllm`` is asked with one of ``choices``, which ``label`` names."""

    mllm: str
    label: str
    choices: tuple[Instruction, ...]

    @property
    def name(self) -> str:
        """Its name in the table: ``"qwen/static"``."""
        return f"{self.mllm}/{self.label}"


def slots_of(
    mllms: Sequence[str], labels: Sequence[str], templates: Mapping[str, Template] | None = None
) -> list[Slot]:
    """Return the slots of a job: each of ``mllms`` with each of ``labels``.

    ``"static"`` is the request alone, ``"dynamic"`` adds one of ``templates`` (ours when None), ``"styled"`` a style.

    Raises:
        ConfigError: a label that is unknown, or given twice.
    """
    choices: dict[str, Callable[[], tuple[Instruction, ...]]] = {
        "static": lambda: (static_instruction(),),
        "dynamic": lambda: dynamic_instructions(templates),
        "styled": style_instructions,
    }
    for label in labels:
        if label not in choices or labels.count(label) > 1:
            hint = nearest_name(label, choices)
            hint = f"{hint} " if hint.startswith("did you mean") and label not in choices else ""
            expected = f"expected some of {', '.join(choices)}, each once, such as --slots static,dynamic"
            raise ConfigError(f"--slots: {label!r}: {hint}{expected}")
    chosen = {label: choices[label]() for label in labels}
    return [Slot(mllm, label, chosen[label]) for mllm in mllms for label in labels]


@dataclass(frozen=True)
class Answer:
    """Outcome of one slot of one image.

    Attributes:
        row: with a ``failure``, it has no caption.
        rejected: the rules that earlier answers broke.
        usage: of all answers.
        failure: why there is no caption.
        errors: spans of the caption that the captioner knows to be wrong.
        cut: wrappings that were taken off the caption.
        raw: the answer before that; empty if nothing was cut.
        notices: as of `Caption`.
    """

    row: CaptionRow
    rejected: tuple[str, ...] = ()
    usage: Usage = Usage()
    failure: CaptionFailure | None = None
    errors: tuple[Span, ...] = ()
    cut: tuple[str, ...] = ()
    raw: str = ""
    notices: tuple[str, ...] = ()

    @property
    def mllm(self) -> str:
        """Who was asked."""
        return self.row.mllm

    def known_beside(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield file and line of what a table keeps beside the row."""
        key = {"image": self.row.image, "slot": self.row.slot}
        if self.errors:
            yield ERRORS, {**key, "spans": self.errors}
        if self.cut:
            yield RAW, {**key, "cut": self.cut, "raw": self.raw}


def requests_for(image: str, slot: Slot, settings: Settings) -> list[Request]:
    """Return what ``slot`` of ``image`` is asked, at first and after each rejection: another instruction each time."""
    # Nothing else goes in, such as a place in the order: a job that grows or goes on elsewhere asks the same.
    chance = Chance.of(settings.seed, "captions", slot.name, image)
    choices: list[Instruction] = []
    requests = []
    for _ in range(settings.attempts):
        # A static slot has one choice, so that only the seed can bring another answer.
        choices = choices or list(slot.choices)
        instruction = choices.pop(chance.whole(0, len(choices)))
        # Below 2^31: some servers hold a seed in a signed integer of 32 bits.
        requests.append(Request(instruction, chance.whole(0, 1 << 31)))
    return requests


def is_rejected(answer: Answer) -> bool:
    """Tell whether a cleaning rule says no, so that another answer may be asked for."""
    return answer.failure is None and answer.row.status != OK


def answer_of(
    image: str, slot: Slot, request: Request, caption: Caption | CaptionFailure, before: Answer | None
) -> Answer:
    """Judge what became of ``slot`` of ``image``, now that ``request`` is answered, after the answer ``before``."""
    instruction = request.instruction
    came = caption if isinstance(caption, Caption) else Caption("")
    failure = caption if isinstance(caption, CaptionFailure) else _unfinished(caption)
    cleaned = Cleaned("", FAILED + failure.kind, "") if failure else clean(came.text)
    row = CaptionRow(
        image, slot.name, cleaned.caption, slot.mllm, instruction.kind,
        instruction.template_id, instruction.prompt_hash, request.seed, cleaned.status,
    )  # fmt: skip
    return Answer(
        row,
        rejected=(*before.rejected, before.row.status) if before else (),
        usage=before.usage + came.usage if before else came.usage,
        failure=failure,
        errors=_moved(came.errors, cleaned),
        cut=cleaned.cut,
        raw=cleaned.raw if cleaned.cut else "",
        notices=(*(before.notices if before else ()), *caption.notices),
    )


def _moved(spans: Sequence[Span], cleaned: Cleaned) -> tuple[Span, ...]:
    """Return spans of the raw answer as spans of the caption; empty where cleaning changed more than its ends."""
    start = cleaned.raw.find(cleaned.caption) if cleaned.status == OK else -1
    inside = [(low - start, high - start) for low, high in spans]
    return tuple(span for span in inside if 0 <= span[0] < span[1] <= len(cleaned.caption)) if start >= 0 else ()


def _unfinished(caption: Caption) -> CaptionFailure | None:
    """Say why an answer that came is not kept, if so: a sentence that was cut would pass for a short one."""
    if caption.cut_off:
        # An end tag as the very last word is `dialect`'s, around thoughts that came without an answer.
        thinks = "<think>" in caption.text and "</think>" not in caption.text.rstrip().removesuffix("</think>")
        advice = f"raise --max-tokens, or turn its thoughts off: {NO_THOUGHTS}" if thinks else "raise --max-tokens"
        return CaptionFailure("cut-off", f"the answer reached the most tokens allowed; {advice}")
    if caption.finish_reason.lower() in _WITHHELD:
        return CaptionFailure("withheld", "the server's content filter withheld the answer")
    return None


def read_picture(image: Path, longest_side: int, shortest_side: int = 1) -> "Image":
    """Read a picture as an MLLM is shown it: with sides of at most ``longest_side`` and at least ``shortest_side``.

    Raises:
        ImageError: the file cannot be read as a picture.
    """
    picture = read_image(image, at_least=(longest_side, longest_side))
    # It never enlarges: more pixels of a small crop would only cost more tokens.
    picture.thumbnail((longest_side, longest_side), reducing_gap=2.0)
    # Last, for a server with a least size refuses what is below; a narrow crop may grow beyond the longest side.
    if min(picture.size) < shortest_side:
        scale = shortest_side / min(picture.size)
        picture = picture.resize((round(picture.width * scale), round(picture.height * scale)))
    return picture


def encode_picture(image: Path, longest_side: int, shortest_side: int = 1) -> bytes:
    """Encode `read_picture` as a JPEG; the same file always gives the same bytes (on one version of Pillow)."""
    stream = io.BytesIO()
    read_picture(image, longest_side, shortest_side).save(stream, "JPEG", quality=_JPEG_QUALITY)
    return stream.getvalue()
