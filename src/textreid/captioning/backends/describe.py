"""A captioner without a model: colours and layout read from the pixels, spoken through instruction and template.

It says little, and only what pixels can tell: no gender, no kind of garment, no belongings. It is there so that the
whole pipeline runs on real crops on a machine with no MLLM.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from textreid.captioning.backends.pixels import Band, Look, read_look
from textreid.captioning.instructions import Instruction
from textreid.captioning.requests import Caption, CaptionFailure, Request
from textreid.captioning.templates import fill, slot_name
from textreid.errors import ImageError
from textreid.images import read_image
from textreid.seeding import Chance
from textreid.synthetic import vocabulary
from textreid.synthetic.phrases import finish, listed

_STOCK = (
    "A [gender]{ with [hair]} wearing [upper]{ and [lower]}{, with [footwear]}.",
    "The [gender] in the image is wearing [clothing]{ and [footwear]}.{ [He/She] has [hair].}",
    "The [gender] in the picture has on [upper]{, with [lower] below}{ and [footwear]}.",
)
# What stands in a slot that a template leaves no way to drop.
_NOTHING = {
    "clothing": "clothes whose colours cannot be made out",
    "upper": "a top whose colour cannot be made out",
    "lower": "bottoms whose colour cannot be made out",
    "footwear": "shoes that cannot be made out",
    "hair": "hair that cannot be made out",
    "belongings": "no belongings that can be made out",
    "accessory": "no accessories that can be made out",
    "action": "in view",
}


@dataclass(frozen=True)
class PixelDescriber:
    """A captioner that reads colours.

    Args:
        name: the first half of its slots.
    """

    name: str

    async def caption(self, image: Path, requests: Sequence[Request]) -> list[Caption | CaptionFailure]:
        """Describe ``image`` once for every request; an image that cannot be read is a failure."""
        try:
            look = await asyncio.to_thread(lambda: read_look(read_image(image, at_least=(96, 40))))
        except ImageError as error:
            return [CaptionFailure("unreadable-image", str(error), permanent=True)] * len(requests)
        return [Caption(describe(look, request.instruction, request.seed)) for request in requests]

    async def aclose(self) -> None:
        """Do nothing: nothing to let go of."""


def describe(look: Look, instruction: Instruction, seed: int) -> str:
    """Say what ``look`` shows, in the words of the instruction's template, or of a few stock sentences without one.

    The same arguments give the same sentence.
    """
    chance = Chance.of(seed, "describe")
    pattern = instruction.template.pattern if instruction.template else chance.pick(_STOCK)
    speaker = _Speaker(look, chance)
    text = fill(pattern, speaker.phrase, lambda slot: _NOTHING.get(slot_name(slot), slot))
    return finish(text, american=True)[0]


class _Speaker:
    """Noun phrases for what was seen; a phrase's words differ from call to call."""

    def __init__(self, look: Look, chance: Chance) -> None:
        self._look, self._chance = look, chance
        self._slots: Mapping[str, Callable[[], str | None]] = {
            "gender": lambda: chance.pick(("person", "person", "pedestrian", "individual")),
            "clothing": self._clothing,
            "upper": self._upper,
            "lower": self._lower,
            "footwear": lambda: self._thing(look.feet, ("shoes", "footwear")),
            "hair": self._hair,
            "action": lambda: None,
            # The pixels tell no gender, so a noun takes the place of the pronoun, with a verb in the singular.
            "he/she": lambda: "the person",
            "his/her": lambda: "their",
            "him/her": lambda: "them",
        }

    def phrase(self, slot: str) -> str | None:
        filler = self._slots.get(slot_name(slot))
        return filler() if filler else None

    def _clothing(self) -> str | None:
        look = self._look
        if look.torso == look.legs and look.torso:
            return f"{self._adjective(look.torso)} clothes"
        return listed([thing for thing in (self._upper(), self._lower()) if thing]) or None

    def _upper(self) -> str | None:
        thing = self._thing(self._look.torso, ("top", "top", "upper garment"))
        return thing and f"a {thing}"

    def _lower(self) -> str | None:
        return self._thing(self._look.legs, ("bottoms", "bottoms", "legwear"))

    def _hair(self) -> str | None:
        return self._chance.pick(("dark hair", "dark-coloured hair")) if self._look.hair.dark else None

    def _thing(self, band: Band, nouns: tuple[str, ...]) -> str | None:
        return f"{self._adjective(band)} {self._chance.pick(nouns)}" if band else None

    def _adjective(self, band: Band) -> str:
        if not band.colours:
            return self._chance.pick(("dark", "dark-coloured"))
        names = [vocabulary.all_words("colours", colour).draw(self._chance).text for colour in band.colours]
        return " and ".join(names)
