"""Which crops of a gallery fit a vector best, as SQL: exactly, or by the HNSW index."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, LiteralString

import numpy as np
from psycopg import sql

from textreid.gallery.store import hnsw
from textreid.gallery.store.rows import Array, Crop, Cursor, Filters, GalleryInfo, Hit

if TYPE_CHECKING:
    import psycopg

_COLUMNS: LiteralString = (
    'c.id, s.uri, f.path, c.file_id, c.frame, c.seconds, c."time", c.camera, c.box, c.track, c.tags, c.digest, '
    "c.presence, c.confidence"
)
_JOINED: LiteralString = " JOIN file f ON f.id = c.file_id JOIN source s ON s.id = f.source_id"


def table(gallery: int) -> sql.Identifier:
    """Name the partition of a gallery's crops."""
    return sql.Identifier(f"crop_{gallery}")


def own(gallery: int, prefix: LiteralString = "") -> sql.Composable:
    """Say that a crop is of a gallery: all of its partition are, but its index of numbers begins with that."""
    return sql.SQL(prefix + "gallery_id = {}").format(sql.Literal(gallery))


def embedded_by(gallery: GalleryInfo) -> sql.Composable:
    """Say that the vectors are still those of the model that a gallery had when it was opened; else it is an error."""
    return sql.SQL("is_embedded_by({}, {})").format(sql.Literal(gallery.id), sql.Literal(gallery.fingerprint))


def newest(gallery: int) -> sql.Composable:
    """Look up the number of the newest crop, 0 where there is none, as a value."""
    # By its index of numbers, whose last entry is read.
    return sql.SQL("(SELECT coalesce(max(id), 0) FROM {} WHERE {})").format(table(gallery), own(gallery))


def half(vector: Array, loss_weight: float) -> Any:
    """Return a query vector (D,) as pgvector takes it, with what a crop's loss counts as its last number."""
    from pgvector import HalfVector

    return HalfVector(np.append(vector, np.float32(loss_weight)))


def where(filters: Filters, parameters: dict[str, Any]) -> sql.Composable:
    """Write filters as conditions on the crop ``c``, and put their values into ``parameters``."""
    conditions: list[LiteralString] = []
    if filters.cameras:
        conditions.append("c.camera = ANY(%(cameras)s)")
    if filters.since:
        conditions.append('c."time" >= %(since)s')
    if filters.until:
        conditions.append('c."time" < %(until)s')
    if filters.hours:
        inside = filters.hours[0] < filters.hours[1]
        hour: LiteralString = 'extract(hour FROM c."time")'
        conditions.append(
            f"({hour} >= %(from_hour)s AND {hour} < %(to_hour)s)"
            if inside
            else f"({hour} >= %(from_hour)s OR {hour} < %(to_hour)s)"
        )
        parameters |= {"from_hour": filters.hours[0], "to_hour": filters.hours[1]}
    if filters.tags:
        conditions.append("c.tags @> %(tags)s")
    if filters.files:
        conditions.append("c.file_id = ANY(%(files)s)")
    if filters.sources:
        conditions.append(
            "c.file_id IN (SELECT f.id FROM file f JOIN source s ON s.id = f.source_id "
            "WHERE f.gallery_id = %(gallery)s AND (s.uri = ANY(%(sources)s) OR f.path = ANY(%(sources)s) "
            "OR f.path LIKE ANY(%(below)s)))"
        )
        parameters["below"] = [_like(source.rstrip("/") + "/") + "%" for source in filters.sources]
    if filters.exclude:
        conditions.append("c.id <> ALL(%(exclude)s)")
    for name in ("cameras", "tags", "files", "sources", "exclude"):
        parameters[name] = list(getattr(filters, name))
    parameters |= {"since": filters.since, "until": filters.until}
    return sql.SQL(" AND ").join([sql.SQL("true"), *map(sql.SQL, conditions)])


def nearest(
    connection: "psycopg.Connection", gallery: GalleryInfo, query: Any, filters: Filters, top: int,
    after: Cursor | None = None,
) -> tuple[list[Hit], int]:  # fmt: skip
    """Rank the crops of a gallery that pass, comparing every one; returns also the number of the newest one then."""
    parameters: dict[str, Any] = {"gallery": gallery.id, "query": query, "top": top}
    conditions = where(filters, parameters)
    # "+ 0" is no expression of the index, which would give up some results.
    distance = sql.SQL("(c.embedding <#> %(query)s) + 0")
    if after:
        parameters |= {"score": -after.score, "after": after.id, "as_of": after.as_of}
        conditions = sql.SQL("{} AND c.id <= %(as_of)s AND ({}, c.id) > (%(score)s, %(after)s)").format(
            conditions, distance
        )
    inner = sql.SQL(
        "SELECT c.id, {} AS distance FROM {} c WHERE {} AND {} ORDER BY distance, c.id LIMIT %(top)s"
    ).format(distance, table(gallery.id), embedded_by(gallery), conditions)
    statement = _with_rows(gallery.id, inner)
    hits, as_of = _as_hits(connection.execute(statement, parameters, binary=True).fetchall())
    return hits, after.as_of if after else as_of


