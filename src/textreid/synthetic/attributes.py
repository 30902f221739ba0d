"""What a synthetic person looks like, in named values: the ground truth of the renderer and the describers."""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal, Self, get_args

Colour = Literal[
    "black", "charcoal", "grey", "white", "beige", "brown", "red", "burgundy", "orange", "yellow",
    "olive", "green", "teal", "light blue", "blue", "navy", "purple", "pink",
]  # fmt: skip
Gender = Literal["woman", "man"]
# Drawn and never said: no describer and no simulated MLLM speaks of the colour of skin.
Skin = Literal["light", "medium", "dark"]
Build = Literal["slim", "average", "heavy"]
HairLength = Literal["bald", "short", "shoulder-length", "long", "ponytail", "bun"]
HairColour = Literal["black", "brown", "blonde", "red", "grey"]
Headwear = Literal["none", "cap", "beanie", "hat", "hood", "headscarf"]
UpperKind = Literal[
    "t-shirt", "shirt", "polo shirt", "sweater", "hoodie", "jacket", "padded jacket", "blazer", "coat", "vest", "dress",
]  # fmt: skip
Pattern = Literal["plain", "stripes", "check", "logo", "two-tone"]
Sleeve = Literal["sleeveless", "short", "long"]
# "dress" is here too: of somebody who wears one alone, and of one that is worn below a jacket or a coat.
LowerKind = Literal["jeans", "trousers", "sweatpants", "leggings", "shorts", "skirt", "long skirt", "dress"]
ShoesKind = Literal["trainers", "boots", "sandals", "dress shoes", "heels"]
BagKind = Literal["none", "backpack", "handbag", "shoulder bag", "suitcase", "carrier bag"]
Held = Literal["nothing", "phone", "umbrella", "papers", "bottle"]
Direction = Literal["front", "back", "left", "right"]

COLOURS: tuple[Colour, ...] = get_args(Colour)


@dataclass(frozen=True)
class Person:
    """One identity: what stays the same from camera to camera.

    Colours of things that are absent (``bag_colour`` when ``bag`` is ``"none"``) are drawn all the same and mean
    nothing. ``lower="dress"`` goes with ``upper="dress"`` (a dress alone) or with an outer garment worn over it.
    """

    gender: Gender
    skin: Skin
    build: Build
    hair_length: HairLength
    hair_colour: HairColour
    headwear: Headwear
    headwear_colour: Colour
    upper: UpperKind
    upper_colour: Colour
    upper_pattern: Pattern
    upper_second_colour: Colour  # of stripes, checks, the logo, or the sleeves and shoulders of a two-tone garment
    sleeve: Sleeve
    inner_colour: Colour | None  # what shows under an outer garment that is worn open; None: closed, or nothing outer
    lower: LowerKind
    lower_colour: Colour
    shoes: ShoesKind
    shoes_colour: Colour
    bag: BagKind
    bag_colour: Colour
    glasses: bool
    scarf_colour: Colour | None
    held: Held
    held_colour: Colour

    def to_dict(self) -> dict[str, Any]:
        """Return the attributes as JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Make the person written by `to_dict`."""
        return cls(**values)


@dataclass(frozen=True)
class View:
    """View of a person in one picture: decides which attributes a witness could have seen."""

    direction: Direction
    walking: bool
    feet_visible: bool
    head_visible: bool
    legs_visible: bool

    def to_dict(self) -> dict[str, Any]:
        """Return the view as JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Make the view written by `to_dict`."""
        return cls(**values)
