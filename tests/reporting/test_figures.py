"""Plots are drawn without a display, leave the host program's matplotlib alone, and are whole files."""

import subprocess
import sys
from pathlib import Path

import pytest

from textreid.errors import ArtifactError
from textreid.reporting.figures import COLOURS, new_figure, save_figure, style_axes, to_png

_HOST = """
import sys, matplotlib
matplotlib.use("svg")
matplotlib.rcParams["axes.grid"] = True
before = dict(matplotlib.rcParams)
from textreid.reporting.figures import new_figure, style_axes, to_png
figure = new_figure(3, 2)
axes = figure.add_subplot()
style_axes(axes)
axes.plot([1, 2])
assert to_png(figure).startswith(b"\\x89PNG")
assert matplotlib.get_backend() == "svg"
assert dict(matplotlib.rcParams) == before
assert "matplotlib.pyplot" not in sys.modules
"""


def test_the_host_programs_backend_and_defaults_stay() -> None:
    result = subprocess.run([sys.executable, "-c", _HOST], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")


def test_curves_take_the_shared_colours_in_turn() -> None:
    axes = new_figure(3, 2).add_subplot()
    style_axes(axes)
    assert [axes.plot([0, 1])[0].get_color() for _ in COLOURS] == list(COLOURS)
    assert not axes.spines["top"].get_visible()


def test_a_figure_is_saved_whole_or_named(tmp_path: Path) -> None:
    figure = new_figure(3, 2)
    save_figure(figure, tmp_path / "new" / "plot.png")
    assert (tmp_path / "new" / "plot.png").read_bytes() == to_png(figure)
    (tmp_path / "file").touch()
    with pytest.raises(ArtifactError, match=r"file/plot\.png: cannot be written"):
        save_figure(figure, tmp_path / "file" / "plot.png")
