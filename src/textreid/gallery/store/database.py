"""A database of galleries: the embedded server or any other, one connection, and work that survives a restart."""

import contextlib
import os
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any, Self, TypeVar

from textreid.errors import nearest_name
from textreid.gallery.store.errors import ConnectionLostError, StoreError, reported
from textreid.gallery.store.rows import GalleryInfo
from textreid.gallery.store.schema import SCHEMA, migrate
from textreid.gallery.store.server import EmbeddedServer, data_folder

if TYPE_CHECKING:
    from collections.abc import Callable

    import psycopg

    from textreid.gallery.store.store import Store

Result = TypeVar("Result")
VARIABLE = "TEXTREID_DATABASE"
_RECONNECT_S = 20.0  # a server that was killed is back in a few seconds
_LONGEST_NAME = 200


def open_database(url: str | None = None) -> "Database":
    """Open the galleries of a server: of ``url`` (``postgresql://…``), of ``$TEXTREID_DATABASE``, or the embedded one.

    Raises:
        ConnectionLostError: it cannot be reached.
        StoreError: the extra is not installed; the server is too old, lacks pgvector, or has newer galleries.
    """
    try:
        import pgvector
        import psycopg
    except ImportError as error:
        raise StoreError(f"galleries need another package ({error.name}): pip install 'textreid[gallery]'") from error
    del pgvector, psycopg
    url = url or os.environ.get(VARIABLE) or None
    return Database(url) if url else Database(None, EmbeddedServer(data_folder() / "database"))


