"""What changes a gallery: files and their crops come in by batches, each whole or not at all."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from psycopg import sql
from psycopg.types.json import Jsonb

from textreid.gallery.embedding_cache import FileStamp
from textreid.gallery.store.rows import Facts, GalleryInfo, KnownFile, NewCrop, NewFile
from textreid.gallery.store.searching import embedded_by, table
from textreid.version import __version__

if TYPE_CHECKING:
    import psycopg

_KNOWN = "id, path, size, mtime_ns, ctime_ns, digest, facts, problem, version, position, finished, kind"
_CROP_TYPES = (
    "int4", "int8", "int8", "int8", "float8", "timestamp", "text", "float4[]", "int4", "text[]", "bytea", "float4",
    "float4", "halfvec",
)  # fmt: skip


def hold(connection: "psycopg.Connection", gallery: int) -> None:
    """Let one writer at a time into a gallery, until the transaction ends.

    So crops are numbered in the order in which they become visible, and "all up to number N" never grows: the pages
    of a search rest on that.
    """
    connection.execute("SELECT pg_advisory_xact_lock(%s, %s)", (0x74726964, gallery))


def find_source(connection: "psycopg.Connection", gallery: int, uri: str) -> int:
    """Return the number of a source, which is made where it is new."""
    row = connection.execute(
        "INSERT INTO source (gallery_id, uri) VALUES (%s, %s) "
        "ON CONFLICT (gallery_id, uri) DO UPDATE SET uri = excluded.uri RETURNING id",
        (gallery, uri),
    ).fetchone()
    assert row is not None  # noqa: S101 - one of both was done
    return int(row[0])


def known_files(connection: "psycopg.Connection", gallery: int, paths: Sequence[str]) -> dict[str, KnownFile]:
    """Read what the gallery has of these files, by path."""
    rows = connection.execute(
        f"SELECT {_KNOWN} FROM file WHERE gallery_id = %s AND path = ANY(%s)",  # noqa: S608
        (gallery, list(paths)),
    )
    return {row[1]: _known(row) for row in rows}


def add(connection: "psycopg.Connection", info: GalleryInfo, source: int, files: Sequence[NewFile]) -> list[int]:
    """Store files and their crops; returns the numbers of the crops, in order. Doing it twice changes nothing."""
    gallery = info.id
    hold(connection, gallery)
    connection.execute(sql.SQL("SELECT {}").format(embedded_by(info)))
    before = known_files(connection, gallery, [file.path for file in files])
    # A batch that continues a video, done already by a call that did not hear so.
    files = [file for file in files if not _is_done(file, before.get(file.path))]
    replaced = [before[file.path].id for file in files if file.path in before and not file.append]
    delete_crops_of(connection, gallery, replaced)
    numbers = _upsert_files(connection, gallery, source, files)
    pairs = [(numbers[file.path], crop) for file in files for crop in file.crops]
    if not pairs:
        return []
    rows = connection.execute("SELECT nextval('crop_id') FROM generate_series(1, %s)", (len(pairs),)).fetchall()
    ids = sorted(row[0] for row in rows)
    _copy_crops(connection, gallery, ids, pairs)
    _copy_images(connection, gallery, [(i, crop.jpeg) for i, (_, crop) in zip(ids, pairs, strict=True) if crop.jpeg])
    return ids


def _is_done(file: NewFile, before: KnownFile | None) -> bool:
    return file.append and before is not None and before.position >= file.position and before.finished == file.finished


def _upsert_files(
    connection: "psycopg.Connection", gallery: int, source: int, files: Sequence[NewFile]
) -> dict[str, int]:
    rows: dict[str, int] = {}
    for file in files:
        stamp = file.stamp
        row = connection.execute(
            "INSERT INTO file (gallery_id, source_id, path, size, mtime_ns, ctime_ns, digest, facts, problem, version, "
            "position, finished, kind) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) "
            "ON CONFLICT (gallery_id, path) DO UPDATE SET source_id = excluded.source_id, size = excluded.size, "
            "mtime_ns = excluded.mtime_ns, ctime_ns = excluded.ctime_ns, digest = excluded.digest, "
            "facts = excluded.facts, problem = excluded.problem, version = excluded.version, "
            "position = excluded.position, finished = excluded.finished, kind = excluded.kind RETURNING id",
            (
                gallery, source, file.path, stamp.size, stamp.mtime_ns, stamp.ctime_ns, file.digest,
                Jsonb(file.facts.to_json()), file.problem, __version__, file.position, file.finished,
                file.kind,
            ),
        ).fetchone()  # fmt: skip
        assert row is not None  # noqa: S101 - one of both was done
        rows[file.path] = int(row[0])
    return rows


def _copy_crops(
    connection: "psycopg.Connection", gallery: int, ids: Sequence[int], pairs: Sequence[tuple[int, NewCrop]]
) -> None:
    columns = (
        'gallery_id, id, file_id, frame, seconds, "time", camera, box, track, tags, digest, presence, confidence, '
        "embedding"
    )
    # Into the partition itself: rows need not be routed.
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(table(gallery), sql.SQL(columns))
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        copy.set_types(_CROP_TYPES)
        for number, (file, crop) in zip(ids, pairs, strict=True):
            box = None if crop.box is None else [float(value) for value in crop.box]
            copy.write_row((
                gallery, number, file, crop.frame, crop.seconds, crop.time, crop.camera, box, crop.track,
                list(crop.tags), crop.digest, crop.presence, crop.confidence, as_stored(crop),
            ))  # fmt: skip


def as_stored(crop: NewCrop) -> Any:
    """Return the vector (D + 1,) of a crop as pgvector takes it: the last number is what its score loses."""
    from pgvector import HalfVector

    return HalfVector(np.append(crop.embedding, np.float32(crop.loss)))


def _copy_images(connection: "psycopg.Connection", gallery: int, images: Sequence[tuple[int, bytes]]) -> None:
    if not images:
        return
    statement = sql.SQL("COPY {} (gallery_id, crop_id, jpeg) FROM STDIN (FORMAT BINARY)").format(
        sql.Identifier(f"image_{gallery}")
    )
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        copy.set_types(("int4", "int8", "bytea"))
        for number, jpeg in images:
            copy.write_row((gallery, number, jpeg))


def delete_crops_of(connection: "psycopg.Connection", gallery: int, files: Sequence[int]) -> int:
    """Delete the crops of files, and return how many there were."""
    if not files:
        return 0
    statement = sql.SQL("DELETE FROM {} WHERE file_id = ANY(%s)").format(table(gallery))
    return connection.execute(statement, (list(files),)).rowcount


def delete_files(connection: "psycopg.Connection", gallery: int, paths: Sequence[str]) -> int:
    """Forget files and their crops; returns the number of crops."""
    hold(connection, gallery)
    gone = [file.id for file in known_files(connection, gallery, paths).values()]
    crops = delete_crops_of(connection, gallery, gone)
    connection.execute("DELETE FROM file WHERE id = ANY(%s)", (gone,))
    return crops


def change_facts(connection: "psycopg.Connection", gallery: int, changes: Mapping[int, tuple[Facts, Facts]]) -> None:
    """Give the crops of files what is known of the file now; tags that people gave stay.

    Args:
        connection: in a transaction.
        gallery: number of the gallery.
        changes: for each file what was known of it, and what is.
    """
    hold(connection, gallery)
    update = sql.SQL(
        "UPDATE {} SET camera = %(camera)s, "
        "\"time\" = %(time)s::timestamp + coalesce(seconds, 0) * interval '1 second', "
        "tags = array(SELECT unnest(tags) EXCEPT SELECT unnest(%(old)s::text[]) UNION SELECT unnest(%(new)s::text[]) "
        "ORDER BY 1) WHERE file_id = %(file)s"
    ).format(table(gallery))
    for number, (old, new) in changes.items():
        facts: dict[str, Any] = {"file": number, "camera": new.camera, "time": new.time}
        connection.execute(update, facts | {"old": list(old.tags), "new": list(new.tags)})
        connection.execute("UPDATE file SET facts = %s WHERE id = %s", (Jsonb(new.to_json()), number))


def restamp(connection: "psycopg.Connection", files: Mapping[int, FileStamp]) -> None:
    """Note that files were touched but have the content that they had."""
    for number, stamp in files.items():
        connection.execute(
            "UPDATE file SET size = %s, mtime_ns = %s, ctime_ns = %s WHERE id = %s",
            (stamp.size, stamp.mtime_ns, stamp.ctime_ns, number),
        )


def known_contents(connection: "psycopg.Connection", gallery: int, digests: Sequence[bytes]) -> dict[bytes, NewCrop]:
    """Find what is stored of pictures with these contents, so that a copy or a renamed file is not embedded again."""
    statement = sql.SQL(
        "SELECT DISTINCT ON (f.digest) f.digest, c.presence, halfvec_send(c.embedding) FROM file f "
        "JOIN {} c ON c.file_id = f.id WHERE f.gallery_id = %s AND f.digest = ANY(%s) AND c.box IS NULL"
    ).format(table(gallery))
    found = {}
    for digest, presence, sent in connection.execute(statement, (gallery, list(digests)), binary=True):
        numbers = unpack([sent])[0]
        found[digest] = NewCrop(numbers[:-1], digest, presence=presence, loss=float(numbers[-1]))
    return found


def unpack(sent: Sequence[bytes]) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """Make an array (N, D + 1) of vectors as ``halfvec_send`` gives them: four bytes of header, then float16."""
    if not sent:
        return np.zeros((0, 1), np.float32)
    rows = np.frombuffer(b"".join(bytes(one) for one in sent), ">f2").reshape(len(sent), -1)
    return rows[:, 2:].astype(np.float32)


def _known(row: Sequence[Any]) -> KnownFile:
    number, path, size, mtime_ns, ctime_ns, digest, facts, problem, version, position, finished, kind = row
    stamp = FileStamp(size, mtime_ns, ctime_ns)
    return KnownFile(number, path, stamp, digest, Facts.from_json(facts), problem, version, position, finished, kind)


def with_facts(crop: NewCrop, facts: Facts) -> NewCrop:
    """Return the crop with what is known of its file, where the crop itself does not know better."""
    return replace(crop, camera=crop.camera or facts.camera, time=crop.time or facts.time, tags=facts.tags)
