"""What the API takes and gives, as OpenAPI describes it."""

from dataclasses import replace
from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, WithJsonSchema

from textreid.errors import ConfigError
from textreid.gallery.query.question import Question
from textreid.gallery.store import Crop, Cursor, Filters
from textreid.service.alerts import Alert
from textreid.service.jobs import Job
from textreid.service.ranking import Found, Wanted
from textreid.service.saved import SavedSearch
from textreid.service.uploads import Kind

MOST_HITS = 200
LARGEST_ID = 2**63 - 1  # of PostgreSQL's bigint
EXAMPLE: Any = {
    "query": "a woman in a red jacket",
    "filters": {"cameras": ["gate"], "since": "2026-05-01T08:00:00", "hours": [13, 18]},
    "top": 20,
}


def _storable(text: str) -> str:
    if "\0" in text:
        raise ValueError("a text cannot contain the character NUL")
    return text


def _zoneless(time: datetime) -> datetime:
    if time.tzinfo is not None:
        raise ValueError("expected a time without a zone: the wall clock of the camera")
    return time


Sentence = Annotated[str, StringConstraints(min_length=1, max_length=2000), AfterValidator(_storable)]
Word = Annotated[str, StringConstraints(min_length=1, max_length=500), AfterValidator(_storable)]
Words = Annotated[list[Word], Field(max_length=100)]
# RFC 3339, whose "date-time" wants a zone, without that: OpenAPI has no name for it.
_MONTH_DAY = r"((0[1-9]|1[0-2])-(0[1-9]|1\d|2[0-8])|(0[13-9]|1[0-2])-(29|30)|(0[13578]|1[02])-31)"
_ZONELESS = WithJsonSchema({
    "type": "string", "pattern": rf"^\d{{4}}-{_MONTH_DAY}T([01]\d|2[0-3]):[0-5]\d(:[0-5]\d(\.\d+)?)?$",
    "examples": ["2026-05-01T08:00:00"],
})  # fmt: skip
WallClock = Annotated[datetime, AfterValidator(_zoneless), _ZONELESS]
CropNumber = Annotated[int, Field(ge=1, le=LARGEST_ID)]

Judged = Annotated[list[CropNumber], Field(max_length=200)]


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid")


