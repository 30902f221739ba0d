"""What a gallery stores and returns, as plain values: crops, filters, pages."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt

from textreid.errors import ConfigError
from textreid.gallery.embedding_cache import FileStamp

Array = npt.NDArray[np.float32]
Box = tuple[float, float, float, float]
Kind = Literal["crop", "photograph", "video"]


@dataclass(frozen=True)
class Filters:
    """Which crops a search ranks: those for which everything that is given holds.

    Attributes:
        cameras: any of these.
        since: the wall clock of the camera, from then on; a crop without a time is left out.
        until: before then.
        hours: hour of the day, from the first up to but without the second; (22, 5) goes past midnight.
        tags: all of these.
        sources: any of these: what was indexed, or a file or folder below it.
        files: any of these, by number.
        exclude: crops, by number, that are not wanted.
    """

    cameras: tuple[str, ...] = ()
    since: datetime | None = None
    until: datetime | None = None
    hours: tuple[int, int] | None = None
    tags: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    files: tuple[int, ...] = ()
    exclude: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what no crop could fulfil by mistake."""
        for name in ("since", "until"):
            value = getattr(self, name)
            if value is not None and value.tzinfo is not None:
                raise ConfigError(f"{name}: expected a time without a zone, the wall clock of the camera, not {value}")
        if self.since and self.until and self.since >= self.until:
            raise ConfigError(f"since {self.since} is not before until {self.until}")
        if self.hours and not (
            0 <= self.hours[0] <= 23 and 0 <= self.hours[1] <= 24 and self.hours[0] != self.hours[1]
        ):
            raise ConfigError(f"hours: expected two different hours of the day, as in 13-18, not {self.hours}")

    def __bool__(self) -> bool:
        return self != Filters()


@dataclass(frozen=True)
class Crop:
    """One person as the gallery knows it, without the vector.

    Attributes:
        id: its number in the gallery; later ones are greater.
        source: what was indexed: a folder, a video, an address.
        path: of the file that it is, or that it was cut from.
        file_id: number of that file.
        frame: of the video, from 0.
        seconds: since the beginning of the video.
        time: wall clock of the camera, without a zone.
        camera: its name.
        box: x, y, width, height in pixels of the upright frame.
        track: number of the track within the file.
        tags: words that people or a sidecar gave it.
        digest: SHA-256, hexadecimal, of the file that it is, or of its JPEG.
        presence: log odds that it shows somebody; None where the model cannot tell.
        confidence: of the detector.
        is_file: whether the file at ``path`` is the crop itself.
        address: of what it was cut from, where that is no file: a stream, or the event of another program.
    """

    id: int
    source: str
    path: Path
    file_id: int
    frame: int | None
    seconds: float | None
    time: datetime | None
    camera: str | None
    box: Box | None
    track: int | None
    tags: tuple[str, ...]
    digest: str
    presence: float | None
    confidence: float | None
    is_file: bool
    address: str | None = None

    @property
    def origin(self) -> str:
        """What it is or was cut from: a file, or an address."""
        return self.address or str(self.path)

    @property
    def link(self) -> str | None:
        """Where a browser may see it in the program that it came from; None of files, and of what holds a password."""
        is_page = self.address is not None and self.address.startswith(("http://", "https://"))
        return self.address if is_page and "@" not in self.origin else None

    @property
    def place(self) -> str:
        """Where it is to be seen: its file, with time and box as a media fragment where it was cut from it."""
        if self.box is None:
            return self.origin
        time = "" if self.seconds is None else f"t={self.seconds:.2f}&"
        return f"{self.origin}#{time}xywh={','.join(str(round(value)) for value in self.box)}"


@dataclass(frozen=True)
class Hit:
    """A crop that was found, and its score: the cosine, less what it loses because it seems to show nobody."""

    crop: Crop
    score: float


