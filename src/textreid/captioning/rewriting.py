"""A query in other words, by a language model: its features are averaged with those of the query itself.

People say one thing in many ways, and other languages in their own; a model learned a few ways of one language. The
query, and nothing else, is sent to the server.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from textreid.captioning.backends.addresses import checked_url, destination, key_for
from textreid.captioning.discovery import ChatModel
from textreid.errors import CaptionError, ConfigError

COUNT = 4  # of rewrites that are asked for
_LONGEST = 400  # characters of a rewrite; what is longer explains itself
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_THOUGHTS = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL | re.IGNORECASE)
_MARK = re.compile(r"^\s*(?:[-*\u2022]+|\(?\d{1,2}[.):])\s*")
_QUOTES = "\"'`\u201c\u201d\u2018\u2019* "
_REQUEST = (
    "Below is a description of a person, by a witness. Rewrite it in {count} ways, each as one or two plain English "
    "sentences, as somebody would describe the person in a photograph from a street. Use everyday words for clothes "
    "and colours. Translate it if it is not English. Say everything that it says about how the person looks, and add "
    "nothing. Leave out what cannot be seen. Write one rewriting a line and nothing else.\n\n{query}"
)


@dataclass(frozen=True)
class Rewriter:
    """A language model that says a query in other words.

    Attributes:
        llm: who is asked.
        place: where queries go, proxies included, for the user to read before anything is sent.
    """

    llm: ChatModel
    place: str

    def rewrite(self, query: str, count: int = COUNT) -> list[str]:
        """Return up to ``count`` rewrites of a query, without the query itself and without repetitions.

        Raises:
            CaptionError: there was no answer, or none that can be used; says what the server did instead.
            ConfigError: a proxy of the environment cannot be used.
        """
        text = _REQUEST.replace("{count}", str(count)).replace("{query}", " ".join(query.split()))
        answer = self.llm.reply([{"role": "user", "content": text}]).text
        found = read_rewrites(answer, query)[:count]
        if not found:
            beginning = " ".join(answer.split())[:60]
            raise CaptionError(f"--rewrite: {self.llm.model} gave no rewrite of the query, but {beginning!r}")
        return found


def read_rewriter(specification: str) -> Rewriter:
    """Read what ``--rewrite`` was given: NAME=URL#MODEL; the key is in the variable of the name, as of ``--mllm``.

    Raises:
        ConfigError: it has another form, or the URL cannot be used.
    """
    name, _, target = specification.partition("=")
    url, _, model = target.partition("#")
    if not _NAME.fullmatch(name) or not model or not url.startswith(("http://", "https://")):
        # What stands there may hold a secret, so it is not repeated.
        example = "--rewrite qwen=http://localhost:8000/v1#Qwen/Qwen3-8B"
        raise ConfigError(f"--rewrite: expected NAME=URL#MODEL of an OpenAI-compatible server, as in {example}")
    url = checked_url(url, f"--rewrite {name}")
    # Twice at most: who searches waits for it.
    return Rewriter(ChatModel(url, model, key_for(name, url), timeout=60.0, retries=1), destination(url))


def read_rewrites(answer: str, query: str) -> list[str]:
    """Read the lines of an answer without their numbers, marks and quotation marks.

    >>> read_rewrites("1. A man in red.\\n2) A man in red.\\n- A red-clad man.", "man in red")
    ['A man in red.', 'A red-clad man.']
    """
    lines = [_MARK.sub("", line).strip(_QUOTES) for line in _THOUGHTS.sub("", answer).splitlines()]
    known = {_simple(query)}
    found = []
    for line in lines:
        # A line that ends in a colon announces what follows.
        if _is_sentence(line) and _simple(line) not in known:
            known.add(_simple(line))
            found.append(line)
    return found


def rewrite_all(rewriter: Rewriter, sentences: Sequence[str], count: int = COUNT) -> list[str]:
    """Return the rewrites of several sentences; raises as `Rewriter.rewrite`."""
    return [rewrite for sentence in sentences for rewrite in rewriter.rewrite(sentence, count)]


def _is_sentence(line: str) -> bool:
    return len(line.split()) > 1 and len(line) <= _LONGEST and not line.endswith(":")


def _simple(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower()))
