"""Files and folders are whole or absent: killed writers, full disks, manifests that do not fit."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from textreid.artifacts import (
    MANIFEST,
    file_digest,
    fingerprint,
    is_locked,
    locked,
    new_file,
    new_folder,
    read_json,
    read_manifest,
    write_bytes,
    write_json,
    write_text,
)
from textreid.errors import ArtifactError, ResumeError

# A file may not grow beyond 64 KiB, and the writer is told by an error rather than killed: as on a full disk.
FULL_DISK = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))
"""


def run(code: str, *arguments: Path) -> subprocess.CompletedProcess[str]:
    prelude = "import os, sys, signal\nfrom pathlib import Path\nfrom textreid.artifacts import *\n"
    command = [sys.executable, "-c", prelude + code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_file_is_written_with_its_folders(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file.bin"
    write_bytes(path, b"one")
    write_bytes(path, b"two")
    assert path.read_bytes() == b"two"
    assert [child.name for child in path.parent.iterdir()] == ["file.bin"]


def test_a_writer_killed_before_the_rename_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    code = (
        "Path.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\nwrite_bytes(Path(sys.argv[1]), b'new' * 999)"
    )
    assert run(code, path).returncode == -signal.SIGKILL
    assert path.read_bytes() == b"old"
    write_bytes(path, b"new")
    assert path.read_bytes() == b"new"


def test_a_full_disk_is_an_error_and_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    result = run(FULL_DISK + "write_bytes(Path(sys.argv[1]), bytes(200_000))", path)
    assert result.stderr.splitlines()[-1] == f"textreid.errors.ArtifactError: {path}: cannot be written: File too large"
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_leaves_no_part_of_a_folder(tmp_path: Path) -> None:
    code = """
with new_folder(Path(sys.argv[1]), "model", 1) as folder:
    (folder / "weights").write_bytes(bytes(200_000))
"""
    result = run(FULL_DISK + code, tmp_path / "model")
    assert "ArtifactError" in result.stderr
    assert "model: cannot be written: File too large" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_way_is_an_artifact_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ArtifactError, match=r"cannot be written: (Not a directory|File exists)"):
        write_text(tmp_path / "file" / "below", "text")
    (tmp_path / "folder").mkdir()
    with pytest.raises(ArtifactError, match="folder: is no file, and would be replaced by one"):
        write_text(tmp_path / "folder", "text")
    assert sorted(child.name for child in tmp_path.iterdir()) == ["file", "folder"]


def test_json_is_read_as_written_and_refused_with_its_name(tmp_path: Path) -> None:
    path = tmp_path / "value.json"
    write_json(path, {"é": [1, 2.5, None]})
    assert read_json(path) == {"é": [1, 2.5, None]}
    path.write_text('{"a": 1,\n "b": }', encoding="utf-8")
    with pytest.raises(ArtifactError, match=r"value\.json: not valid JSON: .* line 2"):
        read_json(path)
    path.write_bytes(b'"\xff"')
    with pytest.raises(ArtifactError, match=r"value\.json: not valid JSON"):
        read_json(path)
    with pytest.raises(ArtifactError, match=r"none\.json: cannot be read: No such file"):
        read_json(tmp_path / "none.json")


def make_folder(path: Path, content: bytes = b"12345", replace: bool = False) -> None:
    with new_folder(path, "model", 3, replace=replace, fingerprint="f") as folder:
        (folder / "weights").write_bytes(content)


def test_a_folder_appears_whole_with_its_manifest(tmp_path: Path) -> None:
    path = tmp_path / "runs" / "model"
    with new_folder(path, "model", 3, fingerprint="f") as folder:
        (folder / "weights").write_bytes(b"12345")
        assert not path.exists()
        assert not (folder / MANIFEST).exists()
    assert read_manifest(path, "model", 3) == {
        "kind": "model",
        "format_version": 3,
        "fingerprint": "f",
        "files": {"weights": 5},
    }
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with new_folder(tmp_path / "model", "model", 1) as folder:
            (folder / "weights").write_bytes(b"1")
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_a_file_missing_outside_the_folder_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(ArtifactError, match=r"No such file or directory: .*/source"),
        new_folder(tmp_path / "model", "model", 1),
    ):
        (tmp_path / "source").read_bytes()


def test_a_folder_is_not_replaced_unless_asked(tmp_path: Path) -> None:
    path = tmp_path / "model"
    make_folder(path)
    with pytest.raises(ArtifactError, match="exists already"):
        make_folder(path, b"other")
    assert (path / "weights").read_bytes() == b"12345"
    make_folder(path, b"other!", replace=True)
    assert read_manifest(path, "model", 3)["files"] == {"weights": 6}
    assert list(tmp_path.iterdir()) == [path]


