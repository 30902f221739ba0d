"""The server that nobody administers: shared, started when needed, stopped by the last, back after a kill."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from textreid.gallery.store import StoreError, open_database
from textreid.gallery.store.server import EmbeddedServer, data_folder, reachable

pytestmark = pytest.mark.slow
# Joins the server of a folder and says so, until its standard input ends.
USER = (
    "import sys; from pathlib import Path; from textreid.gallery.store.server import EmbeddedServer\n"
    "server = EmbeddedServer(Path(sys.argv[1])); print(server.conninfo, flush=True); sys.stdin.read(); server.close()"
)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="textreid-test-") as name:
        Path(name).chmod(0o711)
        yield Path(name) / "database"


def postmaster(folder: Path) -> int:
    return int((folder / "cluster" / "postmaster.pid").read_text().splitlines()[0])


def user(folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", USER, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def test_processes_that_come_at_once_share_one_server_and_the_last_stops_it(folder: Path) -> None:
    users = [user(folder) for _ in range(3)]
    said = {process.stdout.readline() for process in users if process.stdout}
    assert len(said) == 1
    assert "host=" in said.pop()
    first = postmaster(folder)
    users[0].kill()  # the kernel takes it off the list
    users[1].communicate()
    server = EmbeddedServer(folder)
    assert postmaster(folder) == first
    users[2].communicate()
    users[0].communicate()
    assert postmaster(folder) == first
    server.close()
    server.close()  # does nothing
    server.wait_stopped()
    assert not (folder / "cluster" / "postmaster.pid").exists()


def test_a_server_that_was_killed_is_back_within_seconds(folder: Path) -> None:
    server = EmbeddedServer(folder)
    os.kill(postmaster(folder), signal.SIGKILL)
    begun = time.monotonic()
    assert server.ensure_running() == server.conninfo
    assert time.monotonic() - begun < 30  # some 1 s where nothing else runs
    server.close()
    server.wait_stopped()


@pytest.mark.parametrize(("room", "kind"), [(1 << 60, "posix"), (64 << 20, "mmap")])
def test_shared_memory_is_in_files_only_where_there_is_no_room_for_it(
    room: int, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("textreid.gallery.store.server._room", lambda folder: room)
    with tempfile.TemporaryDirectory(prefix="textreid-test-") as name:
        Path(name).chmod(0o711)
        server = EmbeddedServer(Path(name) / "database")
        try:
            with psycopg.connect(server.conninfo) as connection:
                assert connection.execute("SHOW dynamic_shared_memory_type").fetchone() == (kind,)
        finally:
            server.close()
            server.wait_stopped()


def test_nobody_else_can_reach_it(folder: Path) -> None:
    server = EmbeddedServer(folder)
    place = Path(server.conninfo.split()[0].removeprefix("host="))
    assert place.stat().st_mode & 0o077 == 0
    assert (folder / "cluster").stat().st_mode & 0o077 == 0
    assert folder.stat().st_mode & 0o066 == 0
    settings = (folder / "cluster" / "postmaster.pid").read_text().splitlines()
    assert settings[5].strip() == ""  # listens on no address
    server.close()
    server.wait_stopped()


def test_a_long_folder_name_is_no_hindrance(folder: Path) -> None:
    long = folder.parent / ("x" * 90)
    server = EmbeddedServer(long)
    assert str(long) not in server.conninfo
    server.close()
    server.wait_stopped()


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="file"):
        EmbeddedServer(tmp_path / "file" / "database")
    if os.geteuid() == 0:  # the server's user may not pass
        tmp_path.chmod(0o700)
        with pytest.raises(StoreError, match=r"cannot|denied|not access"):
            EmbeddedServer(tmp_path / "closed")


def test_a_cluster_of_an_unknown_version_is_refused(folder: Path) -> None:
    version = folder / "cluster" / "PG_VERSION"
    before = version.read_text()
    version.write_text("9\n")
    try:
        with pytest.raises(StoreError, match="written by PostgreSQL 9"):
            EmbeddedServer(folder)
    finally:
        version.write_text(before)


def test_the_data_folder_is_the_users_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert data_folder() == tmp_path / "data"
    monkeypatch.delenv("TEXTREID_DATA")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_DATA_HOME", "relative")
    monkeypatch.setenv("HOME", "/home/x")
    assert data_folder() == Path("/home/x/.local/share/textreid")
    monkeypatch.setenv("XDG_DATA_HOME", "/d")
    assert data_folder() == Path("/d/textreid")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert data_folder() == Path("/var/lib/textreid")


def test_another_server_is_named_without_its_password() -> None:
    with pytest.raises(StoreError, match=r"^postgresql://127\.0\.0\.1:9/x: the database cannot be reached") as caught:
        open_database("postgresql://me:secret@127.0.0.1:9/x")
    assert "secret" not in str(caught.value)
    with pytest.raises(StoreError, match="--database: not the address"):
        open_database("nonsense")


def test_programs_that_only_root_can_enter_are_copied_with_their_libraries(tmp_path: Path) -> None:
    closed, folder = tmp_path / "closed", tmp_path / "data"
    programs, libraries = closed / "package" / "pginstall18" / "bin", closed / "package.libs"
    programs.mkdir(parents=True)
    libraries.mkdir()
    folder.mkdir()
    (programs / "initdb").touch()
    (libraries / "libpq.so").touch()
    closed.chmod(0o700)
    copied = reachable(programs, folder)
    assert copied.is_relative_to(folder)
    assert (copied / "initdb").exists()
    assert (copied / "../../../package.libs/libpq.so").resolve().exists()
    assert reachable(programs, folder) == copied
