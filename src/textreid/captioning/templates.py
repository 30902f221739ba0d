"""Sentence templates with bracketed slots: our own, and those in a user's file."""

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

from textreid.errors import CaptionError

LONGEST_TEMPLATE = 1_000  # characters

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
        return tuple(match[1] for match in re.finditer(r"\[([^\[\]]*)\]", self.text))


def slot_name(slot: str) -> str:
    """Our name of a slot: ``"Shoes description"`` is ``"footwear"``; one that we do not have keeps its name."""
    name = " ".join(slot.replace("_", " ").lower().split()).removesuffix(" description")
    return _SYNONYMS.get(name, name)


@cache
def own_templates() -> dict[str, Template]:
    """The templates that come with textreid, by id."""
    text = files("textreid.captioning").joinpath("templates.toml").read_text(encoding="utf-8")
    return {name: Template(name, pattern) for name, pattern in tomllib.loads(text)["templates"].items()}


def read_templates(path: Path) -> dict[str, Template]:
    """Read a user's templates, by id.

    A ``.toml`` file has one table ``[templates]`` of ``id = "pattern"``. Any other file is text with one template a
    line; empty lines and lines that begin with ``#`` are skipped, and the id is ``line-N``.

    Raises:
        CaptionError: the file cannot be read, has no template, or some are malformed or repeated; names every line.
    """
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
    for name, pattern in templates.items():
        key = re.compile(rf"""\s*["']?{re.escape(name)}["']?\s*=""")
        line = next((number for number, line in enumerate(text.splitlines(), 1) if key.match(line)), 1)
        entries.append((line, name, pattern.strip()))
    return entries


def problem_of(pattern: str) -> str:
    """What is wrong with the pattern of a template; empty if nothing."""
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
