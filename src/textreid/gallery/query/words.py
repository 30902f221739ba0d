"""What of a query the model cannot know, told to who asks."""

import re
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from typing import Protocol

from textreid.captions.language import QUOTED, english_words, known_words, words_of
from textreid.captions.text import sentence_pattern
from textreid.synthetic.vocabulary import all_texts, same_words

_UNLEARNED = 3  # tokens of a word that no training text had often enough to become one token or two
_MISSPELT = 0.82  # similarity from which a known word is proposed
_LETTERS = re.compile(r"[^\W\d_]{3,}")
# Of which what has them is not told from what has not, see docs/benchmarks.md.
UNSEEN = {"belongings": "bags and what is carried", "accessory": "hats, glasses and scarves"}
_NEGATION = re.compile(r"\b(?:no|not|without|n't)\b", re.IGNORECASE)


class Pieces(Hashable, Protocol):
    """The part of a tokenizer that tells into how many tokens a word falls."""

    def pieces(self, text: str) -> list[tuple[int, int, int]]:
        """List the tokens of a text: id, first character, one past the last."""


@dataclass(frozen=True)
class UnknownWord:
    """A word that a model has not learned, and a known one to write in its place; empty where there is none."""

    word: str
    instead: str = ""

    def __str__(self) -> str:
        return f"{self.word} (say {self.instead}?)" if self.instead else self.word


def unknown_words(query: str, tokenizer: Pieces) -> list[UnknownWord]:
    """Find the words that a model has not learned, in the order of the query.

    A tokenizer is learned from the sentences that its model is trained on: what stood there often is one token. What
    falls into three or more was hardly ever read, and means to the model what its letters happen to mean. Words that
    only hold a sentence together are not told.
    """
    said = QUOTED.sub(" ", query)  # what is written on a shirt is no word of the language
    words = [word for word in dict.fromkeys(_LETTERS.findall(said.lower())) if word not in known_words()["english"]]
    return [UnknownWord(word, _instead(word, tokenizer)) for word in words if not _is_learned(word, tokenizer)]


def unknown_note(query: str, tokenizer: Pieces) -> list[str]:
    """Return one line that names the unknown words of a query, or none."""
    found = unknown_words(query, tokenizer)
    if not found:
        return []
    which = "this word" if len(found) == 1 else "these words"
    return [f"the model has not learned {which}: {', '.join(map(str, found))}"]


def negation_note(query: str) -> list[str]:
    """Return one line where a query says what was not seen, which brings up pictures that show it; else none."""
    found = _NEGATION.search(QUOTED.sub(" ", query))
    return [f"{found[0]!r} in a query hardly counts, and what follows it does: use --without"] if found else []


def without_notes(things: Iterable[str]) -> list[str]:
    """Return a line for each thing that pictures are not told apart by, though they were asked to be."""
    notes = []
    for thing in things:
        unseen = [what for slot, what in UNSEEN.items() if slot in sentence_pattern(thing).mentions]
        if unseen:
            notes.append(f"without {thing!r}: hardly has an effect: the bundled model does not tell {unseen[0]} apart")
    return notes


@lru_cache(4096)  # every query has mostly the same ones
def _is_learned(word: str, tokenizer: Pieces) -> bool:
    # After another word, as most stand: a tokenizer that learned spaces with words splits the first one of a text.
    return len(tokenizer.pieces(f"a {word}")) - 1 < _UNLEARNED


def _instead(word: str, tokenizer: Pieces) -> str:
    """Return a word that the model has learned and that is meant, or looks as if it was."""
    for section in ("same_thing", "same_colour", "gender"):
        same = same_words(section).get(word)
        if same and _is_learned(same, tokenizer):
            return same
    if word in english_words():
        return ""  # it is spelt right
    known = {each for text in all_texts() for each in words_of(text)} | known_words()["worn"]
    near = get_close_matches(word, sorted(known), n=3, cutoff=_MISSPELT)
    return next((each for each in near if _is_learned(each, tokenizer)), "")
