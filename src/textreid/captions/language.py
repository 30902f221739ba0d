"""Whether a text is English: captions by words that hold sentences together, queries by every word."""

import re
from functools import cache

from textreid.synthetic.vocabulary import all_texts, reading

OTHER_LETTERS = 0.2  # share of letters outside ASCII above which a text is not English
OTHER_SCRIPT = 4  # letters of other scripts, outside quotes: so many belong to a sentence in a second language
_LATIN = "\u036f"  # code points up to here are Latin, or marks on its letters
_ONE_LETTER_WORDS = "\u2e80"  # code points from here on; one letter of Greek is a sign on a shirt
_FEW_WORDS = 2  # of which each must be known
_LEAST_MISSPELT, _LEAST_OF_ENDED = 4, 6  # letters; what is shorter is near to too many words
_PART_OF_NAME = re.compile(r"[A-Z][a-z]{1,2}")  # the "Los" of "a Los Angeles cap", inside a query
_STRAIGHT = str.maketrans("\u2018\u2019\u201c\u201d", "''\"\"")
WORD = re.compile(r"[^\W_]+(?:['-][^\W_]+)*")
_SURROGATE = re.compile("[\ud800-\udfff]")
QUOTED = re.compile(r"\"[^\"]*\"|(?<!\w)'[^']*'(?!\w)")


@cache
def known_words() -> dict[str, frozenset[str]]:
    """Return the sets of words by which captions are judged, by name: those of the vocabulary, and what is worn."""
    words = {name: frozenset(listed.split()) for name, listed in reading("captions").items()}
    things = [listed.split() for kind, listed in reading("things").items() if kind not in ("held", "other")]
    looks = (reading("colours"), reading("looks")["words"].split())
    return {**words, "worn": words["worn"].union(*things), "looks": words["looks"].union(*looks)}


@cache
def function_words() -> frozenset[str]:
    """Return the words that hold sentences together and show nothing; not the pronouns, which tell the gender."""
    known = known_words()
    # A "top" is a garment too.
    return frozenset(reading("queries")["function"].split()) - known["people"] - known["looks"] - known["worn"]


def words_of(text: str) -> list[str]:
    """Split a text into its words, in small letters; a hyphen or an apostrophe inside belongs to the word."""
    return WORD.findall(text.lower())


def is_unicode(text: str) -> bool:
    """Tell whether a text has no half characters, which neither UTF-8 nor Arrow can hold.

    They come from file names that are not UTF-8, and from JSON that escapes half of a pair.
    """
    return _SURROGATE.search(text) is None


def is_other_language(text: str) -> bool:
    """Say whether a text has too many letters that English has not, or more words of other languages than English."""
    letters = [] if text.isascii() else [character for character in text if character.isalpha()]
    if sum(not letter.isascii() for letter in letters) > OTHER_LETTERS * len(letters):
        return True
    said = QUOTED.sub('""', text)
    if sum(letter > _LATIN and letter.isalpha() for letter in said) >= OTHER_SCRIPT:
        return True
    words = words_of(said)
    english, others = known_words()["english"], known_words()["foreign"]
    foreign = sum(word in others for word in words)
    return foreign >= 2 and foreign > sum(word in english for word in words)


def reads_as_english(query: str) -> bool:
    """Say whether at least half of the words of a query are English, each word of another language taking two away.

    A query is shorter than a caption: "rote Jacke" has none of the words by which captions tell a language. Of one or
    two words all must be known. A word that is one letter away from a known one is misspelt, unless another tells that
    the language is not English: "jacke" is.
    """
    said = QUOTED.sub(" ", query.translate(_STRAIGHT))
    if is_other_language(query):
        return False
    words = [word for word in WORD.findall(said) or WORD.findall(query) if not word.isdigit()]
    foreign = sum(
        _is_foreign(word.lower()) and not (number and _PART_OF_NAME.fullmatch(word))
        for number, word in enumerate(words)
    )
    known = sum(_is_known(word.lower(), misspelt=not foreign) for word in words)
    needed = len(words) if len(words) <= _FEW_WORDS else len(words) / 2
    return known > 0 and known - 2 * foreign >= needed


def _is_foreign(word: str) -> bool:
    if word[0] >= _ONE_LETTER_WORDS or (len(word) > 1 and any(letter > _LATIN for letter in word)):
        return True
    words, stems = _foreign_words()
    return word not in english_words() and (word in words or word.startswith(stems))


def _is_known(word: str, misspelt: bool) -> bool:
    english = english_words()
    if word in english or word.removesuffix("'s") in english or english.issuperset(word.split("-")):
        return True
    known_end = len(word) >= _LEAST_OF_ENDED and word.endswith(("ing", "ed"))
    return misspelt and len(word) >= _LEAST_MISSPELT and (known_end or not _shortened(word).isdisjoint(_one_less()))


@cache
def english_words() -> frozenset[str]:
    """Return every English word that the vocabulary has: those that describers write, and those for readers."""
    read = [reading(section) for section in ("colours", "same_colour", "things", "same_thing", "looks", "gender")]
    lists = [*all_texts(), *(text for section in read for entry in section.items() for text in entry)]
    lists += [text for part in ("captions", "queries") for name, text in reading(part).items() if name != "foreign"]
    return frozenset(word for text in lists for word in (*words_of(text), *text.split()))


@cache
def _foreign_words() -> tuple[frozenset[str], tuple[str, ...]]:
    """Return words of other languages, and how others begin that have several endings."""
    listed = reading("queries")["foreign"].split()
    words, stems = (word for word in listed if word[-1] != "-"), (word[:-1] for word in listed if word[-1] == "-")
    return known_words()["foreign"].union(words), tuple(stems)


@cache
def _one_less() -> frozenset[str]:
    """Return the longer English words, and what is left of them without one letter."""
    return frozenset().union(*(_shortened(word) for word in english_words() if len(word) >= _LEAST_MISSPELT))


def _shortened(word: str) -> frozenset[str]:
    return frozenset({word, *(word[:i] + word[i + 1 :] for i in range(len(word)))})
