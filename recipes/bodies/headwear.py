"""What is worn on the head and around the neck: caps, hats, hoods, headscarves; collars and scarves."""

import numpy as np

from bodies.anatomy import HEIGHT, Skull
from bodies.drape import Fall, hang, radii_around, tube
from bodies.hair import COVERED
from bodies.layers import Numbers, Paint, Part, part, shaded
from bodies.mesh import Floats, Mesh, block, grid_faces, pipe, revolve, rotation
from bodies.wearer import Wearer

_COLLARED = frozenset({"shirt", "polo shirt", "jacket", "padded jacket", "blazer", "coat"})


def headwear_parts(wearer: Wearer, skin: Floats) -> list[Part]:
    """Make what is worn on the head, and the hood that lies on the back of who does not wear it up."""
    person, look = wearer.person, wearer.look
    skull, paint = wearer.skull(), wearer.materials.plain(look.headwear)
    if person.headwear == "none":
        hooded = person.upper == "hoodie" or (
            person.upper in ("jacket", "padded jacket", "coat") and look.cut[11] > 0.6
        )
        return [_hood_down(wearer)] if hooded else []
    a, b, c = (float(v) for v in skull.half)
    dark = wearer.materials.plain(shaded(look.headwear, 0.62))
    if person.headwear in COVERED:
        return _wrap(wearer, skin, skull, paint)
    shapes = {"cap": _cap, "beanie": _beanie, "hat": _hat}[person.headwear](a, b, c, look.cut[11])
    return [part(skull.place(mesh), dark if trim else paint) for mesh, trim in shapes]


def _dome(profile: list[tuple[float, float]], a: float, b: float, c: float, sectors: int = 16) -> Mesh:
    """Turn a profile in half-axes of the skull around it."""
    mesh = revolve(profile, a, b, sectors)
    mesh.vertices[:, 2] *= c
    return mesh


def _cap(a: float, b: float, c: float, _: float) -> list[tuple[Mesh, bool]]:
    """Make crown and peak; what is True is the darker trim."""
    crown = _dome([(0.02, 1.22), (0.55, 1.12), (0.9, 0.75), (1.1, 0.3), (1.14, 0.06)], a * 1.06, b * 1.07, c * 1.05)
    peak = _peak(a, b)
    peak.vertices[:, 2] += 0.12 * c
    return [(crown, False), (peak, True)]


def _beanie(a: float, b: float, c: float, tall: float) -> list[tuple[Mesh, bool]]:
    """Make crown and fold."""
    top = 1.36 + 0.3 * tall
    crown = _dome([(0.02, top), (0.5, top - 0.1), (0.88, 0.85), (1.1, 0.35)], a * 1.05, b * 1.05, c)
    return [(crown, False), (_dome([(1.1, 0.42), (1.2, 0.38), (1.2, 0.02), (1.1, -0.02)], a * 1.04, b * 1.04, c), True)]


def _hat(a: float, b: float, c: float, wide: float) -> list[tuple[Mesh, bool]]:
    """Make crown, band and brim."""
    rim = 1.75 + 0.75 * wide
    crown = _dome([(0.02, 1.5), (0.72, 1.5), (0.95, 1.3), (1.12, 0.4)], a * 1.03, b * 1.03, c)
    band = _dome([(1.13, 0.62), (1.16, 0.32)], a * 1.04, b * 1.04, c)
    under = [(1.1, 0.36), (1.5, 0.30), (rim, 0.18), (rim * 0.98, 0.14), (1.1, 0.28)]
    return [(crown, False), (band, True), (_dome(under, a * 1.03, b * 1.03, c, 20), False)]


def _peak(a: float, b: float) -> Mesh:
    """Make the peak of a cap: a sheet that bends down at its sides."""
    angles = np.linspace(-1.15, 1.15, 9)
    inner = np.stack((np.sin(angles) * a * 1.1, np.cos(angles) * b * 1.08, np.zeros(9)), axis=1)
    reach = 0.055 + 0.02 * np.cos(angles)
    outer = inner + np.stack((np.sin(angles) * reach * 0.25, reach, -0.012 - 0.012 * np.abs(angles)), axis=1)
    outer[[0, -1]] = inner[[0, -1]]
    vertices = np.concatenate((inner, outer)).astype(np.float32)
    return Mesh(vertices, grid_faces(2, 9, closed=False), np.zeros((18, 3), np.float32), open=True)


