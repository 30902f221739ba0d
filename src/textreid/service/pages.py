"""The page for people: rendered here, with a little JavaScript for keys; it asks the engine what the API asks."""

from datetime import datetime
from functools import cache
from hashlib import sha256
from http import HTTPStatus
from importlib.resources import files
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from starlette.exceptions import HTTPException

from textreid.errors import CaptionError, ConfigError
from textreid.service import accounts, audit
from textreid.service.api import Number, TheEngine, evidence_of
from textreid.service.asked import Asked, around
from textreid.service.engine import Engine
from textreid.service.identity import COOKIE, Identity, check_form_key
from textreid.service.languages import COOKIE as LANGUAGE_COOKIE, LANGUAGES, Language, language_of
from textreid.service.page_frame import (
    PAGE,
    Administering,
    FormKey,
    Looking,
    Text,
    TheDoor,
    address_of,
    people_of,
    show,
)
from textreid.service.schemas import SimilarIn

_EXAMPLES = (
    "a woman in a red jacket", "a man with a dark coat and a backpack", "somebody in a yellow shirt and shorts",
    "a person with a white top and blue jeans",
)  # fmt: skip
_ENTRIES = 50
_A_YEAR_S = 365 * 24 * 3600
_STATIC = {"page.css": "text/css", "page.js": "text/javascript", "icon.svg": "image/svg+xml"}
router = APIRouter(include_in_schema=False)


@router.get("/", response_class=HTMLResponse)
def search_page(request: Request, engine: TheEngine, identity: Looking, asked: Annotated[Asked, Query()]) -> Response:
    """Show the box, and who was found."""
    found, error, language = None, "", language_of(request)
    if asked.q.strip():
        try:
            search = asked.search()
            found = engine.search(identity.access, search.question(), search.wanted())
        except (ConfigError, CaptionError) as refused:
            error = str(refused)
    following = found.page.next if found else None
    people = people_of(found, asked.purpose, asked.first) if found else None
    if people and asked.order == "time":
        people.sort(key=_seen)
    return show(
        request, identity, "search", asked=asked, example_texts=_EXAMPLES,
        error=error, cameras=engine.cameras(identity.access), unread=found.unread if found else "",
        people=people, first=asked.first,
        notes=found.notes if found else (), verdict=found.verdict if found else None,
        chips=asked.chips(language), narrower=asked.narrower(people or (), language),
        reordered=asked.link(order="" if asked.order == "time" else "time"),
        unmarked=asked.again(right=[], wrong=[]), start=asked.again(),
        keep="/searches" + asked.again()[1:], export="/export" + asked.link()[1:],
        following=asked.link(after=following, first=asked.first + PAGE) if following else "",
        unfiltered="/?" + urlencode({"q": asked.q}) if asked.q else "/",
    )  # fmt: skip


def _seen(person: dict[str, Any]) -> tuple[bool, Any, float]:
    """Return by what people are put into the order of time: who was seen nobody knows when comes last."""
    time = person["time"]
    return time is None, time or 0, person["seconds"] or 0.0


@router.get("/crops/{number}", response_class=HTMLResponse)
def crop_page(request: Request, number: Number, engine: TheEngine, identity: Looking) -> Response:
    """Show a person: picture, where and when."""
    crop = engine.crop(identity.access, number)
    return show(
        request,
        identity,
        "crop",
        crop=crop,
        has_frame=not crop.is_file and crop.path.is_file(),
        around=around(crop),
        walk=[] if crop.track is None else engine.track(identity.access, number),
    )


@router.post("/export")
def export_on_page(
    engine: TheEngine, identity: Looking, asked: Annotated[Asked, Query()], form_key: FormKey = ""
) -> Response:
    """Give what the search of the address finds as evidence."""
    check_form_key(identity, form_key)
    search = asked.search()
    return evidence_of(engine.export(identity.access, search.question(), search.wanted()))


