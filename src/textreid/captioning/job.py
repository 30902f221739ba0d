"""The captioning job: every image, every slot, once; to be stopped and started again at any moment."""

import asyncio
import gc
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from textreid.artifacts import fingerprint
from textreid.captioning.checking import Checks
from textreid.captioning.counts import JobCounts, read_usage, write_usage
from textreid.captioning.engine import Engine, Work, run_to_end, unusable
from textreid.captioning.requests import FAILED, Answer, Settings, Slot, Usage
from textreid.captions.cleaning import OK
from textreid.captions.writer import GrowingTable
from textreid.errors import ArtifactError, CaptionError, CaptioningStoppedError, TextReidError
from textreid.interrupt import StopRequest

if TYPE_CHECKING:
    from textreid.captions.table import CaptionRow

_FEW = 50  # failures that say nothing about a rate yet
_PASSES = 2  # the second asks again when all else is done, so that a server has had time to come back
_TICK_S = 1.0  # between two looks at what goes wrong
# Without any answer, after a stop; what still waits then is given up. `docker stop` kills after 10 s.
_EXIT_GRACE_S = 6.0


def job_facts(root: Path, slots: Sequence[Slot], models: Mapping[str, str], settings: Settings) -> dict[str, Any]:
    """Return what decides the rows of a job: a table is only continued by a job whose facts do not contradict.

    Slots that a table does not have yet may come in later, with their MLLMs.
    """
    # By slot, as the models are by MLLM: the keys of a later job may be other ones, see `GrowingTable`.
    prompts = {slot.name: fingerprint([each.prompt_hash for each in slot.choices])[:16] for slot in slots}
    return {
        # A folder's name need not be UTF-8, but JSON on the disk is.
        "images": str(root.resolve()).encode("utf-8", "backslashreplace").decode(),
        "models": dict(models),  # without URLs: the same model may be served elsewhere tomorrow
        "prompts": prompts,
        "seed": settings.seed,
        "asks": settings.attempts,  # its name in the tables of all versions
    }


def caption_images(
    root: Path,
    images: Sequence[str],
    out: Path,
    engine: Engine,
    slots: Sequence[Slot],
    settings: Settings,
    *,
    models: Mapping[str, str] | None = None,
    checks: Checks | None = None,
    retry_failed: bool = False,
    watch: Callable[[JobCounts], None] = lambda counts: None,
) -> JobCounts:
    """Write the captions of ``images`` (paths relative to ``root``) that the table ``out`` does not have yet.

    Ctrl-C and SIGTERM finish what is under way, as long as answers come; a second one ends at once. However a job ends,
    the same call goes on. Handlers of signals are as before when it returns.

    Args:
        root: folder of the images.
        images: distinct paths in it, as the table names them.
        out: folder of the table, new or begun by an equal job.
        engine: asks the MLLMs; closed at the end. The table is the same whichever it is, and another may go on.
        slots: what every image gets.
        settings: see there.
        models: what stands behind each MLLM's name; recorded, and compared when the job goes on.
        checks: the captions of another table that are checked in this job; None where captions are written.
        retry_failed: ask again for captions that stayed without an answer in an earlier run.
        watch: called in the event loop when captions were saved, and once a second.

    Returns:
        What was done, in this run and before.

    Raises:
        ResumeError: ``out`` holds something else (names what differs), or another process writes to it.
        CaptionError: a captioner cannot work at all, none of the captions of an MLLM can be used, or more than
            ``settings.max_failures`` failed.
        CaptioningStoppedError: it was stopped.
        ArtifactError: ``out`` cannot be written; what was saved stays.
    """
    if not images:
        raise CaptionError(f"{root}: no images to caption")
    facts = job_facts(root, slots, models or {}, settings) | ({"checked": checks.facts} if checks else {})
    with GrowingTable(out, facts) as table:
        # Before the job looks at what is there: a row without a caption counts as done.
        if retry_failed:
            asked = {slot.name for slot in slots}
            table.drop(lambda slot, status: slot in asked and status.startswith(FAILED))
        job = _Job(root, images, table, slots, settings, watch, checks)
        try:
            with StopRequest(job.request_stop), _short_collections():
                run_to_end(lambda: job.run(engine))
        except KeyboardInterrupt:  # the second Ctrl-C, which `StopRequest` leaves to Python
            job.stopped.set()
        # A stop that came when everything was there already has stopped nothing.
        if job.stopped.is_set() and job.counts.done < job.counts.total:
            raise CaptioningStoppedError(
                f"stopped; {job.counts.done} of {job.counts.total} captions are saved in {out}: "
                "run the same command to go on"
            )
        job.finish()
        return job.counts


