"""Pages of HTML that need no network: one jinja2 environment that escapes, and one template that all derive from.

A template lies in the package that renders it, and begins with ``{% extends "textreid.reporting/page.html" %}``.
"""

import mimetypes
from functools import cache
from importlib.resources import files
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from textreid.images import as_data_uri

if TYPE_CHECKING:
    from jinja2 import Environment

_JPEG_QUALITY = 85


def render_page(package: str, template: str, **values: Any) -> str:
    """Render a template of a package; every value is escaped.

    Templates know two filters: ``number`` (``{{ share|number(".1%") }}``, as Python's `format`) and `data_uri`.

    Args:
        package: dotted name of the package that the template lies in.
        template: its file name.
        values: what the template names; a name that it lacks is an error, not an empty place.

    Raises:
        jinja2.UndefinedError: the template names a value that was not given.
        OSError: a picture that the template embeds cannot be read.
    """
    return _environment().get_template(f"{package}/{template}").render(values)


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
def _environment() -> "Environment":
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    # A loader of one function, since jinja2's own know one package, and the page that all derive from lies in another.
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, loader=FunctionLoader(_read)
    )
    environment.filters |= {"number": format, "data_uri": data_uri}
    return environment


def _read(name: str) -> str:
    package, _, template = name.partition("/")
    return files(package).joinpath(template).read_text(encoding="utf-8")
