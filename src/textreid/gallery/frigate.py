"""Frigate's HTTP API as its documentation describes it: who was seen, and the pictures that it keeps of them.

Its address and what it is asked with are the administrator's. No redirection is followed, no proxy of the environment
is used, and what it answers is limited in size.
"""

import json
import math
import re
import ssl
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import httpx2

from textreid.config_values import read_secrets
from textreid.errors import ConfigError, TextReidError

_TIMEOUT_S = 20.0
_SLOWEST_S = 120.0  # of a whole answer
_LARGEST_LIST = 256 << 20  # bytes; an older Frigate sends pictures along
_LARGEST_PICTURE = 32 << 20
_AT_ONCE = 100  # events of an answer
_APART_S = 1e-5  # between two events of a camera, at least
_ID = re.compile(r"[A-Za-z0-9_.\-]{1,100}")
_FRAMES = ("snapshot-clean.webp", "snapshot-clean.png")  # of newer and of older versions: nothing is drawn on them


class FrigateError(TextReidError):
    """Frigate refuses, or what answers is something else."""


class AwayError(FrigateError):
    """Frigate does not answer now; the same request may succeed later."""


class NothingThereError(FrigateError):
    """Frigate does not have what was asked for."""


@dataclass(frozen=True)
class FrigateEvent:
    """Somebody whom Frigate has seen.

    Attributes:
        id: Frigate's name of the event.
        camera: its name there.
        start, end: seconds since 1970; no end while they are in sight.
        zones: that were entered.
        box: x, y, width and height as shares of the frame that Frigate keeps; None where it tells none.
        has_frame: whether it keeps that frame.
        score: of its detector, from 0 to 1.
    """

    id: str
    camera: str
    start: float
    end: float | None
    zones: tuple[str, ...]
    box: tuple[float, float, float, float] | None
    has_frame: bool
    score: float

    @classmethod
    def read(cls, told: Any) -> Self:
        """Read an entry of the list of events.

        Raises:
            FrigateError: a field is missing or wrong; names it.
        """
        if not isinstance(told, dict):
            raise FrigateError(f"an event is an object, not {type(told).__name__}")
        if not isinstance(name := told.get("id"), str) or not _ID.fullmatch(name):
            raise FrigateError(f"event {name!r:.60}: id: not a name of letters, digits, dots and dashes")
        camera, start, end = told.get("camera"), _number(told.get("start_time")), told.get("end_time")
        if not isinstance(camera, str) or not camera.strip() or not camera.isprintable():
            raise FrigateError(f"event {name}: camera: expected a name, got {camera!r:.60}")
        if start is None or not 0 < start < 1e11 or (end is not None and _number(end) is None):
            raise FrigateError(f"event {name}: start_time and end_time: expected seconds since 1970")
        data, zones = told.get("data"), told.get("zones")
        data = data if isinstance(data, dict) else {}
        zones = zones if isinstance(zones, list) else []
        return cls(
            name, camera, start, _number(end), tuple(zone for zone in zones if isinstance(zone, str) and zone),
            _box(data.get("box")), told.get("has_snapshot") in (True, 1),
            _number(data.get("top_score")) or _number(data.get("score")) or _number(told.get("top_score")) or 0.0,
        )  # fmt: skip


