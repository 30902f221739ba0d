"""Crops are kept for so many days, and no longer: a thread erases what is older, once a day."""

import logging
import threading
from collections.abc import Callable
from datetime import datetime

from textreid.errors import TextReidError
from textreid.gallery.store import Store
from textreid.service import audit
from textreid.service.erasure import Erased, erase, older_than
from textreid.service.stores import Stores

_EVERY_S = 24 * 3600.0
_AGAIN_S = 600.0  # after a failure
_LOG = logging.getLogger(__name__)


def erase_older(store: Store, days: float, now: datetime) -> Erased:
    """Erase the crops that were seen more than so many days ago, and write that into the audit log."""
    numbers = older_than(store, days, now)
    erased = erase(store, numbers)
    if numbers:
        audit.append(
            store.database, "retention", "erase", gallery=store.name, keep_days=days, crops=erased.crops,
            from_number=numbers[0], to_number=numbers[-1], thorough=erased.thorough,
        )  # fmt: skip
    return erased


class Retention:
    """Erases old crops of a gallery now and every day, until it is closed.

    Args:
        stores: connections to the gallery.
        days: that crops are kept.
        clock: wall clock of the cameras.
    """

    def __init__(self, stores: Stores, days: float, clock: Callable[[], datetime] = datetime.now) -> None:
        self._stores, self._days, self._clock = stores, days, clock
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="retention", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread, when what it does is done."""
        self._closing.set()
        self._thread.join()

    def _work(self) -> None:
        pause = 0.0
        while not self._closing.wait(pause):
            try:
                with self._stores.borrow() as store:
                    erase_older(store, self._days, self._clock())
                pause = _EVERY_S
            except TextReidError as error:  # the database is away: it comes back
                _LOG.error("crops older than %s days could not be erased: %s", self._days, error)
                pause = _AGAIN_S