@dataclass(frozen=True)
class Cursor:
    """Where the next page begins: after the crop ``id`` with ``score``, among the crops up to number ``as_of``.

    ``model`` is the beginning of the fingerprint by which they were ranked: another model ranks them in another order.
    """

    score: float
    id: int
    as_of: int
    model: str = ""

    def __str__(self) -> str:
        return f"{self.model}{',' if self.model else ''}{self.score.hex()},{self.id},{self.as_of}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `str` wrote.

        Raises:
            ConfigError: it is something else.
        """
        if not (found := re.fullmatch(r"(?:([0-9a-f]{8}),)?(-?0x[0-9a-f.]+p[-+]\d+),(\d+),(\d+)", text)):
            raise ConfigError(f"cursor: {text[:60]!r} is not what a page gave")
        return cls(float.fromhex(found[2]), int(found[3]), int(found[4]), found[1] or "")


@dataclass(frozen=True)
class Page:
    """Some hits, best first.

    Attributes:
        hits: equal scores are ordered by number.
        next: where the next page begins; None after the last.
        exact: whether every crop was compared; else the HNSW index answered.
    """

    hits: tuple[Hit, ...]
    next: Cursor | None
    exact: bool


@dataclass(frozen=True)
class Facts:
    """What is known of a file beside its pixels: from its path, a sidecar or EXIF.

    Attributes:
        camera: its name.
        time: wall clock of the camera, of a video its beginning; without a zone.
        tags: words.
    """

    camera: str | None = None
    time: datetime | None = None
    tags: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Write it as the database keeps it."""
        return {"camera": self.camera, "time": self.time.isoformat() if self.time else None, "tags": list(self.tags)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Read what `to_json` wrote."""
        time = value.get("time")
        return cls(value.get("camera"), datetime.fromisoformat(time) if time else None, tuple(value.get("tags", ())))


@dataclass(frozen=True, eq=False)
class NewCrop:
    """A crop to be stored.

    Attributes:
        embedding: (D,) float32 of length 1.
        digest: SHA-256 of the file that it is, or of its JPEG.
        jpeg: its picture, where it is no file of its own.
        loss: what its score loses because it seems to show nobody, at least 0.
    """

    embedding: Array
    digest: bytes
    jpeg: bytes | None = None
    frame: int | None = None
    seconds: float | None = None
    time: datetime | None = None
    camera: str | None = None
    box: Box | None = None
    track: int | None = None
    tags: tuple[str, ...] = ()
    presence: float | None = None
    loss: float = 0.0
    confidence: float | None = None


@dataclass(frozen=True, eq=False)
class NewFile:
    """A file to be stored with its crops, or why it is quarantined.

    Attributes:
        path: absolute; or an address.
        stamp: size and times when it was read.
        digest: SHA-256 of the content; None of what has no end.
        crops: of it; they take the place of those that the gallery has, unless ``append``.
        facts: what is known of it.
        problem: why it cannot be used; None where it can.
        position: of a video, in milliseconds: what is before it is done.
        finished: whether its end was reached.
        append: keep the crops that the gallery has of it.
        kind: whether it is a crop itself, or a photograph or video in which people were detected.
    """

    path: str
    stamp: FileStamp
    digest: bytes | None
    crops: Sequence[NewCrop] = ()
    facts: Facts = field(default_factory=Facts)
    problem: str | None = None
    position: int = 0
    finished: bool = True
    append: bool = False
    kind: Kind = "crop"


@dataclass(frozen=True)
class KnownFile:
    """A file as the gallery has it; the attributes are those of `NewFile`, ``version`` is that of textreid."""

    id: int
    path: str
    stamp: FileStamp
    digest: bytes | None
    facts: Facts
    problem: str | None
    version: str
    position: int
    finished: bool
    kind: Kind


@dataclass(frozen=True)
class Counts:
    """How much a gallery holds; ``size`` is in bytes on the database's disk, times are of the cameras."""

    crops: int
    files: int
    quarantined: int
    sources: int
    tracks: int
    cameras: int
    first: datetime | None
    last: datetime | None
    size: int


@dataclass(frozen=True)
class GalleryInfo:
    """A gallery by name, the model that embedded it, and when it was made."""

    name: str
    model: str
    fingerprint: str
    dim: int
    created: datetime
    id: int
