"""Which captions are fit for training: named rules, tried in order, each a pure function of the text.

The release of Tan et al. 2024 swaps a caption that contains ``description]`` or ``<`` for another one, silently. Here
every rejected caption keeps its text and gets the name of the rule as its status, so that rules can be counted,
questioned and applied again.
"""

import re
import tomllib
import unicodedata
from collections.abc import Callable
from functools import cache
from importlib.resources import files

FEWEST_WORDS = 4
MOST_WORDS = 150  # a text encoder reads 77 tokens; what is twice as long is rambling
OTHER_LETTERS = 0.2  # share of letters outside ASCII above which a text is not English
OK = "ok"

_WORD = re.compile(r"[^\W_]+(?:['-][^\W_]+)*")
_UNSAFE = re.compile(r"[\ud800-\udfff\x00-\x08\x0e-\x1f\x7f]")
_QUOTED = re.compile(r"\"[^\"]*\"|(?<!\w)'[^']*'(?!\w)")
_CURLY = str.maketrans({"\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"'})

_BRACKETS = re.compile(r"[\[\]{}]|_{3,}")
_IN_PARENTHESES = re.compile(r"\((?:the )?([a-z -]+?)(?: description)?\)", re.IGNORECASE)
_MARKUP = re.compile(
    r"<[/|!]?[a-z]|\|>|</?s>"  # tags and special tokens, closed or not
    r"|\*\*|```|^\s*#{1,6} |^\s*(?:[*•-]|\d+[.)])\s"  # Markdown
    r"|https?://|&(?:[a-z]+|#\d+);"
    r"|\(\s*\d+(?:\.\d+)?\s*,\s*\d+(?:\.\d+)?\s*(?:,[\d.,\s]*)?\)"  # coordinates
    r'|^\s*[{\[]\s*"',  # JSON
    re.IGNORECASE | re.MULTILINE,
)
_CANNOT = r"(?:cannot|can't|can not|could not|couldn't|won't|will not|must decline|(?:am|'m) (?:unable|not able))"
_REFUSAL = re.compile(
    rf"^\W*(?:sorry|apologies)\b|\bI (?:apologi[sz]e|{_CANNOT})|\bI'm (?:unable|not able)\b"
    r"|\b(?:I'm|I am|we're|we are) (?:very |so )?sorry\b|\bas an? (?:AI|artificial|large language|language model)\b"
    r"|\bI (?:don't|do not) (?:have|see|know|feel|think|provide|identify|describe)\b"
    r"|\b(?:unable|not possible|impossible) to (?:identify|describe|determine|recogni[sz]e|provide|assist|help)"
    r"(?: \w+)? (?:person|people|individual|image|picture|photo|identity|description)\b"
    r"|\bplease (?:provide|upload|share)\b",
    re.IGNORECASE,
)
_STUCK_KEY = re.compile(r"(\S)\1{9}")
_NOBODY = re.compile(
    r"\bno (?:visible |clear |actual )?(?:person|people|humans?|pedestrians?|individuals?|one|man|woman)\b"
    r"|\b(?:not|n't) (?:show|contain|depict|include|have) an?y? (?:\w+ )?(?:person|people|human|pedestrian)s?\b",
    re.IGNORECASE,
)


@cache
def _vocabulary() -> dict[str, frozenset[str]]:
    text = files("textreid.captions").joinpath("vocabulary.toml").read_text(encoding="utf-8")
    return {name: frozenset(words.split()) for name, words in tomllib.loads(text).items()}


def tidy(text: str) -> str:
    """The text on one line, without control characters and broken surrogates, in Unicode's composed form."""
    return " ".join(unicodedata.normalize("NFC", _UNSAFE.sub(" ", text)).split())


def status_of(text: str) -> str:
    """``"ok"``, or the name of the first rule that ``text``, as the captioner gave it, breaks."""
    text = text.translate(_CURLY)
    return next((name for name, breaks in RULES.items() if breaks(text)), OK)


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _is_empty(text: str) -> bool:
    return not _words(text)


def _has_unfilled_slot(text: str) -> bool:
    names = (match[1].lower().replace(" ", "-") for match in _IN_PARENTHESES.finditer(text))
    return _BRACKETS.search(text) is not None or any(name in _vocabulary()["slots"] for name in names)


def _has_markup(text: str) -> bool:
    return _MARKUP.search(text) is not None


def _is_refusal(text: str) -> bool:
    # What is written on a shirt may well say that it is sorry.
    return _REFUSAL.search(_QUOTED.sub('""', text)) is not None


def _is_too_short(text: str) -> bool:
    return len(_words(text)) < FEWEST_WORDS


def _is_too_long(text: str) -> bool:
    return len(text.split()) > MOST_WORDS


def _loops(text: str) -> bool:
    """A word four times in a row, a phrase three times, one character ten times, or few different phrases at all."""
    words = _words(text)
    phrases = list(zip(words, words[1:], words[2:], words[3:], strict=False))
    monotonous = len(phrases) >= 24 and len(set(phrases)) < 0.5 * len(phrases)
    return monotonous or _STUCK_KEY.search(text) is not None or _repeats(words)


def _repeats(words: list[str]) -> bool:
    for length in range(1, min(20, len(words) // 3) + 1):
        needed = 3 if length == 1 else 2 * length
        run = 0
        for word, earlier in zip(words[length:], words, strict=False):
            run = run + 1 if word == earlier else 0
            if run == needed:
                return True
    return False


def _is_other_language(text: str) -> bool:
    letters = [] if text.isascii() else [character for character in text if character.isalpha()]
    if sum(not letter.isascii() for letter in letters) > OTHER_LETTERS * len(letters):
        return True
    words = _words(_QUOTED.sub('""', text))
    english, others = _vocabulary()["english"], _vocabulary()["foreign"]
    foreign = sum(word in others for word in words)
    return foreign >= 2 and foreign > sum(word in english for word in words)


def _is_not_about_a_person(text: str) -> bool:
    # "There are no people around her" is about her; "no person, only a coat" is about nobody.
    words = _words(_NOBODY.sub(" ", text))
    if not _vocabulary()["people"].isdisjoint(words):
        return False
    return _NOBODY.search(text) is not None or len(_vocabulary()["garments"].intersection(words)) < 2


RULES: dict[str, Callable[[str], bool]] = {
    "empty": _is_empty,
    "markup": _has_markup,
    "unfilled-slot": _has_unfilled_slot,
    "refusal": _is_refusal,
    "other-language": _is_other_language,
    "repeated-loop": _loops,
    "too-short": _is_too_short,
    "too-long": _is_too_long,
    "not-about-a-person": _is_not_about_a_person,
}
