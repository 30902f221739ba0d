"""The HNSW index over the vectors of a gallery: from when on it answers, of which shape it is, how far it looks."""

from datetime import timedelta
from typing import TYPE_CHECKING

from psycopg import sql

if TYPE_CHECKING:
    import psycopg

# benchmarks/gallery.py measures what these bring, and docs/benchmarks.md says what others did.
INDEXED_FROM = 20_000  # crops: below, comparing all is as fast, and exact
_NEIGHBOURS, _WIDTH_OF_BUILD = 16, 64
CANDIDATES = 400  # crops that a search keeps in hand


def build(
    connection: "psycopg.Connection", table: sql.Identifier, name: str, dim: int, at_least: int
) -> timedelta | None:
    """Build the index of a table of crops, if there is none and it has so many; returns the time it took.

    Args:
        connection: in a transaction.
        table: of the crops.
        name: of the index.
        dim: numbers of a vector as it is stored.
        at_least: how many crops there have to be.
    """
    row = connection.execute(sql.SQL("SELECT count(*) FROM {}").format(table)).fetchone()
    if exists(connection, name) or row is None or row[0] < at_least:
        return None
    begun = connection.execute("SELECT clock_timestamp()").fetchone()
    connection.execute(
        sql.SQL(
            "CREATE INDEX {} ON {} USING hnsw ((embedding::halfvec({})) halfvec_ip_ops) "
            "WITH (m = {}, ef_construction = {})"
        ).format(sql.Identifier(name), table, *map(sql.Literal, (dim, _NEIGHBOURS, _WIDTH_OF_BUILD)))
    )
    ended = connection.execute("SELECT clock_timestamp()").fetchone()
    assert begun is not None  # noqa: S101
    assert ended is not None  # noqa: S101
    took: timedelta = ended[0] - begun[0]
    return took


def index_name(gallery: int) -> str:
    """Name the index of a gallery."""
    return f"crop_{gallery}_hnsw"


def exists(connection: "psycopg.Connection", name: str) -> bool:
    """Tell whether there is an index of that name."""
    row = connection.execute("SELECT to_regclass(%s) IS NOT NULL", (name,)).fetchone()
    return bool(row and row[0])
