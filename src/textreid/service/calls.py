"""What can be asked of a gallery that another process serves: each call is a request, and how its answer is read.

`textreid.Client` sends them and waits, `textreid.AsyncClient` sends them and lets others run meanwhile.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from textreid.errors import DataError

if TYPE_CHECKING:
    import httpx2

Result = TypeVar("Result")


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
    link: str | None


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


@dataclass(frozen=True)
class KeptSearch:
    """A saved search; ``search`` is the body that the API takes for it."""

    id: int
    name: str
    search: Mapping[str, Any]
    created: datetime
    alert: str | None


@dataclass(frozen=True)
class UploadJob:
    """An upload, and how far it is indexed; see ``/api/v1/openapi.json`` for what the attributes mean."""

    id: int
    kind: str
    camera: str | None
    state: str
    files: int
    done: int
    seconds: float | None
    crops: int
    problems: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Call(Generic[Result]):
    """A request, and what makes its result of the answer; ``path`` stands below ``/api/v1``."""

    method: str
    path: str
    read: "Callable[[httpx2.Response], Result]"
    body: Mapping[str, Any] | None = None
    form: Mapping[str, str] | None = None
    files: tuple[Path, ...] = ()

    @contextmanager
    def sent(self) -> Iterator[dict[str, Any]]:
        """Give what a client of HTTP takes for it, with its files open.

        Raises:
            DataError: a file cannot be read.
        """
        with ExitStack() as stack:
            told: dict[str, Any] = {"method": self.method, "url": self.path, "json": self.body}
            if self.form is not None:
                try:
                    opened = [("files", (path.name, stack.enter_context(path.open("rb")))) for path in self.files]
                except OSError as error:
                    raise DataError(f"{error.filename}: cannot be read: {error.strerror}") from error
                told = {"method": self.method, "url": self.path, "data": self.form, "files": opened}
            yield told


def search(
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
) -> Call[FoundPage]:
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
    return Call("POST", "/search", _page, {**said, **judged, **_wanted(top, after, one_per_track, purpose, filters)})


def similar(
    number: int,
    *,
    top: int = 20,
    after: str | None = None,
    one_per_track: bool = False,
    purpose: str | None = None,
    **filters: Any,
) -> Call[FoundPage]:
    """Rank the other crops by their likeness to one; see `search`."""
    body = _wanted(top, after, one_per_track, purpose, filters)
    return Call("POST", f"/crops/{int(number)}/similar", _page, body)


def crop(number: int) -> Call[FoundCrop]:
    """Read where and when a person was seen."""
    return Call("GET", f"/crops/{int(number)}", lambda answer: _crop(answer.json()))


def picture(number: int) -> Call[bytes]:
    """Read the JPEG of a crop."""
    return Call("GET", f"/crops/{int(number)}/picture", _content)


def frame(number: int) -> Call[bytes]:
    """Read the JPEG of what a crop was cut from, with the person's box drawn."""
    return Call("GET", f"/crops/{int(number)}/frame", _content)


def thumbnail(number: int) -> Call[bytes]:
    """Read a JPEG of at most 192 by 384 pixels of a crop."""
    return Call("GET", f"/crops/{int(number)}/thumbnail", _content)


def track(number: int) -> Call[list[FoundCrop]]:
    """Read all crops of the walk that a crop is of, in order of time."""
    return Call("GET", f"/crops/{int(number)}/track", lambda answer: [_crop(one) for one in answer.json()["crops"]])


def export(query: str, **options: Any) -> Call[bytes]:
    """Search, and read what is found as a ZIP file with hashes; ``options`` are those of `search`."""
    return Call("POST", "/export", _content, search(query, **options).body)


def cameras() -> Call[dict[str, int]]:
    """Count the crops of each camera."""
    return Call("GET", "/cameras", lambda answer: {one["name"]: one["crops"] for one in answer.json()["cameras"]})


def erase(numbers: Sequence[int]) -> Call[tuple[int, list[str]]]:
    """Erase crops for good; returns how many there were, and the files that still show the people.

    For administrators.
    """

    def read(answer: "httpx2.Response") -> tuple[int, list[str]]:
        told = answer.json()
        return told["crops"], told["files"]

    return Call("POST", "/erase", read, {"crops": list(numbers)})


