"""The API for programs: each route reads what is asked, calls the engine once, and describes the answer."""

import base64
from datetime import datetime
from itertools import islice
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request, Response

from textreid.gallery.store import Crop
from textreid.service import audit
from textreid.service.engine import Engine
from textreid.service.exporting import Evidence
from textreid.service.identity import Administering, Searching
from textreid.service.problems import MEDIA_TYPE, Problem
from textreid.service.schemas import (
    LARGEST_ID,
    CameraOut,
    CamerasOut,
    CropOut,
    EntriesOut,
    EntryOut,
    ErasedOut,
    EraseIn,
    ExportedOut,
    ExportIn,
    PageOut,
    SearchIn,
    SimilarIn,
    TrackOut,
)

_PROBLEM: dict[str, Any] = {"model": Problem, "content": {MEDIA_TYPE: {}}}
PROBLEMS: dict[int | str, dict[str, Any]] = {
    400: {**_PROBLEM, "description": "The body is no JSON, or the form cannot be read."},
    401: {**_PROBLEM, "description": "There are accounts, and nobody knows who you are: send a token."},
    403: {**_PROBLEM, "description": "Your account or token may not do this."},
    404: {**_PROBLEM, "description": "There is no such thing, or it is not yours to see."},
    422: {**_PROBLEM, "description": "The request contradicts itself, or a field is wrong."},
    429: {**_PROBLEM, "description": "You ask too often; `Retry-After` says when to ask again."},
    503: {**_PROBLEM, "description": "Too much is asked at once, or the database is gone; try again."},
}
_JPEG: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/jpeg": {}}, "description": "A JPEG."},
    304: {"description": "It is what `If-None-Match` names."},
}
_ZIP: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/zip": {}}, "description": "A ZIP file; its SHA-256 is in `Repr-Digest`."}
}
router = APIRouter(prefix="/api/v1", responses=PROBLEMS)


async def the_engine(request: Request) -> Engine:
    """Return the engine of the application that answers a request; async, so that no thread is asked for it."""
    engine: Engine = request.app.state.engine
    return engine


TheEngine = Annotated[Engine, Depends(the_engine)]
Number = Annotated[int, Path(ge=1, le=LARGEST_ID, description="Number of a crop.", examples=[1])]


@router.post("/search", summary="Find people by a sentence", response_model=PageOut)
def search(asked: SearchIn, engine: TheEngine, access: Searching) -> Response:
    """Rank the crops of the gallery by how well they fit a description. A body, so that no log keeps the sentence."""
    page = PageOut.of(engine.search(access, asked.question(), asked.wanted()))
    # Written here: to check once more what it has, another thread would be asked.
    return Response(page.model_dump_json(), media_type="application/json")


@router.post("/crops/{number}/similar", summary="Find people who look like one")
def similar(number: Number, asked: SimilarIn, engine: TheEngine, access: Searching) -> PageOut:
    """Rank the other crops by their likeness to this one: by the looks of the whole person, not the face."""
    return PageOut.of(engine.similar(access, number, asked.wanted()))


@router.get("/crops/{number}", summary="Look at a crop")
def crop(number: Number, engine: TheEngine, access: Searching) -> CropOut:
    """Tell where and when a person was seen."""
    return CropOut.of(engine.crop(access, number))


@router.get("/crops/{number}/picture", summary="The picture of a crop", responses=_JPEG, response_class=Response)
def picture(number: Number, request: Request, engine: TheEngine, access: Searching) -> Response:
    """Return the picture of a crop as JPEG, as large as it is."""
    found = engine.crop(access, number, "picture")
    return _unchanged(request, found, "p") or _jpeg(engine.picture(found), found, "p")


@router.get("/crops/{number}/frame", summary="Where a crop was cut from", responses=_JPEG, response_class=Response)
def frame(number: Number, request: Request, engine: TheEngine, access: Searching) -> Response:
    """Return the photograph or the frame of the video that a crop was cut from, with the person's box drawn."""
    found = engine.crop(access, number, "frame")
    return _unchanged(request, found, "f") or _jpeg(engine.frame(found), found, "f")


