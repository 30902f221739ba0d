"""Errors as RFC 9457 has them: one JSON object that says what is wrong, of one content type."""

import logging
from collections.abc import Callable, Mapping
from http import HTTPStatus
from math import ceil
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from textreid.errors import CaptionError, ConfigError, TextReidError
from textreid.gallery.store import ConnectionLostError, DiskFullError
from textreid.service.access import UnknownError
from textreid.service.engine import NoFrameError
from textreid.service.identity import ForbiddenError, NotSignedInError, TooOftenError
from textreid.service.stores import BusyError

MEDIA_TYPE = "application/problem+json"
_LOG = logging.getLogger(__name__)
# The first that fits counts; whatever else textreid raises is a fault of the gallery, not of the request.
_STATUS: tuple[tuple[type[TextReidError], HTTPStatus], ...] = (
    (UnknownError, HTTPStatus.NOT_FOUND),
    (NoFrameError, HTTPStatus.NOT_FOUND),
    (NotSignedInError, HTTPStatus.UNAUTHORIZED),
    (ForbiddenError, HTTPStatus.FORBIDDEN),
    (TooOftenError, HTTPStatus.TOO_MANY_REQUESTS),
    (BusyError, HTTPStatus.SERVICE_UNAVAILABLE),
    (ConnectionLostError, HTTPStatus.SERVICE_UNAVAILABLE),
    (DiskFullError, HTTPStatus.INSUFFICIENT_STORAGE),
    (ConfigError, HTTPStatus.UNPROCESSABLE_ENTITY),
    (CaptionError, HTTPStatus.UNPROCESSABLE_ENTITY),
)


class Problem(BaseModel):
    """What went wrong, as RFC 9457 has it."""

    type: str = Field(description="about:blank: the status says what kind it is.", examples=["about:blank"])
    title: str = Field(examples=["Unprocessable Entity"])
    status: int = Field(examples=[422])
    detail: str = Field(examples=["since 2026-05-02 is not before until 2026-05-01"])
    errors: list[dict[str, str]] = Field(default=[], description="Of a body or parameter: each field that is wrong.")


def problem(
    status: int, detail: str, headers: Mapping[str, str] | None = None, errors: list[dict[str, str]] | None = None
) -> JSONResponse:
    """Make the answer of an error."""
    body: dict[str, Any] = {
        "type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail,
    }  # fmt: skip
    if errors:
        body["errors"] = errors
    more = {"Retry-After": "2"} if status == HTTPStatus.SERVICE_UNAVAILABLE else {}
    return JSONResponse(body, status, headers={**more, **(headers or {})}, media_type=MEDIA_TYPE)


def explain(error: TextReidError) -> tuple[int, str]:
    """Return the status that an error has over HTTP, and what is said of it."""
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), None)
    if status is None:
        # It may name files of the server: for the log, not for whoever asks.
        _LOG.error("%s", error)
        return HTTPStatus.SERVICE_UNAVAILABLE, "the gallery cannot answer this now; its log says why"
    if status in (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.INSUFFICIENT_STORAGE) and not isinstance(error, BusyError):
        _LOG.error("%s", error)
        return status, "the database of the gallery cannot be used now; try again, and ask the administrator"
    return status, str(error)


def add_handlers(app: FastAPI, page: Callable[[Request, int, str], Response]) -> None:
    """Let an application answer every error: a browser with a ``page``, everybody else with a problem."""

    def answer(
        request: Request, status: int, detail: str, headers: Mapping[str, str] | None = None,
        errors: list[dict[str, str]] | None = None,
    ) -> Response:  # fmt: skip
        if not request.url.path.startswith("/api/") and "text/html" in request.headers.get("accept", ""):
            return page(request, status, detail)
        return problem(status, detail, headers, errors)

    @app.exception_handler(TextReidError)
    def _own(request: Request, error: TextReidError) -> Response:
        headers = {}
        if isinstance(error, NotSignedInError):
            headers = {"WWW-Authenticate": "Bearer"}
        elif isinstance(error, TooOftenError):
            headers = {"Retry-After": str(ceil(error.seconds))}
        return answer(request, *explain(error), headers)

    @app.exception_handler(RequestValidationError)
    def _invalid(request: Request, error: RequestValidationError) -> Response:
        errors = [
            {"field": ".".join(str(part) for part in one["loc"][1:]) or str(one["loc"][0]), "message": one["msg"]}
            for one in error.errors()
        ]
        said = "; ".join(f"{one['field']}: {one['message']}" for one in errors[:3])
        return answer(request, HTTPStatus.UNPROCESSABLE_ENTITY, said, errors=errors)

    @app.exception_handler(HTTPException)
    def _http(request: Request, error: HTTPException) -> Response:
        return answer(request, error.status_code, str(error.detail), error.headers)

    @app.exception_handler(Exception)
    def _unexpected(request: Request, error: Exception) -> Response:
        return answer(request, HTTPStatus.INTERNAL_SERVER_ERROR, "a fault of textreid; its log says more")
