"""What all pages of the service share: who looks at them, the frame around them, and people in rows."""

from collections.abc import Callable
from http import HTTPStatus
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import Depends, Form, Request, Response
from fastapi.responses import HTMLResponse
from pydantic import StringConstraints

from textreid.gallery.store import Crop, Hit
from textreid.reporting.html import render_page
from textreid.service.access import Scope
from textreid.service.engine import Found
from textreid.service.identity import Door, ForbiddenError, Identity, NotSignedInError, the_door

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
    frame = {
        "gallery": settings.gallery, "require_purpose": settings.require_purpose, "here": template,
        "actor": identity.access.actor if identity else "", "form_key": identity.form_key if identity else None,
        "may_upload": bool(identity and identity.access.may("index") and settings.upload_mb),
        "is_admin": bool(identity and identity.access.may("admin")),
    }  # fmt: skip
    return HTMLResponse(render_page("textreid.service", f"templates/{template}.html", frame=frame, **values), status)


def people_of(found: Found, purpose: str) -> list[dict[str, Any]]:
    """Describe hits as the grid of a page draws them."""
    return [_person(hit, purpose) for hit in found.page.hits]


def _person(hit: Hit, purpose: str) -> dict[str, Any]:
    number = hit.crop.id
    fields = "?" + urlencode({"purpose": purpose}) if purpose else ""
    return {
        "number": number, "link": f"/crops/{number}", "similar": f"/crops/{number}/similar{fields}",
        "thumbnail": f"/api/v1/crops/{number}/thumbnail", "score": hit.score, "day": day_of(hit.crop),
        "clock": f"{hit.crop.time:%H:%M:%S}" if hit.crop.time else "",
        "where": hit.crop.camera or hit.crop.path.name,
    }  # fmt: skip


def day_of(crop: Crop) -> str:
    """Write a date as people read it: Fri 1 May 2026; nothing where the time is not known."""
    return f"{crop.time:%a} {crop.time.day} {crop.time:%b %Y}" if crop.time else ""
