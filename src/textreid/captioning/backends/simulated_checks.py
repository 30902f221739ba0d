"""What a simulated MLLM answers when it is asked whether one phrase is true of what it takes to be there."""

import re
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

from textreid.synthetic import vocabulary
from textreid.synthetic.attributes import Person
from textreid.synthetic.phrases import Phrases, to_british


class _Thing(NamedTuple):
    """What a phrase can be about.

    Attributes:
        section: of the vocabulary, with its nouns.
        values: of it that are true of a person.
        colours: that it has.
        say: a phrase for it; None where there is none to be seen.
    """

    section: str
    values: Callable[[Person], tuple[str, ...]]
    colours: Callable[[Person], tuple[str | None, ...]]
    say: Callable[[Phrases], str | None]


def _uppers(person: Person) -> tuple[str, ...]:
    return (person.upper, "padded vest") if person.sleeve == "sleeveless" else (person.upper,)


def _upper_colours(person: Person) -> tuple[str | None, ...]:
    second = None if person.upper_pattern == "plain" else person.upper_second_colour
    return person.upper_colour, second, person.inner_colour


_THINGS = (
    _Thing("people", lambda p: (p.gender, f"older {p.gender}", "person"), lambda p: (), lambda s: f"a {s.who()}"),
    _Thing("upper", _uppers, _upper_colours, lambda s: s.upper()),
    _Thing("lower", lambda p: (p.lower,), lambda p: (p.lower_colour,), lambda s: s.lower()),
    _Thing("shoes", lambda p: (p.shoes,), lambda p: (p.shoes_colour,), lambda s: s.shoes()),
    _Thing("bag", lambda p: (p.bag,), lambda p: (p.bag_colour,), lambda s: s.bag()),
    _Thing("headwear", lambda p: (p.headwear,), lambda p: (p.headwear_colour,), lambda s: s.headwear()),
    _Thing("held", lambda p: (p.held,), lambda p: (p.held_colour,), lambda s: s.held()),
    _Thing("scarf", lambda p: ("words",) if p.scarf_colour else (), lambda p: (p.scarf_colour,), lambda s: s.scarf()),
    _Thing("inner", lambda p: ("words",) if p.inner_colour else (), lambda p: (p.inner_colour,), lambda s: s.upper()),
)


def check_phrase(phrase: str, speaker: Phrases) -> str:
    """Answer the question about a phrase, with the marks of `Phrases` around what is not true; not finished yet.

    Args:
        phrase: as of a caption, such as "a red jacket".
        speaker: knows what the MLLM takes the picture to show.
    """
    text = to_british(phrase.lower())
    if re.search(r"\bhair\b|\bbun\b|ponytail", text):
        said = _found(text, vocabulary.vocabulary("hair_colours"))
        true = vocabulary.all_words("hair_colours", speaker.person.hair_colour).texts
        return "yes" if said <= true else speaker.hair() or "nothing"
    about = [(noun, thing) for thing in _THINGS if (noun := _noun(text, thing.section))]
    # What it knows no word of, it does not deny; and a noun may be a word for several things.
    if not about or any(_is_true(text, noun, thing, speaker.person) for noun, thing in about):
        return "yes"
    longest = max(len(noun) for noun, _ in about)
    return next(thing.say(speaker) for noun, thing in about if len(noun) == longest) or "nothing"


def _is_true(text: str, noun: str, thing: _Thing, person: Person) -> bool:
    nouns = frozenset[str]().union(*(_nouns(thing.section, value) for value in thing.values(person)))
    colours = frozenset[str]().union(*(vocabulary.colour_words(colour) for colour in thing.colours(person) if colour))
    words = vocabulary.vocabulary("colours") | vocabulary.vocabulary("tones")
    return noun in nouns and _found(text.replace(noun, " "), words) <= colours


@cache
def _nouns(section: str, value: str | None = None) -> frozenset[str]:
    """Return the words for a value of a section, or for all, without what is filled in later."""
    texts = vocabulary.all_words(section, value).texts if value else vocabulary.vocabulary(section)
    return frozenset(re.sub(r"(?: over | around )?\{\w+\}.*", "", text).strip().lower() for text in texts)


def _noun(text: str, section: str) -> str:
    """Return the longest noun of a section in a text; empty without any."""
    return max(_found(text, _nouns(section)), key=len, default="")


def _found(text: str, words: frozenset[str]) -> frozenset[str]:
    """Return which words stand in a text, the longest where several begin at one place."""
    longest = sorted(filter(None, words), key=len, reverse=True)
    return frozenset(re.findall(rf"(?<![\w-])(?:{'|'.join(map(re.escape, longest))})(?![\w-])", text))