@dataclass(frozen=True)
class Credentials:
    """What Frigate is asked with; nothing at its port for the network of its own.

    Attributes:
        token: that is sent as ``Authorization: Bearer``.
        user, password: with which a session is begun, again each time one has ended.
        headers: for a proxy before it.
    """

    token: str = ""
    user: str = ""
    password: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read an administrator's file (TOML).

        Raises:
            ConfigError: it cannot be read, others may read it, or an entry is wrong; names file and entry.
        """
        expected = "token, or user and password, and headers"
        told = read_secrets("--credentials", path, {"token", "user", "password", "headers"}, expected)
        headers = told.pop("headers", {})
        for name, value in (*told.items(), *(headers.items() if isinstance(headers, dict) else [("headers", 0)])):
            if not isinstance(value, str) or not value.isascii() or not value.isprintable():
                raise ConfigError(f"--credentials {path}: {name}: expected a text")
        if bool(told.get("user")) != bool(told.get("password")):
            raise ConfigError(f"--credentials {path}: user and password belong together")
        return cls(**told, headers=headers)


class Frigate:
    """A Frigate that is asked over HTTP; a context manager that closes its connection.

    Every method raises `AwayError` where it does not answer, and `FrigateError` where it refuses.

    Attributes:
        url: where it is, as the administrator wrote it.
    """

    def __init__(self, url: str, credentials: Credentials | None = None, certificate: Path | None = None) -> None:
        """Say where it is, and which certificate (PEM) vouches for it, where none of the system's does.

        Raises:
            ConfigError: that is no address, or the certificate cannot be read.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ConfigError(f"{url}: expected the address of Frigate, as http://frigate:5000")
        if parts.username or parts.password:
            raise ConfigError(f"{parts.scheme}://{parts.hostname}: --credentials FILE keeps passwords, not the address")
        self.url = url.rstrip("/")
        self._credentials = credentials or Credentials()
        try:
            verify = ssl.create_default_context(cafile=certificate) if certificate else True
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"--certificate {certificate}: cannot be read: {error}") from error
        headers = dict(self._credentials.headers)
        headers |= {"Authorization": f"Bearer {self._credentials.token}"} if self._credentials.token else {}
        self._http = httpx2.Client(
            base_url=self.url, headers=headers, timeout=_TIMEOUT_S, trust_env=False, follow_redirects=False,
            verify=verify,
        )  # fmt: skip
        self._frames = list(_FRAMES)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def link(self, event: FrigateEvent) -> str:
        """Return the address of Frigate's own page of an event."""
        return f"{self.url}/explore?event_id={event.id}"

    def events(self, after: float) -> tuple[list[FrigateEvent], list[str]]:
        """List the people who came after so many seconds since 1970, in order, and what is wrong with other entries."""
        found: dict[str, FrigateEvent] = {}
        wrong: dict[str, None] = {}
        limit, before = _AT_ONCE, math.inf
        while True:
            # The newest first, which every version does: each page goes further back.
            asked = {"label": "person", "limit": str(limit), "include_thumbnails": "0"}
            asked |= {"after": repr(after)} if after > 0 else {}
            asked |= {"before": repr(before)} if before < math.inf else {}
            rows = self._list(asked)
            known = len(found)
            for row in rows:
                try:
                    event = FrigateEvent.read(row)
                except FrigateError as error:
                    wrong[str(error)] = None
                else:
                    found[event.id] = event
                    before = min(before, event.start + _APART_S)
            if len(rows) < limit:
                return sorted(found.values(), key=lambda event: (event.start, event.id)), list(wrong)
            if len(found) == known:  # a whole page of one moment
                limit *= 2

    def picture(self, event: FrigateEvent) -> tuple[bytes, bool]:
        """Return the best picture of an event, and whether it is the whole frame, of which `FrigateEvent.box` tells.

        Raises:
            NothingThereError: it has none, or none any more.
        """
        if event.has_frame and event.box:
            for name in self._frames:
                try:
                    content = self._read(f"/api/events/{event.id}/{name}", _LARGEST_PICTURE)
                except NothingThereError:
                    continue
                self._frames.sort(key=lambda other, name=name: other != name)  # type: ignore[misc]
                return content, True
        return self._read(f"/api/events/{event.id}/thumbnail.jpg", _LARGEST_PICTURE), False

    def _list(self, asked: Mapping[str, str]) -> list[Any]:
        content = self._read("/api/events", _LARGEST_LIST, asked)
        try:
            rows = json.loads(content)
        except ValueError:
            rows = None
        if not isinstance(rows, list):
            raise FrigateError(f"{self.url}: /api/events is no list of events: is this the address of Frigate?")
        return rows

    def _read(self, path: str, most: int, asked: Mapping[str, str] | None = None) -> bytes:
        status, content = self._ask(path, most, asked)
        if status == 401 and self._credentials.user:
            self._sign_in()
            status, content = self._ask(path, most, asked)
        if status in (401, 403):
            raise FrigateError(f"{self.url}: refuses to answer ({status}): name who asks in --credentials FILE")
        if status == 404 and asked is None:
            raise NothingThereError(f"{self.url}{path}: is not there")
        if status == 429 or status >= 500:
            raise AwayError(f"{self.url}: answers {status}")
        if status != 200:
            raise FrigateError(f"{self.url}{path}: answers {status}: is this the address of Frigate?")
        return content

    def _ask(self, path: str, most: int, asked: Mapping[str, str] | None) -> tuple[int, bytes]:
        content, deadline = bytearray(), time.monotonic() + _SLOWEST_S
        try:
            with self._http.stream("GET", path, params=dict(asked or {})) as answer:
                for block in answer.iter_bytes():
                    content += block
                    if len(content) > most:
                        raise FrigateError(f"{self.url}{path}: answers more than {most >> 20} MiB")
                    if time.monotonic() > deadline:
                        raise AwayError(f"{self.url}: answers too slowly")
                return answer.status_code, bytes(content)
        except httpx2.HTTPError as error:
            raise AwayError(f"{self.url}: does not answer ({type(error).__name__})") from error

    def _sign_in(self) -> None:
        told = {"user": self._credentials.user, "password": self._credentials.password}
        try:
            answer = self._http.post("/api/login", json=told)  # the cookie that it sets is kept
        except httpx2.HTTPError as error:
            raise AwayError(f"{self.url}: does not answer ({type(error).__name__})") from error
        if answer.status_code == 429 or answer.status_code >= 500:
            raise AwayError(f"{self.url}: answers {answer.status_code}")
        if not answer.is_success:
            raise FrigateError(f"{self.url}: user and password of --credentials do not open it ({answer.status_code})")


def _number(value: Any) -> float | None:
    good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if good else None


def _box(told: Any) -> tuple[float, float, float, float] | None:
    if not isinstance(told, Sequence) or isinstance(told, str) or len(told) != 4:
        return None
    x, y, width, height = (-1.0 if (number := _number(one)) is None else number for one in told)
    # Shares: one that is in pixels, as of an old version, is of another picture than the one that is kept.
    inside = 0 <= x < 1 and 0 <= y < 1 and 0 < width <= 1 and 0 < height <= 1
    return (x, y, width, height) if inside else None