def test_a_replacement_that_cannot_be_put_in_place_gives_the_old_folder_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model"
    make_folder(path)
    rename = Path.rename

    def refuse_partial(self: Path, target: Path) -> Path:
        if self.suffix == ".partial":
            raise OSError(28, "No space left on device", str(self))
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse_partial)
    with pytest.raises(ArtifactError, match=r"cannot be written: No space left on device$"):
        make_folder(path, b"other", replace=True)
    assert (path / "weights").read_bytes() == b"12345"
    assert list(tmp_path.iterdir()) == [path]


def test_a_writer_killed_inside_leaves_the_old_folder(tmp_path: Path) -> None:
    path = tmp_path / "model"
    make_folder(path)
    code = """
with new_folder(Path(sys.argv[1]), "model", 3, replace=True) as folder:
    (folder / "weights").write_bytes(b"other")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert run(code, path).returncode == -signal.SIGKILL
    assert read_manifest(path, "model", 3)["files"] == {"weights": 5}


def test_a_manifest_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model"
    with pytest.raises(ArtifactError, match=r"no manifest\.json: not a model folder, or its writing was interrupted"):
        read_manifest(path, "model", 3)
    make_folder(path)
    with pytest.raises(ArtifactError, match="holds a model folder, not a checkpoint folder"):
        read_manifest(path, "checkpoint", 3)
    with pytest.raises(ArtifactError, match="model format 3; this version of textreid reads 4"):
        read_manifest(path, "model", 4)
    (path / "weights").write_bytes(b"1234")
    with pytest.raises(ArtifactError, match="weights: 4 bytes, but 5 were written: truncated or edited"):
        read_manifest(path, "model", 3)
    (path / "weights").unlink()
    with pytest.raises(ArtifactError, match="weights: missing, though the manifest lists it"):
        read_manifest(path, "model", 3)


@pytest.mark.parametrize(
    ("manifest", "reason"),
    [
        ("[]", "holds a foreign folder"),
        ("{}", "holds a foreign folder"),
        ('{"kind": "model", "format_version": 3, "files": ["weights"]}', "damaged"),
        ('{"kind": "mod', "not valid JSON"),
    ],
)
def test_a_damaged_manifest_is_refused(manifest: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_text(manifest, encoding="utf-8")
    with pytest.raises(ArtifactError, match=reason):
        read_manifest(tmp_path, "model", 3)


def test_the_digest_of_a_file_is_that_of_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"")
    assert file_digest(path) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    path.write_bytes(b"a" * 3_000_000)
    before = file_digest(path)
    os.utime(path, (0, 0))
    assert file_digest(path) == before
    path.write_bytes(b"a" * 2_999_999 + b"b")
    assert file_digest(path) != before


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda v: st.lists(v) | st.dictionaries(st.text(), v)
)


@given(st.dictionaries(st.text(), JSON))
def test_a_fingerprint_is_of_the_value_not_of_its_order(value: dict[str, object]) -> None:
    reordered = dict(reversed(value.items()))
    assert fingerprint(reordered) == fingerprint(value)
    assert fingerprint(json.loads(json.dumps(value))) == fingerprint(value)
    assert fingerprint([value]) != fingerprint(value)


def test_a_folder_has_one_worker_at_a_time(tmp_path: Path) -> None:
    assert not is_locked(tmp_path)
    with locked(tmp_path, "another process trains here"):
        assert is_locked(tmp_path)
        with (
            pytest.raises(ResumeError, match=r"another process trains here$"),
            locked(tmp_path, "another process trains here"),
        ):
            pass
        assert is_locked(tmp_path)
    assert not is_locked(tmp_path)
    assert not is_locked(tmp_path / "none")


def test_the_death_of_a_process_gives_its_lock_back(tmp_path: Path) -> None:
    code = (
        "import pathlib, sys\nfrom textreid.artifacts import locked\n"
        "with locked(pathlib.Path(sys.argv[1]), 'busy'):\n    print('ready', flush=True)\n    sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        assert is_locked(tmp_path)
        with pytest.raises(ResumeError, match="busy"), locked(tmp_path, "busy"):
            pass
        process.kill()
    with locked(tmp_path, "busy"):
        pass


def test_a_new_file_takes_its_place_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "a" / "table.parquet"
    with new_file(path) as partial:
        partial.write_bytes(b"old")
    with pytest.raises(ZeroDivisionError), new_file(path) as partial:
        partial.write_bytes(b"half" * (1 // 0))
    assert path.read_bytes() == b"old"
    assert [file.name for file in path.parent.iterdir()] == ["table.parquet"]


def test_a_device_is_never_replaced_by_a_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ArtifactError, match=r"pipe: is no file, and would be replaced by one"):
        write_text(tmp_path / "pipe", "x")
    assert (tmp_path / "pipe").is_fifo()
    with pytest.raises(ArtifactError, match=r"/dev/null: is no file"):
        write_text(Path("/dev/null"), "x")
