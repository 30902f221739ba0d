from collections.abc import Callable
from itertools import pairwise

import pytest
from tests.evaluation.conftest import WordCounter

from textreid.evaluation.encoding import EncodedSplit
from textreid.evaluation.protocol import measure
from textreid.evaluation.report import report_tables, to_report
from textreid.evaluation.swaps import ATTRIBUTES, swap_tests, swaps_of


def swapped(sentence: str, attribute: str) -> str | None:
    return {swap.attribute: swap.text for swap in swaps_of(sentence)}.get(attribute)


@pytest.mark.parametrize(
    ("attribute", "sentence", "expected"),
    [
        ("lower garment", "He wears black trousers.", "He wears black shorts."),
        ("lower garment", "She wears a striped skirt.", "She wears striped shorts."),
        ("lower garment", "A skirt of blue.", "Shorts of blue."),
        ("lower garment", "in a pair of blue jeans", "in a pair of blue shorts"),
        ("lower garment", "in shorts", "in trousers"),
        ("upper garment", "A man in a white T-shirt.", "A man in a white jacket."),
        ("upper garment", "an anorak", "a t-shirt"),
        ("upper garment", "a red jacket over a shirt", "a red t-shirt over a shirt"),
        ("pattern", "a plain top", "a striped top"),
        ("pattern", "a plaid shirt", "a plain shirt"),
        ("bag", "a black purse", "a black backpack"),
        ("bag", "with a backpack", "with a handbag"),
        ("bag", "with a bag", None),
        ("headwear", "a cap and a scarf", "a scarf and a scarf"),
        ("gender", "A man with his bag; he is young.", "A woman with her bag; she is young."),
        ("gender", "The woman has her bag with her; it suits her.", "The man has his bag with him; it suits him."),
        ("gender", "A lady's bag.", "A gentleman's bag."),
        ("gender", "Human beings and a manual.", None),
        ("hair length", "a man with long black hair", "a man with short black hair"),
        ("hair length", "a short-haired woman", "a long-haired woman"),
        ("hair length", "in long trousers with hair tied", None),
        ("hair length", "a long coat and short hair", "a long coat and long hair"),
        ("hair length", "long sleeves, hair down", None),
    ],
)
def test_one_attribute_is_exchanged_and_the_grammar_kept(attribute: str, sentence: str, expected: str | None) -> None:
    assert swapped(sentence, attribute) == expected


def test_a_colour_becomes_another_that_is_not_there() -> None:
    checked = 0
    for old in ("black", "Gray", "dark blue", "light green", "orange"):
        sentence = f"A man in an {old} coat and white shoes." if old == "orange" else f"A man in a {old} coat."
        text = swapped(sentence, "colour")
        assert text is not None
        assert text != sentence
        assert text == swapped(sentence, "colour")
        for word in text.rstrip(".").split():
            assert word not in ("dark", "light")
        words = text.split()
        for article, noun in pairwise(words):
            if article in ("a", "an"):
                assert (article == "an") == (noun[0] in "aeiou"), text
                checked += 1
    assert checked >= 5
    assert swapped("A man in a coat.", "colour") is None


def test_sentences_without_attributes_have_no_swaps() -> None:
    assert list(swaps_of("")) == []
    assert list(swaps_of("Somebody walks by.")) == []


PEOPLE = [
    ("man red jacket", "a man in a red jacket"),
    ("woman blue jacket", "a woman in a blue jacket"),
    ("man blue bag", "a man in a blue coat"),
]


def test_a_model_that_sees_prefers_the_truth_and_a_blind_one_is_a_coin(encode: Callable[..., EncodedSplit]) -> None:
    model = WordCounter()
    tests = {test.attribute: test for test in swap_tests(model, encode(model, PEOPLE))}
    assert list(tests) == ["colour", "upper garment", "gender"]
    assert (tests["gender"].preferred, tests["gender"].interval, tests["gender"].pairs) == (1.0, (1.0, 1.0), 3)
    assert tests["gender"].example == ("a man in a red jacket", "a woman in a red jacket")
    assert tests["upper garment"].preferred == pytest.approx((1 + 1 + 0.5) / 3)  # nobody counts coats
    blind = WordCounter("man", "woman")
    tests = {test.attribute: test for test in swap_tests(blind, encode(blind, PEOPLE))}
    assert (tests["gender"].preferred, tests["gender"].interval) == (0.5, (0.5, 0.5))
    assert swap_tests(model, encode(model, [("man", "somebody"), ("woman", "nobody")])) == ()


def test_the_report_says_what_a_model_is_blind_to(encode: Callable[..., EncodedSplit]) -> None:
    blind = WordCounter("man", "woman")
    evaluation = measure(blind, encode(blind, PEOPLE), name="m", swaps=True).to_dict()
    report = to_report([evaluation])
    table = next(table for table in report_tables(report) if "swapped attributes" in table.title)
    rows = {row[0]: row[1:] for group in table.groups for row in group}
    assert rows["gender"] == ("3", "3", "50.0", "[50.0, 50.0]", "unclear")
    assert rows["colour"][-1] == "yes"
    assert set(rows) <= set(ATTRIBUTES)
    del evaluation["swaps"]  # a report of before
    assert all("swapped" not in table.title for table in report_tables(to_report([evaluation])))
