from collections.abc import Callable
from itertools import product

import pytest
from tests.evaluation.conftest import WordCounter

from textreid.evaluation.encoding import EncodedSplit
from textreid.evaluation.protocol import measure
from textreid.evaluation.words import WordRecall, attribute_words, without

PEOPLE = [
    (f"{who} {colour} jacket{extra}", f"A {who} in a {colour} jacket{extra and ' and a hat'}")
    for who, colour, extra in product(["man", "woman"], ["red", "blue"], ["", " hat"])
] * 6


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A woman in a red jacket", "gender woman, colour red, upper body jacket"),
        ("Two ladies, one GRAY T-shirt", "gender woman, colour grey, upper body t-shirt"),
        ("a dark-haired man with navy-blue jeans",
         "colour dark, hair hair, gender man, colour navy, colour blue, lower body jeans"),
        ("the man's rucksack and white shoe",
         "gender man, belongings backpack, colour white, footwear shoes"),
        ("redder than a jacketless shirtfront", ""),
        ("", ""),
        ("一个女人", ""),
    ],
)  # fmt: skip
def test_attribute_words(text: str, expected: str) -> None:
    found = list(attribute_words(text))
    assert ", ".join(f"{said.kind} {said.word}" for said in found) == expected
    assert all(text[said.start : said.end].strip() == text[said.start : said.end] != "" for said in found)


@pytest.mark.parametrize(
    ("text", "word", "expected"),
    [
        ("A red hat and red shoes.", "red", "A hat and shoes."),
        ("a dark-haired man", "hair", "a dark man"),
        ("a gray coat", "grey", "a coat"),
        ("a coat", "hat", "a coat"),
    ],
)
def test_taking_a_word_out(text: str, word: str, expected: str) -> None:
    assert without(text, word) == expected


def recalls(model: WordCounter, encode: Callable[..., EncodedSplit]) -> dict[str, WordRecall]:
    words = measure(model, encode(model, PEOPLE), name="m", words=True).words
    assert words is not None
    return {word.word: word for word in words if word.word != "any"}


def test_a_blind_word_costs_nothing_and_a_used_one_does(encode: Callable[..., EncodedSplit]) -> None:
    sees, blind = recalls(WordCounter(), encode), recalls(WordCounter("hat"), encode)
    assert list(sees) == ["man", "woman", "blue", "red", "hat"]  # everyone wears a jacket: nobody to compare with
    for word in sees.values():
        assert (word.queries, word.identities, word.shortened) == (24, 24, 24)
        assert word.loss is not None
        assert word.loss_interval is not None
        low, high = word.loss_interval["mAP"]
        assert low - 1e-9 <= word.loss["mAP"] <= high + 1e-9
        assert word.loss["mAP"] > 0
    assert blind["hat"].loss == {"R1": 0.0, "mAP": 0.0}
    assert blind["hat"].loss_interval == {"R1": (0.0, 0.0), "mAP": (0.0, 0.0)}
    assert blind["red"].loss is not None
    assert blind["red"].loss["mAP"] > 0


def test_with_and_without_a_word_add_up_to_the_whole(encode: Callable[..., EncodedSplit]) -> None:
    model = WordCounter()
    evaluation = measure(model, encode(model, PEOPLE), name="m", words=True)
    total = evaluation.scores()["mAP"]
    assert evaluation.words
    for word in evaluation.words:
        share = word.queries / evaluation.captions
        assert share * word.scores["mAP"] + (1 - share) * word.other_scores["mAP"] == pytest.approx(total)
        low, high = word.difference["mAP"]
        assert low <= word.scores["mAP"] - word.other_scores["mAP"] <= high


def test_words_of_few_people_are_left_out(encode: Callable[..., EncodedSplit]) -> None:
    model = WordCounter()
    few = [*PEOPLE, *[("man red jacket bag", "A man in a red jacket with a bag.")] * 4]
    kinds = [word.word for word in measure(model, encode(model, few), name="m", words=True).words or ()]
    assert "bag" not in kinds
    assert "hat" in kinds
    nobody = measure(model, encode(model, PEOPLE[:8]), name="m", words=True).words
    assert nobody == ()
