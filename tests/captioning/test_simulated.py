"""The simulated MLLM tells the truth at error rate 0, and otherwise marks exactly what is wrong."""

import asyncio
import dataclasses
import re
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st
from tests.synthetic.test_describer import EVERYTHING, people, seeds, views

from textreid.captioning.backends.simulated import KINDS, SimulatedMLLM
from textreid.captioning.instructions import Instruction, dynamic_instructions, static_instruction
from textreid.captioning.requests import Caption, Captioner, CaptionFailure, Request
from textreid.captioning.templates import Template, own_templates
from textreid.errors import CaptionError
from textreid.seeding import generator
from textreid.synthetic import attributes as a, vocabulary
from textreid.synthetic.attributes import Person, View
from textreid.synthetic.domains import DOMAINS
from textreid.synthetic.sampling import sample_person

IMAGE = Path("someone.jpg")
STATIC = static_instruction()
mllms = st.sampled_from(["qwen", "shikra"])
instructions = st.sampled_from([STATIC, *dynamic_instructions()])


def caption(
    person: Person,
    seed: int = 0,
    instruction: Instruction = STATIC,
    *,
    name: str = "qwen",
    view: View = EVERYTHING,
    error_rate: float = 0.0,
    dirt_rate: float = 0.0,
) -> Caption:
    captioner = SimulatedMLLM(name, {"someone.jpg": (person, view)}, error_rate, dirt_rate)
    return captioner.describe(IMAGE, instruction, seed)


def following(pattern: str) -> Instruction:
    return dynamic_instructions({"t": Template("t", pattern)})[0]


def someone(**changes: Any) -> Person:
    return dataclasses.replace(sample_person(DOMAINS["street"], generator("test", 5)), **changes)


def in_one_colour(person: Person, colour: a.Colour) -> Person:
    """The person with everything in one colour, so that a word of another colour is wrong wherever it stands."""
    fields = {field.name for field in dataclasses.fields(person) if field.name.endswith("_colour")}
    changes: dict[str, Any] = dict.fromkeys(fields, colour)
    changes |= {"hair_colour": "black", "hair_length": "bald", "inner_colour": None, "scarf_colour": None}
    return dataclasses.replace(person, **changes, upper_pattern="plain")


def british(text: str) -> str:
    return text.lower().replace("gray", "grey").replace("color", "colour").replace("woolen", "woollen")


def without(text: str, spans: tuple[tuple[int, int], ...]) -> str:
    for start, end in reversed(spans):
        text = f"{text[:start]}_{text[end:]}"
    return british(text)


@cache
def colour_pattern() -> re.Pattern[str]:
    words = {word for colour in a.COLOURS for word in vocabulary.colour_words(colour)}
    longest = sorted(words, key=len, reverse=True)
    return re.compile(rf"(?<![\w-])(?!light jacket)(?:{'|'.join(map(re.escape, longest))})(?![\w-])")


@given(person=people, view=views, name=mllms, instruction=instructions, seed=seeds)
def test_texts_are_clean_whatever_is_visible(
    person: Person, view: View, name: str, instruction: Instruction, seed: int
) -> None:
    said = caption(person, seed, instruction, name=name, view=view)
    text = said.text
    assert said.errors == ()
    assert (
        re.search(r"[\[\]{}<>|\x01\x02]|  | [,.;:]|\.\.|[,;:]\.|\. [a-z]|\b(?i:an?) (?i:an?|the|some)\b", text) is None
    ), text
    assert re.search(r"\ba (?!uni|use|one)[aeiou]|\ban (?![aeiou])", text, re.IGNORECASE) is None, text
    assert text[0].isupper()
    assert text.endswith(".")
    assert "grey" not in text.lower()


