"""Articles, spelling, capitals, and the spans of wrong words."""

import pytest

from textreid.synthetic.phrases import RIGHT_AGAIN, WRONG, bare, finish, is_plural, listed


@pytest.mark.parametrize(
    ("text", "finished"),
    [
        ("a olive coat", "An olive coat"),
        ("he has a umbrella and a uniform jacket", "He has an umbrella and a uniform jacket"),
        ("an black cap. a orange bag", "A black cap. An orange bag"),
        ("a one-piece dress, a A-line skirt", "A one-piece dress, an A-line skirt"),
        ("a grey, woollen, light-coloured coat", "A gray, woolen, light-colored coat"),
    ],
)
def test_articles_spelling_and_capitals(text: str, finished: str) -> None:
    assert finish(text, american=True) == (finished, ())


def test_british_spelling_and_small_letters_can_be_kept() -> None:
    assert finish("a grey coat. a colour", american=False, capitals=False) == ("a grey coat. a colour", ())


def test_spans_are_those_of_the_marked_words() -> None:
    marked = "<he> has a <orange> <tank top> and a <grey bag>.".replace("<", WRONG).replace(">", RIGHT_AGAIN)
    text, spans = finish(marked, american=True)
    assert text == "He has an orange tank top and a gray bag."
    assert [text[start:end] for start, end in spans] == ["He", "orange", "tank top", "gray bag"]


@pytest.mark.parametrize(
    ("noun", "plural"), [("jeans", True), ("shoes", True), ("dress", False), ("coat", False), ("flip-flops", True)]
)
def test_plurals(noun: str, plural: bool) -> None:
    assert is_plural(noun) is plural


def test_lists() -> None:
    assert listed([]) == ""
    assert listed(["a"]) == "a"
    assert listed(["a", "b"], oxford=True) == "a and b"
    assert listed(["a", "b", "c"]) == "a, b and c"
    assert listed(["a", "b", "c"], oxford=True) == "a, b, and c"


def test_bare_phrases() -> None:
    assert bare("a pair of jeans") == "jeans"
    assert bare("a red coat") == "red coat"
    assert bare("some papers") == "papers"
    assert bare("a few sheets of paper") == "a few sheets of paper"
    assert bare("white shoes") == "white shoes"
