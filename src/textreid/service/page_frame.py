"""What all pages of the service share: who looks at them, the frame around them, and people in rows."""

from collections.abc import Callable
from http import HTTPStatus
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import Depends, Form, Request, Response
from fastapi.responses import HTMLResponse
from pydantic import StringConstraints

from textreid.gallery.store import Hit
from textreid.reporting.html import render_page
from textreid.service.access import Scope
from textreid.service.identity import Door, ForbiddenError, Identity, NotSignedInError, the_door
from textreid.service.languages import LANGUAGES, language_of
from textreid.service.ranking import Found

PAGE = 24  # people on one page
TheDoor = Annotated[Door, Depends(the_door)]


def needs(scope: Scope) -> Callable[..., Identity]:
    """Make a dependency: who looks at the page, if they may do what a scope stands for."""

    def check(request: Request, door: TheDoor) -> Identity:
        identity = door.identify(request)
        if identity is None:
            raise NotSignedInError("sign in first")
        if not identity.access.may(scope):
            raise ForbiddenError(f"your account does not have the scope {scope!r}")
        return identity

    return check


Looking = Annotated[Identity, Depends(needs("search"))]
Indexing = Annotated[Identity, Depends(needs("index"))]
Administering = Annotated[Identity, Depends(needs("admin"))]
FormKey = Annotated[str, Form(max_length=100)]
Text = Annotated[str, StringConstraints(max_length=2000)]


def show(
    request: Request, identity: Identity | None, template: str, /, status: int | None = None, **values: Any
) -> Response:  # fmt: skip
    """Render a template of ours within the frame: who looks, and where they are.

    Args:
        request: that is answered.
        identity: who looks, if it is known.
        template: name of its file.
        status: of HTTP; when None, 422 where ``values`` have an ``error``, else 200.
        **values: of the template.
    """
    if status is None:
        status = HTTPStatus.UNPROCESSABLE_ENTITY if values.get("error") else HTTPStatus.OK
    settings = request.app.state.engine.settings
    language = language_of(request)
    frame = {
        "gallery": settings.gallery, "require_purpose": settings.require_purpose, "here": template,
        "actor": identity.access.actor if identity else "", "form_key": identity.form_key if identity else None,
        "may_upload": bool(identity and identity.access.may("index") and settings.upload_mb),
        "is_admin": bool(identity and identity.access.may("admin")),
        "language": language.tag, "languages": LANGUAGES, "back": address_of(request),
    }  # fmt: skip
    name = f"templates/{template}.html"
    return HTMLResponse(render_page("textreid.service", name, language, frame=frame, **values), status)


def address_of(request: Request) -> str:
    """Return where a browser is, to come back to; the search, where it sent something."""
    return request.url.path + (f"?{request.url.query}" if request.url.query else "") if request.method == "GET" else "/"


def people_of(found: Found, purpose: str, first: int) -> list[dict[str, Any]]:
    """Describe hits as the grid of a page draws them, with their ranks from ``first`` on."""
    return [_person(hit, purpose, rank) for rank, hit in enumerate(found.page.hits, first)]


def _person(hit: Hit, purpose: str, rank: int) -> dict[str, Any]:
    number = hit.crop.id
    fields = "?" + urlencode({"purpose": purpose}) if purpose else ""
    return {
        "number": number, "rank": rank, "link": f"/crops/{number}", "similar": f"/crops/{number}/similar{fields}",
        "thumbnail": f"/api/v1/crops/{number}/thumbnail", "score": hit.score, "time": hit.crop.time,
        "seconds": hit.crop.seconds, "camera": hit.crop.camera, "where": hit.crop.camera or hit.crop.path.name,
    }  # fmt: skip
