"""What the colour names look like: clusters in hue, saturation and value, overlapping as human naming does."""

import colorsys

from textreid.seeding import Chance
from textreid.synthetic.attributes import Colour, HairColour, Skin

RGB = tuple[float, float, float]
_Cluster = tuple[float, float, float, float, float, float, float]  # weight, then low and high of H (degrees), S and V

_COLOURS: dict[Colour, tuple[_Cluster, ...]] = {
    "black": (
        (0.45, 205, 250, 0.05, 0.28, 0.09, 0.19),
        (0.25, 0, 40, 0.04, 0.20, 0.09, 0.18),
        (0.30, 0, 360, 0.00, 0.08, 0.09, 0.21),
    ),
    "charcoal": ((0.6, 200, 245, 0.04, 0.16, 0.20, 0.33), (0.4, 0, 360, 0.00, 0.07, 0.21, 0.34)),
    "grey": (
        (0.5, 0, 360, 0.00, 0.06, 0.36, 0.68),
        (0.3, 200, 240, 0.04, 0.13, 0.36, 0.66),
        (0.2, 30, 60, 0.03, 0.10, 0.40, 0.66),
    ),
    "white": ((0.6, 205, 240, 0.00, 0.06, 0.84, 0.99), (0.4, 30, 60, 0.00, 0.07, 0.84, 0.98)),
    "beige": ((0.7, 30, 44, 0.14, 0.34, 0.62, 0.86), (0.3, 36, 52, 0.20, 0.38, 0.50, 0.70)),
    "brown": (
        (0.6, 14, 32, 0.32, 0.62, 0.24, 0.46),
        (0.3, 22, 36, 0.34, 0.56, 0.42, 0.60),
        (0.1, 10, 25, 0.25, 0.5, 0.17, 0.26),
    ),
    # A hue beyond 360 goes on from 0: red lies on both sides of it.
    "red": ((0.7, 350, 364, 0.66, 0.90, 0.52, 0.84), (0.3, 352, 368, 0.55, 0.78, 0.62, 0.90)),
    "burgundy": ((0.8, 334, 358, 0.42, 0.76, 0.24, 0.44), (0.2, 345, 362, 0.45, 0.7, 0.20, 0.32)),
    "orange": ((0.8, 12, 28, 0.68, 0.94, 0.74, 0.97), (0.2, 16, 30, 0.5, 0.75, 0.7, 0.9)),
    "yellow": (
        (0.6, 44, 56, 0.55, 0.90, 0.76, 0.97),
        (0.2, 50, 62, 0.32, 0.60, 0.84, 0.97),
        (0.2, 38, 46, 0.6, 0.85, 0.64, 0.82),
    ),
    "olive": ((0.6, 52, 84, 0.24, 0.50, 0.26, 0.46), (0.4, 44, 62, 0.25, 0.45, 0.30, 0.50)),
    "green": (
        (0.5, 105, 150, 0.34, 0.75, 0.28, 0.62),
        (0.15, 82, 110, 0.38, 0.70, 0.42, 0.70),
        (0.25, 128, 165, 0.38, 0.70, 0.18, 0.32),
    ),
    "teal": ((1.0, 170, 193, 0.40, 0.80, 0.30, 0.64),),
    "light blue": ((0.8, 198, 218, 0.18, 0.46, 0.68, 0.93), (0.2, 188, 205, 0.2, 0.5, 0.65, 0.88)),
    "blue": ((0.6, 207, 230, 0.52, 0.86, 0.42, 0.82), (0.4, 212, 236, 0.42, 0.68, 0.36, 0.64)),
    "navy": ((0.75, 216, 240, 0.32, 0.66, 0.14, 0.29), (0.25, 210, 232, 0.25, 0.45, 0.20, 0.33)),
    "purple": ((0.7, 264, 296, 0.30, 0.64, 0.30, 0.62), (0.3, 258, 285, 0.2, 0.4, 0.5, 0.75)),
    "pink": (
        (0.5, 325, 352, 0.22, 0.50, 0.76, 0.96),
        (0.25, 328, 345, 0.55, 0.80, 0.74, 0.93),
        (0.25, 0, 14, 0.18, 0.36, 0.78, 0.93),
    ),
}
# Dyed and washed cotton is paler and greyer than other cloth of the same name. White is not here: it looks alike.
_DENIM: dict[Colour, tuple[_Cluster, ...]] = {
    "blue": ((0.7, 208, 224, 0.26, 0.50, 0.36, 0.58), (0.3, 210, 226, 0.35, 0.55, 0.32, 0.46)),
    "light blue": ((1.0, 204, 220, 0.12, 0.30, 0.58, 0.80),),
    "navy": ((1.0, 214, 234, 0.22, 0.46, 0.19, 0.32),),
    "grey": ((1.0, 205, 225, 0.02, 0.10, 0.38, 0.60),),
    "black": ((1.0, 210, 240, 0.03, 0.18, 0.12, 0.22),),
}
_SKIN: dict[Skin, tuple[_Cluster, ...]] = {
    "light": ((0.7, 16, 27, 0.22, 0.42, 0.78, 0.94), (0.3, 20, 30, 0.25, 0.40, 0.72, 0.88)),
    "medium": ((1.0, 19, 30, 0.36, 0.54, 0.54, 0.76),),
    "dark": ((1.0, 16, 27, 0.38, 0.60, 0.24, 0.46),),
}
_HAIR: dict[HairColour, tuple[_Cluster, ...]] = {
    "black": ((0.6, 210, 250, 0.04, 0.22, 0.07, 0.16), (0.4, 10, 30, 0.10, 0.35, 0.08, 0.17)),
    "brown": ((1.0, 17, 30, 0.30, 0.58, 0.18, 0.37),),
    "blonde": ((0.7, 36, 46, 0.28, 0.52, 0.60, 0.83), (0.3, 32, 42, 0.3, 0.5, 0.5, 0.64)),
    "red": ((1.0, 10, 22, 0.48, 0.74, 0.36, 0.58),),
    "grey": ((1.0, 0, 360, 0.01, 0.08, 0.46, 0.82),),
}


