"""The one command for a GPU, on tiny shapes here, so that it runs on the day a GPU is at hand."""

import json
import subprocess
from pathlib import Path

import pytest
import torch

CHECK = Path(__file__).parents[1] / "scripts" / "gpu-check"


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([CHECK, *arguments], capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_it_measures_tiny_shapes(tmp_path: Path) -> None:
    done = run("--tiny", "--json", tmp_path / "figures.json")
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["machine"]["torch"] == torch.__version__
    assert figures["machine"]["lacking"] == "nothing"
    assert figures["parts"].keys() >= {"tests", "train_step", "embedding", "nam_overhead"}
    assert set(figures["parts"]["train_step"]["step"]) == {"release", "pairs", "four"}
    parts = [line.split()[0] for line in done.stdout.splitlines()[1:-1]]
    assert set(parts) == set(figures["parts"]) | ({"train_step"} if torch.cuda.is_available() else set())
    assert parts.count("train_step") == 3
    assert parts.count("embedding") == 3


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_what_can_be_done() -> None:
    done = run()
    assert done.returncode == 1
    assert done.stderr == "gpu-check: torch sees no GPU here; --tiny runs the check itself on tiny shapes\n"


def test_a_folder_without_wheels_is_told(tmp_path: Path) -> None:
    done = run("--wheels", tmp_path)
    assert done.returncode == 1
    assert done.stderr == f"gpu-check: {tmp_path}: not a folder with wheels\n"
