"""What people carry: bags on the back, at the hip, in the hand, on wheels; what they hold."""

from dataclasses import replace

import numpy as np

from bodies.anatomy import ARM, HEIGHT
from bodies.layers import Numbers, Paint, Part, part, shaded
from bodies.mesh import Floats, block, joined, pipe, revolve, rotation
from bodies.wearer import Wearer
from textreid.synthetic.drawing.figure import Appearance
from textreid.synthetic.drawing.pose import ArmPose

_SIDES = ("R", "L")  # in the order of the arms' poses


def carried_parts(wearer: Wearer, skin: Floats, modes: tuple[ArmPose, ArmPose], walking: bool) -> list[Part]:
    """Make the bag and what is held; ``modes`` are the poses of the right and the left arm."""
    parts = _bag(wearer, skin, modes, walking)
    held = wearer.person.held
    for mode, side in zip(modes, _SIDES, strict=True):
        if held in ("phone", "papers", "bottle") and mode in ("ear", "chest"):
            return [*parts, *_held(wearer, side)]
        if held == "umbrella" and mode == "raise":
            return [*parts, *_umbrella(wearer, side)]
    if held == "bottle":
        return [*parts, *_held(wearer, _SIDES[0])]
    return parts


def _bag(wearer: Wearer, skin: Floats, modes: tuple[ArmPose, ArmPose], walking: bool) -> list[Part]:
    bag = wearer.person.bag
    if bag == "backpack":
        return _backpack(wearer, skin)
    if bag == "shoulder bag":
        return _shoulder_bag(wearer, skin)
    if bag in ("handbag", "carrier bag"):
        side = _SIDES[1] if modes[1] == "hang" else _SIDES[0]
        return _in_hand(wearer, side)
    if bag == "suitcase":
        return _suitcase(wearer, _SIDES[1] if modes[1] == "pull" else _SIDES[0], walking)
    return []


def _backpack(wearer: Wearer, skin: Floats) -> list[Part]:
    look, turn = wearer.look, wearer.posed.turn("chest")
    tall, wide, deep = 0.21 + 0.08 * look.cut[14], 0.145 + 0.045 * look.cut[13], 0.085 + 0.065 * look.cut[15]
    torso = (np.abs(skin[:, 0] - wearer.posed.head("chest")[0]) < 0.1) & (wearer.chart[:, ARM] < -0.5)
    torso &= (wearer.chart[:, HEIGHT] > 0.45) & (wearer.chart[:, HEIGHT] < 0.95)
    back = float(skin[torso, 1].min())
    middle = np.array([wearer.posed.head("chest")[0], back - deep * 0.82, wearer.at_height(0.93) - tall], np.float32)
    pack = block((wide, deep, tall), 0.42, 20, 11).placed(rotation(0, -4) @ turn, middle)
    pocket = block((wide * 0.82, deep * 0.45, tall * 0.42), 0.4).placed(
        turn, middle + turn @ np.array([0, -deep * 0.8, -tall * 0.42], np.float32)
    )
    handle = pipe([tuple(middle + turn @ np.array(v, np.float32)) for v in
                   ((-0.04, deep * 0.4, tall * 0.97), (0, deep * 0.4, tall * 1.12), (0.04, deep * 0.4, tall * 0.97))],
                  (0.009,) * 3, 5)  # fmt: skip
    return [
        part(pack, _seams(wearer, look)),
        part(pocket, wearer.materials.plain(shaded(look.bag, 0.86))),
        part(handle, wearer.materials.plain(shaded(look.bag, 0.7))),
    ]


def _seams(wearer: Wearer, look: Appearance) -> Paint:
    plain, seam = (wearer.materials.number(shaded(look.bag, k)) for k in (1.0, 0.6))

    def paint(chart: Floats) -> Numbers:
        return np.where((np.abs(chart[:, 2] - 0.55) < 0.035) & (chart[:, 1] < 0.5), seam, plain)

    return paint


