"""A gallery that another process serves, from Python: by a client that waits, and by one for asyncio."""

import inspect
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import httpx2

from textreid.errors import TextReidError, check_type
from textreid.service import calls
from textreid.service.calls import Call, FoundHit

_TIMEOUT_S = 60.0
Result = TypeVar("Result")
Given = ParamSpec("Given")
Method = TypeVar("Method", bound=Callable[..., Any])


class ServiceError(TextReidError):
    """A service refused, or could not be reached.

    Attributes:
        status: of HTTP; None where nobody answered.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


def _sync(build: Callable[Given, Call[Result]]) -> "Callable[Concatenate[Client, Given], Result]":
    """Make a method of `Client` of a call."""

    def method(self: "Client", /, *args: Given.args, **kwargs: Given.kwargs) -> Result:
        return self._ask(build(*args, **kwargs))

    return _described(method, build)


def _async(
    build: Callable[Given, Call[Result]],
) -> "Callable[Concatenate[AsyncClient, Given], Coroutine[Any, Any, Result]]":
    """Make a method of `AsyncClient` of a call."""

    async def method(self: "AsyncClient", /, *args: Given.args, **kwargs: Given.kwargs) -> Result:
        return await self._ask(build(*args, **kwargs))

    return _described(method, build)


def _described(method: Method, build: Callable[..., Any]) -> Method:
    """Give a method the name, docstring and parameters of the call that it sends."""
    wraps(build)(method)
    own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    signature = inspect.signature(build)
    parameters = [own, *signature.parameters.values()]
    method.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return method


class _Address:
    """Where a service is, and how its answers are told from its refusals."""

    def __init__(self, address: str, token: str | None, timeout: float) -> None:
        check_type("address", address, str, "the address that the service printed, as in http://127.0.0.1:8000")
        self.address = address.rstrip("/")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        # Not through a proxy of the environment: a query is nobody else's business.
        self._options: dict[str, Any] = {
            "base_url": f"{self.address}/api/v1", "headers": headers, "timeout": timeout, "trust_env": False,
        }  # fmt: skip

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.address!r})"

    def _read(self, call: Call[Result], answer: httpx2.Response) -> Result:
        if answer.is_success:
            return call.read(answer)
        try:
            detail = str(answer.json()["detail"])
        except (ValueError, KeyError, TypeError):
            detail = answer.reason_phrase
        raise ServiceError(f"{self.address}{call.path}: {detail}", answer.status_code)

    def _unreached(self, error: Exception) -> ServiceError:
        return ServiceError(f"{self.address}: no answer: {error or type(error).__name__}")


class Client(_Address):
    """Asks a gallery that ``textreid serve`` serves; a context manager that closes its connections.

    >>> import textreid
    >>> with textreid.Client("http://127.0.0.1:8000") as client:
    ...     print(client)
    Client('http://127.0.0.1:8000')

    Then ``client.search("a woman in a red jacket", cameras=["gate"])`` has hits, and ``client.picture(hit.crop.id)``
    the JPEG of one. Every method raises `ServiceError`.

    Args:
        address: that the service printed when it started.
        token: of an account, where the service asks for one.
        timeout: seconds to wait for an answer.
    """

    def __init__(self, address: str, token: str | None = None, timeout: float = _TIMEOUT_S) -> None:
        super().__init__(address, token, timeout)
        self._http = httpx2.Client(**self._options)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    search = _sync(calls.search)
    similar = _sync(calls.similar)
    crop = _sync(calls.crop)
    picture = _sync(calls.picture)
    frame = _sync(calls.frame)
    thumbnail = _sync(calls.thumbnail)
    track = _sync(calls.track)
    export = _sync(calls.export)
    cameras = _sync(calls.cameras)
    erase = _sync(calls.erase)
    save_search = _sync(calls.save_search)
    saved_searches = _sync(calls.saved_searches)
    run_search = _sync(calls.run_search)
    delete_search = _sync(calls.delete_search)
    set_alert = _sync(calls.set_alert)
    alerts = _sync(calls.alerts)
    retry_alert = _sync(calls.retry_alert)
    upload = _sync(calls.upload)
    jobs = _sync(calls.jobs)
    job = _sync(calls.job)
    cancel_job = _sync(calls.cancel_job)

    def search_all(self, query: str, *, top: int = 100, **options: Any) -> Iterator[FoundHit]:
        """Yield every crop of the gallery, best first, page by page of ``top``; ``options`` are those of `search`."""
        page = self.search(query, top=top, **options)
        yield from page.hits
        while page.next:
            page = self.search(query, top=top, **{**options, "after": page.next})
            yield from page.hits

    def _ask(self, call: Call[Result]) -> Result:
        try:
            with call.sent() as sent:
                answer = self._http.request(**sent)
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise self._unreached(error) from error
        return self._read(call, answer)


class AsyncClient(_Address):
    """Asks a gallery that ``textreid serve`` serves, from asyncio; an async context manager.

    >>> import asyncio
    >>> import textreid
    >>> async def ask():
    ...     async with textreid.AsyncClient("http://127.0.0.1:8000") as client:
    ...         print(client)
    >>> asyncio.run(ask())
    AsyncClient('http://127.0.0.1:8000')

    It has the methods of `Client`, to be awaited: ``page = await client.search("a woman in a red jacket")``.

    Args:
        address: that the service printed when it started.
        token: of an account, where the service asks for one.
        timeout: seconds to wait for an answer.
    """

    def __init__(self, address: str, token: str | None = None, timeout: float = _TIMEOUT_S) -> None:
        super().__init__(address, token, timeout)
        self._http = httpx2.AsyncClient(**self._options)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    search = _async(calls.search)
    similar = _async(calls.similar)
    crop = _async(calls.crop)
    picture = _async(calls.picture)
    frame = _async(calls.frame)
    thumbnail = _async(calls.thumbnail)
    track = _async(calls.track)
    export = _async(calls.export)
    cameras = _async(calls.cameras)
    erase = _async(calls.erase)
    save_search = _async(calls.save_search)
    saved_searches = _async(calls.saved_searches)
    run_search = _async(calls.run_search)
    delete_search = _async(calls.delete_search)
    set_alert = _async(calls.set_alert)
    alerts = _async(calls.alerts)
    retry_alert = _async(calls.retry_alert)
    upload = _async(calls.upload)
    jobs = _async(calls.jobs)
    job = _async(calls.job)
    cancel_job = _async(calls.cancel_job)

    async def search_all(self, query: str, *, top: int = 100, **options: Any) -> AsyncIterator[FoundHit]:
        """Yield every crop of the gallery, best first, page by page of ``top``; ``options`` are those of `search`."""
        after = None
        while True:
            page = await self.search(query, top=top, **{**options, "after": after})
            for hit in page.hits:
                yield hit
            if not page.next:
                return
            after = page.next

    async def _ask(self, call: Call[Result]) -> Result:
        try:
            with call.sent() as sent:
                answer = await self._http.request(**sent)
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise self._unreached(error) from error
        return self._read(call, answer)
