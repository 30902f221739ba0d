"""A captioner without a model: colours and layout read from the pixels, spoken through instruction and template.

It says little, and only what pixels can tell: no gender, no kind of garment, no belongings. It is there so that the
whole pipeline runs on real crops on a machine with no MLLM.

What is said, and how, was chosen by how often it was true of 178 rendered people of four domains: eight in ten
statements are. Shades between black and grey are only ever called dark; greys and beiges below the waist are left out,
for they are mostly ground; a band that tells nothing clear is passed over. No real data set was used.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from textreid.captioning.instructions import Instruction
from textreid.captioning.requests import Caption, CaptionFailure, Request
from textreid.captioning.templates import fill, slot_name
from textreid.errors import ImageError
from textreid.images import read_image, to_pixels
from textreid.seeding import Chance
from textreid.synthetic import vocabulary
from textreid.synthetic.attributes import COLOURS, Colour
from textreid.synthetic.palette import garment_colour
from textreid.synthetic.phrases import finish, listed

Floats = npt.NDArray[np.float32]

_HEIGHT, _WIDTH = 96, 40
_SIDE = 6  # columns at either side that count as background
_AROUND = 8  # rows above and below a band that tell its background
_SHADES = 48  # of each colour, drawn from the palette that names it
_SPREAD = 0.05  # of a shade, in units of the RGB cube
_NAMES, _PLACES = 4, 3  # bits a channel, of the table from pixels to colours and of the comparison with the background
_DOUBT = 0.01  # share of a colour below which the comparison tells little
_SURE, _SECOND = 0.42, 0.3  # shares of a band that make it one colour, and that make a second one
_DARK = 0.6  # luminance, as a share of the whole picture's, below which a band is dark
_LUMINANCE = np.array([0.299, 0.587, 0.114])
_CHROMATIC: frozenset[Colour] = frozenset(COLOURS) - {"black", "charcoal", "grey", "beige", "brown"}


@dataclass(frozen=True)
class Place:
    """Where a band lies, as shares of the height, well inside it, since people stand differently in their crops.

    ``spread`` is the standard deviation of the person's column there, as a share of the width, ``tall`` the least
    height to width of a crop that shows it, and ``believed`` the colours that are told by name.
    """

    start: float
    end: float
    spread: float
    tall: float
    believed: frozenset[Colour]


_PLACES_OF = {
    "hair": Place(0.03, 0.10, 0.14, 0.0, frozenset()),
    "torso": Place(0.22, 0.44, 0.14, 0.0, _CHROMATIC | {"black", "grey"}),
    "legs": Place(0.58, 0.84, 0.14, 1.4, _CHROMATIC),
    "feet": Place(0.90, 0.98, 0.20, 1.9, _CHROMATIC - {"white"}),
}


@dataclass(frozen=True)
class Band:
    """What one band of the body shows.

    Attributes:
        colours: the colour that fills most of it and, where there is one, the second; empty where none does.
        dark: whether it is much darker than the picture.
    """

    colours: tuple[Colour, ...] = ()
    dark: bool = False

    def __bool__(self) -> bool:
        return bool(self.colours) or self.dark


@dataclass(frozen=True)
class Look:
    """The bands of a person; an empty one is too unsure to tell of, or outside the picture."""

    hair: Band
    torso: Band
    legs: Band
    feet: Band


def read_look(picture: Image.Image) -> Look:
    """Read what the pixels of an RGB crop of one person tell."""
    # int64, for the numbers of `_cells` do not fit into a byte.
    pixels = to_pixels(picture, _HEIGHT, _WIDTH).astype(np.int64)
    shares = _table()[_cells(pixels, _NAMES)]  # (H, W, colours)
    light = np.tensordot(_LUMINANCE, pixels, 1)
    tall = picture.height / picture.width
    return Look(**{name: _read_band(place, pixels, shares, light, tall) for name, place in _PLACES_OF.items()})


def _read_band(
    place: Place, pixels: npt.NDArray[np.int64], shares: Floats, light: npt.NDArray[np.float64], tall: float
) -> Band:
    if tall < place.tall:
        return Band()
    rows = slice(round(place.start * _HEIGHT), round(place.end * _HEIGHT))
    weights = _person(pixels, rows, place.spread).ravel()
    dark = bool(np.average(light[rows].ravel(), weights=weights) < _DARK * light.mean())
    share = np.average(shares[rows].reshape(-1, len(COLOURS)), axis=0, weights=weights)
    first, second = np.argsort(-share)[:2]
    if share[first] < _SURE or COLOURS[first] not in place.believed:
        return Band((), dark)
    if share[second] >= _SECOND and COLOURS[second] in place.believed:
        return Band((COLOURS[first], COLOURS[second]), dark)
    return Band((COLOURS[first],), dark)


@cache
def _table() -> Floats:
    """Return the share of each colour in a cell of the RGB cube: (cells, colours), rows sum to 1."""
    chance = Chance.of("colours of pixels")
    axis = (np.arange(1 << _NAMES) + 0.5) / (1 << _NAMES)
    cells = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 1, 3)
    likelihood = np.empty((len(cells), len(COLOURS)))
    for column, colour in enumerate(COLOURS):
        shades = np.array([garment_colour(colour, chance) for _ in range(_SHADES)]) / 255
        distance = np.square(cells - shades).sum(axis=-1)
        # The second term decides where no shade is near.
        likelihood[:, column] = np.exp(-distance / (2 * _SPREAD**2)).mean(axis=-1) + 1e-12 * np.exp(-distance.min(-1))
    shares: Floats = (likelihood / likelihood.sum(axis=1, keepdims=True)).astype(np.float32)
    return shares


def _cells(pixels: npt.NDArray[np.int64], bits: int) -> npt.NDArray[np.int64]:
    """Return the cell of each pixel in a cube with 2^bits cells along each axis: (3, H, W) to (H, W)."""
    red, green, blue = pixels >> (8 - bits)
    cells: npt.NDArray[np.int64] = (red << 2 * bits) | (green << bits) | blue
    return cells


def _person(pixels: npt.NDArray[np.int64], rows: slice, spread: float) -> npt.NDArray[np.float64]:
    """Return how much each pixel of ``rows`` counts as the person: (rows, W), above 0.

    A column in the middle, less the colours that occur more at the sides of these rows and those around them.
    """
    across = (np.arange(_WIDTH) + 0.5) / _WIDTH - 0.5
    column = np.exp(-0.5 * (across / spread) ** 2)
    cells = _cells(pixels, _PLACES)
    near = cells[max(0, rows.start - _AROUND) : rows.stop + _AROUND]
    size = 1 << 3 * _PLACES
    middle = np.tile(column[_SIDE:-_SIDE], (len(near), 1))
    inside = np.bincount(near[:, _SIDE:-_SIDE].ravel(), middle.ravel(), minlength=size)
    outside = np.bincount(np.delete(near, np.s_[_SIDE:-_SIDE], axis=1).ravel(), minlength=size)
    inside, outside = inside / inside.sum(), outside / outside.sum()
    ratio = (inside + 0.1 * _DOUBT) / (inside + outside + _DOUBT)
    weights: npt.NDArray[np.float64] = column * ratio[cells[rows]] ** 3 + 1e-9
    return weights


# -- what is said of it -----------------------------------------------------------------------------------------------

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
