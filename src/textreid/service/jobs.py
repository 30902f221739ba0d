"""Jobs that index what was uploaded: one after the other, each a child process that can be killed and goes on.

How far a job is, is read off what is stored of its files: a number that was reached is never taken back.
"""

import json
import logging
import os
import subprocess
import sys
import threading
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psycopg import sql
from psycopg.types.json import Jsonb

from textreid.errors import ConfigError, TextReidError
from textreid.gallery.store import Database, PassingError, Store
from textreid.service.access import LOCAL, Access, UnknownError
from textreid.service.stores import Stores
from textreid.service.uploads import Kind, delete_abandoned, delete_unused

if TYPE_CHECKING:
    import psycopg

_LOG = logging.getLogger(__name__)
_LOOK_S = 0.25
_IDLE_S = 2.0  # another process may have made a job
_GRACE_S = 10.0
_MOST_WAITING = 20  # of a gallery
_MOST_KILLED = 3  # times that a job's process is killed by somebody else, as by a machine that is out of memory
_COLUMNS = (
    "j.id, coalesce(a.name, 'local'), j.kind, j.camera, j.folder, j.files, j.state, j.problems, j.created, j.ended"
)
_OWN = "j.gallery_id = %(gallery)s AND (%(all)s OR a.name = %(actor)s)"


@dataclass(frozen=True)
class Job:
    """An upload and its indexing.

    Attributes:
        done: how many of its ``files`` are stored; 0 or 1 of a video.
        seconds: of a video, that were looked at.
        crops: people of it that the gallery has now.
    """

    number: int
    actor: str
    kind: Kind
    camera: str | None
    folder: Path
    files: int
    state: str
    problems: list[dict[str, str]]
    created: datetime
    ended: datetime | None
    done: int = 0
    seconds: float | None = None
    crops: int = 0


def add_job(store: Store, access: Access, kind: Kind, camera: str | None, folder: Path) -> int:
    """Note that a folder waits to be indexed; returns the number of the job.

    Raises:
        ConfigError: too many wait already.
    """
    statement = (
        "INSERT INTO job (gallery_id, account_id, kind, camera, folder, files) "
        "SELECT %(gallery)s, (SELECT id FROM account WHERE name = %(actor)s), %(kind)s, %(camera)s, %(folder)s, "
        "%(files)s WHERE (SELECT count(*) FROM job WHERE gallery_id = %(gallery)s AND state = 'waiting') < %(most)s "
        "RETURNING id"
    )
    values = {
        "gallery": store.id, "actor": access.actor, "kind": kind, "camera": camera, "folder": os.fspath(folder),
        "files": len(list(folder.iterdir())), "most": _MOST_WAITING,
    }  # fmt: skip
    row = store.database.run(lambda c: c.execute(statement, values).fetchone())
    if row is None:
        raise ConfigError(f"{_MOST_WAITING} uploads wait to be indexed already; try again later")
    return int(row[0])


def jobs(store: Store, access: Access, number: int | None = None, count: int = 50) -> list[Job]:
    """Read somebody's own jobs, or one of them, the newest first; an administrator sees all."""
    query = (
        f"SELECT {_COLUMNS} FROM job j LEFT JOIN account a ON a.id = j.account_id WHERE {_OWN} "  # noqa: S608
        "AND (%(number)s::bigint IS NULL OR j.id = %(number)s) ORDER BY j.id DESC LIMIT %(count)s"
    )
    everything = access is LOCAL or access.may("admin")
    values = {"gallery": store.id, "actor": access.actor, "all": everything, "number": number, "count": count}

    def read(connection: "psycopg.Connection") -> list[Job]:
        rows = connection.execute(query, values).fetchall()
        return [_progress(connection, store.id, row) for row in rows]

    return store.database.run(read)


def job(store: Store, access: Access, number: int) -> Job:
    """Read one job.

    Raises:
        UnknownError: there is none of that number that they may see.
    """
    found = jobs(store, access, number)
    if not found:
        raise UnknownError(f"no job {number}: it never was, or is not yours to see")
    return found[0]


def cancel_job(store: Store, number: int) -> None:
    """Stop a job, now or as soon as its process has ended; what it has stored stays. One that has ended stays, too."""
    statement = "UPDATE job SET state = 'cancelled' WHERE id = %s AND state IN ('waiting', 'running')"
    store.database.run(lambda c: c.execute(statement, (number,)))


def _progress(connection: "psycopg.Connection", gallery: int, row: tuple[Any, ...]) -> Job:
    number, actor, kind, camera, folder, files, state, problems, created, ended = row
    statement = sql.SQL(
        "SELECT count(*) FILTER (WHERE finished), max(position), coalesce(sum(n), 0) FROM (SELECT finished, position, "
        "(SELECT count(*) FROM {} c WHERE c.file_id = f.id) AS n FROM file f "
        "WHERE gallery_id = %s AND starts_with(path, %s)) found"
    ).format(sql.Identifier(f"crop_{gallery}"))
    found = connection.execute(statement, (gallery, f"{os.path.realpath(folder)}/")).fetchone()
    done, position, crops = found or (0, None, 0)
    seconds = (position or 0) / 1000 if kind == "video" else None
    return Job(
        number, actor, kind, camera, Path(folder), files, state, problems, created, ended, done, seconds, int(crops)
    )


