"""Another model for a gallery: every crop is embedded again beside the old vectors, then all are exchanged at once.

What is done lies in a table of its own, of the form of the gallery's, and the gallery answers by the old model until
every crop is there. Each batch is one transaction, so is the exchange: whoever is killed at any moment goes on from
there. Crops that arrive meanwhile are embedded before the exchange; those that are deleted leave both tables.
"""

import io
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import psycopg
from PIL import Image
from psycopg import sql

from textreid.artifacts import file_digest
from textreid.errors import ImageError
from textreid.gallery.encoder import GalleryEncoder
from textreid.gallery.store import hnsw, searching, writing
from textreid.gallery.store.errors import StoreError
from textreid.gallery.store.indexing import BATCH_SIZE, exclusively, new_crops
from textreid.gallery.store.rows import GalleryInfo
from textreid.gallery.store.store import Store
from textreid.images import map_ahead

if TYPE_CHECKING:
    from textreid.gallery.store.database import Database

_THREADS = 4
_PATIENCE_S = 2  # that searches wait behind the exchange, when something as long as a backup reads the old table
_PAUSE_S = 10.0  # before it is tried again
_COPIED = 'gallery_id, id, file_id, frame, seconds, "time", camera, box, track, tags, digest'

Report = Callable[[int, int], None]  # how many crops are done, of how many


class _Picture(NamedTuple):
    """Crop that is to be embedded again: ``jpeg`` is None where the file at ``path`` is the crop."""

    id: int
    path: str
    digest: bytes
    jpeg: bytes | None


@dataclass
class ReindexReport:
    """What embedding a gallery again did.

    Attributes:
        embedded: crops, this time.
        kept: crops that an earlier run had embedded.
        unreadable: crops whose picture cannot be had any more: number, path and reason of each.
        built_s: seconds that the HNSW index took; None where there is none.
    """

    embedded: int = 0
    kept: int = 0
    unreadable: list[tuple[int, Path, str]] = field(default_factory=list)
    built_s: float | None = None


def reindex(
    store: Store, encoder: GalleryEncoder, model: str, report: Report | None = None, *, leave_out: bool = False
) -> tuple[Store, ReindexReport]:
    """Embed all crops of a gallery by another model, and let it answer by that from then on.

    What was learned of the scores of the old model is forgotten. Whoever has the gallery open gets a `StoreError` at
    the next search, or the next crop to be stored.

    Args:
        store: the gallery as it is.
        encoder: the model that it shall have; of the one that it has, a run that was begun for another is given up.
        model: where that is found, as the gallery keeps it.
        report: called with progress.
        leave_out: take crops whose picture cannot be had any more out of the gallery.

    Returns:
        The gallery as it is then, and what was done.

    Raises:
        StoreError: another process does so, the database refuses or went away, or pictures cannot be had: all others
            are kept for the next run.
    """
    database, done = store.database, ReindexReport()
    with exclusively(store, "reindex", f"gallery {store.name!r}: another process embeds it again"):
        target = GalleryInfo(store.name, model, encoder.space, encoder.dim, store.info.created, store.id)
        if target.fingerprint == store.fingerprint:
            database.run(lambda c: give_up(c, store.id))
            return store, done
        done.kept = database.run(lambda c: _begin(c, target))
        while True:
            done.unreadable = []
            crops = store.counts().crops
            for count in _embed_missing(store, target, encoder, done):
                if report:
                    report(count, max(count, crops))
            if done.unreadable and not leave_out:
                raise StoreError(_cannot(store, done.unreadable))
            took = database.run(partial(_complete, target=target, memory=hnsw.memory_for(database)))
            done.built_s = took.total_seconds() if took else done.built_s
            if _exchanged(database, store.info, target, [number for number, _, _ in done.unreadable]):
                return Store(database, target), done


def progress_of(store: Store) -> tuple[str, int] | None:
    """Return the model that a gallery is being embedded by again, and how many crops are done; None mostly."""

    def look(connection: "psycopg.Connection") -> tuple[str, int] | None:
        row = connection.execute("SELECT model FROM reindexing WHERE gallery_id = %s", (store.id,)).fetchone()
        if row is None:
            return None
        count = connection.execute(sql.SQL("SELECT count(*) FROM {}").format(_table(store.id))).fetchone()
        return str(row[0]), int(count[0]) if count else 0

    return store.database.run(look)


def give_up(connection: "psycopg.Connection", gallery: int) -> None:
    """Throw away what was embedded again so far."""
    connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(_table(gallery)))
    connection.execute("DELETE FROM reindexing WHERE gallery_id = %s", (gallery,))


def _name(gallery: int) -> str:
    return f"crop_{gallery}_next"


def _table(gallery: int) -> sql.Identifier:
    return sql.Identifier(_name(gallery))


