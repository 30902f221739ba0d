"""MLLMs behind the OpenAI protocol: vLLM, SGLang, Ollama, LM Studio, clouds."""

import asyncio
import json
import random
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx2

from textreid.captioning.backends.adaptive_limit import AdaptiveLimit
from textreid.captioning.backends.answers import AttemptError, failure_of, read_answer, read_models, refusal_of
from textreid.captioning.backends.endpoint import Dispatcher, Endpoint, EndpointDownError, Permit
from textreid.captioning.backends.keys import key_for
from textreid.captioning.backends.picture import data_uri, encode_picture
from textreid.captioning.requests import Caption, CaptionFailure, Request
from textreid.errors import ConfigError, ImageError
from textreid.version import __version__

_FIRST_CONTACT_ATTEMPTS = 3
_T = TypeVar("_T")


@dataclass(frozen=True)
class ServingOptions:
    """How an MLLM is asked; every default suits a local vLLM.

    Attributes:
        longest_side: pixels of the longer side of the picture that is sent, at most.
        max_tokens: of an answer.
        temperature: of sampling; None leaves it to the server.
        extra: more fields of the request's body, such as ``{"top_p": 0.9}``.
        timeout: seconds for one attempt.
        tries: at one request, when it fails for a passing reason; time in which no endpoint is up counts for none.
        backoff: seconds before the second attempt, at most; doubles with each.
        longest_wait: seconds between two attempts, at most; a server that asks for more has refused.
        outage: seconds without any endpoint after which requests fail.
        start_limit: requests under way at an endpoint when nothing is known of it.
        largest_limit: requests under way at an endpoint, at most.
    """

    longest_side: int = 448
    max_tokens: int = 160
    temperature: float | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    timeout: float = 120.0
    tries: int = 8
    backoff: float = 0.5
    longest_wait: float = 60.0
    outage: float = 600.0
    start_limit: int = 16
    largest_limit: int = 1024


class OpenAICompatible:
    """One model at any number of endpoints that speak the OpenAI protocol.

    Keys are read from the environment (see `keys.key_for`) and leave this object in ``Authorization`` headers only.

    Args:
        name: of the captioner: ``"qwen"`` in the slot ``"qwen/static"``.
        model: as the server calls it.
        urls: of the endpoints, up to and with ``/v1``.
        options: how to ask.

    Raises:
        ConfigError: no URL, a URL that is none or holds a secret, or a key that no header can carry.
    """

    def __init__(
        self,
        name: str,
        model: str,
        urls: Sequence[str],
        options: ServingOptions | None = None,
    ) -> None:
        self.name = name
        self.model = model
        self.options = options or ServingOptions()
        self.endpoints = tuple(
            Endpoint(_checked(url), AdaptiveLimit(self.options.start_limit, self.options.largest_limit))
            for url in dict.fromkeys(urls)
        )
        if not self.endpoints:
            raise ConfigError(f"{name}: no URL of an endpoint; write one such as http://localhost:8000/v1")
        self._dispatcher = Dispatcher(self.endpoints, self.options.outage)
        self._connections = {endpoint: _Lines(name, endpoint.url, self.options.timeout) for endpoint in self.endpoints}
        self._contact: asyncio.Task[CaptionFailure | None] | None = None

    def __repr__(self) -> str:
        return f"OpenAICompatible({self.name!r}, {self.model!r}, {[endpoint.url for endpoint in self.endpoints]})"

    async def caption(self, image: Path, requests: Sequence[Request]) -> list[Caption | CaptionFailure]:
        """Answer every request about ``image``, sent together to one endpoint where that has room.

        The first call asks each endpoint whether it is there, takes the key and has the model; if one does not, that
        failure, which is fatal, is the answer to every request.
        """
        wrong = await self.first_contact()
        if wrong:
            return [wrong] * len(requests)
        try:
            picture = data_uri(await asyncio.to_thread(encode_picture, image, self.options.longest_side))
        except ImageError as error:
            return [CaptionFailure("unreadable-image", str(error), permanent=True)] * len(requests)
        with self._dispatcher.preferred() as preferred:
            return list(await asyncio.gather(*(self._answer(picture, request, preferred) for request in requests)))

    async def first_contact(self) -> CaptionFailure | None:
        """What makes it useless to send requests: the failure of the first endpoint that has one, or None."""
        if self._contact is None:
            self._contact = asyncio.create_task(self._contact_all())
        return await asyncio.shield(self._contact)

    def outcomes(self) -> dict[str, dict[str, int]]:
        """How many requests to each endpoint ended how: ``{url: {"ok": 10, "http-429": 1}}``."""
        return {endpoint.url: dict(endpoint.outcomes) for endpoint in self.endpoints}

    async def aclose(self) -> None:
        """Close the connections; no request is under way."""
        for lines in self._connections.values():
            await lines.aclose()

    async def _answer(self, picture: str, request: Request, preferred: Endpoint) -> Caption | CaptionFailure:
        # The picture comes first: an image's requests then share a prefix that the server may keep.
        content: list[dict[str, Any]] = [
            {"type": "image_url", "image_url": {"url": picture}},
            {"type": "text", "text": request.instruction.text},
        ]
        try:
            return await self._retrying(self.options.tries, lambda: self._attempt(content, request.seed, preferred))
        except AttemptError as error:
            return error.failure
        except EndpointDownError:
            down = ", ".join(endpoint.url for endpoint in self.endpoints)
            return CaptionFailure("endpoint-down", f"no answer for {self.options.outage:g} s: {down}")

    async def _retrying(self, attempts: int, attempt: Callable[[], Awaitable[_T]]) -> _T:
        """The result of the first ``attempt`` that succeeds; what is not passing, or the last failure, is raised."""
        for number in range(attempts - 1):
            try:
                return await attempt()
            except AttemptError as error:
                if not error.passing or error.retry_after > self.options.longest_wait:
                    raise
                backoff = min(self.options.longest_wait, self.options.backoff * 2**number)
                await asyncio.sleep(error.retry_after + random.uniform(0, backoff))  # noqa: S311 - jitter
        return await attempt()

    async def _attempt(self, content: Sequence[Mapping[str, Any]], seed: int, preferred: Endpoint) -> Caption:
        permit = await self._dispatcher.acquire(preferred)
        endpoint = permit.endpoint
        try:
            caption = await self._ask(endpoint, content, seed)
        except AttemptError as error:
            endpoint.outcomes[error.failure.kind] += 1
            self._note(permit, error)
            raise
        else:
            endpoint.outcomes["ok"] += 1
            endpoint.answered(permit.number, time.monotonic() - permit.started)
            return caption
        finally:
            self._dispatcher.release(permit)

    @staticmethod
    def _note(permit: Permit, error: AttemptError) -> None:
        now = time.monotonic()
        if error.too_many:
            permit.endpoint.refused(permit.number, error.retry_after, now)
        elif error.passing:
            permit.endpoint.failed(permit.number, now, timed_out=error.failure.kind == "time-out")
        else:
            permit.endpoint.recovered()

    async def _ask(self, endpoint: Endpoint, content: object, seed: int, max_tokens: int | None = None) -> Caption:
        body = {
            "model": self.model,
            "messages": [{"role": "user", "content": content}],
            "seed": seed,
            "max_tokens": max_tokens or self.options.max_tokens,
            **({} if self.options.temperature is None else {"temperature": self.options.temperature}),
            **self.options.extra,
        }
        lines = self._connections[endpoint]
        response = await lines.request("POST", "/chat/completions", json.dumps(body).encode())
        return read_answer(endpoint.url, response, lines.key)

    async def _contact_all(self) -> CaptionFailure | None:
        failures = await asyncio.gather(*(self._contact_one(endpoint) for endpoint in self.endpoints))
        return next((failure for failure in failures if failure), None)

    async def _contact_one(self, endpoint: Endpoint) -> CaptionFailure | None:
        """None too where the endpoint is there but has trouble that may pass."""
        try:
            await self._retrying(_FIRST_CONTACT_ATTEMPTS, lambda: self._ask_for_the_model(endpoint))
        except AttemptError as error:
            return error.at_first_contact()
        return None

    async def _ask_for_the_model(self, endpoint: Endpoint) -> None:
        names: tuple[str, ...] = ()
        try:
            names = read_models(endpoint.url, await self._connections[endpoint].request("GET", "/models"))
        except AttemptError as error:
            if error.failure.kind != "not-found":  # not every server lists its models
                raise
        if self.model in names:
            return
        try:
            await self._ask(endpoint, "Say yes.", seed=0, max_tokens=1)
        except AttemptError as error:
            raise error.with_models(names, self.model, endpoint.url) from None