def _soft(wearer: Wearer, half: tuple[float, float, float], place: Floats, turn: Floats) -> list[Part]:
    """Make a bag with a flap and a seam."""
    body = block(half, 0.3, 20, 9)
    look = wearer.look
    plain, seam, clasp = (wearer.materials.number(shaded(look.bag, k)) for k in (1.0, 0.62, 1.5))
    flap = look.cut[12] > 0.4

    def paint(chart: Floats) -> Numbers:
        numbers = np.full(len(chart), plain, np.int64)
        numbers[np.abs(chart[:, 2] - (-0.1 if flap else 0.7)) < 0.09] = seam
        if flap:
            numbers[(np.abs(chart[:, 1]) < 0.12) & (np.abs(chart[:, 2] + 0.1) < 0.14)] = clasp
        return numbers

    return [part(body.placed(turn, place), paint)]


def _shoulder_bag(wearer: Wearer, skin: Floats) -> list[Part]:
    look = wearer.look
    left, across = 1.0 if look.cut[14] > 0.5 else -1.0, look.cut[15] > 0.4
    half = (0.055 + 0.03 * look.cut[11], 0.15 + 0.08 * look.cut[13], 0.11 + 0.08 * look.cut[12])
    height = wearer.at_height(0.08 if across else 0.34)
    near = (wearer.chart[:, ARM] < -0.5) & (np.abs(skin[:, 2] - height) < 0.08) & (skin[:, 0] * left > 0)
    side = float(np.abs(skin[near, 0]).max()) if near.any() else 0.2
    forward = 0.05 * (look.cut[4] - 0.5) * 2 + (0.0 if across else -0.03)
    place = np.array([left * (side + half[0] + 0.012), forward + wearer.posed.head("belly")[1], height], np.float32)
    parts = _soft(wearer, half, place, rotation(2, left * -8.0))
    # The strap that leaves the body: from the bag's ends up to where it meets the clothes.
    shoulder = wearer.posed.head(f"upper arm.{'L' if (left > 0) != across else 'R'}")
    top = shoulder + np.array([-0.04 * np.sign(shoulder[0]), 0, 0.055], np.float32)
    straps = [
        pipe(
            np.stack((place + np.array([0, end * half[1] * 0.9, half[2] * 0.8]), _mid(place, top, end), top)),
            (0.013,) * 3,
            6,
        )
        for end in ((-1, 1) if not across else ())
    ]
    if straps:
        parts.append(part(joined(straps), wearer.materials.plain(shaded(look.bag, 0.85))))
    return parts


def _mid(place: Floats, top: Floats, end: float) -> Floats:
    middle: Floats = (0.45 * place + 0.55 * top + np.array([np.sign(top[0]) * 0.03, end * 0.1, 0.02])).astype(
        np.float32
    )
    return middle


def _in_hand(wearer: Wearer, side: str) -> list[Part]:
    look = wearer.look
    hand = wearer.posed.tips["LR".index(side)]
    handbag = wearer.person.bag == "handbag"
    half = (
        (0.06 + 0.04 * look.cut[12], 0.14 + 0.08 * look.cut[14], 0.11 + 0.07 * look.cut[15])
        if handbag
        else (0.075, 0.14 + 0.05 * look.cut[13], 0.16 + 0.06 * look.cut[14])
    )
    drop = 0.09 if handbag else 0.07
    sign = 1.0 if side == "L" else -1.0
    place = hand + np.array([sign * (half[0] + 0.01), 0.0, -drop - half[2]], np.float32)
    ends = [place + np.array([0, end * half[1] * 0.55, half[2] * 0.9], np.float32) for end in (-1, 1)]
    grip = np.array([0, 0.03, 0], np.float32)
    handle = pipe(np.stack((ends[0], hand - grip, hand + grip, ends[1])), (0.010,) * 4, 6)
    turn = rotation(2, 70.0 * (look.cut[4] - 0.5))
    parts = _soft(wearer, half, place, turn) if handbag else _carrier(wearer, half, place, turn)
    return [*parts, part(handle, wearer.materials.plain(shaded(look.bag, 0.8)))]


