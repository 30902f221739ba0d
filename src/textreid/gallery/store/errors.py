"""What can go wrong with a gallery's database, each as one line that says what to do."""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from textreid.errors import ArtifactError

if TYPE_CHECKING:
    import psycopg

_ROOM = "make room there; everything that was acknowledged is kept, and the same command goes on"
_OTHER_MODEL = "TR001"  # raised by is_embedded_by


class StoreError(ArtifactError):
    """A gallery, or the database that holds it, cannot be used as asked."""


class PassingError(StoreError):
    """A gallery cannot be used now, as while another process indexes the same source; later it can."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h


class ModelChangedError(PassingError):
    """The gallery was embedded again by another model since it was opened: open it again."""


class ConnectionLostError(PassingError):
    """The database went away, or cannot be reached."""


class DiskFullError(StoreError):
    """The disk of the database takes no more."""


@contextlib.contextmanager
def reported(place: str) -> Iterator[None]:
    """Turn what the database says into one line.

    Args:
        place: the database, as the user knows it.

    Raises:
        DiskFullError: its disk takes no more.
        ConnectionLostError: it went away, or cannot be reached.
        StoreError: anything else.
    """
    import psycopg

    try:
        yield
    except psycopg.Error as error:
        raise _explained(error, place) from error


def _explained(error: "psycopg.Error", place: str) -> StoreError:
    import psycopg

    said = (error.diag.message_primary or str(error) or type(error).__name__).strip().splitlines()[0]
    if isinstance(error, psycopg.errors.DiskFull) or "No space left" in said or "File too large" in said:
        return DiskFullError(f"{place}: the disk of the database is full ({said}); {_ROOM}")
    if error.sqlstate == _OTHER_MODEL:
        return ModelChangedError(f"{place}: {said}")
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        return StoreError(f"{place}: not allowed: {said}")
    if isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError)):
        return ConnectionLostError(f"{place}: the database cannot be reached: {said}")
    return StoreError(f"{place}: the database refused: {said}")
