"""Captions of one structure share a pattern, whatever the person looks like; other structures do not."""

import pytest
from hypothesis import given, strategies as st

from textreid.captions.text import SLOTS, sentence_pattern


@pytest.mark.parametrize(
    ("one", "other", "pattern"),
    [
        (
            "A young man with short dark hair wears a dark brown jacket, blue jeans and light shoes.",
            "The older lady with a blonde ponytail wears a gray coat over a white shirt and black high heels.",
            "[gender] with [hair] wears [clothing] and [footwear] .",
        ),
        (
            "She is carrying a light-blue handbag and wears glasses.",
            "He is carrying an orange backpack and wears a red baseball cap.",
            "[he/she] is carrying [belongings] and wears [accessory] .",
        ),
        (
            "Her shoes are white.",
            "His black and white striped sneakers are grey.",
            "[footwear] is [look] .",
        ),
        (
            "The dress has long sleeves",
            "This DRESS  has\tlong sleeves",
            "[clothing] have [look] sleeves",
        ),
        (
            "A man in a navy t-shirt with white stripes.",
            "A girl in a plain T-shirt.",
            "[gender] in [clothing] .",
        ),
    ],
)
def test_content_gives_way_to_slots(one: str, other: str, pattern: str) -> None:
    assert sentence_pattern(one).text == pattern
    assert sentence_pattern(other).text == pattern


def test_structure_stays() -> None:
    texts = (
        "A man in a red coat and boots.",
        "A man in boots and a red coat.",
        "In a red coat and boots, a man.",
        "A man in a red coat. He has boots.",
        "A man dressed in a red coat and boots.",
    )
    assert len({sentence_pattern(text).text for text in texts}) == len(texts)


def test_mentions() -> None:
    assert sentence_pattern("He is walking.").mentions == {"gender"}
    assert sentence_pattern("A red scarf.").mentions == {"accessory", "colour"}
    everything = "A bald man in a black suit and boots, with a cap, holds a phone."
    assert sentence_pattern(everything).mentions == {*SLOTS, "colour"} - {"hair"}
    assert sentence_pattern("Nobody.").mentions == frozenset()


@given(st.text(max_size=200))
def test_any_text_has_a_pattern(text: str) -> None:
    pattern = sentence_pattern(text)
    assert "<" not in pattern.text
    assert sentence_pattern(text) == pattern
