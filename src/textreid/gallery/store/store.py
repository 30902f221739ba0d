"""One gallery: crops come in, are found, looked at and deleted."""

import io
import re
import shlex
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt
from PIL import Image
from psycopg import sql
from psycopg.types.json import Jsonb

from textreid.errors import ConfigError
from textreid.gallery.embedding_cache import FileStamp
from textreid.gallery.store import hnsw, searching, writing
from textreid.gallery.store.database import Database
from textreid.gallery.store.errors import StoreError
from textreid.gallery.store.rows import (
    Array,
    Counts,
    Crop,
    Cursor,
    Facts,
    Filters,
    GalleryInfo,
    Hit,
    KnownFile,
    NewFile,
    Page,
)
from textreid.images import read_image
from textreid.models.folder import DEFAULT

if TYPE_CHECKING:
    import psycopg

_MOST_APPROXIMATE = 100  # hits that one look into the index gives; it keeps that many candidates


class Store:
    """A gallery of crops in a database, embedded by one model; a context manager that closes its database.

    Several threads may use one: they queue. Every method raises `StoreError` when the database refuses or is gone.

    Attributes:
        database: that holds it.
        info: what that knew of it when it was opened.
        id, name, model, fingerprint, dim: of that.
    """

    def __init__(self, database: Database, info: GalleryInfo) -> None:
        self.database, self.info = database, info
        self._indexed = False
        self.id, self.name = info.id, info.name
        self.model, self.fingerprint, self.dim = info.model, info.fingerprint, info.dim

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.database.close()

    def check_model(self, fingerprint: str, model: str) -> None:
        """Refuse vectors that another model computes.

        Args:
            fingerprint: of the vectors.
            model: that computes them, as it was asked for.

        Raises:
            StoreError: they are not those of this gallery; says what makes them so.
        """
        # Both precisions of one model are near enough for a query, not for the crops of one gallery.
        if fingerprint != self.fingerprint:
            mine, other = (f"{one[:12]}{one[64:]}" for one in (self.fingerprint, fingerprint))
            words = [shlex.quote(self.name), *(["--model", shlex.quote(model)] if model != DEFAULT else [])]
            raise StoreError(
                f"gallery {self.name!r} was embedded by model {self.model} ({mine}), not by {model} ({other}); one "
                f"gallery has one model: textreid gallery reindex {' '.join(words)} embeds its crops again"
            )

    def search(
        self,
        vector: Array,
        filters: Filters | None = None,
        top: int = 10,
        *,
        after: Cursor | None = None,
        exact: bool | None = None,
        one_per_track: bool = False,
    ) -> Page:
        """Rank crops by their likeness to a vector.

        Pages stay stable while crops arrive: a later page ranks the crops that the first one did.

        Args:
            vector: (D,) float32 of length 1.
            filters: which crops; all by default.
            top: how many hits at most.
            after: the next page of an earlier one.
            exact: compare every crop, or take the index; None takes it where there is one, and no filter or cursor.
            one_per_track: only the best crop of each track.

        Raises:
            ConfigError: ``top`` is below 1, or ``after`` is of a ranking by another model.
            StoreError: the vector has another length.
        """
        filters = filters or Filters()
        if top < 1:
            raise ConfigError(f"top: expected at least 1, got {top}")
        if after and after.model and after.model != self._mark:
            raise ConfigError("after: the gallery was embedded by another model since that page; search again")
        query = searching.half(self._checked(vector), -1.0)
        plain = not filters and after is None and top <= _MOST_APPROXIMATE

        def find(connection: "psycopg.Connection") -> Page:
            asked = 4 * top if one_per_track else top
            approximate = False
            if plain and exact is not True and (exact is False or self._is_indexed(connection)):
                asked = min(asked, _MOST_APPROXIMATE)
                found, as_of = searching.approximately_nearest(connection, self.info, query, asked)
                # Crops that were deleted stay in the index for a while, and take the places of others.
                approximate = len(found) == asked
            if not approximate:
                found, as_of = searching.nearest(connection, self.info, query, filters, asked, after)
            if not one_per_track:
                return self._page(found, top, as_of, not approximate)
            kept = searching.best_of_tracks(connection, self.info, query, filters, as_of, found)
            while len(found) == asked and len(kept) < top:
                last = Cursor(found[-1].score, found[-1].crop.id, as_of)
                found, _ = searching.nearest(connection, self.info, query, filters, asked, last)
                kept += searching.best_of_tracks(connection, self.info, query, filters, as_of, found)
            return self._page(kept[:top], top, as_of, not approximate)

        return self.database.run(find, atomic=False)

    def scores(self, vector: Array, ids: Sequence[int]) -> Array:
        """Compute the scores (N,) that a search gives these crops; NaN of one that is gone."""
        statement = sql.SQL("SELECT id, -(embedding <#> %s) FROM {} WHERE {} AND {} AND id = ANY(%s)").format(
            self._table, self._own, searching.embedded_by(self.info)
        )
        query = searching.half(self._checked(vector), -1.0)
        rows = self._rows(statement, (query, list(ids)))
        found: dict[int, float] = dict(rows)
        return np.array([found.get(number, np.nan) for number in ids], np.float32)

    def all_scores(
        self, vectors: npt.NDArray[np.float32], filters: Filters | None = None, sample: int | None = None
    ) -> tuple[npt.NDArray[np.int64], Array]:
        """Compute the scores of every crop that passes for Q vectors, in one pass.

        Args:
            vectors: (Q, D) float32 of length 1.
            filters: which crops; all by default.
            sample: at most so many, drawn by a hash of their numbers, so that the same are drawn again.

        Returns:
            Numbers of the crops (N,), ascending, and scores (Q, N).
        """
        parameters: dict[str, Any] = {"gallery": self.id, "sample": sample}
        distances = []
        for number, vector in enumerate(vectors):
            parameters[f"q{number}"] = searching.half(self._checked(vector), -1.0)
            distances.append(sql.SQL("-(c.embedding <#> {})").format(sql.Placeholder(f"q{number}")))
        conditions = searching.where(filters or Filters(), parameters)
        drawn = sql.SQL("" if sample is None else " ORDER BY hashint8(c.id) LIMIT %(sample)s")
        statement = sql.SQL("SELECT {} FROM {} c WHERE {} AND {}{}").format(
            sql.SQL(", ").join([sql.SQL("c.id"), *distances]), self._table, searching.embedded_by(self.info),
            conditions, drawn,
        )  # fmt: skip
        rows = self._rows(statement, parameters)
        table = np.array(rows, np.float64).reshape(len(rows), len(vectors) + 1)
        table = table[np.argsort(table[:, 0])]
        return table[:, 0].astype(np.int64), np.ascontiguousarray(table[:, 1:].T, np.float32)

    def vectors(self, ids: Sequence[int]) -> npt.NDArray[np.float32]:
        """Read the vectors (N, D) of crops, of length 1 but for the rounding to 16 bits, in that order.

        Raises:
            StoreError: one of the crops is gone; names it.
        """
        statement = sql.SQL("SELECT id, halfvec_send(embedding) FROM {} WHERE {} AND {} AND id = ANY(%s)").format(
            self._table, self._own, searching.embedded_by(self.info)
        )
        rows = self._rows(statement, (list(ids),))
        found: dict[int, bytes] = dict(rows)
        missing = [number for number in ids if number not in found]
        if missing:
            raise self._gone(missing[0])
        return writing.unpack([found[number] for number in ids])[:, :-1]

    def crop(self, number: int) -> Crop:
        """Read a crop.

        Raises:
            StoreError: there is none of that number.
        """
        found = self.crops([number])
        if not found:
            raise self._gone(number)
        return found[0]

    def crops(self, ids: Sequence[int], filters: Filters | None = None) -> list[Crop]:
        """Read crops in that order; those that are gone, or do not pass, are left out."""
        return self.database.run(lambda c: searching.crops(c, self.id, ids, filters), atomic=False)

    def jpeg(self, number: int) -> bytes:
        """Read the picture of a crop as it is stored: its JPEG, or the bytes of the file that it is.

        Raises:
            StoreError: there is no such crop, or its file is gone or was changed.
        """
        query = "SELECT jpeg FROM image WHERE gallery_id = %s AND crop_id = %s"
        row = self.database.run(lambda c: c.execute(query, (self.id, number), binary=True).fetchone())
        if row:
            return bytes(row[0])
        crop = self.crop(number)
        try:
            return crop.path.read_bytes()
        except OSError as error:
            raise StoreError(f"{crop.path}: crop {number} cannot be shown: {error.strerror or error}") from error

    def picture(self, number: int) -> Image.Image:
        """Decode the picture of a crop: upright RGB.

        Raises:
            StoreError: see `jpeg`.
            ImageError: it cannot be decoded.
        """
        return read_image(Image.open(io.BytesIO(self.jpeg(number))))

    def add(self, source: str, files: Sequence[NewFile]) -> list[int]:
        """Store files of a source and their crops in one transaction; returns the numbers of the crops, in order."""
        return self.database.run(lambda c: writing.add(c, self.info, writing.find_source(c, self.id, source), files))

    def next_track(self, file: int) -> int:
        """Return the first number that no track of a file has."""
        statement = sql.SQL("SELECT coalesce(max(track) + 1, 0) FROM {} WHERE file_id = %s").format(self._table)
        row = self.database.run(lambda c: c.execute(statement, (file,)).fetchone())
        return int(row[0]) if row else 0

    def known_files(self, paths: Sequence[str]) -> dict[str, KnownFile]:
        """Read what the gallery has of these files, by path."""
        return self.database.run(lambda c: writing.known_files(c, self.id, paths))

    def change_facts(self, changes: Mapping[int, tuple[Facts, Facts]], touched: Mapping[int, FileStamp]) -> None:
        """Give the crops of files, by number, what is known of them now instead of before, and files new stamps."""

        def change(connection: "psycopg.Connection") -> None:
            writing.change_facts(connection, self.id, changes)
            writing.restamp(connection, touched)

        self.database.run(change)

    def delete(self, ids: Sequence[int]) -> int:
        """Delete crops for good, and return how many there were; their files stay, and are not indexed again."""
        statement = sql.SQL("DELETE FROM {} WHERE {} AND id = ANY(%s)").format(self._table, self._own)
        return self.database.run(lambda c: c.execute(statement, (list(ids),)).rowcount)

    def tag(self, ids: Sequence[int], add: Sequence[str] = (), remove: Sequence[str] = ()) -> int:
        """Give crops tags, and take some away; returns how many crops there were."""
        statement = sql.SQL(
            "UPDATE {} SET tags = array(SELECT unnest(tags) UNION SELECT unnest(%s::text[]) EXCEPT "
            "SELECT unnest(%s::text[]) ORDER BY 1) WHERE {} AND id = ANY(%s)"
        ).format(self._table, self._own)
        return self.database.run(lambda c: c.execute(statement, (list(add), list(remove), list(ids))).rowcount)

    def counts(self) -> Counts:
        """Count what the gallery holds."""
        statement = sql.SQL(
            "SELECT (SELECT count(*) FROM {table}), (SELECT count(*) FROM file WHERE gallery_id = %(id)s), "
            "(SELECT count(*) FROM file WHERE gallery_id = %(id)s AND problem IS NOT NULL), "
            "(SELECT count(*) FROM source WHERE gallery_id = %(id)s), "
            "(SELECT count(*) FROM (SELECT DISTINCT file_id, track FROM {table} WHERE track IS NOT NULL) t), "
            "(SELECT count(DISTINCT camera) FROM {table}), "
            '(SELECT min("time") FROM {table}), (SELECT max("time") FROM {table}), '
            "pg_total_relation_size(%(table)s::regclass) + pg_total_relation_size(%(images)s::regclass)"
        ).format(table=self._table)
        names = {"id": self.id, "table": f"crop_{self.id}", "images": f"image_{self.id}"}
        row = self.database.run(lambda c: c.execute(statement, names).fetchone())
        assert row is not None  # noqa: S101 - it has one row always
        return Counts(*row)

    def cameras(self) -> dict[str, int]:
        """Count the crops of each camera that is known."""
        statement = sql.SQL("SELECT camera, count(*) FROM {} WHERE camera IS NOT NULL GROUP BY 1 ORDER BY 1")
        return dict(self.database.run(lambda c: c.execute(statement.format(self._table)).fetchall()))

    def sources(self) -> dict[str, int]:
        """Count the crops of each source, one that has none included."""
        statement = sql.SQL(
            "SELECT s.uri, count(c.id) FROM source s LEFT JOIN file f ON f.source_id = s.id "
            "LEFT JOIN {} c ON c.file_id = f.id WHERE s.gallery_id = %s GROUP BY 1 ORDER BY 1"
        ).format(self._table)
        return dict(self.database.run(lambda c: c.execute(statement, (self.id,)).fetchall()))

    def quarantine(self) -> list[tuple[Path, str]]:
        """List the files that could not be used, and why."""
        query = "SELECT path, problem FROM file WHERE gallery_id = %s AND problem IS NOT NULL ORDER BY path"
        rows = self.database.run(lambda c: c.execute(query, (self.id,)).fetchall())
        return [(Path(path), reason) for path, reason in rows]

    def as_of(self) -> int:
        """Return the number of the newest crop: all up to it have arrived; 0 of an empty gallery."""
        statement = sql.SQL("SELECT {}").format(searching.newest(self.id))
        row = self.database.run(lambda c: c.execute(statement).fetchone(), atomic=False)
        return int(row[0]) if row else 0

    def newest(self, filters: Filters, as_of: int) -> int:
        """Return the number of the newest crop that passes, up to number ``as_of``; 0 where there is none."""
        parameters: dict[str, Any] = {"gallery": self.id, "as_of": as_of}
        statement = sql.SQL("SELECT coalesce(max(c.id), 0) FROM {} c WHERE c.id <= %(as_of)s AND {}").format(
            self._table, searching.where(filters, parameters)
        )
        row = self.database.run(lambda c: c.execute(statement, parameters).fetchone())
        return int(row[0]) if row else 0

    def fact(self, name: str) -> Any:
        """Read what `set_fact` wrote; None where nobody did."""
        row = self.database.run(
            lambda c: c.execute("SELECT facts -> %s FROM gallery WHERE id = %s", (name, self.id)).fetchone()
        )
        return row[0] if row else None

    def set_fact(self, name: str, value: Any) -> None:
        """Keep a JSON value with the gallery, as a calibration of its scores."""
        statement = "UPDATE gallery SET facts = facts || %s WHERE id = %s"
        self.database.run(lambda c: c.execute(statement, (Jsonb({name: value}), self.id)))

    def build_index(self, at_least: int = hnsw.INDEXED_FROM) -> timedelta | None:
        """Build the HNSW index, if there is none and the gallery has so many crops; returns the time it took."""
        name, memory = hnsw.index_name(self.id), hnsw.memory_for(self.database)
        return self.database.run(lambda c: hnsw.build(c, self._table, name, self.dim + 1, at_least, memory))

    @property
    def _mark(self) -> str:
        mark = self.fingerprint[:8]
        return mark if re.fullmatch("[0-9a-f]{8}", mark) else ""

    @property
    def _table(self) -> sql.Identifier:
        return searching.table(self.id)

    @property
    def _own(self) -> sql.Composable:
        return searching.own(self.id)

    def _is_indexed(self, connection: "psycopg.Connection") -> bool:
        self._indexed = self._indexed or hnsw.exists(connection, hnsw.index_name(self.id))
        return self._indexed

    def _rows(self, statement: sql.Composed, parameters: Any) -> list[Any]:
        return self.database.run(lambda c: c.execute(statement, parameters, binary=True).fetchall(), atomic=False)

    def _page(self, hits: Sequence[Hit], top: int, as_of: int, exact: bool) -> Page:
        more = Cursor(hits[-1].score, hits[-1].crop.id, as_of, self._mark) if len(hits) == top else None
        return Page(tuple(hits), more, exact)

    def _checked(self, vector: Array) -> Array:
        if vector.shape != (self.dim,):
            raise StoreError(f"gallery {self.name!r}: expected a vector of {self.dim} numbers, not {vector.shape}")
        return vector

    def _gone(self, number: int) -> StoreError:
        return StoreError(f"gallery {self.name!r} has no crop {number}: it was deleted, or never was")