class Database:
    """A connection to the galleries of one server; a context manager that closes itself.

    Several threads may use it: they queue. Work whose connection is lost is done again on a new one.

    Attributes:
        place: the server, as a person knows it: without a password.
        embedded: the server of the user's own; None of another.
    """

    def __init__(self, url: str | None, embedded: EmbeddedServer | None = None) -> None:
        """Connect, and bring the tables to this version; see `open_database`."""
        self.embedded = embedded
        self._url = url
        self._lock = threading.RLock()
        self._connection: psycopg.Connection | None = None
        self.place = str(embedded.folder) if embedded else _without_password(url or "")
        # A program that ends without closing still counts as a user of the server until then.
        self._leave = weakref.finalize(self, embedded.close) if embedded else None
        try:
            self._connect()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; the last user of the embedded server stops it."""
        with self._lock:
            if self._connection is not None:
                with contextlib.suppress(Exception):
                    self._connection.close()
                self._connection = None
        if self._leave:
            self._leave()

    def run(self, work: "Callable[[psycopg.Connection], Result]", *, atomic: bool = True) -> Result:
        """Do ``work``, and again from its beginning if the database goes away in the middle.

        Args:
            work: what to do with the connection.
            atomic: in one transaction; else each statement is one, which is quicker where nothing is changed.

        Raises:
            ConnectionLostError: it did not come back.
            DiskFullError: its disk takes no more.
            StoreError: it refuses.
        """
        deadline = time.monotonic() + _RECONNECT_S
        with self._lock:
            while True:
                try:
                    with reported(self.place):
                        connection = self._connection or self._connect()
                        with connection.transaction() if atomic else contextlib.nullcontext():
                            return work(connection)
                except ConnectionLostError:
                    if self._connection is not None and not self._connection.closed and not self._connection.broken:
                        raise  # of the query, not of the connection
                    self._connection = None
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.1)

    def maintain(self, work: "Callable[[psycopg.Connection], Result]") -> Result:
        """Do ``work`` once, outside of any transaction, as VACUUM needs it.

        Raises:
            StoreError: see `run`.
        """
        with self._lock, reported(self.place):
            return work(self._connection or self._connect())

    def unlock(self, key: str) -> None:
        """Give back an advisory lock on the text ``key``, if the connection that took it is still there."""
        with self._lock, contextlib.suppress(StoreError), reported(self.place):
            if self._connection is not None:
                self._connection.execute("SELECT pg_advisory_unlock(hashtextextended(%s, 7))", (key,))

    def galleries(self) -> list[GalleryInfo]:
        """List the galleries by name."""
        query = "SELECT name, model, fingerprint, dim, created, id FROM gallery ORDER BY name"
        return [GalleryInfo(*row) for row in self.run(lambda c: c.execute(query).fetchall(), atomic=False)]

    def store(self, name: str) -> "Store":
        """Open a gallery.

        Raises:
            StoreError: there is none of that name; names the nearest.
        """
        from textreid.gallery.store.store import Store

        infos = {info.name: info for info in self.galleries()}
        if name not in infos:
            hint = nearest_name(name, infos) if infos else "there is none yet: textreid index SOURCE --gallery NAME"
            raise StoreError(f"{self.place}: no gallery {name!r}; {hint}")
        return Store(self, infos[name])

    def create(self, name: str, model: str, fingerprint: str, dim: int) -> "Store":
        """Make a gallery, or open the one of that name.

        Args:
            name: of letters, digits and signs that can be printed.
            model: as it was asked for.
            fingerprint: of the vectors that it will hold (`GalleryEncoder.space`).
            dim: numbers of a vector.

        Raises:
            StoreError: another model embedded the gallery of that name, or that is no name.
        """
        from textreid.gallery.store.store import Store

        if not name.strip() or not name.isprintable() or len(name) > _LONGEST_NAME:
            raise StoreError(f"{name[:60]!r}: no name of a gallery; take letters and digits")

        def make(connection: "psycopg.Connection") -> GalleryInfo:
            row = connection.execute(
                "INSERT INTO gallery (name, model, fingerprint, dim) VALUES (%s, %s, %s, %s) "
                "ON CONFLICT (name) DO NOTHING RETURNING id",
                (name, model, fingerprint, dim),
            ).fetchone()
            if row:
                add_partitions(connection, int(row[0]), dim)
            found = connection.execute(
                "SELECT name, model, fingerprint, dim, created, id FROM gallery WHERE name = %s", (name,)
            ).fetchone()
            assert found is not None  # noqa: S101 - it was made, or was there
            return GalleryInfo(*found)

        store = Store(self, self.run(make))
        store.check_model(fingerprint, model)
        return store

    def delete(self, name: str) -> None:
        """Delete a gallery with its vectors and pictures, for good; the files it was made from are not touched.

        Raises:
            StoreError: there is none of that name.
        """
        number = self.store(name).id

        def drop(connection: "psycopg.Connection") -> None:
            drop_gallery(connection, number)

        self.run(drop)

    def _connect(self) -> "psycopg.Connection":
        import psycopg
        from pgvector.psycopg import register_vector

        if self.embedded:
            conninfo = self.embedded.ensure_running() if self._connection is None else self.embedded.conninfo
        else:
            conninfo = self._url or ""
        with reported(self.place):
            connection: psycopg.Connection = psycopg.connect(
                conninfo, connect_timeout=10, autocommit=True, application_name="textreid",
                options=f"-c search_path={SCHEMA},public -c client_min_messages=warning",
            )  # fmt: skip
            try:
                migrate(connection, self.place)
                register_vector(connection)
            except BaseException:
                connection.close()
                raise
        self._connection = connection
        return connection


def add_partitions(connection: "psycopg.Connection", gallery: int, dim: int) -> None:
    """Make the tables of a new gallery; ``dim`` is checked of every vector that comes in."""
    from psycopg import sql

    for table in ("crop", "image"):
        connection.execute(
            sql.SQL("CREATE TABLE {} PARTITION OF {} FOR VALUES IN ({})").format(
                sql.Identifier(f"{table}_{gallery}"), sql.Identifier(table), sql.Literal(gallery)
            )
        )
    # Between the partitions: one between the whole tables would keep a gallery from being dropped.
    connection.execute(
        sql.SQL(
            "ALTER TABLE {} ADD FOREIGN KEY (gallery_id, crop_id) REFERENCES {} (gallery_id, id) ON DELETE CASCADE"
        ).format(sql.Identifier(f"image_{gallery}"), sql.Identifier(f"crop_{gallery}"))
    )
    connection.execute(
        sql.SQL("ALTER TABLE {} ADD CHECK (vector_dims(embedding) = {})").format(
            sql.Identifier(f"crop_{gallery}"), sql.Literal(dim + 1)
        )
    )


def drop_gallery(connection: "psycopg.Connection", gallery: int) -> None:
    """Delete a gallery by number."""
    from psycopg import sql

    for table in (f"crop_{gallery}_next", f"image_{gallery}", f"crop_{gallery}"):
        connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(sql.Identifier(table)))
    connection.execute("DELETE FROM gallery WHERE id = %s", (gallery,))


def _without_password(url: str) -> str:
    from psycopg import ProgrammingError
    from psycopg.conninfo import conninfo_to_dict

    try:
        parts: dict[str, Any] = conninfo_to_dict(url)
    except ProgrammingError as error:
        raise StoreError(f"--database: not the address of a PostgreSQL server: {error}".strip()) from error
    host, port = parts.get("host", "localhost"), parts.get("port", "5432")
    return f"postgresql://{host}:{port}/{parts.get('dbname', '')}"
