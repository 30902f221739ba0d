"""The application: engine, routes and what stands before them, put together."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from anyio import to_thread
from fastapi import FastAPI

from textreid.service import alert_routes, api, job_routes, operations, pages, saved_routes
from textreid.service.alerts import Alerts
from textreid.service.destinations import Destinations
from textreid.service.engine import Engine
from textreid.service.identity import Door
from textreid.service.metrics import Metrics
from textreid.service.middleware import Guarded, Observed
from textreid.service.problems import add_handlers
from textreid.service.settings import Settings
from textreid.version import __version__

_DESCRIPTION = """\
Find people in a gallery of crops by describing them in words. Nothing is sent anywhere; there is no face recognition.

Errors are problem details (RFC 9457). Pages are stable: a later page ranks the crops that the first one did.
"""


def create_app(settings: Settings) -> FastAPI:
    """Make the application (ASGI) that serves a gallery.

    Raises:
        StoreError: there is no such gallery, or the database cannot be reached.
    """
    metrics = Metrics()
    engine = Engine(settings, metrics.observe_batch)

    told = None
    if settings.alerts:
        destinations = Destinations.read(settings.alerts)
        engine.destinations = sorted(destinations.known)
        told = Alerts(engine.stores, destinations, partial(alert_routes.run_alert, engine))

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        try:
            yield
        finally:
            if told:
                await to_thread.run_sync(told.close)
            await to_thread.run_sync(engine.close)

    app = FastAPI(
        title="textreid", version=__version__, description=_DESCRIPTION, lifespan=lifespan,
        docs_url=None, redoc_url=None,  # they would fetch scripts from elsewhere
        openapi_url="/api/v1/openapi.json",
    )  # fmt: skip
    app.state.engine, app.state.metrics, app.state.door = engine, metrics, Door(engine)
    add_handlers(app, pages.problem_page)
    app.include_router(api.router)
    app.include_router(saved_routes.api)
    app.include_router(job_routes.api)
    app.include_router(alert_routes.api)
    app.include_router(operations.router)
    app.include_router(pages.router)
    app.include_router(saved_routes.pages)
    app.include_router(job_routes.pages)
    app.include_router(alert_routes.pages)
    # The last one added is met first: what is refused is counted, too.
    app.add_middleware(Guarded, settings=settings)
    app.add_middleware(Observed, metrics=metrics)
    return app
