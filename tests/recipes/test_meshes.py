"""Shapes, fewer vertices, cloth that hangs, and the rasteriser, which is compared with a slow and obvious loop."""

import numpy as np
import pytest

from bodies.decimation import decimate
from bodies.drape import SECTORS, Fall, hang, hull, radii_around, tube
from bodies.mesh import Floats, Indices, Mesh, aligning, block, joined, normals, pipe, revolve, rotation
from bodies.raster import Fragments, rasterise


def volume(vertices: Floats, faces: Indices) -> float:
    a, b, c = (vertices[faces[:, n]].astype(np.float64) for n in range(3))
    return float(np.einsum("ij,ij->i", a, np.cross(b, c)).sum() / 6)


def random_triangles(seed: int, count: int) -> tuple[Floats, Floats, Indices]:
    rng = np.random.default_rng(seed)
    centres = rng.uniform(-4, 34, (count, 1, 2))
    points = (centres + rng.uniform(-9, 9, (count, 3, 2))).reshape(-1, 2).astype(np.float32)
    nearness = rng.uniform(0.1, 1.0, count * 3).astype(np.float32)
    return points, nearness, np.arange(count * 3, dtype=np.int64).reshape(count, 3)


def slow(points: Floats, nearness: Floats, faces: Indices, one_sided: bool, size: tuple[int, int]) -> Indices:
    """Ask every pixel of every triangle."""
    best = np.full(size, -np.inf)
    owner = np.full(size, -1, np.int64)
    for number, face in enumerate(faces):
        (ax, ay), (bx, by), (cx, cy) = points[face].astype(np.float64)
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if one_sided and area < 0:
            continue
        for row in range(size[0]):
            for column in range(size[1]):
                x, y = column + 0.5, row + 0.5
                u = ((bx - x) * (cy - y) - (by - y) * (cx - x)) / area
                v = ((cx - x) * (ay - y) - (cy - y) * (ax - x)) / area
                w = 1 - u - v
                if min(u, v, w) < 0:
                    continue
                depth = float(np.array([u, v, w]) @ nearness[face])
                if depth > best[row, column]:
                    best[row, column], owner[row, column] = depth, number
    return owner


def picture(fragments: Fragments, size: tuple[int, int]) -> Indices:
    full = np.full(size[0] * size[1], -1, np.int64)
    full[fragments.pixels] = fragments.faces
    return full.reshape(size)


@pytest.mark.parametrize("one_sided", [False, True])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_rasteriser_agrees_with_a_slow_loop(seed: int, one_sided: bool) -> None:
    size = (30, 24)
    points, nearness, faces = random_triangles(seed, 25)
    fast = picture(rasterise(points, nearness, faces, np.full(25, one_sided), size), size)
    plain = slow(points, nearness, faces, one_sided, size)
    # A pixel whose centre lies on an edge may fall either way by the last bit.
    assert (fast != plain).sum() <= 1
    assert len(np.unique(plain)) > 6


def test_values_are_linear_in_a_triangle() -> None:
    points = np.array([[0, 0], [20, 0], [0, 20]], np.float32)
    fragments = rasterise(points, np.ones(3, np.float32), np.array([[0, 1, 2]]), np.array([True]), (20, 20))
    values = fragments.interpolate(points, np.array([[0, 1, 2]]))
    centres = np.stack((fragments.pixels % 20 + 0.5, fragments.pixels // 20 + 0.5), axis=1)
    np.testing.assert_allclose(values, centres, atol=1e-4)
    # Centres on the long edge belong to it.
    assert len(fragments.pixels) == 20 * 21 // 2


def test_nothing_is_drawn_of_what_lies_outside_or_looks_away() -> None:
    points = np.array([[-9, -9], [-1, -9], [-9, -1], [1, 1], [1, 9], [9, 1]], np.float32)
    faces = np.array([[0, 1, 2], [3, 4, 5]])
    nothing = rasterise(points, np.ones(6, np.float32), faces, np.array([True, True]), (10, 10))
    assert len(nothing.pixels) == 0
    assert nothing.interpolate(points, faces).shape == (0, 2)
    both = rasterise(points, np.ones(6, np.float32), faces, np.array([True, False]), (10, 10))
    assert set(both.faces.tolist()) == {1}


@pytest.mark.parametrize(
    ("mesh", "expected"),
    [
        (block((1, 2, 3), 1.0, 48, 33), 4 / 3 * np.pi * 6),
        (block((1, 2, 3), 0.1, 24, 17), 48.0),
        (pipe([(0, 0, 0), (0, 0, 1), (0, 0, 2)], (0.5, 0.5, 0.5), 40), np.pi * 0.25 * 2),
    ],
)
def test_shapes_enclose_a_positive_volume(mesh: Mesh, expected: float) -> None:
    # A pipe has no lids: the cone from the origin to the upper one, a third of the pipe, is missing.
    found = volume(mesh.vertices, mesh.faces) * (1.5 if mesh.vertices[:, 2].min() == 0 else 1)
    assert found == pytest.approx(expected, rel=0.12)


def test_normals_point_outwards_and_have_length_one() -> None:
    mesh = block((1, 1, 1), 1.0)
    unit = normals(mesh.vertices, mesh.faces)
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1, atol=1e-5)
    assert (np.einsum("ij,ij->i", unit, mesh.vertices) > 0.9).all()


def test_a_turned_profile_faces_outwards() -> None:
    mesh = revolve([(0.2, 2.0), (1.0, 1.0), (1.0, 0.0)], sectors=24)
    unit = normals(mesh.vertices, mesh.faces)
    outwards = np.einsum("ij,ij->i", unit[:, :2], mesh.vertices[:, :2])
    assert (outwards[24:] > 0.5).all()
    assert mesh.chart[0, 0] == 0
    np.testing.assert_allclose(mesh.vertices[0], [0, 0.2, 2.0], atol=1e-6)


def test_rotations_take_one_direction_to_another() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        start, end = rng.normal(size=(2, 3)).astype(np.float32)
        turn = aligning(start, end)
        np.testing.assert_allclose(turn @ (start / np.linalg.norm(start)), end / np.linalg.norm(end), atol=1e-4)
        np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-4)
    up = np.array([0, 0, 1], np.float32)
    np.testing.assert_allclose(aligning(up, -up) @ up, -up, atol=1e-5)
    np.testing.assert_allclose(rotation(0, 90) @ np.array([0, 1, 0], np.float32), up, atol=1e-6)


