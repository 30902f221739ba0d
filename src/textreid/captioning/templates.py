"""Sentence templates with bracketed slots: our own, those in a user's file, and those in what an LLM wrote."""

import json
import random
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from textreid.errors import CaptionError

LONGEST_TEMPLATE = 1_000  # characters
_GENERAL = "general"  # the name of a set, where no file is called so
_OWN = re.compile(r"own:([1-9]\d*)")  # likewise, of some of our own

# Our names of the slots, and those that other template sets give to them.
SLOT_NAMES = (
    "gender", "hair", "clothing", "upper", "lower", "footwear", "belongings", "accessory", "action",
    "he/she", "his/her", "him/her",
)  # fmt: skip
_SYNONYMS = {
    "person": "gender", "sex": "gender", "clothes": "clothing", "outfit": "clothing", "attire": "clothing",
    "top": "upper", "upper body": "upper", "upper clothing": "upper", "upper garment": "upper", "bottom": "lower",
    "bottoms": "lower", "lower body": "lower", "lower clothing": "lower", "lower garment": "lower", "shoes": "footwear",
    "shoe": "footwear", "hairstyle": "hair", "belonging": "belongings", "bag": "belongings", "bags": "belongings",
    "accessories": "accessory", "pose": "action", "activity": "action",
}  # fmt: skip

_TOKEN = re.compile(r"\[([^\[\]]*)\]|([\[\]{}])")
_PART = re.compile(r"\{([^{}]*)\}")
_SLOT = re.compile(r"\[([^\[\]]*)\]")

_FEWEST_SLOTS = 2
_OPENING_WORDS = 3  # as the turn "openings" of `discovery` asks for

# What an LLM lays its templates out with. A thought or a fence may lack its end, when the answer was cut off.
_THOUGHT = re.compile(r"<think(?:ing)?>.*?(?:</think(?:ing)?>|\Z)", re.DOTALL | re.IGNORECASE)
_FENCE = re.compile(r"```[\w-]*\n(.*?)(?:```|\Z)", re.DOTALL)
_MARKER = re.compile(
    r"^(?:[-*+•>]\s+|\(?\d{1,3}[.):]\s*|\(?[a-z]\)\s+|(?:template|pattern)(?:\s*#?\d+)?\s*[:.)-]\s*)+", re.IGNORECASE
)
_OTHER_SLOT = re.compile(r"\{\{?\s*([A-Za-z][\w /-]*?)\s*\}?\}|<([A-Za-z][\w /-]*?)>|\{\[|\]\}")
_QUOTES = "\"'`\u201c\u201d\u2018\u2019"
_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]+")


@dataclass(frozen=True)
class Template:
    """A sentence pattern.

    Attributes:
        id: its name, which goes into the caption table.
        pattern: text with ``[slots]`` and ``{parts that may go|what then stands there}``.
    """

    id: str
    pattern: str

    @property
    def text(self) -> str:
        """What an MLLM is shown: every part in place, without braces."""
        return _PART.sub(lambda match: match[1].split("|")[0], self.pattern)

    @property
    def slots(self) -> tuple[str, ...]:
        """The slots of `text`, in order, without brackets."""
        return tuple(match[1] for match in _SLOT.finditer(self.text))


def slot_name(slot: str) -> str:
    """Return our name of a slot: ``"Shoes description"`` is ``"footwear"``; one that we do not have keeps its name."""
    name = " ".join(slot.replace("_", " ").lower().split()).removesuffix(" description")
    return _SYNONYMS.get(name, name)


@cache
def own_templates() -> dict[str, Template]:
    """Return the templates that come with textreid, by id."""

    text = files("textreid.captioning").joinpath("templates.toml").read_text(encoding="utf-8")
    return {name: Template(name, pattern) for name, pattern in tomllib.loads(text)["templates"].items()}


def read_templates(path: Path) -> dict[str, Template]:
    """Read templates by id: a user's file, or a set that comes with textreid, ``general`` or ``own:N``.

    The general ones are short, as alternative texts of pictures are. ``own:N`` is a sample of N of our own; a larger
    one holds all smaller ones, so that what more templates bring can be measured.

    A ``.toml`` file has one table ``[templates]`` of ``id = "pattern"``. Any other file is text with one template a
    line; empty lines and lines that begin with ``#`` are skipped, and the id is ``line-N``.

    Raises:
        CaptionError: the file cannot be read, has no template, or some are malformed or repeated; names every line.
    """
    if (some := _OWN.fullmatch(str(path))) and not path.exists():
        return _own_sample(int(some[1]))
    if str(path) == _GENERAL and not path.exists():
        path = Path(str(files("textreid.captioning").joinpath(f"{_GENERAL}.txt")))
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise CaptionError(f"{path}: cannot be read as UTF-8 text: {error}") from error
    entries = _toml_entries(path, text) if path.suffix == ".toml" else _line_entries(text)
    problems: list[str] = []
    found: dict[str, Template] = {}
    seen: dict[str, int] = {}
    for line, name, pattern in entries:
        problem = problem_of(pattern)
        if not problem and pattern in seen:
            problem = f"the same template as line {seen[pattern]}"
        if problem:
            problems.append(f"line {line}: {problem}")
        seen.setdefault(pattern, line)
        found[name] = Template(name, pattern)
    if problems:
        raise CaptionError(f"{path}: " + "; ".join(problems))
    if not found:
        raise CaptionError(f"{path}: no template in it; write one a line, such as 'A [gender] in [clothing].'")
    return found


def _own_sample(count: int) -> dict[str, Template]:
    names = list(own_templates())
    if count > len(names):
        raise CaptionError(f"own:{count}: there are {len(names)} of our own; give a file for more")
    # Neighbours in the file are alike.
    random.Random(0).shuffle(names)  # noqa: S311 (a choice of sentences)
    return {name: own_templates()[name] for name in names[:count]}


