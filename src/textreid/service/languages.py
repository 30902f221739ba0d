"""The languages of the page: in which one a browser is answered, and how that writes texts, dates and numbers.

English is the language of the program: its texts name those of the others in ``translations/*.po``, which
``scripts/translations`` keeps up to date. What the program says to every caller alike (an error, a note on a search)
is translated when it is shown, by the text that it came from.
"""

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import cache
from importlib.resources import files
from io import BytesIO
from typing import Any, Literal, cast

from babel import Locale, dates, numbers
from babel.messages import mofile, pofile
from babel.support import Translations
from fastapi import Request
from markupsafe import Markup, escape

from textreid.service.told import TOLD

COOKIE = "textreid-language"
LANGUAGES = {"en": "English", "de": "Deutsch"}
_REGIONS = {"en": "en_GB"}  # as the English of the program is: a day before its month
_PLACE = re.compile(r"%\((\w+)\)s")


class Language:
    """A language that pages are written in.

    Attributes:
        tag: as HTML names it.
        filters: what templates write values with, by name.
    """

    def __init__(self, tag: str) -> None:
        self.tag = tag
        self._locale = Locale.parse(_REGIONS.get(tag, tag))
        self._texts = _texts(tag)
        self.filters: Mapping[str, Callable[..., Any]] = {
            "clock": self.clock, "day": self.day, "decimal": self.decimal, "into": into, "moment": self.moment,
            "percent": self.percent, "said": self.said,
        }  # fmt: skip

    def gettext(self, message: str) -> str:
        """Return the text that stands for an English one."""
        return str(self._texts.gettext(message))

    def ngettext(self, singular: str, plural: str, count: int) -> str:
        """Return the text that stands for an English one of ``count`` things."""
        return str(self._texts.ngettext(singular, plural, count))

    def day(self, time: datetime) -> str:
        """Write a date as people read it: Fri, 1 May 2026."""
        return dates.format_skeleton("yMMMEd", time, locale=self._locale)

    def clock(self, time: datetime) -> str:
        """Write a time of day, to the second."""
        return dates.format_time(time, "HH:mm:ss", locale=self._locale)

    def moment(self, time: datetime) -> str:
        """Write date and time of day."""
        return f"{self.day(time)}, {self.clock(time)}"

    def decimal(self, value: float, digits: int = 0) -> str:
        """Write a number with so many digits behind the point."""
        form = "#,##0" + ("." + "0" * digits if digits else "")
        return numbers.format_decimal(value, form, locale=self._locale)

    def percent(self, share: float) -> str:
        """Write a share of one as a whole number of hundredths."""
        return numbers.format_percent(share, locale=self._locale)

    def said(self, text: str, form: Literal["word", "title", "sentence"] = "word") -> Markup:
        """Write what the program said, in this language; what nobody translated is marked as English.

        Args:
            text: see there.
            form: a "title" begins with a capital letter, and a "sentence" ends with a full stop, too.
        """
        translated = self._translated(text)
        written = text if translated is None else translated
        if form != "word":
            written = written[:1].upper() + written[1:]
        if form == "sentence" and not written.endswith((".", "!", "?")):
            written += "."
        return Markup('<span lang="en">{}</span>').format(written) if translated is None else escape(written)

    def _translated(self, text: str) -> str | None:
        """Return what the program said in this language, or None where nobody translated it."""
        for pattern, message in _patterns():
            if found := pattern.fullmatch(text):
                return self.gettext(message) % {name: self._part(part) for name, part in found.groupdict().items()}
        return text if self.tag == "en" else None

    def _part(self, text: str) -> str:
        """Return a part of what the program said in this language, or as it is, as a name or a number."""
        return self.gettext(text) if text in TOLD else text


def into(seconds: float) -> str:
    """Write how far into a video something is: 1:02:03, or 0:07."""
    minutes, left = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{left:02}" if hours else f"{minutes}:{left:02}"


@cache
def language(tag: str) -> Language:
    """Return one of `LANGUAGES` by its tag."""
    return Language(tag)


def language_of(request: Request) -> Language:
    """Return the language that somebody chose, or else the first of ours that their browser asks for."""
    chosen = request.cookies.get(COOKIE, "")
    return language(chosen if chosen in LANGUAGES else _wanted(request.headers.get("accept-language", "")))


def _wanted(header: str) -> str:
    """Read a header ``Accept-Language``; English where it has none of ours, or makes no sense."""
    weights: dict[str, float] = {}
    for part in header.split(","):
        tag, _, weight = part.partition(";")
        name = tag.strip().partition("-")[0].lower()
        try:
            given = float(weight.strip().removeprefix("q=") or 1)
        except ValueError:
            continue
        weights[name] = max(given, weights.get(name, 0.0))
    ours = [(weight, tag) for tag, weight in weights.items() if tag in LANGUAGES and weight > 0]
    # Of two that are wanted as much, the one that stands first.
    return max(ours, key=lambda one: one[0])[1] if ours else "en"


def _texts(tag: str) -> Translations:
    """Read a catalogue; that of English has only what reads otherwise on a page than at a command line."""
    source = files("textreid.service").joinpath("translations", f"{tag}.po").read_bytes()
    compiled = BytesIO()
    mofile.write_mo(compiled, pofile.read_po(BytesIO(source), tag))
    compiled.seek(0)
    return Translations(cast("Any", compiled))


@cache
def _patterns() -> list[tuple[re.Pattern[str], str]]:
    """Return what each text of `TOLD` looks like when its places are filled; the more it says itself, the earlier."""
    ordered = sorted(TOLD, key=lambda text: -len(_PLACE.sub("", text)))
    return [(re.compile("".join(_parts(text)), re.DOTALL), text) for text in ordered]


def _parts(text: str) -> list[str]:
    pieces = _PLACE.split(text)
    return [f"(?P<{piece}>.*)" if number % 2 else re.escape(piece) for number, piece in enumerate(pieces)]