def save_search(name: str, query: str, **options: Any) -> Call[KeptSearch]:
    """Keep a search under a name; ``options`` are those of `search`."""
    asked = search(query, **options).body
    return Call("POST", "/searches", lambda answer: _kept(answer.json()), {"name": name, "search": asked})


def saved_searches() -> Call[list[KeptSearch]]:
    """List your own saved searches by name."""
    return Call("GET", "/searches", lambda answer: [_kept(one) for one in answer.json()["searches"]])


def run_search(
    number: int, *, top: int | None = None, after: str | None = None, purpose: str | None = None
) -> Call[FoundPage]:
    """Run a saved search; what is not given is as it was saved."""
    return Call("POST", f"/searches/{int(number)}/run", _page, {"top": top, "after": after, "purpose": purpose})


def set_alert(number: int, to: str | None) -> Call[KeptSearch]:
    """Let a saved search tell a destination of new arrivals from now on; of None, nobody."""
    return Call("PUT", f"/searches/{int(number)}/alert", lambda answer: _kept(answer.json()), {"to": to})


def alerts() -> Call[Mapping[str, Any]]:
    """List the destinations, and what was told or could not be, as ``/api/v1/openapi.json`` describes it."""
    return Call("GET", "/alerts", lambda answer: dict(answer.json()))


def retry_alert(number: int) -> Call[Mapping[str, Any]]:
    """Let a dead alert be tried again, now."""
    return Call("POST", f"/alerts/{int(number)}/retry", lambda answer: dict(answer.json()))


def delete_search(number: int) -> Call[None]:
    """Forget a saved search."""
    return Call("DELETE", f"/searches/{int(number)}", lambda answer: None)


def upload(kind: str, files: Sequence[str | os.PathLike[str]], *, camera: str | None = None) -> Call[UploadJob]:
    """Send files to be indexed: "crops" of one person each, "photographs", or one "video".

    The job that is returned tells how far that is: ask `job` for it again.
    """
    fields = {"kind": kind, **({"camera": camera} if camera else {})}
    # Opened when they are sent, and closed by who sends them.
    return Call("POST", "/uploads", lambda answer: _job(answer.json()), form=fields, files=tuple(map(Path, files)))


def jobs() -> Call[list[UploadJob]]:
    """List your last uploads, the newest first."""
    return Call("GET", "/jobs", lambda answer: [_job(one) for one in answer.json()["jobs"]])


def job(number: int) -> Call[UploadJob]:
    """Read how far an upload is indexed."""
    return Call("GET", f"/jobs/{int(number)}", lambda answer: _job(answer.json()))


def cancel_job(number: int) -> Call[UploadJob]:
    """Stop indexing an upload; who was found until then stays."""
    return Call("POST", f"/jobs/{int(number)}/cancel", lambda answer: _job(answer.json()))


def _wanted(
    top: int, after: str | None, one_per_track: bool, purpose: str | None, filters: Mapping[str, Any]
) -> dict[str, Any]:
    given = {name: value.isoformat() if isinstance(value, datetime) else value for name, value in filters.items()}
    return {"top": top, "after": after, "one_per_track": one_per_track, "purpose": purpose, "filters": given}


def _content(answer: "httpx2.Response") -> bytes:
    return bytes(answer.content)


def _page(answer: "httpx2.Response") -> FoundPage:
    told = answer.json()
    hits = tuple(FoundHit(hit["score"], _crop(hit["crop"])) for hit in told["hits"])
    return FoundPage(hits, told["next"], told["exact"], told["unread"], tuple(told["notes"]), told["verdict"])


def _kept(told: Mapping[str, Any]) -> KeptSearch:
    return KeptSearch(told["id"], told["name"], told["search"], datetime.fromisoformat(told["created"]), told["alert"])


def _job(told: Mapping[str, Any]) -> UploadJob:
    problems = tuple((one["file"], one["problem"]) for one in told["problems"])
    return UploadJob(
        told["id"], told["kind"], told["camera"], told["state"], told["files"], told["done"], told["seconds"],
        told["crops"], problems,
    )  # fmt: skip


def _crop(told: Mapping[str, Any]) -> FoundCrop:
    values = {name: told[name] for name in FoundCrop.__dataclass_fields__}
    time = values["time"]
    values |= {
        "time": datetime.fromisoformat(time) if time else None,
        "box": tuple(values["box"]) if values["box"] else None,
        "tags": tuple(values["tags"]),
    }
    return FoundCrop(**values)
