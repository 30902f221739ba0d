"""The vocabulary has words for every attribute value, and its rules keep them true."""

import tomllib
from collections import Counter
from importlib.resources import files
from typing import get_args

import pytest

from textreid.seeding import Chance
from textreid.synthetic import attributes as a
from textreid.synthetic.vocabulary import Facts, Word, Words, all_words, colour_words, reading, same_words, words

TABLES = tomllib.loads(files("textreid.synthetic").joinpath("vocabulary.toml").read_text(encoding="utf-8"))
VALUES = {
    "colours": get_args(a.Colour),
    "people": (*get_args(a.Gender), "older woman", "older man", "person"),
    "build": get_args(a.Build),
    "hair": (*get_args(a.HairLength), "tied"),
    "hair_colours": get_args(a.HairColour),
    "headwear": [kind for kind in get_args(a.Headwear) if kind not in ("none", "hood")],
    "upper": (*get_args(a.UpperKind), "padded vest"),
    "lower": get_args(a.LowerKind),
    "shoes": get_args(a.ShoesKind),
    "bag": [kind for kind in get_args(a.BagKind) if kind != "none"],
    "held": [kind for kind in get_args(a.Held) if kind != "nothing"],
    "patterns": [pattern for pattern in get_args(a.Pattern) if pattern != "plain"],
    "pattern_tails": [pattern for pattern in get_args(a.Pattern) if pattern != "plain"],
}


@pytest.mark.parametrize("section", VALUES)
def test_every_value_has_words_and_no_other_has(section: str) -> None:
    assert set(TABLES[section]) == set(VALUES[section])
    for name in VALUES[section]:
        entries = all_words(section, name).words
        assert entries
        assert len({word.text for word in entries}) == len(entries), f"{section}.{name} repeats a word"


def test_the_vocabulary_is_broad() -> None:
    texts = {word.text for section in VALUES for name in TABLES[section] for word in all_words(section, name).words}
    assert len(texts) > 500
    assert {"rucksack", "sneakers", "jumper", "puffer jacket", "khaki", "maroon", "flip-flops", "blouse"} <= texts


def test_every_carried_thing_has_a_way_of_carrying() -> None:
    assert set(TABLES["carry"]) == {*VALUES["bag"], *VALUES["held"]}
    for name in TABLES["carry"]:
        assert all("{b}" in word.text for word in all_words("carry", name).words)


def test_vague_words_are_true() -> None:
    dark = {colour for colour in a.COLOURS if "dark" in colour_words(colour)}
    light = {colour for colour in a.COLOURS if "light" in colour_words(colour)}
    bright = {colour for colour in a.COLOURS if "bright" in colour_words(colour)}
    assert dark == {"black", "charcoal", "navy", "burgundy", "brown"}
    assert light == {"white", "beige", "light blue"}
    assert bright == {"red", "orange", "yellow", "pink"}


def test_a_colour_is_first_called_what_no_other_is_first_called() -> None:
    firsts = [all_words("colours", colour).words[0].text for colour in a.COLOURS]
    assert len(set(firsts)) == len(firsts)


@pytest.mark.parametrize(
    ("section", "name", "word", "admitted", "refused"),
    [
        ("upper", "jacket", "leather jacket", Facts("black", "man"), Facts("pink", "man")),
        ("upper", "jacket", "denim jacket", Facts("blue", "woman"), Facts("red", "woman")),
        ("upper", "jacket", "hooded jacket", Facts("red", "man", hood=True), Facts("red", "man")),
        ("upper", "shirt", "blouse", Facts("white", "woman"), Facts("white", "man")),
        ("upper", "shirt", "flannel shirt", Facts("red", "man", "check"), Facts("red", "man", "stripes")),
        ("upper", "sweater", "cardigan", Facts("grey", "woman", open=True), Facts("grey", "woman")),
        ("upper", "t-shirt", "tank top", Facts("white", "man", sleeve="sleeveless"), Facts("white", "man")),
        ("lower", "trousers", "khakis", Facts("beige", "man"), Facts("black", "man")),
        ("bag", "shoulder bag", "purse", Facts("black", "woman"), Facts("black", "man")),
    ],
)
def test_a_hyponym_needs_its_facts(section: str, name: str, word: str, admitted: Facts, refused: Facts) -> None:
    assert word in words(section, name, admitted).texts
    assert word not in words(section, name, refused).texts
    assert word in all_words(section, name).texts


def test_denim_is_said_of_denim_only() -> None:
    blue = {"light blue", "blue", "navy"}
    said = 0
    for section in ("upper", "lower"):
        for name in TABLES[section]:
            for colour in a.COLOURS:
                denim = {
                    text
                    for text in words(section, name, Facts(colour, "woman")).texts
                    if "denim" in text or "jean" in text
                }
                said += len(denim)
                assert name == "jeans" or not denim or colour in blue
    assert said > 20


def test_common_words_come_first_and_rare_ones_do_come() -> None:
    drawn = Counter(
        Words([Word(text) for text in "abcd"]).draw(chance).text for chance in [Chance.of(1)] for _ in range(4000)
    )
    assert sorted(drawn, key=drawn.__getitem__, reverse=True) == ["a", "b", "c", "d"]
    assert drawn["a"] / 4000 == pytest.approx(1 / (1 + 2**-1.5 + 3**-1.5 + 4**-1.5), abs=0.03)


def test_avoided_words_are_avoided_while_there_are_others() -> None:
    few = Words([Word("a"), Word("b")])
    chance = Chance.of(2)
    assert {few.draw(chance, {"a"}).text for _ in range(50)} == {"b"}
    assert few.draw(chance, {"a", "b"}).text in "ab"


def test_a_word_for_readers_stands_in_one_class() -> None:
    things = Counter(word for words in reading("things").values() for word in words.split())
    assert [word for word, count in things.items() if count > 1] == []
    assert set(same_words("same_colour").values()) <= set(reading("colours"))
    assert not set(same_words("same_colour")) & set(reading("colours"))
    assert {basic for words in reading("colours").values() for basic in words.split()} >= {"navy", "chocolate"}


def test_readers_know_the_commonest_words_of_writers() -> None:
    known = {word for words in reading("things").values() for word in words.split()} | set(same_words("same_thing"))
    known |= {word.replace("-", "") for word in known}
    for section in ("upper", "lower", "shoes", "bag", "headwear"):
        for name in TABLES[section]:
            words = [word for entry in all_words(section, name).words[:2] for word in entry.text.split()]
            assert {word.replace("-", "") for word in words} & known, f"{section}.{name}: {words}"
    shades = set(reading("colours")) | set(same_words("same_colour"))
    for colour in a.COLOURS:
        first = all_words("colours", colour).words[0].text
        assert set(first.split()) & shades, colour