def _begin(connection: "psycopg.Connection", target: GalleryInfo) -> int:
    """Make the table for the new vectors, unless there is one for this model; returns how many it has."""
    row = connection.execute(
        "SELECT fingerprint FROM reindexing WHERE gallery_id = %s FOR UPDATE", (target.id,)
    ).fetchone()
    table = _table(target.id)
    if row is not None and row[0] == target.fingerprint:
        count = connection.execute(sql.SQL("SELECT count(*) FROM {}").format(table)).fetchone()
        return int(count[0]) if count else 0
    give_up(connection, target.id)
    connection.execute(
        "INSERT INTO reindexing (gallery_id, model, fingerprint, dim) VALUES (%s, %s, %s, %s)",
        (target.id, target.model, target.fingerprint, target.dim),
    )
    # A crop that is deleted, or erased, leaves no vector behind.
    connection.execute(
        sql.SQL(
            "CREATE TABLE {table} (LIKE crop INCLUDING INDEXES, CHECK (vector_dims(embedding) = {dim}), "
            "CONSTRAINT own CHECK (gallery_id = {gallery}), "
            "CONSTRAINT of_crop FOREIGN KEY (gallery_id, id) REFERENCES {crops} (gallery_id, id) ON DELETE CASCADE)"
        ).format(
            table=table, dim=sql.Literal(target.dim + 1), gallery=sql.Literal(target.id),
            crops=searching.table(target.id),
        )
    )  # fmt: skip
    return 0


def _embed_missing(store: Store, target: GalleryInfo, encoder: GalleryEncoder, done: ReindexReport) -> Iterator[int]:
    """Embed the crops that have no new vector, in their order; yields how many have one after each batch."""

    def decode(picture: _Picture) -> npt.NDArray[np.uint8] | str:
        try:
            return _decoded(picture, encoder)
        except ImageError as error:
            return str(error).removeprefix(f"{picture.path}: ")

    last = 0
    while pictures := store.database.run(partial(_missing, gallery=store.id, last=last)):
        last = pictures[-1].id
        with closing(map_ahead(decode, pictures, _THREADS, BATCH_SIZE)) as decoded:
            results = list(zip(pictures, decoded, strict=True))
        good = [(picture, pixels) for picture, pixels in results if not isinstance(pixels, str)]
        done.unreadable += [(one.id, Path(one.path), why) for one, why in results if isinstance(why, str)]
        if good:
            vectors = encoder.encode_pixels(np.stack([pixels for _, pixels in good]))
            crops = new_crops(encoder, vectors, [picture.digest for picture, _ in good])
            stored = [
                (picture.id, crop.presence, writing.as_stored(crop))
                for (picture, _), crop in zip(good, crops, strict=True)
            ]
            store.database.run(partial(_store, target=target, stored=stored))
            done.embedded += len(good)
        yield done.kept + done.embedded


def _missing(connection: "psycopg.Connection", gallery: int, last: int) -> list[_Picture]:
    statement = sql.SQL(
        "SELECT c.id, f.path, c.digest, i.jpeg FROM {crops} c JOIN file f ON f.id = c.file_id "
        "LEFT JOIN {images} i ON i.gallery_id = c.gallery_id AND i.crop_id = c.id WHERE {own} AND c.id > %s "
        "AND NOT EXISTS (SELECT FROM {table} n WHERE n.gallery_id = c.gallery_id AND n.id = c.id) "
        "ORDER BY c.id LIMIT %s"
    ).format(
        crops=searching.table(gallery), images=sql.Identifier(f"image_{gallery}"), table=_table(gallery),
        own=searching.own(gallery, "c."),
    )  # fmt: skip
    rows = connection.execute(statement, (last, BATCH_SIZE), binary=True)
    return [_Picture(*row) for row in rows]


def _decoded(picture: _Picture, encoder: GalleryEncoder) -> npt.NDArray[np.uint8]:
    """Read the picture that was embedded before, and no other.

    Raises:
        ImageError: it cannot be read, or was changed.
    """
    if picture.jpeg is not None:
        return encoder.decode(Image.open(io.BytesIO(picture.jpeg)))[0]
    try:
        if bytes.fromhex(file_digest(Path(picture.path))) != picture.digest:
            raise ImageError("the file was changed since it was indexed")
    except OSError as error:
        raise ImageError(f"cannot be read: {error.strerror or error}") from error
    return encoder.decode(Path(picture.path))[0]


def _store(
    connection: "psycopg.Connection", target: GalleryInfo, stored: Sequence[tuple[int, float | None, Any]]
) -> None:
    statement = sql.SQL(
        "INSERT INTO {table} ({columns}, confidence, presence, embedding) "
        "SELECT {columns}, confidence, %s, %s FROM {crops} WHERE {own} AND id = %s ON CONFLICT DO NOTHING"
    ).format(
        table=_table(target.id), columns=sql.SQL(_COPIED), crops=searching.table(target.id),
        own=searching.own(target.id),
    )  # fmt: skip
    with connection.cursor() as cursor:
        cursor.executemany(statement, [(presence, vector, number) for number, presence, vector in stored])


