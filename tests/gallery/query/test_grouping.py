"""One result a walk, and one for pictures that hardly differ."""

import numpy as np
import numpy.typing as npt
from hypothesis import given, strategies as st

from textreid.gallery.query.grouping import NEARLY_IDENTICAL, group_results

Array = npt.NDArray[np.float32]


def at(*degrees: float) -> Array:
    """Unit vectors in a plane."""
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def test_tracks_and_likeness_put_together() -> None:
    features = at(0, 90, 1, 45, 91)
    assert group_results(features, [None] * 5) == [[0, 2], [1, 4], [3]]
    assert group_results(features, ["a", "b", "c", "a", "c"]) == [[0, 2, 3, 4], [1]]
    assert group_results(features, ["a", None, None, "a", None], alike=2) == [[0, 3], [1], [2], [4]]
    assert group_results(features[:0], []) == []


def test_a_chain_does_not_end_at_somebody_else() -> None:
    step = float(np.degrees(np.arccos(NEARLY_IDENTICAL))) * 0.9
    groups = group_results(at(*(step * number for number in range(6))), [None] * 6)
    assert groups == [[0, 1], [2, 3], [4, 5]]


@given(st.lists(st.tuples(st.floats(0, 180), st.sampled_from([None, "a", "b"])), min_size=1, max_size=25))
def test_more_results_only_add_to_groups(results: list[tuple[float, str | None]]) -> None:
    features, tracks = at(*(angle for angle, _ in results)), [track for _, track in results]
    groups = group_results(features, tracks)
    assert sorted(row for group in groups for row in group) == list(range(len(results)))
    assert [group[0] for group in groups] == sorted(group[0] for group in groups)
    fewer = group_results(features[:-1], tracks[:-1])
    last = len(results) - 1
    assert [kept for group in groups if (kept := [row for row in group if row != last])] == fewer
