"""Which commit a model card names."""

import importlib.util
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from textreid import version

COMMIT = re.compile(r"[0-9a-f]{40}")
Git = Callable[..., str]


def commit_of(checkout: Path) -> str | None:
    """What the module answers when it lies in another checkout."""
    spec = importlib.util.spec_from_file_location("version_elsewhere", checkout / "src" / "textreid" / "version.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    answer = module.source_commit()
    assert answer is None or isinstance(answer, str)
    return answer


def git(checkout: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    command = ["git", "-C", str(checkout), *identity, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "checkout"
    (folder / "src" / "textreid").mkdir(parents=True)
    shutil.copy(version.__file__, folder / "src" / "textreid")
    (folder / "pyproject.toml").write_text("")
    git(folder, "init", "--quiet")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "-m", "first")
    return folder


def test_the_commit_of_a_checkout(checkout: Path) -> None:
    assert commit_of(checkout) == git(checkout, "rev-parse", "HEAD")


def test_after_its_references_were_packed(checkout: Path) -> None:
    git(checkout, "gc", "--quiet")
    assert (checkout / ".git" / "packed-refs").is_file()
    assert commit_of(checkout) == git(checkout, "rev-parse", "HEAD")


def test_in_a_worktree(checkout: Path, tmp_path: Path) -> None:
    git(checkout, "worktree", "add", "--quiet", str(tmp_path / "second"), "-b", "second")
    (tmp_path / "second" / "pyproject.toml").write_text("# other")
    git(tmp_path / "second", "commit", "--quiet", "-a", "-m", "second")
    assert commit_of(tmp_path / "second") == git(tmp_path / "second", "rev-parse", "HEAD") != commit_of(checkout)


def test_on_no_branch_and_with_a_tag(checkout: Path) -> None:
    git(checkout, "tag", "-a", "v1", "-m", "v1")
    git(checkout, "checkout", "--quiet", "--detach")
    assert commit_of(checkout) == git(checkout, "rev-parse", "HEAD")


def test_a_changed_file_is_told(checkout: Path) -> None:
    (checkout / "pyproject.toml").write_text("# changed")
    assert commit_of(checkout) == git(checkout, "rev-parse", "HEAD") + "-dirty"


def test_without_git_or_without_a_commit(checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as no_git:
        no_git.setenv("PATH", str(tmp_path))
        assert commit_of(checkout) is None
    shutil.rmtree(checkout / ".git")
    assert commit_of(checkout) is None


def test_of_this_package() -> None:
    answer = version.source_commit()
    assert answer is None or COMMIT.fullmatch(answer.removesuffix("-dirty"))
