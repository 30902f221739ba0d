"""Deleting crops so that nothing of them stays: no row, no dead row, no statistic, no line of the write-ahead log."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from psycopg import sql

from textreid.gallery.store import Store
from textreid.service.exporting import Exported, exports_of
from textreid.service.saved import forget_crops
from textreid.service.uploads import delete_uploads

if TYPE_CHECKING:
    import psycopg

_MOST_SEGMENTS = 1000


@dataclass(frozen=True)
class Erased:
    """What was erased.

    Attributes:
        crops: how many there were.
        files: that the crops were, or were cut from, and addresses: they still show the people, since textreid deletes
            only what was uploaded.
        thorough: whether the database's files were cleaned, too; a server that is not ours may not allow it.
        exports: of evidence that shows one of them, which are out of our hands.
        searches: names of saved searches that named one of the crops, and no longer do.
    """

    crops: int
    files: tuple[str, ...]
    thorough: bool
    searches: tuple[str, ...] = ()
    exports: tuple[Exported, ...] = ()


def erase(store: Store, numbers: Sequence[int]) -> Erased:
    """Erase crops: rows, pictures, vectors, index entries, and what the database's files remember of them.

    The gallery cannot be searched while its tables are written anew: some seconds for 100,000 crops, minutes with an
    index over a million.
    """
    found = store.crops(numbers)
    # Copies that were uploaded are ours; files that were indexed where they lie are not. First, so that after a kill
    # the crop is still there to be erased again: a file without its crop nobody would find.
    uploaded = delete_uploads(store, found)
    count = store.delete([crop.id for crop in found])
    exports = exports_of(store.database, store.name, numbers)
    searches = tuple(forget_crops(store.database, store.id, numbers))
    files = tuple(sorted({crop.origin for crop in found if crop.path not in uploaded}))
    return Erased(count, files, scrub(store) if count else True, searches, exports)


def older_than(store: Store, days: float, now: datetime) -> list[int]:
    """List the crops that were seen more than so many days ago; where the time is unknown, that of the file counts."""
    query = sql.SQL(
        "SELECT c.id FROM {} c JOIN file f ON f.id = c.file_id "
        'WHERE coalesce(c."time", to_timestamp(f.mtime_ns / 1e9)::timestamp) < %s ORDER BY c.id'
    ).format(sql.Identifier(f"crop_{store.id}"))
    limit = now - timedelta(days=days)
    return [row[0] for row in store.database.run(lambda c: c.execute(query, (limit,)).fetchall())]


def scrub(store: Store) -> bool:
    """Write the gallery's tables anew without dead rows, and drop the write-ahead log; tells whether that was allowed.

    A deleted row stays in its page until another one takes the place, its values in the statistics of the planner,
    and all of it in the write-ahead log, whose segments are reused without being emptied.
    """
    names = [f"crop_{store.id}", f"image_{store.id}", f"crop_{store.id}_next"]  # the last while it is embedded again

    def clean(connection: "psycopg.Connection") -> bool:
        query = "SELECT name FROM unnest(%s::text[]) name WHERE to_regclass(name) IS NOT NULL"
        tables = connection.execute(query, (names,)).fetchall()
        for statement in ("VACUUM (FULL) {}", "ANALYZE {}"):
            for (table,) in tables:
                connection.execute(sql.SQL(statement).format(sql.Identifier(table)))
        connection.execute("ANALYZE crop")
        row = connection.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user").fetchone()
        if row is None or not row[0]:
            return False
        connection.execute("VACUUM (FULL) pg_catalog.pg_statistic")
        _drop_log(connection)
        return True

    return store.database.maintain(clean)


def _drop_log(connection: "psycopg.Connection") -> None:
    """Let the server begin new segments of its write-ahead log until it needs none of those that there are."""
    connection.execute("ALTER SYSTEM SET wal_recycle = off")
    connection.execute("SELECT pg_reload_conf()")
    segments = "SELECT name FROM pg_ls_waldir() WHERE name ~ '^[0-9A-F]{24}$'"
    before = max(row[0] for row in connection.execute(segments))
    for _ in range(_MOST_SEGMENTS):
        connection.execute("SELECT pg_logical_emit_message(false, 'textreid', 'scrub')")
        connection.execute("SELECT pg_switch_wal()")
        row = connection.execute("SELECT pg_walfile_name(pg_current_wal_insert_lsn())").fetchone()
        if row and row[0] > before:
            break
    # The first may still need what was written while it ran.
    for _ in range(2):
        connection.execute("SELECT pg_logical_emit_message(false, 'textreid', 'scrub')")
        connection.execute("CHECKPOINT")
