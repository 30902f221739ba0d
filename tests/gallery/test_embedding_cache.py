"""The cache keeps what it is given, for its owner only, and says what is wrong when it cannot."""

import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, strategies as st

from textreid.errors import ArtifactError
from textreid.gallery.embedding_cache import (
    FILE_NAME,
    CachePlaceError,
    EmbeddingCache,
    FileStamp,
    cache_folder,
    open_cache,
    remove_cache,
)

STAMP = FileStamp(10, 20, 30)
A, B, C = (bytes([n]) * 32 for n in range(3))
VECTORS = {A: np.arange(4, dtype=np.float32), B: np.ones(4, np.float32)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "own" / "cache"


@pytest.fixture
def cache(folder: Path) -> Iterator[EmbeddingCache]:
    with EmbeddingCache(folder) as opened:
        yield opened


def test_vectors_come_back_for_their_model_and_folder(cache: EmbeddingCache) -> None:
    cache.remember_files({b"/x/a": (STAMP, A), b"/x/again": (STAMP, A), b"/y/b": (STAMP, B)})
    cache.store_vectors("m", VECTORS)
    cache.store_vectors("n", {A: np.full(4, 7, np.float32)})
    digests, vectors = cache.vectors("m", Path("/x"))
    assert digests == [A]
    np.testing.assert_array_equal(vectors, [VECTORS[A]])
    both = dict(zip(*cache.vectors("m", Path("/")), strict=True))
    assert set(both) == {A, B}
    np.testing.assert_array_equal(cache.vectors("n", Path("/"))[1], [[7, 7, 7, 7]])
    assert cache.vectors("unknown", Path("/"))[0] == []


def test_everything_survives_closing(folder: Path) -> None:
    with EmbeddingCache(folder) as cache:
        cache.remember_files({b"/x/\xff": (STAMP, A)})
        cache.store_vectors("m", VECTORS)
        cache.store_unreadable("1", {C: "empty"})
    with EmbeddingCache(folder) as cache:
        assert cache.known_files(Path("/x")) == {b"/x/\xff": (STAMP, A)}
        np.testing.assert_array_equal(cache.vectors("m", Path("/x"))[1], [VECTORS[A]])
        status = cache.status()
    assert (status.files, status.embeddings, status.models, status.unreadable) == (1, 2, 1, 1)
    assert status.path == folder / FILE_NAME
    assert status.size >= 4096


@pytest.mark.parametrize("name", [b"/x", b"/x0", b"/xy/a", b"/w/x/a", b"/X/a"])
def test_a_neighbour_is_not_in_the_folder(name: bytes, cache: EmbeddingCache) -> None:
    cache.remember_files({name: (STAMP, A), b"/x/in/deep": (STAMP, B)})
    assert set(cache.known_files(Path("/x"))) == {b"/x/in/deep"}


NAMES = st.binary(min_size=1, max_size=6).filter(
    lambda name: not {0, ord("/")} & set(name) and name not in {b".", b".."}
)


@given(st.lists(NAMES, max_size=20))
def test_the_folder_holds_exactly_the_paths_below_it(names: list[bytes]) -> None:
    with EmbeddingCache() as cache:
        paths = {b"/" + name + b"/" + name for name in names}
        cache.remember_files(dict.fromkeys(paths, (STAMP, A)))
        assert set(cache.known_files(Path("/"))) == paths
        for path in paths:
            folder = Path(os.fsdecode(path)).parent
            assert set(cache.known_files(folder)) == {path}


def test_forgetting_a_file_deletes_a_content_that_no_other_file_has(cache: EmbeddingCache) -> None:
    cache.remember_files({b"/x/a": (STAMP, A), b"/x/b": (STAMP, B), b"/y/b": (STAMP, B), b"/x/c": (STAMP, C)})
    cache.store_vectors("m", VECTORS)
    cache.store_unreadable("1", {C: "empty"})
    cache.forget_files([b"/x/a", b"/x/b", b"/x/c"])
    assert set(cache.known_files(Path("/"))) == {b"/y/b"}
    assert cache.vectors("m", Path("/"))[0] == [B]
    assert (cache.status().embeddings, cache.status().unreadable) == (1, 0)


def test_unreadable_contents_are_kept_for_one_version(cache: EmbeddingCache) -> None:
    cache.remember_files({b"/x/c": (STAMP, C)})
    cache.store_unreadable("1", {C: "empty"})
    assert cache.unreadable("1", Path("/x")) == {C: "empty"}
    assert cache.unreadable("2", Path("/x")) == {}
    assert cache.unreadable("1", Path("/y")) == {}


def test_clearing_by_age_deletes_the_bytes_too(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = np.frombuffer(b"secretfacevector", "<f4").copy()
    with EmbeddingCache(folder) as cache:
        monkeypatch.setattr("time.time", lambda: 1_000_000.0)
        cache.remember_files({b"/x/old": (STAMP, A), b"/x/new": (STAMP, B)})
        cache.store_vectors("m", {A: secret})
        monkeypatch.setattr("time.time", lambda: 1_000_000.0 + 5 * 86_400)
        cache.store_vectors("m", {B: VECTORS[B]})
        assert any(b"secretfacevector" in file.read_bytes() for file in folder.iterdir())
        assert cache.clear(older_than_days=6) == 0
        assert cache.clear(older_than_days=3) == 1
        assert set(cache.known_files(Path("/x"))) == {b"/x/new"}
        assert not any(b"secretfacevector" in file.read_bytes() for file in folder.iterdir())
        assert cache.clear(older_than_days=0) == 1
        assert cache.status().files == 0


def test_a_transaction_that_fails_stores_nothing(cache: EmbeddingCache) -> None:
    with pytest.raises(AttributeError):
        cache.store_vectors("m", {A: VECTORS[A], B: "no vector"})  # type: ignore[dict-item]
    assert cache.status().embeddings == 0
    cache.store_vectors("m", VECTORS)
    assert cache.status().embeddings == 2


def test_only_the_owner_may_read(folder: Path) -> None:
    with EmbeddingCache(folder) as cache:
        cache.store_vectors("m", VECTORS)
        files = sorted(folder.iterdir())
        assert files[0].name == FILE_NAME
        assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_two_processes_write_at_once(folder: Path) -> None:
    code = """
import sys, numpy as np
from pathlib import Path
from textreid.gallery import EmbeddingCache
with EmbeddingCache(Path(sys.argv[1])) as cache:
    for n in range(40):
        cache.store_vectors(sys.argv[2], {bytes([n]) * 32: np.ones(4, np.float32)})
"""
    commands = [[sys.executable, "-c", code, str(folder), model] for model in ("m", "n", "m")]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for command in commands]
    assert [process.communicate()[1] for process in processes] == ["", "", ""]
    with EmbeddingCache(folder) as cache:
        assert cache.status().embeddings == 80


@pytest.mark.parametrize("content", [b"not a database at all" * 100, b"SQLite format 3\0" + bytes(4096)])
def test_a_damaged_file_is_named_with_the_way_out(content: bytes, folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / FILE_NAME).write_bytes(content)
    with pytest.raises(ArtifactError, match=rf"{FILE_NAME}: .*textreid cache clear"):
        EmbeddingCache(folder)
    assert remove_cache(folder) == len(content)
    with EmbeddingCache(folder) as cache:
        assert cache.status().files == 0


def test_damage_inside_is_found_when_it_is_read(folder: Path) -> None:
    with EmbeddingCache(folder) as cache:
        cache.remember_files({b"/x/%d" % n: (STAMP, bytes([n]) * 32) for n in range(200)})
        cache.store_vectors("m", {bytes([n]) * 32: np.ones(64, np.float32) for n in range(200)})
    path = folder / FILE_NAME
    content = bytearray(path.read_bytes())
    content[4096:] = os.urandom(len(content) - 4096)
    path.write_bytes(content)
    with EmbeddingCache(folder) as cache, pytest.raises(ArtifactError, match="is damaged"):
        cache.vectors("m", Path("/x"))


def test_a_foreign_database_is_left_alone(folder: Path) -> None:
    folder.mkdir(parents=True)
    database = sqlite3.connect(folder / FILE_NAME)
    database.execute("CREATE TABLE precious (value)")
    database.commit()
    database.close()
    before = (folder / FILE_NAME).read_bytes()
    with pytest.raises(ArtifactError, match="not an embedding cache of this version of textreid"):
        EmbeddingCache(folder)
    assert (folder / FILE_NAME).read_bytes() == before


def test_a_disk_that_becomes_full_leaves_the_cache_in_memory(folder: Path) -> None:
    code = """
import resource, sys, numpy as np
from pathlib import Path
from textreid.gallery import EmbeddingCache
from textreid.gallery.embedding_cache import FileStamp
cache = EmbeddingCache(Path(sys.argv[1]))
cache.remember_files({b"/x/a": (FileStamp(1, 2, 3), b"first"), b"/x/b": (FileStamp(1, 2, 3), b"second")})
cache.store_vectors("m", {b"first": np.ones(4, np.float32)})
print(cache.problem)
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
cache.store_vectors("n", {b"second": np.ones(1_000_000, np.float32)})
cache.forget_files([b"/x/nothing"])
for model in "mn":
    print(*cache.vectors(model, Path("/x"))[0])
print(cache.path, cache.problem)
"""
    command = [sys.executable, "-c", code, str(folder)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert lines[:3] == ["", "b'first'", "b'second'"]
    assert lines[3].startswith(f"None embeddings are not kept: {folder}: the embedding cache cannot be used: ")
    assert lines[3].endswith("; make room there, or set TEXTREID_CACHE to another folder")
    with EmbeddingCache(folder) as cache:
        assert (cache.status().embeddings, cache.status().files) == (1, 2)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for place in (tmp_path / "file", tmp_path / "file" / "cache"):
        with pytest.raises(CachePlaceError, match=rf"^{place}: .*(Not a directory|File exists)"):
            EmbeddingCache(place)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
@pytest.mark.parametrize(("folder_mode", "file_mode"), [(0o777, 0o444), (0o755, 0o666)])
def test_a_cache_that_cannot_be_written_is_read(
    folder: Path, folder_mode: int, file_mode: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEXTREID_CACHE", str(folder))
    with EmbeddingCache(folder) as cache:
        cache.remember_files({b"/x/a": (STAMP, A)})
        cache.store_vectors("m", VECTORS)
    for parent in folder.parents:
        if not parent.stat().st_mode & 0o001:  # only its owner may pass
            parent.chmod(0o755)
    folder.chmod(folder_mode)
    (folder / FILE_NAME).chmod(file_mode)
    os.seteuid(65534)
    try:
        assert (folder / FILE_NAME).stat().st_size > 0
        with pytest.raises(CachePlaceError, match=f"^{folder}: "):
            EmbeddingCache(folder)
        copy, problem = open_cache()
        with copy:
            assert copy.vectors("m", Path("/x"))[0] == [A]
            copy.store_vectors("m", {C: VECTORS[A]})
        assert problem.startswith(f"embeddings are not kept: {folder}: ")
    finally:
        os.seteuid(0)


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"TEXTREID_CACHE": "/own", "XDG_CACHE_HOME": "/xdg"}, "/own"),
        ({"TEXTREID_CACHE": "~/own"}, "/home/somebody/own"),
        ({"XDG_CACHE_HOME": "/xdg"}, "/xdg/textreid"),
        ({"XDG_CACHE_HOME": "relative"}, "/home/somebody/.cache/textreid"),
        ({"TEXTREID_CACHE": ""}, "/home/somebody/.cache/textreid"),
    ],
)
def test_where_the_cache_is(variables: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TEXTREID_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/somebody")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert cache_folder() == Path(expected)


@pytest.mark.parametrize("home", [None, "", "relative"])
def test_without_a_home_there_is_a_cache_in_memory_and_a_reason(
    home: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(_: int) -> None:
        raise KeyError  # what the system says of a user without an entry, as in `docker run --user 1234`

    monkeypatch.setattr("pwd.getpwuid", unknown)
    for name in ("TEXTREID_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    if home is not None:
        monkeypatch.setenv("HOME", home)
    message = "this user has no home folder; set TEXTREID_CACHE to a folder for the cache"
    with pytest.raises(ArtifactError, match=message):
        cache_folder()
    cache, problem = open_cache()
    with cache:
        assert (cache.path, problem) == (None, f"embeddings are not kept: {message}")
    if home is None:
        monkeypatch.setenv("TEXTREID_CACHE", "~/own")
        with pytest.raises(ArtifactError, match=message):
            cache_folder()


def test_a_cache_of_the_first_version_is_kept_without_what_it_computed(folder: Path) -> None:
    with EmbeddingCache(folder) as cache:
        cache.remember_files({b"/x/a": (STAMP, A), b"/x/c": (STAMP, C)})
        cache.store_vectors("m", VECTORS)
        cache.store_unreadable("1", {C: "empty"})
    database = sqlite3.connect(folder / FILE_NAME)
    database.execute("PRAGMA user_version = 1")
    database.close()
    for _ in range(2):
        with EmbeddingCache(folder) as cache:
            assert len(cache.known_files(Path("/x"))) == 2
            assert (cache.status().embeddings, cache.status().unreadable) == (0, 0)
