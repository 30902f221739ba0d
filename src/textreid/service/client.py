"""A gallery that another process serves, from Python."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

import httpx2

from textreid.errors import TextReidError, check_type

_TIMEOUT_S = 60.0


class ServiceError(TextReidError):
    """A service refused, or could not be reached.

    Attributes:
        status: of HTTP; None where nobody answered.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class FoundCrop:
    """A person as a service describes it; see ``/api/v1/openapi.json`` for what the attributes mean."""

    id: int
    camera: str | None
    time: datetime | None
    source: str
    path: str
    frame: int | None
    seconds: float | None
    box: tuple[float, float, float, float] | None
    track: int | None
    tags: tuple[str, ...]


@dataclass(frozen=True)
class FoundHit:
    """A crop that was found, and its score: a cosine that orders the hits of one search."""

    score: float
    crop: FoundCrop


@dataclass(frozen=True)
class FoundPage:
    """A page of a ranking.

    Attributes:
        hits: best first.
        next: give it as ``after`` for the next page; None after the last.
        exact: whether every crop was compared; else an index answered.
        unread: the end of the query that the model did not read.
        notes: on words that the model has not learned, and the like.
        verdict: answer, probability and chance, if asked for.
    """

    hits: tuple[FoundHit, ...]
    next: str | None
    exact: bool
    unread: str
    notes: tuple[str, ...] = ()
    verdict: Mapping[str, Any] | None = None


class Client:
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
        check_type("address", address, str, "the address that the service printed, as in http://127.0.0.1:8000")
        self.address = address.rstrip("/")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        # Not through a proxy of the environment: a query is nobody else's business.
        self._http = httpx2.Client(base_url=self.address, headers=headers, timeout=timeout, trust_env=False)

    def __repr__(self) -> str:
        return f"Client({self.address!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def search(
        self,
        query: str,
        *,
        top: int = 20,
        after: str | None = None,
        one_per_track: bool = False,
        purpose: str | None = None,
        witnesses: Sequence[str] = (),
        without: Sequence[str] = (),
        right: Sequence[int] = (),
        wrong: Sequence[int] = (),
        verdict: bool = False,
        **filters: Any,
    ) -> FoundPage:
        """Rank crops by their likeness to a sentence.

        Args:
            query: the person in words.
            witnesses: the same person in the words of others.
            without: what was not seen, as in "a red hat".
            right, wrong: crops that were judged: the ranking moves towards those, and leaves these out.
            verdict: tell how likely it is that anybody fits.
            top: how many hits at most.
            after: ``next`` of the page before.
            one_per_track: only the best crop of each walk past a camera.
            purpose: what it is for, for the audit log.
            **filters: cameras, since, until, hours, tags, sources, exclude, as in ``/api/v1/openapi.json``.
        """
        judged = {"right": list(right), "wrong": list(wrong), "verdict": verdict}
        said = {"query": query, "witnesses": list(witnesses), "without": list(without)}
        body = {**said, **judged, **_wanted(top, after, one_per_track, purpose, filters)}
        return _page(self._ask("POST", "/search", body).json())

    def search_all(self, query: str, *, top: int = 100, **options: Any) -> Iterator[FoundHit]:
        """Yield every crop of the gallery, best first, page by page of ``top``; ``options`` are those of `search`."""
        page = self.search(query, top=top, **options)
        yield from page.hits
        while page.next:
            page = self.search(query, top=top, **{**options, "after": page.next})
            yield from page.hits

    def similar(
        self,
        number: int,
        *,
        top: int = 20,
        after: str | None = None,
        one_per_track: bool = False,
        purpose: str | None = None,
        **filters: Any,
    ) -> FoundPage:
        """Rank the other crops by their likeness to one; see `search`."""
        body = _wanted(top, after, one_per_track, purpose, filters)
        return _page(self._ask("POST", f"/crops/{int(number)}/similar", body).json())

    def crop(self, number: int) -> FoundCrop:
        """Read where and when a person was seen."""
        return _crop(self._ask("GET", f"/crops/{int(number)}").json())

    def picture(self, number: int) -> bytes:
        """Read the JPEG of a crop."""
        return self._ask("GET", f"/crops/{int(number)}/picture").content

    def frame(self, number: int) -> bytes:
        """Read the JPEG of what a crop was cut from, with the person's box drawn."""
        return self._ask("GET", f"/crops/{int(number)}/frame").content

    def thumbnail(self, number: int) -> bytes:
        """Read a JPEG of at most 192 by 384 pixels of a crop."""
        return self._ask("GET", f"/crops/{int(number)}/thumbnail").content

    def cameras(self) -> dict[str, int]:
        """Count the crops of each camera."""
        return {one["name"]: one["crops"] for one in self._ask("GET", "/cameras").json()["cameras"]}

    def erase(self, numbers: Sequence[int]) -> tuple[int, list[str]]:
        """Erase crops for good; returns how many there were, and the files that still show the people.

        For administrators.
        """
        answer = self._ask("POST", "/erase", {"crops": list(numbers)}).json()
        return answer["crops"], answer["files"]

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> httpx2.Response:
        try:
            answer = self._http.request(method, f"/api/v1{path}", json=body)
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise ServiceError(f"{self.address}: no answer: {error or type(error).__name__}") from error
        if answer.is_success:
            return answer
        try:
            detail = str(answer.json()["detail"])
        except (ValueError, KeyError, TypeError):
            detail = answer.reason_phrase
        raise ServiceError(f"{self.address}{path}: {detail}", answer.status_code)


def _wanted(
    top: int, after: str | None, one_per_track: bool, purpose: str | None, filters: Mapping[str, Any]
) -> dict[str, Any]:
    given = {name: value.isoformat() if isinstance(value, datetime) else value for name, value in filters.items()}
    return {"top": top, "after": after, "one_per_track": one_per_track, "purpose": purpose, "filters": given}


def _page(answer: Mapping[str, Any]) -> FoundPage:
    hits = tuple(FoundHit(hit["score"], _crop(hit["crop"])) for hit in answer["hits"])
    return FoundPage(
        hits, answer["next"], answer["exact"], answer["unread"], tuple(answer["notes"]), answer["verdict"]
    )  # fmt: skip


def _crop(answer: Mapping[str, Any]) -> FoundCrop:
    values = {name: answer[name] for name in FoundCrop.__dataclass_fields__}
    time = values["time"]
    values |= {
        "time": datetime.fromisoformat(time) if time else None,
        "box": tuple(values["box"]) if values["box"] else None,
        "tags": tuple(values["tags"]),
    }
    return FoundCrop(**values)
