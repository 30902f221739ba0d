"""What every test gets: a cache of its own, hypothesis without a clock, and a GPU where it needs one."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from tests.commands import Done, Run

if TYPE_CHECKING:
    from tests.models.reference_efficientnet import Reference

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # before a test imports onnxruntime itself
settings.register_profile("textreid", deadline=None, max_examples=50, derandomize=True)
settings.load_profile("textreid")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the cache or the galleries of whoever runs it."""
    monkeypatch.setenv("TEXTREID_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TEXTREID_DATA", str(tmp_path / "data"))
    monkeypatch.delenv("TEXTREID_DATABASE", raising=False)


@pytest.fixture
def textreid(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """A function that runs the command line in this process, which has loaded torch."""
    from textreid.cli import main

    def run(*arguments: object) -> Done:
        monkeypatch.setattr("sys.argv", ["textreid", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            main()
        return Done(int(caught.value.code or 0), *capsys.readouterr())

    return run


@pytest.fixture
def ok(textreid: Run) -> Run:
    """The same of a command that has to succeed."""

    def run(*arguments: object) -> Done:
        done = textreid(*arguments)
        assert done.returncode == 0, done.stderr
        return done

    return run


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that have slow tests: a long one at the end would keep one worker alone with it."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs a GPU on a machine without."""
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("needs a GPU")


@pytest.fixture(scope="session")
def reference_trunk() -> "Reference":
    """EfficientNet-Lite0 with random weights."""
    import torch
    from tests.models.reference_efficientnet import Reference

    with torch.random.fork_rng():
        torch.manual_seed(4)
        return Reference().eval()


@pytest.fixture(scope="session")
def published_trunk(reference_trunk: "Reference", tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its weights, in a file of the form that is published."""
    import torch

    path = tmp_path_factory.mktemp("published") / "efficientnet-lite0-57934424.pth"
    torch.save(reference_trunk.state_dict(), path)
    return path
