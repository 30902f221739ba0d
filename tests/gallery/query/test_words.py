"""What a query says that the bundled model cannot know."""

import pytest

from textreid.gallery.encoder import GalleryEncoder
from textreid.gallery.query.words import negation_note, unknown_note, unknown_words, without_notes
from textreid.models import Tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return GalleryEncoder().tokenizer


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("a woman in a red jacket and blue jeans with a backpack", []),
        ("a woman in a niqab", ["niqab"]),
        ("a man with a jakcet and a beard", ["jakcet (say jacket?)", "beard"]),
        ("a man in a 'BUNDESWEHR' shirt", []),
        ("he is not the one who was there", []),
        ("Dreadlocks, and dreadlocks", ["dreadlocks"]),
        ("", []),
    ],
)
def test_words_that_were_never_read_are_named(query: str, expected: list[str], tokenizer: Tokenizer) -> None:
    assert [str(word) for word in unknown_words(query, tokenizer)] == expected


def test_one_line_names_them(tokenizer: Tokenizer) -> None:
    assert unknown_note("a red coat", tokenizer) == []
    assert unknown_note("a niqab", tokenizer) == ["the model has not learned this word: niqab"]
    assert unknown_note("a niqab, a beard", tokenizer) == ["the model has not learned these words: niqab, beard"]


def test_what_cannot_be_told_apart_is_said() -> None:
    assert without_notes(["a red jacket", "long hair", "jeans"]) == []
    notes = without_notes(["a hat", "a backpack"])
    assert len(notes) == 2
    assert "does not tell hats, glasses and scarves apart" in notes[0]
    assert "does not tell bags and what is carried apart" in notes[1]


def test_a_negation_in_a_sentence_is_told() -> None:
    assert negation_note("a man with a hat, and a 'NO WAY' shirt") == []
    assert negation_note("a man in a noble coat") == []
    assert negation_note("a man with no hat")[0].startswith("'no' in a query hardly counts")
    assert negation_note("a man Without a hat")[0].startswith("'Without' in a query")
