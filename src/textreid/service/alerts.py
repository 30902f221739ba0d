"""Saved searches that tell of new arrivals: once crops have come, each is run again, and somebody hears who is new.

What is to be told is
written down in the transaction in which a search is noted as looked at: it survives a kill, is told at least once, and
its number tells a receiver which ones it had.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from psycopg.types.json import Jsonb

from textreid.errors import ConfigError, TextReidError
from textreid.gallery.store import Hit, Store
from textreid.service.access import LOCAL, Access, UnknownError
from textreid.service.accounts import access_of_account, are_there_any
from textreid.service.destinations import Destinations
from textreid.service.saved import FROM_OWN, OWN, SavedSearch, owner
from textreid.service.stores import Stores

if TYPE_CHECKING:
    import psycopg

_LOG = logging.getLogger(__name__)
_LOOK_S = 1.0
_LONGEST_PAUSE_S = 3600.0
_KEPT = "30 days"
Run = Callable[[Access, SavedSearch], Sequence[Hit]]


@dataclass(frozen=True)
class Alert:
    """What is, was, or could not be told of a saved search."""

    number: int
    saved: int
    name: str
    to: str
    body: dict[str, Any]
    state: str
    attempts: int
    problem: str | None
    created: datetime


def alerts(store: Store, access: Access, number: int | None = None) -> list[Alert]:
    """Read the alerts of somebody's own searches, or one of them, the newest first."""
    query = (
        "SELECT l.id, l.saved_id, s.name, l.destination, l.body, l.state, l.attempts, l.problem, l.created "
        f"{FROM_OWN} JOIN alert l ON l.saved_id = s.id WHERE {OWN} "
        "AND (%(number)s::bigint IS NULL OR l.id = %(number)s) ORDER BY l.id DESC LIMIT 200"
    )
    values = owner(store, access) | {"number": number}
    return [Alert(*row) for row in store.database.run(lambda c: c.execute(query, values).fetchall())]


def retry_alert(store: Store, access: Access, number: int) -> Alert:
    """Let an alert that is dead be tried again, now.

    Raises:
        UnknownError: there is none of that number that is theirs.
    """
    if not alerts(store, access, number):
        raise UnknownError(f"no alert {number}: it never was, or is not yours to see")
    again = "UPDATE alert SET state = 'waiting', attempts = 0, next = now() WHERE id = %s AND state = 'dead'"
    store.database.run(lambda c: c.execute(again, (number,)))
    return alerts(store, access, number)[0]


class Alerts:
    """A thread that looks for new arrivals and tells of them, until it is closed.

    Args:
        stores: connections to the gallery.
        destinations: where to.
        run: runs a saved search for somebody, logged as every search is.
    """

    def __init__(self, stores: Stores, destinations: Destinations, run: Run) -> None:
        self.destinations = destinations
        self._stores, self._run = stores, run
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="alerts", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread, when what it does is done."""
        self._closing.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._closing.wait(_LOOK_S):
            try:
                self._look()
                self._tell()
            except TextReidError as error:  # the database is away: it comes back
                _LOG.error("alerts cannot be looked for now: %s", error)

    def _look(self) -> None:
        query = (
            "SELECT id, name, asked, created, alert, account_id, alert_seen FROM saved_search "
            "WHERE gallery_id = %s AND alert IS NOT NULL AND alert_seen < %s ORDER BY id"
        )
        with self._stores.borrow() as store:
            newest = store.as_of()
            rows = store.database.run(lambda c: c.execute(query, (store.id, newest)).fetchall())
        for number, name, asked, created, to, account, seen in rows:
            if self._closing.is_set():
                return
            try:
                found = self._of(account, SavedSearch(number, name, asked, created, to))
                new, problem = [hit for hit in found if seen < hit.crop.id <= newest], None
            except ConfigError as error:  # of the search itself: it would be so each time
                new, problem = [], str(error)
            self._note(SavedSearch(number, name, asked, created, to), seen, newest, new, problem)

    def _of(self, account: int | None, saved: SavedSearch) -> Sequence[Hit]:
        with self._stores.database() as database:
            access = access_of_account(database, account) if account else None
            if account is None and not are_there_any(database):
                access = LOCAL
        return self._run(access, saved) if access and access.may("search") else ()

    def _note(
        self, saved: SavedSearch, seen: int, newest: int, new: Sequence[Hit], problem: str | None
    ) -> None:  # fmt: skip
        body = {
            "search": {"id": saved.number, "name": saved.name},
            "gallery": self._stores.gallery,
            "crops": [
                {"id": hit.crop.id, "camera": hit.crop.camera, "score": round(hit.score, 6),
                 "time": hit.crop.time.isoformat() if hit.crop.time else None, "page": f"/crops/{hit.crop.id}"}
                for hit in new
            ],
        }  # fmt: skip

        def note(connection: "psycopg.Connection") -> None:
            looked = "UPDATE saved_search SET alert_seen = %s WHERE id = %s AND alert_seen = %s"
            if connection.execute(looked, (newest, saved.number, seen)).rowcount and (new or problem):
                connection.execute(
                    "INSERT INTO alert (saved_id, destination, body, state, problem) VALUES (%s, %s, %s, %s, %s)",
                    (saved.number, saved.alert, Jsonb(body), "dead" if problem else "waiting", problem),
                )

        with self._stores.database() as database:
            database.run(note)

    def _tell(self) -> None:
        query = (
            "SELECT l.id, l.destination, l.body, l.attempts FROM alert l JOIN saved_search s ON s.id = l.saved_id "
            "WHERE s.gallery_id = %s AND l.state = 'waiting' "
            # Later than any pause: the clock was set back since.
            "AND (l.next <= now() OR l.next > now() + interval '2 hours') ORDER BY l.id LIMIT 20"
        )
        clean = f"DELETE FROM alert WHERE state = 'sent' AND created < now() - interval '{_KEPT}'"  # noqa: S608
        with self._stores.borrow() as store:
            store.database.run(lambda c: c.execute(clean))
            rows = store.database.run(lambda c: c.execute(query, (store.id,)).fetchall())
        for number, to, body, attempts in rows:
            if self._closing.is_set():
                return
            known = self.destinations.known.get(to)
            gone = "the administrator's file names no such destination any more"
            problem = known.tell(number, body) if known else gone
            pause = min(self.destinations.pause_s * 2**attempts, _LONGEST_PAUSE_S)
            state = "sent" if problem is None else "waiting"
            if problem is not None and attempts + 1 >= self.destinations.attempts:
                state = "dead"
                _LOG.error("alert %d could not be told to %s: %s", number, to, problem)
            self._note_attempt((state, problem, pause, number))

    def _note_attempt(self, values: tuple[str, str | None, float, int]) -> None:
        statement = (
            "UPDATE alert SET state = %s, attempts = attempts + 1, problem = %s, "
            "next = now() + %s * interval '1 second' WHERE id = %s"
        )
        with self._stores.database() as database:
            database.run(lambda c: c.execute(statement, values))
