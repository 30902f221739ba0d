"""Putting other phrases into captions, so that what is left still reads, and knowing where they are wrong.

Spans are half-open, in characters.
"""

import re
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

from textreid.synthetic.vocabulary import reading

Span = tuple[int, int]
_DETERMINER = re.compile(r"\b(?:an?|the|his|her|their|this|that|some)\s+$", re.IGNORECASE)
_ARTICLE = re.compile(r"(?:an?|the|some)\s+", re.IGNORECASE)
_JOINT = re.compile(r"(?:,? (?:and|with)|,)\s+$")
_WORD = re.compile(r"[A-Za-z]+")
_MORE_PRONOUNS = {"him": "her", "hers": "his"}  # beside those of the vocabulary
# After "her" these begin something new: there it stands for a person, not before what is hers.
_AFTER_PERSON = re.compile(r"\s*(?:$|[^\w\s]|(?:and|or|but|with|in|on|at|to|from|is|was)\b)")


class Change(NamedTuple):
    """Phrase of a caption that another takes the place of.

    Attributes:
        start, end: where it stands.
        text: what takes its place; empty for nothing.
        errors: spans of ``text`` that are known to be wrong.
    """

    start: int
    end: int
    text: str
    errors: tuple[Span, ...] = ()


def change_phrases(
    caption: str, changes: Sequence[Change], errors: Sequence[Span] = ()
) -> tuple[str, tuple[Span, ...]]:
    """Put other phrases into a caption.

    A phrase that names another gender changes the pronouns and the other nouns of the caption too.

    >>> changes = [Change(0, 5, "a woman"), Change(9, 19, "jeans")]
    >>> change_phrases("A man in a red coat, with his bag.", changes)
    ('A woman in jeans, with her bag.', ())

    Args:
        caption: the whole.
        changes: of phrases that do not overlap.
        errors: spans that are known to be wrong; those that a phrase goes with are forgotten.

    Returns:
        The caption, and what is known to be wrong of it.
    """
    gender, wrong = None, False
    for change in sorted(changes, reverse=True):
        if other := _other_gender(caption[change.start : change.end], change.text):
            gender, wrong = other, bool(change.errors)
        caption, errors = _put(caption, errors, _fit(caption, change))
    if gender is None:
        return caption, tuple(errors)
    # From the end, so that the places before stay right.
    for match in reversed(list(_WORD.finditer(caption))):
        if word := _in_gender(match[0], gender, caption[match.end() :]):
            spans = ((0, len(word)),) if wrong else ()
            caption, errors = _put(caption, errors, Change(match.start(), match.end(), word, spans))
    return caption, tuple(errors)


def _put(caption: str, errors: Sequence[Span], change: Change) -> tuple[str, Sequence[Span]]:
    """Put a text in the place of another, and move the spans of errors."""
    start, end, text, wrong = change
    moved = len(text) - (end - start)
    spans = [
        *((low, high) for low, high in errors if high <= start),
        *((start + low, start + high) for low, high in wrong),
        *((low + moved, high + moved) for low, high in errors if low >= end),
    ]
    return caption[:start] + text + caption[end:], spans


def _fit(caption: str, change: Change) -> Change:
    """Make a change read well where it is put: with one article, or without a loose "and"."""
    start, end, text, errors = change
    before = caption[:start]
    if not text:
        joint = _JOINT.search(before)
        return Change(joint.start(), end, "") if joint else Change(start, end, _like(caption[start], "nothing"))
    article = _ARTICLE.match(text)
    taken = article.end() if article and _DETERMINER.search(before) else 0
    spans = tuple((low - taken, high - taken) for low, high in errors)
    return Change(start, end, _like(caption[start], text[taken:]), spans)


def _like(first: str, text: str) -> str:
    """Begin a text with a capital where what it replaces does."""
    return text[:1].upper() + text[1:] if first.isupper() else text[:1].lower() + text[1:]


@cache
def _genders() -> dict[str, str]:
    """Map nouns and pronouns to the gender they tell."""
    found = {"she": "woman", "her": "woman", "hers": "woman", "herself": "woman"}
    found |= {"he": "man", "his": "man", "him": "man", "himself": "man"}
    for gender, others in reading("gender").items():
        found |= dict.fromkeys((gender, *others.split()), gender)
    return found


def tells_gender(phrase: str) -> bool:
    """Tell whether a phrase has a word that tells the gender of the person."""
    return _gender_of(phrase) is not None


def _gender_of(phrase: str) -> str | None:
    return next((gender for word in _WORD.findall(phrase) if (gender := _genders().get(word.lower()))), None)


def _other_gender(before: str, after: str) -> str | None:
    """Return the gender that a phrase tells after a change, where it told the other before."""
    old, new = _gender_of(before), _gender_of(after)
    return new if old and new and old != new else None


def _in_gender(word: str, gender: str, rest: str) -> str:
    """Return a word as it tells a gender, before the rest of its sentence; empty where it tells none."""
    told = _genders().get(word.lower())
    if told is None or told == gender:
        return word if told else ""
    others = (_MORE_PRONOUNS.get(word.lower()) or reading("swap gender").get(word.lower(), gender)).split()
    # "Her" is "him" for a person, and "his" before what is hers.
    return _like(word[0], others[-1] if word.lower() == "her" and _AFTER_PERSON.match(rest) else others[0])
