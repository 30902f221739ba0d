"""What a search makes of a sentence: one that says little loses what it has in common with one that says nothing."""

import numpy as np
import pytest

from textreid.gallery.encoder import GalleryEncoder
from textreid.models import load_model

LONG = (
    "A woman with long black hair wears a red jacket over a white shirt, blue jeans and brown boots; "
    "she carries a green handbag in her left hand."
)
SHORT = "a man with a backpack"


@pytest.fixture(scope="module")
def default() -> GalleryEncoder:
    return GalleryEncoder()


def test_a_sentence_that_says_much_is_searched_for_as_it_is(default: GalleryEncoder) -> None:
    found, _ = default.encode_query(LONG)
    assert np.array_equal(found, default.encode_sentences([LONG])[0])


def test_a_short_one_is_no_longer_like_one_that_says_nothing(default: GalleryEncoder) -> None:
    plain, nothing = default.encode_sentences([SHORT, "a man"])
    found, _ = default.encode_query(SHORT)
    assert plain @ nothing > 0.6
    assert found @ nothing < plain @ nothing - 0.09
    assert found @ plain > 0.2
    assert np.linalg.norm(found) == pytest.approx(np.linalg.norm(plain), rel=1e-5)


def test_what_is_asked_with_it_plays_no_part(default: GalleryEncoder) -> None:
    together = [vector for vector, _ in default.encode_queries([LONG, SHORT, "a person with a scarf"])]
    assert np.array_equal(together[1], default.encode_query(SHORT)[0])


def test_another_model_is_asked_as_it_is(default: GalleryEncoder) -> None:
    tiny = GalleryEncoder("tiny")
    assert np.array_equal(tiny.encode_query(SHORT)[0], tiny.encode_sentences([SHORT])[0])


def test_the_default_is_asked_alike_when_it_is_given_loaded(default: GalleryEncoder) -> None:
    given = GalleryEncoder(load_model(precision="fp32"))
    assert given.name == default.name
    np.testing.assert_allclose(given.encode_query(SHORT)[0], default.encode_query(SHORT)[0], atol=1e-4)
    assert GalleryEncoder(load_model("tiny")).name == "the given model"