@router.get("/crops/{number}/similar", response_class=HTMLResponse)
def similar_page(
    request: Request, number: Number, engine: TheEngine, identity: Looking, purpose: Text = "", after: Text = "",
    first: Annotated[int, Query(ge=1, le=10**9)] = 1,
) -> Response:  # fmt: skip
    """Show people who look like one."""
    found, error = None, ""
    try:
        wanted = SimilarIn(top=PAGE, after=after[:120] or None, purpose=purpose[:500] or None).wanted()
        found = engine.similar(identity.access, number, wanted)
    except ConfigError as refused:
        error = str(refused)
    following = found.page.next if found else None
    fields = {"purpose": purpose, "after": following, "first": first + PAGE}
    return show(
        request, identity, "similar", number=number, error=error,
        people=people_of(found, purpose, first) if found else [],
        following=f"/crops/{number}/similar?{urlencode(fields)}" if following else "",
    )  # fmt: skip


@router.post("/crops/{number}/erase")
def erase(number: Number, engine: TheEngine, identity: Administering, form_key: FormKey = "") -> Response:
    """Erase a crop for good."""
    check_form_key(identity, form_key)
    engine.erase(identity.access, [number])
    return RedirectResponse("/", HTTPStatus.SEE_OTHER)


@router.get("/sign-in", response_class=HTMLResponse)
def sign_in_page(request: Request, then: Text = "/") -> Response:
    """Ask for name and password."""
    return show(request, None, "sign_in", then=_local(then), name="", error="")


@router.post("/sign-in")
def sign_in(
    request: Request, door: TheDoor, name: Annotated[str, Form(max_length=100)],
    password: Annotated[str, Form(max_length=1000)], then: Annotated[str, Form(max_length=4000)] = "/",
) -> Response:  # fmt: skip
    """Start a session, and go where they wanted to go."""
    cookie = door.sign_in(request, name, password)
    if cookie is None:
        error = language_of(request).gettext("This name and password do not belong together.")
        status = HTTPStatus.UNAUTHORIZED
        return show(request, None, "sign_in", status=status, then=_local(then), name=name, error=error)
    answer = RedirectResponse(_local(then), HTTPStatus.SEE_OTHER)
    answer.set_cookie(
        COOKIE, cookie, max_age=accounts.LONGEST_SESSION_H * 3600, httponly=True, samesite="strict",
        secure=request.url.scheme == "https",
    )  # fmt: skip
    return answer


@router.post("/sign-out")
def sign_out(request: Request, engine: TheEngine, door: TheDoor, form_key: FormKey = "") -> Response:
    """End the session."""
    identity = door.identify(request)
    if identity:
        check_form_key(identity, form_key)
        with engine.stores.database() as database:
            accounts.end_session(database, request.cookies.get(COOKIE, ""))
    answer = RedirectResponse("/sign-in", HTTPStatus.SEE_OTHER)
    answer.delete_cookie(COOKIE)
    return answer


@router.post("/language")
def choose_language(
    request: Request, language: Annotated[str, Form(max_length=10)], then: Annotated[str, Form(max_length=4000)] = "/"
) -> Response:
    """Keep the language that somebody reads, and go back to where they were."""
    answer = RedirectResponse(_local(then), HTTPStatus.SEE_OTHER)
    if language in LANGUAGES:
        answer.set_cookie(
            LANGUAGE_COOKIE, language, max_age=_A_YEAR_S, httponly=True, samesite="lax",
            secure=request.url.scheme == "https",
        )  # fmt: skip
    return answer


@router.get("/audit", response_class=HTMLResponse)
def audit_page(
    request: Request, engine: TheEngine, identity: Administering, before: Annotated[int, Query(ge=1, le=2**62)] = 2**62
) -> Response:
    """Show who asked what, the newest first."""
    return _audit_page(request, engine, identity, before)


