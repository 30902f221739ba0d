"""Searches that somebody keeps: each account has its own, and nobody sees another's."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from psycopg.types.json import Jsonb

from textreid.errors import ConfigError
from textreid.gallery.store import Database, Store
from textreid.service.access import LOCAL, Access, UnknownError

if TYPE_CHECKING:
    import psycopg

MOST_SAVED = 200  # of one account
_COLUMNS = "s.id, s.name, s.asked, s.created, s.alert"
# Whoever uses the machine before there are accounts has no row in their table.
OWN = "s.gallery_id = %(gallery)s AND CASE WHEN %(local)s THEN s.account_id IS NULL ELSE s.account_id = a.id END"
FROM_OWN = "FROM saved_search s LEFT JOIN account a ON a.name = %(actor)s"


@dataclass(frozen=True)
class SavedSearch:
    """A search that somebody keeps; ``asked`` is the body that the API takes, ``alert`` who is told of arrivals."""

    number: int
    name: str
    asked: dict[str, Any]
    created: datetime
    alert: str | None = None


def save(store: Store, access: Access, name: str, asked: dict[str, Any]) -> SavedSearch:
    """Keep a search under a name.

    Raises:
        ConfigError: the name is none or taken, or there are too many already.
    """
    name = name.strip()
    if not name or not name.isprintable():
        raise ConfigError("name: a saved search needs a name of letters and digits")
    values = owner(store, access) | {"name": name, "asked": Jsonb(asked), "most": MOST_SAVED}
    own = f"SELECT count(*) {FROM_OWN} WHERE {OWN}"
    statement = (
        "INSERT INTO saved_search AS s (gallery_id, account_id, name, asked) "  # noqa: S608
        "SELECT %(gallery)s, CASE WHEN %(local)s THEN NULL ELSE a.id END, %(name)s, %(asked)s "
        "FROM (VALUES (1)) one LEFT JOIN account a ON a.name = %(actor)s "
        f"WHERE (%(local)s OR a.id IS NOT NULL) AND ({own}) < %(most)s ON CONFLICT DO NOTHING RETURNING {_COLUMNS}"
    )
    row = store.database.run(lambda c: c.execute(statement, values).fetchone())
    if row is None:
        if name in [one.name for one in saved_searches(store, access)]:
            raise ConfigError(f"name: you have a saved search {name!r} already; delete it first, or take another name")
        raise ConfigError(f"you have {MOST_SAVED} saved searches, and may not have more; delete one first")
    return SavedSearch(*row)


def saved_searches(store: Store, access: Access) -> list[SavedSearch]:
    """List somebody's own searches by name."""
    query = f"SELECT {_COLUMNS} {FROM_OWN} WHERE {OWN} ORDER BY s.name"
    rows = store.database.run(lambda c: c.execute(query, owner(store, access)).fetchall())
    return [SavedSearch(*row) for row in rows]


def saved_search(store: Store, access: Access, number: int) -> SavedSearch:
    """Read one of somebody's own searches.

    Raises:
        UnknownError: there is none of that number that is theirs.
    """
    query = f"SELECT {_COLUMNS} {FROM_OWN} WHERE {OWN} AND s.id = %(number)s"
    row = store.database.run(lambda c: c.execute(query, owner(store, access) | {"number": number}).fetchone())
    if row is None:
        raise UnknownError(f"no saved search {number}: it was deleted, never was, or is not yours")
    return SavedSearch(*row)


def delete_saved_search(store: Store, access: Access, number: int) -> SavedSearch:
    """Delete one of somebody's own searches, and return what it was.

    Raises:
        UnknownError: there is none of that number that is theirs.
    """
    found = saved_search(store, access, number)
    store.database.run(lambda c: c.execute("DELETE FROM saved_search WHERE id = %s", (number,)))
    return found


def set_alert(store: Store, access: Access, number: int, to: str | None) -> SavedSearch:
    """Let a search tell of who arrives from now on, or no longer.

    Raises:
        UnknownError: there is none of that number that is theirs.
    """
    saved_search(store, access, number)
    statement = "UPDATE saved_search SET alert = %s, alert_seen = %s WHERE id = %s"
    values = (to, store.as_of(), number)
    store.database.run(lambda c: c.execute(statement, values))
    return saved_search(store, access, number)


def forget_crops(database: Database, gallery: int, numbers: Collection[int]) -> list[str]:
    """Take crops that are erased out of every saved search that names them; returns the names of those searches.

    Without that a search would fail for ever on a crop that it was refined by, and would say that there was one.
    """
    gone = set(numbers)

    def change(connection: "psycopg.Connection") -> list[str]:
        query = "SELECT id, name, asked FROM saved_search WHERE gallery_id = %s ORDER BY name FOR UPDATE"
        changed = []
        for number, name, asked in connection.execute(query, (gallery,)).fetchall():
            left = _without(asked, gone)
            if left != asked:
                connection.execute("UPDATE saved_search SET asked = %s WHERE id = %s", (Jsonb(left), number))
                changed.append(name)
        return changed

    return database.run(change)


def _without(asked: dict[str, Any], gone: set[int]) -> dict[str, Any]:
    left = dict(asked)
    for place, name in ((left, "right"), (left, "wrong"), (filters := dict(asked.get("filters", {})), "exclude")):
        if name in place:
            place[name] = [number for number in place[name] if number not in gone]
    return left | {"filters": filters} if filters else left


def owner(store: Store, access: Access) -> dict[str, Any]:
    """Return the values that `FROM_OWN` and `OWN` take."""
    return {"gallery": store.id, "actor": access.actor, "local": access is LOCAL}
