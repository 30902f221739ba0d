"""A mesh of fewer vertices, all of them vertices of the finer one: what is known of a vertex stays known."""

import heapq

import numpy as np

from bodies.mesh import Floats, Indices


def decimate(vertices: Floats, faces: Indices, keep: int) -> tuple[Indices, Indices]:
    """Collapse shortest edges until ``keep`` vertices are left.

    Args:
        vertices: (V, 3) positions.
        faces: (F, 3) triangles.
        keep: how many vertices to keep.

    Returns:
        (keep,) the kept vertices as indices into ``vertices``, ascending, and (G, 3) triangles as indices into those.
    """
    corners: list[set[int]] = [set() for _ in range(len(vertices))]
    triangles = [list(face) for face in faces.tolist()]
    for number, face in enumerate(triangles):
        for corner in face:
            corners[corner].add(number)
    heap = [(_length(vertices, a, b), a, b) for a, b in _edges(faces)]
    heapq.heapify(heap)
    left = sum(bool(touching) for touching in corners)
    while left > keep and heap:
        _, a, b = heapq.heappop(heap)
        if not corners[a] or not corners[b] or not _is_safe(triangles, corners, a, b):
            continue
        for number in list(corners[b]):
            _move(triangles, corners, number, (b, a))
        left -= 1
        for other in _neighbours(triangles, corners, a):
            heapq.heappush(heap, (_length(vertices, a, other), a, other))
    kept = np.array([vertex for vertex, touching in enumerate(corners) if touching], np.int64)
    place = np.full(len(vertices), -1, np.int64)
    place[kept] = np.arange(len(kept))
    alive = sorted(set().union(*corners))
    return kept, place[np.array([triangles[number] for number in alive], np.int64)]


def _length(vertices: Floats, a: int, b: int) -> float:
    difference = vertices[a] - vertices[b]
    return float(difference @ difference)


def _edges(faces: Indices) -> list[tuple[int, int]]:
    pairs = np.sort(np.concatenate((faces[:, :2], faces[:, 1:], faces[:, ::2])), axis=1)
    return [(a, b) for a, b in np.unique(pairs, axis=0).tolist()]


def _neighbours(triangles: list[list[int]], corners: list[set[int]], vertex: int) -> set[int]:
    return {other for number in corners[vertex] for other in triangles[number]} - {vertex}


def _is_safe(triangles: list[list[int]], corners: list[set[int]], a: int, b: int) -> bool:
    """Tell whether the edge is still there, and its ends share no neighbour but those of their own triangles."""
    common = corners[a] & corners[b]
    if not common:
        return False
    shared = _neighbours(triangles, corners, a) & _neighbours(triangles, corners, b)
    # More would fold the surface onto itself.
    return len(shared) == len(common)


def _move(triangles: list[list[int]], corners: list[set[int]], number: int, step: tuple[int, int]) -> None:
    """Let a triangle have ``step``'s second vertex in place of its first, or vanish if it has both."""
    old, new = step
    face = triangles[number]
    if new in face:
        for corner in face:
            corners[corner].discard(number)
        return
    face[face.index(old)] = new
    corners[old].discard(number)
    corners[new].add(number)
