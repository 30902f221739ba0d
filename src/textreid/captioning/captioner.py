"""What a captioner is: one method from a picture and an instruction to a caption."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from textreid.captioning.instructions import Instruction

Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Caption:
    """A caption, and where it is known to be wrong.

    ``errors`` holds half-open character spans, in order, without overlap; only a captioner that knows the truth
    fills it, so an empty one says nothing about a real MLLM.
    """

    text: str
    errors: tuple[Span, ...] = ()


class Captioner(Protocol):
    """Anything that writes a sentence about a picture."""

    @property
    def name(self) -> str:
        """The first half of its slots: ``"qwen"`` in ``"qwen/static"``."""
        ...

    def caption(self, image: Path, instruction: Instruction, seed: int) -> Caption:
        """Describe the person in ``image``; the same arguments give the same caption.

        Raises:
            CaptionError: this picture cannot be captioned.
        """
        ...
