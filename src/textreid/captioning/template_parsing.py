"""Finds the templates in what an LLM wrote, however it laid them out, and tells which have the same structure."""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from textreid.captioning.templates import SLOT_NAMES, problem_of, slot_name

_FEWEST_SLOTS = 2
_FEWEST_WORDS = 1  # outside the slots
_OPENING_WORDS = 3

_THOUGHT = re.compile(r"<think(?:ing)?>.*?(?:</think(?:ing)?>|\Z)", re.DOTALL | re.IGNORECASE)
_FENCE = re.compile(r"```[\w-]*\n(.*?)(?:```|\Z)", re.DOTALL)
_MARKER = re.compile(
    r"^(?:[-*+•>]\s+|\(?\d{1,3}[.):]\s*|\(?[a-z]\)\s+|(?:template|pattern)(?:\s*#?\d+)?\s*[:.)-]\s*)+", re.IGNORECASE
)
_OTHER_SLOT = re.compile(r"\{\{?\s*([A-Za-z][\w /-]*?)\s*\}?\}|<([A-Za-z][\w /-]*?)>|\{\[|\]\}")
_SLOT = re.compile(r"\[([^\[\]]*)\]")
_QUOTES = "\"'`\u201c\u201d\u2018\u2019"
_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]+")


@dataclass(frozen=True)
class Parsed:
    """The templates of one answer.

    Attributes:
        patterns: those that can be used, in order, each once.
        refused: lines with slots that cannot be used, and why.
    """

    patterns: tuple[str, ...]
    refused: tuple[tuple[str, str], ...]


def parse_templates(answer: str, cut_off: bool = False) -> Parsed:
    """The templates in an LLM's answer: one a line, or strings of a JSON value; anything without a slot is talk.

    Numbers, bullets, quotes, bold type, tables, code fences and escaped brackets are taken away, and slots in other
    brackets or spellings get ours. Templates are refused that are malformed, have fewer than two slots, no words
    of their own, or a slot for something that a caption should not claim (``SLOT_NAMES`` are the allowed ones).

    Args:
        answer: what the LLM wrote.
        cut_off: whether it stopped at its limit; what it wrote last is then left out, unless it is a whole line.
    """
    answer = _THOUGHT.sub("", answer)
    lines = list(_candidates(answer))
    if cut_off and lines and not answer.endswith("\n"):
        lines.pop()
    patterns: dict[str, None] = {}
    refused = []
    for line in lines:
        pattern = _tidy(line)
        if "[" not in pattern:
            continue
        problem = _unfit(pattern)
        if problem:
            refused.append((pattern, problem))
        else:
            patterns.setdefault(pattern)
    return Parsed(tuple(patterns), tuple(refused))


def structure(pattern: str) -> tuple[str, tuple[str, ...]]:
    """What makes two templates the same but for words in between: the opening, and the order of the slots."""
    named = _SLOT.sub(lambda match: f"[{slot_name(match[1]).replace(' ', '-')}]", pattern.lower())
    words = re.findall(r"\[[^\]]*\]|[^\W_]+", named)
    return " ".join(words[:_OPENING_WORDS]), tuple(match[1] for match in _SLOT.finditer(named))


def distinct_structures(patterns: Iterable[str]) -> list[str]:
    """The patterns in order, without those whose structure an earlier one has."""
    found: dict[tuple[str, tuple[str, ...]], str] = {}
    for pattern in patterns:
        found.setdefault(structure(pattern), pattern)
    return list(found.values())


def _candidates(answer: str) -> Iterator[str]:
    for text in [match[1] for match in _FENCE.finditer(answer)] or [answer]:
        try:
            yield from _strings(json.loads(text))
        except (ValueError, RecursionError):
            yield from text.splitlines()


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _strings(inner)


def _tidy(line: str) -> str:
    line = line.strip().replace("\\[", "[").replace("\\]", "]").replace("**", "").replace("__", "")
    if line.startswith("|"):
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        line = max(cells, key=lambda cell: cell.count("[") + cell.count("{"))
    line = _MARKER.sub("", line).rstrip(", ").strip(_QUOTES + " ")
    line = _MARKER.sub("", line)
    if "[" not in line or "{[" in line:
        line = _OTHER_SLOT.sub(_in_brackets, line)
    line = _SLOT.sub(lambda match: f"[{_spelling(match[1])}]", " ".join(_CONTROL.sub(" ", line).split()))
    if line and line[0].islower():
        line = line[0].upper() + line[1:]
    return line if line.endswith((".", "!", "?")) else f"{line}."


def _in_brackets(match: re.Match[str]) -> str:
    name = match[1] or match[2]
    return f"[{name}]" if name else match[0].strip("{}")


def _spelling(slot: str) -> str:
    """A pronoun's slot as our templates write it; other slots in lower case."""
    name = slot_name(slot)
    capital = slot.strip()[:1].isupper() and "/" in name
    return "/".join(word.capitalize() for word in name.split("/")) if capital else name


def _unfit(pattern: str) -> str:
    """Why a pattern is not to be used; empty if it is."""
    problem = problem_of(pattern)
    if problem:
        return problem
    if "{" in pattern or "|" in pattern:
        return "braces or bars, which mean something else in our templates"
    slots = [slot_name(match[1]) for match in _SLOT.finditer(pattern)]
    unknown = sorted({slot for slot in slots if slot not in SLOT_NAMES})
    if unknown:
        return f"a slot that captions should not fill: {', '.join(unknown)}"
    if len({slot for slot in slots if "/" not in slot}) < _FEWEST_SLOTS:
        return "fewer than two things to say"
    if len(re.findall(r"[^\W\d_]+", _SLOT.sub(" ", pattern))) < _FEWEST_WORDS:
        return "no words of its own"
    return ""