def test_fewer_vertices_keep_the_shape() -> None:
    ball = block((1, 1, 1), 1.0, 32, 25)
    # The poles of a block are rows of equal points, which are put into one first.
    _, first, place = np.unique(ball.vertices.round(5), axis=0, return_index=True, return_inverse=True)
    faces = place.ravel()[ball.faces]
    faces = faces[(faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 0] != faces[:, 2])]
    vertices = ball.vertices[first]
    kept, fewer = decimate(vertices, faces, 200)
    assert len(kept) == 200
    assert (np.diff(kept) > 0).all()
    assert len(fewer) == 2 * 200 - 4  # of a closed surface without holes, by Euler
    edges = np.sort(np.concatenate((fewer[:, :2], fewer[:, 1:], fewer[:, ::2])), axis=1)
    assert (np.unique(edges, axis=0, return_counts=True)[1] == 2).all()
    assert volume(vertices[kept], fewer) == pytest.approx(volume(vertices, faces), rel=0.08)


def test_cloth_spans_two_legs_and_hangs_outside_them() -> None:
    legs = joined(
        [
            block((0.08, 0.08, 0.5), 0.6, 40, 40).placed(np.eye(3, dtype=np.float32), np.array([x, 0, 0.5]))
            for x in (-0.1, 0.1)
        ]
    )
    levels = np.linspace(0.8, 0.2, 7).astype(np.float32)
    measured = radii_around(legs.vertices, np.zeros(2, np.float32), levels)
    assert measured.shape == (7, SECTORS)
    across, ahead = SECTORS // 4, 0
    np.testing.assert_allclose(measured[3, across], 0.18, atol=0.02)
    outline = hull(measured)
    # Between the legs the hull goes straight across, as deep as they are.
    assert outline[3, ahead] == pytest.approx(0.08, abs=0.02)
    assert (outline >= measured - 1e-4).all()
    rings = hang(outline, levels, Fall(0.01, keep=1.0, flare=0.5))
    assert (np.diff(rings, axis=0) > 0).all()
    assert (rings >= outline + 0.0099).all()


def test_an_open_tube_leaves_out_its_front() -> None:
    levels = np.array([1.0, 0.5, 0.0], np.float32)
    rings = np.full((3, SECTORS), 0.3, np.float32)
    closed, opened = (
        tube(rings, levels, np.zeros(2, np.float32)),
        tube(rings, levels, np.zeros(2, np.float32), np.full(3, 30.0, np.float32)),
    )
    np.testing.assert_allclose(np.hypot(*opened.vertices[:, :2].T), 0.3, atol=1e-5)
    angles = np.degrees(np.arctan2(opened.vertices[:, 0], opened.vertices[:, 1]))
    assert np.abs(angles).min() == pytest.approx(30, abs=0.1)
    assert volume(closed.vertices, closed.faces) > 0
    assert closed.chart[:, 1].max() == pytest.approx(1.0)


def test_levels_without_points_take_their_neighbours() -> None:
    points = block((0.2, 0.2, 0.05), 1.0).vertices + np.array([0, 0, 0.5], np.float32)
    radii = radii_around(points, np.zeros(2, np.float32), np.linspace(1.0, 0.0, 11).astype(np.float32))
    assert (radii > 0).all()
    np.testing.assert_array_equal(radii[0], radii[3])