@given(person=people, colour=st.sampled_from(a.COLOURS), view=views, name=mllms, instruction=instructions, seed=seeds)
def test_without_errors_everything_is_true(
    person: Person, colour: a.Colour, view: View, name: str, instruction: Instruction, seed: int
) -> None:
    person = in_one_colour(person, colour)
    text = british(caption(person, seed, instruction, name=name, view=view).text)
    true = vocabulary.colour_words(colour)
    assert {match[0] for match in colour_pattern().finditer(text)} <= true, text
    other = r"\b(?:she|her|woman|lady|girl)\b" if person.gender == "man" else r"\b(?:he|his|him|man|guy|boy)\b"
    assert re.search(other, text) is None, text
    if person.bag == "none":
        assert re.search(r"\b(?:bag|backpack|handbag|purse|suitcase|luggage)\b(?!:)", text) is None, text
    if not view.feet_visible:
        assert re.search(r"\b(?:sneakers|boots|heels|sandals|shoes(?! that cannot))\b", text) is None, text
    if view.walking:
        assert "standing" not in text
    else:
        assert "walking" not in text


@given(person=people, colour=st.sampled_from(a.COLOURS), view=views, name=mllms, instruction=instructions, seed=seeds)
def test_spans_are_wrong_words_and_all_others_are_right(
    person: Person, colour: a.Colour, view: View, name: str, instruction: Instruction, seed: int
) -> None:
    person = in_one_colour(person, colour)
    said = caption(person, seed, instruction, name=name, view=view, error_rate=0.6)
    ends = [0, *(bound for span in said.errors for bound in span), len(said.text)]
    assert ends == sorted(ends)
    true = vocabulary.colour_words(colour)
    for section, value in (
        ("upper", person.upper),
        ("lower", person.lower),
        ("shoes", person.shoes),
        ("bag", person.bag),
    ):
        true |= vocabulary.all_words(section, value).texts
    true |= vocabulary.all_words("people", person.gender).texts
    for start, end in said.errors:
        wrong = said.text[start:end]
        assert wrong == wrong.strip() != ""
        assert re.search(r"\w", said.text[start - 1 : start] + said.text[end : end + 1]) is None, said
        assert british(wrong) not in {british(word) for word in true}, said
    rest = without(said.text, said.errors)
    allowed = vocabulary.colour_words(colour)
    assert {match[0] for match in colour_pattern().finditer(rest)} <= allowed, said
    other = r"\b(?:she|her|woman|lady|girl)\b" if person.gender == "man" else r"\b(?:he|his|him|man|guy|boy)\b"
    assert re.search(other, rest) is None, said


@pytest.mark.parametrize(
    ("pattern", "changes", "wrong", "share"),
    [
        ("[upper].", {"upper": "coat"}, lambda w: w in {x for c in a.COLOURS for x in vocabulary.colour_words(c)}, 1.0),
        (
            "[upper].",
            {"upper": "coat"},
            lambda w: w not in {x for c in a.COLOURS for x in vocabulary.colour_words(c)},
            0.35,
        ),
        ("A [gender].", {}, lambda w: True, 0.25),
        ("With {[belongings]|no bag}.", {"bag": "none", "held": "nothing"}, lambda w: True, 0.7),
        ("With [hair].", {"hair_length": "short"}, lambda w: True, 0.5),
    ],
    ids=["colour", "garment", "gender", "bag", "hair"],
)
def test_errors_come_at_the_stated_rate(
    pattern: str, changes: dict[str, Any], wrong: Callable[[str], bool], share: float
) -> None:
    person = dataclasses.replace(in_one_colour(someone(lower="jeans"), "red"), **changes)
    texts = [caption(person, seed, following(pattern), error_rate=0.4) for seed in range(2_000)]
    hits = sum(any(wrong(british(said.text[slice(*span)])) for span in said.errors) for said in texts)
    assert hits / len(texts) == pytest.approx(0.4 * share, abs=0.03)


def test_an_invented_bag_is_marked_as_a_whole() -> None:
    person = in_one_colour(someone(bag="none", held="nothing", gender="woman"), "red")
    said = [caption(person, seed, following("She has {[belongings]|nothing}."), error_rate=0.5) for seed in range(200)]
    bags = [each for each in said if each.text != "She has nothing."]
    assert 40 < len(bags) < 100
    for each in bags:
        (span,) = each.errors
        assert re.fullmatch(r"She has (?:an? )?_\.", each.text[: span[0]] + "_" + each.text[span[1] :]), each


SAID = {"garment": ("upper", "lower"), "colour": ("colours",), "gender": ("people",), "shoes": ("shoes",)}
SAID |= {"hair": ("hair_colours",)}