class _Job:
    """State of one run: which captions are there, and what is on its way to the table."""

    def __init__(
        self,
        root: Path,
        images: Sequence[str],
        table: GrowingTable,
        slots: Sequence[Slot],
        settings: Settings,
        watch: Callable[[JobCounts], None],
        checks: Checks | None = None,
    ) -> None:
        self.root, self.settings, self.slots = root, settings, tuple(slots)
        self.stopped = asyncio.Event()
        self.useful: Collection[str] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._images, self._table, self._watch = images, table, watch
        self._column = {slot.name: column for column, slot in enumerate(slots)}
        # One byte a caption: with the names of the images it is all that grows with a job (docs/benchmarks.md: a peak
        # of 229 MiB at 200,000 captions).
        self._done: npt.NDArray[np.bool_] = np.zeros((len(images), len(slots)), dtype=np.bool_)
        self._missing: dict[tuple[int, str], CaptionRow] = {}  # failures that another pass may mend
        # Rejected captions of MLLMs without a usable one: once they are saved, a mended MLLM is not asked again.
        self._held: dict[str, list[Answer]] = {}
        self._answered_at = 0.0
        self._queue: asyncio.Queue[tuple[list[Answer], asyncio.Future[None]] | None] = asyncio.Queue()
        absent = self._absent(checks)
        self.counts = JobCounts(self._done.size - int(absent.sum()), read_usage(table.folder))
        self.counts.damaged = table.damaged
        self._usage_written = time.monotonic()
        self._read_keys()
        self._done |= absent
        self.counts.start(images_done=int(self._done.all(axis=1).sum()), images=len(images))

    def _absent(self, checks: Checks | None) -> npt.NDArray[np.bool_]:
        """Tell which images lack which slots in the table that is checked: nothing is to be done there."""
        absent = np.zeros_like(self._done)
        if checks:
            for row, image in enumerate(self._images):
                absent[row] = [(image, slot.name) not in checks.suspects for slot in self.slots]
        return absent

    def _read_keys(self) -> None:
        index = {image: row for row, image in enumerate(self._images)}
        for block in self._table.stored():
            for image, slot, status in zip(*(column.to_pylist() for column in block), strict=True):
                row, column = index.get(image), self._column.get(slot)
                if row is None or column is None:  # not of this run
                    continue
                if self._done[row, column]:
                    raise CaptionError(f"{self._table.folder}: image {image!r} has two captions in slot {slot!r}")
                self._done[row, column] = True
                self.counts.found(status)
                if status == OK:
                    self.useful = {*self.useful, self.slots[column].mllm}

    async def run(self, engine: Engine) -> None:
        """Ask for everything that is missing; what fails for a passing reason, once more at the end."""
        self._loop = asyncio.get_running_loop()
        writer, ticker = asyncio.create_task(self._write()), asyncio.create_task(self._tick(engine))
        try:
            for _ in range(_PASSES):
                # Else what fails in both passes would count twice towards --max-failures.
                self.counts.forget_failures(row.status for row in self._missing.values())
                self._missing.clear()
                await self._ask(engine)
                if self._done.all() or self.stopped.is_set():
                    break
        except BaseExceptionGroup as errors:
            raise _first_error(errors) from None
        finally:
            ticker.cancel()
            self._queue.put_nowait(None)  # what has been answered is written, whatever went wrong
            await writer
            if self.counts.saved_now:
                with suppress(ArtifactError):  # a full disk is told by the captions themselves
                    write_usage(self._table.folder, self.counts.usage)
            # Last, for it can take seconds (Ray's threads) or fail, and everything is on the disk by now.
            await engine.aclose()

    async def _ask(self, engine: Engine) -> None:
        """Let the engine run; after a stop only as long as answers come, for some servers never answer."""
        work = asyncio.create_task(engine.run(self))
        stop = asyncio.create_task(self.stopped.wait())
        try:
            await asyncio.wait({work, stop}, return_when=asyncio.FIRST_COMPLETED)
            self._answered_at = time.monotonic()
            while not work.done() and (left := self._answered_at + _EXIT_GRACE_S - time.monotonic()) > 0:
                await asyncio.wait({work}, timeout=left)
        finally:
            stop.cancel()
            work.cancel()
            # Cancelled is not yet ended, and an engine may only be closed when nothing is under way.
            await asyncio.wait({work})
        # `asyncio.wait` raises nothing of what it waits for.
        if not work.cancelled():
            work.result()

    def request_stop(self) -> None:
        """Begin nothing more; may be called from a signal handler, in any thread."""
        if self._loop is None:
            self.stopped.set()
            return
        # An event of asyncio must be set in its loop; and the loop may sleep until something wakes it, as this does.
        with suppress(RuntimeError):  # the loop has ended meanwhile
            self._loop.call_soon_threadsafe(self._stop)

    def _stop(self) -> None:
        self.stopped.set()
        self.counts.stopping = True
        self._watch(self.counts)

    async def _tick(self, engine: Engine) -> None:
        """Show now and then that time goes by and what goes wrong: no answer ever comes from some servers."""
        while True:
            await asyncio.sleep(_TICK_S)
            self.counts.trouble = engine.trouble
            self._watch(self.counts)

    def finish(self) -> None:
        """Complete the table, unless too much is missing."""
        held = [answer.row for answer in chain.from_iterable(self._held.values())]
        # First, for a table that an engine has left holes in must never become complete.
        unanswered = self.counts.total - self.counts.done - len(self._missing) - len(held)
        if unanswered:
            raise CaptionError(
                f"{unanswered} of {self.counts.total} captions came back neither written nor failed; "
                f"the others are saved in {self._table.folder}: run the same command to go on"
            )
        failed = self.counts.failed + len(self._missing)
        if failed > self.settings.max_failures * self.counts.total:
            raise self._too_many(failed, self.counts.total)
        if held:
            raise CaptionError(unusable([row for row in held if row.mllm == held[0].mllm]))
        # Only now: a row with a reason is not asked for again unless the user says so.
        if self._missing:
            self._table.append(list(self._missing.values()))
            self.counts.gave_up(row.status for row in self._missing.values())
        # Where nothing was added the manifest is still there, and a new one would read every part for its digest.
        if not self._table.complete:
            self._table.finish()

    def pending(self, mllms: Collection[str]) -> Iterator[Work]:
        """Yield the images that lack captions of ``mllms``, with those slots; ends when the job is to stop."""
        columns = [column for column, slot in enumerate(self.slots) if slot.mllm in mllms]
        for number, image in enumerate(self._images):
            # Where a stop takes effect with `LocalEngine`: nothing more is begun, and what was begun is answered.
            if self.stopped.is_set():
                return
            slots = tuple(self.slots[column] for column in columns if not self._done[number, column])
            if slots:
                yield Work(number, image, slots)

    async def deliver(self, number: int, answers: Sequence[Answer]) -> None:
        """Take the answers of image ``number``; they are on the disk when this returns."""
        kept = []
        for answer in answers:
            if self._done[number, self._column[answer.row.slot]]:
                continue  # an engine of many machines may deliver twice
            self.counts.answered(answer)
            if answer.failure and answer.failure.fatal:
                raise CaptionError(f"{answer.mllm}: {answer.failure.message}")
            # In memory alone until the job ends: killed before, it asks for them again.
            if answer.failure and not answer.failure.permanent:
                self._missing[number, answer.row.slot] = answer.row
            else:
                kept.append(answer)
        self._answered_at = time.monotonic()
        failed, answered = self.counts.failed_now, self.counts.answered_now
        if failed > _FEW and failed > self.settings.max_failures * answered:
            raise self._too_many(failed, answered)
        released = self._released(kept)
        if released:
            saved: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._queue.put_nowait((released, saved))
            await saved
        # After the disk, so that what is marked is saved, or held: neither is asked for again in this run.
        for answer in kept:
            self._done[number, self._column[answer.row.slot]] = True
        done = bool(kept) and bool(self._done[number].all())
        self.counts.saved([answer.row for answer in released], image_done=done)
        self._watch(self.counts)

    def _released(self, answers: Sequence[Answer]) -> list[Answer]:
        """Return what may be saved, now that ``answers`` have come: rejected ones only of a useful MLLM."""
        released: list[Answer] = []
        for answer in answers:
            mllm = answer.mllm
            if answer.row.status == OK:
                self.useful = {*self.useful, mllm}
                released += self._held.pop(mllm, [])
            if answer.failure or mllm in self.useful:
                released.append(answer)
            else:
                self._held.setdefault(mllm, []).append(answer)
        return released

    def _too_many(self, failed: int, total: int) -> CaptionError:
        kinds = ", ".join(f"{kind} {count}" for kind, count in self.counts.failures.most_common())
        return CaptionError(
            f"{failed} of {total} captions failed ({kinds}), more than the {self.settings.max_failures:.1%} that "
            f"--max-failures allows; first: {self.counts.first_failure or 'in an earlier run'}; "
            f"the others are saved in {self._table.folder}: see to that, and run the same command to go on"
        )

    async def _write(self) -> None:
        """Write what has come since the last sync, with one sync for all of it, until None comes."""
        entry = await self._queue.get()
        while entry is not None:
            # While one batch is synced the next one gathers: a sync costs about the same for one row or a hundred.
            batch = []
            while entry is not None:
                batch.append(entry)
                if self._queue.empty():
                    break
                entry = self._queue.get_nowait()
            error = None
            try:
                together = [answer for answers, _ in batch for answer in answers]
                # In a thread, so that a slow disk does not hold up the requests. The usage is a copy that is made here,
                # for the loop goes on counting.
                await asyncio.to_thread(self._append, together, self.counts.usage)
            except Exception as problem:
                error = problem  # raised where the rows come from
            for _, saved in batch:
                if saved.cancelled():
                    continue
                if error:
                    saved.set_exception(error)
                else:
                    saved.set_result(None)
            if entry is not None:
                entry = await self._queue.get()

    def _append(self, answers: list[Answer], usage: Mapping[str, Usage]) -> None:
        """Write ``answers``, and now and then the usage: a killed run loses count of its last second."""
        self._table.append([one.row for one in answers], (known for one in answers for known in one.known_beside()))
        if time.monotonic() - self._usage_written >= 1:
            write_usage(self._table.folder, usage)
            self._usage_written = time.monotonic()


@contextmanager
def _short_collections() -> Iterator[None]:
    """Spare what is there already from garbage collection: each would hold up everything for some 0.2 s."""
    if gc.get_freeze_count():  # somebody else has done so, and would find it undone
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _first_error(error: BaseException) -> BaseException:
    """Return the first error in a group, however deep: one that textreid raised on purpose if there is any."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    errors = [_first_error(each) for each in error.exceptions]
    return next((each for each in errors if isinstance(each, TextReidError)), errors[0])
