"""Asking an MLLM again about one phrase of a caption: the question, and what an answer to it means."""

import re

from textreid.captioning.instructions import Instruction

QUESTION = (
    'Look at the person in the middle of this picture. Somebody says of them: "{phrase}". Is that true? '
    "If it is, answer: yes. If it is not, answer with what is true in its place, as a short phrase of the same form, "
    'such as "a blue coat", and nothing else. If there is no such thing, answer: nothing.'
)
_ASKED = re.compile(re.escape(QUESTION).replace(re.escape("{phrase}"), '([^"]+)'))
_LONGEST = 16  # words of a phrase; what is longer explains itself
_THOUGHTS = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL | re.IGNORECASE)
_AROUND = " \t\"'`*.!\u201c\u201d\u2018\u2019"
_YES = re.compile(r"(?:yes|true|correct|right)\b", re.IGNORECASE)
_NO = re.compile(r"(?:no|false|not true|incorrect|wrong)\s*(?:[,.:;\u2013\u2014-]+\s*|$)", re.IGNORECASE)
_NOTHING = re.compile(
    r"(?:nothing|none|no such thing|not visible|no (?!it\b|that\b|they\b|the\b|an?\b).*)$", re.IGNORECASE
)
_OPENING = re.compile(
    r"(?:(?:it|that|this|there)(?: is|'s)|(?:they|these|those)(?: are|'re)|"
    r"(?:the (?:person|man|woman)|he|she|they) (?:is|are|has|have|wears?|carries|carry)"
    r"(?: (?:wearing|carrying|holding))?|"
    r"wearing|carrying|holding|actually|instead)[ ,:]+",
    re.IGNORECASE,
)
_SENTENCE = re.compile(r"\bI\b|\b(?i:can|cannot|can't|sorry|unable|not)\b|(?<!that )\b(?:is|are)\b")
_PHRASE = re.compile(r"[A-Za-z][A-Za-z' -]*(?:, [A-Za-z' -]+)?")


def question(phrase: str) -> Instruction:
    """Return what an MLLM is asked about a phrase, such as ``a red jacket``."""
    return Instruction("static", QUESTION.replace("{phrase}", phrase))


def asked_phrase(text: str) -> str | None:
    """Return the phrase that a question is about; None for any other instruction.

    >>> asked_phrase(question("a red jacket").text)
    'a red jacket'
    """
    match = _ASKED.search(text)
    return match[1] if match else None


def read_answer(answer: str, phrase: str) -> str | None:
    """Read what should stand in the place of a phrase: itself where it is confirmed, empty for nothing.

    >>> [read_answer(text, "a red coat") for text in ("Yes.", "No, it is a blue coat.", "Nothing", "I cannot tell.")]
    ['a red coat', 'a blue coat', '', None]

    Returns:
        None where the answer is none of these.
    """
    lines = [line.strip(_AROUND) for line in _THOUGHTS.sub("", answer).splitlines()]
    text = next(filter(None, lines), "")
    if _YES.match(text):
        return phrase
    denied = _NO.match(text)
    text = text[denied.end() :] if denied else text
    if _NOTHING.fullmatch(text) or (denied and not text):
        return ""
    while opening := _OPENING.match(text):
        text = text[opening.end() :]
    text = text.strip(_AROUND)
    if not _PHRASE.fullmatch(text) or len(text.split()) > _LONGEST:
        return None
    # A sentence is no phrase, and neither is a refusal.
    if _SENTENCE.search(text):
        return None
    return phrase if text.lower() == phrase.lower() else text
