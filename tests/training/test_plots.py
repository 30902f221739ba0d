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


def test_draws_each_loss_and_the_spread_of_noise(tmp_path: Path) -> None:
    log = RunLog(tmp_path, console=False)
    log.record("start", 0, uninformed_losses={"sdm": 6.0}, steps_per_epoch=10)
    for step in range(1, 20):
        log.record("train", step, loss=9 / step, sdm=4 / step, mlm=5 / step)
    alone, *_ = plot_run(log.path)
    before = alone.read_bytes()
    log.record("noise", 10, epoch=1.0, counts=[1, 9, 0, 0])
    log.record("noise", 20, epoch=2.0, counts=[4, 4, 2, 0])
    drawn = plot_run(log.path)
    assert [path.name for path in drawn] == ["loss.png", "noise.png"]
    assert drawn[0].read_bytes() == before
    columns = np.asarray(Image.open(drawn[1]).convert("L")).astype(int)
    assert columns.min() < 100  # nine tenths of the words in one bin are dark


def test_a_flat_loss_looks_flat(tmp_path: Path) -> None:
    log = RunLog(tmp_path, console=False)
    for step in range(1, 40):
        log.record("train", step, loss=10.35 + (-1) ** step * 1e-3)
    (drawn,) = plot_run(log.path)
    picture = np.asarray(Image.open(drawn).convert("RGB")).astype(int)
    rows = np.flatnonzero((np.ptp(picture, axis=2) > 60).any(axis=1))
    assert 0 < np.ptp(rows) < 20  # of 480


def test_says_what_it_cannot_read_or_write(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"metrics\.jsonl: cannot be read"):
        plot_run(tmp_path / "metrics.jsonl")
    RunLog(tmp_path, console=False).record("train", 1, loss=1.0)
    (tmp_path / "plots").write_text("in the way")
    with pytest.raises(ArtifactError, match=r"plots/loss\.png: cannot be written"):
        plot_run(tmp_path / "metrics.jsonl")
