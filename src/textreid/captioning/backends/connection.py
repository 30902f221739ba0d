"""The HTTP client for language models: one JSON question to a server, and its JSON answer or an error with a name.

Whatever a server sends in place of an answer becomes an `AttemptError`, which says whether asking again may help and
holds no secret.
"""

import asyncio
import contextlib
import json
import random
import re
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import httpx2

from textreid.captioning.backends.addresses import Key, checked_url, proxy_for
from textreid.captioning.requests import CaptionFailure
from textreid.version import __version__

_T = TypeVar("_T")
_TOO_MANY = (429, 503)  # 503 is what nginx says above its limits unless told otherwise
_PASSING = (408, 409, 425)  # 409: OpenAI's own client takes it for a lock that was not to be had in time
# Kinds of answers that came, but cannot be read: a first contact of this kind, or nothing but such, is an error.
UNREADABLE = frozenset({"not-json", "not-unpacked", "broken-json", "not-utf-8", "no-choices"})
_SHOWN = 80  # characters of an answer that is not one
# What vLLM, llama.cpp, Ollama, LM Studio, OpenAI and others say of a picture for a model that sees none.
_NO_PICTURES = re.compile(
    r"(?:image|vision)(?: input)?s? (?:is|are) not (?:supported|enabled)"
    r"|not support(?:ed)? (?:the )?(?:image|vision|multimodal|picture)"
    r"|not a (?:multimodal|vision) model|at most 0 image|image_url is only supported"
    r"|unsupported content part type|cannot unmarshal array into .{0,80}content|no vision (?:model|support)"
    r"|missing data required for image input",
    re.IGNORECASE,
)
# Some servers say so with 404 or 500; asking again would not help, and leaving the field out does.
_REFUSES_A_FIELD = re.compile(
    r"unexpected keyword|extra (?:input|field)s?\b"
    r"|(?:unknown|unrecogni[sz]ed|unsupported|invalid) (?:request )?(?:field|parameter|argument|name|key)"
    r"|(?:field|parameter|argument)s? (?:\S+ )?(?:is |are )?not (?:supported|permitted|allowed|recogni[sz]ed)",
    re.IGNORECASE,
)


class AttemptError(Exception):
    """An attempt that gave no answer.

    Attributes:
        failure: what is reported if no other attempt does better.
        passing: whether another attempt may do better.
        too_many: whether the server said that it has too much to do.
        retry_after: seconds to wait before another attempt, as the server asked.
        status: of an HTTP answer that refuses, else 0.
        said: the words of a refusal, whole, for `Dialect` to learn from; not to be shown.
    """

    def __init__(
        self,
        failure: CaptionFailure,
        passing: bool,
        too_many: bool = False,
        retry_after: float = 0.0,
        status: int = 0,
        said: str = "",
    ) -> None:
        super().__init__(f"{failure.kind}: {failure.message}")
        self.failure = failure
        self.passing = passing
        self.too_many = too_many
        self.retry_after = retry_after
        self.status = status
        self.said = said

    def at_first_contact(self) -> CaptionFailure | None:
        """Return what it means before anything was answered; None where the server is there and it may pass."""
        if self.passing and self.failure.kind not in UNREADABLE | {"no-connection"}:
            return None
        return replace(self.failure, permanent=True, fatal=True)

    def with_models(self, names: tuple[str, ...], model: str, place: str) -> "AttemptError":
        """Return the error, naming what the server serves if it does not know the model."""
        if self.failure.kind not in ("not-found", "http-400", "http-422"):
            return self
        serves = f"it serves: {', '.join(names[:20])}" if names else "is the URL right, up to /v1?"
        message = f"{place} does not know the model {model!r} ({self.failure.message}); {serves}"
        return AttemptError(replace(self.failure, kind="unknown-model", message=message), passing=False)


