"""Pages of HTML that need no network: one jinja2 environment that escapes, and one template that all derive from.

A template lies in the package that renders it, and begins with ``{% extends "textreid.reporting/page.html" %}``.
"""

import mimetypes
from functools import cache
from importlib.resources import files
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from PIL import Image

from textreid.images import as_data_uri

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from jinja2 import Environment

_JPEG_QUALITY = 85


class Language(Protocol):
    """A language that a page is written in: its texts, and how it writes dates and numbers."""

    def __hash__(self) -> int:
        """Tell languages apart: the environment of each is kept."""

    @property
    def filters(self) -> "Mapping[str, Callable[..., Any]]":
        """Functions that a template writes values with, by name."""

    def gettext(self, message: str, /) -> str:
        """Return the text that stands for an English one."""

    def ngettext(self, singular: str, plural: str, count: int, /) -> str:
        """Return the text that stands for an English one of ``count`` things."""


def render_page(package: str, template: str, language: Language | None = None, **values: Any) -> str:
    """Render a template of a package; every value is escaped.

    Templates know two filters: ``number`` (``{{ share|number(".1%") }}``, as Python's `format`) and `data_uri`.

    Args:
        package: dotted name of the package that the template lies in.
        template: its file name.
        language: what it is written in: then ``_("…")`` translates, and its filters are known.
        values: what the template names; a name that it lacks is an error, not an empty place.

    Raises:
        jinja2.UndefinedError: the template names a value that was not given.
        OSError: a picture that the template embeds cannot be read.
    """
    return _environment(language).get_template(f"{package}/{template}").render(values)


def data_uri(picture: Path | Image.Image) -> str:
    """Return the address that holds the picture itself: a file's bytes as they are, a Pillow image as JPEG.

    Raises:
        OSError: the file cannot be read.
    """
    if isinstance(picture, Image.Image):
        stream = BytesIO()
        # A PNG of a photograph would be several times as large, and a page embeds many.
        picture.save(stream, "JPEG", quality=_JPEG_QUALITY)
        return as_data_uri(stream.getvalue())
    return as_data_uri(picture.read_bytes(), mimetypes.guess_type(picture.name)[0] or "image/jpeg")


@cache
def _environment(language: Language | None) -> "Environment":
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    # A loader of one function, since jinja2's own know one package, and the page that all derive from lies in another.
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, loader=FunctionLoader(_read)
    )
    environment.filters |= {"number": format, "data_uri": data_uri}
    if language:
        environment.add_extension("jinja2.ext.i18n")
        environment.install_gettext_callables(language.gettext, language.ngettext, newstyle=True)  # type: ignore[attr-defined]
        environment.filters |= language.filters
    return environment


def _read(name: str) -> str:
    package, _, template = name.partition("/")
    return files(package).joinpath(template).read_text(encoding="utf-8")
