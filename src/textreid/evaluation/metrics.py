"""Retrieval metrics, exact, by counting: no row of scores is ever sorted with its indices.

The j-th best relevant item of a query stands at rank ``j + n_j``, where ``n_j`` counts the irrelevant items that
score at least as high as it does. Everything follows from these counts. **Ties** are thus broken against the
model: an irrelevant item precedes a relevant one of equal score, so equal scores for all give the worst result
there is, and the order of the gallery never matters.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from textreid.errors import DataError

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

_BLOCK_BYTES = 64 << 20  # of scores held at once
_SORT_ABOVE = 64  # relevant items; beyond, one sort of the scores is cheaper than a pass over them for each


@dataclass(frozen=True)
class QueryMetrics:
    """The metrics of each query that has a relevant item; all arrays are (Q',).

    Attributes:
        query: row of the query in the features that were given.
        relevant: number of its relevant items, R.
        rank: of its best relevant item, from 1.
        average_precision: mean of ``j / rank_j`` over its relevant items.
        inverse_negative_penalty: ``R / rank_R`` (Ye et al., TPAMI 2021).
    """

    query: Indices
    relevant: Indices
    rank: Indices
    average_precision: Doubles
    inverse_negative_penalty: Doubles

    def scores(self) -> dict[str, Doubles]:
        """Return the five figures of each query by name, (Q',) each: their means are `RetrievalMetrics.scores`."""
        hits = {f"R{depth}": (self.rank <= depth).astype(np.float64) for depth in (1, 5, 10)}
        return {**hits, "mAP": self.average_precision, "mINP": self.inverse_negative_penalty}


@dataclass(frozen=True)
class RetrievalMetrics:
    """Means over the queries that have a relevant item, as fractions of 1.

    Attributes:
        r1, r5, r10: share of queries with a relevant item among the first 1, 5, 10.
        map: mean average precision.
        minp: mean inverse negative penalty.
        queries: number of queries in the means.
        gallery: number of gallery items.
        per_query: the values that these are means of.
        without_match: rows of the queries that have no relevant item and are left out.
    """

    r1: float
    r5: float
    r10: float
    map: float
    minp: float
    queries: int
    gallery: int
    per_query: QueryMetrics = field(compare=False)
    without_match: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.queries < 1 or self.gallery < 1:
            raise ValueError(f"metrics over {self.queries} queries and {self.gallery} gallery items")
        if not 0 <= self.r1 <= self.r5 <= self.r10 <= 1:
            raise ValueError(f"expected 0 <= R1 <= R5 <= R10 <= 1, got {self.r1}, {self.r5}, {self.r10}")
        if not (0 < self.map <= 1 and 0 < self.minp <= 1):
            raise ValueError(f"expected mAP and mINP above 0 and at most 1, got {self.map}, {self.minp}")

    def scores(self) -> dict[str, float]:
        """Return the five figures by their usual names."""
        return {"R1": self.r1, "R5": self.r5, "R10": self.r10, "mAP": self.map, "mINP": self.minp}


def retrieval_metrics(
    query_features: Any,
    gallery_features: Any,
    query_ids: Any,
    gallery_ids: Any,
    *,
    block: int | None = None,
) -> RetrievalMetrics:
    """Rank the gallery for each query by inner product and measure how well its identity is found.

    Every gallery item with the query's identity is relevant (Tan et al. 2024, §4). Scores are float32. Memory:
    both feature matrices as float32, a copy of each, a block of scores of 64 MiB, and at most
    64 bytes a gallery item.

    Args:
        query_features: (Q, D) array or tensor of any float type; L2-normalised for cosine similarity.
        gallery_features: (G, D) likewise.
        query_ids: (Q,) whole numbers or texts.
        gallery_ids: (G,) likewise.
        block: queries scored at once; chosen by memory when None.

    Raises:
        DataError: shapes do not fit, a feature is not finite (names rows), or no query has a relevant item.
    """
    queries, gallery = _features(query_features, "query"), _features(gallery_features, "gallery")
    _check_scale(queries, gallery)
    wanted, given = _ids(query_ids, "query", len(queries)), _ids(gallery_ids, "gallery", len(gallery))
    if wanted.dtype.kind != given.dtype.kind:
        raise DataError(f"query identities are {wanted.dtype}, gallery identities {given.dtype}: none can be equal")
    # With the gallery in the order of its identities, the relevant items of a query are one slice of it.
    order = np.argsort(given, kind="stable")
    gallery, given = gallery[order], given[order]
    starts, ends = np.searchsorted(given, wanted, "left"), np.searchsorted(given, wanted, "right")
    matched = np.flatnonzero(ends > starts)
    if not matched.size:
        raise DataError(f"none of the {len(queries)} queries has a gallery item of its identity")
    # A block of scores, whatever the gallery: the whole matrix of ICFG-PEDES would take 1.6 GB.
    block = min(block or max(1, _BLOCK_BYTES // (4 * len(gallery))), len(matched))
    starts, ends = starts[matched], ends[matched]
    values = _from_ranks(matched, _ranks(queries[matched], gallery, starts, ends, block), ends - starts)
    r1, r5, r10, mean_precision, minp = (float(each.mean()) for each in values.scores().values())
    return RetrievalMetrics(
        r1=r1,
        r5=r5,
        r10=r10,
        map=mean_precision,
        minp=minp,
        queries=len(matched),
        gallery=len(gallery),
        per_query=values,
        without_match=tuple(np.setdiff1d(np.arange(len(queries)), matched).tolist()),
    )


def _ranks(queries: Floats, gallery: Floats, starts: Indices, ends: Indices, block: int) -> Indices:
    """Find the ranks of the relevant items of each query, best first, query after query.

    The relevant items of query ``i`` are ``gallery[starts[i]:ends[i]]``.
    """
    ranks: list[Indices] = []
    scores = np.empty((block, len(gallery)), dtype=np.float32)
    for first in range(0, len(queries), block):
        chosen = slice(first, first + block)
        rows = np.matmul(queries[chosen], gallery.T, out=scores[: len(queries[chosen])])
        # In one thread: two that count fight for the interpreter's lock, and are slower (measured).
        ranks.append(_ranks_of_rows(rows, starts[chosen], ends[chosen]))
    return np.concatenate(ranks)


def _ranks_of_rows(scores: Floats, starts: Indices, ends: Indices) -> Indices:
    """Find the same from rows of scores (B, G), which are overwritten."""
    ranks = [np.zeros(0, dtype=np.int64)]
    # One buffer for all rows: a new one for each would be mapped, paged in and unmapped by the system every time.
    most = min(int((ends - starts).max(initial=0)), _SORT_ABOVE)
    reached = np.empty((most, scores.shape[1]), dtype=np.bool_)
    for row, start, end in zip(scores, starts, ends, strict=True):
        relevant = np.sort(row[start:end])[::-1]
        # Relevant items are below every threshold now: only irrelevant ones are counted, and `arange` adds the others.
        row[start:end] = -np.inf
        ranks.append(_count_at_least(row, relevant, reached) + np.arange(1, len(relevant) + 1))
    return np.concatenate(ranks)


def _from_ranks(queries: Indices, ranks: Indices, relevant: Indices) -> QueryMetrics:
    """Compute the metrics of each query from the ranks of its relevant items, of which it has ``relevant``."""
    ends = np.cumsum(relevant)
    starts = ends - relevant
    position = np.arange(1, len(ranks) + 1) - np.repeat(starts, relevant)
    return QueryMetrics(
        query=queries,
        relevant=relevant,
        rank=ranks[starts],
        # `reduceat` gives an element, not 0, for an empty part; there is none, since each query here has a match.
        average_precision=np.add.reduceat(position / ranks, starts) / relevant,
        inverse_negative_penalty=relevant / ranks[ends - 1],
    )


def _count_at_least(scores: Floats, thresholds: Floats, reached: npt.NDArray[np.bool_]) -> Indices:
    """Count how many of ``scores`` (G,) are at least each of ``thresholds`` (R,); ``reached`` is room to compare in."""
    if len(thresholds) > _SORT_ABOVE:
        return len(scores) - np.searchsorted(np.sort(scores), thresholds, side="left").astype(np.int64)
    compared = np.less_equal(thresholds[:, None], scores, out=reached[: len(thresholds)])
    # Row by row: with an axis numpy sums integers in place of counting bytes, which takes five times as long.
    return np.array([np.count_nonzero(row) for row in compared], dtype=np.int64)


def _features(features: Any, side: str) -> Floats:
    if hasattr(features, "detach"):  # a tensor: on any device, perhaps of a type that numpy does not have
        features = features.detach().float().cpu().numpy()
    try:
        # A number beyond float32 becomes infinite, and is refused below with the row that it is in.
        with np.errstate(over="ignore"):
            matrix = np.asarray(features, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise DataError(f"{side} features are not a matrix of numbers: {error}") from error
    if matrix.ndim != 2 or not matrix.size:
        raise DataError(f"{side} features have shape {matrix.shape}; expected at least one row of at least one number")
    bad = np.flatnonzero(~np.isfinite(matrix).all(axis=1))
    if bad.size:
        rows = ", ".join(map(str, bad[:5])) + (", ..." if bad.size > 5 else "")
        raise DataError(f"{side} features are not finite in {bad.size} of {len(matrix)} rows: {rows}")
    return matrix


def _check_scale(queries: Floats, gallery: Floats) -> None:
    """Refuse what has no finite inner product."""
    width = queries.shape[1]
    if width != gallery.shape[1]:
        raise DataError(f"query features have {width} dimensions, gallery features {gallery.shape[1]}")
    # No product is larger than this, so that the scores themselves need not be looked at.
    largest = width * float(np.abs(queries).max()) * float(np.abs(gallery).max())
    if largest > float(np.finfo(np.float32).max):
        raise DataError("features are so large that their inner products overflow float32; L2-normalise them")


def _ids(ids: Any, side: str, length: int) -> npt.NDArray[Any]:
    array = np.asarray(ids.detach().cpu() if hasattr(ids, "detach") else ids)
    # Floats are refused: two that stand for one person may differ by rounding.
    if array.shape != (length,) or array.dtype.kind not in "iuU":
        raise DataError(
            f"{side} identities have shape {array.shape} and type {array.dtype}; "
            f"expected {length} whole numbers or texts, one for each row of features"
        )
    return array if array.dtype.kind == "U" else array.astype(np.int64)