@pytest.mark.parametrize("kind", KINDS)
def test_one_kind_of_error_alone(kind: str) -> None:
    instruction = following("A [gender], [upper], [lower], [footwear], [hair]. {[belongings]|Nothing}.")
    person = in_one_colour(someone(bag="none", held="nothing", upper="coat", lower="jeans", gender="woman"), "red")
    person = dataclasses.replace(person, hair_length="short", headwear="none")
    other = in_one_colour(someone(bag="backpack", upper="shirt", lower="skirt", gender="man"), "green")
    captioner = SimulatedMLLM("qwen", {"a": (person, EVERYTHING), "b": (other, EVERYTHING)}, 0.5, error_kind=kind)
    said = [captioner.describe(Path("a"), instruction, seed) for seed in range(200)]
    wrong = [each for each in said if each.errors]
    assert (150 if kind == "colour" else 80) < len(wrong) < (200 if kind == "colour" else 120)
    for each in wrong:
        words = [british(each.text[slice(*span)]) for span in each.errors]
        match kind:
            case "person":
                assert words == [british(each.text)]
                assert colour_pattern().findall(words[0])[0] in vocabulary.colour_words("green")
            case "bag":
                (span,) = each.errors
                assert each.text[: span[0]].endswith((". ", ". A ", ". An ")), each
            case _:
                known = {word.lower() for section in SAID[kind] for word in vocabulary.vocabulary(section)}
                assert set(words) <= known, words
    # A bag that is there is not mistaken for one of another colour: that would be an error of colours.
    assert kind != "bag" or not any(captioner.describe(Path("b"), instruction, seed).errors for seed in range(50))


def test_nobody_can_be_taken_for_the_only_person() -> None:
    only = {"1": (someone(), EVERYTHING), "2": (someone(), EVERYTHING)}
    with pytest.raises(CaptionError, match="these pictures show one person"):
        SimulatedMLLM("qwen", only, 1.0, error_kind="person").describe(Path("1"), STATIC, 0)


def test_a_wrong_gender_marks_its_pronouns() -> None:
    person = someone(gender="woman", hair_length="short")
    instruction = following("[He/She] is a [gender] with [his/her] bag.")
    wrong = next(each for seed in range(100) if (each := caption(person, seed, instruction, error_rate=1.0)).errors)
    words = [wrong.text[slice(*span)] for span in wrong.errors]
    assert words[0] == "He"
    assert words[2] == "his"


def test_a_dress_mistaken_for_top_and_skirt_is_marked() -> None:
    person = in_one_colour(someone(gender="woman", upper="dress", lower="dress"), "red")
    texts = [caption(person, seed, following("[clothing]."), error_rate=1.0) for seed in range(100)]
    mistaken = [each for each in texts if "skirt" in each.text]
    assert len(mistaken) > 40
    for each in mistaken:
        assert any("skirt" in each.text[slice(*span)] for span in each.errors), each


def test_the_static_instruction_gets_stock_sentences() -> None:
    starts: dict[str, Counter[str]] = {"qwen": Counter(), "shikra": Counter()}
    for name, count in starts.items():
        for seed in range(300):
            person = sample_person(DOMAINS["street"], generator("test", seed))
            count[" ".join(caption(person, seed, name=name).text.split()[:1])] += 1
    assert set(starts["qwen"]) == {"The"}
    assert set(starts["shikra"]) <= {"A", "An", "The"}
    dynamic = {
        caption(someone(), seed, instruction).text.split()[0]
        for seed, instruction in enumerate(dynamic_instructions() * 4)
    }
    assert len(dynamic) > 20


def test_a_template_is_followed() -> None:
    person = someone(
        gender="man", upper="coat", bag="backpack", held="nothing", headwear="none", glasses=False, scarf_colour=None
    )
    said = caption(person, 1, following("First [upper], then {[accessory], |}[shoes description] on a [gender]."))
    assert re.fullmatch(r"First an? .*(coat|jacket|parka|mac).*, then .* on an? [a-z ]+\.", said.text), said


