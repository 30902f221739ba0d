"""Clothes as paint: which material a pixel of the body or of hanging cloth shows, by where it lies on the body."""

from dataclasses import replace

import numpy as np

from bodies.anatomy import ARM, CLOTH, FRONT, HEIGHT, LEG, SIDE
from bodies.bank import BONES
from bodies.face import paint_head
from bodies.layers import Numbers, Paint, shaded
from bodies.mesh import Flags, Floats
from bodies.wearer import Wearer
from textreid.synthetic.drawing.canvas import Part as PartName

# Skin counts as the part of the figure that it is seen of.
_BARE: tuple[PartName, ...] = ("thing", "legs", "head", "feet")


def upper_paint(wearer: Wearer) -> Paint:
    """Make the paint of the upper garment: its pattern, its closing, and the straps that lie over it."""
    look, number = wearer.look, wearer.materials.number
    person, cut = wearer.person, look.cut
    cloth, second, blend, seam = (number(m) for m in (look.upper, look.second, look.blend, shaded(look.upper, 0.62)))
    period = 0.035 + 0.075 * cut[8]

    def paint(chart: Floats) -> Numbers:
        numbers = np.full(len(chart), cloth, np.int64)
        along, down = chart[:, CLOTH.start], chart[:, CLOTH.start + 1]
        across = np.mod(down, period) < period * (0.35 + 0.25 * cut[9])
        if person.upper_pattern == "stripes":
            # One garment in five has them upright.
            lines = np.mod(along, period * 0.7) < period * 0.3 if cut[4] > 0.8 else across
            numbers[lines] = second
        elif person.upper_pattern == "check":
            upright = np.mod(along, period) < period * 0.42
            numbers[across ^ upright] = blend
            numbers[across & upright] = second
        elif person.upper_pattern == "two-tone":
            numbers[_second_tone(chart, cut)] = second
        elif person.upper_pattern == "logo":
            numbers[_print(chart, cut)] = second
        front = (chart[:, FRONT] > 0) & (chart[:, ARM] < -0.3)
        # A zip or a row of buttons; an open garment has its edge there.
        if person.upper in ("shirt", "jacket", "padded jacket", "coat", "blazer") and not wearer.cut.opening:
            numbers[front & (np.abs(chart[:, SIDE]) < 0.045)] = seam
        return _with_straps(wearer, chart, numbers)

    return paint


def _second_tone(chart: Floats, cut: tuple[float, ...]) -> Flags:
    """Choose the yoke, the sleeves, or the lower half of a garment of two tones."""
    kind = cut[9]
    if kind > 0.6:
        return np.asarray((chart[:, HEIGHT] > 0.66) | (chart[:, ARM] > -0.5))
    if kind > 0.3:
        return np.asarray(chart[:, ARM] > -0.1)
    return np.asarray((chart[:, HEIGHT] < 0.42) & (chart[:, ARM] < 0))


def _print(chart: Floats, cut: tuple[float, ...]) -> Flags:
    """Choose the pixels of a print on the chest: a bar of letters, a badge or a picture."""
    x, y = chart[:, SIDE], (chart[:, HEIGHT] - 0.66) * 2.6
    chest = (chart[:, FRONT] > 0) & (chart[:, ARM] < -0.3)
    if cut[9] > 0.66:
        letters = np.mod(x * (5 + 4 * cut[4]), 1.0) < 0.68
        return np.asarray(chest & (np.abs(x) < 0.55) & (np.abs(y) < 0.16) & letters)
    if cut[9] > 0.33:
        holes = np.sin(9 * x + 20 * cut[4]) * np.sin(11 * y) > -0.3
        return np.asarray(chest & (x * x + y * y < 0.2) & holes)
    blobs = np.sin(13 * x + 30 * cut[4]) + np.sin(10 * y + 7 * cut[4]) + np.sin(8 * (x + y)) > -0.4
    return np.asarray(chest & (np.abs(x) < 0.5) & (np.abs(y) < 0.48) & blobs)


