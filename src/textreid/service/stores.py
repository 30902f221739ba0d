"""Connections to the gallery: one for each request that runs, at most so many, and always of the gallery as it is."""

import queue
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from textreid.errors import TextReidError
from textreid.gallery.store import Database, Store, open_database

_PATIENCE_S = 10.0


class BusyError(TextReidError):
    """More is asked at once than the service can do; the same request succeeds later."""


class Stores:
    """A pool of connections to one gallery; they are made when they are needed, and kept.

    Attributes:
        gallery: its name.
        url: of the database; None of the one that the environment tells.
    """

    def __init__(self, gallery: str, database: str | None, connections: int) -> None:
        self.gallery = gallery
        self.url = database
        # The last one given back is the first one taken: at low load one connection does all, and its caches are warm.
        self._idle: queue.LifoQueue[Database | None] = queue.LifoQueue()
        self._connections = connections
        self._known: dict[Database, Store] = {}
        for _ in range(connections):
            self._idle.put(None)

    @contextmanager
    def database(self) -> Iterator[Database]:
        """Lend a connection.

        Raises:
            BusyError: all are in use, and none came back in ten seconds.
            StoreError: the database cannot be reached.
        """
        try:
            database = self._idle.get(timeout=_PATIENCE_S)
        except queue.Empty:
            raise BusyError("too many requests at once; try again in a few seconds") from None
        try:
            if database is None:
                database = open_database(self.url)
            yield database
        finally:
            self._idle.put(database)

    @contextmanager
    def borrow(self) -> Iterator[Store]:
        """Lend the gallery on a connection of its own.

        Raises:
            BusyError: all are in use, and none came back in ten seconds.
            StoreError: the gallery is gone, or the database cannot be reached.
        """
        with self.database() as database:
            # Looked up each time, for a third of a millisecond: a gallery that was re-embedded has other tables.
            # One that is as it was knows already whether it has an index.
            found = database.store(self.gallery)
            kept = self._known.get(database)
            if kept is None or kept.info != found.info:
                kept = self._known[database] = found
            yield kept

    def close(self) -> None:
        """Close the connections, when those that are lent have come back, or after ten seconds."""
        for _ in range(self._connections):
            with suppress(queue.Empty):
                database = self._idle.get(timeout=_PATIENCE_S)
                if database is not None:
                    database.close()
