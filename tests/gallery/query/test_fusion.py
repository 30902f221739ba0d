"""Several witnesses, pictures, exclusions and feedback as one vector."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, strategies as st

from textreid.errors import ConfigError
from textreid.gallery.query.fusion import (
    PICTURE_SHARE,
    WITHOUT_WEIGHT,
    QueryFeatures,
    direction_of,
    refine,
    without_sentences,
)

Array = npt.NDArray[np.float32]


def units(count: int, seed: int = 0, dim: int = 16) -> Array:
    rows = np.random.default_rng(seed).normal(size=(count, dim))
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def test_one_sentence_is_its_own_vector() -> None:
    sentence = units(1)
    np.testing.assert_allclose(QueryFeatures(sentence).vector(), sentence[0], atol=1e-6)
    np.testing.assert_allclose(QueryFeatures(0.8 * sentence).vector(), 0.8 * sentence[0], atol=1e-6)


@given(st.integers(1, 5), st.integers(0, 100))
def test_fused_sentences_rank_as_the_mean_of_their_cosines(count: int, seed: int) -> None:
    sentences, pictures = units(count, seed), units(50, seed + 1)
    mean = np.mean([[float(picture @ sentence) for picture in pictures] for sentence in sentences], axis=0)
    fused = pictures @ QueryFeatures(sentences).vector()
    np.testing.assert_allclose(fused / fused.max(), mean / mean.max(), atol=1e-4)
    assert np.linalg.norm(QueryFeatures(sentences).vector()) == pytest.approx(1, abs=1e-6)


def test_pictures_and_sentences_have_their_shares() -> None:
    sentence, pictures = units(1), units(2, seed=1)
    expected = (1 - PICTURE_SHARE) * sentence[0] + PICTURE_SHARE * (pictures[0] + pictures[1]) / 2
    np.testing.assert_allclose(
        QueryFeatures(sentence, pictures).vector(), expected / np.linalg.norm(expected), atol=1e-6
    )
    alone = pictures.mean(axis=0)
    np.testing.assert_allclose(QueryFeatures(pictures=pictures).vector(), alone / np.linalg.norm(alone), atol=1e-6)


def test_what_has_the_thing_loses_and_what_lies_across_keeps_its_order() -> None:
    basis = np.eye(4, dtype=np.float32)
    sentence, thing = basis[:1], direction_of(basis[0] + basis[1], basis[0])
    np.testing.assert_allclose(thing, basis[1], atol=1e-6)
    vector = QueryFeatures(sentence, without=thing[None]).vector()
    with_it = (basis[0] + basis[1]) / np.sqrt(2)
    across = (basis[0] + basis[2]) / np.sqrt(2)
    assert with_it @ vector < across @ vector
    assert (with_it - across) @ vector == pytest.approx(
        -WITHOUT_WEIGHT / np.sqrt(2) / np.sqrt(1 + WITHOUT_WEIGHT**2), abs=1e-6
    )


def test_the_two_sentences_differ_in_the_thing() -> None:
    assert without_sentences("  a  hat ") == ("a person with a hat", "a person")


def test_equal_sentences_have_no_direction() -> None:
    same = units(1)[0]
    np.testing.assert_array_equal(direction_of(same, same), np.zeros(16, np.float32))


def test_a_query_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="nothing to look for"):
        QueryFeatures(without=units(1)).vector()


def test_feedback_is_rocchio_worked_by_hand() -> None:
    basis = np.eye(3, dtype=np.float32)
    moved = refine(basis[0], basis[1:2], basis[2:3])
    expected = np.array([1, 2, -0.5]) / np.linalg.norm([1, 2, -0.5])
    np.testing.assert_allclose(moved, expected, atol=1e-6)


def test_wrong_results_alone_change_nothing() -> None:
    query = units(1)[0]
    np.testing.assert_array_equal(refine(query, units(0), units(3, seed=2)), query)


def test_right_results_bring_up_what_is_like_them() -> None:
    """People as clusters: after one right picture the others of the person stand first."""
    rng = np.random.default_rng(3)
    people = units(20, seed=4, dim=32)
    pictures = np.repeat(people, 5, axis=0) + rng.normal(0, 0.08, (100, 32)).astype(np.float32)
    pictures /= np.linalg.norm(pictures, axis=1, keepdims=True)
    query = 0.3 * people[7] + units(1, seed=5, dim=32)[0]
    before, after = pictures @ query, pictures @ refine(query, pictures[35:36], pictures[:1])
    assert set(np.argsort(-after)[:5]) == set(range(35, 40))
    assert set(np.argsort(-before)[:5]) != set(range(35, 40))
