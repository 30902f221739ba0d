"""What a model is blind to: how often a picture prefers its true sentence to one with an attribute swapped.

In each sentence one attribute is exchanged for another: a colour, a garment, a pattern, a bag, headwear, gender, the
length of the hair. A model that sees the attribute gives the true sentence the higher score; one that does not is a
coin. Retrieval figures do not show this: where colours alone tell people apart, nothing else is asked for.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

from textreid.evaluation.chance_level import bootstrap_means, interval, verdict
from textreid.evaluation.encoding import EncodedSplit, Encoder
from textreid.models.colour_names import COLOUR_WORDS, SAME
from textreid.reporting.tables import Table
from textreid.seeding import Chance
from textreid.synthetic.vocabulary import reading, same_words

COIN = 0.5
ATTRIBUTES = ("colour", "lower garment", "upper garment", "pattern", "bag", "headwear", "gender", "hair length")
_COLOUR = re.compile(r"\b(?:(?:dark|light|pale|bright|deep)[ -])?(?P<colour>[a-z]+)\b", re.IGNORECASE)
_COLOURS = ("black", "white", "grey", "red", "blue", "green", "yellow", "brown", "pink", "purple", "orange")
# The one swap from a singular to a plural, which loses the article.
_PLURAL, _SINGULAR = ("shorts",), ("skirt",)
_GARMENTS = frozenset(" ".join(reading("things")[kind] for kind in ("upper body", "whole body", "lower body")).split())
# At most two words between, as in "long dark brown hair".
_HAIR = re.compile(r"[\s-]+(?:[\w]+[\s,-]+){0,2}?(?:hair|haired|ponytail)\b", re.IGNORECASE)
# An article that belongs to the place it stands before: up to three words between, and no other article.
_ARTICLE = re.compile(r"\b(an?)(\s+(?:(?!an?\s)[\w-]+\s+){0,3})$", re.IGNORECASE)
# After "her" these begin something new: there it stands for a person, not before what is hers.
_AFTER_PERSON = frozenset(("", ",", ".", ";", "and", "or", "but", "with", "in", "on", "at", "to", "from", "is", "was"))


class Swap(NamedTuple):
    """A sentence with one attribute exchanged."""

    attribute: str
    text: str


@dataclass(frozen=True)
class SwapTest:
    """How often the picture prefers the true sentence, of one attribute.

    Attributes:
        attribute: one of `ATTRIBUTES`.
        pairs, identities: number of (picture, sentence) with the attribute, and of the people they are of.
        preferred: share of them where the true sentence has the higher cosine; equal ones count one half.
        interval: ends of the 95 % bootstrap interval over identities.
        example: a true sentence and its swapped form.
    """

    attribute: str
    pairs: int
    identities: int
    preferred: float
    interval: tuple[float, float]
    example: tuple[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self) | {"interval": list(self.interval), "example": list(self.example)}


def swaps_of(sentence: str, seed: int = 0) -> Iterator[Swap]:
    """Yield the sentence with each of its attributes exchanged in turn; the grammar is kept.

    >>> [swap.text for swap in swaps_of("A man wears a striped skirt.")]
    ['A man wears striped shorts.', 'A man wears a plain skirt.', 'A woman wears a striped skirt.']

    Args:
        sentence: in English.
        seed: of the colour that is exchanged, where there are several, and of the one that takes its place.
    """
    rules: dict[str, Callable[[str, int], str]] = {"colour": _swap_colour, "gender": _swap_gender}
    for attribute in ATTRIBUTES:
        rule = rules.get(attribute)
        text = rule(sentence, seed) if rule else _swap_word(sentence, attribute)
        if text != sentence:
            yield Swap(attribute, text)


def swap_tests(model: Encoder, encoded: EncodedSplit) -> tuple[SwapTest, ...]:
    """Measure every attribute that some sentence has.

    Args:
        model: that encoded the split; it encodes the swapped sentences, some per sentence.
        encoded: the split. The picture of a pair is the one that the sentence was written for.
    """
    found = [(query, swap) for query, caption in enumerate(encoded.captions) for swap in swaps_of(caption)]
    if not found:
        return ()
    query = np.array([row for row, _ in found])
    images = encoded.image_features[encoded.image_index[query]]
    swapped = np.asarray(model.encode_texts([swap.text for _, swap in found]), dtype=np.float32)
    # The cosines' difference is one product with the texts' difference.
    difference = np.einsum("nd,nd->n", images, encoded.text_features[query] - swapped)
    preferred = np.where(difference == 0, COIN, difference > 0).astype(np.float64)
    people, kinds = encoded.caption_ids[query], np.array([swap.attribute for _, swap in found])
    tests = []
    for attribute in ATTRIBUTES:
        rows = np.flatnonzero(kinds == attribute)
        if rows.size:
            ends = interval(bootstrap_means(preferred[rows, None], people[rows]))[0]
            first = found[int(rows[0])]
            tests.append(
                SwapTest(
                    attribute,
                    len(rows),
                    len(np.unique(people[rows])),
                    float(preferred[rows].mean()),
                    (float(ends[0]), float(ends[1])),
                    (encoded.captions[first[0]], first[1].text),
                )
            )
    return tuple(tests)


def swap_table(evaluation: Mapping[str, Any]) -> Table:
    """Lay out one row an attribute, from the values of `Evaluation.to_dict`."""
    tests: Sequence[Mapping[str, Any]] = evaluation["swaps"]
    return Table(
        title=f"{evaluation['model']} on {evaluation['benchmark']} / {evaluation['split']}: swapped attributes, %",
        columns=("attribute", "pairs", "people", "prefers the truth", "95 % interval", "sees it"),
        groups=[
            [
                (
                    test["attribute"],
                    f"{test['pairs']:,}",
                    f"{test['identities']:,}",
                    f"{100 * test['preferred']:.1f}",
                    f"[{100 * test['interval'][0]:.1f}, {100 * test['interval'][1]:.1f}]",
                    verdict(test["interval"], COIN),
                )
                for test in tests
            ]
        ],
        notes=(
            "prefers the truth: share of the pictures that score their own sentence above the same sentence with one "
            "attribute exchanged (a coin: 50); interval: bootstrap over identities.",
            *(
                f"{test['attribute']}, as in: {test['example'][0]!r} against {test['example'][1]!r}"
                for test in tests[:1]
            ),
        )
        if tests
        else ("no sentence names an attribute that can be exchanged",),
        texts=frozenset({0, 5}),
    )


def _swap_word(sentence: str, attribute: str) -> str:
    """Exchange the first word of the attribute; a sentence without one comes back as it is."""
    words = same_words(f"swap {attribute}")
    for match in _pattern(words).finditer(sentence):
        if attribute == "hair length" and not _is_of_hair(sentence[match.end() :]):
            continue
        return _replace(sentence, match.start(), match.end(), words[match.group().lower()])
    return sentence


def _swap_colour(sentence: str, seed: int) -> str:
    """Exchange a colour of clothes, with its tone, for one that shares no shade with it and is not in the sentence."""
    matches = [
        match
        for match in _COLOUR.finditer(sentence)
        if _colour(match) in _COLOURS and not _is_of_hair(sentence[match.end() :])
    ]
    if not matches:
        return sentence
    # Seeded by the sentence too, so that its swap does not depend on what else is in the split.
    chance = Chance.of("swap", seed, sentence)
    chosen = chance.pick(matches)
    named = {_colour(match) for match in matches}
    # With a colour that can mean the same shade, the exchanged sentence would be as true.
    shades = set(COLOUR_WORDS[_colour(chosen)])
    others = [colour for colour in _COLOURS if colour not in named and shades.isdisjoint(COLOUR_WORDS[colour])]
    return _replace(sentence, chosen.start(), chosen.end(), chance.pick(others)) if others else sentence


def _colour(match: re.Match[str]) -> str:
    """Return the usual name of a colour: "grey" for "gray"."""
    word = match.group("colour").lower()
    return SAME.get(word, word).split()[-1]


def _swap_gender(sentence: str, _: int) -> str:
    """Exchange every word of gender, pronouns included."""
    words = same_words("swap gender")
    # From the end, so that the places before stay right.
    for match in reversed(list(_pattern(words).finditer(sentence))):
        other = words[match.group().lower()]
        if match.group().lower() == "her":
            following = re.match(r"\s*([\w]+|[,.;]|$)", sentence[match.end() :])
            if following is None or following.group(1).lower() in _AFTER_PERSON:
                other = "him"
        sentence = _replace(sentence, match.start(), match.end(), other)
    return sentence


def _pattern(words: Mapping[str, str]) -> re.Pattern[str]:
    # An alternation takes the first that fits. By "-hair", "long" counts in "long-haired" and not in "long-sleeved".
    longest_first = sorted(words, key=len, reverse=True)
    return re.compile(rf"(?<![\w-])(?:{'|'.join(map(re.escape, longest_first))})(?=-hair|[^\w-]|$)", re.IGNORECASE)


def _is_of_hair(rest: str) -> bool:
    """Tell whether "long" is said of hair, from what follows it: not of the trousers of somebody with hair."""
    match = _HAIR.match(rest)
    return match is not None and _GARMENTS.isdisjoint(re.findall(r"\w+", match.group().lower()))


def _replace(sentence: str, start: int, end: int, word: str) -> str:
    """Put a word in the place of another, in its capitals, with the article that it needs."""
    before, old = sentence[:start], sentence[start:end]
    article = _ARTICLE.search(before)
    if article and word in _PLURAL and old.lower() in _SINGULAR:
        before = before[: article.start()] + article.group(2).lstrip()  # "a striped skirt": "striped shorts"
    elif article and not article.group(2).strip():
        an = "an" if word[0] in "aeiou" else "a"
        before = before[: article.start()] + an + article.group(2)
    swapped = before + word + sentence[end:]
    # Capitals stand where a sentence begins, so not in the place of "T-shirt" within one.
    return swapped[:1].upper() + swapped[1:] if sentence[:1].isupper() else swapped
