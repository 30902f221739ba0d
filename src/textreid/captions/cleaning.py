"""Which captions are rejected, and why: wrappings to take off, then rules by name, each a pure function of the text.

The release of Tan et al. 2024 swaps a caption that contains ``description]`` or ``<`` for another one, silently. Here
every rejected answer keeps its text and gets the name of the rule as its status, so that rules can be counted,
questioned and applied again. What servers and models are known to wrap around a good answer is taken off, by name.
"""

import ast
import json
import re
import unicodedata
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

from textreid.captions.language import QUOTED, WORD, is_other_language, known_words, words_of

OK = "ok"
# The shortest captions that say what somebody wears have four: "A man in black."
MIN_WORDS = 4
MAX_WORDS = 150  # a text encoder reads 77 tokens; what is twice as long is rambling
MAX_CHARACTERS = 8_000  # for scripts that put no space between words

_UNSAFE = re.compile(r"[\ud800-\udfff\x00-\x08\x0e-\x1f\x7f]")  # no table, or no terminal, can hold these
# Byte order, zero-width and direction marks, soft hyphens: in front they would hide an opening or a fence.
_INVISIBLE = str.maketrans(dict.fromkeys("\ufeff\u200b\u200e\u200f\u2060\u00ad"))
_CURLY = str.maketrans({"\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"'})

# -- wrappings: what stands around an answer -------------------------------------------------------------------------

# Tags: <think> of DeepSeek-R1 and Qwen3. [THINK] is Magistral's, the triangles are Kimi-VL's, <unused94> and
# <unused95> MedGemma's, channels gpt-oss's. `_THOUGHT_ENDS` must not capture: `split` would return the groups.
_THINK = r"(?:\w+:)?(?:think|thinking|thoughts?|reasoning|reflection|analysis|scratchpad)"
_THOUGHT_ENDS = re.compile(
    rf"</{_THINK}>|\[/THINK\]|◁/think▷|<unused95>|<\|end_of_thought\|>"
    r"|<\|channel\|>\s*final\s*<\|message\|>|assistantfinal(?=\W|(?-i:[A-Z]))",  # the latter where marks are left out
    re.IGNORECASE,
)
_THOUGHT = re.compile(
    rf"<({_THINK})\b[^<>]*>.*?</\1>|\[THINK\].*?\[/THINK\]|◁think▷.*?◁/think▷", re.IGNORECASE | re.DOTALL
)
_THOUGHT_BEGINS = re.compile(
    rf"<{_THINK}\b[^<>]*>|\[THINK\]|◁think▷|<unused94>|<\|channel\|>\s*analysis|^analysis(?-i:[A-Z])"
    r"|\bthe user(?:'s (?:request|question|prompt|instruction)| (?:want|ask|is asking|request)(?:s|ed)?)\b"
    r"|\blet me (?:think|see|check)\b|\bI (?:need|have|should) to (?:describe|write|mention|look)\b|^step 1\b",
    re.IGNORECASE,
)
# The boxes are GLM-4.1V's; \boxed comes from models that were trained to reason on mathematics.
_TAGGED = re.compile(
    r"<(answer|caption|description|output|response|result|final)\b[^<>]*>(?P<tag>.*)</\1>"
    r"|\A<(?!s\b|ref|box|quad|point|tool)([a-z]\w*)\b[^<>]*>(?P<whole>[^<>]*)</\3>\Z"
    r"|<\|begin_of_box\|>(?P<box>.*)<\|end_of_box\|>|\\boxed\{(?:\\text\{)?(?P<boxed>[^{}]*)\}+",
    re.IGNORECASE | re.DOTALL,
)
# A role's header begins an answer, any other mark ends it. Marks of places in the image are left for the rules.
_TURN = re.compile(
    r"<\|im_start\|>\s*assistant\b|<\|start_header_id\|>\s*assistant\s*<\|end_header_id\|>"
    r"|<start_of_turn>\s*model\b|<\|assistant\|>|\[/INST\]|\bASSISTANT:"
)
# ChatML is Qwen's and InternVL's, [INST] Llama 2's and Mistral's, wide bars are DeepSeek's, [UNUSED_TOKEN_145] is
# InternLM's. It must not capture either.
_MARK = re.compile(
    rf"{_TURN.pattern}|<[|\uff5c](?!\w*(?:box|ref|quad|vision|image|video|point))[\w\u2581 ]+[|\uff5c]>"
    r"|</?s>|<(?:eos|bos|pad|unk|eoc|eot|end_of_turn|start_of_turn|end_of_utterance)>|\[/?INST\]|\[EOS\]"
    r"|\[UNUSED_TOKEN_\d+\]|\b(?:USER|HUMAN):|\s#{3,}\s*\Z"
)
_FENCED = re.compile(r"(```+|~~~+)(?:[\w-]*\n)?(.*?)\1", re.DOTALL)
_ANSWER_KEYS = ("caption", "description", "text", "answer", "response", "output", "content", "sentence", "result")
_HEADING = re.compile(r"#{1,6}\s+[^\n]*\n+(?=\s*\S)|#{1,6}\s+")
# An underscore inside a word is part of a name, not emphasis.
_EMPHASIS = re.compile(r"(\*\*|\*|`)(?=[^\s*`])([^*`\n]*[^\s*`])\1|(?<![\w_])(__?)(?=[^\W_])([^_\n]*[^\s_])\3(?![\w_])")
_ONLY_ITEM = re.compile(r"(?:[*•>-]|1[.)])\s+([^\n]+)")
_WHOLLY_QUOTED = re.compile(
    r"\"([^\"]*)\"|\u201c([^\u201c\u201d]*)\u201d|\u2018([^\u2018]*)\u2019|«([^«»]*)»|「([^「」]*)」"
    r"|'((?:[^']|(?<=\w)'(?=\w))*)'"
)
_TELLING = r"(?:captions?|descriptions?|summary|answers?|responses?|sentences?|json|attempt)"
_OPENING = re.compile(
    "|".join(
        (
            # "Sure!", "Of course, "
            r"(?:sure(?: thing)?|certainly|of course|absolutely|okay|ok|al(?:l )?right|great|got it|no problem|gladly"
            r"|understood|definitely|yes|hello|hi)(?: there|, \w+(?=!))?\s*[!.,:;\u2013\u2014-]+\s*",
            # "Description: "
            rf"(?:(?:brief|detailed|final|short|image|person) )*(?:{_TELLING}|output|assistant|model)(?: \d+)?"
            r"(?:\s*[:=\uff1a]|\s*[\u2013\u2014-]\s|\s*\n)\s*"
            r"|(?:person|subject|english): |[\u4e00-\u9fff]{1,8}[:\uff1a]",
            # "Here is the description of the person in the image: "
            r"(?:here|below|the following|following|based on|as requested|in response|looking at|according to|from the"
            r"|this is|I (?:can|will|would|have)|I'(?:d|ll|ve))\b"
            rf"[^\n.!?:]{{0,200}}?\b{_TELLING}\b[^\n.!?:]{{0,120}}:\s*",
            rf"(?:the|a|my|your) (?:[\w-]+ ){{0,3}}{_TELLING}\b[^\n.!?:]{{0,120}}:\s*",
            r"here(?:'s| is) what I (?:can )?(?:see|observe)[^\n.!?:]{0,80}:\s*",
            r"(?:to (?:describe|summari[sz]e)\b[^\n.!?:]{0,80}|the (?:person|image)\b[^\n.!?:]{0,80}\bas follows):\s*",
            r"here (?:you go|it is)\s*[:!.]\s*",
            # "I'd be happy to help you with that."
            r"(?:I(?:'d| would| will|'ll) (?:be )?(?:happy|glad|pleased|delighted|love) to|thank(?:s| you) for"
            r"|(?:happy|glad) to (?:help|assist)|great (?:question|image)"
            r"|(?:let me|let's|I'll|I will|I can) (?:describe|help|take|look|break|examine|analy[sz]e|start))\b"
            r"[^.!:\n]*[.!:]+\s+",
        )
    ),
    re.IGNORECASE,
)
_CLOSING = re.compile(
    r"(?<=[.!?\"])\s+(?:(?:please )?let me know|(?:please )?feel free|I hope (?:this|that|it)|hope (?:this|it) helps"
    r"|is there anything else|if you (?:would|have|need|want)|if you'd|would you like|do you (?:need|want)"
    r"|\(?(?:please )?note(?: that|:)|disclaimer:|-{3,}|(?:keywords?|tags|word count|style|template)(?: used)?:)"
    r"(?!\w).*",
    re.IGNORECASE | re.DOTALL,
)

# -- rules: what no wrapping excuses ---------------------------------------------------------------------------------

_BRACKETS = re.compile(r"[\[\]{}]|_{3,}")
_IN_PARENTHESES = re.compile(r"\((?:the )?([a-z -]+?)(?: description)?\)", re.IGNORECASE)
_BROKEN_OFF = re.compile(
    r"(?:\b(?:a|an|the|and|or|with|of|to|is|are|his|their|its|from|for|by|at)|[,:;(\u2013\u2014-])\s*$"
)
# Qwen-VL writes <ref> and <box> around what it locates, Shikra bare coordinates in brackets.
_MARKUP = re.compile(
    r"<[/|!]?[a-z]|\|>|</?s>"  # tags and special tokens, closed or not
    r"|\*\*|```|^\s*#{1,6} |^\s*(?:[*•-]|\d+[.)])\s|^\s*\|.*\|\s*$"  # Markdown
    r"|^[\w /]{1,30}:[^\n]*\n\s*[\w /]{1,30}:"  # a form with a field on each line
    r"|https?://|&(?:[a-z]+|#\d+);"
    r"|[(\[]\s*\d+(?:\.\d+)?\s*,\s*\d+(?:\.\d+)?\s*(?:,[\d.,\s]*)?[)\]]"  # coordinates
    r'|^\s*[{\[]\s*"',  # JSON
    re.IGNORECASE | re.MULTILINE,
)
_CANNOT = r"(?:cannot|can't|can not|could not|couldn't|won't|will not|must decline|(?:am|'m) (?:unable|not able))"
_REFUSAL = re.compile(
    rf"^\W*(?:sorry|apologies|my apologies)\b|\bI (?:apologi[sz]e|{_CANNOT})|\bI'm (?:unable|not able)\b"
    r"|\b(?:I'm|I am|we're|we are) (?:very |so )?sorry\b|\bas an? (?:AI|artificial|large language|language model)\b"
    r"|\bas an? \w+ assistant\b"
    r"|\bI(?:'m| am) not (?:comfortable|allowed|permitted|authori[sz]ed|going to)\b"
    r"|\bI (?:\w+ ){0,3}(?:decline|refuse|refrain|avoid)\b"
    r"|\b(?:against|violat\w+|contrary to) (?:\w+ ){0,3}(?:polic|guideline)"
    r"|\b(?:image|picture|photo)\b[^.]{0,30}\b(?:not|n't|failed to)\b (?:load|display|show up|attached)"
    r"|\bno (?:image|picture|photo)\b[^.]{0,30}\b(?:attached|provided|uploaded|shared)\b"
    r"|\b(?:can|could|would) you (?:please )?(?:provide|share|upload|send|attach|describe)\b"
    r"|^(?:the|this) (?:image|picture|photo)\b[^.]{0,30}\btoo (?:\w+ )+to\b"
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


class Cleaned(NamedTuple):
    """What became of a captioner's answer.

    Attributes:
        caption: what training reads, on one line and without wrappings, if ``status`` is ``"ok"``; otherwise ``raw``.
        status: ``"ok"``, or the name of the first of `RULES` that the answer breaks.
        raw: the answer as it came, but for characters that no table can hold.
        cut: names of the `WRAPPINGS` that were taken off ``caption``, each once.
    """

    caption: str
    status: str
    raw: str
    cut: tuple[str, ...] = ()


def clean(raw: str) -> Cleaned:
    """Take the wrappings off an answer and judge what is left.

    Judging again changes nothing: ``clean(clean(raw).caption)`` has the same caption and the same status.

    Args:
        raw: the answer as the captioner gave it, line breaks, marks and all.
    """
    raw = _UNSAFE.sub(" ", raw)
    text, cut = _unwrap(raw)
    status = status_of(text)
    caption = tidy(text)
    if status == OK and caption != raw:
        # One line may break a rule that several did not, or show another wrapping.
        again = clean(caption)
        caption, status, cut = again.caption, again.status, tuple(dict.fromkeys((*cut, *again.cut)))
    return Cleaned(caption, OK, raw, cut) if status == OK else Cleaned(raw, status, raw)


def _unwrap(text: str) -> tuple[str, tuple[str, ...]]:
    """Return the text without its wrappings, however they are nested, and their names."""
    # Wrappings are nested in any order, as JSON in a fence, or a fence in JSON: one pass over the list is not enough.
    text, cut, peeling = text.translate(_INVISIBLE).strip(), dict[str, None](), True
    while peeling:
        peeling = False
        for name, peel in WRAPPINGS.items():
            peeled = peel(text)
            # Only what makes a text shorter counts, so that this ends.
            if len(peeled) < len(text):
                text, peeling = peeled.strip(), True
                cut[name] = None
    return text, tuple(cut)


def tidy(text: str) -> str:
    """Put a text on one line, without control characters and broken surrogates, in Unicode's composed form."""
    return " ".join(unicodedata.normalize("NFC", _UNSAFE.sub(" ", text)).split())


def status_of(text: str) -> str:
    """Return ``"ok"``, or the name of the first rule that ``text``, which has no wrappings any more, breaks."""
    text = text.translate(_CURLY)
    return next((name for name, breaks in RULES.items() if breaks(text)), OK)


def _without_thoughts(text: str) -> str:
    """Return what follows the last thought; a server may have swallowed the mark at its beginning."""
    # Chat templates that end in <think> put the mark into the prompt: the answer then has only the closing one.
    *before, after = _THOUGHT_ENDS.split(text)
    if not before or after.strip():
        return after
    without = _THOUGHT.sub("", text)
    return without if without != text else ""


def _tagged(text: str) -> str:
    found = _TAGGED.search(text)
    return next(filter(None, found.group("tag", "whole", "box", "boxed")), "") if found else text


def _without_marks(text: str) -> str:
    """Return the first stretch between marks; behind the header of the answer where the prompt comes back with it."""
    begun = text.lstrip()
    # A header in the middle begins a turn that the model made up: its answer is the stretch before that.
    if _MARK.match(begun) and (turn := _TURN.search(begun)):
        begun = begun[turn.end() :]
    return next((part for part in _MARK.split(begun) if part.strip()), "")


def _unfenced(text: str) -> str:
    found = _FENCED.fullmatch(text.strip())
    return found[2] if found else text


def _from_json(text: str) -> str:
    """Return the one text in a value of JSON or Python, or in a list of parts as chat APIs have it."""
    stripped = text.strip()
    if stripped[:1] not in ("{", "["):
        return text
    # Servers that print a list of parts with `str` give Python's single quotes.
    for read in (json.loads, ast.literal_eval):
        with suppress(
            ValueError, SyntaxError, TypeError, RecursionError, MemoryError
        ):  # the last four: of literal_eval
            found = _only_text(read(stripped))
            return text if found is None else found
    return text


def _only_text(value: Any) -> str | None:
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        # Chat APIs put thoughts and images into parts of other types beside the text.
        parts = [part for part in value if not (isinstance(part, dict) and part.get("type", "text") != "text")]
        return _only_text(parts[0]) if len(parts) == 1 else None
    if isinstance(value, dict):
        found = [value[key] for key in _ANSWER_KEYS if isinstance(value.get(key), str)] or list(value.values())
        return _only_text(found[0]) if len(found) == 1 else None
    return None


def _without_markdown(text: str) -> str:
    """Take off a heading, emphasis, or the mark of an only item; a list of several is not a sentence, and stays."""
    if "*" in text or "_" in text or "`" in text:
        text = _EMPHASIS.sub(lambda found: found[2] or found[4], text)
    if heading := _HEADING.match(text):
        return text[heading.end() :]
    item = _ONLY_ITEM.fullmatch(text)
    return item[1] if item else text


def _unquoted(text: str) -> str:
    text = text.strip()
    if text.count('"') == 1 and '"' in (text[0], text[-1]):
        return text.strip('"')
    found = _WHOLLY_QUOTED.fullmatch(text)
    return next((inner for inner in found.groups() if inner is not None), "") if found else text


def _without_chatter(text: str) -> str:
    """Take off what is said to whoever asked, before the caption and after it."""
    straight = text.strip().translate(_CURLY)  # one character for one
    opening, closing = _OPENING.match(straight), _CLOSING.search(straight)
    # An answer that is nothing but an opening stays, for the rules to judge: it is unfinished, not empty.
    start = opening.end() if opening and opening.end() < len(straight) else 0
    return text.strip()[start : closing.start() if closing else None]


# Thoughts first: a model may try out an answer, tags and all, while it thinks.
WRAPPINGS: dict[str, Callable[[str], str]] = {
    "thoughts": _without_thoughts,
    "answer-tags": _tagged,
    "end-marks": _without_marks,
    "code-fence": _unfenced,
    "json": _from_json,
    "markdown": _without_markdown,
    "quotes": _unquoted,
    "chatter": _without_chatter,
}


def is_empty(text: str) -> bool:
    """Tell whether there is neither a letter nor a digit in it."""
    return WORD.search(text) is None


def _has_unfilled_slot(text: str) -> bool:
    names = (match[1].lower().replace(" ", "-") for match in _IN_PARENTHESES.finditer(text))
    return _BRACKETS.search(text) is not None or any(name in known_words()["slots"] for name in names)


def _has_markup(text: str) -> bool:
    return _MARKUP.search(text) is not None


def _is_refusal(text: str) -> bool:
    # What is written on a shirt may well say that it is sorry.
    return _REFUSAL.search(QUOTED.sub('""', text)) is not None


def _is_too_short(text: str) -> bool:
    return len(words_of(text)) < MIN_WORDS


def is_too_long(text: str) -> bool:
    """Tell whether it has more than `MAX_WORDS` words or `MAX_CHARACTERS` characters."""
    return len(text) > MAX_CHARACTERS or len(text.split()) > MAX_WORDS


def _is_unfinished(text: str) -> bool:
    """Tell a thought that never ends, or a sentence broken off at a word that wants another."""
    return _THOUGHT_BEGINS.search(text) is not None or _BROKEN_OFF.search(text) is not None


def _loops(text: str) -> bool:
    """Tell a word four times in a row, a phrase three times, a character ten times, or few different phrases at all."""
    words = words_of(text)
    # Sentences that differ in a word or two share most of their runs of four words; in a short text that tells nothing.
    phrases = list(zip(words, words[1:], words[2:], words[3:], strict=False))
    monotonous = len(phrases) >= 24 and len(set(phrases)) < 0.5 * len(phrases)
    return monotonous or _STUCK_KEY.search(text) is not None or _repeats(words)


def _repeats(words: list[str]) -> bool:
    # Twenty words are the longest period looked for, which keeps the time linear in the length.
    for length in range(1, min(20, len(words) // 3) + 1):
        # A word four times in a row equals its forerunner three times; a phrase three times, for twice its length.
        needed = 3 if length == 1 else 2 * length
        run = 0
        for word, earlier in zip(words[length:], words, strict=False):
            run = run + 1 if word == earlier else 0
            if run == needed:
                return True
    return False


def _is_not_about_a_person(text: str) -> bool:
    # "There are no people around her" is about her; "no person, only a coat" is about nobody.
    words = words_of(_NOBODY.sub(" ", text))
    if not known_words()["people"].isdisjoint(words):
        return False
    return _NOBODY.search(text) is not None or len(known_words()["worn"].intersection(words)) < 2


# The first that is broken gives the name, so the order decides: a tag whose thought never ended is unfinished before
# it is markup, JSON is markup before its braces are slots, and Chinese is another language before it is too short.
RULES: dict[str, Callable[[str], bool]] = {
    "empty": is_empty,
    "unfinished": _is_unfinished,
    "markup": _has_markup,
    "unfilled-slot": _has_unfilled_slot,
    "refusal": _is_refusal,
    "other-language": is_other_language,
    "repeated-loop": _loops,
    "too-short": _is_too_short,
    "too-long": is_too_long,
    "not-about-a-person": _is_not_about_a_person,
}