def _complete(connection: "psycopg.Connection", target: GalleryInfo, memory: int | None) -> timedelta | None:
    """Make the new table as quick to search as the old one."""
    table = _table(target.id)
    connection.execute(sql.SQL("ANALYZE {}").format(table))
    return hnsw.build(connection, table, f"{_name(target.id)}_hnsw", target.dim + 1, hnsw.INDEXED_FROM, memory)


def _cannot(store: Store, unreadable: Sequence[tuple[int, Path, str]]) -> str:
    number, path, why = unreadable[0]
    more = f", and {len(unreadable) - 1:,} more" if len(unreadable) > 1 else ""
    return (
        f"gallery {store.name!r} stays with model {store.model}: crop {number} of {path} cannot be embedded again: "
        f"{why}{more}; put back what is missing and start the same command again, or --leave-out to lose these crops"
    )


def _exchanged(database: "Database", old: GalleryInfo, target: GalleryInfo, left_out: Sequence[int]) -> bool:
    """Exchange the tables, unless crops arrived that are to be embedded first; waits for who reads the old one."""
    while True:
        try:
            return database.run(lambda c: _exchange(c, old, target, left_out))
        except StoreError as error:
            if not isinstance(error.__cause__, psycopg.errors.LockNotAvailable):
                raise
            time.sleep(_PAUSE_S)


def _exchange(connection: "psycopg.Connection", old: GalleryInfo, target: GalleryInfo, left_out: Sequence[int]) -> bool:
    writing.hold(connection, old.id)
    row = connection.execute("SELECT fingerprint FROM gallery WHERE id = %s", (old.id,)).fetchone()
    if row is not None and row[0] == target.fingerprint:
        return True  # done by a call that did not hear so
    names = {
        "crops": searching.table(old.id), "images": sql.Identifier(f"image_{old.id}"), "next": _table(old.id),
        "gallery": sql.Literal(old.id), "hnsw": sql.Identifier(hnsw.index_name(old.id)),
        "next_hnsw": sql.Identifier(f"{_name(old.id)}_hnsw"),
    }  # fmt: skip

    def run(statement: str, *parameters: Any) -> psycopg.Cursor[Any]:
        return connection.execute(sql.SQL(statement).format(**names), parameters)

    # Tags may change until then, and nothing after.
    run("LOCK TABLE {crops} IN SHARE ROW EXCLUSIVE MODE")
    if left_out:
        run("DELETE FROM file f USING {crops} c WHERE c.id = ANY(%s) AND c.box IS NULL AND f.id = c.file_id", left_out)
        run("DELETE FROM {crops} WHERE id = ANY(%s)", left_out)
    lacking = run(
        "SELECT count(*) FROM {crops} c WHERE NOT EXISTS "
        "(SELECT FROM {next} n WHERE n.gallery_id = c.gallery_id AND n.id = c.id)"
    ).fetchone()
    if lacking is None or lacking[0]:
        return False
    run(
        'UPDATE {next} n SET "time" = c."time", camera = c.camera, tags = c.tags FROM {crops} c WHERE c.id = n.id '
        'AND (n."time", n.camera, n.tags) IS DISTINCT FROM (c."time", c.camera, c.tags)'
    )
    connection.execute(f"SET LOCAL lock_timeout = '{_PATIENCE_S}s'")
    (constraint,) = run(
        "SELECT conname FROM pg_constraint WHERE conrelid = %s::regclass AND contype = 'f'", f"image_{old.id}"
    ).fetchone() or ("",)
    names["constraint"] = sql.Identifier(constraint)
    for statement in _EXCHANGE:
        run(statement)
    if hnsw.exists(connection, f"{_name(old.id)}_hnsw"):
        run("ALTER INDEX {next_hnsw} RENAME TO {hnsw}")
    connection.execute(
        "UPDATE gallery SET model = %s, fingerprint = %s, dim = %s, facts = '{}' WHERE id = %s",
        (target.model, target.fingerprint, target.dim, old.id),
    )
    connection.execute("DELETE FROM reindexing WHERE gallery_id = %s", (old.id,))
    return True


_EXCHANGE = (
    "ALTER TABLE {images} DROP CONSTRAINT {constraint}",
    "ALTER TABLE {next} DROP CONSTRAINT of_crop",
    "DROP TABLE {crops}",
    "ALTER TABLE {next} RENAME TO {crops}",
    "ALTER TABLE crop ATTACH PARTITION {crops} FOR VALUES IN ({gallery})",
    "ALTER TABLE {crops} DROP CONSTRAINT own",
    "ALTER TABLE {images} ADD FOREIGN KEY (gallery_id, crop_id) REFERENCES {crops} (gallery_id, id) ON DELETE CASCADE",
)