class FiltersIn(_Asked):
    """Which crops are ranked: those for which everything that is given holds."""

    cameras: Words = Field(default=[], description="Any of these.")
    since: WallClock | None = Field(default=None, description="Wall clock of the camera, without a zone; inclusive.")
    until: WallClock | None = Field(default=None, description="Exclusive.")
    hours: Annotated[list[Annotated[int, Field(ge=0, le=24)]], Field(min_length=2, max_length=2)] | None = Field(
        default=None, description="Hour of the day, from the first up to but without the second; [22, 5] is a night."
    )
    tags: Words = Field(default=[], description="All of these.")
    sources: Words = Field(default=[], description="Any of these: what was indexed, or a file or folder below it.")
    exclude: Annotated[list[CropNumber], Field(max_length=1000)] = Field(
        default=[], description="Crops that are not wanted."
    )

    def filters(self) -> Filters:
        """Make the store's.

        Raises:
            ConfigError: they contradict each other.
        """
        values: dict[str, Any] = {name: getattr(self, name) for name in type(self).model_fields}
        values |= {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
        return Filters(**values)


class WantedIn(_Asked):
    """Which part of a ranking is asked for."""

    filters: FiltersIn = FiltersIn()
    top: int = Field(default=20, ge=1, le=MOST_HITS, description="So many hits at most.")
    after: str | None = Field(
        default=None, max_length=120, description="`next` of the page before. Crops that arrived since then stay out."
    )
    one_per_track: bool = Field(default=False, description="Only the best crop of each walk past a camera.")
    purpose: Annotated[str, StringConstraints(max_length=500), AfterValidator(_storable)] | None = Field(
        default=None, description="What it is for, as a case number, for the audit log; a service may require it."
    )

    def wanted(self) -> Wanted:
        """Make the engine's.

        Raises:
            ConfigError: the filters contradict each other, or the cursor is none.
        """
        after = None if self.after is None else Cursor.parse(self.after)
        if after and max(after.id, after.as_of) > LARGEST_ID:
            raise ConfigError(f"after: {self.after!r} is not what a page gave")
        return Wanted(self.filters.filters(), self.top, after, self.one_per_track, self.purpose)


class SearchIn(WantedIn):
    """A search by a sentence."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [EXAMPLE]})
    query: Sentence = Field(description="The person in words.")
    witnesses: Annotated[list[Sentence], Field(max_length=20)] = Field(
        default=[], description="The same person in the words of others; each counts as much as the query."
    )
    without: Annotated[list[Word], Field(max_length=20)] = Field(default=[], description='Not seen, as in "a hat".')
    right: Judged = Field(default=[], description="Crops that show the person: the ranking moves towards them.")
    wrong: Judged = Field(default=[], description="Crops that do not: they are left out.")
    verdict: bool = Field(
        default=False, description="Tell how likely it is that anybody fits; the first time it takes some seconds."
    )

    def question(self) -> Question:
        """Make the question."""
        return Question((self.query, *self.witnesses), without=tuple(self.without))

    def wanted(self) -> Wanted:
        """Make the engine's; see `WantedIn.wanted`."""
        return replace(super().wanted(), right=tuple(self.right), wrong=tuple(self.wrong), verdict=self.verdict)


class ExportIn(SearchIn):
    """A search whose result is exported."""

    top: int = Field(default=20, ge=1, le=50, description="So many people at most, each with the frame.")


class SaveIn(_Asked):
    """A search to be kept."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"name": "red jacket, gate", "search": EXAMPLE}]}
    )
    name: Annotated[str, StringConstraints(min_length=1, max_length=100), AfterValidator(_storable)]
    search: SearchIn

    def asked(self) -> dict[str, Any]:
        """Return what is kept: the search from its first page on.

        Raises:
            ConfigError: it could not be run; see `SearchIn.wanted`.
        """
        self.search.wanted()
        return self.search.model_dump(mode="json", exclude_defaults=True, exclude={"after"})


class RunIn(_Asked):
    """Which part of a saved search's ranking is asked for; what is not given is as it was saved."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"top": 20}]})
    top: int | None = Field(default=None, ge=1, le=MOST_HITS)
    after: str | None = Field(default=None, max_length=120, description="`next` of the page before.")
    purpose: Annotated[str, StringConstraints(max_length=500), AfterValidator(_storable)] | None = None

    def of(self, saved: SavedSearch) -> SearchIn:
        """Make the search."""
        given = self.model_dump(exclude_none=True)
        return SearchIn.model_validate(saved.asked | given)


class SimilarIn(WantedIn):
    """A search by a crop."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"top": 20}]})


class CropOut(BaseModel):
    """A person as the gallery knows it."""

    id: int
    camera: str | None
    time: Annotated[datetime, _ZONELESS] | None = Field(description="Wall clock of the camera, without a zone.")
    source: str = Field(description="What was indexed.")
    path: str = Field(description="The file that it is, or that it was cut from.")
    frame: int | None = Field(description="Of the video, from 0.")
    seconds: float | None = Field(description="Since the beginning of the video.")
    box: Annotated[list[float], Field(min_length=4, max_length=4)] | None = Field(
        description="x, y, width, height in pixels of the upright frame; none of a file that is the crop itself."
    )
    track: int | None = Field(description="Number of the walk within the file.")
    tags: list[str]
    link: str | None = Field(description="Where the program that it came from shows it, as a page of Frigate.")
    picture: str = Field(description="Where its picture is.")
    thumbnail: str

    @classmethod
    def of(cls, crop: Crop) -> Self:
        """Describe a crop."""
        shown = {name: getattr(crop, name) for name in cls.model_fields if name not in ("picture", "thumbnail")}
        shown |= {"path": crop.origin, "tags": list(crop.tags), "box": crop.box and list(crop.box)}
        place = f"/api/v1/crops/{crop.id}"
        return cls(**shown, picture=f"{place}/picture", thumbnail=f"{place}/thumbnail")


class HitOut(BaseModel):
    """A crop that was found."""

    score: float = Field(description="A cosine: it orders the hits of one search, and is no probability.")
    crop: CropOut


class VerdictOut(BaseModel):
    """Whether anybody there fits."""

    answer: Literal["somebody", "nobody", "unclear"]
    probability: float = Field(description="That somebody there is the person, if that was as likely as not before.")
    chance: float = Field(description="Share of descriptions of people who are not there whose best score is as high.")


class PageOut(BaseModel):
    """A page of a ranking, best first."""

    hits: list[HitOut]
    next: str | None = Field(description="Give it as `after` for the next page; null after the last.")
    exact: bool = Field(description="Whether every crop was compared; else an index answered.")
    unread: str = Field(description="The end of the query that the model did not read because it is too long.")
    notes: list[str] = Field(description="On words that the model has not learned, and the like.")
    verdict: VerdictOut | None = Field(description="If it was asked for, and anybody passes the filters.")

    @classmethod
    def of(cls, found: Found) -> Self:
        """Describe what the engine found."""
        hits = [HitOut(score=round(hit.score, 6), crop=CropOut.of(hit.crop)) for hit in found.page.hits]
        after = str(found.page.next) if found.page.next else None
        told = found.verdict
        verdict = VerdictOut(answer=told.answer, probability=told.probability, chance=told.chance) if told else None
        return cls(
            hits=hits, next=after, exact=found.page.exact, unread=found.unread, notes=list(found.notes), verdict=verdict
        )  # fmt: skip


class SavedOut(BaseModel):
    """A search that you keep."""

    id: int
    name: str
    search: SearchIn
    created: datetime
    alert: str | None = Field(description="Who is told of new arrivals.")

    @classmethod
    def of(cls, saved: SavedSearch) -> Self:
        """Describe a saved search."""
        asked = SearchIn.model_validate(saved.asked)
        return cls(id=saved.number, name=saved.name, search=asked, created=saved.created, alert=saved.alert)


class SavedListOut(BaseModel):
    """The searches that you keep, by name."""

    searches: list[SavedOut]


class AlertIn(_Asked):
    """Who is told."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"to": "control-room"}]})
    to: Annotated[str, StringConstraints(max_length=100), AfterValidator(_storable)] | None = Field(
        description="Name of a destination, of those that `GET /api/v1/alerts` lists; null tells nobody."
    )


class AlertOut(BaseModel):
    """What is, was, or could not be told."""

    id: int
    saved: int = Field(description="Number of the saved search.")
    name: str
    to: str
    state: Literal["waiting", "sent", "dead"]
    attempts: int
    problem: str | None = Field(description="Of the last attempt.")
    created: datetime
    crops: list[int] = Field(description="Numbers of those that it tells of.")

    @classmethod
    def of(cls, alert: Alert) -> Self:
        """Describe an alert."""
        told = {name: getattr(alert, name) for name in cls.model_fields if name not in ("id", "crops")}
        return cls(id=alert.number, crops=[crop["id"] for crop in alert.body["crops"]], **told)


class AlertsOut(BaseModel):
    """Who can be told, and what was."""

    destinations: list[str]
    alerts: list[AlertOut]


class JobOut(BaseModel):
    """An upload, and how far it is indexed."""

    id: int
    by: str = Field(description="Who uploaded it.")
    kind: Kind
    camera: str | None
    state: Literal["waiting", "running", "done", "failed", "cancelled"]
    files: int
    done: int = Field(description="Files that are indexed, those that cannot be used included.")
    seconds: float | None = Field(description="Of a video, that were looked at.")
    crops: int = Field(description="People that the gallery has of it now.")
    problems: list[dict[str, str]] = Field(
        description="Files that cannot be used and why; or, without a file, why it failed.",
        examples=[[{"file": "a.jpg", "problem": "one colour"}]],
    )
    created: datetime
    ended: datetime | None

    @classmethod
    def of(cls, job: Job) -> Self:
        """Describe a job."""
        told = {name: getattr(job, name) for name in cls.model_fields if name not in ("id", "by")}
        return cls(id=job.number, by=job.actor, **told)


class JobsOut(BaseModel):
    """Uploads, the newest first."""

    jobs: list[JobOut]


class CameraOut(BaseModel):
    """A camera, and how many crops there are of it."""

    name: str
    crops: int


class CamerasOut(BaseModel):
    """The cameras of a gallery."""

    cameras: list[CameraOut]


class EraseIn(_Asked):
    """Crops to be erased."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"crops": [17, 18]}]})
    crops: Annotated[list[CropNumber], Field(min_length=1, max_length=10_000)]


class ExportedOut(BaseModel):
    """An export of evidence."""

    time: datetime
    by: str
    sha256: str


class ErasedOut(BaseModel):
    """What was erased."""

    crops: int = Field(description="How many there were that you may see.")
    files: list[str] = Field(description="Files that still show the people: textreid deletes only what was uploaded.")
    thorough: bool = Field(description="Whether nothing of them is left in the database's files and log.")
    exports: list[ExportedOut] = Field(description="Exports that show one of them: those are out of our hands.")
    searches: list[str] = Field(
        description="Names of saved searches, of anybody, that named one of them; none does now."
    )


class TrackOut(BaseModel):
    """The crops of one walk past a camera, in order of time."""

    crops: list[CropOut]


class EntryOut(BaseModel):
    """An entry of the audit log."""

    entry: dict[str, Any] = Field(examples=[{"number": 1, "actor": "ada", "action": "search", "shown": [17]}])
    hash: str = Field(description="SHA-256 over the hash before and the entry as it is stored, hexadecimal.")


class EntriesOut(BaseModel):
    """Some entries of the audit log, in order."""

    entries: list[EntryOut]
