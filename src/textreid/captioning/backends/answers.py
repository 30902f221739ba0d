"""What came back from an OpenAI-compatible server: a caption, or a failure with a name and without secrets."""

import contextlib
import json
import time
from dataclasses import replace
from email.utils import parsedate_to_datetime
from typing import Any

import httpx2

from textreid.captioning.backends.keys import Key
from textreid.captioning.requests import Caption, CaptionFailure, Usage

_TOO_MANY = (429, 503)
_PASSING = (408, 409, 425)


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


def failure_of(error: httpx2.HTTPError, url: str, key: Key) -> AttemptError:
    """What it means that there was no answer."""
    if isinstance(error, httpx2.TimeoutException) and not isinstance(error, httpx2.ConnectTimeout):
        return AttemptError(CaptionFailure("time-out", f"{url}: no answer in time"), passing=True)
    reason = key.redact(str(error) or type(error).__name__)
    message = f"{url}: no connection, or it was cut: {reason}; is the server there, and is the URL right?"
    return AttemptError(CaptionFailure("no-connection", message), passing=True)


def refusal_of(response: httpx2.Response, url: str, key: Key) -> AttemptError:
    """What an answer means whose status is not that of a success."""
    status, headers = response.status_code, response.headers
    said = key.redact(_message(response))
    if status in (401, 403):
        message = f"{url} does not accept the request (HTTP {status}: {said}); {key.advice}"
        return AttemptError(CaptionFailure("refused-key", message, permanent=True, fatal=True), passing=False)
    if status == 404:
        return AttemptError(CaptionFailure("not-found", f"{url}: HTTP 404: {said}"), passing=False)
    if 300 <= status < 400:
        message = f"{url} redirects to {key.redact(headers.get('location', '?'))}; give the final URL"
        return AttemptError(CaptionFailure(f"http-{status}", message, permanent=True, fatal=True), passing=False)
    failure = CaptionFailure(f"http-{status}", f"{url}: HTTP {status}: {said}")
    if status in _TOO_MANY:
        return AttemptError(failure, passing=True, too_many=True, retry_after=_retry_after(headers))
    if status >= 500 or status in _PASSING:
        return AttemptError(failure, passing=True, retry_after=_retry_after(headers))
    return AttemptError(replace(failure, permanent=True), passing=False)


def _message(response: httpx2.Response) -> str:
    """What the server says, be it JSON in one of the usual forms, text or a web page."""
    if "html" in response.headers.get("content-type", ""):
        return "a web page"
    try:
        body: Any = json.loads(response.content)
    except ValueError:
        return response.text
    error = body.get("error") if isinstance(body, dict) else None
    if isinstance(error, dict):
        body = error
    if isinstance(body, dict):
        return str(body.get("message") or body.get("detail") or error or body)
    return response.text


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


def read_answer(url: str, response: httpx2.Response, key: Key) -> Caption:
    """The caption in the body of a chat completion.

    Raises:
        AttemptError: the body is something else, or the answer was cut off or withheld.
    """
    answer = _read_json(url, response)
    choices = answer.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    message = first.get("message") if isinstance(first, dict) else None
    if first is None or not isinstance(message, dict):
        said = f": {key.redact(str(answer['error']))}" if answer.get("error") else ""
        raise AttemptError(CaptionFailure("no-choices", f"{url}: an answer without a choice{said}"), passing=True)
    if first.get("finish_reason") == "length":
        raise AttemptError(
            CaptionFailure("cut-off", f"{url}: the answer reached the most tokens allowed; raise --max-tokens"),
            passing=False,
        )
    if first.get("finish_reason") == "content_filter":
        raise AttemptError(CaptionFailure("withheld", f"{url}: its content filter withheld the answer"), passing=False)
    return Caption(_text(message), usage=_usage(answer.get("usage")))


def read_models(url: str, response: httpx2.Response) -> tuple[str, ...]:
    """The names in the body of a list of models.

    Raises:
        AttemptError: the body is something else.
    """
    data = _read_json(url, response).get("data")
    entries = data if isinstance(data, list) else []
    return tuple(str(entry["id"]) for entry in entries if isinstance(entry, dict) and "id" in entry)


def _read_json(url: str, response: httpx2.Response) -> dict[str, Any]:
    content_type = response.headers.get("content-type", "")
    if "json" not in content_type:
        message = f"{url} answers with {content_type or 'no content type'}, not JSON; is the URL right, up to /v1?"
        raise AttemptError(CaptionFailure("not-json", message), passing=True)
    try:
        value = json.loads(response.content)
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
