"""A simulated MLLM: it knows the truth about a picture, and errs at a set rate."""

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, get_args

from textreid.captioning.captioner import Caption
from textreid.captioning.instructions import Instruction
from textreid.captioning.templates import Template
from textreid.datasets.synthetic import attributes, lexicon
from textreid.datasets.synthetic.attributes import COLOURS, Colour, Person, View
from textreid.datasets.synthetic.chance import Chance
from textreid.datasets.synthetic.phrases import Phrases, finish, listed
from textreid.errors import CaptionError

# The probability of each kind of error, in units of the error rate: MLLMs mistake a colour more often than a gender.
_SHARES = {"colour": 1.0, "garment": 0.7, "bag": 0.7, "hair": 0.5, "shoes": 0.4, "gender": 0.25}
_GARMENTS = tuple(kind for kind in get_args(attributes.UpperKind) if kind != "dress")
_LEGWEAR = tuple(kind for kind in get_args(attributes.LowerKind) if kind != "dress")

# Under the static instruction an MLLM keeps to a few sentence patterns: the lack of diversity that templates cure.
_STOCK = {
    "qwen": (
        "The person in the image is a [gender]{ with [hair]}. [He/She] is wearing [upper]{ and [lower]}{, paired with [footwear]}.{ [He/She] is also wearing [accessory].}{ [He/She] is carrying [belongings].}",
        "The [gender] in the image is wearing [clothing]{ and [footwear]}.{ [He/She] has [hair].}{ [He/She] is carrying [belongings].}",
        "The person in the picture is a [gender] wearing [clothing]{, along with [footwear]}.{ [His/Her] belongings include [belongings].}",
    ),
    "shikra": (
        "A [gender]{ with [hair]} wearing [upper]{ and [lower]}{ with [footwear]}{ is carrying [belongings]| is walking}.",
        "A [gender] in [clothing]{ and [footwear]}{, with [hair]}.{ [He/She] has [belongings].}",
        "The [gender] has {[hair] and is wearing |on }[clothing]{ and [footwear]}.{ [He/She] is carrying [belongings].}{ [He/She] also has [accessory].}",
    ),
}
_PART = re.compile(r"\{([^{}]*)\}")
_SLOT = re.compile(r"\[([^\[\]]*)\]")


@dataclass(frozen=True)
class SimulatedMLLM:
    """A captioner for synthetic pedestrians.

    Args:
        name: ``"qwen"`` or ``"shikra"``: whose stock sentences it uses under the static instruction.
        truth: what each picture shows, by path relative to the image root.
        error_rate: probability that a stated colour is wrong; the other errors are rarer in proportion.
        root: the image root, where paths given to `caption` are not relative to it.
    """

    name: str
    truth: Mapping[str, tuple[Person, View]]
    error_rate: float = 0.15
    root: Path | None = None

    def __post_init__(self) -> None:
        if self.name not in _STOCK:
            raise CaptionError(f"no simulated MLLM {self.name!r}; known: {', '.join(_STOCK)}")
        if not 0 <= self.error_rate <= 1:
            raise CaptionError(f"error rate {self.error_rate}: expected a number from 0 to 1")

    def caption(self, image: Path, instruction: Instruction, seed: int) -> Caption:
        """Describe the person in ``image``; its errors are the spans of what is not true.

        Raises:
            CaptionError: ``image`` is not among the pictures it knows, or the template has a slot it does not know.
        """
        relative = image.relative_to(self.root) if self.root else image
        known = self.truth.get(relative.as_posix())
        if known is None:
            raise CaptionError(f"{image}: not a picture whose truth the simulated MLLM was given")
        chance = Chance.of(seed, self.name)
        return self._describe(*known, instruction.template, chance)

    def _describe(self, person: Person, view: View, template: Template | None, chance: Chance) -> Caption:
        believed, wrong = misbelieve(person, chance, self.error_rate)
        phrases = Phrases(believed, person, view, chance, wrong)
        pattern = template.pattern if template else _STOCK[self.name][chance.weighted({0: 6, 1: 3, 2: 1})]
        text = _fill(pattern, phrases)
        text, spans = finish(text, american=True)
        return Caption(text, spans)


def misbelieve(person: Person, chance: Chance, error_rate: float) -> tuple[Person, frozenset[str]]:
    """What a captioner that errs takes ``person`` for, and the names of the fields in which it errs."""
    changes: dict[str, Any] = {}

    def errs(kind: str) -> bool:
        return chance.happens(error_rate * _SHARES[kind])

    if errs("gender"):
        changes["gender"] = "man" if person.gender == "woman" else "woman"
    for field in ("upper_colour", "lower_colour", "shoes_colour"):
        if errs("colour"):
            changes[field] = _other_colour(person, field, chance)
    if errs("hair"):
        hair_colours = get_args(attributes.HairColour)
        changes["hair_colour"] = _other(person.hair_colour, hair_colours, chance)
    if errs("garment"):
        changes["upper"] = _other(person.upper, _GARMENTS, chance)
        if person.upper == "dress":
            changes |= {"lower": chance.pick(("skirt", "long skirt")), "lower_colour": person.upper_colour}
    elif errs("garment") and person.lower != "dress":
        changes["lower"] = _other(person.lower, _LEGWEAR, chance)
    if errs("shoes"):
        changes["shoes"] = _other(person.shoes, get_args(attributes.ShoesKind), chance)
    if errs("bag"):
        bags = get_args(attributes.BagKind)[1:]
        if person.bag == "none":
            changes["bag"] = chance.pick(bags)
        else:
            changes["bag_colour"] = _other_colour(person, "bag_colour", chance)
    return dataclasses.replace(person, **changes), frozenset(changes)


def _other(truth: str, values: tuple[str, ...], chance: Chance) -> str:
    return chance.pick([value for value in values if value != truth])


def _other_colour(person: Person, field: str, chance: Chance) -> Colour:
    near = {getattr(person, field), person.upper_second_colour, person.inner_colour}
    return chance.pick([colour for colour in COLOURS if colour not in near])


def _fill(pattern: str, phrases: Phrases) -> str:
    filled: dict[str, str | None] = {}
    worn = [part for part in (phrases.headwear(), phrases.glasses(), phrases.scarf()) if part]
    carried = [part for part in (phrases.bag(), phrases.held()) if part]
    filled = {
        "gender": phrases.who(),
        "clothing": listed(phrases.outfit()),
        "upper": phrases.upper(),
        "lower": phrases.lower(),
        "footwear": phrases.shoes(),
        "hair": phrases.hair(),
        "belongings": listed(carried) or None,
        "accessory": listed(worn) or None,
        "he/she": phrases.he,
        "He/She": phrases.he,
        "his/her": phrases.his,
        "His/Her": phrases.his,
        "him/her": phrases.him,
    }

    def part(match: re.Match[str]) -> str:
        for choice in match[1].split("|"):
            if all(filled[slot] for slot in _SLOT.findall(choice)):
                return choice
        return ""

    def slot(match: re.Match[str]) -> str:
        return filled[match[1]] or "nothing"

    return _SLOT.sub(slot, _PART.sub(part, pattern))
