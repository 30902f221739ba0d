"""Clothes in space: the skin is pushed out where they lie close to it, and cloth hangs from it."""

import numpy as np

from bodies.anatomy import ARM, CLOTH, FRONT, HEIGHT, LEG, SIDE, WIDTH
from bodies.cloth_paint import upper_paint
from bodies.drape import hang, hull, radii_around, tube
from bodies.face import hair_thickness
from bodies.layers import Paint, Part
from bodies.mesh import Floats, normals
from bodies.wearer import Wearer


def dressed_skin(wearer: Wearer) -> Floats:
    """Push the (V, 3) skin out by the clothes on it, and by short hair."""
    cut, chart = wearer.cut, wearer.chart
    vertices = wearer.posed.vertices
    thick = np.zeros(len(vertices), np.float32)
    arm, leg, height = chart[:, ARM], chart[:, LEG], chart[:, HEIGHT]
    if cut.trousers:
        down = np.clip(leg / 1.6, 0, 1)
        amount = cut.thigh * (1 - down) + cut.shin * down
        thick = np.where((height < 0.34) & (arm < -0.5) & (leg < cut.trousers + 0.03), amount, thick)
    thick = np.maximum(thick, np.float32(cut.shoe) * (leg > cut.shaft))
    # Less at the neck, where a collar lies on the skin.
    torso = (height > -0.1) & (height < 1.1) & (arm < 0.25)
    neckwards = np.clip((1.12 - height) / 0.3, 0, 1)
    worn = np.where(torso, cut.ease * neckwards, 0)
    sleeve = cut.ease * (1.0 if cut.sleeve > 1 else 1.3) * (arm < cut.sleeve + 0.02) * (arm > -0.55)
    thick = np.maximum(thick, np.maximum(worn, sleeve))
    thick = np.maximum(thick, hair_thickness(wearer))
    pushed: Floats = vertices + normals(vertices, wearer.bank.faces) * thick[:, None].astype(np.float32)
    return pushed


def hung_cloth(wearer: Wearer, skin: Floats) -> list[Part]:
    """Hang the lower part of the upper garment, and a skirt, from the (V, 3) dressed skin."""
    cut = wearer.cut
    # Feet would push the cloth out as arms do.
    trunk = skin[wearer.armless(0.3) & (wearer.chart[:, LEG] < 1.9)]
    axis = wearer.posed.head("belly")[:2]
    bottom = wearer.below_hips(cut.hem)
    levels = np.linspace(wearer.at_height(cut.waist), bottom, 13 if cut.hem > 0.6 else 9).astype(np.float32)
    rings = hang(hull(radii_around(trunk, axis, levels)), levels, cut.fall)
    parts = []
    if cut.skirt:
        low = np.linspace(wearer.at_height(0.42), wearer.below_hips(cut.skirt), 12).astype(np.float32)
        below = hang(hull(radii_around(trunk, axis, low)), low, cut.skirt_fall)
        parts.append(_cloth(wearer, below, low, None, wearer.materials.plain(wearer.look.lower)))
        # What is worn above the skirt hangs over it.
        over = np.stack([np.interp(-levels, -low, column, left=0) for column in below.T], axis=1)
        rings = np.maximum(rings, over.astype(np.float32) + np.float32(0.014))
    opening = None
    if cut.opening:
        share = np.linspace(0, 1, len(levels), dtype=np.float32)
        opening = np.float32(cut.opening) * (np.float32(0.75) + np.float32(0.6) * share)
    parts.append(_cloth(wearer, rings, levels, opening, upper_paint(wearer)))
    return parts


def _cloth(wearer: Wearer, rings: Floats, levels: Floats, opening: Floats | None, paint: Paint) -> Part:
    """Make hanging cloth with the chart of the torso, so that a pattern goes on where the cloth leaves the body."""
    axis = wearer.posed.head("belly")[:2]
    mesh = tube(rings, levels, axis, opening)
    chart = np.full((len(mesh.vertices), WIDTH), -1, np.float32)
    chart[:, SIDE] = (mesh.vertices[:, 0] - axis[0]) / wearer.shoulder
    chart[:, FRONT] = (mesh.vertices[:, 1] - axis[1]) / wearer.shoulder
    chart[:, HEIGHT] = (mesh.vertices[:, 2] - wearer.hips) / wearer.torso
    chart[:, CLOTH] = np.stack((mesh.chart[:, 0] * 0.15, mesh.vertices[:, 2] - wearer.at_height(1.0)), axis=1)
    return Part(mesh.vertices, mesh.faces, chart, paint)
