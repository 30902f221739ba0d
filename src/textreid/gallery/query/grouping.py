"""One result for each walk past a camera, and one for crops that hardly differ."""

from collections.abc import Hashable, Sequence

import numpy as np
import numpy.typing as npt

# Of 96,908 pairs of photographs of two people one is as alike, of 553 pairs of one person ten (docs/benchmarks.md).
NEARLY_IDENTICAL = 0.96


def group_results(
    features: npt.NDArray[np.float32], tracks: Sequence[Hashable | None], alike: float = NEARLY_IDENTICAL
) -> list[list[int]]:
    """Put results together that show one walk or almost the same picture: each result joins the best group it can.

    Only the first of a group counts for who may join: chains of pictures, each a little different from the one before,
    do not end at somebody else. The order of the results decides alone, so that more results leave the groups of the
    first ones as they were, but for new members at their ends.

    Args:
        features: (N, D) of the results, best first, each of length 1.
        tracks: (N) what tells the walk of a result from all others; None where there is no track.
        alike: cosine from which two results count as the same picture.

    Returns:
        Groups of rows, by their first members, best first; within a group best first.
    """
    groups: list[list[int]] = []
    of_track: dict[Hashable, list[int]] = {}
    for row, track in enumerate(tracks):
        group = of_track.get(track) if track is not None else None
        if group is None and groups:
            cosines = features[[each[0] for each in groups]] @ features[row]
            nearest = int(np.argmax(cosines))
            group = groups[nearest] if cosines[nearest] >= alike else None
        if group is None:
            group = []
            groups.append(group)
        group.append(row)
        if track is not None:
            of_track.setdefault(track, group)
    return groups
