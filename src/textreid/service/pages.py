"""The page for people: rendered here, with a little JavaScript for keys; it asks the engine what the API asks."""

from http import HTTPStatus
from importlib.resources import files
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from pydantic import BaseModel, Field, ValidationError
from starlette.exceptions import HTTPException

from textreid.errors import CaptionError, ConfigError
from textreid.service import accounts, audit
from textreid.service.api import Number, TheEngine, evidence_of
from textreid.service.engine import Engine
from textreid.service.identity import COOKIE, Identity, check_form_key
from textreid.service.page_frame import (
    PAGE,
    Administering,
    FormKey,
    Looking,
    Text,
    TheDoor,
    day_of,
    people_of,
    show,
)
from textreid.service.schemas import FiltersIn, SearchIn, SimilarIn

_EXAMPLES = (
    "a woman in a red jacket", "a man with a dark coat and a backpack", "somebody in a yellow shirt and shorts",
    "a person with a white top and blue jeans",
)  # fmt: skip
_ENTRIES = 50
_STATIC = {"page.css": "text/css", "page.js": "text/javascript", "icon.svg": "image/svg+xml"}
router = APIRouter(include_in_schema=False)


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


@router.get("/", response_class=HTMLResponse)
def search_page(request: Request, engine: TheEngine, identity: Looking, asked: Annotated[Asked, Query()]) -> Response:
    """Show the box, and who was found."""
    found, error = None, ""
    if asked.q.strip():
        try:
            search = asked.search()
            found = engine.search(identity.access, search.question(), search.wanted())
        except (ConfigError, CaptionError) as refused:
            error = str(refused)
    following = found.page.next if found else None
    return show(
        request, identity, "search", asked=asked,
        error=error, cameras=engine.cameras(identity.access), unread=found.unread if found else "",
        people=people_of(found, asked.purpose) if found else None, first=asked.first,
        notes=found.notes if found else (), verdict=found.verdict if found else None,
        unmarked=asked.link(right=[], wrong=[], after="", first=0),
        examples=[{"text": text, "link": "/?" + urlencode({"q": text})} for text in _EXAMPLES],
        start=asked.link(after="", first=0), keep="/searches" + asked.link(after="", first=0)[1:],
        export="/export" + asked.link()[1:],
        following=asked.link(after=following, first=asked.first + PAGE) if following else "",
        unfiltered="/?" + urlencode({"q": asked.q}) if asked.q else "/",
    )  # fmt: skip


@router.get("/crops/{number}", response_class=HTMLResponse)
def crop_page(request: Request, number: Number, engine: TheEngine, identity: Looking) -> Response:
    """Show a person: picture, where and when."""
    crop = engine.crop(identity.access, number)
    minute = "" if crop.seconds is None else f"{int(crop.seconds // 60)}:{crop.seconds % 60:04.1f}"
    return show(
        request,
        identity,
        "crop",
        crop=crop,
        has_frame=not crop.is_file and crop.path.is_file(),
        when=f"{day_of(crop)}, {crop.time:%H:%M:%S}" if crop.time else "Time not known",
        minute=minute,
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
        request, identity, "similar", number=number, error=error, first=first,
        people=people_of(found, purpose) if found else [],
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
        error = "This name and password do not belong together."
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


@router.get("/audit", response_class=HTMLResponse)
def audit_page(
    request: Request, engine: TheEngine, identity: Administering, before: Annotated[int, Query(ge=1, le=2**62)] = 2**62
) -> Response:
    """Show who asked what, the newest first."""
    return _audit_page(request, engine, identity, before, "", broken=False)


@router.post("/audit/check", response_class=HTMLResponse)
def check_audit(request: Request, engine: TheEngine, identity: Administering, form_key: FormKey = "") -> Response:
    """Show it, and whether it is whole."""
    check_form_key(identity, form_key)
    with engine.stores.database() as database:
        try:
            number, digest = audit.verify(audit.entries(database))
            said, broken = f"whole: {number:,} entries, the last hash begins with {digest[:12]}", False
        except audit.AuditError as error:
            said, broken = str(error), True
    return _audit_page(request, engine, identity, 2**62, said, broken=broken)


@router.get("/static/{name}")
def static(name: str) -> Response:
    """Return a file that the page is made of."""
    if name not in _STATIC:
        raise HTTPException(HTTPStatus.NOT_FOUND)
    content = files("textreid.service").joinpath("static", name).read_bytes()
    return Response(content, media_type=_STATIC[name], headers={"Cache-Control": "public, max-age=300"})


def problem_page(request: Request, status: int, detail: str) -> Response:
    """Answer an error to somebody who looks at the page; who has not signed in is asked to."""
    if status == HTTPStatus.UNAUTHORIZED:
        then = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        where = "/sign-in?" + urlencode({"then": then if request.method == "GET" else "/"})
        return RedirectResponse(where, HTTPStatus.SEE_OTHER)
    return show(request, None, "problem", status=status, title=HTTPStatus(status).phrase, detail=detail)


def _audit_page(
    request: Request, engine: Engine, identity: Identity, before: int, checked: str, *, broken: bool
) -> Response:
    with engine.stores.database() as database:
        found = audit.newest(database, _ENTRIES, before)
    older = f"/audit?before={found[-1].number}" if len(found) == _ENTRIES else ""
    rows = [_row(entry) for entry in found]
    return show(request, identity, "audit", rows=rows, older=older, checked=checked, broken=broken)


def _row(entry: audit.Entry) -> dict[str, Any]:
    facts = entry.facts
    what = [facts["query"]] if "query" in facts else []
    what += [f"{facts.get('look', 'like')} {facts['crop']}"] if "crop" in facts else []
    what += [f"{name}: {value}" for name, value in facts.get("filters", {}).items()]
    what += [f"crops {', '.join(map(str, facts['erased'][:20]))}"] if "erased" in facts else []
    shown = f"{len(facts['shown'])} crops" if "shown" in facts else ""
    return {
        "number": facts["number"], "time": facts["time"], "actor": facts["actor"], "action": facts["action"],
        "what": " · ".join(what), "purpose": facts.get("purpose", ""), "shown": shown, "hash": entry.hash.hex(),
    }  # fmt: skip


def _local(then: str) -> str:
    """Return an address of ours; one that leads elsewhere becomes the search."""
    return then if then.startswith("/") and not then.startswith(("//", "/\\")) and then.isprintable() else "/"
