import subprocess
import sys

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings, strategies as st

from textreid.errors import DataError
from textreid.evaluation import RetrievalMetrics, retrieval_metrics
from textreid.evaluation.metrics import _SORT_ABOVE

Floats = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int64]
Problem = tuple[Floats, Floats, Ids, Ids]


def obvious(queries: Floats, gallery: Floats, query_ids: Ids, gallery_ids: Ids) -> tuple[list[list[float]], list[int]]:
    """Rank, AP and INP of each query by walking its ranked list, irrelevant items first among equals."""
    values, unmatched = [], []
    for row, (feature, identity) in enumerate(zip(queries, query_ids, strict=True)):
        scored = [(-float(feature @ item), bool(i == identity)) for item, i in zip(gallery, gallery_ids, strict=True)]
        ranks = [rank for rank, (_, relevant) in enumerate(sorted(scored), start=1) if relevant]
        if not ranks:
            unmatched.append(row)
            continue
        precision = sum(found / rank for found, rank in enumerate(ranks, start=1)) / len(ranks)
        values.append([ranks[0], precision, len(ranks) / ranks[-1]])
    return values, unmatched


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    """Small whole numbers: their inner products are exact, and many are equal."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    width, spread, identities = draw(st.integers(1, 4)), draw(st.integers(0, 4)), draw(st.integers(1, 6))
    queries, items = draw(st.integers(1, 12)), draw(st.integers(1, 30))
    query_ids, gallery_ids = generator.integers(0, identities, queries), generator.integers(0, identities, items)
    gallery_ids[0] = query_ids[0]  # at least one query can be answered
    return (
        generator.integers(-spread, spread + 1, (queries, width)).astype(np.float32),
        generator.integers(-spread, spread + 1, (items, width)).astype(np.float32),
        query_ids,
        gallery_ids,
    )


def per_query(metrics: RetrievalMetrics) -> npt.NDArray[np.float64]:
    """(Q', 3): rank, AP and INP."""
    values = metrics.per_query
    return np.stack([values.rank, values.average_precision, values.inverse_negative_penalty], axis=1)


def by_row(metrics: RetrievalMetrics, rows: npt.NDArray[np.int64]) -> dict[int, list[float]]:
    """The values of each query under the number that ``rows`` gives it."""
    return dict(zip(rows[metrics.per_query.query].tolist(), per_query(metrics).tolist(), strict=True))


@settings(max_examples=300, deadline=None)
@given(problems())
def test_it_equals_the_obvious_loop(problem: Problem) -> None:
    expected, unmatched = obvious(*problem)
    metrics = retrieval_metrics(*problem)
    np.testing.assert_allclose(per_query(metrics), expected, rtol=1e-12)
    ranks, precisions, penalties = np.transpose(expected)
    figures = [np.mean(ranks <= 1), np.mean(ranks <= 5), np.mean(ranks <= 10), precisions.mean(), penalties.mean()]
    np.testing.assert_allclose(list(metrics.scores().values()), figures, rtol=1e-12)
    assert (metrics.without_match, metrics.queries) == (tuple(unmatched), len(expected))


@settings(max_examples=100, deadline=None)
@given(problems(), st.integers(1, 13), st.integers(0, 2**32))
def test_neither_block_size_nor_order_matters(problem: Problem, block: int, seed: int) -> None:
    queries, gallery, query_ids, gallery_ids = problem
    generator = np.random.default_rng(seed)
    order, turn = generator.permutation(len(gallery)), generator.permutation(len(queries))
    straight = retrieval_metrics(*problem)
    shuffled = retrieval_metrics(queries[turn], gallery[order], query_ids[turn], gallery_ids[order], block=block)
    assert by_row(shuffled, turn) == by_row(straight, np.arange(len(queries)))


def test_a_case_worked_by_hand() -> None:
    # Scores are the gallery's values. Query 1 ranks: 9 (its own), 7, 5 (its own), 3: AP = (1/1 + 2/3)/2, INP = 2/3.
    # Query 2 ranks: 9, 7 (its own), 5, 3 (its own): AP = (1/2 + 2/4)/2, INP = 2/4.
    metrics = retrieval_metrics([[1.0], [1.0]], [[5.0], [9.0], [3.0], [7.0]], [1, 2], [1, 1, 2, 2])
    np.testing.assert_allclose(per_query(metrics), [[1, 5 / 6, 2 / 3], [2, 1 / 2, 1 / 2]])
    assert metrics.scores() == pytest.approx({"R1": 0.5, "R5": 1.0, "R10": 1.0, "mAP": 2 / 3, "mINP": 7 / 12})


def test_equal_scores_give_the_worst_result_there_is() -> None:
    metrics = retrieval_metrics(np.ones((3, 4)), np.ones((20, 4)), [0, 1, 1], [0] * 5 + [1] * 15)
    assert per_query(metrics)[:, 0].tolist() == [16, 6, 6]
    assert metrics.r5 == 0


@pytest.mark.parametrize("relevant", [1, _SORT_ABOVE, _SORT_ABOVE + 1, 150])
def test_many_relevant_items(relevant: int) -> None:
    generator = np.random.default_rng(relevant)
    gallery_ids = generator.permutation(np.arange(200) >= relevant).astype(np.int64)
    problem = (
        generator.integers(-3, 4, (5, 3)).astype(np.float32),
        generator.integers(-3, 4, (200, 3)).astype(np.float32),
        np.zeros(5, dtype=np.int64),
        gallery_ids,
    )
    np.testing.assert_allclose(per_query(retrieval_metrics(*problem)), obvious(*problem)[0], rtol=1e-12)


def test_all_relevant_is_perfect() -> None:
    metrics = retrieval_metrics(np.ones((2, 1)), np.arange(4.0)[:, None], [7, 7], [7, 7, 7, 7])
    assert set(metrics.scores().values()) == {1.0}


@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_tensors_give_what_arrays_give(kind: torch.dtype) -> None:
    generator = np.random.default_rng(0)
    queries, gallery = generator.integers(-4, 5, (6, 8)), generator.integers(-4, 5, (30, 8))
    query_ids, gallery_ids = generator.integers(0, 5, 6), generator.integers(0, 5, 30)
    arrays = retrieval_metrics(queries, gallery, query_ids, gallery_ids)
    tensors = retrieval_metrics(
        torch.tensor(queries, dtype=kind, requires_grad=True),
        torch.tensor(gallery, dtype=kind),
        torch.tensor(query_ids),
        torch.tensor(gallery_ids, dtype=torch.int32),
    )
    assert tensors == arrays


def test_identities_may_be_texts() -> None:
    metrics = retrieval_metrics([[1.0], [1.0]], [[1.0], [2.0]], ["anna", "who?"], ["bo", "anna"])
    assert (metrics.r1, metrics.without_match) == (1.0, (1,))


def test_inputs_stay_as_they_were() -> None:
    queries, gallery = np.ones((2, 3), np.float32), np.arange(12, dtype=np.float32).reshape(4, 3)
    before = gallery.copy()
    retrieval_metrics(queries, gallery, [0, 1], [1, 0, 1, 0])
    np.testing.assert_array_equal(gallery, before)
    np.testing.assert_array_equal(queries, np.ones((2, 3)))


GOOD = np.ones((3, 2))
HOLED = np.array([[1.0, 2.0], [np.nan, 1.0], [1.0, np.inf]])


@pytest.mark.parametrize(
    ("queries", "gallery", "query_ids", "gallery_ids", "message"),
    [
        (HOLED, GOOD, [0, 1, 2], [0, 1, 2], "query features are not finite in 2 of 3 rows: 1, 2"),
        (GOOD, HOLED, [0, 1, 2], [0, 1, 2], "gallery features are not finite"),
        (GOOD, GOOD * 1e300, [0, 1, 2], [0, 1, 2], "gallery features are not finite"),
        (GOOD * 1e30, GOOD * 1e30, [0, 1, 2], [0, 1, 2], "overflow float32"),
        (GOOD, np.ones((3, 5)), [0, 1, 2], [0, 1, 2], "2 dimensions, gallery features 5"),
        (np.ones(3), GOOD, [0, 1, 2], [0, 1, 2], r"shape \(3,\)"),
        (np.ones((0, 2)), GOOD, [], [0, 1, 2], r"shape \(0, 2\)"),
        (GOOD, np.ones((0, 2)), [0, 1, 2], [], r"shape \(0, 2\)"),
        ([["a"]], GOOD, [0], [0, 1, 2], "not a matrix of numbers"),
        ([[1.0], [1.0, 2.0]], GOOD, [0, 1], [0, 1, 2], "not a matrix of numbers"),
        (GOOD, GOOD, [0, 1], [0, 1, 2], r"query identities have shape \(2,\)"),
        (GOOD, GOOD, [0, 1, 2], [0.0, 1.0, 2.0], "type float64"),
        (GOOD, GOOD, [0, 1, 2], ["a", "b", "c"], "none can be equal"),
        (GOOD, GOOD, [0, 1, 2], [3, 4, 5], "none of the 3 queries"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    queries: object, gallery: object, query_ids: object, gallery_ids: object, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        retrieval_metrics(queries, gallery, query_ids, gallery_ids)


@pytest.mark.parametrize("change", [{"r1": 0.6}, {"r10": 1.1}, {"map": 0.0}, {"minp": float("nan")}, {"queries": 0}])
def test_a_result_checks_itself(change: dict[str, float]) -> None:
    each = retrieval_metrics(GOOD, GOOD, [0, 1, 2], [0, 1, 2]).per_query
    sound = {"r1": 0.1, "r5": 0.5, "r10": 0.9, "map": 0.3, "minp": 0.2, "queries": 10, "gallery": 10}
    RetrievalMetrics(**sound, per_query=each)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"expected|metrics over"):
        RetrievalMetrics(**sound | change, per_query=each)  # type: ignore[arg-type]


def test_it_needs_no_torch() -> None:
    code = "import sys, textreid.evaluation.metrics; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
