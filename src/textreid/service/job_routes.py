"""Uploads and how far they are indexed, over HTTP: for programs below ``/api/v1``, for people at ``/upload``."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Annotated, Any, get_args

from anyio import to_thread
from fastapi import APIRouter, Path, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException

from textreid.errors import ConfigError
from textreid.service.access import Access
from textreid.service.api import PROBLEMS, TheEngine
from textreid.service.engine import Engine
from textreid.service.identity import Indexing as IndexingAccess, check_form_key
from textreid.service.jobs import Job, add_job, cancel_job, job, jobs
from textreid.service.page_frame import FormKey, Indexing, show
from textreid.service.schemas import LARGEST_ID, JobOut, JobsOut
from textreid.service.stores import BusyError
from textreid.service.uploads import MOST_FILES, Kind, Sent, receive

_AT_ONCE = asyncio.Semaphore(2)  # each may write a file of some hundred MiB, and decodes pictures
_FORM: dict[str, Any] = {
    "type": "object",
    "required": ["kind", "files"],
    "properties": {
        "kind": {"type": "string", "enum": list(get_args(Kind)), "description": "crops: one person each."},
        "camera": {"type": "string", "maxLength": 100, "description": "What the pictures are from."},
        "files": {
            "type": "array",
            "items": {"type": "string", "format": "binary"},
            "minItems": 1,
            "maxItems": MOST_FILES,
        },
    },
}  # fmt: skip
_TOO_LARGE: dict[int | str, dict[str, Any]] = {
    415: {**PROBLEMS[422], "description": "Not a form with files."},
    413: {**PROBLEMS[422], "description": "More bytes than the service takes."},
    507: {**PROBLEMS[422], "description": "The disk is full."},
}
api = APIRouter(prefix="/api/v1", responses=PROBLEMS)
pages = APIRouter(prefix="/upload", include_in_schema=False)
JobNumber = Annotated[int, Path(ge=1, le=LARGEST_ID, description="Number of a job.", examples=[1])]


@api.post(
    "/uploads", summary="Upload crops, photographs or a video", status_code=HTTPStatus.ACCEPTED, responses=_TOO_LARGE,
    openapi_extra={"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": _FORM}}}},
)  # fmt: skip
async def upload(request: Request, engine: TheEngine, access: IndexingAccess) -> JobOut:
    """Keep files and index them; the job that is returned tells how far that is. No address is ever fetched."""
    async with _form(request) as form:
        return JobOut.of(await to_thread.run_sync(_take, engine, access, form))


@api.get("/jobs", summary="Your uploads")
def list_jobs(engine: TheEngine, access: IndexingAccess) -> JobsOut:
    """List your last fifty uploads, the newest first; an administrator's list has everybody's."""
    with engine.stores.borrow() as store:
        return JobsOut(jobs=[JobOut.of(one) for one in jobs(store, access)])


@api.get("/jobs/{job}", summary="How far an upload is indexed")
def read_job(job: JobNumber, engine: TheEngine, access: IndexingAccess) -> JobOut:
    """Tell how far an upload is indexed, and which files cannot be used."""
    return JobOut.of(_job(engine, access, job))


@api.post("/jobs/{job}/cancel", summary="Stop indexing an upload")
def stop_job(job: JobNumber, engine: TheEngine, access: IndexingAccess) -> JobOut:
    """Stop a job; who was found until then stays. One that has ended is left alone."""
    return JobOut.of(_cancel(engine, access, job))


@pages.get("", response_class=HTMLResponse)
def upload_page(request: Request, engine: TheEngine, identity: Indexing) -> Response:
    """Show the form, and the uploads until now."""
    return _page(request, engine, identity)


@pages.post("")
async def upload_on_page(request: Request, engine: TheEngine, identity: Indexing) -> Response:
    """Keep files, and show how far they are."""
    try:
        async with _form(request) as form:
            check_form_key(identity, str(form.get("form_key", "")))
            await to_thread.run_sync(_take, engine, identity.access, form)
    except (ConfigError, BusyError) as refused:
        return await to_thread.run_sync(_page, request, engine, identity, str(refused))
    return RedirectResponse("/upload", HTTPStatus.SEE_OTHER)


@pages.post("/{job}/cancel")
def stop_on_page(job: JobNumber, engine: TheEngine, identity: Indexing, form_key: FormKey = "") -> Response:
    """Stop a job."""
    check_form_key(identity, form_key)
    _cancel(engine, identity.access, job)
    return RedirectResponse("/upload", HTTPStatus.SEE_OTHER)


def _page(request: Request, engine: Engine, identity: Indexing, error: str = "") -> Response:
    with engine.stores.borrow() as store:
        listed = jobs(store, identity.access)
    cameras = sorted(identity.access.cameras or engine.cameras(identity.access))
    return show(
        request, identity, "upload", error=error, jobs=listed, cameras=cameras,
        must_name=identity.access.cameras is not None, most=MOST_FILES, megabytes=engine.settings.upload_mb,
        live=any(one.state in ("waiting", "running") for one in listed),
    )  # fmt: skip


@asynccontextmanager
async def _form(request: Request) -> AsyncIterator[FormData]:
    """Read a form with files, after whoever sends it is known to be allowed to."""
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise HTTPException(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "expected multipart/form-data")
    if _AT_ONCE.locked():
        raise BusyError("others upload now; try again in a few seconds")
    async with _AT_ONCE, request.form(max_files=MOST_FILES, max_fields=10, max_part_size=4096) as form:
        yield form


def _take(engine: Engine, access: Access, form: FormData) -> Job:
    if engine.jobs is None:
        raise ConfigError("this service takes no uploads")
    kinds: dict[object, Kind] = {name: name for name in get_args(Kind)}
    kind, camera = kinds.get(form.get("kind")), str(form.get("camera", "")).strip() or None
    if kind is None:
        raise ConfigError(f"kind: expected one of {', '.join(get_args(Kind))}")
    if camera and (not camera.isprintable() or len(camera) > 100):
        raise ConfigError("camera: a name has at most 100 signs that can be printed")
    if access.cameras is not None and camera not in access.cameras:
        raise ConfigError("camera: name one of the cameras that you may see")
    files = [Sent(one.filename or "", one.file) for one in form.getlist("files") if isinstance(one, UploadFile)]
    with engine.stores.borrow() as store:
        folder = receive(store, kind, files)
        number = add_job(store, access, kind, camera, folder)
        names = [file.name for file in files][:20]
        engine.log(access.actor, "upload", job=number, kind=kind, camera=camera, files=len(files), names=names)
        engine.jobs.wake()
        return job(store, access, number)


def _job(engine: Engine, access: Access, number: int) -> Job:
    with engine.stores.borrow() as store:
        return job(store, access, number)


def _cancel(engine: Engine, access: Access, number: int) -> Job:
    with engine.stores.borrow() as store:
        found = job(store, access, number)
        if found.state not in ("waiting", "running"):
            return found
        engine.log(access.actor, "cancel job", job=number)
        cancel_job(store, number)
        return job(store, access, number)
