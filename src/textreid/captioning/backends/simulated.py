"""A simulated MLLM: it knows the truth about a picture, and errs at a set rate."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import chain
from pathlib import Path
from typing import Any, get_args

from textreid.captioning.backends.simulated_checks import check_phrase
from textreid.captioning.instructions import Instruction
from textreid.captioning.questions import asked_phrase
from textreid.captioning.requests import Caption, CaptionFailure, Request
from textreid.captioning.templates import fill, slot_name
from textreid.errors import CaptionError, nearest_name
from textreid.seeding import Chance
from textreid.synthetic import attributes
from textreid.synthetic.attributes import COLOURS, Colour, Person, View
from textreid.synthetic.phrases import Phrases, finish, listed

# The probability of each kind of error, in units of the error rate: MLLMs mistake a colour more often than a gender.
_SHARES = {"colour": 1.0, "garment": 0.7, "bag": 0.7, "hair": 0.5, "shoes": 0.4, "gender": 0.25}
_PERSON = "person"  # the kind of error that takes the whole caption from another picture
KINDS = (*_SHARES, _PERSON)
_GARMENTS = tuple(kind for kind in get_args(attributes.UpperKind) if kind != "dress")
_LEGWEAR = tuple(kind for kind in get_args(attributes.LowerKind) if kind != "dress")
_BAGS = tuple(kind for kind in get_args(attributes.BagKind) if kind != "none")

# Under the static instruction an MLLM keeps to a few sentence patterns, the first most of the time: the lack of
# diversity that templates cure (Tan et al. 2024, §3.2).
_STOCK = {
    "qwen": (
        "The person in the image is a [gender]{ with [hair]}. [He/She] is wearing [upper]{ and [lower]}"
        "{, paired with [footwear]}.{ [He/She] is also wearing [accessory].}{ [He/She] is carrying [belongings].}",
        "The [gender] in the image is wearing [clothing]{, along with [footwear]}.{ [He/She] has [hair].}"
        "{ [He/She] is carrying [belongings].}",
        "The person in the image has {[hair] and is|the appearance of a [gender] and is} wearing [clothing]"
        "{ with [footwear]}.{ The [gender] is holding [belongings].}",
    ),
    "shikra": (
        "A [gender]{ with [hair]} wearing [upper]{ and [lower]}{ with [footwear]}"
        "{ is carrying [belongings]| is [action]}.",
        "A [gender] in [clothing]{ and [footwear]}{, with [hair]}.{ [He/She] has [belongings].}",
        "The [gender] has {[hair] and is wearing |on }[clothing]{ and [footwear]}.{ [He/She] is carrying [belongings].}"
        "{ [He/She] also has [accessory].}",
    ),
}
_STOCK_WEIGHTS = {0: 6.0, 1: 3.0, 2: 1.0}

_DIRT: tuple[Callable[[str], str], ...] = (
    lambda text: "",
    lambda text: "I'm sorry, but I cannot identify the person in this image.",
    lambda text: text[:-1] + ", with [accessory description].",
    lambda text: text[:-1] + "<box>(102,45),(387,910)</box>.",
)

# What stands in a slot that a template without optional parts leaves no way to drop.
_NOTHING = {
    "lower": "legwear that cannot be seen",
    "footwear": "shoes that cannot be seen",
    "hair": "hair that cannot be seen",
    "belongings": "nothing in hand",
    "accessory": "no accessories",
}


@dataclass(frozen=True)
class SimulatedMLLM:
    """A captioner for synthetic pedestrians.

    Args:
        name: ``"qwen"`` or ``"shikra"``: whose stock sentences it uses under the static instruction.
        truth: what each picture shows, by path relative to the image root.
        error_rate: probability that a stated colour is wrong; other errors are rarer in fixed proportions.
        error_kind: one of `KINDS`, which alone goes wrong then, at the error rate: a ``colour`` of upper body, legs or
            shoes; a ``garment``; a ``bag`` that is not there; the colour of ``hair``; the kind of ``shoes``;
            ``gender``; or the ``person``, of whom the whole caption is wrong. All but the last go wrong where None.
        dirt_rate: probability of the dirt that real MLLMs leave: an empty answer, a refusal, an unfilled slot, markup.
        root: the image root, where the paths given to `caption` are not relative to it.
    """

    name: str
    truth: Mapping[str, tuple[Person, View]]
    error_rate: float = 0.15
    dirt_rate: float = 0.0
    root: Path | None = None
    error_kind: str | None = None

    def __post_init__(self) -> None:
        if self.name not in _STOCK:
            raise CaptionError(f"no simulated MLLM {self.name!r}; known: {', '.join(_STOCK)}")
        for rate in (self.error_rate, self.dirt_rate):
            if not 0 <= rate <= 1:
                raise CaptionError(f"a rate of {rate}: expected a number from 0 to 1")
        if self.error_kind is not None and self.error_kind not in KINDS:
            raise CaptionError(f"no kind of error {self.error_kind!r}; {nearest_name(self.error_kind, KINDS)}")

    async def caption(self, image: Path, requests: Sequence[Request]) -> list[Caption | CaptionFailure]:
        """Answer each request as `describe` does; a picture that it does not know is a failure."""
        answers: list[Caption | CaptionFailure] = []
        for request in requests:
            try:
                answers.append(self.describe(image, request.instruction, request.seed))
            except CaptionError as error:
                answers.append(CaptionFailure("no-truth", str(error), permanent=True))
        return answers

    async def aclose(self) -> None:
        """Do nothing: nothing to let go of."""

    def describe(self, image: Path, instruction: Instruction, seed: int) -> Caption:
        """Describe the person in ``image``, or answer the question about a phrase, if the instruction is one.

        Its errors are the spans of the words that are not true.

        The same arguments give the same caption.

        Raises:
            CaptionError: ``image`` is not among the pictures it knows, or the template has a slot it does not know.
        """
        relative = image.relative_to(self.root) if self.root and image.is_relative_to(self.root) else image
        known = self.truth.get(relative.as_posix())
        if known is None:
            raise CaptionError(f"{image}: not a picture whose truth the simulated MLLM was given")
        chance = Chance.of(seed, self.name)
        mistaken = self.error_kind == _PERSON and chance.happens(self.error_rate)
        person, view = self._somebody_else(known[0], chance) if mistaken else known
        believed, wrong = _misbelieve(person, chance, self.error_rate, self.error_kind)
        phrases = Phrases(believed, person, view, chance, wrong)
        if (asked := asked_phrase(instruction.text)) is not None:
            return Caption(*finish(check_phrase(asked, phrases), american=True, capitals=False))
        stock = _STOCK[self.name]
        pattern = instruction.template.pattern if instruction.template else stock[chance.weighted(_STOCK_WEIGHTS)]
        text = fill(
            pattern,
            lambda slot: _FILLERS[_known_slot(slot)](phrases),
            lambda slot: _NOTHING[_known_slot(slot)],
        )
        if chance.happens(self.dirt_rate):
            text = chance.pick(_DIRT)(text)
        text, errors = finish(text, american=True)
        return Caption(text, ((0, len(text)),) if mistaken and text else errors)

    def _somebody_else(self, person: Person, chance: Chance) -> tuple[Person, View]:
        """Pick a picture of another person; raises CaptionError where there is none."""
        start = chance.whole(0, len(self._pictures))
        others = (each for each in chain(self._pictures[start:], self._pictures[:start]) if each[0] != person)
        found = next(others, None)
        if found is None:
            raise CaptionError("these pictures show one person: there is nobody to be taken for")
        return found

    @cached_property
    def _pictures(self) -> Sequence[tuple[Person, View]]:
        return list(self.truth.values())


def errors_of(model: str) -> tuple[float, str | None]:
    """Read the rate and the kind of errors that ``"simulated:0.05:colour"`` asks for, or those of `SimulatedMLLM`.

    Raises:
        CaptionError: the rate is not a number.
    """
    _, colon, errors = model.partition(":")
    rate, _, kind = errors.partition(":")
    try:
        return float(rate) if colon else SimulatedMLLM.error_rate, kind or None
    except ValueError as error:
        raise CaptionError(f"--mllm: {model!r}: expected simulated:RATE[:KIND] with a number from 0 to 1") from error


def _misbelieve(person: Person, chance: Chance, error_rate: float, only: str | None) -> tuple[Person, frozenset[str]]:
    """Return what a captioner that errs takes ``person`` for, and the names of the fields in which it errs."""
    rates = {kind: error_rate * share for kind, share in _SHARES.items()}
    if only:
        rates = {kind: error_rate * (kind == only) for kind in _SHARES}
    # Colours err garment by garment, everything else once a caption.
    errors = {kind for kind, rate in rates.items() if kind != "colour" and chance.happens(rate)}
    changes: dict[str, Any] = {}
    for field in ("upper_colour", "lower_colour", "shoes_colour"):
        if chance.happens(rates["colour"]):
            changes[field] = _other_colour(person, field, chance)
    if "gender" in errors:
        changes["gender"] = "man" if person.gender == "woman" else "woman"
    if "hair" in errors:
        changes["hair_colour"] = _other(person.hair_colour, get_args(attributes.HairColour), chance)
    if "shoes" in errors:
        changes["shoes"] = _other(person.shoes, get_args(attributes.ShoesKind), chance)
    if "garment" in errors:
        changes |= _other_garment(person, chance)
    if "bag" in errors and person.bag == "none":
        changes["bag"] = chance.pick(_BAGS)
    elif "bag" in errors and not only:  # a mistaken colour, which is a kind of its own
        changes["bag_colour"] = _other_colour(person, "bag_colour", chance)
    wrong = frozenset(field for field, value in changes.items() if value != getattr(person, field))
    return (dataclasses.replace(person, **changes) if wrong else person), wrong


def _other_garment(person: Person, chance: Chance) -> dict[str, Any]:
    """Return a wrong garment on one half of the body; a dress is taken for a top and a skirt of its colour."""
    if person.upper == "dress":
        skirt = chance.pick(("skirt", "long skirt"))
        return {"upper": chance.pick(_GARMENTS), "lower": skirt, "lower_colour": person.upper_colour}
    if person.lower == "dress" or chance.happens(0.5):
        return {"upper": _other(person.upper, _GARMENTS, chance)}
    return {"lower": _other(person.lower, _LEGWEAR, chance)}


def _other(truth: str, values: tuple[str, ...], chance: Chance) -> str:
    return chance.pick([value for value in values if value != truth])


def _other_colour(person: Person, field: str, chance: Chance) -> Colour:
    """Return a colour that nothing on the same garment has."""
    present = {getattr(person, field)}
    if field == "upper_colour":
        present |= {person.upper_second_colour, person.inner_colour}
    return chance.pick([colour for colour in COLOURS if colour not in present])


_FILLERS: dict[str, Callable[[Phrases], str | None]] = {
    "gender": lambda p: p.who(),
    "clothing": lambda p: listed(p.outfit()),
    "upper": lambda p: p.upper(),
    "lower": lambda p: p.lower(),
    "footwear": lambda p: p.shoes(),
    "hair": lambda p: p.hair(),
    "belongings": lambda p: listed([thing for thing in (p.bag(), p.held()) if thing]) or None,
    "accessory": lambda p: listed([thing for thing in (p.headwear(), p.glasses(), p.scarf()) if thing]) or None,
    "action": lambda p: p.motion(),
    "he/she": lambda p: p.he,
    "his/her": lambda p: p.his,
    "him/her": lambda p: p.him,
}


@cache
def _known_slot(slot: str) -> str:
    """Return our name of a slot; raises CaptionError if there is nothing to fill it with."""
    name = slot_name(slot)
    if name not in _FILLERS:
        raise CaptionError(f"the simulated MLLM does not know the slot [{slot}]; it knows: {', '.join(_FILLERS)}")
    return name