def approximately_nearest(
    connection: "psycopg.Connection", gallery: GalleryInfo, query: Any, top: int
) -> tuple[list[Hit], int]:
    """Rank the crops of a gallery by its HNSW index; returns what `nearest` does."""
    hnsw.set_candidates(connection, table(gallery.id))
    rows = connection.execute(_indexed_statement(gallery, top), {"query": query}, binary=True).fetchall()
    return _as_hits(rows)


@lru_cache(256)
def _indexed_statement(gallery: GalleryInfo, top: int) -> bytes:
    # The number of hits is part of the text: a plan for any number of them would read the whole table.
    inner = sql.SQL(
        "SELECT c.id, c.embedding::halfvec({dim}) <#> %(query)s::halfvec({dim}) AS distance "
        "FROM {table} c WHERE {current} ORDER BY distance LIMIT {top}"
    ).format(
        dim=sql.Literal(gallery.dim + 1), table=table(gallery.id), current=embedded_by(gallery), top=sql.Literal(top)
    )
    return _with_rows(gallery.id, inner).as_bytes(None)


def _with_rows(gallery: int, inner: sql.Composable) -> sql.Composed:
    """Read what is known of the crops that ``inner`` ranks, and the number of the newest crop beside each."""
    return sql.SQL(
        "SELECT {columns}, n.distance, {newest} FROM ({inner}) n JOIN {table} c ON {own} AND c.id = n.id {joined} "
        "ORDER BY n.distance, c.id"
    ).format(
        columns=sql.SQL(_COLUMNS), newest=newest(gallery), inner=inner, table=table(gallery), own=own(gallery, "c."),
        joined=sql.SQL(_JOINED),
    )  # fmt: skip


def _as_hits(rows: Sequence[Any]) -> tuple[list[Hit], int]:
    return [Hit(to_crop(row[:-2]), -float(row[-2])) for row in rows], int(rows[0][-1]) if rows else 0


def best_of_tracks(
    connection: "psycopg.Connection", gallery: GalleryInfo, query: Any, filters: Filters, as_of: int,
    hits: Sequence[Hit],
) -> list[Hit]:  # fmt: skip
    """Keep of hits those that no other crop of their track, among those that pass, comes before."""
    files = [hit.crop.file_id for hit in hits if hit.crop.track is not None]
    tracks = [hit.crop.track for hit in hits if hit.crop.track is not None]
    if not tracks:
        return list(hits)
    parameters: dict[str, Any] = {
        "gallery": gallery.id, "query": query, "as_of": as_of, "of_files": files, "of_tracks": tracks,
    }  # fmt: skip
    statement = sql.SQL(
        "SELECT DISTINCT ON (c.file_id, c.track) c.id FROM {} c WHERE {} AND {} AND c.id <= %(as_of)s "
        "AND (c.file_id, c.track) IN (SELECT * FROM unnest(%(of_files)s::bigint[], %(of_tracks)s::int[])) "
        "ORDER BY c.file_id, c.track, c.embedding <#> %(query)s, c.id"
    ).format(table(gallery.id), embedded_by(gallery), where(filters, parameters))
    best = {row[0] for row in connection.execute(statement, parameters)}
    return [hit for hit in hits if hit.crop.track is None or hit.crop.id in best]


def crops(
    connection: "psycopg.Connection", gallery: int, numbers: Sequence[int], filters: Filters | None = None
) -> list[Crop]:
    """Read crops by number, in that order; those that are gone or do not pass are left out."""
    parameters: dict[str, Any] = {"gallery": gallery, "numbers": list(numbers)}
    statement = sql.SQL("SELECT {} FROM {} c {} WHERE {} AND c.id = ANY(%(numbers)s) AND {}").format(
        sql.SQL(_COLUMNS), table(gallery), sql.SQL(_JOINED), own(gallery, "c."), where(filters or Filters(), parameters)
    )
    found = {row[0]: to_crop(row) for row in connection.execute(statement, parameters, binary=True)}
    return [found[number] for number in numbers if number in found]


def of_track(
    connection: "psycopg.Connection", gallery: int, file: int, number: int, filters: Filters, top: int
) -> list[Crop]:
    """Read the crops of a track of a file that pass, in order of time, at most ``top``."""
    parameters: dict[str, Any] = {"gallery": gallery, "file": file, "number": number, "top": top}
    statement = sql.SQL(
        "SELECT {} FROM {} c {} WHERE c.file_id = %(file)s AND c.track = %(number)s AND {} "
        "ORDER BY c.seconds, c.id LIMIT %(top)s"
    ).format(sql.SQL(_COLUMNS), table(gallery), sql.SQL(_JOINED), where(filters, parameters))
    return [to_crop(row) for row in connection.execute(statement, parameters, binary=True)]


def to_crop(row: Sequence[Any]) -> Crop:
    """Make a crop of a row of `_COLUMNS`."""
    number, source, path, file, frame, seconds, time, camera, box, track, tags, digest, presence, confidence = row
    x_y_w_h = None if box is None else (box[0], box[1], box[2], box[3])
    return Crop(
        number, source, Path(path), file, frame, seconds, time, camera, x_y_w_h, track, tuple(tags), digest.hex(),
        presence, confidence, box is None, path if "://" in path else None,
    )  # fmt: skip


def _like(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
