"""Embeddings that were computed once are kept: one SQLite database under the user's cache folder.

A vector belongs to the *content* of a file and to a model, so that a renamed, moved or duplicated picture is not
embedded again. Hashing every file would make each search read the whole folder; a file whose size and times are
those of the last look is therefore taken to have the content it had then.

The database holds paths and vectors of pictures of people: only its owner may read it, a picture that left its
folder is forgotten at the next search there, and `EmbeddingCache.clear` deletes for good.

A disk that takes no more costs nobody an answer: the search goes on with a copy of the cache in memory, and says so.
"""

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from textreid.errors import ArtifactError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

FILE_NAME = "embeddings.sqlite3"
REFERENCES = "references-*.npy"  # features of sentences about nobody, which `query.references` keeps beside it
_APPLICATION_ID = 0x74726964  # "trid", in the header of the file
_FORMAT_VERSION = 2  # 1 ranked pictures that show nothing: what it computed is dropped
_BUSY_SECONDS = 60.0
_NOT_KEPT = "embeddings are not kept: "
_SECONDS_A_DAY = 86_400
# What SQLite says of a place and not of what is in it: full, over a quota, read-only, locked for too long, failing.
_OF_THE_PLACE = {
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_PROTOCOL,
}
_SCHEMA = """
CREATE TABLE files (
    path BLOB PRIMARY KEY,       -- as the file system spells it, absolute
    size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    ctime_ns INTEGER NOT NULL,
    digest BLOB NOT NULL         -- SHA-256 of the content
) WITHOUT ROWID;
CREATE INDEX files_digest ON files (digest);
CREATE TABLE embeddings (
    model TEXT NOT NULL,         -- fingerprint of the model, and the precision where it is not float32
    digest BLOB NOT NULL,
    vector BLOB NOT NULL,        -- float32, little-endian
    created INTEGER NOT NULL,    -- seconds since 1970
    UNIQUE (model, digest)
);
CREATE TABLE unreadable (
    digest BLOB PRIMARY KEY,
    version TEXT NOT NULL,       -- of textreid: another may read what this one could not
    reason TEXT NOT NULL,
    created INTEGER NOT NULL
) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class FileStamp:
    """What a file system says about a file without reading it."""

    size: int
    mtime_ns: int
    ctime_ns: int  # which no program can set back, as copies with dates and `os.utime` do with the other

    @classmethod
    def of(cls, path: bytes | Path) -> Self:
        """Read the stamp of ``path``; raises OSError."""
        status = os.stat(path)  # noqa: PTH116 - a Path for each of many thousand files costs more than the call
        return cls(status.st_size, status.st_mtime_ns, status.st_ctime_ns)


@dataclass(frozen=True)
class CacheStatus:
    """What a cache holds."""

    path: Path
    size: int  # bytes on disk
    files: int
    embeddings: int
    models: int
    unreadable: int


def cache_folder() -> Path:
    """Find where the cache lives: ``$TEXTREID_CACHE``, or ``textreid`` in ``$XDG_CACHE_HOME`` or in ``~/.cache``.

    Raises:
        ArtifactError: there is no such place: HOME is not set, and this user has no home of his own.
    """
    try:
        if own := os.environ.get("TEXTREID_CACHE"):
            return Path(own).expanduser()
        base = os.environ.get("XDG_CACHE_HOME", "")
        if Path(base).is_absolute():  # the XDG specification: a relative path is to be ignored
            return Path(base) / "textreid"
        # Of an empty HOME, `Path.home` would make the root of the disk.
        home = Path.home() if os.environ.get("HOME", "unset") else Path()
    except RuntimeError:  # a container may run as a user that the machine does not know
        home = Path()
    if not home.is_absolute():
        raise ArtifactError("this user has no home folder; set TEXTREID_CACHE to a folder for the cache")
    return home / ".cache" / "textreid"


class CachePlaceError(ArtifactError):
    """The folder of a cache cannot be made or written, or takes no more."""


def open_cache() -> "tuple[EmbeddingCache, str]":
    """Open the user's cache; where that cannot be written, a copy in memory, and the reason in one line.

    Raises:
        ArtifactError: the file is damaged, foreign, or of another version of textreid.
    """
    try:
        folder = cache_folder()
    except ArtifactError as error:
        return EmbeddingCache(), f"{_NOT_KEPT}{error}"
    try:
        return EmbeddingCache(folder), ""
    except CachePlaceError as error:
        return _copy_in_memory(folder / FILE_NAME), f"{_NOT_KEPT}{error}"


class EmbeddingCache:
    """A table of vectors keyed by content digest and model fingerprint; a context manager that closes itself.

    Several processes may use one cache at once. When its disk takes no more, what follows is kept in memory only.
    Every method raises `ArtifactError`, which names the file, when the database is damaged or cannot be read.

    Attributes:
        path: of the database; None of one in memory.
        problem: why embeddings are no longer kept on disk, in one line, or nothing.
    """

    def __init__(self, folder: Path | None = None) -> None:
        """Open the cache in ``folder``, created when missing; None keeps everything in memory.

        Raises:
            CachePlaceError: the folder cannot be made or written, or its disk is full.
            ArtifactError: the file is damaged, foreign, or of another version of textreid.
        """
        self.path = folder / FILE_NAME if folder else None
        self.problem = ""
        if self.path:
            try:
                self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
            except OSError as error:
                raise _place_error(self.path, error.strerror or str(error)) from error
        self._database = _connect(self.path or ":memory:")
        try:
            with self._reported():
                self._prepare()
        except BaseException:
            self._database.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the database; what was stored stays."""
        self._database.close()

    def known_files(self, folder: Path) -> dict[bytes, tuple[FileStamp, bytes]]:
        """Read path, stamp and digest of the files below ``folder`` (absolute) as they were when last looked at."""
        with self._reported():
            rows = self._database.execute(
                "SELECT path, size, mtime_ns, ctime_ns, digest FROM files WHERE path >= ? AND path < ?", _range(folder)
            )
            # Inside: a cursor reads as it is asked, and finds only then what is damaged.
            return {path: (FileStamp(*stamp), digest) for path, *stamp, digest in rows}

    def remember_files(self, files: Mapping[bytes, tuple[FileStamp, bytes]]) -> None:
        """Store the stamp and digest of files, by absolute path."""
        rows = [(path, s.size, s.mtime_ns, s.ctime_ns, digest) for path, (s, digest) in files.items()]
        self._store("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?)", rows)

    def forget_files(self, paths: Iterable[bytes]) -> None:
        """Drop files that are gone, and what was stored of contents that no file has any more."""
        self._store("DELETE FROM files WHERE path = ?", [(path,) for path in paths])
        for table in ("embeddings", "unreadable"):
            self._store(f"DELETE FROM {table} WHERE digest NOT IN (SELECT digest FROM files)", [()])  # noqa: S608

    def vectors(self, model: str, folder: Path) -> "tuple[list[bytes], npt.NDArray[np.float32]]":
        """Read digests (N) and vectors (N, D) of the contents below ``folder`` embedded in the space ``model``.

        ``folder`` is absolute; its files are those of `remember_files`.
        """
        import numpy as np

        with self._reported():
            # Not a join: that gives copies of a picture once each, and DISTINCT would sort all vectors.
            rows = self._database.execute(
                "SELECT digest, vector FROM embeddings WHERE model = ? "
                "AND digest IN (SELECT digest FROM files WHERE path >= ? AND path < ?)",
                (model, *_range(folder)),
            ).fetchall()
        values = np.frombuffer(b"".join(vector for _, vector in rows), "<f4")
        # numpy cannot tell what -1 stands for where there is nothing.
        return [digest for digest, _ in rows], values.reshape(len(rows), -1 if rows else 0)

    def store_vectors(self, model: str, vectors: "Mapping[bytes, npt.NDArray[np.float32]]") -> None:
        """Store vectors by content digest: a process that is killed keeps them, unless `problem` says why not."""
        now = int(time.time())
        rows = [(model, digest, vector.astype("<f4").tobytes(), now) for digest, vector in vectors.items()]
        self._store("INSERT OR REPLACE INTO embeddings VALUES (?, ?, ?, ?)", rows)

    def unreadable(self, version: str, folder: Path) -> dict[bytes, str]:
        """Read digest and reason of the contents below ``folder`` that this version of textreid left out."""
        with self._reported():
            rows = self._database.execute(
                "SELECT digest, reason FROM unreadable WHERE version = ? "
                "AND digest IN (SELECT digest FROM files WHERE path >= ? AND path < ?)",
                (version, *_range(folder)),
            )
            return dict(rows.fetchall())

    def store_unreadable(self, version: str, reasons: Mapping[bytes, str]) -> None:
        """Remember contents that cannot be used, or only in part, so that they are not tried at each search."""
        now = int(time.time())
        rows = [(digest, version, reason, now) for digest, reason in reasons.items()]
        self._store("INSERT OR REPLACE INTO unreadable VALUES (?, ?, ?, ?)", rows)

    def status(self) -> CacheStatus:
        """Count what is stored."""
        with self._reported():
            files, embeddings, models, unreadable = self._database.execute(
                "SELECT (SELECT count(*) FROM files), (SELECT count(*) FROM embeddings), "
                "(SELECT count(DISTINCT model) FROM embeddings), "
                "(SELECT count(*) FROM unreadable WHERE digest NOT IN (SELECT digest FROM embeddings))"
            ).fetchone()
        path = self.path or Path(":memory:")
        size = sum(file.stat().st_size for file in _database_files(path) if file.is_file())
        return CacheStatus(path, size, files, embeddings, models, unreadable)

    def clear(self, older_than_days: float) -> int:
        """Delete every embedding computed more than ``older_than_days`` ago, for good; returns how many there were."""
        limit = int(time.time() - older_than_days * _SECONDS_A_DAY)
        with self._transaction():
            # "<=", because seconds are whole: of 0 days, what was stored in this second goes too.
            deleted = self._database.execute("DELETE FROM embeddings WHERE created <= ?", (limit,)).rowcount
            self._database.execute("DELETE FROM unreadable WHERE created <= ?", (limit,))
            self._database.execute(
                "DELETE FROM files WHERE digest NOT IN (SELECT digest FROM embeddings) "
                "AND digest NOT IN (SELECT digest FROM unreadable)"
            )
        with self._reported():
            # The log and the free pages still hold what was deleted. VACUUM is refused inside a transaction, and writes
            # the new database into the log: only then is that emptied into the file.
            self._database.execute("VACUUM")
            self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return deleted

    def _prepare(self) -> None:
        execute = self._database.execute
        # `forget_files` does not VACUUM: without this, some builds of SQLite leave in the file what it deleted.
        execute("PRAGMA secure_delete = ON")
        execute("BEGIN IMMEDIATE")  # fails at once where the file may be read but not written
        # In one transaction: of two processes that meet an empty file, one makes the tables, and one finds them.
        identity = (execute("PRAGMA application_id").fetchone()[0], execute("PRAGMA user_version").fetchone()[0])
        if identity == (0, 0) and not execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            # Not `executescript`, which first commits the transaction that is open.
            for statement in _SCHEMA.split(";")[:-1]:
                execute(statement)
            execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            execute(f"PRAGMA user_version = {_FORMAT_VERSION}")
        elif identity == (_APPLICATION_ID, 1):
            execute("DELETE FROM embeddings")
            execute("DELETE FROM unreadable")
            execute(f"PRAGMA user_version = {_FORMAT_VERSION}")
        elif identity != (_APPLICATION_ID, _FORMAT_VERSION):
            raise ArtifactError(
                f"{self.path}: not an embedding cache of this version of textreid; remove the file, or set "
                f"TEXTREID_CACHE to another folder"
            )
        execute("COMMIT")
        # After the check: this would write to a database of others too; and SQLite refuses it in a transaction.
        execute("PRAGMA journal_mode = WAL")
        # A power cut may undo the newest batches, which can be computed again, but damages nothing.
        execute("PRAGMA synchronous = NORMAL")
        execute("BEGIN IMMEDIATE")  # the first look makes the file that processes share: a full disk refuses it here
        execute("COMMIT")

    def _store(self, statement: str, rows: Sequence[tuple[object, ...]]) -> None:
        """Run a statement for each row, all or none; in memory from now on where the disk refuses."""
        try:
            with self._transaction():
                self._database.executemany(statement, rows)
        except CachePlaceError as error:
            with self._reported():
                memory = _connect(":memory:")
                self._database.backup(memory)
            self._database.close()
            self._database, self.path, self.problem = memory, None, f"{_NOT_KEPT}{error}"
            self._store(statement, rows)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._reported():
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._database.execute("COMMIT")
            except BaseException:
                if self._database.in_transaction:  # a full disk may have ended it
                    self._database.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def _reported(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            if self.path and error.sqlite_errorcode & 0xFF in _OF_THE_PLACE:
                raise _place_error(self.path, str(error)) from error
            raise ArtifactError(
                f"{self.path}: the embedding cache cannot be used: {error}; search with --no-cache, or set "
                f"TEXTREID_CACHE to another folder"
            ) from error
        except sqlite3.DatabaseError as error:
            raise ArtifactError(
                f"{self.path}: the embedding cache is damaged ({error}); remove it with `textreid cache clear` "
                f"(it holds only what can be computed again)"
            ) from error


def remove_cache(folder: Path) -> int:
    """Remove the whole cache in ``folder``, damaged or not; returns the bytes that were freed.

    Raises:
        OSError: it cannot be removed.
    """
    freed = 0
    for file in (*_database_files(folder / FILE_NAME), *folder.glob(REFERENCES)):
        if file.is_file():
            freed += file.stat().st_size
            file.unlink()
    return freed


def _connect(path: Path | str, uri: bool = False) -> sqlite3.Connection:
    # Autocommit: transactions are begun in sight, by `_transaction`.
    return sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, uri=uri)


def _copy_in_memory(path: Path) -> EmbeddingCache:
    """Copy the cache that cannot be written, so that what is in it need not be computed again."""
    # As its other users see it; or, where nobody has it open and nobody can open it so, as the file alone.
    for way in ("mode=ro", "immutable=1"):
        cache = EmbeddingCache()
        with contextlib.suppress(sqlite3.Error, ArtifactError):
            with contextlib.closing(_connect(f"{path.absolute().as_uri()}?{way}", uri=True)) as source:
                source.backup(cache._database)
            cache._prepare()
            return cache
        cache.close()
    return EmbeddingCache()


def _place_error(path: Path, reason: str) -> CachePlaceError:
    return CachePlaceError(
        f"{path.parent}: the embedding cache cannot be used: {reason}; make room there, or set TEXTREID_CACHE to "
        f"another folder"
    )


def _database_files(path: Path) -> list[Path]:
    return [path.with_name(path.name + suffix) for suffix in ("", "-wal", "-shm")]


def _range(folder: Path) -> tuple[bytes, bytes]:
    """The first path below ``folder``, and the first after all of them: "0" follows "/" in ASCII."""
    prefix = os.fsencode(folder).rstrip(b"/")
    return prefix + b"/", prefix + b"0"
