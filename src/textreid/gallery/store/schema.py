"""The tables, in numbered steps: each is one SQL file, done once and whole, in its own transaction."""

from importlib import resources
from typing import TYPE_CHECKING

from textreid.gallery.store.errors import StoreError

if TYPE_CHECKING:
    import psycopg

SCHEMA = "textreid"
OLDEST_POSTGRESQL, OLDEST_PGVECTOR = 150_000, (0, 7)
_LOCK = 0x74726964  # "trid": of two processes that find an old schema, one moves it on


def migrations() -> list[tuple[int, str, str]]:
    """Read the steps in order: number, name, SQL."""
    files = resources.files("textreid.gallery.store").joinpath("migrations").iterdir()
    named = {file.name.removesuffix(".sql"): file for file in files if file.name.endswith(".sql")}
    return [(int(name.split("_", 1)[0]), name, named[name].read_text(encoding="utf-8")) for name in sorted(named)]


def migrate(connection: "psycopg.Connection", place: str, until: int | None = None) -> list[str]:
    """Bring the schema of a database to this version of textreid, or to step ``until``; returns the steps taken.

    Raises:
        StoreError: the server or its pgvector is too old or missing, or a newer textreid wrote the schema.
    """
    import psycopg

    _check_server(connection, place)
    if until is None and _level(connection) == migrations()[-1][0]:
        return []
    taken = []
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        try:
            connection.execute("CREATE EXTENSION IF NOT EXISTS vector SCHEMA public")
        except psycopg.errors.InsufficientPrivilege as error:
            raise StoreError(f"{place}: let an administrator run there: CREATE EXTENSION vector") from error
        _check_pgvector(connection, place)
        connection.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
        connection.execute(
            "CREATE TABLE IF NOT EXISTS migration "
            "(number int PRIMARY KEY, name text NOT NULL, applied timestamptz NOT NULL DEFAULT now())"
        )
        level = _level(connection)
        newest = migrations()[-1][0]
        if level > newest:
            raise StoreError(
                f"{place}: its galleries have format {level}, of a newer textreid; this one knows up to {newest}"
            )
        for number, name, statements in migrations():
            if level < number <= (until or newest):
                connection.execute(statements)
                connection.execute("INSERT INTO migration (number, name) VALUES (%s, %s)", (number, name))
                taken.append(name)
    return taken


def _level(connection: "psycopg.Connection") -> int:
    """Return the number of the last step taken; 0 of a database that has no galleries yet."""
    with connection.transaction():
        row = connection.execute("SELECT to_regclass(%s)", (f"{SCHEMA}.migration",)).fetchone()
        if row is None or row[0] is None:
            return 0
        row = connection.execute("SELECT coalesce(max(number), 0) FROM migration").fetchone()
    return int(row[0]) if row else 0


def _check_server(connection: "psycopg.Connection", place: str) -> None:
    version = connection.info.server_version
    if version < OLDEST_POSTGRESQL:
        raise StoreError(
            f"{place}: PostgreSQL {version // 10_000}; galleries need {OLDEST_POSTGRESQL // 10_000} or newer"
        )
    row = connection.execute("SELECT count(*) FROM pg_available_extensions WHERE name = 'vector'").fetchone()
    if row is None or not row[0]:
        major = version // 10_000
        raise StoreError(
            f"{place}: no pgvector there; install 0.7 or newer on the server (Debian: postgresql-{major}-pgvector)"
        )


def _check_pgvector(connection: "psycopg.Connection", place: str) -> None:
    row = connection.execute("SELECT extversion FROM pg_extension WHERE extname = 'vector'").fetchone()
    version = str(row[0]) if row else "0"
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST_PGVECTOR:
        raise StoreError(f"{place}: pgvector {version}; galleries need 0.7 or newer: ALTER EXTENSION vector UPDATE")