def _with_straps(wearer: Wearer, chart: Floats, numbers: Numbers) -> Numbers:
    """Paint the straps of a bag over what is worn on the torso."""
    bag, look = wearer.person.bag, wearer.look
    if bag not in ("backpack", "shoulder bag"):
        return numbers
    side, front, height = chart[:, SIDE], chart[:, FRONT], chart[:, HEIGHT]
    torso = chart[:, ARM] < 0.12
    if bag == "backpack":
        middle = 0.60 + np.maximum(0, 0.74 - height) * 1.3
        strap = (np.abs(np.abs(side) - middle) < 0.15) & (front > -0.25) & (height > 0.46) & (height < 1.02)
    else:
        left = 1.0 if look.cut[14] > 0.5 else -1.0
        if look.cut[15] > 0.4:
            # Over the other shoulder: from its top down to the hip of the bag.
            line = (side * left + 0.62) - (1.0 - height) * 1.75
            strap = (np.abs(line) < 0.17) & (height > 0.0) & (height < 1.05)
        else:
            strap = (np.abs(side * left - 0.72) < 0.11) & (height > 0.3) & (height < 1.05)
    numbers[torso & strap] = wearer.materials.number(shaded(look.bag, 0.9))
    return numbers


def body_paint(wearer: Wearer) -> Paint:
    """Make the paint of the body: skin, what is worn close to it, the face, short hair."""
    look, number, person, cut = wearer.look, wearer.materials.number, wearer.person, wearer.cut
    skins = {name: number(replace(look.skin, part=name)) for name in _BARE}
    upper = upper_paint(wearer)
    inner = number(look.inner)
    lower = number(look.lower if person.upper != "dress" else look.upper)
    hose = number(shaded(look.shoes, 0.8)) if cut.stockings else skins["legs"]
    hem = -cut.hem * (wearer.hips - wearer.below_hips(1.0)) / wearer.torso

    def paint(chart: Floats) -> Numbers:
        arm, leg, height = chart[:, ARM], chart[:, LEG], chart[:, HEIGHT]
        numbers = np.full(len(chart), skins["thing"], np.int64)
        limb = (leg > -0.4) & (arm < -0.5)
        numbers[limb] = hose if not cut.trousers else skins["legs"]
        # Under a skirt the hips are painted as it is, should they show.
        numbers[(height < 0.4) & (arm < -0.5) & (leg < (cut.trousers or 0.2))] = lower
        _paint_shoes(wearer, chart, numbers, skins["feet"])
        ahead = np.maximum(0, chart[:, FRONT]) > 0.08
        collar = 1.03 - np.where(ahead, cut.neck * np.exp(-((chart[:, SIDE] / 0.42) ** 2)), 0)
        torso = (height > hem) & (height < collar) & (arm < 0.25) & (arm < cut.sleeve)
        sleeve = (arm > -0.3) & (arm < cut.sleeve)
        worn = torso | sleeve
        if cut.opening:
            wide = 0.24 + 0.012 * cut.opening
            shows = ahead & (arm < -0.3) & (np.abs(chart[:, SIDE]) < wide * (1.15 - 0.35 * height)) & (height < 1.0)
            # Below, the cloth that hangs covers the jacket's part of the body.
            shows |= (height < 0.62) & (arm < -0.5)
            numbers[shows & (height > -0.12) & (leg < 0.25)] = inner
            worn &= ~shows
        numbers[worn] = upper(chart[worn])
        paint_head(wearer, chart, numbers, skins["head"])
        return numbers

    return paint


def _paint_shoes(wearer: Wearer, chart: Floats, numbers: Numbers, skin: int) -> None:
    look, cut = wearer.look, wearer.cut
    leg, number = chart[:, LEG], wearer.materials.number
    shod = leg > cut.shaft
    # The sole is what lies lowest in rest.
    ground = (0.028 - float(wearer.posed.rest[BONES.index("thigh.L"), 2])) / wearer.torso
    sole = (leg > 1.9) & (chart[:, HEIGHT] < ground)
    if wearer.person.shoes == "sandals":
        numbers[leg > 1.93] = skin
        shod = (leg > 2.1) & (np.mod(leg, 0.3) < 0.13)
    elif wearer.person.shoes == "heels":
        numbers[leg > 1.93] = skin
    numbers[shod] = number(look.shoes)
    numbers[sole] = number(look.sole)
