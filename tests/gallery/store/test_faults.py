"""Kills, a disk that fills, and many at once: no row that was acknowledged is lost, none is there in part.

TEXTREID_KILLS=50 makes as many kills of each kind as that; two are enough to notice that something broke. With -s it is
told how long the longest restart took.
"""

import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from textreid.gallery.embedding_cache import FileStamp
from textreid.gallery.store import Database, DiskFullError, NewCrop, NewFile, Store, StoreError, open_database

pytestmark = pytest.mark.slow
KILLS = int(os.environ.get("TEXTREID_KILLS", "2"))
A_BATCH = 20
STAMP = FileStamp(1, 2, 3)
# Stores batch after batch of so many crops, and says the name of each when it is acknowledged.
WRITER = """
import sys
from tests.gallery.store.test_faults import batch
from textreid.gallery.store import open_database
with open_database() as database:
    store = database.create("demo", "small", "abc", 16)
    for number in range(10**6):
        store.add("/v", [batch(f"/v/{sys.argv[1]}/{number}")])
        print(f"/v/{sys.argv[1]}/{number}", flush=True)
"""


def batch(path: str, size: int = 300) -> NewFile:
    vectors = np.eye(16, dtype=np.float32)
    crops = [NewCrop(vectors[i % 16], bytes([i]) * 32, b"x" * size, box=(0, 0, 1, 1), track=i) for i in range(A_BATCH)]
    return NewFile(path, STAMP, None, crops)


@pytest.fixture
def data(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A data folder with a server of its own, which may be killed."""
    with tempfile.TemporaryDirectory(prefix="textreid-test-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o711)
        monkeypatch.setenv("TEXTREID_DATA", name)
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in (str(Path.cwd()), *sys.path) if path))
        yield Path(name)
        with open_database() as database:
            server = database.embedded
        assert server is not None
        server.wait_stopped()


def write(name: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", WRITER, name], stdout=subprocess.PIPE, text=True)


def lines(process: subprocess.Popen[str], count: int) -> list[str]:
    assert process.stdout is not None
    found = [process.stdout.readline() for _ in range(count)]
    assert all(found), "the writer ended"
    return [line.strip() for line in found]


def crops_by_path(store: Store) -> dict[str, int]:
    rows = store.database.run(
        lambda c: c.execute(
            "SELECT f.path, count(c.id), count(i.crop_id) FROM file f LEFT JOIN crop c ON c.file_id = f.id "
            "LEFT JOIN image i ON i.crop_id = c.id GROUP BY f.path"
        ).fetchall()
    )
    assert all(crops == images for _, crops, images in rows)
    return {path: crops for path, crops, _ in rows}


def kill_server(data: Path) -> None:
    pid = int((data / "database" / "cluster" / "postmaster.pid").read_text().splitlines()[0])
    os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("victim", ["indexer", "server", "both"])
def test_a_kill_loses_nothing_that_was_acknowledged(victim: str, data: Path) -> None:
    chance = random.Random(victim)  # noqa: S311
    acknowledged: list[str] = []
    restarts = [0.0]
    for round_ in range(KILLS):
        writer = write(f"{victim}-{round_}")
        acknowledged += lines(writer, 3)
        time.sleep(chance.uniform(0, 0.3))
        if victim != "indexer":
            kill_server(data)
        if victim == "both":
            writer.kill()
        if victim != "indexer":
            began = time.monotonic()
            with open_database() as database:
                database.galleries()
            restarts.append(time.monotonic() - began)
        if victim == "server":  # the writer has noticed, and goes on
            acknowledged += lines(writer, 50)
        writer.kill()
        rest, _ = writer.communicate()
        acknowledged += rest.split("\n")[:-1]  # the last may be cut
        with open_database() as database:
            stored = crops_by_path(database.store("demo"))
            assert set(stored.values()) == {A_BATCH}
            assert set(acknowledged) <= set(stored)
            assert len(stored) <= len(acknowledged) + round_ + 1  # one each may have been stored and not told
    assert len(acknowledged) >= 3 * KILLS
    sys.stderr.write(f"{victim} killed: at most {max(restarts):.1f} s until the database answered again\n")
    assert max(restarts) < 60  # an idle machine takes one or two


def test_a_disk_that_fills_is_told_and_loses_nothing(data: Path) -> None:
    """A limit to the size of files stands for a full disk: PostgreSQL is told so at the same place."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20 << 20, 20 << 20))  # its log is written in files of 16 MB
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    fill = (
        "from tests.gallery.store.test_faults import batch\n"
        "from textreid.gallery.store import DiskFullError, open_database\n"
        "with open_database() as database:\n"
        "    store = database.create('demo', 'small', 'abc', 16)\n"
        "    try:\n"
        "        for number in range(100):\n"
        "            store.add('/v', [batch(f'/v/{number}', 100_000)]); print(f'/v/{number}', flush=True)\n"
        "    except DiskFullError as error: print(error)\n"
    )
    # Random bytes would not be stored otherwise: pictures are kept as they are.
    done = subprocess.run(
        [sys.executable, "-c", fill], preexec_fn=limit, capture_output=True, text=True, check=False
    )  # fmt: skip
    *told, error = done.stdout.splitlines()
    assert "the disk of the database is full" in error, done.stderr
    assert "the same command goes on" in error
    with open_database() as database:
        assert database.embedded is not None
        server = database.embedded
    server.wait_stopped()  # the limit was that of the process that started it
    with open_database() as database:
        store = database.store("demo")
        stored = crops_by_path(store)
        assert stored == dict.fromkeys(told, A_BATCH)
        assert len(store.add("/v", [batch("/v/more", 100_000)])) == A_BATCH
    assert issubclass(DiskFullError, StoreError)


def test_clients_search_while_crops_arrive_and_none_fails(database: Database) -> None:
    store = database.create("demo", "small", "abc", 16)
    store.add("/v", [batch("/v/0")])
    failed: list[BaseException] = []
    answers = [0] * 8
    end = threading.Event()

    def search(client: int) -> None:
        try:
            with open_database() as own:
                gallery = own.store("demo")
                while not end.is_set():
                    page = gallery.search(np.eye(16, dtype=np.float32)[client], top=5)
                    assert len(page.hits) == 5
                    assert page.hits[0].score == 1
                    answers[client] += 1
        except BaseException as error:
            failed.append(error)

    clients = [threading.Thread(target=search, args=(client,)) for client in range(8)]
    for client in clients:
        client.start()
    number = 0
    while number < 25 or (min(answers) < 5 and not failed):
        number += 1
        store.add("/v", [batch(f"/v/{number}")])
        if number == 10:
            store.build_index(at_least=1)
    end.set()
    for client in clients:
        client.join()
    assert failed == []
    assert store.counts().crops == (number + 1) * A_BATCH
