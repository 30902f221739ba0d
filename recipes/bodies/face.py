"""The head's skin: hair that lies on it, eyes, brows and mouth, a beard, glasses."""

from dataclasses import replace

import numpy as np

from bodies.anatomy import HEAD, HEIGHT
from bodies.layers import Numbers, shaded
from bodies.mesh import Flags, Floats
from bodies.wearer import Wearer
from textreid.synthetic.palette import mix

_BEARDED = 0.78  # share of men without a beard, as in the package's drawings
_LINE = ((-1.1, -0.5, 0.0, 0.28, 0.42, 0.75, 1.0), (-0.95, -0.9, -0.5, -0.25, 0.25, 0.5, 0.55))
# Metres that hair stands off the head.
_THICK = {"bald": 0.0, "short": 0.014, "shoulder-length": 0.026, "long": 0.024, "ponytail": 0.013, "bun": 0.013}


def hairline(chart: Floats) -> Floats:
    """Return the height on the head, in half-axes of the skull, where hair begins; (P,) of a (P, W) chart."""
    line: Floats = np.interp(chart[:, HEAD.start + 1], *_LINE).astype(np.float32)
    return line


def hair_thickness(wearer: Wearer) -> Floats:
    """Tell how far hair stands off the head at the (V,) vertices."""
    person = wearer.person
    full = _THICK[person.hair_length] * (0.6 + 0.9 * wearer.look.cut[13] + (0.5 if person.gender == "woman" else 0.0))
    if person.headwear != "none":
        full = 0.0 if person.headwear in ("hood", "headscarf") else min(full, 0.006)
    above = np.clip((wearer.chart[:, HEAD.start + 2] - hairline(wearer.chart)) / 0.4, 0, 1)
    thick: Floats = (full * above).astype(np.float32)
    return thick


def paint_head(wearer: Wearer, chart: Floats, numbers: Numbers, skin: int) -> None:
    """Paint the pixels of the head, in place; ``skin`` is the material that is there otherwise."""
    x, y, z = (chart[:, HEAD.start + n] for n in range(3))
    person, look, number = wearer.person, wearer.look, wearer.materials.number
    head = (z > -2.0) & (chart[:, HEIGHT] > 1.0)
    numbers[head] = skin
    ahead = head & (y > 0.35)
    hair, dark = number(look.hair), number(shaded(look.skin, 0.5))
    man = person.gender == "man"
    if man and look.cut[12] > _BEARDED:
        numbers[head & (y > 0.0) & (z < -0.38) & (z > -1.35)] = hair
    eyes = np.abs(np.abs(x) - 0.42)
    numbers[ahead & (eyes < 0.18) & (np.abs(z + 0.03) < 0.055)] = dark
    numbers[ahead & (eyes < 0.22) & (np.abs(z - 0.19) < 0.035)] = dark if person.hair_colour == "grey" else hair
    lips = shaded(look.skin, 0.66) if man else replace(look.skin, colour=mix(look.skin.colour, (160, 40, 50), 0.5))
    numbers[ahead & (np.abs(x) < 0.30) & (np.abs(z + 0.72) < 0.07)] = number(lips)
    if person.glasses:
        numbers[_glasses(x, y, z, head, dark_lenses=look.cut[11] > 0.5)] = number(look.dark)
    above = head & (z > hairline(chart))
    if person.hair_length == "bald":
        # A fringe around the crown of one in two.
        above &= (z < 0.35) & (y < 0.3) & (look.cut[13] < 0.5)
    numbers[above] = hair


def _glasses(x: Floats, y: Floats, z: Floats, head: Flags, dark_lenses: bool) -> Flags:
    """Choose the pixels of rims, bridge and temples, and of dark lenses."""
    lens = np.hypot((np.abs(x) - 0.42) / 0.36, (z + 0.02) / 0.2)
    ahead = head & (y > 0.25)
    rim = ahead & (lens < 1.0) & ((lens > 0.72) | dark_lenses)
    temple = head & (y > -0.25) & (y <= 0.6) & (np.abs(z - 0.05) < 0.06)
    bridge = ahead & (np.abs(x) < 0.12) & (np.abs(z - 0.05) < 0.05)
    chosen: Flags = rim | temple | bridge
    return chosen
