"""What every test gets: a cache of its own, hypothesis without a clock, and a GPU where it needs one."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

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
