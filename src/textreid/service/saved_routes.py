"""Saved searches over HTTP: for programs below ``/api/v1/searches``, for people below ``/searches``."""

from dataclasses import replace
from http import HTTPStatus
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Path, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from textreid.errors import ConfigError
from textreid.service.access import Access
from textreid.service.alerts import alerts
from textreid.service.api import PROBLEMS, TheEngine
from textreid.service.asked import Asked
from textreid.service.engine import Engine
from textreid.service.identity import Searching, check_form_key
from textreid.service.languages import Language, language_of
from textreid.service.page_frame import PAGE, FormKey, Looking, Text, people_of, show
from textreid.service.ranking import Found
from textreid.service.saved import SavedSearch, delete_saved_search, save, saved_search, saved_searches
from textreid.service.schemas import LARGEST_ID, PageOut, RunIn, SavedListOut, SavedOut, SaveIn, SearchIn

api = APIRouter(prefix="/api/v1/searches", responses=PROBLEMS)
pages = APIRouter(prefix="/searches", include_in_schema=False)
SavedNumber = Annotated[int, Path(ge=1, le=LARGEST_ID, description="Number of a saved search.", examples=[1])]


@api.get("", summary="The searches that you keep")
def list_searches(engine: TheEngine, access: Searching) -> SavedListOut:
    """List your own saved searches by name; nobody sees another's."""
    with engine.stores.borrow() as store:
        return SavedListOut(searches=[SavedOut.of(one) for one in saved_searches(store, access)])


@api.post("", summary="Keep a search", status_code=HTTPStatus.CREATED)
def save_search(asked: SaveIn, engine: TheEngine, access: Searching) -> SavedOut:
    """Keep a search under a name, to run it again. A new run finds what has come since."""
    return SavedOut.of(_save(engine, access, asked))


@api.get("/{saved}", summary="Look at a search that you keep")
def read_search(saved: SavedNumber, engine: TheEngine, access: Searching) -> SavedOut:
    """Tell what a saved search asks."""
    with engine.stores.borrow() as store:
        return SavedOut.of(saved_search(store, access, saved))


@api.post("/{saved}/run", summary="Run a search that you keep")
def run_search(saved: SavedNumber, asked: RunIn, engine: TheEngine, access: Searching) -> PageOut:
    """Rank the crops of the gallery as it is now, those of the cameras that you may see now."""
    return PageOut.of(_run(engine, access, saved, asked))


@api.delete("/{saved}", summary="Delete a search that you keep", status_code=HTTPStatus.NO_CONTENT)
def delete_search(saved: SavedNumber, engine: TheEngine, access: Searching) -> None:
    """Forget a saved search. What it found stays in the audit log."""
    _delete(engine, access, saved)


@pages.get("", response_class=HTMLResponse)
def searches_page(request: Request, engine: TheEngine, identity: Looking) -> Response:
    """Show the saved searches."""
    language = language_of(request)
    with engine.stores.borrow() as store:
        kept = [(one, SearchIn.model_validate(one.asked)) for one in saved_searches(store, identity.access)]
        dead = [one for one in alerts(store, identity.access) if one.state == "dead"]
    rows = [(one, summary_of(asked, language)) for one, asked in kept]
    return show(request, identity, "searches", rows=rows, destinations=engine.destinations, dead=dead)


@pages.post("")
def save_on_page(
    request: Request, engine: TheEngine, identity: Looking, asked: Annotated[Asked, Query()],
    name: Annotated[str, Form(max_length=100)], form_key: FormKey = "",
) -> Response:  # fmt: skip
    """Keep the search that the address tells, and go to the saved ones."""
    check_form_key(identity, form_key)
    search = asked.search().model_copy(update={"after": None, "verdict": False})
    _save(engine, identity.access, SaveIn(name=name.strip()[:100] or asked.q[:100], search=search))
    return RedirectResponse("/searches", HTTPStatus.SEE_OTHER)


@pages.get("/{saved}", response_class=HTMLResponse)
def run_on_page(
    request: Request, saved: SavedNumber, engine: TheEngine, identity: Looking, purpose: Text = "", after: Text = "",
    first: Annotated[int, Query(ge=1, le=10**9)] = 1,
) -> Response:  # fmt: skip
    """Show who a saved search finds now."""
    found, error = None, ""
    with engine.stores.borrow() as store:
        kept = saved_search(store, identity.access, saved)
    try:
        given = RunIn(top=PAGE, after=after[:120] or None, purpose=purpose[:500] or None)
        found = _run(engine, identity.access, saved, given)
    except ConfigError as refused:
        error = str(refused)
    following = found.page.next if found else None
    fields = {"purpose": purpose, "after": following, "first": first + PAGE}
    return show(
        request, identity, "saved", saved=kept,
        summary=summary_of(SearchIn.model_validate(kept.asked), language_of(request)), error=error,
        people=people_of(found, purpose, first) if found else [], notes=found.notes if found else (),
        following=f"/searches/{saved}?{urlencode(fields)}" if following else "",
    )  # fmt: skip


@pages.post("/{saved}/delete")
def delete_on_page(saved: SavedNumber, engine: TheEngine, identity: Looking, form_key: FormKey = "") -> Response:
    """Forget a saved search."""
    check_form_key(identity, form_key)
    _delete(engine, identity.access, saved)
    return RedirectResponse("/searches", HTTPStatus.SEE_OTHER)


def summary_of(asked: SearchIn, language: Language) -> str:
    """Write what a search asks in one line."""
    filters = asked.filters.model_dump(mode="json", exclude_defaults=True)
    told = [
        f"{language.said(name)}: {', '.join(map(str, value)) if isinstance(value, list) else value}"
        for name, value in filters.items()
    ]
    right, wrong = language.gettext("%(count)s right"), language.gettext("%(count)s wrong")
    judged = [form % {"count": len(some)} for form, some in ((right, asked.right), (wrong, asked.wrong)) if some]
    return " · ".join([asked.question().title, *told, *judged])


def _save(engine: Engine, access: Access, asked: SaveIn) -> SavedSearch:
    with engine.stores.borrow() as store:
        kept = save(store, access, asked.name, asked.asked())
        engine.log(access.actor, "save search", saved=kept.number, query=asked.search.question().title)
        return kept


def _run(engine: Engine, access: Access, number: int, given: RunIn) -> Found:
    with engine.stores.borrow() as store:
        kept = saved_search(store, access, number)
    search = given.of(kept)
    return engine.search(access, search.question(), replace(search.wanted(), saved=number))


def _delete(engine: Engine, access: Access, number: int) -> None:
    with engine.stores.borrow() as store:
        gone = delete_saved_search(store, access, number)
        engine.log(access.actor, "delete search", saved=number, query=gone.asked["query"])