def _line_entries(text: str) -> list[tuple[int, str, str]]:
    lines = ((number, line.strip()) for number, line in enumerate(text.splitlines(), 1))
    return [(number, f"line-{number}", line) for number, line in lines if line and not line.startswith("#")]


def _toml_entries(path: Path, text: str) -> list[tuple[int, str, str]]:
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise CaptionError(f"{path}: not valid TOML: {error}") from error
    templates = table.get("templates")
    if not isinstance(templates, dict) or not all(isinstance(pattern, str) for pattern in templates.values()):
        raise CaptionError(
            f'{path}: expected one table [templates] with entries such as: t1 = "A [gender] in [clothing]."'
        )
    entries = []
    # tomllib does not tell in which line a key stands.
    for name, pattern in templates.items():
        key = re.compile(rf"""\s*["']?{re.escape(name)}["']?\s*=""")
        line = next((number for number, line in enumerate(text.splitlines(), 1) if key.match(line)), 1)
        entries.append((line, name, pattern.strip()))
    return entries


def problem_of(pattern: str) -> str:
    """Say what is wrong with the pattern of a template; empty if nothing."""
    if len(pattern) > LONGEST_TEMPLATE:
        return f"{len(pattern)} characters, but a template has at most {LONGEST_TEMPLATE}"
    slots, braces = 0, 0
    for match in _TOKEN.finditer(pattern):
        if match[2] in ("[", "]"):
            return f"a bracket without its partner at character {match.start() + 1}"
        if match[2]:
            braces += 1 if match[2] == "{" else -1
            if braces not in (0, 1):
                return f"a brace without its partner, or one inside another, at character {match.start() + 1}"
            continue
        if not match[1].strip():
            return f"an empty slot at character {match.start() + 1}"
        slots += 1
    if braces:
        return "a brace that is not closed"
    return "" if slots else "no slot in square brackets"


def fill(pattern: str, phrase: Callable[[str], str | None], nothing: Callable[[str], str]) -> str:
    """Return the pattern with its slots filled; of each optional part the first alternative that can be filled.

    Args:
        pattern: text with ``[slots]`` and ``{parts that may go|what then stands there}``.
        phrase: what stands in a slot, by the slot's text; None where there is nothing to say.
        nothing: what stands in a slot for which ``phrase`` is None and which no optional part takes away.
    """

    def try_to_fill(text: str) -> str | None:
        filled, end = "", 0
        for match in _SLOT.finditer(text):
            said = phrase(match[1])
            if said is None:
                return None
            filled += text[end : match.start()] + said
            end = match.end()
        return filled + text[end:]

    def part(match: re.Match[str]) -> str:
        return next((text for text in map(try_to_fill, match[1].split("|")) if text is not None), "")

    # Optional parts first: what goes with one needs nothing in its place.
    return _SLOT.sub(lambda match: phrase(match[1]) or nothing(match[1]), _PART.sub(part, pattern))


@dataclass(frozen=True)
class Parsed:
    """Templates of one answer.

    Attributes:
        patterns: those that can be used, in order, each once.
        refused: lines with slots that cannot be used, and why.
    """

    patterns: tuple[str, ...]
    refused: tuple[tuple[str, str], ...]


def parse_templates(answer: str, cut_off: bool = False) -> Parsed:
    """Return the templates in an LLM's answer: one a line, or strings of a JSON value; anything without a slot is talk.

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
    """Return what makes two templates the same but for words in between: the opening, and the order of the slots."""
    named = _SLOT.sub(lambda match: f"[{slot_name(match[1]).replace(' ', '-')}]", pattern.lower())
    words = re.findall(r"\[[^\]]*\]|[^\W_]+", named)
    return " ".join(words[:_OPENING_WORDS]), tuple(match[1] for match in _SLOT.finditer(named))


def distinct_structures(patterns: Iterable[str]) -> list[str]:
    """Return the patterns in order, without those whose structure an earlier one has."""
    found: dict[tuple[str, tuple[str, ...]], str] = {}
    for pattern in patterns:
        found.setdefault(structure(pattern), pattern)
    return list(found.values())


def _candidates(answer: str) -> Iterator[str]:
    for text in [match[1] for match in _FENCE.finditer(answer)] or [answer]:
        try:
            yield from _strings(json.loads(text))
        except (ValueError, RecursionError):  # the latter of thousands of brackets in each other
            yield from text.splitlines()


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _strings(inner)


def _tidy(line: str) -> str:
    line = line.strip().replace("\\[", "[").replace("\\]", "]").replace("**", "").replace("__", "")
    if line.startswith("|"):  # a row of a table, of which the other cells number or name the template
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        line = max(cells, key=lambda cell: cell.count("[") + cell.count("{"))
    line = _MARKER.sub("", line).rstrip(", ").strip(_QUOTES + " ")
    line = _MARKER.sub("", line)  # again, for in a list of strings the number stands inside the quotes
    # Other brackets are slots only where there are none in ours: "{[hair]}" is one slot, "[hair] {or hat}" is a slip.
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
    """Return a pronoun's slot as our templates write it; other slots in lower case."""
    name = slot_name(slot)
    capital = slot.strip()[:1].isupper() and "/" in name
    return "/".join(word.capitalize() for word in name.split("/")) if capital else name


def _unfit(pattern: str) -> str:
    """Say why a pattern is not to be used; empty if it is."""
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
    if not re.search(r"[^\W\d_]", _SLOT.sub(" ", pattern)):
        return "no words of its own"
    return ""