def garment_colour(colour: Colour, chance: Chance, denim: bool = False) -> RGB:
    """Draw a shade that people would call ``colour``, as RGB in 0–255; ``denim`` as dyed and washed denim shows it."""
    clusters = _DENIM.get(colour, _COLOURS[colour]) if denim else _COLOURS[colour]
    return _draw(clusters, chance)


def skin_colour(skin: Skin, chance: Chance) -> RGB:
    """Draw a skin tone as RGB in 0–255."""
    return _draw(_SKIN[skin], chance)


def hair_colour(hair: HairColour, chance: Chance) -> RGB:
    """Draw a hair colour as RGB in 0–255."""
    return _draw(_HAIR[hair], chance)


def mix(first: RGB, second: RGB, share: float) -> RGB:
    """Mix ``first`` with ``share`` of ``second``."""
    return (
        first[0] + (second[0] - first[0]) * share,
        first[1] + (second[1] - first[1]) * share,
        first[2] + (second[2] - first[2]) * share,
    )


def scale(colour: RGB, factor: float) -> RGB:
    """Make ``colour`` lighter or darker."""
    return (colour[0] * factor, colour[1] * factor, colour[2] * factor)


def from_hsv(hue: float, saturation: float, value: float) -> RGB:
    """Return RGB in 0–255 of a hue in degrees, a saturation and a value in 0–1."""
    red, green, blue = colorsys.hsv_to_rgb((hue % 360) / 360, saturation, value)
    return (red * 255, green * 255, blue * 255)


def _draw(clusters: tuple[_Cluster, ...], chance: Chance) -> RGB:
    """Draw a colour; always take seven uniforms, so that another colour leaves all other draws as they were."""
    point, index = chance.unit() * sum(cluster[0] for cluster in clusters), 0
    while point >= clusters[index][0] and index + 1 < len(clusters):
        point -= clusters[index][0]
        index += 1
    _, h0, h1, s0, s1, v0, v1 = clusters[index]
    return from_hsv(chance.middle(h0, h1), chance.middle(s0, s1), chance.middle(v0, v1))
