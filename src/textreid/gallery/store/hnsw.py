"""The HNSW index over the vectors of a gallery: from when on it answers, of which shape it is, how far it looks."""

import os
from datetime import timedelta
from typing import TYPE_CHECKING

from psycopg import sql

from textreid.gallery.store.server import physical_memory

if TYPE_CHECKING:
    import psycopg

    from textreid.gallery.store.database import Database

# benchmarks/gallery.py measures what these bring, and docs/benchmarks.md says what others did.
INDEXED_FROM = 10_000  # crops: below, comparing all is nearly as fast, and exact
NEIGHBOURS, BUILD_CANDIDATES = 16, 200
# Crops that a search keeps in hand: the first of up to 100,000, then growing as the square root of their number up to
# the second, pgvector's most. Of a million, 280 find 0.96 of the nearest and 800 find 0.99.
CANDIDATES, MOST_CANDIDATES = 480, 1000
_UP_TO = 100_000

_USUAL_MEMORY = 256 << 20  # what our server gives without being asked: enough for 190,000 crops


def build(
    connection: "psycopg.Connection", table: sql.Identifier, name: str, dim: int, at_least: int, memory: int | None
) -> timedelta | None:
    """Build the index of a table of crops, if it has none of this shape and so many; returns the time it took.

    Args:
        connection: in a transaction.
        table: of the crops.
        name: of the index.
        dim: numbers of a vector as it is stored.
        at_least: how many crops there have to be.
        memory: bytes that the server may take for it; None leaves that to the server.
    """
    row = connection.execute(sql.SQL("SELECT count(*) FROM {}").format(table)).fetchone()
    if exists(connection, name) or row is None or row[0] < at_least:
        return None
    # A graph that does not fit is built on the disk, many times slower.
    needed = row[0] * (2 * dim + 40 * NEIGHBOURS + 200)
    if memory is not None and needed > _USUAL_MEMORY:
        connection.execute(f"SET LOCAL maintenance_work_mem = '{min(needed, memory) >> 10}kB'")
    if memory is not None:
        connection.execute(f"SET LOCAL max_parallel_maintenance_workers = {_workers()}")
    begun = connection.execute("SELECT clock_timestamp()").fetchone()
    connection.execute(sql.SQL("DROP INDEX IF EXISTS {}").format(sql.Identifier(name)))
    connection.execute(
        sql.SQL(
            "CREATE INDEX {} ON {} USING hnsw ((embedding::halfvec({})) halfvec_ip_ops) "
            "WITH (m = {}, ef_construction = {})"
        ).format(sql.Identifier(name), table, *map(sql.Literal, (dim, NEIGHBOURS, BUILD_CANDIDATES)))
    )
    ended = connection.execute("SELECT clock_timestamp()").fetchone()
    assert begun is not None  # noqa: S101
    assert ended is not None  # noqa: S101
    took: timedelta = ended[0] - begun[0]
    return took


def set_candidates(connection: "psycopg.Connection", table: sql.Identifier) -> None:
    """Set how many crops the searches of this connection keep in hand, by how many the table is known to have."""
    # One text for all galleries, so that it is prepared once and not put together for each search.
    connection.execute(
        "SELECT set_config('hnsw.ef_search', least(%s, ceil(%s * sqrt(greatest(reltuples / %s, 1))))::text, false) "
        "FROM pg_class WHERE oid = %s::regclass",
        (MOST_CANDIDATES, CANDIDATES, _UP_TO, table.as_string(connection)),
    )


def _workers() -> int:
    """Return how many processes help to build: one a CPU beside the first, of the eight that a server has."""
    return max(2, min((os.cpu_count() or 1) - 1, 7))


def memory_for(database: "Database") -> int | None:
    """Return the bytes that a server may take to build an index: a quarter of this machine's, if it runs here."""
    memory = physical_memory()
    return None if database.embedded is None or memory is None else max(_USUAL_MEMORY, memory // 4)


def index_name(gallery: int) -> str:
    """Name the index of a gallery."""
    return f"crop_{gallery}_hnsw"


def exists(connection: "psycopg.Connection", name: str) -> bool:
    """Tell whether there is an index of that name and of this shape: what is sought of another one may not be found."""
    row = connection.execute("SELECT reloptions FROM pg_class WHERE oid = to_regclass(%s)", (name,)).fetchone()
    return row is not None and set(row[0] or ()) == {f"m={NEIGHBOURS}", f"ef_construction={BUILD_CANDIDATES}"}