class _Lines:
    """The connections to one endpoint, each with a client of its own: a shared one looks through all at every request.

    Only the dispatcher decides how many there are.
    """

    def __init__(self, name: str, url: str, timeout: float) -> None:
        self.url = url
        self.key = key_for(name, url)
        self._timeout = httpx2.Timeout(timeout, connect=min(10.0, timeout))
        self._certificates = httpx2.create_ssl_context()
        self._idle: list[httpx2.AsyncClient] = []

    async def request(self, method: str, path: str, body: bytes | None = None) -> httpx2.Response:
        """What the endpoint answers.

        Raises:
            AttemptError: nothing, or that it does not want to.
        """
        with self._line() as client:
            try:
                response = await client.request(method, self.url + path, content=body)
            except httpx2.HTTPError as error:
                raise failure_of(error, self.url, self.key) from None
        if not response.is_success:
            raise refusal_of(response, self.url, self.key)
        return response

    async def aclose(self) -> None:
        for client in self._idle:
            await client.aclose()

    @contextmanager
    def _line(self) -> Iterator[httpx2.AsyncClient]:
        client = self._idle.pop() if self._idle else self._new()
        try:
            yield client
        finally:
            self._idle.append(client)

    def _new(self) -> httpx2.AsyncClient:
        headers = {"content-type": "application/json", "user-agent": f"textreid/{__version__}", **self.key.headers}
        limits = httpx2.Limits(max_connections=1)
        return httpx2.AsyncClient(headers=headers, timeout=self._timeout, limits=limits, verify=self._certificates)


def _checked(url: str) -> str:
    """The URL without a slash at its end."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host, parts = None, urlsplit("")
    if parts.username or parts.password or parts.query:
        # The URL itself must not be repeated here.
        raise ConfigError(f"the URL of {parts.hostname or 'an endpoint'} holds a user, password or query; "
                          "put the key into an environment variable")  # fmt: skip
    if parts.scheme not in ("http", "https") or not host:
        raise ConfigError(f"{url!r} is not the URL of an endpoint; write one such as http://localhost:8000/v1")
    return url.rstrip("/")
