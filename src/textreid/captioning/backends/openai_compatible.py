"""MLLMs behind the OpenAI protocol: vLLM, SGLang, llama.cpp, Ollama, LM Studio, clouds."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from textreid.captioning.backends.adaptive_limit import AdaptiveLimit
from textreid.captioning.backends.addresses import checked_url, key_for
from textreid.captioning.backends.connection import UNREADABLE, AttemptError, Connection, retrying
from textreid.captioning.backends.dialect import Dialect, ask
from textreid.captioning.backends.endpoint import Dispatcher, Endpoint, EndpointDownError, Permit
from textreid.captioning.requests import Caption, CaptionFailure, Request, encode_picture
from textreid.errors import ConfigError, ImageError
from textreid.images import as_data_uri

_FIRST_CONTACT_TRIES = 3
_HOPELESS = 5  # answers that cannot be read or are refused, from a server that has given no other


@dataclass(frozen=True)
class ServingOptions:
    """Options of an MLLM behind a server; every default suits a local vLLM.

    Attributes:
        longest_side: pixels of the longer side of the picture that is sent, at most.
        max_tokens: of an answer.
        temperature: of sampling; None leaves it to the server.
        fields: of the request's body: ``{"top_p": 0.9}`` adds one, a `Rename` renames one or leaves it out.
        timeout: seconds for one attempt.
        tries: at one request, when it fails for a passing reason; waiting for an endpoint to be up does not count.
        backoff: seconds before the second attempt, at most; doubles with each.
        longest_wait: seconds between two attempts, at most; a server that asks for more has refused.
        outage: seconds without any endpoint after which requests fail.
        start_limit: requests under way at an endpoint when nothing is known of it.
        largest_limit: requests under way at an endpoint, at most.
    """

    longest_side: int = 448
    max_tokens: int = 160
    temperature: float | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)
    timeout: float = 120.0
    tries: int = 8
    backoff: float = 0.5
    longest_wait: float = 60.0
    outage: float = 600.0
    start_limit: int = 16
    largest_limit: int = 1024


class OpenAICompatible:
    """Model at any number of endpoints that speak the OpenAI protocol.

    Keys come from the environment (see `addresses.key_for`) and leave this object in ``Authorization`` headers only.

    Args:
        name: of the captioner: ``"qwen"`` in the slot ``"qwen/static"``.
        model: as the server calls it.
        urls: of the endpoints, up to and with ``/v1``.
        options: how to ask.

    Attributes:
        trouble: what went wrong at the latest attempt, while nothing has been answered since; else empty.

    Raises:
        ConfigError: there is no URL, one is malformed or holds a secret, a key has characters that no header can carry,
            or a proxy of the environment cannot be used.
    """

    def __init__(self, name: str, model: str, urls: Sequence[str], options: ServingOptions | None = None) -> None:
        self.name = name
        self.model = model
        self.options = options or ServingOptions()
        self.trouble = ""
        self._connections = {
            Endpoint(url, AdaptiveLimit(self.options.start_limit, self.options.largest_limit)): Connection(
                url, key_for(name, url), self.options.timeout
            )
            for url in dict.fromkeys(map(checked_url, urls))
        }
        self.endpoints = tuple(self._connections)
        if not self.endpoints:
            raise ConfigError(f"{name}: no URL of an endpoint; write one such as http://localhost:8000/v1")
        self._dialects = {
            endpoint: Dialect(self.options.fields, self.options.longest_side) for endpoint in self.endpoints
        }
        self._dispatcher = Dispatcher(self.endpoints, self.options.outage)
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
        picture = _Picture(image)
        # Before an endpoint is chosen, so that a damaged file takes nobody's turn.
        try:
            await picture.encode(self._dialects[self.endpoints[0]])
        except ImageError as error:
            return [CaptionFailure("unreadable-image", str(error), permanent=True)] * len(requests)
        with self._dispatcher.preferred() as preferred:
            answers = await asyncio.gather(*(self._answer(picture, request, preferred) for request in requests))
        notices = tuple(self._notices())
        return [replace(answers[0], notices=notices), *answers[1:]] if notices else answers

    async def first_contact(self) -> CaptionFailure | None:
        """Return what makes it useless to send requests: the failure of the first endpoint that has one, or None."""
        if self._contact is None:
            self._contact = asyncio.create_task(self._contact_all())
        # Shielded: hundreds of images wait for the one task, and one that is given up must not end it for the others.
        return await asyncio.shield(self._contact)

    def outcomes(self) -> dict[str, dict[str, int]]:
        """Count how many requests to each endpoint ended how: ``{url: {"ok": 10, "http-429": 1}}``."""
        return {endpoint.url: dict(endpoint.outcomes) for endpoint in self.endpoints}

    async def aclose(self) -> None:
        """Close the connections; no request is under way."""
        for connection in self._connections.values():
            await connection.aclose()

    def _notices(self) -> list[str]:
        """Return what was learnt of the servers since the last time."""
        found = []
        for dialect in self._dialects.values():
            found += [f"{self.name}: from now on textreid {notice}" for notice in dialect.notices]
            dialect.notices.clear()
        return found

    async def _answer(self, picture: "_Picture", request: Request, preferred: Endpoint) -> Caption | CaptionFailure:
        options = self.options
        attempt = partial(self._attempt, picture, request, preferred)
        try:
            return await retrying(options.tries, options.backoff, options.longest_wait, attempt)
        except AttemptError as error:
            return error.failure
        except EndpointDownError:
            down = ", ".join(connection.place for connection in self._connections.values())
            return CaptionFailure("endpoint-down", f"no answer for {options.outage:g} s: {down}")

    async def _attempt(self, picture: "_Picture", request: Request, preferred: Endpoint) -> Caption:
        # A permit for one attempt: a request that waits for its next one leaves the place to others.
        permit = await self._dispatcher.acquire(preferred)
        endpoint = permit.endpoint
        try:
            caption = await self._ask(endpoint, picture, request)
        except AttemptError as error:
            endpoint.outcomes[error.failure.kind] += 1
            self.trouble = f"{error.failure.kind}: {error.failure.message}"
            self._note(permit, error)
            raise self._hopeless(endpoint, error) from None
        else:
            self.trouble = ""
            endpoint.outcomes["ok"] += 1
            endpoint.answered(permit.number, time.monotonic() - permit.started)
            return caption
        finally:
            self._dispatcher.release(permit)

    async def _ask(self, endpoint: Endpoint, picture: "_Picture", request: Request) -> Caption:
        dialect = self._dialects[endpoint]
        await picture.encode(dialect)

        def messages() -> object:
            return [{"role": "user", "content": dialect.content(picture.uri(dialect), request.instruction.text)}]

        return await ask(self._connections[endpoint], dialect, self.model, messages, self._fields(request.seed))

    def _fields(self, seed: int, max_tokens: int | None = None) -> dict[str, Any]:
        options = self.options
        return {"seed": seed, "max_tokens": max_tokens or options.max_tokens, "temperature": options.temperature}

    @staticmethod
    def _note(permit: Permit, error: AttemptError) -> None:
        now = time.monotonic()
        if error.too_many:
            permit.endpoint.refused(permit.number, error.retry_after, now)
        elif error.passing:
            permit.endpoint.failed(permit.number, now, timed_out=error.failure.kind == "time-out")
        else:
            permit.endpoint.recovered()

    @staticmethod
    def _hopeless(endpoint: Endpoint, error: AttemptError) -> AttemptError:
        """Return the error, fatal where the server has given nothing but answers of its kind."""
        kinds = UNREADABLE if error.failure.kind in UNREADABLE else {error.failure.kind}
        futile = not error.too_many and (error.failure.kind in UNREADABLE or not error.passing)
        count = sum(endpoint.outcomes[kind] for kind in kinds)
        if not futile or endpoint.outcomes["ok"] or count < _HOPELESS:
            return error
        return AttemptError(replace(error.failure, permanent=True, fatal=True), passing=False)

    async def _contact_all(self) -> CaptionFailure | None:
        failures = await asyncio.gather(*(self._contact_one(endpoint) for endpoint in self.endpoints))
        return next((failure for failure in failures if failure), None)

    async def _contact_one(self, endpoint: Endpoint) -> CaptionFailure | None:
        """Return what is wrong with an endpoint; None too where it is there but has trouble that may pass."""
        options = self.options
        try:
            attempt = partial(self._ask_for_the_model, endpoint)
            await retrying(_FIRST_CONTACT_TRIES, options.backoff, options.longest_wait, attempt)
        except AttemptError as error:
            self.trouble = f"{error.failure.kind}: {error.failure.message}"
            return error.at_first_contact()
        return None

    async def _ask_for_the_model(self, endpoint: Endpoint) -> None:
        connection, names = self._connections[endpoint], tuple[str, ...]()
        try:
            names = _model_names(await connection.request("GET", "/models"))
        except AttemptError as error:
            if error.failure.kind != "not-found":  # not every server lists its models
                raise
        if self.model in names:
            return
        # Through the dialect, which so learns what the server refuses before hundreds of pictures are on their way.
        question = [{"role": "user", "content": "Say yes."}]
        try:
            await ask(connection, self._dialects[endpoint], self.model, lambda: question, self._fields(0, max_tokens=1))
        except AttemptError as error:
            raise error.with_models(names, self.model, connection.place) from None


class _Picture:
    """An image as servers are sent it: encoded once for each pair of sizes that they ask for."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._encoded: dict[tuple[int, int], str] = {}

    async def encode(self, dialect: Dialect) -> None:
        """Have the picture ready; raises ImageError."""
        sizes = dialect.longest_side, dialect.shortest_side
        if sizes not in self._encoded:
            self._encoded[sizes] = as_data_uri(await asyncio.to_thread(encode_picture, self._path, *sizes))

    def uri(self, dialect: Dialect) -> str:
        """Return the picture as a ``data:`` URI."""
        sizes = dialect.longest_side, dialect.shortest_side
        if sizes not in self._encoded:  # the dialect has changed a moment ago
            self._encoded[sizes] = as_data_uri(encode_picture(self._path, *sizes))
        return self._encoded[sizes]


def _model_names(answer: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names in the body of a list of models."""
    data = answer.get("data")
    entries = data if isinstance(data, list) else []
    return tuple(str(entry["id"]) for entry in entries if isinstance(entry, dict) and "id" in entry)
