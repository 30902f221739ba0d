"""What came back from an OpenAI-compatible server: a caption, or a failure with a name and without secrets."""

import contextlib
import json
import re
import time
from dataclasses import replace
from email.utils import parsedate_to_datetime
from typing import Any

import httpx2
import openai

from textreid.captioning.captioner import Caption, CaptionFailure, Usage

_TOO_MANY = (429, 503)
_PASSING = (408, 409, 425)
_LONGEST_MESSAGE = 300  # characters
_KEY_LIKE = re.compile(r"\b(sk|pk|key|hf|gsk|xai|api)[-_][\w*-]{8,}")


class Secret:
    """A key that does not show."""

    def __init__(self, value: str) -> None:
        self.value = value

    def __repr__(self) -> str:
        return "Secret([key])"

    def redact(self, text: str) -> str:
        """``text`` on one line, cut to 300 characters, without the key and what looks like a part of one."""
        if self.value:
            text = text.replace(self.value, "[key]")
        text = " ".join(_KEY_LIKE.sub("[key]", text).split())
        return text if len(text) <= _LONGEST_MESSAGE else text[:_LONGEST_MESSAGE] + "…"


class AttemptError(Exception):
    """An attempt that gave no caption.

    Attributes:
        failure: what is reported if no other attempt does better.
        passing: whether another attempt may do better.
        too_many: whether the server said that it has too much to do.
        retry_after: seconds to wait before another attempt, as the server asked.
    """

    def __init__(
        self, failure: CaptionFailure, passing: bool, too_many: bool = False, retry_after: float = 0.0
    ) -> None:
        super().__init__(f"{failure.kind}: {failure.message}")
        self.failure = failure
        self.passing = passing
        self.too_many = too_many
        self.retry_after = retry_after

    def at_first_contact(self) -> CaptionFailure | None:
        """What it means before anything was answered; None where the server is there and the trouble may pass."""
        if self.passing and self.failure.kind not in ("no-connection", "not-json"):
            return None
        return replace(self.failure, permanent=True, fatal=True)

    def with_models(self, names: tuple[str, ...], model: str, url: str) -> "AttemptError":
        """The same, naming what the server serves if it does not know the model."""
        if self.failure.kind not in ("not-found", "http-400", "http-422"):
            return self
        serves = f"it serves: {', '.join(names[:20])}" if names else "is the URL right, up to /v1?"
        message = f"{url} does not know the model {model!r} ({self.failure.message}); {serves}"
        return AttemptError(replace(self.failure, kind="unknown-model", message=message), passing=False)


def failure_of(error: openai.OpenAIError, url: str, secret: Secret) -> AttemptError:
    """What an error of the client means."""
    if isinstance(error, openai.APIStatusError):
        return _of_status(error, url, secret)
    if isinstance(error, openai.APITimeoutError):
        return AttemptError(CaptionFailure("time-out", f"{url}: no answer in time"), passing=True)
    reason = secret.redact(str(error.__cause__ or error) or type(error).__name__)
    if isinstance(error, openai.APIConnectionError):
        message = f"{url}: no connection, or it was cut: {reason}; is the server there, and is the URL right?"
        return AttemptError(CaptionFailure("no-connection", message), passing=True)
    return AttemptError(CaptionFailure("client-error", f"{url}: {reason}", permanent=True), passing=False)


def _of_status(error: openai.APIStatusError, url: str, secret: Secret) -> AttemptError:
    status, headers = error.status_code, error.response.headers
    said = secret.redact(_message(error))
    if status in (401, 403):
        message = f"{url} does not accept the key (HTTP {status}: {said}); set the environment variable that holds it"
        return AttemptError(CaptionFailure("refused-key", message, permanent=True, fatal=True), passing=False)
    if status == 404:
        return AttemptError(CaptionFailure("not-found", f"{url}: HTTP 404: {said}"), passing=False)
    if 300 <= status < 400:
        message = f"{url} redirects to {secret.redact(headers.get('location', '?'))}; give the final URL"
        return AttemptError(CaptionFailure(f"http-{status}", message, permanent=True, fatal=True), passing=False)
    failure = CaptionFailure(f"http-{status}", f"{url}: HTTP {status}: {said}")
    if status in _TOO_MANY:
        return AttemptError(failure, passing=True, too_many=True, retry_after=_retry_after(headers))
    if status >= 500 or status in _PASSING:
        return AttemptError(failure, passing=True, retry_after=_retry_after(headers))
    return AttemptError(replace(failure, permanent=True), passing=False)


