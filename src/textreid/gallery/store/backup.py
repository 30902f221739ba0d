"""A gallery as one file: for safe keeping, or for another server; and as a table for other programs.

A backup is a ZIP of what PostgreSQL's own COPY writes, with a manifest. It is read in one transaction of the database,
so it is of one moment, and restored in one: whole or not at all. Text, and not PostgreSQL's binary form, so that
another version of the server reads it.
"""

import json
import zipfile
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from psycopg import sql
from psycopg.types.json import Jsonb

from textreid.artifacts import new_file, write_text
from textreid.errors import ArtifactError
from textreid.gallery.store.database import Database, add_partitions
from textreid.gallery.store.errors import StoreError
from textreid.gallery.store.rows import Crop, GalleryInfo
from textreid.gallery.store.schema import migrations
from textreid.gallery.store.searching import embedded_by
from textreid.gallery.store.store import Store
from textreid.version import __version__

if TYPE_CHECKING:
    import psycopg

KIND = "textreid gallery"
_MANIFEST = "manifest.json"
_BLOCK = 1 << 20
_SOURCE = "id, uri"
_FILE = "id, source_id, path, size, mtime_ns, ctime_ns, digest, facts, problem, version, position, finished, kind"
_CROP = 'id, file_id, frame, seconds, "time", camera, box, track, tags, digest, presence, confidence, embedding'
_IMAGE = "crop_id, jpeg"
_EXPORTED_AT_ONCE = 1000


def back_up(store: Store, path: Path) -> int:
    """Write a gallery to a file, whole or not at all; returns the number of its crops.

    Raises:
        ArtifactError: the file cannot be written.
        StoreError: the database refuses or went away.
    """

    def copy(connection: "psycopg.Connection") -> int:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        # Before the first look at anything: the crops may be exchanged for those of another model.
        connection.execute(sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(_crops(store.id)))
        connection.execute(sql.SQL("SELECT {}").format(embedded_by(store.info)))
        row = connection.execute("SELECT facts FROM gallery WHERE id = %s", (store.id,)).fetchone()
        count = connection.execute(sql.SQL("SELECT count(*) FROM {}").format(_crops(store.id))).fetchone()
        assert row is not None  # noqa: S101
        assert count is not None  # noqa: S101
        manifest = {
            "kind": KIND,
            "schema": migrations()[-1][0],
            "version": __version__,
            "written": datetime.now(UTC).isoformat(),
            "name": store.name,
            "model": store.model,
            "fingerprint": store.fingerprint,
            "dim": store.dim,
            "facts": row[0],
            "crops": count[0],
            "columns": {name: columns for name, columns, _, _ in _tables(store.id)},
        }
        with new_file(path) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for name, columns, table, condition in _tables(store.id):
                with archive.open(f"{name}.copy", "w", force_zip64=True) as stream:
                    _copy_out(connection, stream, columns, table, condition)
            archive.writestr(_MANIFEST, json.dumps(manifest, indent=2))
        return int(count[0])

    return store.database.run(copy)


def _tables(gallery: int) -> list[tuple[str, str, sql.Identifier, sql.Composable]]:
    whole, own = sql.SQL("true"), sql.SQL("gallery_id = {}").format(sql.Literal(gallery))
    return [
        ("source", _SOURCE, sql.Identifier("source"), own),
        ("file", _FILE, sql.Identifier("file"), own),
        ("crop", _CROP, _crops(gallery), whole),
        ("image", _IMAGE, sql.Identifier(f"image_{gallery}"), whole),
    ]


def _crops(gallery: int) -> sql.Identifier:
    return sql.Identifier(f"crop_{gallery}")


def _copy_out(
    connection: "psycopg.Connection", stream: IO[bytes], columns: str, table: sql.Identifier, condition: sql.Composable
) -> None:
    statement = sql.SQL("COPY (SELECT {} FROM {} WHERE {} ORDER BY 1) TO STDOUT").format(
        sql.SQL(columns), table, condition
    )
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        for block in copy:
            stream.write(block)