def test_a_template_without_optional_parts_is_filled_all_the_same() -> None:
    hidden = View("back", False, feet_visible=False, head_visible=False, legs_visible=False)
    person = someone(gender="man", bag="none", held="phone", upper="coat", lower="jeans")
    said = caption(person, 0, following("[lower], [footwear], [hair], [belongings], [accessory]."), view=hidden)
    assert said.text == (
        "Legwear that cannot be seen, shoes that cannot be seen, hair that cannot be seen, nothing in hand, "
        "no accessories."
    )


def test_every_own_template_can_be_filled_whole_and_bare() -> None:
    hidden = View("back", False, feet_visible=False, head_visible=False, legs_visible=False)
    person = someone(
        bag="backpack", held="phone", headwear="cap", glasses=True, hair_length="short", upper="coat", lower="jeans"
    )
    bare = dataclasses.replace(person, bag="none", held="nothing")
    for instruction in dynamic_instructions():
        whole, little = caption(person, 0, instruction), caption(bare, 0, instruction, view=hidden)
        assert len(little.text) < len(whole.text), instruction.template_id
        assert "cannot be seen" not in whole.text
    assert len(own_templates()) >= 46


def test_dirt_comes_when_asked_for_and_keeps_the_spans() -> None:
    person = in_one_colour(someone(upper="coat"), "red")
    kinds: Counter[str] = Counter()
    for seed in range(200):
        clean = caption(person, seed, error_rate=0.5)
        dirty = caption(person, seed, error_rate=0.5, dirt_rate=1.0)
        kind = next((mark for mark in ("sorry", "description]", "<box>") if mark in dirty.text), dirty.text)
        kinds[kind] += 1
        if kind in ("description]", "<box>"):
            assert dirty.text.startswith(clean.text[:-1])
            assert dirty.errors == clean.errors
        else:
            assert dirty.errors == ()
    assert set(kinds) == {"", "sorry", "description]", "<box>"}
    assert min(kinds.values()) > 25


def test_equal_arguments_give_equal_captions() -> None:
    person = someone()
    assert caption(person, 3, error_rate=0.5) == caption(person, 3, error_rate=0.5)
    assert len({caption(person, seed).text for seed in range(30)}) > 25
    assert caption(person, 3, name="qwen") != caption(person, 3, name="shikra")


def test_paths_under_the_root_are_known() -> None:
    truth = {"a/1.jpg": (someone(), EVERYTHING)}
    rooted = SimulatedMLLM("qwen", truth, root=Path("/corpus/imgs"))
    assert rooted.describe(Path("/corpus/imgs/a/1.jpg"), STATIC, 0) == rooted.describe(Path("a/1.jpg"), STATIC, 0)


def test_as_a_captioner_it_answers_each_request_or_says_why_not() -> None:
    captioner: Captioner = SimulatedMLLM("qwen", {"someone.jpg": (someone(), EVERYTHING)}, 0.5)
    requests = [Request(instruction, seed) for seed, instruction in enumerate((STATIC, *dynamic_instructions()))]
    answers = asyncio.run(captioner.caption(IMAGE, requests))
    assert answers == [caption(someone(), each.seed, each.instruction, error_rate=0.5) for each in requests]
    (failure,) = asyncio.run(captioner.caption(Path("other.jpg"), requests[:1]))
    assert isinstance(failure, CaptionFailure)
    assert (failure.kind, failure.permanent, failure.fatal) == ("no-truth", True, False)


def test_what_it_cannot_do_is_an_error() -> None:
    with pytest.raises(CaptionError, match=r"other\.jpg: not a picture"):
        SimulatedMLLM("qwen", {}).describe(Path("other.jpg"), STATIC, 0)
    with pytest.raises(CaptionError, match=r"does not know the slot \[mood\]; it knows: gender"):
        caption(someone(), 0, following("In a [mood]."))
    with pytest.raises(CaptionError, match="no simulated MLLM 'gpt'; known: qwen, shikra"):
        SimulatedMLLM("gpt", {})
    for error_rate, dirt_rate in ((1.5, 0.0), (0.0, -0.1)):
        with pytest.raises(CaptionError, match="expected a number from 0 to 1"):
            SimulatedMLLM("qwen", {}, error_rate, dirt_rate)
