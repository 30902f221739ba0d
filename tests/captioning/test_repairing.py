"""Other phrases in captions: they read, and what is known to be wrong stays known."""

import pytest
from hypothesis import given, strategies as st

from textreid.captioning.repairing import Change, change_phrases


def changed(caption: str, *changes: tuple[str, str], errors: tuple[str, ...] = ()) -> tuple[str, tuple[str, ...]]:
    """The caption with phrases changed, and its wrong words; ``errors`` and phrases are found in it."""
    found = [Change(caption.index(said), caption.index(said) + len(said), now) for said, now in changes]
    spans = [(caption.index(word), caption.index(word) + len(word)) for word in errors]
    text, left = change_phrases(caption, found, spans)
    return text, tuple(text[low:high] for low, high in left)


@pytest.mark.parametrize(
    ("before", "changes", "after"),
    [
        ("A man in a red coat.", [("a red coat", "a blue jacket")], "A man in a blue jacket."),
        ("A red coat and jeans.", [("A red coat", "a blue jacket")], "A blue jacket and jeans."),
        ("He wears his red coat.", [("red coat", "a blue jacket")], "He wears his blue jacket."),
        ("He wears blue jeans.", [("blue jeans", "a black skirt")], "He wears a black skirt."),
        ("A man in jeans and a red hat.", [("a red hat", "")], "A man in jeans."),
        ("A man in jeans, a red hat, and boots.", [("a red hat", "")], "A man in jeans, and boots."),
        ("A man is carrying a red bag.", [("a red bag", "")], "A man is carrying nothing."),
        ("A man in a coat with a red bag.", [("a red bag", "")], "A man in a coat."),
        (
            "A man in a red coat, his bag on him. He waits.", [("A man", "a woman"), ("a red coat", "a blue one")],
            "A woman in a blue one, her bag on her. She waits.",
        ),
        ("The lady waits; her hat is hers. Her bag.", [("lady", "man")], "The man waits; his hat is his. His bag."),
        ("A young woman waits for her.", [("A young woman", "an older man")], "An older man waits for him."),
        ("A man.", [("A man", "a young man")], "A young man."),
    ],
)  # fmt: skip
def test_what_is_left_reads(before: str, changes: list[tuple[str, str]], after: str) -> None:
    assert changed(before, *changes)[0] == after


def test_errors_of_a_phrase_go_with_it_and_others_stay() -> None:
    caption = "A man in a red coat, green boots and a big hat."
    text, wrong = changed(caption, ("a red coat", "a navy blue jacket"), errors=("red", "green", "big"))
    assert text == "A man in a navy blue jacket, green boots and a big hat."
    assert wrong == ("green", "big")
    text, left = change_phrases("He wears his red coat.", [Change(13, 21, "a blue jacket", ((2, 6),))], [(0, 2)])
    assert (text, [text[low:high] for low, high in left]) == ("He wears his blue jacket.", ["He", "blue"])


def test_pronouns_are_as_wrong_as_the_noun_that_tells_the_gender() -> None:
    caption = "A man with his red bag. He waits."
    assert changed(caption, ("A man", "a woman"), errors=("man", "his", "He", "red"))[1] == ("red",)
    text, left = change_phrases(caption, [Change(0, 5, "a woman", ((2, 7),))], [(15, 18)])
    assert [text[low:high] for low, high in left] == ["woman", "her", "red", "She"]


@given(
    words=st.lists(st.sampled_from(["red", "coat", "a", "boots", "with"]), min_size=2, max_size=12),
    place=st.integers(0, 11),
    now=st.sampled_from(["blue", "a long grey thing", "x"]),
)
def test_spans_follow_their_words(words: list[str], place: int, now: str) -> None:
    caption = " ".join(words)
    place %= len(words)
    starts = [len(" ".join([*words[:each], ""])) for each in range(len(words))]
    spans = [(start, start + len(word)) for start, word in zip(starts, words, strict=True)]
    text, left = change_phrases(caption, [Change(*spans[place], now)], spans)
    kept = [word for each, word in enumerate(words) if each != place]
    assert [text[low:high] for low, high in left] == kept
