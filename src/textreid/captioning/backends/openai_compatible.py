"""MLLMs behind the OpenAI protocol: vLLM, SGLang, Ollama, LM Studio, clouds."""

import asyncio
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import openai
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt
from tenacity.wait import wait_random_exponential

from textreid.captioning.backends.adaptive_limit import AdaptiveLimit
from textreid.captioning.backends.answers import AttemptError, Secret, failure_of, read_answer, read_models
from textreid.captioning.backends.endpoint import Dispatcher, Endpoint, EndpointDownError, Ticket
from textreid.captioning.backends.picture import data_uri, encode_picture
from textreid.captioning.captioner import Caption, CaptionFailure, Request
from textreid.errors import ConfigError, ImageError

KEY_VARIABLE = "OPENAI_API_KEY"
_NO_KEY = "none"  # local servers want none, but the client wants one
_FIRST_CONTACT_ATTEMPTS = 3
_LANES = 16


@dataclass(frozen=True)
class ServingOptions:
    """How an MLLM is asked; every default suits a local vLLM.

    Attributes:
        longest_side: pixels of the longer side of the picture that is sent, at most.
        max_tokens: of an answer.
        temperature: of sampling; None leaves it to the server.
        extra: more fields of the request's body, such as ``{"top_p": 0.9}``.
        timeout: seconds for one attempt.
        attempts: at one request, when it fails for a passing reason; time in which no endpoint is up counts for none.
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
    attempts: int = 8
    backoff: float = 0.5
    longest_wait: float = 60.0
    outage: float = 600.0
    start_limit: int = 16
    largest_limit: int = 1024


class OpenAICompatible:
    """One model at any number of endpoints that speak the OpenAI protocol.

    The key is read from the environment and leaves this object in the ``Authorization`` header only.

    Args:
        name: of the captioner: ``"qwen"`` in the slot ``"qwen/static"``.
        model: as the server calls it.
        urls: of the endpoints, up to and with ``/v1``.
        key_variable: environment variable with the key; `KEY_VARIABLE`, where it is set, when None.
        options: how to ask.

    Raises:
        ConfigError: no URL, a URL that is none or holds a secret, or the environment variable is not set.
    """

    def __init__(
        self,
        name: str,
        model: str,
        urls: Sequence[str],
        key_variable: str | None = None,
        options: ServingOptions | None = None,
    ) -> None:
        self.name = name
        self.model = model
        self.options = options or ServingOptions()
        self._secret = Secret(_read_key(key_variable))
        self.endpoints = tuple(
            Endpoint(_checked(url), AdaptiveLimit(self.options.start_limit, self.options.largest_limit))
            for url in dict.fromkeys(urls)
        )
        if not self.endpoints:
            raise ConfigError(f"{name}: no URL of an endpoint; write one such as http://localhost:8000/v1")
        self._dispatcher = Dispatcher(self.endpoints, self.options.outage)
        self._clients = {endpoint: self._lanes(endpoint) for endpoint in self.endpoints}
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
        with self._dispatcher.home() as home:
            return list(await asyncio.gather(*(self._answer(picture, request, home) for request in requests)))

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
        for lanes in self._clients.values():
            for client in lanes:
                await client.close()

    def _lanes(self, endpoint: Endpoint) -> tuple[openai.AsyncOpenAI, ...]:
        """Clients that share the requests to an endpoint: each looks through all its connections at every request."""
        # The dispatcher alone decides how many connections there are, and tenacity how often to try.
        timeout = httpx2.Timeout(self.options.timeout, connect=min(10.0, self.options.timeout))
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=None)
        certificates = httpx2.create_ssl_context()
        return tuple(
            openai.AsyncOpenAI(
                api_key=self._secret.value or _NO_KEY,
                base_url=endpoint.url,
                timeout=timeout,
                max_retries=0,
                http_client=openai.DefaultAsyncHttpxClient(
                    timeout=timeout, limits=limits, verify=certificates, follow_redirects=False
                ),
            )
            for _ in range(_LANES)
        )

    async def _answer(self, picture: str, request: Request, home: Endpoint) -> Caption | CaptionFailure:
        # The picture comes first: an image's requests then share a prefix that the server may keep.
        content = [
            {"type": "image_url", "image_url": {"url": picture}},
            {"type": "text", "text": request.instruction.text},
        ]
        try:
            return await self._retrying(self.options.attempts)(self._attempt, content, request.seed, home)
        except AttemptError as error:
            return error.failure
        except EndpointDownError:
            down = ", ".join(endpoint.url for endpoint in self.endpoints)
            return CaptionFailure("endpoint-down", f"no answer for {self.options.outage:g} s: {down}")

    def _retrying(self, attempts: int) -> AsyncRetrying:
        backoff = wait_random_exponential(multiplier=self.options.backoff, max=self.options.longest_wait)

        def wait(state: RetryCallState) -> float:
            error = state.outcome.exception() if state.outcome else None
            asked = error.retry_after if isinstance(error, AttemptError) else 0.0
            return asked + backoff(state) if asked else backoff(state)

        return AsyncRetrying(
            stop=stop_after_attempt(attempts), wait=wait, retry=retry_if_exception(self._is_passing), reraise=True
        )

    def _is_passing(self, error: BaseException) -> bool:
        return isinstance(error, AttemptError) and error.passing and error.retry_after <= self.options.longest_wait

    async def _attempt(self, content: Sequence[Mapping[str, Any]], seed: int, home: Endpoint) -> Caption:
        ticket = await self._dispatcher.acquire(home)
        endpoint = ticket.endpoint
        try:
            caption = await self._ask(endpoint, content, seed, ticket.number)
        except AttemptError as error:
            endpoint.outcomes[error.failure.kind] += 1
            self._note(ticket, error)
            raise
        else:
            endpoint.outcomes["ok"] += 1
            endpoint.answered(ticket.number, time.monotonic() - ticket.started)
            return caption
        finally:
            self._dispatcher.release(ticket)

    @staticmethod
    def _note(ticket: Ticket, error: AttemptError) -> None:
        now = time.monotonic()
        if error.too_many:
            ticket.endpoint.refused(ticket.number, error.retry_after, now)
        elif error.passing:
            ticket.endpoint.failed(ticket.number, now, timed_out=error.failure.kind == "time-out")
        else:
            ticket.endpoint.recovered()

    async def _ask(
        self, endpoint: Endpoint, content: object, seed: int, lane: int = 0, max_tokens: int | None = None
    ) -> Caption:
        body = {
            "model": self.model,
            "messages": [{"role": "user", "content": content}],
            "seed": seed,
            "max_tokens": max_tokens or self.options.max_tokens,
            **({} if self.options.temperature is None else {"temperature": self.options.temperature}),
            **self.options.extra,
        }
        try:
            # Not chat.completions.create: it would validate each field of what is known to be right, at a cost in CPU
            # time like that of sending it.
            response = await self._clients[endpoint][lane % _LANES].post(
                "/chat/completions", cast_to=httpx2.Response, content=json.dumps(body).encode()
            )
            return read_answer(endpoint.url, response.headers.get("content-type", ""), response.text)
        except openai.OpenAIError as error:
            raise failure_of(error, endpoint.url, self._secret) from None

    async def _contact_all(self) -> CaptionFailure | None:
        failures = await asyncio.gather(*(self._contact_one(endpoint) for endpoint in self.endpoints))
        return next((failure for failure in failures if failure), None)

    async def _contact_one(self, endpoint: Endpoint) -> CaptionFailure | None:
        """None too where the endpoint is there but has trouble that may pass."""
        try:
            await self._retrying(_FIRST_CONTACT_ATTEMPTS)(self._ask_for_the_model, endpoint)
        except AttemptError as error:
            return error.at_first_contact()
        return None

    async def _ask_for_the_model(self, endpoint: Endpoint) -> None:
        names: tuple[str, ...] = ()
        try:
            response = await self._clients[endpoint][0].get("/models", cast_to=httpx2.Response)
            names = read_models(endpoint.url, response.headers.get("content-type", ""), response.text)
        except openai.OpenAIError as error:
            failure = failure_of(error, endpoint.url, self._secret)
            if failure.failure.kind != "not-found":  # not every server lists its models
                raise failure from None
        if self.model in names:
            return
        try:
            await self._ask(endpoint, "Say yes.", seed=0, max_tokens=1)
        except AttemptError as error:
            raise error.with_models(names, self.model, endpoint.url) from None


def _read_key(variable: str | None) -> str:
    key = os.environ.get(variable or KEY_VARIABLE, "").strip()
    if variable and not key:
        raise ConfigError(f"the environment variable {variable} is not set; it is to hold the key of the endpoint")
    return key


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
