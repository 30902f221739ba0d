"""The sentence pattern of a caption: what is left when the words for what a person looks like give way to slots."""

import re
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

from textreid.synthetic.vocabulary import vocabulary

SLOTS = ("gender", "hair", "clothing", "footwear", "belongings", "accessory")

_NOUNS = {
    "people": "gender", "hair": "hair", "upper": "clothing", "lower": "clothing", "inner": "clothing",
    "whole": "clothing", "shoes": "footwear", "bag": "belongings", "held": "belongings", "headwear": "accessory",
    "glasses": "accessory", "scarf": "accessory",
}  # fmt: skip
_COLOURS = ("colours", "tones", "hair_colours")
_ADJECTIVES = ("patterns", "build", "adjectives")
_PLAIN_NOUNS = {"clothes": "clothing", "clothing": "clothing", "outfit": "clothing", "hair": "hair"}
_PRONOUNS = frozenset({"he", "his", "her"})  # what `_SAME` leaves of them
# Kept apart from words, so that the ones before a noun go into its slot, and only the others stay.
_DETERMINERS = frozenset({"a", "the", "this", "his", "her", "their", "some"})
# "her" is both his and him, so the pronouns of the two genders can only fall together as [his/her].
_SAME = {
    "gray": "grey", "graying": "greying", "color": "colour", "colored": "coloured", "woolen": "woollen", "an": "a",
    "are": "is", "were": "was", "has": "have", "she": "he", "him": "her", "hers": "his",
}  # fmt: skip

_TOKEN = re.compile(r"[^\W_]+(?:'[^\W_]+)?|[.,;:!?]")
_RUN_OF_ADJECTIVES = re.compile(r"<a>(?: (?:and |or |, )?<a>)+")
_NOUN_PHRASE = re.compile(r"(?:<d:\w+> )?(?:<a> )?(\[\w+\])(?: <t>)*")
_LIST = re.compile(r"(\[\w+\])(?:(?: ,)?(?: (?:and|with|over|under))? \1)+")
_LEFT_OVER = (("<a>", "[look]"), (" <t>", ""), ("<d:his>", "[his/her]"), ("<d:her>", "[his/her]"))


class SentencePattern(NamedTuple):
    """What a caption says apart from its content, and which kinds of content it has.

    Attributes:
        text: the caption in lower case with slots: ``"[gender] in [clothing] and [footwear] ."``. A list of garments
            is one slot. Words that the vocabulary does not have stand as they are.
        mentions: names of `SLOTS`, and ``"colour"``, that occur in the caption; a pronoun tells the gender.
    """

    text: str
    mentions: frozenset[str]


def tokens_of(caption: str) -> list[str]:
    """Split a caption into words and punctuation marks in lower case; a hyphen separates words."""
    return _TOKEN.findall(caption.lower().replace("\u2019", "'"))


def sentence_pattern(caption: str) -> SentencePattern:
    """Find the pattern of ``caption``.

    Two captions of the same structure about different people have the same pattern, as far as the vocabulary reaches:
    British and American spelling, *is* and *are*, and the pronouns of the two genders fall together.
    """
    phrases, longest = _phrases()
    tokens = [_SAME.get(token, token) for token in tokens_of(caption)]
    parts: list[str] = []
    mentions: set[str] = set()
    start = 0
    while start < len(tokens):
        for size in range(min(longest.get(tokens[start], 0), len(tokens) - start), 0, -1):
            label = phrases.get(tuple(tokens[start : start + size]))
            if label:
                break
        else:
            size, label = 1, _Label(_plain(tokens[start]))
        mentions.update(("colour",) if label.names_colour else ())
        mentions.update(("gender",) if tokens[start] in _PRONOUNS else ())
        mentions.update((label.mark[1:-1],) if label.mark[1:-1] in SLOTS else ())
        parts.append(label.mark)
        start += size
    return SentencePattern(_collapse(" ".join(parts)), frozenset(mentions))


def _plain(word: str) -> str:
    if word == "he":
        return "[he/she]"
    return f"<d:{word}>" if word in _DETERMINERS else word


def _collapse(text: str) -> str:
    """Put its slot in place of each noun phrase, and one slot in place of a list of it."""
    text = _RUN_OF_ADJECTIVES.sub("<a>", text)
    text = _NOUN_PHRASE.sub(r"\1", text)
    text = _LIST.sub(r"\1", text)
    for mark, word in _LEFT_OVER:
        text = text.replace(mark, word)
    return re.sub(r"<d:(\w+)>", r"\1", text)


class _Label(NamedTuple):
    mark: str
    names_colour: bool = False


@cache
def _phrases() -> tuple[dict[tuple[str, ...], _Label], dict[str, int]]:
    """Label the vocabulary's phrases; count, for each first word, the words in the longest of them."""
    labels: dict[tuple[str, ...], _Label] = {}
    longest: dict[str, int] = {}
    for phrase, label in _labelled():
        words = tuple(_SAME.get(word, word) for word in tokens_of(phrase))
        labels.setdefault(words, label)
        longest[words[0]] = max(longest.get(words[0], 0), len(words))
    return labels, longest


def _labelled() -> Iterator[tuple[str, _Label]]:
    """Yield phrases and their labels; of equal phrases the first counts."""
    colours = sorted(frozenset().union(*map(vocabulary, _COLOURS)))
    marks = [(section, f"[{slot}]") for section, slot in _NOUNS.items()]
    for section, mark in (*marks, ("pattern_tails", "<t>")):
        for word in sorted(vocabulary(section)):
            for phrase, coloured in _spelled_out(word, colours):
                yield phrase, _Label(mark, coloured)
    yield from ((noun, _Label(f"[{slot}]")) for noun, slot in _PLAIN_NOUNS.items())
    yield from ((colour, _Label("<a>", names_colour=True)) for colour in colours)
    for adjective in sorted(frozenset().union(*map(vocabulary, _ADJECTIVES))):
        yield adjective, _Label("<a>")


def _spelled_out(phrase: str, colours: list[str]) -> Iterator[tuple[str, bool]]:
    """Yield the phrase with each pronoun and each colour, or none, in the places for them; whether it has a colour."""
    for pronoun in ("his", "her") if "{his}" in phrase else ("",):
        for colour in ("", *colours) if "{c}" in phrase or "{d}" in phrase else ("",):
            yield phrase.replace("{c}", colour).replace("{d}", colour).replace("{his}", pronoun), bool(colour)