def _message(error: openai.APIStatusError) -> str:
    """What the server says, be it JSON in one of the usual forms, text or a web page."""
    body: Any = error.body
    if isinstance(body, dict):
        return str(body.get("message") or body.get("detail") or body.get("error") or body)
    if "html" in error.response.headers.get("content-type", ""):
        return "a web page"
    return error.response.text


def _retry_after(headers: httpx2.Headers, now: float | None = None) -> float:
    """Seconds that the server asks to wait, 0 if it does not: ``Retry-After`` in seconds or as a date, or in ms."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        with contextlib.suppress(ValueError, OverflowError):
            seconds = float(headers.get(name, "")) * unit
            return seconds if seconds >= 0 else 0.0  # not a number becomes 0, too
    with contextlib.suppress(ValueError):
        until = parsedate_to_datetime(headers.get("retry-after", "")).timestamp()
        return max(0.0, until - (time.time() if now is None else now))
    return 0.0


def read_answer(url: str, content_type: str, body: str) -> Caption:
    """The caption in the body of a chat completion.

    Raises:
        AttemptError: the body is something else, or the answer was cut off or withheld.
    """
    answer = _read_json(url, content_type, body)
    choices = answer.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    message = first.get("message") if isinstance(first, dict) else None
    if first is None or not isinstance(message, dict):
        said = f": {answer['error']}" if answer.get("error") else ""
        raise AttemptError(CaptionFailure("no-choices", f"{url}: an answer without a choice{said}"[:500]), passing=True)
    if first.get("finish_reason") == "length":
        raise AttemptError(
            CaptionFailure("cut-off", f"{url}: the answer reached the most tokens allowed; raise max_tokens"),
            passing=False,
        )
    if first.get("finish_reason") == "content_filter":
        raise AttemptError(CaptionFailure("withheld", f"{url}: its content filter withheld the answer"), passing=False)
    return Caption(_text(message), usage=_usage(answer.get("usage")))


def read_models(url: str, content_type: str, body: str) -> tuple[str, ...]:
    """The names in the body of a list of models.

    Raises:
        AttemptError: the body is something else.
    """
    data = _read_json(url, content_type, body).get("data")
    entries = data if isinstance(data, list) else []
    return tuple(str(entry["id"]) for entry in entries if isinstance(entry, dict) and "id" in entry)


def _read_json(url: str, content_type: str, body: str) -> dict[str, Any]:
    if "json" not in content_type:
        message = f"{url} answers with {content_type or 'no content type'}, not JSON; is the URL right, up to /v1?"
        raise AttemptError(CaptionFailure("not-json", message), passing=True)
    try:
        value = json.loads(body)
    except ValueError:
        raise AttemptError(CaptionFailure("broken-json", f"{url}: an answer that is not whole JSON"), True) from None
    if not isinstance(value, dict):
        raise AttemptError(CaptionFailure("broken-json", f"{url}: an answer that is no JSON object"), True)
    return value


def _text(message: dict[str, Any]) -> str:
    """The text of a message; a refusal is one too, for the cleaning rules to judge."""
    content = message.get("content") or message.get("refusal") or ""
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return str(content)


def _usage(usage: object) -> Usage:
    counts = usage if isinstance(usage, dict) else {}
    prompt, completion = counts.get("prompt_tokens"), counts.get("completion_tokens")
    return Usage(prompt if isinstance(prompt, int) else 0, completion if isinstance(completion, int) else 0)