def _wrap(wearer: Wearer, skin: Floats, skull: Skull, paint: Paint) -> list[Part]:
    """Make a hood or a headscarf: a shell with the face left out, and what falls on the shoulders."""
    a, b, c = (float(v) * (1.24 if wearer.person.headwear == "hood" else 1.17) for v in skull.half)
    shell = block((a, b, c), 1.0, 28, 15)
    # Upright ellipses leave the face open: faces whose middle lies in it are dropped.
    middles = shell.chart[shell.faces].mean(axis=1)
    face = (middles[:, 1] > 0.25) & (np.hypot(middles[:, 0] / 0.66, (middles[:, 2] + 0.25) / 0.82) < 1)
    shell.faces = shell.faces[~face]
    levels = np.linspace(skull.middle[2] - 0.25 * c, wearer.at_height(0.93), 8).astype(np.float32)
    near = wearer.armless(0.3) & (wearer.chart[:, HEIGHT] > 0.5)
    radii = radii_around(skin[near], skull.middle[:2], levels)
    radii = np.maximum(radii, a * 0.98)
    rings = hang(radii, levels, Fall(0.006, keep=0.99, spread=0.9))
    share = np.linspace(0, 1, len(levels), dtype=np.float32)
    opening = np.interp(share, (0, 0.35, 0.6, 1), (40, 34, 6, 0)).astype(np.float32)
    fall = tube(rings, levels, skull.middle[:2], opening)
    return [part(skull.place(shell, 0, -0.05, 0.05), paint), part(fall, paint)]


def _hood_down(wearer: Wearer) -> Part:
    """Make a hood that lies on the back: a roll behind the neck."""
    neck = wearer.posed.head("neck")
    turn = wearer.posed.turn("chest")
    angles = np.linspace(-2.5, 2.5, 11)
    line = [
        neck + turn @ np.array([0.085 * np.sin(t), -0.045 - 0.062 * np.cos(t), 0.02 - 0.035 * np.cos(t)], np.float32)
        for t in angles
    ]
    thick = 0.022 + 0.030 * np.maximum(0.0, np.cos(angles))
    return part(pipe(np.stack(line), thick.tolist(), 8), wearer.materials.plain(shaded(wearer.look.upper, 0.93)))


def collar_parts(wearer: Wearer) -> list[Part]:
    """Make the collar of a garment that has one: a ring around the neck, open in front."""
    if wearer.person.upper not in _COLLARED:
        return []
    tall = {"coat": 0.06, "blazer": 0.05, "jacket": 0.05, "padded jacket": 0.065}.get(wearer.person.upper, 0.038)
    ring = revolve([(0.066, tall), (0.078, tall * 0.9), (0.096, 0.0), (0.09, -0.02)], 1.0, 0.98, 20)
    turns = ring.chart[ring.faces][:, :, 0]
    ring.faces = ring.faces[((turns > 0.07) & (turns < 0.93)).all(axis=1)]
    turn = wearer.posed.turn("chest") @ rotation(0, -16)
    place = wearer.posed.head("neck") + wearer.posed.turn("chest") @ np.array([0, 0.0, 0.012], np.float32)
    return [part(ring.placed(turn, place), wearer.materials.plain(shaded(wearer.look.upper, 1.08)))]


def scarf_parts(wearer: Wearer) -> list[Part]:
    """Make a scarf around the neck, with an end that hangs down in front of some."""
    if wearer.person.scarf_colour is None:
        return []
    look, neck, turn = wearer.look, wearer.posed.head("neck"), wearer.posed.turn("chest")
    paint = _knitted(wearer)
    ring = revolve([(0.085, 0.085), (0.105, 0.06), (0.115, 0.02), (0.105, -0.02), (0.085, -0.04)], 1.0, 0.95)
    parts = [part(ring.placed(turn @ rotation(0, -14), neck + turn @ np.array([0, 0.012, 0.01], np.float32)), paint)]
    if look.cut[12] > 0.35:
        chest = 0.16 if wearer.person.gender == "woman" else 0.15
        end = block((0.045, 0.016, 0.17 + 0.1 * look.cut[12]), 0.4)
        place = neck + turn @ np.array([0.045, chest * 0.8, -0.2], np.float32)
        parts.append(part(end.placed(turn @ rotation(0, -8), place), paint))
    return parts


def _knitted(wearer: Wearer) -> Paint:
    light, dark = (wearer.materials.number(shaded(wearer.look.scarf, k)) for k in (1.0, 0.78))

    def paint(chart: Floats) -> Numbers:
        return np.where(np.mod(chart[:, 1] * 2.5 + chart[:, 0], 0.5) < 0.36, light, dark)

    return paint
