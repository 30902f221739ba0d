"""The one object behind API and page: it searches a gallery for somebody who may see some of it."""

import io
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, Literal, Self, TypeVar

from PIL import Image, ImageDraw

from textreid.errors import ConfigError, DataError, TextReidError
from textreid.gallery.encoder import GalleryEncoder
from textreid.gallery.exhibits import scene_of
from textreid.gallery.query.fusion import refine
from textreid.gallery.query.question import Question, encode_question
from textreid.gallery.store import (
    Crop,
    Filters,
    ModelChangedError,
    Page,
    Store,
    StoreError,
    open_database,
    searching,
)
from textreid.service import audit
from textreid.service.access import Access, UnknownError
from textreid.service.erasure import Erased, erase
from textreid.service.exporting import Evidence, make_evidence
from textreid.service.jobs import JobRunner
from textreid.service.model_worker import ModelWorker
from textreid.service.ranking import Found, Wanted, rank, verdict_of
from textreid.service.retention import Retention
from textreid.service.settings import Settings
from textreid.service.stores import BusyError, Stores

_THUMBNAIL = (192, 384)  # width, height; what a page of results draws at twice the density of pixels
_FRAME = (1920, 1920)
_BOX = (255, 64, 64)
_LONGEST_TRACK = 200
_PATIENCE_S = 20.0  # to wait for an export of somebody else
_MOST_MODELS = 3  # that a gallery has during one search
Result = TypeVar("Result")


Look = Literal["crop", "picture", "frame", "thumbnail"]


class NoFrameError(TextReidError):
    """What a crop was cut from is not there."""