class Connection:
    """The HTTP connections to one server.

    Each request that is under way has a client of its own: a shared one looks through all its connections at every
    request. How many are under way is the caller's decision.

    Args:
        url: of the API, up to and with ``/v1``.
        key: for the server.
        timeout: seconds for one request.

    Attributes:
        place: the server, and the proxy on the way to it, as errors name them.

    Raises:
        ConfigError: the URL, or a proxy of the environment, cannot be used.
    """

    def __init__(self, url: str, key: Key, timeout: float) -> None:
        self.url = checked_url(url)
        self.key = key
        self._proxy = proxy_for(self.url)
        self.place = f"{self.url} (through the proxy {self._proxy})" if self._proxy else self.url
        # An answer may be long in the making; a server that does not take the connection is not there.
        self._timeout = httpx2.Timeout(timeout, connect=min(10.0, timeout))
        # Once for all clients: reading the certificates takes some 40 ms.
        self._certificates = httpx2.create_ssl_context()
        self._idle: list[httpx2.AsyncClient] = []

    async def request(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Send ``body`` as JSON and return the JSON object that comes back.

        Raises:
            AttemptError: nothing came back, a refusal, or something that is not a JSON object.
        """
        content = None if body is None else json.dumps(body).encode()
        with self._client() as client:
            try:
                response = await client.request(method, self.url + path, content=content)
            except httpx2.HTTPError as error:
                raise self._no_answer(error) from None
        if not response.is_success:
            raise self._refusal(response)
        return self._object(response)

    async def aclose(self) -> None:
        """Close the connections; no request is under way."""
        for client in self._idle:
            await client.aclose()
        self._idle.clear()

    @contextmanager
    def _client(self) -> Iterator[httpx2.AsyncClient]:
        client = self._idle.pop() if self._idle else self._new()
        try:
            yield client
        finally:
            self._idle.append(client)

    def _new(self) -> httpx2.AsyncClient:
        headers = {"content-type": "application/json", "user-agent": f"textreid/{__version__}", **self.key.headers}
        return httpx2.AsyncClient(
            headers=headers, timeout=self._timeout, limits=httpx2.Limits(max_connections=1),
            verify=self._certificates, proxy=self._proxy.url if self._proxy else None,
            trust_env=False,  # it would send requests to this machine through a proxy
        )  # fmt: skip

    def _no_answer(self, error: httpx2.HTTPError) -> AttemptError:
        if isinstance(error, httpx2.DecodingError):
            message = (
                f"{self.place}: an answer that is not compressed as its header says: {self.key.redact(str(error))}"
            )
            return AttemptError(CaptionFailure("not-unpacked", message), passing=True)
        # A server that is slow may be waited for, one that takes no connection is an error at first contact.
        if isinstance(error, httpx2.TimeoutException) and not isinstance(error, httpx2.ConnectTimeout):
            return AttemptError(CaptionFailure("time-out", f"{self.place}: no answer in time"), passing=True)
        reason = self.key.redact(str(error) or type(error).__name__)
        ask = f"is the proxy {self._proxy} there, and" if self._proxy else "is the server there, and"
        message = f"{self.place}: no connection, or it was cut: {reason}; {ask} is the URL right?"
        return AttemptError(CaptionFailure("no-connection", message), passing=True)

    def _refusal(self, response: httpx2.Response) -> AttemptError:
        """Say what an answer means whose status is not that of a success."""
        status, headers = response.status_code, response.headers
        said = self.key.redact(_message(response))
        refused = CaptionFailure(f"http-{status}", f"{self.place}: HTTP {status}: {said}")
        fatal = replace(refused, permanent=True, fatal=True)
        if status in (401, 403):
            message = f"{self.place} does not accept the request (HTTP {status}: {said}); {self.key.advice}"
            return AttemptError(replace(fatal, kind="refused-key", message=message), passing=False)
        if status == 407:
            message = f"the proxy {self._proxy} wants a login (HTTP 407); write http://USER:PASSWORD@HOST:PORT"
            return AttemptError(replace(fatal, message=message), passing=False)
        refuses_a_field = _REFUSES_A_FIELD.search(response.text)
        if status == 404 and not refuses_a_field:
            return AttemptError(replace(refused, kind="not-found"), passing=False)
        # Not followed: pictures would go to a place that nobody was told of.
        if 300 <= status < 400:
            message = f"{self.place} redirects to {self.key.redact(headers.get('location', '?'))}; give the final URL"
            return AttemptError(replace(fatal, message=message), passing=False)
        # Before what may pass: llama.cpp and Ollama say this with 500.
        if _NO_PICTURES.search(response.text):
            message = f"{self.place} takes no pictures (HTTP {status}: {said}); serve a model that sees"
            return AttemptError(replace(fatal, kind="no-pictures", message=message), passing=False)
        if status in _TOO_MANY:
            return AttemptError(refused, passing=True, too_many=True, retry_after=_retry_after(headers))
        if (status >= 500 and not refuses_a_field) or status in _PASSING:
            return AttemptError(refused, passing=True, retry_after=_retry_after(headers))
        return AttemptError(replace(refused, permanent=True), passing=False, status=status, said=response.text)

    def _object(self, response: httpx2.Response) -> dict[str, Any]:
        """Return the JSON object of an answer, whatever its header says of it."""
        content, kind = response.content, response.headers.get("content-type", "") or "no content type"
        # By the bytes, for JSON has its own way to tell UTF-8 from UTF-16; then by what the header claims.
        try:
            text = content.decode(json.detect_encoding(content))
        except UnicodeDecodeError:
            try:
                text = content.decode(response.charset_encoding or "utf-8")
            except (UnicodeDecodeError, LookupError):
                message = f"{self.place}: an answer that is not UTF-8 ({kind})"
                raise AttemptError(CaptionFailure("not-utf-8", message), passing=True) from None
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            if text.lstrip().startswith(("{", "[")):
                message = f"{self.place}: an answer that is not whole JSON"
                raise AttemptError(CaptionFailure("broken-json", message), passing=True) from None
            begin = self.key.redact(text)[:_SHOWN]
            advice = "try --field stream=false" if "event-stream" in kind else "is the URL right, up to /v1?"
            message = f"{self.place} answers with {kind}, not JSON: {begin!r}; {advice}"
            raise AttemptError(CaptionFailure("not-json", message), passing=True) from None
        if not isinstance(value, dict):
            message = f"{self.place}: an answer that is not a JSON object"
            raise AttemptError(CaptionFailure("broken-json", message), passing=True)
        return value


async def retrying(tries: int, backoff: float, longest_wait: float, attempt: Callable[[], Awaitable[_T]]) -> _T:
    """Return the result of the first ``attempt`` that succeeds.

    Args:
        tries: attempts, at most.
        backoff: seconds before the second attempt, at most; doubles with each.
        longest_wait: seconds between two attempts, at most; a server that asks for more has refused.
        attempt: what is tried.

    Raises:
        AttemptError: that of the last attempt, or one that is not passing.
    """
    for number in range(tries - 1):
        try:
            return await attempt()
        except AttemptError as error:
            if not error.passing or error.retry_after > longest_wait:
                raise
            wait = min(longest_wait, backoff * 2**number)
            # Anywhere from none of it to all: requests that failed together must not come again together.
            await asyncio.sleep(error.retry_after + random.uniform(0, wait))  # noqa: S311 - jitter
    # Outside, so that the error of the last attempt is raised, and not waited for.
    return await attempt()


def _message(response: httpx2.Response) -> str:
    """Return what the server says: in JSON of one of the usual forms, as text, or as a web page."""
    if "html" in response.headers.get("content-type", ""):
        return "a web page"
    try:
        body: Any = json.loads(response.content)
    except ValueError:
        return response.text
    if isinstance(body, list) and body:  # Gemini wraps its errors in a list
        body = body[0]
    error = body.get("error") if isinstance(body, dict) else None
    if isinstance(error, dict):
        body = error
    if isinstance(body, dict):
        return str(body.get("message") or body.get("detail") or error or body)
    return response.text


def _retry_after(headers: httpx2.Headers, now: float | None = None) -> float:
    """Return the seconds that the server asks to wait, or 0: ``Retry-After`` in seconds or as a date, or in ms."""
    # The first is OpenAI's and Azure's own, and finer than the standard one beside it.
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        with contextlib.suppress(ValueError, OverflowError):
            seconds = float(headers.get(name, "")) * unit
            return seconds if seconds >= 0 else 0.0  # not a number becomes 0, too
    with contextlib.suppress(ValueError):
        until = parsedate_to_datetime(headers.get("retry-after", "")).timestamp()
        return max(0.0, until - (time.time() if now is None else now))
    return 0.0