def restore(database: Database, path: Path, name: str | None = None) -> Store:
    """Make a gallery of a backup, whole or not at all; its numbers of crops are new.

    Args:
        database: where to.
        path: of the file.
        name: of the gallery; None is the name that it had.

    Raises:
        ArtifactError: the file cannot be read, is damaged, foreign, or of a newer textreid.
        StoreError: there is a gallery of that name, or the database refuses.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            manifest = _read_manifest(archive, path)
            name = name or str(manifest["name"])
            if name in {info.name for info in database.galleries()}:
                raise StoreError(f"{database.place}: there is a gallery {name!r}; restore under another --gallery NAME")
            info = database.run(lambda c: _copy_in(c, archive, manifest, name))
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise ArtifactError(f"{path}: damaged, or no backup of a gallery: {error}") from error
    return Store(database, info)


def _read_manifest(archive: zipfile.ZipFile, path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads(archive.read(_MANIFEST))
    except (KeyError, ValueError) as error:
        raise ArtifactError(f"{path}: no backup of a gallery: it has no readable {_MANIFEST}") from error
    if not isinstance(manifest, dict) or manifest.get("kind") != KIND:
        raise ArtifactError(f"{path}: no backup of a gallery: {_MANIFEST}: kind")
    if manifest.get("schema", 0) > migrations()[-1][0]:
        raise ArtifactError(f"{path}: written by textreid {manifest.get('version')}, newer than this one")
    return manifest


def _copy_in(
    connection: "psycopg.Connection", archive: zipfile.ZipFile, manifest: dict[str, Any], name: str
) -> GalleryInfo:
    given = (name, manifest["model"], manifest["fingerprint"], manifest["dim"], Jsonb(manifest["facts"]))
    row = connection.execute(
        "INSERT INTO gallery (name, model, fingerprint, dim, facts) VALUES (%s, %s, %s, %s, %s) "
        "RETURNING name, model, fingerprint, dim, created, id",
        given,
    ).fetchone()
    assert row is not None  # noqa: S101
    info = GalleryInfo(*row)
    add_partitions(connection, info.id, info.dim)
    # Numbers of another database mean others here: rows come into tables beside, and from there with new ones.
    for table, columns in (("source", _SOURCE), ("file", _FILE), ("crop", _CROP), ("image", _IMAGE)):
        connection.execute(
            sql.SQL("CREATE TEMPORARY TABLE {} ON COMMIT DROP AS SELECT {} FROM {} WHERE false").format(
                sql.Identifier(f"old_{table}"), sql.SQL(columns), sql.Identifier(table)
            )
        )
        # What an older textreid did not write yet has the value that it meant.
        written = sql.SQL(", ").join(map(sql.Identifier, _written(manifest, table, columns)))
        statement = sql.SQL("COPY {} ({}) FROM STDIN").format(sql.Identifier(f"old_{table}"), written)
        with archive.open(f"{table}.copy") as stream, connection.cursor() as cursor, cursor.copy(statement) as copy:
            while block := stream.read(_BLOCK):
                copy.write(block)
    for step in _RENUMBER:
        connection.execute(
            sql.SQL(step).format(
                gallery=sql.Literal(info.id), crops=_crops(info.id), images=sql.Identifier(f"image_{info.id}")
            )
        )
    return info


def _written(manifest: dict[str, Any], table: str, columns: str) -> list[str]:
    """Name the columns that the backup has of a table: all of today, less those that came after it was written."""
    named = manifest.get("columns")
    text = named.get(table, "") if isinstance(named, dict) else columns.removesuffix(", kind")
    written = [name.strip(' "') for name in str(text).split(",")]
    if not set(written) <= {name.strip(' "') for name in columns.split(",")}:
        raise StoreError(f"the backup has columns of {table} that this textreid does not know")
    return written


_RENUMBER = (
    "INSERT INTO source (gallery_id, uri) SELECT {gallery}, uri FROM old_source ORDER BY id",
    "INSERT INTO file (gallery_id, source_id, path, size, mtime_ns, ctime_ns, digest, facts, problem, version, "
    "position, finished, kind) SELECT {gallery}, s.id, f.path, f.size, f.mtime_ns, f.ctime_ns, f.digest, "
    "f.facts, f.problem, f.version, f.position, f.finished, coalesce(f.kind, 'crop') FROM old_file f "
    "JOIN old_source o ON o.id = f.source_id JOIN source s ON s.gallery_id = {gallery} AND s.uri = o.uri ORDER BY f.id",
    "CREATE TEMPORARY TABLE new_file ON COMMIT DROP AS SELECT o.id AS old, f.id AS new FROM old_file o "
    "JOIN file f ON f.gallery_id = {gallery} AND f.path = o.path",
    "CREATE TEMPORARY TABLE new_crop ON COMMIT DROP AS "
    "SELECT id AS old, nextval('crop_id') AS new FROM (SELECT id FROM old_crop ORDER BY id) AS ordered",
    'INSERT INTO {crops} (gallery_id, id, file_id, frame, seconds, "time", camera, box, track, tags, digest, presence, '
    'confidence, embedding) SELECT {gallery}, n.new, f.new, c.frame, c.seconds, c."time", c.camera, c.box, c.track, '
    "c.tags, c.digest, c.presence, c.confidence, c.embedding FROM old_crop c JOIN new_crop n ON n.old = c.id "
    "JOIN new_file f ON f.old = c.file_id ORDER BY n.new",
    "INSERT INTO {images} (gallery_id, crop_id, jpeg) SELECT {gallery}, n.new, i.jpeg FROM old_image i "
    "JOIN new_crop n ON n.old = i.crop_id ORDER BY n.new",
)


def export(store: Store, path: Path, vectors: Path | None = None) -> int:
    """Write the crops of a gallery as JSONL, and their vectors (N, D) float16 in that order as .npy; returns N.

    Raises:
        ArtifactError: a file cannot be written.
    """
    lines, parts = [], []
    for numbers in _parts(store):
        lines += [json.dumps(_row(crop), ensure_ascii=False) + "\n" for crop in store.crops(numbers)]
        if vectors:
            parts.append(store.vectors(numbers).astype(np.float16))
    write_text(path, "".join(lines))
    if vectors:
        with new_file(vectors) as partial, partial.open("wb") as stream:
            np.save(stream, np.concatenate([np.zeros((0, store.dim), np.float16), *parts]))
    return len(lines)


def _parts(store: Store) -> Iterator[list[int]]:
    statement = sql.SQL("SELECT id FROM {} ORDER BY id").format(_crops(store.id))
    numbers = [row[0] for row in store.database.run(lambda c: c.execute(statement, binary=True).fetchall())]
    for begin in range(0, len(numbers), _EXPORTED_AT_ONCE):
        yield numbers[begin : begin + _EXPORTED_AT_ONCE]


def _row(crop: Crop) -> dict[str, Any]:
    row = {name: getattr(crop, name) for name in crop.__dataclass_fields__}
    return row | {"path": crop.origin, "time": crop.time.isoformat() if crop.time else None}
