"""Who passes by: attributes drawn from street frequencies, mixed with uniform draws so that nothing is too rare."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeVar, get_args

import numpy as np

from textreid.seeding import Chance
from textreid.synthetic import attributes as a
from textreid.synthetic.domains import Domain

_T = TypeVar("_T")
# Every value must come up in one person of a hundred (tests/synthetic/test_sampling.py), so that a model meets it.
_EVEN = 0.35  # share of draws that ignore the street

_DARK: dict[a.Colour, float] = {
    "black": 30, "charcoal": 7, "grey": 12, "white": 9, "beige": 5, "brown": 5, "red": 5, "burgundy": 2.5,
    "orange": 1.2, "yellow": 1.5, "olive": 3, "green": 3, "teal": 1.2, "light blue": 4, "blue": 7, "navy": 11,
    "purple": 2, "pink": 3,
}  # fmt: skip
_LIGHT: dict[a.Colour, float] = {
    "black": 17, "charcoal": 4, "grey": 11, "white": 22, "beige": 4, "brown": 2.5, "red": 7, "burgundy": 2,
    "orange": 2.5, "yellow": 4, "olive": 2.5, "green": 4.5, "teal": 2, "light blue": 7, "blue": 8, "navy": 7,
    "purple": 3, "pink": 6,
}  # fmt: skip
_LOWER: dict[a.Colour, float] = {
    "black": 32, "charcoal": 8, "grey": 10, "white": 4, "beige": 8, "brown": 4, "red": 1, "burgundy": 1,
    "orange": 0.6, "yellow": 0.6, "olive": 3, "green": 1.2, "teal": 0.6, "light blue": 4, "blue": 8, "navy": 12,
    "purple": 1, "pink": 1.5,
}  # fmt: skip
# Never mixed with even draws: there are no orange jeans.
_JEANS: dict[a.Colour, float] = {"blue": 46, "light blue": 16, "navy": 20, "black": 12, "grey": 5, "white": 1}
_SHOES: dict[a.Colour, float] = {
    "black": 40, "charcoal": 4, "grey": 8, "white": 20, "beige": 4, "brown": 10, "red": 3, "burgundy": 1,
    "orange": 1, "yellow": 1, "olive": 0.5, "green": 1, "teal": 0.5, "light blue": 1, "blue": 3, "navy": 2,
    "purple": 0.5, "pink": 2,
}  # fmt: skip
_SOBER_UPPER: dict[a.Colour, float] = {
    "black": 40, "charcoal": 10, "grey": 16, "navy": 12, "white": 12, "beige": 4, "brown": 3, "red": 3,
}  # fmt: skip
_SOBER_LOWER: dict[a.Colour, float] = {
    "black": 55, "charcoal": 8, "grey": 12, "navy": 10, "beige": 8, "brown": 4, "olive": 3,
}  # fmt: skip
_SOBER_SHOES: dict[a.Colour, float] = {"black": 50, "white": 25, "grey": 10, "brown": 8, "red": 4, "blue": 3}
_SOBER_BAG: dict[a.Colour, float] = {
    "black": 50, "brown": 12, "grey": 10, "white": 7, "red": 6, "blue": 5, "navy": 5, "pink": 3, "green": 2,
}  # fmt: skip


def sample_person(domain: Domain, rng: np.random.Generator) -> a.Person:
    """Draw the attributes of one person who passes the cameras of ``domain``."""
    chance = Chance(rng)
    gender: a.Gender = "woman" if chance.happens(domain.women) else "man"
    woman = gender == "woman"
    # Decided once for the whole person: sleeves, legs and shoes suit the upper garment.
    warm = chance.happens(domain.warmth)
    upper = _upper(woman, warm, chance)
    sleeve = _sleeve(upper, warm, chance)
    lower = _lower(upper, woman, warm, chance)
    upper_colour = _colour(_LIGHT if warm else _DARK, chance)
    outer = upper in ("jacket", "padded jacket", "blazer", "coat", "hoodie", "shirt")
    # Blazers are mostly worn open, shirts and hoodies seldom.
    is_open = outer and chance.happens(0.2 if upper in ("shirt", "hoodie") else 0.65 if upper == "blazer" else 0.42)
    inner = _colour(_LIGHT, chance)
    lower_colour = (
        # With 0.18 in place of 0.24 orange and yellow fell below one in a hundred.
        upper_colour if lower == upper == "dress" else _colour(_JEANS if lower == "jeans" else _LOWER, chance, 0.24)
    )
    # Drawn for those without a scarf too: what is drawn after it is the same for both.
    scarf = _colour(_DARK, chance)
    headwear = _headwear(woman, warm, upper, chance)
    person = a.Person(
        gender=gender,
        skin=chance.weighted({"light": 0.62, "medium": 0.22, "dark": 0.16}),
        build=chance.weighted({"slim": 0.32, "average": 0.46, "heavy": 0.22}),
        hair_length=_hair(woman, chance),
        hair_colour=_mixed({"black": 46, "brown": 30, "blonde": 11, "red": 3, "grey": 10}, chance, 0.25),
        headwear=headwear,
        # A hood is part of the garment.
        headwear_colour=upper_colour if headwear == "hood" else _colour(_DARK, chance),
        upper=upper,
        upper_colour=upper_colour,
        upper_pattern=_pattern(upper, chance),
        upper_second_colour=_other(upper_colour, chance),
        sleeve=sleeve,
        inner_colour=inner if is_open else None,
        lower=lower,
        lower_colour=lower_colour,
        shoes=_shoes(woman, warm, chance),
        shoes_colour=_colour(_SHOES, chance, 0.2),
        bag=_bag(woman, domain.luggage, chance),
        bag_colour=_colour(_DARK, chance),
        glasses=chance.happens(0.2),
        scarf_colour=scarf if chance.happens(0.05 if warm else 0.17) else None,
        held=chance.weighted({"nothing": 0.74, "phone": 0.12, "umbrella": 0.04, "papers": 0.05, "bottle": 0.05}),
        held_colour=_colour(_DARK, chance),
    )
    return _soberly(person, chance) if domain.sober and chance.happens(domain.sober) else person


def _soberly(person: a.Person, chance: Chance) -> a.Person:
    """Dress the person in dark everyday colours, and leave what they wear and carry as it is."""
    in_dress = "dress" in (person.upper, person.lower)
    upper = person.upper_colour if in_dress else chance.weighted(_SOBER_UPPER)
    lower = person.lower_colour if in_dress or person.lower == "jeans" else chance.weighted(_SOBER_LOWER)
    return replace(
        person,
        upper_colour=upper,
        upper_second_colour=_other(upper, chance),
        headwear_colour=upper if person.headwear == "hood" else person.headwear_colour,
        lower_colour=lower,
        shoes_colour=chance.weighted(_SOBER_SHOES),
        bag_colour=chance.weighted(_SOBER_BAG),
        hair_colour="black" if chance.happens(0.7) else person.hair_colour,
    )


def _colour(weights: Mapping[a.Colour, float], chance: Chance, even: float = _EVEN) -> a.Colour:
    if weights is _JEANS:
        return chance.weighted(weights)
    return _mixed(weights, chance, even)


def _mixed(weights: Mapping[_T, float], chance: Chance, even: float = _EVEN) -> _T:
    values: Sequence[_T] = list(weights)
    return chance.pick(values) if chance.happens(even) else chance.weighted(weights)


def _other(colour: a.Colour, chance: Chance) -> a.Colour:
    """Draw a second colour that can be told from the first."""
    # Stripes of these could not be told apart in a small picture.
    close = {
        "black": ("charcoal", "navy"),
        "charcoal": ("black", "navy", "grey"),
        "navy": ("black", "charcoal", "blue"),
    }
    while True:
        second = _colour(_LIGHT, chance, 0.4)
        if second != colour and second not in close.get(colour, ()):
            return second


def _upper(woman: bool, warm: bool, chance: Chance) -> a.UpperKind:
    weights: dict[a.UpperKind, float]
    if warm:
        weights = {
            "t-shirt": 36, "shirt": 17, "polo shirt": 8, "sweater": 5, "hoodie": 6, "jacket": 7, "padded jacket": 0.5,
            "blazer": 4, "coat": 0.8, "vest": 6, "dress": 0,
        }  # fmt: skip
    else:
        weights = {
            "t-shirt": 4, "shirt": 7, "polo shirt": 1, "sweater": 15, "hoodie": 14, "jacket": 25, "padded jacket": 15,
            "blazer": 6, "coat": 14, "vest": 0.5, "dress": 0,
        }  # fmt: skip
    kinds = [kind for kind in get_args(a.UpperKind) if woman or kind != "dress"]
    if woman:
        weights["dress"] = 14 if warm else 4
    # A quarter of the draws ignores the weather as well, as `_EVEN` ignores the street.
    return chance.pick(kinds) if chance.happens(0.25) else chance.weighted(weights)


def _sleeve(upper: a.UpperKind, warm: bool, chance: Chance) -> a.Sleeve:
    shares: dict[a.UpperKind, tuple[float, float]] = {
        "t-shirt": (0.03, 0.91), "shirt": (0.02, 0.5 if warm else 0.15), "polo shirt": (0.0, 0.94), "vest": (1.0, 0.0),
        "dress": (0.4, 0.38) if warm else (0.1, 0.3), "padded jacket": (0.08, 0.0), "jacket": (0.03, 0.0),
    }  # fmt: skip
    bare, short = shares.get(upper, (0.0, 0.0))
    return chance.weighted({"sleeveless": bare, "short": short, "long": max(0.0, 1 - bare - short)})


def _lower(upper: a.UpperKind, woman: bool, warm: bool, chance: Chance) -> a.LowerKind:
    if upper == "dress":
        return "dress"
    weights: dict[a.LowerKind, float] = {
        "jeans": 40, "trousers": 30, "sweatpants": 11, "leggings": 1, "shorts": 16 if warm else 2,
    }  # fmt: skip
    if woman:
        weights = {
            "jeans": 34, "trousers": 19, "sweatpants": 6, "leggings": 13, "shorts": 11 if warm else 2, "skirt": 12,
            "long skirt": 7,
        }  # fmt: skip
        # A dress under an outer garment; alone it is the upper garment (`Person`).
        if upper in ("jacket", "padded jacket", "blazer", "coat"):
            weights["dress"] = 6
    return _mixed(weights, chance, 0.25 if woman else 0.12)


def _hair(woman: bool, chance: Chance) -> a.HairLength:
    if woman:
        return chance.weighted(
            {"bald": 0.003, "short": 0.2, "shoulder-length": 0.25, "long": 0.27, "ponytail": 0.18, "bun": 0.1}
        )
    return chance.weighted(
        {"bald": 0.13, "short": 0.8, "shoulder-length": 0.03, "long": 0.015, "ponytail": 0.015, "bun": 0.01}
    )


def _headwear(woman: bool, warm: bool, upper: a.UpperKind, chance: Chance) -> a.Headwear:
    weights: dict[a.Headwear, float] = {
        "none": 74, "cap": 5 if woman else 11, "beanie": 2 if warm else 9, "hat": 4, "headscarf": 6 if woman else 0,
    }  # fmt: skip
    # The garments that have a hood.
    if upper in ("hoodie", "jacket", "padded jacket", "coat"):
        weights["hood"] = 10
    return chance.weighted(weights)


def _pattern(upper: a.UpperKind, chance: Chance) -> a.Pattern:
    weights: dict[a.Pattern, float] = {"plain": 68, "stripes": 8, "check": 4, "logo": 11, "two-tone": 9}
    if upper == "shirt":
        weights = {"plain": 58, "stripes": 13, "check": 22, "logo": 1, "two-tone": 6}
    elif upper in ("coat", "blazer"):
        weights = {"plain": 84, "stripes": 2, "check": 9, "logo": 0, "two-tone": 5}
    elif upper in ("jacket", "padded jacket"):
        weights = {"plain": 72, "stripes": 2, "check": 3, "logo": 7, "two-tone": 16}
    return chance.weighted(weights)


def _shoes(woman: bool, warm: bool, chance: Chance) -> a.ShoesKind:
    weights: dict[a.ShoesKind, float] = {
        "trainers": 52, "boots": 8 if warm else 18, "sandals": 12 if warm else 2, "dress shoes": 20, "heels": 0,
    }  # fmt: skip
    if woman:
        weights = {
            "trainers": 42, "boots": 9 if warm else 26, "sandals": 18 if warm else 3, "dress shoes": 10, "heels": 14,
        }  # fmt: skip
    return chance.weighted(weights)


def _bag(woman: bool, luggage: float, chance: Chance) -> a.BagKind:
    weights: dict[a.BagKind, float] = {
        "none": 42, "backpack": 24, "handbag": 14 if woman else 2.5, "shoulder bag": 16 if woman else 10,
        # The other weights sum to about 100, so this makes a share of a weight.
        "suitcase": 100 * luggage, "carrier bag": 8,
    }  # fmt: skip
    return chance.weighted(weights)
