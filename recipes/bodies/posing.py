"""Poses: rotations of the bones of a body that stands or walks, and its skin moved with them."""

from dataclasses import dataclass

import numpy as np

from bodies.bank import BONES, PARENTS, Bank
from bodies.mesh import Floats, aligning, rotation
from textreid.seeding import Chance
from textreid.synthetic.drawing.pose import ArmPose, cosine, sine

_SIDES = ("L", "R")


@dataclass(frozen=True)
class Posed:
    """Body in a pose: ``vertices`` (V, 3), ``turns`` (B, 3, 3) and ``heads`` (B, 3) of bones; the ground is at 0."""

    vertices: Floats
    turns: Floats
    heads: Floats
    rest: Floats  # (B, 3) heads of the bones before
    tips: Floats  # (2, 3) roots of the middle fingers, left and right

    def head(self, bone: str) -> Floats:
        """Return where a bone begins."""
        place: Floats = self.heads[BONES.index(bone)]
        return place

    def turn(self, bone: str) -> Floats:
        """Return the (3, 3) rotation of a bone."""
        turn: Floats = self.turns[BONES.index(bone)]
        return turn


def pose(bank: Bank, number: int, walking: bool, arms: tuple[ArmPose, ArmPose], heeled: bool, chance: Chance) -> Posed:
    """Pose a body of the bank; ``arms`` are right then left, ``heeled`` stands on high heels."""
    rest = bank.heads[number]
    turns = _turns(rest, bank.tips[number], walking, arms, heeled, chance)
    heads = np.empty_like(rest)
    for bone, parent in enumerate(PARENTS):
        heads[bone] = rest[bone] if parent < 0 else heads[parent] + turns[parent] @ (rest[bone] - rest[parent])
    shift = heads - np.einsum("bij,bj->bi", turns, rest)
    placed = np.concatenate((turns, shift[:, :, None]), axis=2).reshape(len(BONES), 12)
    mixed = (bank.weights @ placed).reshape(-1, 3, 4)
    skin = np.einsum("vij,vj->vi", mixed[:, :, :3], bank.vertices[number]) + mixed[:, :, 3]
    ground = np.array([0, 0, skin[:, 2].min()], np.float32)
    tips = np.stack([turns[_bone("hand", side)] @ tip + shift[_bone("hand", side)]
                     for side, tip in zip(_SIDES, bank.tips[number], strict=True)])  # fmt: skip
    return Posed((skin - ground).astype(np.float32), turns, heads - ground, rest, tips - ground)


def _bone(name: str, side: str) -> int:
    return BONES.index(f"{name}.{side}")


def _turns(
    rest: Floats, tips: Floats, walking: bool, arms: tuple[ArmPose, ArmPose], heeled: bool, chance: Chance
) -> Floats:
    turns = np.tile(np.eye(3, dtype=np.float32), (len(BONES), 1, 1))
    phase = chance.between(0, 360)
    stride = chance.between(16, 30) if walking else 0.0
    lean = chance.between(1, 7) if walking else chance.between(-3, 3)
    twist = sine(phase) * stride * 0.25
    sway = rotation(1, 0.0 if walking else chance.between(-3, 3))
    turns[0] = rotation(2, twist) @ sway
    # A positive turn about the axis to the left bows forward's opposite: up goes to forward with a negative one.
    turns[1] = rotation(0, -lean)
    turns[2] = rotation(2, -twist) @ rotation(0, -lean)
    head = rotation(2, chance.middle(-35, 35)) @ rotation(0, chance.middle(-22, 8))
    turns[3] = turns[2] @ rotation(0, -4)
    turns[4] = head
    for sign, side in ((1, "L"), (-1, "R")):
        _leg(turns, rest, side, sign, phase, stride, heeled, chance)
        mode = arms[1] if side == "L" else arms[0]
        _arm(turns, rest, tips[0 if side == "L" else 1], (side, sign), mode, -sign * sine(phase) * stride, chance)
    return turns


def _leg(
    turns: Floats, rest: Floats, side: str, sign: int, phase: float, stride: float, heeled: bool, chance: Chance
) -> None:
    """Turn thigh, shin and foot; a foot is lifted where it passes the other one."""
    swing, lift = sign * sine(phase), max(0.0, sign * cosine(phase))
    thigh = stride * swing + 9 * lift * (stride > 0) + (0.0 if stride else chance.between(-4, 6))
    knee = 5 + stride * (1.7 * lift + 0.5 * max(0.0, -swing)) if stride else chance.between(0, 9)
    spread = chance.between(-2.5, 1.5) if stride else chance.between(-1, 4)
    for name, angle in (("thigh", thigh), ("shin", thigh - knee)):
        end = _bone("shin" if name == "thigh" else "foot", side)
        bone = _bone(name, side)
        direction = np.array([sign * sine(spread), sine(angle), -cosine(angle)], np.float32)
        turns[bone] = aligning(rest[end] - rest[bone], direction)
    # Toes down behind, up in front, and level where the foot stands.
    pitch = min(0.0, (thigh - knee) * 0.8) if stride else 0.0
    pitch += max(0.0, swing) * 14 * (stride > 20) - (34 if heeled else 0)
    turns[_bone("foot", side)] = rotation(2, -sign * chance.between(-2, 14)) @ rotation(0, pitch)


def _arm(
    turns: Floats, rest: Floats, tip: Floats, place: tuple[str, int], mode: ArmPose, swing: float, chance: Chance
) -> None:
    """Turn upper arm, forearm and hand: degrees forward, outwards, of bend, and a share of turning inwards."""
    side, sign = place
    forward, out, bend, inward = {
        "hang": (chance.between(-8, 6), chance.between(7, 15), chance.between(5, 25), 0.15),
        "swing": (swing * 1.15 + chance.between(-4, 4), chance.between(7, 14), 14 + max(0.0, swing), 0.2),
        "pocket": (-20.0, chance.between(18, 26), chance.between(42, 60), 0.55),
        "ear": (chance.between(25, 50), 25.0, chance.between(128, 140), 0.3),
        "chest": (chance.between(4, 22), 10.0, chance.between(80, 112), chance.between(0.25, 0.6)),
        "strap": (chance.between(10, 25), 14.0, chance.between(118, 135), 0.1),
        "raise": (chance.between(20, 35), 12.0, chance.between(105, 125), 0.15),
        "pull": (chance.between(-28, -12), 16.0, chance.between(0, 10), 0.0),
    }[mode]
    upper, fore, hand = (_bone(name, side) for name in ("upper arm", "forearm", "hand"))
    direction = np.array([sign * sine(out), sine(forward), -cosine(forward) * cosine(out)], np.float32)
    turns[upper] = turns[2] @ aligning(rest[fore] - rest[upper], direction)
    reach = forward + bend
    level = sine(min(reach, 90.0))
    lower = np.array(
        [sign * (sine(out) * 0.4 - inward * level), sine(reach) * (1 - 0.4 * inward), -cosine(reach)], np.float32
    )
    turns[fore] = turns[2] @ aligning(rest[hand] - rest[fore], lower)
    turns[hand] = turns[2] @ aligning(tip - rest[hand], lower + np.array([0, 0, -0.15], np.float32))