@router.get("/crops/{number}/thumbnail", summary="A small picture of a crop", responses=_JPEG, response_class=Response)
def thumbnail(number: Number, request: Request, engine: TheEngine, access: Searching) -> Response:
    """Return the picture of a crop as JPEG, at most 192 by 384 pixels."""
    found = engine.crop(access, number, "thumbnail")
    return _unchanged(request, found, "t") or _jpeg(engine.thumbnail(found), found, "t")


@router.get("/crops/{number}/track", summary="The walk of a crop")
def track(number: Number, engine: TheEngine, access: Searching) -> TrackOut:
    """Read all crops of the same walk past a camera, in order of time."""
    return TrackOut(crops=[CropOut.of(one) for one in engine.track(access, number)])


@router.post("/export", summary="Export what a search finds", responses=_ZIP, response_class=Response)
def export(asked: ExportIn, engine: TheEngine, access: Searching) -> Response:
    """Pack what a search finds as evidence: crops, frames with the box drawn, `results.json`, and a hash of each file.

    The audit log keeps the hash of the whole.
    """
    return evidence_of(engine.export(access, asked.question(), asked.wanted()))


@router.get("/cameras", summary="The cameras")
def cameras(engine: TheEngine, access: Searching) -> CamerasOut:
    """List the cameras whose crops you may see, and how many there are."""
    return CamerasOut(cameras=[CameraOut(name=name, crops=n) for name, n in engine.cameras(access).items()])


@router.post("/erase", summary="Erase crops for good")
def erase(asked: EraseIn, engine: TheEngine, access: Administering) -> ErasedOut:
    """Erase crops everywhere: rows, pictures, vectors, index, log of the database. The gallery waits meanwhile."""
    done = engine.erase(access, asked.crops)
    exports = [(datetime.fromisoformat(one.time), one.actor, one.digest) for one in done.exports]
    return ErasedOut(
        crops=done.crops, files=list(done.files), thorough=done.thorough,
        searches=list(done.searches),
        exports=[ExportedOut(time=time, by=actor, sha256=digest) for time, actor, digest in exports],
    )  # fmt: skip


@router.get("/audit", summary="The audit log")
def read_audit(
    engine: TheEngine,
    access: Administering,
    after: Annotated[int, Query(ge=0, le=LARGEST_ID, description="Only entries with greater numbers.")] = 0,
    count: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> EntriesOut:
    """List who asked what and was shown what, in order."""
    with engine.stores.database() as database:
        found = list(islice(audit.entries(database, after), count))
    return EntriesOut(entries=[EntryOut(entry=one.facts, hash=one.hash.hex()) for one in found])


def evidence_of(made: Evidence) -> Response:
    """Answer with a ZIP file."""
    digest = base64.b64encode(bytes.fromhex(made.digest)).decode()
    headers = {
        "Content-Disposition": f'attachment; filename="evidence-{made.made:%Y%m%d-%H%M%S}.zip"',
        "Repr-Digest": f"sha-256=:{digest}:",  # RFC 9530
    }
    return Response(made.content, media_type="application/zip", headers=headers)


def _tag(found: Crop, kind: str) -> str:
    return f'"{kind}-{found.digest[:32]}"'


def _unchanged(request: Request, found: Crop, kind: str) -> Response | None:
    """Answer 304 if the browser has the picture: only now, when it is known that the crop still is and may be seen."""
    known = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
    return Response(status_code=304, headers=_caching(found, kind)) if _tag(found, kind) in known else None


def _jpeg(data: bytes, found: Crop, kind: str) -> Response:
    return Response(data, media_type="image/jpeg", headers=_caching(found, kind))


def _caching(found: Crop, kind: str) -> dict[str, str]:
    # A browser may keep it, and has to ask each time: a picture that was erased must not be shown again.
    return {"ETag": _tag(found, kind), "Cache-Control": "private, no-cache"}
