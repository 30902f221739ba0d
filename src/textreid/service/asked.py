"""The search that a page asks: the fields of its form, its address, and the filters that can be taken away or added."""

from collections import Counter
from collections.abc import Iterable
from datetime import date, datetime, timedelta
from typing import Annotated, Any
from urllib.parse import urlencode

from pydantic import BaseModel, Field, ValidationError

from textreid.errors import ConfigError
from textreid.gallery.store import Crop
from textreid.service.languages import Language
from textreid.service.page_frame import PAGE, Text
from textreid.service.schemas import FiltersIn, SearchIn

_MOST_CHIPS = 8  # of what a page can be narrowed to
_AROUND = timedelta(minutes=5)


class Asked(BaseModel):
    """A search as the form of the page has it: everything is text, and nothing is checked yet."""

    q: Text = ""
    camera: Annotated[list[Text], Field(max_length=100)] = []
    since: Text = ""
    until: Text = ""
    from_hour: Text = ""
    to_hour: Text = ""
    tag: Text = ""
    once: Text = ""
    purpose: Text = ""
    also: Text = ""
    without: Text = ""
    right: Annotated[list[int], Field(max_length=200)] = []
    wrong: Annotated[list[int], Field(max_length=200)] = []
    order: Text = ""
    after: Text = ""
    first: Annotated[int, Field(ge=1, le=10**9)] = 1

    @property
    def filtered(self) -> bool:
        """Whether any filter is set."""
        return any((
            self.camera, self.since, self.until, self.from_hour, self.to_hour, self.tag, self.also, self.without,
        ))  # fmt: skip

    def search(self) -> SearchIn:
        """Make the search of the API.

        Raises:
            ConfigError: a field is wrong; says which.
        """
        hours = (self.from_hour or "0", self.to_hour or "24") if self.from_hour or self.to_hour else None
        filters: dict[str, Any] = {
            "cameras": self.camera, "since": self.since or None, "until": self.until or None, "hours": hours,
            "tags": [self.tag] if self.tag else [],
        }  # fmt: skip
        try:
            return SearchIn(
                query=self.q, filters=FiltersIn(**filters), top=PAGE, after=self.after or None,
                one_per_track=bool(self.once), purpose=self.purpose or None, right=self.right, wrong=self.wrong,
                witnesses=[self.also] if self.also else [], without=[self.without] if self.without else [],
                # Cheap where all crops count: that is kept with the gallery.
                verdict=not self.filtered,
            )  # fmt: skip
        except ValidationError as error:
            first = error.errors()[0]
            raise ConfigError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None

    def link(self, **changes: Any) -> str:
        """Write the address of the search with some fields changed."""
        fields = self.model_dump() | {"first": 0 if self.first == 1 else self.first} | changes
        return "/?" + urlencode({name: value for name, value in fields.items() if value}, doseq=True)

    def again(self, **changes: Any) -> str:
        """Write the address of the first page of the search with some fields changed."""
        return self.link(**{"after": "", "first": 0, **changes})

    def chips(self, language: Language) -> list[dict[str, str]]:
        """Describe the filters that are set: what each is called, its value, and the address without it."""
        _ = language.gettext
        hours = f"{self.from_hour or 0}:00 – {self.to_hour or 24}:00"  # noqa: RUF001 - as people read it
        found: list[tuple[str, str, dict[str, Any]]]
        found = [(_("Camera"), name, {"camera": [one for one in self.camera if one != name]}) for name in self.camera]
        found += [
            (label, value, dict.fromkeys(names, ""))
            for label, value, names in (
                (_("From"), _written(self.since, language), ["since"]),
                (_("Until"), _written(self.until, language), ["until"]),
                (_("Hours of the day"), hours if self.from_hour or self.to_hour else "", ["from_hour", "to_hour"]),
                (_("Tag"), self.tag, ["tag"]),
                (_("Another witness says"), self.also, ["also"]),
                (_("Without"), self.without, ["without"]),
                (_("each walk once"), "✓" if self.once else "", ["once"]),
            )
            if value
        ]
        return [{"label": label, "value": value, "link": self.again(**without)} for label, value, without in found]

    def narrower(self, people: Iterable[dict[str, Any]], language: Language) -> list[dict[str, Any]]:
        """Describe what a page of results can be narrowed to: cameras and days, how many people of each it shows."""
        shown = list(people)
        cameras = Counter(one["camera"] for one in shown if one["camera"] and not self.camera)
        days = Counter(one["time"].date() for one in shown if one["time"] and not (self.since or self.until))
        found = [(name, count, {"camera": [name]}) for name, count in cameras.most_common()] if len(cameras) > 1 else []
        if len(days) > 1:
            found += [(language.day(day), count, _within(day)) for day, count in sorted(days.items())]
        chips = [{"value": value, "count": count, "link": self.again(**fields)} for value, count, fields in found]
        return chips[:_MOST_CHIPS]


def around(crop: Crop) -> str:
    """Write the address of a search, still without a sentence, at a crop's camera and time; empty without a time."""
    if crop.time is None:
        return ""
    fields = {"since": crop.time - _AROUND, "until": crop.time + _AROUND}
    times = {name: time.isoformat(timespec="seconds") for name, time in fields.items()}
    return "/?" + urlencode({**({"camera": crop.camera} if crop.camera else {}), **times})


def _within(day: date) -> dict[str, Any]:
    return {"since": f"{day}T00:00", "until": f"{day + timedelta(1)}T00:00"}


def _written(time: str, language: Language) -> str:
    """Write what a field for a time has; what is no time as it is."""
    try:
        return language.moment(datetime.fromisoformat(time)) if time else ""
    except ValueError:
        return time
