"""Hair that stands off the head: falling hair of two lengths, a ponytail, a bun."""

import numpy as np

from bodies.anatomy import HEIGHT, Skull
from bodies.drape import Fall, hang, radii_around, tube
from bodies.layers import Paint, Part, part
from bodies.mesh import Floats, Mesh, block, pipe
from bodies.wearer import Wearer
from textreid.seeding import Chance

COVERED = frozenset({"hood", "headscarf"})  # headwear under which no hair is seen


def hair_parts(wearer: Wearer, skin: Floats, chance: Chance) -> list[Part]:
    """Make the hair that stands off the head; ``skin`` is the (V, 3) dressed skin."""
    person, look = wearer.person, wearer.look
    if person.headwear in COVERED or person.hair_length in ("bald", "short"):
        return []
    skull, length = wearer.skull(), person.hair_length
    paint = wearer.materials.plain(look.hair)
    if length == "bun":
        high = look.cut[13] > 0.5 and person.headwear == "none"
        size = 0.046 + 0.02 * look.cut[12]
        ball = block((size, size, size * 0.85), 1.0, 12, 7)
        return [part(skull.place(ball, 0, -0.55 if high else -1.12, 1.0 if high else 0.15), paint)]
    if length == "ponytail":
        return [part(_ponytail(skull, look.cut[13], chance), paint)]
    return [_falling_hair(wearer, skin, skull, paint)]


def _ponytail(skull: Skull, long: float, chance: Chance) -> Mesh:
    reach = 0.20 + 0.22 * long
    root = skull.at(0, -0.98, 0.45)
    swing = chance.between(-0.05, 0.05)
    line = [
        root + skull.turn @ np.array([swing * t, back, -reach * drop], np.float32)
        for t, back, drop in ((0, 0.02, 0), (0.1, -0.055, 0.0), (0.4, -0.07, 0.3), (0.8, -0.045, 0.7), (1, -0.02, 1))
    ]
    return pipe(np.stack(line), (0.018, 0.028, 0.042, 0.036, 0.008), 9)


def _falling_hair(wearer: Wearer, skin: Floats, skull: Skull, paint: Paint) -> Part:
    """Let hair fall from the temples over neck, shoulders and back."""
    long = wearer.person.hair_length == "long"
    numbers = wearer.look.cut
    bottom = wearer.at_height(0.82 - 0.44 * numbers[13]) if long else wearer.at_height(1.08 - 0.14 * numbers[13])
    levels = np.linspace(skull.middle[2] + 0.25 * skull.half[2], bottom, 11).astype(np.float32)
    near = wearer.armless(0.2) & (wearer.chart[:, HEIGHT] > 0.2)
    axis = skull.middle[:2]
    radii = radii_around(skin[near], axis, levels)
    full = 0.016 + 0.022 * numbers[12]
    # Fuller at the jaw, where hair does not lie on the neck.
    radii[: len(levels) // 2] = np.maximum(radii[: len(levels) // 2], float(skull.half[0]) + full * 0.5)
    rings = hang(radii, levels, Fall(full, keep=0.975 if long else 0.985, spread=0.4, pleats=7, depth=0.006))
    share = np.linspace(0, 1, len(levels), dtype=np.float32)
    wide = 58 + 12 * numbers[4]
    # Long hair falls behind the shoulders of some, before those of others.
    opening = np.interp(share, (0, 0.3, 0.55, 1), (wide, wide, wide + 2, wide + (4 + 30 * numbers[3] if long else 4)))
    return part(tube(rings, levels, axis, opening.astype(np.float32)), paint)