class JobRunner:
    """A thread that indexes uploads into a gallery, until it is closed.

    Args:
        stores: connections to the gallery.
    """

    def __init__(self, stores: Stores) -> None:
        self._stores = stores
        self._closing = threading.Event()
        self._wake = threading.Event()
        self._killed: dict[int, int] = {}
        # Before anything is uploaded: what no job knows is deleted.
        self._take_up()
        self._thread = threading.Thread(target=self._work, name="jobs", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Tell it that there is a new job."""
        self._wake.set()

    def close(self) -> None:
        """End the thread; a job that runs is stopped, and goes on when the service is started again."""
        self._closing.set()
        self._wake.set()
        self._thread.join()

    def _work(self) -> None:
        lost = False  # of a job that runs for the database, whether it was noted that it has ended
        while not self._closing.is_set():
            self._wake.clear()
            try:
                if lost:
                    self._begin_again()
                while not self._closing.is_set() and (found := self._next()):
                    self._run(*found)
                lost = False
            except TextReidError as error:  # the database is away: it comes back
                _LOG.error("uploads cannot be indexed now: %s", error)
                lost = True
            self._wake.wait(_IDLE_S)

    def _take_up(self) -> None:
        """Begin again what a service left that was stopped, and delete what no job knows."""
        self._begin_again()
        with self._stores.borrow() as store:
            rows = store.database.run(lambda c: c.execute("SELECT folder FROM job").fetchall())
            delete_abandoned(store.database, store.id, {Path(folder) for (folder,) in rows})

    def _begin_again(self) -> None:
        """Let the job that runs for the database wait: its process has ended."""
        again = "UPDATE job SET state = 'waiting' WHERE gallery_id = %s AND state = 'running'"
        with self._stores.borrow() as store:
            store.database.run(lambda c: c.execute(again, (store.id,)))

    def _next(self) -> "tuple[int, Kind, str | None, Path] | None":
        statement = (
            "UPDATE job SET state = 'running' WHERE id = (SELECT id FROM job WHERE gallery_id = %s "
            "AND state = 'waiting' ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED) RETURNING id, kind, camera, folder"
        )
        with self._stores.borrow() as store:
            row = store.database.run(lambda c: c.execute(statement, (store.id,)).fetchone())
        return (row[0], row[1], row[2], Path(row[3])) if row else None

    def _run(self, number: int, kind: Kind, camera: str | None, folder: Path) -> None:
        command = [sys.executable, "-m", "textreid", "index", os.fspath(folder), "--gallery", self._stores.gallery]
        command += ["--json", *(["--photographs"] if kind == "photographs" else [])]
        command += [f"--camera={camera}"] if camera else []
        environment = {**os.environ, "NO_COLOR": "1", "PYTHONWARNINGS": "ignore"}
        if self._stores.url:
            environment["TEXTREID_DATABASE"] = self._stores.url
        # A group of its own: Ctrl-C at a terminal is for the service, which then stops the job.
        with subprocess.Popen(  # noqa: S603 - our own program, no shell
            command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, errors="replace", process_group=0,
        ) as process:  # fmt: skip
            said: list[str] = ["", ""]
            reader = threading.Thread(target=lambda: said.__setitem__(slice(None), process.communicate()), daemon=True)
            reader.start()
            while reader.is_alive():
                reader.join(_LOOK_S)
                if self._closing.is_set() or self._state(number) == "cancelled":
                    process.terminate()
                    reader.join(_GRACE_S)
                    process.kill()
                    reader.join()
        self._end(number, folder, process.returncode, *said)

    def _state(self, number: int) -> str:
        try:
            with self._stores.database() as database:
                row = database.run(lambda c: c.execute("SELECT state FROM job WHERE id = %s", (number,)).fetchone())
        except TextReidError:  # the child tells when the database is gone
            return "running"
        return str(row[0]) if row else "cancelled"

    def _end(self, number: int, folder: Path, status: int, told: str, said: str) -> None:
        cancelled = self._state(number) == "cancelled"
        if status < 0:
            self._killed[number] = self._killed.get(number, 0) + 1
        passing = status == PassingError.exit_code or (status < 0 and self._killed[number] < _MOST_KILLED)
        if status and not cancelled and (self._closing.is_set() or passing):
            self._begin_again()
            self._closing.wait(_IDLE_S)
            return
        self._killed.pop(number, None)
        state = "done" if status == 0 else "failed"
        problems = _problems(told) if status == 0 else [{"file": "", "problem": _last_line(said, folder)}]
        if status and not cancelled:
            _LOG.error("the job %d of %s failed: %s", number, folder, said.strip()[-2000:])
        statement = (
            "UPDATE job SET state = CASE WHEN state = 'cancelled' THEN state ELSE %s END, ended = now(), problems = %s "
            "WHERE id = %s"
        )
        with self._stores.borrow() as store:
            values = (state, Jsonb([] if cancelled else problems), number)
            store.database.run(lambda c: c.execute(statement, values))
            delete_unused(folder, _used(store.database, store.id, folder))


def _used(database: Database, gallery: int, folder: Path) -> set[Path]:
    statement = sql.SQL(
        "SELECT path FROM file f WHERE gallery_id = %s AND starts_with(path, %s) "
        "AND EXISTS (SELECT FROM {} c WHERE c.file_id = f.id)"
    ).format(sql.Identifier(f"crop_{gallery}"))
    rows = database.run(lambda c: c.execute(statement, (gallery, f"{os.path.realpath(folder)}/")).fetchall())
    return {folder / Path(path).name for (path,) in rows}


def _problems(told: str) -> list[dict[str, str]]:
    report = json.loads(told)
    return [{"file": _as_sent(one["path"]), "problem": one["reason"]} for one in report["quarantined"]]


def _as_sent(path: str) -> str:
    """Return the name by which a file was sent: without our number."""
    return Path(path).name.partition("-")[2]


def _last_line(said: str, folder: Path) -> str:
    """Return what a program said last, without where the files are on this machine."""
    lines = [line for line in said.splitlines() if line.strip()]
    return (lines[-1] if lines else "the job was stopped").replace(os.fspath(folder), "the upload")[:500]
