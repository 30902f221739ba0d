"""The log of who asked what and was shown what: only appended to, each entry bound to all before it by a hash."""

import hashlib
import json
import queue
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from textreid.errors import ArtifactError
from textreid.gallery.store import Database

if TYPE_CHECKING:
    import psycopg

_LOCK = 0x61756474  # "audt": one entry at a time
_AT_ONCE = 1000
_BEGINNING = bytes(32)


class AuditError(ArtifactError):
    """The audit log was changed: an entry is missing, was added or altered."""


@dataclass(frozen=True)
class Entry:
    """An entry of the log; ``text`` is its JSON, and ``hash`` covers that and the hash before it."""

    number: int
    text: str
    hash: bytes

    @property
    def facts(self) -> dict[str, Any]:
        """What it says: time, actor, action, and what belongs to that."""
        facts: dict[str, Any] = json.loads(self.text)
        return facts


def append(database: Database, actor: str, action: str, **facts: Any) -> None:
    """Write an entry; it is on disk when this returns.

    Args:
        database: that holds the galleries.
        actor: who did it.
        action: search, similar, view, erase, …
        **facts: what belongs to it, as JSON has it; None is left out.
    """
    _append_all(database, [_entry(actor, action, facts)])


def _entry(actor: str, action: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    given = {name: value for name, value in facts.items() if value is not None}
    return {"actor": actor, "action": action, **given}


def _append_all(database: Database, told: Sequence[dict[str, Any]]) -> None:
    """Write entries in order, all or none."""

    def write(connection: "psycopg.Connection") -> None:
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        row = connection.execute("SELECT number, hash FROM audit ORDER BY number DESC LIMIT 1").fetchone()
        number, digest = (row[0], bytes(row[1])) if row else (0, _BEGINNING)
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        rows = []
        for one in told:
            number += 1
            text = json.dumps({"number": number, "time": now, **one})
            digest = _hash(digest, text)
            rows.append((number, text, digest))
        connection.cursor().executemany("INSERT INTO audit VALUES (%s, %s, %s)", rows)

    database.run(write)


class Writer:
    """A thread that writes entries, those that come at the same time in one transaction.

    An entry waits for the disk, and only one transaction at a time may add to the chain: one for each entry would let
    all searches wait in a queue.

    Args:
        opened: opens the database; called again after a failure.
    """

    _MOST_AT_ONCE = 256

    def __init__(self, opened: Callable[[], Database]) -> None:
        self._opened = opened
        self._database: Database | None = None
        self._waiting: queue.Queue[tuple[dict[str, Any], Future[None]] | None] = queue.Queue()
        self._thread = threading.Thread(target=self._work, name="audit", daemon=True)
        self._thread.start()

    def append(self, actor: str, action: str, **facts: Any) -> None:
        """Write an entry; it is on disk when this returns. See `append`.

        Raises:
            StoreError: the database refuses, or is gone.
        """
        future: Future[None] = Future()
        self._waiting.put((_entry(actor, action, facts), future))
        future.result()

    def close(self) -> None:
        """Write what waits, and end the thread."""
        self._waiting.put(None)
        self._thread.join()
        if self._database:
            self._database.close()

    def _work(self) -> None:
        last = False
        while not last and (first := self._waiting.get()) is not None:
            batch = [first]
            while len(batch) < self._MOST_AT_ONCE and not self._waiting.empty():
                item = self._waiting.get()
                if item is None:
                    last = True
                    break
                batch.append(item)
            try:
                self._database = self._database or self._opened()
                _append_all(self._database, [entry for entry, _ in batch])
            except BaseException as error:
                for _, future in batch:
                    future.set_exception(error)
            else:
                for _, future in batch:
                    future.set_result(None)


def entries(database: Database, after: int = 0, until: int | None = None) -> Iterator[Entry]:
    """Yield the entries in order, from the one after number ``after`` up to number ``until``."""
    query = "SELECT number, entry, hash FROM audit WHERE number > %s AND number <= %s ORDER BY number LIMIT %s"
    last = 2**63 - 1 if until is None else until

    def read(connection: "psycopg.Connection") -> list[Any]:
        return connection.execute(query, (after, last, _AT_ONCE)).fetchall()

    while rows := database.run(read):
        for number, text, digest in rows:
            yield Entry(number, text, bytes(digest))
        after = rows[-1][0]


def newest(database: Database, count: int, before: int | None = None) -> list[Entry]:
    """Return the last entries, the newest first; with ``before``, of those with a smaller number."""
    query = "SELECT number, entry, hash FROM audit WHERE number < %s ORDER BY number DESC LIMIT %s"
    rows = database.run(lambda c: c.execute(query, (before or 2**63 - 1, count)).fetchall())
    return [Entry(number, text, bytes(digest)) for number, text, digest in rows]


def verify(chain: Iterable[Entry], head: tuple[int, str] | None = None) -> tuple[int, str]:
    """Check that nothing in the log was changed since it was written, and return the last number and its hash.

    Whoever may write to the database can make a whole new chain, or cut off its end. To notice that, keep the last
    number and hash elsewhere, and give them as ``head`` the next time.

    Raises:
        AuditError: says at which number.
    """
    number, before = 0, _BEGINNING
    seen = head is None
    for entry in chain:
        number += 1
        if entry.number != number:
            raise AuditError(f"audit log: entry {number} is missing; the next one is {entry.number}")
        if entry.hash != _hash(before, entry.text) or entry.facts.get("number") != number:
            raise AuditError(f"audit log: entry {number} was changed, or one before it")
        before = entry.hash
        if head and number == head[0]:
            if before.hex() != head[1]:
                raise AuditError(f"audit log: entry {number} is not the one that it was: its hash is another")
            seen = True
    if head and not seen:
        raise AuditError(f"audit log: it had {head[0]} entries, and has {number}: its end was cut off")
    return number, before.hex()


class RecentlyShown:
    """Which crops an entry of the log says that somebody was shown, in the last hour.

    A page of results fetches a small picture of each: one entry for the page is enough, but a program that fetches
    pictures without a search is noticed.
    """

    _LONGEST_S = 3600.0
    _MOST = 20_000  # of each actor; older ones are logged again

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._until: dict[str, OrderedDict[int, float]] = {}

    def add(self, actor: str, numbers: Iterable[int]) -> None:
        """Note crops that were logged."""
        until = time.monotonic() + self._LONGEST_S
        with self._lock:
            shown = self._until.setdefault(actor, OrderedDict())
            for number in numbers:
                shown[number] = until
                shown.move_to_end(number)
            while len(shown) > self._MOST:
                shown.popitem(last=False)

    def has(self, actor: str, number: int) -> bool:
        """Tell whether a crop was logged lately."""
        with self._lock:
            return actor in self._until and self._until[actor].get(number, 0.0) > time.monotonic()


def _hash(before: bytes, text: str) -> bytes:
    return hashlib.sha256(before + text.encode()).digest()
