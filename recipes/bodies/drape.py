"""Cloth and hair that hang: rings around an upright axis, outside a body, that never narrow as fast as it does."""

from dataclasses import dataclass

import numpy as np

from bodies.mesh import Floats, Mesh, grid_faces

SECTORS = 28


@dataclass(frozen=True)
class Fall:
    """How something hangs: metres of ease outside the body, share of its width that a ring keeps from the one above,
    metres that it widens per metre, how far it may widen per metre at most, pleats around it and their depth."""

    ease: float
    keep: float = 0.97
    flare: float = 0.0
    spread: float = 9.0
    pleats: int = 0
    depth: float = 0.0


def radii_around(points: Floats, axis: Floats, levels: Floats) -> Floats:
    """Measure the (L, `SECTORS`) radii of points (P, 3) around the upright line through ``axis`` (2,).

    A sector is an angle from straight ahead towards the left; ``levels`` (L,) are heights, descending, and the points
    within half a step of a level belong to it. Where there are none, the neighbours' radii are taken.
    """
    step = abs(float(levels[0] - levels[-1])) / max(1, len(levels) - 1)
    row = np.rint((levels[0] - points[:, 2]) / max(step, 1e-6)).astype(np.int64)
    inside = (row >= 0) & (row < len(levels))
    across, forward = points[inside, 0] - axis[0], points[inside, 1] - axis[1]
    sector = np.rint(np.arctan2(across, forward) * (SECTORS / (2 * np.pi))).astype(np.int64) % SECTORS
    radii = np.zeros((len(levels), SECTORS), np.float32)
    np.maximum.at(radii, (row[inside], sector), np.sqrt(across * across + forward * forward))
    for _ in range(3):
        around = np.maximum(np.roll(radii, 1, axis=1), np.roll(radii, -1, axis=1))
        radii = np.where(radii > 0, radii, around * np.float32(0.97))
    filled = np.flatnonzero(radii.any(axis=1))
    if not len(filled):
        return radii
    nearest = np.abs(np.arange(len(levels))[:, None] - filled[None]).argmin(axis=1)
    around_level: Floats = radii[filled[nearest]]
    return around_level


def hull(radii: Floats) -> Floats:
    """Stretch each ring to its convex hull, as cloth does between two legs; (L, S) to (L, S)."""
    angles = 2 * np.pi * np.arange(radii.shape[1]) / radii.shape[1]
    cosines = np.cos(angles[:, None] - angles[None, :])
    support = (radii[:, None, :] * cosines[None]).max(axis=2)
    # A line that is seen from its side bounds nothing.
    reach = np.where(cosines > 0.05, 1 / np.maximum(cosines, 0.05), 1e6)
    outline: Floats = (support[:, None, :] * reach[None]).min(axis=2).astype(np.float32)
    return outline


def hang(radii: Floats, levels: Floats, fall: Fall) -> Floats:
    """Let rings hang from the first one; (L, S) to (L, S)."""
    hung = radii + np.float32(fall.ease)
    for level in range(1, len(levels)):
        drop = levels[level - 1] - levels[level]
        before = hung[level - 1]
        # Rows of a metre's hundredth apart keep what ``keep`` says of a hundredth.
        least = before * np.float32(fall.keep ** (float(drop) * 10)) + np.float32(fall.flare) * drop
        hung[level] = np.clip(np.maximum(hung[level], least), None, before + np.float32(fall.spread) * drop)
    if fall.pleats:
        angles = 2 * np.pi * np.arange(radii.shape[1]) / radii.shape[1]
        share = np.linspace(0, 1, len(levels), dtype=np.float32)[:, None]
        hung = hung + np.float32(fall.depth) * share * share * np.cos(fall.pleats * angles)[None].astype(np.float32)
    return hung.astype(np.float32)


def tube(rings: Floats, levels: Floats, axis: Floats, opening: Floats | None = None) -> Mesh:
    """Make the mesh of hanging rings, (L, S) radii around ``axis`` at (L,) heights.

    ``opening`` (L,) leaves out that angle, in degrees, to both sides of straight ahead. The chart is (angle from
    straight ahead in radians, metres below the first ring, share of the way down).
    """
    count = rings.shape[1]
    if opening is None:
        opening = np.zeros(len(levels), np.float32)
    start = np.radians(opening)[:, None]
    share = np.linspace(0, 1, count + 1)[None]
    angles = start + (2 * np.pi - 2 * start) * share
    place = angles * (count / (2 * np.pi))
    low = np.floor(place).astype(np.int64)
    part = (place - low).astype(np.float32)
    line = np.arange(len(levels))[:, None]
    radius = rings[line, low % count] * (1 - part) + rings[line, (low + 1) % count] * part
    x = axis[0] + radius * np.sin(angles)
    y = axis[1] + radius * np.cos(angles)
    z = np.broadcast_to(levels[:, None], x.shape)
    vertices = np.stack((x, y, z), axis=-1).reshape(-1, 3).astype(np.float32)
    turned = np.where(angles > np.pi, angles - 2 * np.pi, angles)
    # Both ends of a closed tube lie straight ahead.
    turned[:, -1] = -start[:, 0]
    down = np.broadcast_to((levels[0] - levels)[:, None], x.shape)
    along = np.broadcast_to(np.linspace(0, 1, len(levels))[:, None], x.shape)
    chart = np.stack((turned, down, along), axis=-1).reshape(-1, 3).astype(np.float32)
    # Columns go from straight ahead to the left.
    faces = grid_faces(len(levels), count + 1, closed=False)[:, ::-1]
    return Mesh(vertices, faces, chart, open=True)
