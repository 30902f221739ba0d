from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from textreid.errors import ArtifactError
from textreid.runlog import RunLog
from textreid.training.plots import plot_run


def test_draws_what_the_log_holds_and_nothing_else(tmp_path: Path) -> None:
    log = RunLog(tmp_path, console=False)
    log.record("start", 0, seed=0)
    for step in range(1, 50):
        log.record("train", step, loss=5 / step, learning_rate=0.1, mask_rate=0.15)
    drawn = plot_run(log.path)
    assert [path.name for path in drawn] == ["loss.png", "learning_rate.png", "mask_rate.png"]
    assert sorted(path.name for path in (tmp_path / "plots").iterdir()) == sorted(path.name for path in drawn)
    pictures = [np.asarray(Image.open(path).convert("RGB")) for path in drawn]
    assert [picture.shape for picture in pictures] == [(480, 840, 3)] * 3
    coloured = [int((np.ptp(picture.astype(int), axis=2) > 60).sum()) for picture in pictures]
    assert min(coloured) > 1000  # a curve is there
    assert not np.array_equal(pictures[0], pictures[1])


def test_draws_validation_with_one_curve_a_figure(tmp_path: Path) -> None:
    log = RunLog(tmp_path, console=False)
    log.record("validation", 0, epoch=0, one=0.1)
    log.record("validation", 9, epoch=1, one=0.3)
    (drawn,) = plot_run(log.path)
    assert drawn.name == "validation.png"
    alone = drawn.read_bytes()
    log.record("validation", 9, epoch=1, other=0.05)
    assert plot_run(log.path) == [drawn]
    assert drawn.read_bytes() != alone  # the other curve, and a legend


def test_says_what_it_cannot_read_or_write(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"metrics\.jsonl: cannot be read"):
        plot_run(tmp_path / "metrics.jsonl")
    RunLog(tmp_path, console=False).record("train", 1, loss=1.0)
    (tmp_path / "plots").write_text("in the way")
    with pytest.raises(ArtifactError, match=r"plots/loss\.png: cannot be written"):
        plot_run(tmp_path / "metrics.jsonl")
