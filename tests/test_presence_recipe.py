"""The recipe of presence.json, on few drawings: it runs on any model folder, and says what it found."""

import subprocess
import sys
from pathlib import Path

import pytest

from textreid.models import load_model
from textreid.models.presence import PRESENCE

RECIPE = Path(__file__).parents[1] / "recipes" / "presence.py"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not RECIPE.is_file(), reason="there is no checkout with recipes"),
]


def run(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(RECIPE), str(folder), "--pictures", "24", "--workers", "1"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_it_runs_on_a_model_folder(tmp_path: Path) -> None:
    bundled = load_model("tiny")
    bundled.presence = None
    bundled.save(tmp_path / "model", "# Without the file\n")
    done = run(tmp_path / "model")
    assert done.returncode == 0, done.stderr
    assert f"written: {tmp_path / 'model' / PRESENCE}" in done.stdout
    presence = load_model(tmp_path / "model").presence
    assert presence is not None
    assert presence.made["domains"] == [
        "street",
        "campus",
        "mall",
        "night",
        "plaza",
        "lobby",
    ]  # "station" is measured on
    assert (presence.made["people"], presence.made["empty"]) == (144, 216)
    assert presence.made["held_out_below_even_odds"]["place"] > 0.6
    assert presence.made["held_out_below_even_odds"]["person"] < 0.2


def test_a_folder_that_is_no_model_is_named(tmp_path: Path) -> None:
    done = run(tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith(
        f"{tmp_path}: no manifest.json: not a model folder, or its writing was interrupted"
    )
