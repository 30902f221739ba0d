"""Alerts over HTTP: which saved search tells whom, and what could not be told."""

from collections.abc import Sequence
from dataclasses import replace
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Form, Path, Response
from fastapi.responses import RedirectResponse

from textreid.errors import ConfigError, nearest_name
from textreid.gallery.store import Hit
from textreid.service.access import Access
from textreid.service.alerts import alerts, retry_alert
from textreid.service.api import PROBLEMS, TheEngine
from textreid.service.engine import Engine
from textreid.service.identity import Searching, check_form_key
from textreid.service.page_frame import FormKey, Looking
from textreid.service.saved import SavedSearch, saved_search, set_alert
from textreid.service.saved_routes import SavedNumber
from textreid.service.schemas import LARGEST_ID, AlertIn, AlertOut, AlertsOut, SavedOut, SearchIn

api = APIRouter(prefix="/api/v1", responses=PROBLEMS)
pages = APIRouter(include_in_schema=False)
AlertNumber = Annotated[int, Path(ge=1, le=LARGEST_ID, description="Number of an alert.", examples=[1])]


def run_alert(engine: Engine, access: Access, saved: SavedSearch) -> Sequence[Hit]:
    """Run a saved search for its owner because crops have arrived: logged as every search is."""
    search = SearchIn.model_validate(saved.asked)
    wanted = replace(search.wanted(), saved=saved.number, alert=True)
    return engine.search(access, search.question(), wanted).page.hits


@api.put("/searches/{saved}/alert", summary="Tell of new arrivals")
def tell(saved: SavedNumber, asked: AlertIn, engine: TheEngine, access: Searching) -> SavedOut:
    """Let a saved search tell a destination of who is new among its first `top`, from now on; or, of null, nobody."""
    return SavedOut.of(_set(engine, access, saved, asked.to))


@api.get("/alerts", summary="What was told, and what could not be")
def list_alerts(engine: TheEngine, access: Searching) -> AlertsOut:
    """List the destinations, and the last 200 alerts of your own saved searches, the newest first."""
    with engine.stores.borrow() as store:
        found = [AlertOut.of(one) for one in alerts(store, access)]
    return AlertsOut(destinations=engine.destinations, alerts=found)


@api.post("/alerts/{alert}/retry", summary="Try a dead alert again")
def retry(alert: AlertNumber, engine: TheEngine, access: Searching) -> AlertOut:
    """Let an alert that was given up be told again, now; another is left as it is."""
    with engine.stores.borrow() as store:
        found = retry_alert(store, access, alert)
    engine.log(access.actor, "retry alert", alert=alert, saved=found.saved)
    return AlertOut.of(found)


@pages.post("/searches/{saved}/alert")
def tell_on_page(
    saved: SavedNumber, engine: TheEngine, identity: Looking, to: Annotated[str, Form(max_length=100)] = "",
    form_key: FormKey = "",
) -> Response:  # fmt: skip
    """Let a saved search tell a destination, or nobody."""
    check_form_key(identity, form_key)
    _set(engine, identity.access, saved, to or None)
    return RedirectResponse("/searches", HTTPStatus.SEE_OTHER)


def _set(engine: Engine, access: Access, number: int, to: str | None) -> SavedSearch:
    with engine.stores.borrow() as store:
        kept = saved_search(store, access, number)
        if to is not None:
            if to not in engine.destinations:
                hint = nearest_name(to, engine.destinations) if engine.destinations else "the administrator named none"
                raise ConfigError(f"to: no destination {to!r}; {hint}")
            if engine.settings.require_purpose and not kept.asked.get("purpose"):
                raise ConfigError("to: save the search with a purpose: this service asks for it at each run")
        kept = set_alert(store, access, number, to)
    engine.log(access.actor, "set alert", saved=number, to=to or "nobody")
    return kept
