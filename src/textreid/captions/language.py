"""Whether a text is English, told by its letters and by words that hold sentences together."""

import re
from functools import cache

from textreid.synthetic.vocabulary import reading

OTHER_LETTERS = 0.2  # share of letters outside ASCII above which a text is not English
OTHER_SCRIPT = 4  # letters of no Latin script outside quotes: a sentence in a second language is no caption
_LATIN = "\u036f"  # code points up to here are Latin, or marks on its letters
WORD = re.compile(r"[^\W_]+(?:['-][^\W_]+)*")
QUOTED = re.compile(r"\"[^\"]*\"|(?<!\w)'[^']*'(?!\w)")


@cache
def known_words() -> dict[str, frozenset[str]]:
    """Return the sets of words by which captions are judged, by name: those of the vocabulary, and what is worn."""
    words = {name: frozenset(listed.split()) for name, listed in reading("captions").items()}
    things = [listed.split() for kind, listed in reading("things").items() if kind not in ("held", "other")]
    looks = (reading("colours"), reading("looks")["words"].split())
    return {**words, "worn": words["worn"].union(*things), "looks": words["looks"].union(*looks)}


def words_of(text: str) -> list[str]:
    """Split a text into its words, in small letters; a hyphen or an apostrophe inside belongs to the word."""
    return WORD.findall(text.lower())


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
    """Say whether a query has a word that English descriptions of people have, and does not read as another language.

    A query is shorter than a caption: "rote Jacke" has none of the words by which captions tell a language.
    """
    words = {part for word in words_of(query) for part in (word, *word.split("-"))}
    known = (known_words()[section] for section in ("english", "people", "worn", "looks"))
    return not is_other_language(query) and any(not words.isdisjoint(section) for section in known)