@router.post("/audit/check", response_class=HTMLResponse)
def check_audit(request: Request, engine: TheEngine, identity: Administering, form_key: FormKey = "") -> Response:
    """Show it, and whether it is whole."""
    check_form_key(identity, form_key)
    whole, broken, language = "", "", language_of(request)
    with engine.stores.database() as database:
        try:
            number, digest = audit.verify(audit.entries(database))
            told = language.gettext("whole: %(count)s entries, the last hash begins with %(hash)s")
            whole = told % {"count": language.decimal(number), "hash": digest[:12]}
        except audit.AuditError as error:
            broken = str(error)
    return _audit_page(request, engine, identity, whole=whole, broken=broken)


@router.get("/static/{name}")
def static(request: Request, name: str) -> Response:
    """Return a file that the page is made of."""
    if name not in _STATIC:
        raise HTTPException(HTTPStatus.NOT_FOUND)
    content, tag = _file(name)
    headers = {"Cache-Control": "public, max-age=300", "ETag": tag}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    return Response(content, media_type=_STATIC[name], headers=headers)


@cache
def _file(name: str) -> tuple[bytes, str]:
    """Return a file that the page is made of, and what it is known by."""
    content = files("textreid.service").joinpath("static", name).read_bytes()
    return content, f'"{sha256(content).hexdigest()[:20]}"'


def problem_page(request: Request, status: int, detail: str) -> Response:
    """Answer an error to somebody who looks at the page; who has not signed in is asked to."""
    if status == HTTPStatus.UNAUTHORIZED:
        return RedirectResponse("/sign-in?" + urlencode({"then": address_of(request)}), HTTPStatus.SEE_OTHER)
    title = _title(status, language_of(request))
    return show(request, None, "problem", status=status, title=title, detail=detail)


def _title(status: int, language: Language) -> str:
    """Return what an error is called on the page."""
    _ = language.gettext
    titles = {
        HTTPStatus.FORBIDDEN: _("That is not yours to do"), HTTPStatus.NOT_FOUND: _("There is nothing here"),
        HTTPStatus.UNPROCESSABLE_ENTITY: _("That cannot be asked"),
        HTTPStatus.TOO_MANY_REQUESTS: _("That was too often"),
        HTTPStatus.SERVICE_UNAVAILABLE: _("Not now"), HTTPStatus.INSUFFICIENT_STORAGE: _("The disk is full"),
    }  # fmt: skip
    return titles.get(HTTPStatus(status), _("Something went wrong"))


def _audit_page(
    request: Request, engine: Engine, identity: Identity, before: int = 2**62, whole: str = "", broken: str = ""
) -> Response:
    with engine.stores.database() as database:
        found = audit.newest(database, _ENTRIES, before)
    older = f"/audit?before={found[-1].number}" if len(found) == _ENTRIES else ""
    rows = [_row(entry) for entry in found]
    return show(request, identity, "audit", rows=rows, older=older, whole=whole, broken=broken)


def _row(entry: audit.Entry) -> dict[str, Any]:
    facts = entry.facts
    filters = {name: _listed(value) for name, value in (facts.get("filters") or {}).items()}
    return {
        "number": facts["number"], "time": datetime.fromisoformat(facts["time"]), "actor": facts["actor"],
        "action": facts["action"], "query": [facts["query"]] if "query" in facts else [],
        "crop": [(facts.get("look", ""), facts["crop"])] if "crop" in facts else [], "filters": filters.items(),
        "erased": _listed(facts.get("erased", [])[:20]), "purpose": facts.get("purpose") or "",
        "shown": len(facts["shown"]) if "shown" in facts else None, "hash": entry.hash.hex(),
    }  # fmt: skip


def _listed(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _local(then: str) -> str:
    """Return an address of ours; one that leads elsewhere becomes the search."""
    return then if then.startswith("/") and not then.startswith(("//", "/\\")) and then.isprintable() else "/"