def _carrier(wearer: Wearer, half: tuple[float, float, float], place: Floats, turn: Floats) -> list[Part]:
    """Make a plastic or paper bag, with a print on some."""
    body = block(half, 0.22, 20, 9)
    plain, ink = (wearer.materials.number(shaded(wearer.look.bag, k)) for k in (1.0, 0.5))
    printed = wearer.look.cut[12] > 0.5

    def paint(chart: Floats) -> Numbers:
        mark = printed & (np.abs(chart[:, 2]) < 0.3) & (np.abs(chart[:, 1]) < 0.5) & (np.sin(chart[:, 1] * 19) > -0.4)
        return np.where(mark, ink, plain)

    return [part(body.placed(turn, place), paint)]


def _suitcase(wearer: Wearer, side: str, walking: bool) -> list[Part]:
    look, hand = wearer.look, wearer.posed.tips["LR".index(side)]
    half = (0.17 + 0.05 * look.cut[13], 0.11 + 0.03 * look.cut[12], 0.26 + 0.10 * look.cut[14])
    tilt = rotation(0, 24.0 if walking else 4.0)
    bottom = np.array([hand[0], hand[1] - (0.32 if walking else 0.10), 0.05], np.float32)
    place = bottom + tilt @ np.array([0, 0, half[2]], np.float32)
    top = place + tilt @ np.array([0, 0, half[2] * 0.95], np.float32)
    across = np.array([1, 0, 0], np.float32)
    rods = [pipe(np.stack((top + x * across, hand + x * across)), (0.008, 0.008), 5) for x in (-0.06, 0.06)]
    wheel = block((0.02, 0.03, 0.03), 1.0, 8, 5)
    wheels = [wheel.placed(np.eye(3, dtype=np.float32), bottom + x * half[0] * across) for x in (-0.8, 0.8)]
    plain, groove = (wearer.materials.number(shaded(look.bag, k)) for k in (1.0, 0.66))

    def paint(chart: Floats) -> Numbers:
        return np.where(np.mod(chart[:, 0] * 2.6 + 0.5, 1.0) < 0.2, groove, plain)

    return [
        part(block(half, 0.2, 20, 11).placed(tilt, place), paint),
        part(joined([*rods, *wheels]), wearer.materials.plain(look.dark)),
    ]


def _held(wearer: Wearer, side: str) -> list[Part]:
    tip = wearer.posed.tips["LR".index(side)]
    turn = wearer.posed.turn(f"hand.{side}")
    look, held = wearer.look, wearer.person.held
    ahead = tip + np.array([0, 0.04, 0.02], np.float32)
    if held == "phone":
        return [part(block((0.037, 0.008, 0.075), 0.2, 12, 7).placed(turn, ahead), wearer.materials.plain(look.dark))]
    if held == "papers":
        sheet = block((0.11, 0.006, 0.15), 0.12, 12, 7).placed(
            rotation(0, -35), ahead + np.array([0, 0.03, 0.04], np.float32)
        )
        # White whatever the colour drawn for it: only an umbrella's colour is ever said.
        return [part(sheet, wearer.materials.plain(replace(look.held, colour=(232.0, 232.0, 228.0))))]
    bottle = revolve(
        [(0.004, 0.14), (0.014, 0.14), (0.014, 0.10), (0.036, 0.07), (0.036, -0.10), (0.004, -0.10)], sectors=10
    )
    return [part(bottle.placed(np.eye(3, dtype=np.float32), ahead), wearer.materials.plain(look.held))]


def _umbrella(wearer: Wearer, side: str) -> list[Part]:
    look, hand = wearer.look, wearer.posed.tips["LR".index(side)]
    crown = float(wearer.posed.vertices[:, 2].max())
    top = np.array([hand[0] * 0.5, hand[1] * 0.6, crown + 0.26], np.float32)
    dome = revolve(
        [(0.01, 0.0), (0.2, -0.025), (0.38, -0.10), (0.50, -0.21), (0.485, -0.21), (0.36, -0.11), (0.01, -0.02)],
        sectors=8,
    )
    light, dark = (wearer.materials.number(shaded(look.held, k)) for k in (1.0, 0.82))

    def paint(chart: Floats) -> Numbers:
        return np.where(np.mod(np.floor(chart[:, 0] * 8), 2) > 0, light, dark)

    stick = pipe(np.stack((hand, top)), (0.008, 0.008), 5)
    return [
        part(dome.placed(np.eye(3, dtype=np.float32), top), paint),
        part(stick, wearer.materials.plain(look.dark)),
    ]
