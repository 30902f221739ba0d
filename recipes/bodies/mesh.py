"""Triangle meshes with values at their vertices, and the shapes that things are made of."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Vector = tuple[float, float, float]


@dataclass
class Mesh:
    """Triangles: ``vertices`` (V, 3) in metres, ``faces`` (F, 3), ``chart`` (V, 3): where on the thing a vertex lies.

    The volume that the faces of a closed mesh enclose is positive. ``open`` meshes are seen from both sides.
    """

    vertices: Floats
    faces: Indices
    chart: Floats
    open: bool = False

    def placed(self, turn: Floats, shift: Floats) -> "Mesh":
        """Return the mesh turned by a (3, 3) rotation and then moved; its chart stays."""
        return Mesh((self.vertices @ turn.T + shift).astype(np.float32), self.faces, self.chart, self.open)


def normals(vertices: Floats, faces: Indices) -> Floats:
    """Compute unit normals at the vertices, (V, 3), as the mean over the triangles, weighted by their areas."""
    a, b, c = vertices[faces[:, 0]], vertices[faces[:, 1]], vertices[faces[:, 2]]
    across = np.cross(b - a, c - a)
    corners = faces.ravel()
    total = np.empty_like(vertices)
    for axis in range(3):
        total[:, axis] = np.bincount(corners, np.repeat(across[:, axis], 3), len(vertices))
    length = np.sqrt(np.einsum("ij,ij->i", total, total))
    unit: Floats = (total / np.maximum(length, 1e-9)[:, None]).astype(np.float32)
    return unit


def grid_faces(rows: int, columns: int, closed: bool) -> Indices:
    """Triangulate a grid of vertices, row after row; ``closed`` joins the last column to the first.

    Rows that go down and columns that go from straight ahead to the right face outwards.
    """
    across = columns if closed else columns - 1
    row, column = np.meshgrid(np.arange(rows - 1), np.arange(across), indexing="ij")
    here = row * columns + column
    right = row * columns + (column + 1) % columns
    quads = np.stack((here, here + columns, right + columns, right), axis=-1).reshape(-1, 4)
    return np.concatenate((quads[:, [0, 1, 2]], quads[:, [0, 2, 3]])).astype(np.int64)


def revolve(profile: Sequence[tuple[float, float]], across: float = 1.0, along: float = 1.0, sectors: int = 16) -> Mesh:
    """Turn a profile of (radius, height), from top to bottom, around the upright axis.

    ``across`` and ``along`` stretch it sideways and forward. The chart is (angle in turns from straight ahead, share of
    the profile, 0).
    """
    turns = np.arange(sectors) / sectors
    angles = 2 * np.pi * turns
    rings = [
        np.stack((np.sin(-angles) * r * across, np.cos(angles) * r * along, np.full(sectors, z)), axis=1)
        for r, z in profile
    ]
    share = np.repeat(np.linspace(0, 1, len(profile)), sectors)
    chart = np.stack((np.tile(turns, len(profile)), share, np.zeros(len(share))), axis=1)
    faces = grid_faces(len(profile), sectors, closed=True)
    return Mesh(np.concatenate(rings).astype(np.float32), faces, chart.astype(np.float32), open=True)


def block(half: Vector, roundness: float = 0.35, sectors: int = 16, rings: int = 9) -> Mesh:
    """Make a box with rounded edges (0 sharp, 1 an ellipsoid) around the origin; the chart is (-1 … 1) on each axis."""

    def power(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.sign(values) * np.abs(values) ** max(roundness, 0.05)

    lift, turn = np.meshgrid(
        np.linspace(np.pi / 2, -np.pi / 2, rings), 2 * np.pi * np.arange(sectors) / sectors, indexing="ij"
    )
    unit = np.stack(
        (power(np.cos(lift)) * power(np.sin(-turn)), power(np.cos(lift)) * power(np.cos(turn)), power(np.sin(lift))),
        axis=-1,
    ).reshape(-1, 3)
    return Mesh(
        (unit * half).astype(np.float32), grid_faces(rings, sectors, closed=True), unit.astype(np.float32), open=True
    )


def pipe(points: Sequence[Vector] | Floats, radii: Sequence[float], sectors: int = 7) -> Mesh:
    """Sweep a circle along a line of points; the chart is (angle in turns, share of the line, 0)."""
    line = np.asarray(points, np.float64)
    direction = np.gradient(line, axis=0)
    direction /= np.maximum(np.linalg.norm(direction, axis=1, keepdims=True), 1e-9)
    # Any axis that the line does not follow would do.
    helper = np.eye(3)[int(np.argmin(np.abs(direction).mean(axis=0)))]
    side = np.cross(direction, helper)
    side /= np.maximum(np.linalg.norm(side, axis=1, keepdims=True), 1e-9)
    other = np.cross(side, direction)
    angles = 2 * np.pi * np.arange(sectors) / sectors
    ring = np.cos(angles)[None, :, None] * side[:, None] + np.sin(angles)[None, :, None] * other[:, None]
    vertices = (line[:, None] + ring * np.asarray(radii)[:, None, None]).reshape(-1, 3)
    share = np.repeat(np.linspace(0, 1, len(line)), sectors)
    chart = np.stack((np.tile(np.arange(sectors) / sectors, len(line)), share, np.zeros(len(share))), axis=1)
    return Mesh(
        vertices.astype(np.float32), grid_faces(len(line), sectors, closed=True), chart.astype(np.float32), open=True
    )


def joined(parts: Sequence[Mesh]) -> Mesh:
    """Put meshes side by side into one."""
    starts = np.cumsum([0, *(len(part.vertices) for part in parts[:-1])])
    return Mesh(
        np.concatenate([part.vertices for part in parts]),
        np.concatenate([part.faces + start for part, start in zip(parts, starts, strict=True)]),
        np.concatenate([part.chart for part in parts]),
        any(part.open for part in parts),
    )


def rotation(axis: int, degrees: float) -> Floats:
    """Return the (3, 3) rotation about an axis: 0 to the left, 1 forward, 2 up."""
    angle = np.radians(degrees)
    turn = np.eye(3, dtype=np.float32)
    first, second = [n for n in range(3) if n != axis]
    turn[first, first] = turn[second, second] = np.cos(angle)
    turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
    return turn


def aligning(start: Floats, end: Floats) -> Floats:
    """Return the least (3, 3) rotation that takes the direction ``start`` to ``end``."""
    a = start / np.linalg.norm(start)
    b = end / np.linalg.norm(end)
    cross, cosine = np.cross(a, b), float(a @ b)
    if cosine < -0.9999:
        return rotation(0, 180.0)
    skew = np.array([[0, -cross[2], cross[1]], [cross[2], 0, -cross[0]], [-cross[1], cross[0], 0]])
    turn: Floats = (np.eye(3) + skew + skew @ skew / (1 + cosine)).astype(np.float32)
    return turn
