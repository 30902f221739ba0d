"""For whoever runs the service: whether it lives, whether it can answer, and how much it does."""

from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST

from textreid.errors import TextReidError
from textreid.service.api import PROBLEMS, TheEngine
from textreid.service.identity import ForbiddenError, Searching
from textreid.service.metrics import Metrics
from textreid.service.problems import MEDIA_TYPE, Problem, explain, problem

_NOT_READY: dict[int | str, dict[str, Any]] = {
    503: {"model": Problem, "content": {MEDIA_TYPE: {}}, "description": "It cannot answer searches now."}
}
router = APIRouter()


@router.get("/health", summary="Whether the process lives")
def health() -> dict[str, str]:
    """Answer, without asking anything of the database: restart a service that does not."""
    return {"status": "alive"}


@router.get("/ready", summary="Whether it can answer", responses=_NOT_READY, response_model=dict[str, str])
def ready(engine: TheEngine) -> JSONResponse:
    """Ask the database and the model for something small: send requests elsewhere while it does not succeed."""
    try:
        engine.check_ready()
    except TextReidError as error:
        return problem(503, explain(error)[1])
    return JSONResponse({"status": "ready"})


@router.get("/metrics", summary="Metrics for Prometheus", response_class=PlainTextResponse, responses=PROBLEMS)
def metrics(request: Request, access: Searching) -> Response:
    """Tell how much is asked and how long it takes; never what, nor by whom."""
    if access.cameras is not None:
        raise ForbiddenError("how much is asked of all cameras is not for who may see some")
    kept: Metrics = request.app.state.metrics
    return Response(kept.text(), media_type=CONTENT_TYPE_LATEST)
