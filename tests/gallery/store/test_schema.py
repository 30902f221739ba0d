"""The tables move from every earlier version to this one, with what is in them; a newer one is left alone."""

from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql

from textreid.gallery.store import Database, StoreError
from textreid.gallery.store.schema import SCHEMA, migrate, migrations

# What a textreid of that version wrote: a gallery with one crop, in two dimensions. One entry a migration.
FIRST = (
    "INSERT INTO gallery (name, model, fingerprint, dim) VALUES ('old', 'small', 'abc', 2);"
    "INSERT INTO source (gallery_id, uri) VALUES (1, '/crops');"
    "INSERT INTO file (gallery_id, source_id, path, size, mtime_ns, ctime_ns, digest, facts, version, position, "
    "finished) VALUES (1, 1, '/crops/a.png', 1, 2, 3, '\\x01', '{\"camera\": \"gate\"}', '0', 0, true);"
    "CREATE TABLE crop_1 PARTITION OF crop FOR VALUES IN (1);"
    "CREATE TABLE image_1 PARTITION OF image FOR VALUES IN (1);"
    "INSERT INTO crop (gallery_id, id, file_id, camera, tags, digest, embedding) "
    "VALUES (1, nextval('crop_id'), 1, 'gate', '{}', '\\x01', '[0.6, 0.8, 0]');"
)
WRITTEN_BY = dict.fromkeys(range(1, 8), FIRST)  # of 3 alone galleries know


@pytest.fixture
def empty(database: Database) -> Iterator[str]:
    """The address of a database of its own, in which nothing is yet."""
    assert database.embedded is not None
    server = database.embedded.conninfo
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute("CREATE DATABASE empty")
    yield server.replace("dbname=postgres", "dbname=empty")
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute("DROP DATABASE empty WITH (FORCE)")


def connect(url: str) -> psycopg.Connection:
    return psycopg.connect(url, autocommit=True, options=f"-c search_path={SCHEMA},public")


@pytest.mark.parametrize("version", [0, *WRITTEN_BY])
def test_what_an_earlier_version_wrote_is_read_by_this_one(empty: str, version: int) -> None:
    with connect(empty) as connection:
        if version:
            assert len(migrate(connection, "old", until=version)) == version
            connection.execute(sql.SQL(WRITTEN_BY[version]))
        taken = migrate(connection, "old")
        assert len(taken) == len(migrations()) - version
        assert migrate(connection, "old") == []
    with Database(empty) as opened:
        if version:
            (info,) = opened.galleries()
            store = opened.store(info.name)
            (number,) = store.all_scores(store.vectors([store.as_of()]))[0]
            assert store.crop(number).camera == "gate"
            assert store.known_files(["/crops/a.png"])["/crops/a.png"].facts.camera == "gate"
        else:
            assert opened.galleries() == []


def test_every_version_has_been_written_by() -> None:
    assert [number for number, _, _ in migrations()] == list(WRITTEN_BY)


def test_galleries_of_a_newer_version_are_left_alone(empty: str) -> None:
    with connect(empty) as connection:
        migrate(connection, "old")
        connection.execute("INSERT INTO migration (number, name) VALUES (999, 'x')")
    with pytest.raises(StoreError, match="format 999, of a newer textreid"):
        Database(empty)


def test_a_server_without_its_galleries_schema_rights_says_so(empty: str) -> None:
    with connect(empty) as connection:
        connection.execute("CREATE ROLE guest LOGIN")
    try:
        with pytest.raises(StoreError, match="CREATE EXTENSION vector"):
            Database(empty.replace("user=textreid", "user=guest"))
    finally:
        with connect(empty) as connection:
            connection.execute("DROP ROLE guest")
