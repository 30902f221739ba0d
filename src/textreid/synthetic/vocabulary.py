"""The one vocabulary of looks, ``vocabulary.toml``.

For those who write: the words for each attribute value, and the rules for which of them are true of whom. For those
who read: what the words of captions and queries can mean, which captions are cleaned, and measured, by.
"""

import math
import tomllib
from bisect import bisect
from collections.abc import Collection, Mapping
from functools import cache
from importlib.resources import files
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from textreid.seeding import Chance


class Word(NamedTuple):
    """A word or short phrase; ``names_colour`` when it leaves no need to say the colour."""

    text: str
    names_colour: bool = False


class Facts(NamedTuple):
    """Properties that the rules of ``vocabulary.toml`` ask about: a thing's colour and make, and who wears it how."""

    colours: str
    gender: str
    pattern: str = "plain"
    sleeve: str = "long"
    open: bool = False
    hood: bool = False


class Words:
    """Words in order of how common they are; the n-th is drawn in proportion to n^-1.5."""

    def __init__(self, words: Collection[Word]) -> None:
        self.words = tuple(words)
        self.texts = frozenset(word.text for word in words)
        # A root and not a power: IEEE 754 has roots rounded exactly, while `pow` may differ between platforms.
        weights = [1 / (rank * math.sqrt(rank)) for rank in range(1, len(self.words) + 1)]
        self._bounds = [bound / sum(weights) for bound in accumulate(weights)]

    def draw(self, chance: "Chance", avoid: Collection[str] = ()) -> Word:
        """Draw one of the words; of those not in ``avoid`` where there are such."""
        # Rounding may leave the last bound a little below 1.
        word = self.words[min(bisect(self._bounds, chance.unit()), len(self.words) - 1)]
        if avoid and word.text in avoid:
            left = [other for other in self.words if other.text not in avoid]
            return chance.pick(left) if left else word
        return word


@cache
def _tables() -> dict[str, dict[str, Any]]:
    text = files("textreid.synthetic").joinpath("vocabulary.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


@cache
def all_words(section: str, name: str) -> Words:
    """Return every word that may stand for attribute value ``name``, whoever wears it."""
    return Words([_word(entry) for entry in _tables()[section].get(name, ())])


@cache
def vocabulary(section: str) -> frozenset[str]:
    """Return every word of a section, whatever it stands for."""
    return frozenset(word.text for name in _tables()[section] for word in all_words(section, name).words)


@cache
def all_texts() -> frozenset[str]:
    """Return every word and phrase that a describer may write."""
    return frozenset().union(*(vocabulary(section) for section in _tables() if section != "reading"))


@cache
def words(section: str, name: str, facts: Facts) -> Words:
    """Return the words that are true of a thing ``name`` with these properties."""
    return Words([_word(entry) for entry in _tables()[section][name] if _admits(entry, facts)])


@cache
def colour_words(colour: str) -> frozenset[str]:
    """Return every word that is true of ``colour``, tones included."""
    return all_words("colours", colour).texts | all_words("tones", colour).texts


@cache
def reading(section: str) -> Mapping[str, str]:
    """Read a section for readers: names, and words with spaces between them."""
    return {name: " ".join(words.split()) for name, words in _tables()["reading"][section].items()}


@cache
def same_words(section: str) -> Mapping[str, str]:
    """Read, for each other form that a section for readers lists, the word that it stands for."""
    return {form: word for word, forms in reading(section).items() for form in forms.split()}


def _word(entry: Any) -> Word:
    if isinstance(entry, str):
        return Word(entry)
    return Word(entry["word"], entry.get("names_colour", False))


def _admits(entry: Any, facts: Facts) -> bool:
    if isinstance(entry, str):
        return True
    rules = {key: allowed for key, allowed in entry.items() if key not in ("word", "names_colour")}
    return all(
        getattr(facts, key) in (allowed if isinstance(allowed, list) else [allowed]) for key, allowed in rules.items()
    )