class Engine:
    """A gallery that is searched by many at once; a context manager that closes its connections.

    Every method raises `StoreError` when the database refuses or is gone, and `BusyError` under too much load.

    Attributes:
        settings: of the service.
        stores: connections to the gallery.
        worker: the text side of the gallery's model, which is followed when the gallery is embedded by another.
        destinations: names of those to whom saved searches may tell of new arrivals.
        jobs: what indexes uploads; None where none are taken.
    """

    def __init__(self, settings: Settings, on_batch: Callable[[int], None] = lambda size: None) -> None:
        """Open the gallery and the text side of its model.

        Raises:
            StoreError: there is no such gallery, or its model is another by now.
        """
        self.settings = settings
        self.destinations: list[str] = []
        self._on_batch = on_batch
        self._following = threading.Lock()
        self.stores = Stores(settings.gallery, settings.database, settings.connections)
        try:
            with self.stores.borrow() as store:
                self.worker = self._open_model(store)
            # Looking for a frame decodes a second of video or more.
            self._frames = threading.BoundedSemaphore(2)
            self._exports = threading.BoundedSemaphore(1)
            self._audit = audit.Writer(partial(open_database, settings.database))
            self._shown = audit.RecentlyShown()
            self.jobs = JobRunner(self.stores) if settings.upload_mb else None
            self._retention = Retention(self.stores, settings.keep_days) if settings.keep_days else None
        except BaseException:
            self.stores.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Finish what waits for the model, and close the connections."""
        if self._retention:
            self._retention.close()
        if self.jobs:
            self.jobs.close()
        self.worker.close()
        self._audit.close()
        self.stores.close()

    def search(self, access: Access, question: Question, wanted: Wanted) -> Found:
        """Rank crops by how well they fit a question.

        Raises:
            CaptionError: a sentence has no letter and no digit.
            ConfigError: a purpose is required, and there is none.
            UnknownError: they may not see one of the crops that were judged.
        """
        self._check_purpose(wanted)

        def look(worker: ModelWorker) -> Found:
            encoded = encode_question(question, worker)
            vector = encoded.features.vector()
            with self.stores.borrow() as store:
                _check_model(store, worker)
                for number in (*wanted.right, *wanted.wrong):
                    _visible(store, access, number)
                verdict = verdict_of(store, worker, access, encoded, wanted)
                if wanted.right:
                    vector = refine(vector, store.vectors(wanted.right), store.vectors(wanted.wrong))
                others = replace(wanted.filters, exclude=(*wanted.filters.exclude, *wanted.wrong))
                page = rank(store, access, vector, replace(wanted, filters=others))
            return Found(page, encoded.unread, encoded.notes, verdict)

        found = self._by_its_model(look)
        self._log_page(access, found.page, "search", query=question.title, **wanted.to_json())
        return found

    def similar(self, access: Access, number: int, wanted: Wanted) -> Found:
        """Rank the other crops by their likeness to one.

        Raises:
            UnknownError: there is no such crop that they may see.
            ConfigError: a purpose is required, and there is none.
        """
        self._check_purpose(wanted)
        others = replace(wanted.filters, exclude=(*wanted.filters.exclude, number))

        def look(worker: ModelWorker) -> Page:
            with self.stores.borrow() as store:
                _visible(store, access, number)
                return rank(store, access, store.vectors([number])[0], replace(wanted, filters=others))

        page = self._by_its_model(look)
        self._log_page(access, page, "similar", crop=number, **wanted.to_json())
        return Found(page)

    def crop(self, access: Access, number: int, look: Look = "crop") -> Crop:
        """Read a crop, to ``look`` at what is known of it, or at its picture.

        A thumbnail of a page of results is in the audit log with that page already.

        Raises:
            UnknownError: there is no such crop that they may see.
        """
        with self.stores.borrow() as store:
            crop = _visible(store, access, number)
        if look != "thumbnail" or not self._shown.has(access.actor, number):
            self.log(access.actor, "view", crop=number, look=look)
            self._shown.add(access.actor, [number])
        return crop

    def track(self, access: Access, number: int) -> list[Crop]:
        """Read the crops of the walk that a crop is of, in order of time; of a crop without one, itself.

        Raises:
            UnknownError: there is no such crop that they may see.
        """
        filters = access.narrow(Filters())
        with self.stores.borrow() as store:
            crop = _visible(store, access, number)
            found = [crop]
            if crop.track is not None and filters is not None:
                of = (store.id, crop.file_id, crop.track, filters, _LONGEST_TRACK)
                found = store.database.run(lambda c: searching.of_track(c, *of))
        shown = [one.id for one in found]
        self.log(access.actor, "track", crop=number, shown=shown)
        self._shown.add(access.actor, shown)
        return found

    def export(self, access: Access, question: Question, wanted: Wanted) -> Evidence:
        """Search, and pack what is found as evidence: a ZIP file of which the audit log keeps the hash.

        Raises:
            BusyError: another export takes long.
            ConfigError: nothing is found, or see `search`.
        """
        found = self.search(access, question, wanted)
        if not self._exports.acquire(timeout=_PATIENCE_S):
            raise BusyError("another export takes long; try again in a few seconds")
        try:
            with self.stores.borrow() as store:
                made = make_evidence(store, access, question, wanted, found)
                facts = {**wanted.to_json(), "query": question.title, "sha256": made.digest}
                self.log(access.actor, "export", **facts, shown=[hit.crop.id for hit in found.page.hits])
                return made
        finally:
            self._exports.release()

    def picture(self, crop: Crop) -> bytes:
        """Return the JPEG of a crop that `crop` returned, as large as it is.

        Raises:
            StoreError, ImageError: its file is gone or damaged.
        """
        with self.stores.borrow() as store:
            # A file of somebody's folder may hold anything beside its pixels, as where it was taken.
            return _encoded(store.picture(crop.id)) if crop.is_file else store.jpeg(crop.id)

    def frame(self, crop: Crop) -> bytes:
        """Return the photograph, or the frame of a video, that a crop of `crop` was cut from, as JPEG with its box.

        Raises:
            NoFrameError: the crop is a file of its own, or what it was cut from is gone or was changed.
        """
        if crop.is_file or crop.box is None:
            raise NoFrameError(f"crop {crop.id} is a picture of its own: there is nothing around it")
        try:
            with self._frames:
                scene = scene_of(crop)
        except (DataError, OSError) as error:
            raise NoFrameError(f"what crop {crop.id} was cut from cannot be read any more") from error
        x, y, width, height = crop.box
        line = max(2, round(max(scene.size) / 400))
        outline = (x - line, y - line, x + width + line, y + height + line)
        ImageDraw.Draw(scene).rectangle(outline, outline=_BOX, width=line)
        scene.thumbnail(_FRAME, Image.Resampling.BICUBIC)
        return _encoded(scene)

    def thumbnail(self, crop: Crop) -> bytes:
        """Return a small JPEG of a crop; see `picture`."""
        # Not kept: a picture that is erased must be nowhere, and making one takes two milliseconds.
        with self.stores.borrow() as store:
            picture = store.picture(crop.id)
        picture.thumbnail(_THUMBNAIL, Image.Resampling.BICUBIC, reducing_gap=2.0)
        return _encoded(picture)

    def cameras(self, access: Access) -> dict[str, int]:
        """Count the crops of each camera that they may see."""
        with self.stores.borrow() as store:
            counts = store.cameras()
        return {name: count for name, count in counts.items() if access.cameras is None or name in access.cameras}

    def erase(self, access: Access, numbers: list[int]) -> Erased:
        """Erase crops everywhere; those that are gone, or that they may not see, are left out."""
        with self.stores.borrow() as store:
            filters = access.narrow(Filters())
            found = [] if filters is None else [crop.id for crop in store.crops(numbers, filters)]
            # Before: who erases what is known even if the power fails in the middle.
            self.log(access.actor, "erase", erased=found)
            return erase(store, found)

    def log(self, actor: str, action: str, **facts: Any) -> None:
        """Write into the audit log; it is on disk when this returns."""
        self._audit.append(actor, action, gallery=self.settings.gallery, **facts)

    def check_ready(self) -> None:
        """Ask the database and the model for something small.

        Raises:
            TextReidError: one of them does not answer.
        """

        def ask(worker: ModelWorker) -> None:
            with self.stores.borrow() as store:
                _check_model(store, worker)
                store.as_of()
            worker.encode_query("a person")

        self._by_its_model(ask)

    def _by_its_model(self, work: Callable[[ModelWorker], Result]) -> Result:
        """Do what needs the gallery's model, and again if the gallery was embedded by another one meanwhile."""
        for _ in range(_MOST_MODELS):
            worker = self.worker
            try:
                return work(worker)
            except ModelChangedError as error:
                changed = error
                self._follow(worker)
        raise changed

    def _follow(self, former: ModelWorker) -> None:
        """Open the model that the gallery has now, once for all who find that ``former`` is another one.

        Raises:
            StoreError: that model is not here.
        """
        with self._following:
            if self.worker is not former:
                return
            with self.stores.borrow() as store:
                if store.fingerprint in former.spaces:  # it was told so by a connection that had the gallery open
                    return
                self.worker = self._open_model(store)
        former.close()

    def _open_model(self, store: Store) -> ModelWorker:
        worker = ModelWorker(store.model, self._on_batch)
        if store.fingerprint in worker.spaces:
            return worker
        worker.close()
        raise StoreError(
            f"gallery {store.name!r} was embedded by {store.fingerprint[:12]}, and its model {store.model} is "
            f"{worker.spaces[-1][:12]} here; embed the gallery again: textreid gallery reindex {store.name}"
        )

    def _check_purpose(self, wanted: Wanted) -> None:
        if self.settings.require_purpose and not (wanted.purpose or "").strip():
            raise ConfigError("purpose: say what this search is for, as a case number; this service asks for it")

    def _log_page(self, access: Access, page: Page, action: str, **facts: Any) -> None:
        # Before anybody is shown anything: what was not logged is not answered.
        shown = [hit.crop.id for hit in page.hits]
        self.log(access.actor, action, **facts, shown=shown)
        self._shown.add(access.actor, shown)


def _check_model(store: Store, encoder: GalleryEncoder) -> None:
    if store.fingerprint not in encoder.spaces:
        raise ModelChangedError(f"gallery {store.name!r} was embedded again by {store.model}")


def _visible(store: Store, access: Access, number: int) -> Crop:
    filters = access.narrow(Filters())
    found = store.crops([number], filters) if filters is not None else []
    if not found:
        raise UnknownError(f"no crop {number}: it was deleted, never was, or is not yours to see")
    return found[0]


def _encoded(picture: Image.Image) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=85)
    return stream.getvalue()
