"""Asking about the suspicious phrases of the captions that a table has, in the job and by the engines of captioning.

Each caption of the table is checked once: without a suspicious phrase it stays as it is, nothing is asked about it. An
answer that confirms nothing and gives no other phrase is asked for again; what remains unclear, or cannot be asked, is
a failure like those of captioning, and its caption is kept apart until it could be checked.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from textreid.captioning.instructions import Instruction
from textreid.captioning.questions import QUESTION, question, read_answer
from textreid.captioning.repairing import Change, Span, change_phrases, tells_gender
from textreid.captioning.requests import (
    FAILED,
    Answer,
    Caption,
    Captioner,
    CaptionFailure,
    Request,
    Settings,
    Slot,
    Usage,
)
from textreid.captions.cleaning import OK, clean
from textreid.captions.sidecars import REPAIRS
from textreid.captions.table import CaptionRow
from textreid.seeding import Chance

_EXAMPLE = 100  # characters


@dataclass(frozen=True)
class CheckedSlot(Slot):
    """Slot of the table that is checked, ``checked``; ``mllm`` is who is asked."""

    checked: str = ""

    @property
    def name(self) -> str:
        """Its name in both tables."""
        return self.checked


def checked_slots(mllm: str, names: Sequence[str]) -> tuple[CheckedSlot, ...]:
    """Return the slots ``names`` of a table, for one MLLM to be asked about."""
    return tuple(CheckedSlot(mllm, "", (Instruction("static", QUESTION),), name) for name in names)


@dataclass(frozen=True)
class CheckedAnswer(Answer):
    """Outcome of one caption.

    Attributes:
        asked: the MLLM that was asked, which need not be the one that wrote the caption.
        before: the caption as it was, if it changed; else empty.
        repairs: each phrase that changed, and what stands in its place.
    """

    asked: str = ""
    before: str = ""
    repairs: tuple[tuple[str, str], ...] = ()

    @property
    def mllm(self) -> str:
        """Who was asked."""
        return self.asked

    def known_beside(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield file and line of what a table keeps beside the row."""
        yield from super().known_beside()
        if self.before:
            key = {"image": self.row.image, "slot": self.row.slot}
            yield REPAIRS, {**key, "before": self.before, "repairs": self.repairs, "by": self.asked}


@dataclass(frozen=True)
class Suspect:
    """A caption to be checked: its row, its suspicious phrases, and where a captioner knows it to be wrong."""

    row: CaptionRow
    phrases: tuple[Span, ...] = ()
    errors: tuple[Span, ...] = ()


class Checks:
    """What is asked of which picture.

    Args:
        suspects: every caption of the table, by image and slot.
        facts: what decides the phrases; a job goes on with equal ones only.
    """

    def __init__(self, suspects: Mapping[tuple[str, str], Suspect], facts: Mapping[str, Any]) -> None:
        self.suspects, self.facts = suspects, facts

    async def ask(
        self, captioner: Captioner, root: Path, image: str, slots: Sequence[Slot], settings: Settings, _: object
    ) -> list[Answer]:
        """Ask about the captions of one image in ``slots``, and again for what cannot be understood."""
        talks = [_Talk(self.suspects[image, slot.name], captioner.name) for slot in slots]
        for turn in range(settings.attempts):
            open_ = [(talk, phrase) for talk in talks for phrase in talk.open]
            if not open_:
                break
            requests = [
                Request(question(talk.said(phrase)), _seed(settings, talk.suspect.row, phrase, turn))
                for talk, phrase in open_
            ]
            # In one call, so that a server with a prefix cache reads the picture once.
            captions = await captioner.caption(root / image, requests)
            for (talk, phrase), caption in zip(open_, captions, strict=True):
                talk.take(phrase, caption)
        return [talk.outcome() for talk in talks]


def _seed(settings: Settings, row: CaptionRow, phrase: Span, turn: int) -> int:
    # Below 2^31: some servers hold a seed in a signed integer of 32 bits.
    return Chance.of(settings.seed, "checks", row.slot, row.image, *phrase, turn).whole(0, 1 << 31)


class _Talk:
    """What was asked and answered about one caption."""

    def __init__(self, suspect: Suspect, mllm: str) -> None:
        self.suspect, self._mllm = suspect, mllm
        self._open = list(suspect.phrases)
        self._changes: list[Change] = []
        self._usage = Usage()
        self._notices: tuple[str, ...] = ()
        self._failure: CaptionFailure | None = None
        self._unclear = ""

    @property
    def open(self) -> list[Span]:
        """Phrases without an answer that can be understood; none once one cannot be had."""
        return [] if self._failure else list(self._open)

    def said(self, phrase: Span) -> str:
        """Return a phrase as it is asked about."""
        text = self.suspect.row.caption[slice(*phrase)]
        return text[0].lower() + text[1:]

    def take(self, phrase: Span, caption: Caption | CaptionFailure) -> None:
        """Take note of an answer about a phrase."""
        self._notices += caption.notices
        if isinstance(caption, CaptionFailure):
            self._failure = self._failure or caption
            return
        self._usage += caption.usage
        said = self.said(phrase)
        told = read_answer(caption.text, said)
        # Somebody is there, so that there is no phrase for nobody.
        if told is None or (not told and tells_gender(said)):
            self._unclear = caption.text
            return
        self._open.remove(phrase)
        if told != said:
            start = caption.text.find(told)
            wrong = tuple(
                (low - start, high - start) for low, high in caption.errors if start <= low < high <= start + len(told)
            )
            self._changes.append(Change(*phrase, told, wrong if told and start >= 0 else ()))

    def outcome(self) -> CheckedAnswer:
        """Return what became of the caption."""
        row, failure = self.suspect.row, self._failure
        text, errors = change_phrases(row.caption, self._changes, self.suspect.errors)
        if not failure and self._open:
            example = self._unclear if len(self._unclear) <= _EXAMPLE else self._unclear[:_EXAMPLE] + "…"
            failure = CaptionFailure("unclear", f"{self._mllm}: neither yes nor another phrase, but {example!r}")
        if not failure and self._changes and (status := clean(text).status) != OK:
            failure = CaptionFailure("unclear", f"{self._mllm}: what is left of a caption would be {status}: {text!r}")
        if failure:
            # With its words, which nobody trusts, for people to look at.
            row = replace(row, status=FAILED + failure.kind)
            return CheckedAnswer(row, (), self._usage, failure, notices=self._notices, asked=self._mllm)
        repairs = tuple((row.caption[change.start : change.end], change.text) for change in sorted(self._changes))
        return CheckedAnswer(
            replace(row, caption=text), (), self._usage, errors=errors, notices=self._notices, asked=self._mllm,
            before=row.caption if text != row.caption else "", repairs=repairs if text != row.caption else (),
        )  # fmt: skip
