"""What a captioner is: one method from a picture and the requests about it to captions."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from textreid.captioning.instructions import Instruction

Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens that were read and written for an answer, as the server counts them; zeros where nobody counts."""

    prompt_tokens: int = 0
    completion_tokens: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(self.prompt_tokens + other.prompt_tokens, self.completion_tokens + other.completion_tokens)


NO_USAGE = Usage()


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
    """

    text: str
    errors: tuple[Span, ...] = ()
    usage: Usage = NO_USAGE


@dataclass(frozen=True, slots=True)
class CaptionFailure:
    """Why a request has no answer, after whatever retries the captioner makes by itself.

    Attributes:
        kind: short name in the form of ``"time-out"``, ``"http-500"``, ``"unreadable-image"``; it is counted, and
            ``failed-KIND`` is the status of a row that stays without a caption.
        message: what happened, for people; holds no secret.
        permanent: the same request would fail again, whenever it is made (a damaged image).
        fatal: every request would fail like this (a refused key, an unknown model): the job stops and says so.
    """

    kind: str
    message: str
    permanent: bool = False
    fatal: bool = False


class Captioner(Protocol):
    """Anything that writes sentences about a picture.

    `caption` is called for many pictures at once, in one event loop; how many requests are really under way is the
    captioner's own decision.
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
