"""The dialect of one server: which fields a request to it has, and how its answers are read.

Every server says that it speaks the OpenAI protocol, and each refuses something of it: ``seed`` (Mistral, Gemini),
``max_tokens`` (OpenAI's newer models), a temperature, a picture of some size. What a refusal names is learnt, told to
the user once, and kept, so that a server is not asked twice for what it does not take.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from textreid.captioning.backends.connection import AttemptError, Connection
from textreid.captioning.requests import NO_THOUGHTS, Caption, CaptionFailure, Usage
from textreid.errors import ConfigError

_SMALLEST_SIDE = 56  # pixels, to which a picture is made smaller when a server finds it too large; Qwen2-VL's own least
# 404 and 500 come here only when their words name a field, see `connection`.
_LEARNS_FROM = (400, 404, 413, 415, 422, 500, 501)
_FIXED = ("model", "messages")
_COMPLETION_TOKENS = "max_completion_tokens"  # what some servers have for max_tokens
_ANOTHER_NAME = re.compile(
    r"use\W{1,3}(\w+)\W{1,3}instead|did you mean\W{1,4}(\w+)|(?:renamed to|replaced by|in favou?r of)\W{1,3}(\w+)",
    re.IGNORECASE,
)
_NUMBER = r"\D{0,24}?(\d+(?:\.\d+)?)"
_AT_MOST = re.compile(rf"(?:less than or equal to|at most|<=|not exceed|maximum(?: value)?(?: is| of)?){_NUMBER}", re.I)
_AT_LEAST = re.compile(rf"(?:greater than or equal to|at least|>=|minimum(?: value)?(?: is| of)?){_NUMBER}", re.I)
_PICTURE = re.compile(r"image|picture|pixel|resolution|dimension|input size|height|width|payload|entity", re.I)
_TOO_SMALL = re.compile(
    rf"(?:at least|minimum|>=|(?:must|should|needs? to|has to) be (?:larger|greater|bigger) than){_NUMBER}|too small",
    re.I,
)
_TOO_LARGE = re.compile(r"too (?:large|big|long)|exceed|smaller than|less than|larger than|maximum|at most|limit", re.I)
_COUNT = re.compile(r"at most \d+ (?:images?|image\(s\)|pictures?)", re.I)  # of pictures, of which one is sent
_SIDES = re.compile(r"(\d{2,5})\s*[x*\u00d7]\s*(\d{2,5})|(\d{2,5})\s*(?:px|pixels?)", re.I)


@dataclass(frozen=True)
class Rename:
    """Another name for a field of a request; an empty one leaves the field out."""

    to: str = ""


def read_fields(given: list[str] | tuple[str, ...]) -> dict[str, Any]:
    """Read what ``--field`` was given.

    ``NAME=JSON`` sets a field of the request's body, ``NAME=`` leaves it out, ``NAME:OTHER`` sends it as OTHER. A value
    that is not JSON is a string.

    >>> read_fields(["top_p=0.9", "seed=", "max_tokens:max_new_tokens", "reasoning_effort=low"])
    {'top_p': 0.9, 'seed': Rename(to=''), 'max_tokens': Rename(to='max_new_tokens'), 'reasoning_effort': 'low'}

    Raises:
        ConfigError: another form, or a field that textreid needs itself.
    """
    fields: dict[str, Any] = {}
    for each in given:
        renamed = re.fullmatch(r"(\w+):(\w+)", each)
        name, equals, text = each.partition("=")
        if renamed:
            name, value = renamed[1], Rename(renamed[2])
        elif not equals or not re.fullmatch(r"\w+", name):
            raise ConfigError(
                f"--field {each}: expected NAME=JSON, NAME= to leave it out, or NAME:OTHER to rename it, "
                f"such as {NO_THOUGHTS}"
            )
        else:
            value = _value(name, text) if text else Rename()
        if name in _FIXED or name in fields:
            raise ConfigError(f"--field {name}: {'given twice' if name in fields else 'textreid needs it itself'}")
        fields[name] = value
    return fields


def _value(name: str, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        if text[0] in '{["':
            raise ConfigError(f"--field {name}: {text!r} is not JSON: {error}") from error
        return text


@dataclass
class Dialect:
    """Requests that a server takes, as far as that is known.

    Attributes:
        fields: what the user has said of fields of the body: a value, or a `Rename`.
        longest_side: pixels of the longer side of a picture, at most.
        shortest_side: pixels of the shorter side, at least.
        version: grows with everything learnt.
        notices: what was learnt and not told yet, for the user.
    """

    fields: Mapping[str, Any] = field(default_factory=dict)
    longest_side: int = 448
    shortest_side: int = 1
    version: int = 0
    notices: list[str] = field(default_factory=list)
    _names: dict[str, str] = field(default_factory=dict)  # our name of a field to the server's; "" leaves it out
    _bounds: dict[str, tuple[float, float]] = field(default_factory=dict)  # least and greatest value of a field
    _detail: bool = False
    _plain_url: bool = False

    def __post_init__(self) -> None:
        self._names |= {name: value.to for name, value in self.fields.items() if isinstance(value, Rename)}

    def body(self, model: str, messages: object, standard: Mapping[str, Any]) -> dict[str, Any]:
        """Return the body of a request; ``standard`` holds seed, max_tokens and temperature, None if not to be sent."""
        given = {name: value for name, value in self.fields.items() if not isinstance(value, Rename)}
        fields = {name: value for name, value in {**standard, **given}.items() if value is not None}
        sent = {self._names.get(name, name): self._bounded(name, value) for name, value in fields.items()}
        sent.pop("", None)  # what is left out is renamed to nothing
        return {"model": model, "messages": messages, **sent}

    def content(self, picture: str, text: str) -> list[dict[str, Any]]:
        """Return a user's message: a picture, as a data URI, and a text.

        The picture comes first: an image's requests then share a prefix that the server may keep.
        """
        url: Any = picture if self._plain_url else {"url": picture, **({"detail": "auto"} if self._detail else {})}
        return [{"type": "image_url", "image_url": url}, {"type": "text", "text": text}]

    def learn(self, error: AttemptError, sent: Mapping[str, Any]) -> bool:
        """Change what is sent as a refusal asks, and return whether there is anything to do differently.

        Args:
            error: the refusal of the request ``sent``.
            sent: the body that was refused.
        """
        if error.status not in _LEARNS_FROM:
            return False
        # Gateways put the words of the server behind them, JSON as well, into a string of their own.
        said = error.said.replace('\\"', '"')
        learnt = self._learn_form(said) or self._learn_field(said, sent) or self._learn_size(said, error.status)
        if not learnt:
            return False
        self.version += 1
        self.notices.append(f"{learnt}, for it answered: {error.failure.message}")
        return True

    def _learn_field(self, said: str, sent: Mapping[str, Any]) -> str:
        """Change the fields that a refusal names."""
        if "context" in said:  # the picture and the request alone are too long, whatever the field that is named
            return ""
        named = [name for name in sent if name not in _FIXED and _names(said, name)]
        # Where the server points at one field, others may be named as well, as advice.
        param = re.search(r'"param"\s*:\s*"(\w+)"', said)
        named = [param[1]] if param and param[1] in named else named
        own = {sent_as: name for name, sent_as in self._names.items() if sent_as}
        done = []
        for sent_as in named:
            name = own.get(sent_as, sent_as)
            if name in self.fields:
                continue  # the user's own word stands, and the refusal is told
            other = next((one for match in _ANOTHER_NAME.finditer(said) for one in match.groups() if one), "")
            if not other and sent_as == "max_tokens" and _COMPLETION_TOKENS in said:
                other = _COMPLETION_TOKENS
            # The least change that the words allow: a limit to the value, another name, and only then without it.
            if bound := self._learn_bound(name, sent[sent_as], said):
                done.append(bound)
            elif other and other not in sent:
                self._names[name] = other
                done.append(f"sends {other} in place of {sent_as}")
            else:
                self._names[name] = ""
                done.append(f"leaves out {sent_as}")
        return " and ".join(done)

    def _learn_bound(self, name: str, value: object, said: str) -> str:
        if not isinstance(value, int | float) or isinstance(value, bool):
            return ""
        low, high = self._bounds.get(name, (float("-inf"), float("inf")))
        most, least = _AT_MOST.search(said), _AT_LEAST.search(said)
        if most and float(most[1]) < value:
            self._bounds[name] = low, float(most[1])
            return f"keeps {name} to {most[1]} at most"
        if least and float(least[1]) > value:
            self._bounds[name] = float(least[1]), high
            return f"keeps {name} to {least[1]} at least"
        return ""

    def _bounded(self, name: str, value: Any) -> Any:
        if name not in self._bounds:
            return value
        low, high = self._bounds[name]
        if name == "seed":  # cut off, all would be the same
            return value % (int(high) + 1) if value > high else value
        return type(value)(min(max(value, low), high))

    def _learn_size(self, said: str, status: int) -> str:
        """Make pictures smaller or larger where a refusal speaks of their size."""
        if status != 413 and (_COUNT.search(said) or not (_PICTURE.search(said) or _SIDES.search(said))):
            return ""
        # A complaint about a large picture may hold such words as well, beside those of what is too large.
        small = _TOO_SMALL.search(said)
        if small and status != 413 and not re.search(r"too (?:large|big)|exceed", said, re.IGNORECASE):
            # One more, for DashScope wants sides "larger than" the number that it names.
            side = int(float(small[1])) + 1 if small[1] else _SMALLEST_SIDE
            if self.shortest_side < side <= 1024:
                self.shortest_side = side
                return f"sends pictures with at least {side} pixels on the shorter side"
        if status == 413 or _TOO_LARGE.search(said):
            sides = _SIDES.search(said)
            side = min(int(one) for one in sides.groups() if one) if sides else 0
            # The size that is named may be that of the picture itself: then half of what was sent.
            if not _SMALLEST_SIDE <= side < self.longest_side:
                side = self.longest_side // 2
            if side >= _SMALLEST_SIDE:
                self.longest_side = side
                return f"sends pictures with at most {side} pixels on the longer side"
        return ""

    def _learn_form(self, said: str) -> str:
        """Write the picture in the form that a refusal asks for."""
        if "image_url" not in said:
            return ""
        if "detail" in said and re.search(r"required|missing", said, re.IGNORECASE) and not self._detail:
            self._detail = True
            return "sends the detail of pictures as auto"
        if re.search(r"valid string|a string|string_type|into .{0,60}string", said) and not self._plain_url:
            self._plain_url = True
            return "sends the picture as a plain string"
        return ""


def _names(said: str, name: str) -> bool:
    """Tell whether a refusal names a field, in camel case too, or asks for its other name."""
    if name == "max_tokens" and _COMPLETION_TOKENS in said:
        return True
    return re.search(rf"(?<![a-z]){name.replace('_', '_?')}(?![a-z])", said, re.IGNORECASE) is not None


async def ask(
    connection: Connection, dialect: Dialect, model: str, messages: Callable[[], object], standard: Mapping[str, Any]
) -> Caption:
    """Ask for one chat completion, again as often as a refusal says what the server would take instead.

    Args:
        connection: to the server.
        dialect: of the server; learns.
        model: as the server calls it.
        messages: the conversation in the present dialect.
        standard: fields as of `Dialect.body`.

    Raises:
        AttemptError: there is no answer, or it cannot be read.
    """
    while True:  # every turn has learnt something, and there is little to learn
        version = dialect.version
        body = dialect.body(model, messages(), standard)
        try:
            return read_answer(await connection.request("POST", "/chat/completions", body), connection)
        except AttemptError as error:
            # A request beside this one may have learnt the same meanwhile: then only to ask as is now known.
            if version == dialect.version and not dialect.learn(error, body):
                raise _with_own_fields(error, dialect) from None


def _with_own_fields(error: AttemptError, dialect: Dialect) -> AttemptError:
    """Return the error; fatal, with the name of the option, where a field of the user's is what was refused."""
    refused = [name for name in dialect.fields if re.search(rf"(?<!\w){name}(?!\w)", error.said)]
    if not refused or error.status not in _LEARNS_FROM:
        return error
    message = f"{error.failure.message}; see --field {refused[0]}"
    return AttemptError(
        replace(error.failure, kind="refused-field", message=message, permanent=True, fatal=True), passing=False
    )


def read_answer(answer: Mapping[str, Any], connection: Connection) -> Caption:
    """Read the body of a chat completion.

    Raises:
        AttemptError: there is no choice in it.
    """
    choices = answer.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    message = first.get("message") if isinstance(first, dict) else None
    if first is None or not isinstance(message, dict):
        error = answer.get("error")
        said = f": {connection.key.redact(str(error))}" if error else ""
        failure = CaptionFailure("no-choices", f"{connection.place}: an answer without a choice{said}")
        busy = isinstance(error, dict) and error.get("code") in (429, 503)  # some gateways say so with status 200
        raise AttemptError(failure, passing=True, too_many=busy)
    reason = str(first.get("finish_reason") or "")
    return Caption(_text(message), usage=_usage(answer.get("usage")), finish_reason=reason)


def _text(message: Mapping[str, Any]) -> str:
    """Return the text of a message; a refusal is one too, for the cleaning rules to judge.

    Servers put a model's thoughts into fields of their own. Where there is nothing else, they stand in for the answer
    as thoughts, which the cleaning rules take off: an empty answer, whose example shows why it is empty.
    """
    text = _parts(message.get("content")) or _parts(message.get("refusal"))
    thoughts = _parts(message.get("reasoning_content")) or _parts(message.get("reasoning"))
    return text or (f"<think>{thoughts}</think>" if thoughts.strip() else "")


def _parts(content: object) -> str:
    """Return the text of a content (a string, a part, or a list of them) without thoughts and pictures."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(map(_parts, content))
    if isinstance(content, dict) and content.get("type", "text") in ("text", "output_text", "refusal"):
        return _parts(content.get("text") or content.get("content") or content.get("refusal"))
    return ""


def _usage(usage: object) -> Usage:
    counts = usage if isinstance(usage, dict) else {}
    prompt, completion = counts.get("prompt_tokens"), counts.get("completion_tokens")
    return Usage(prompt if isinstance(prompt, int) else 0, completion if isinstance(completion, int) else 0)
