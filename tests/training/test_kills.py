"""A run that is killed by the system at random moments, twenty times, ends as the run that nobody killed."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from tests.training.conftest import train_on
from tests.training.together import Together, start, wait_for_step

from textreid.config import Config

if TYPE_CHECKING:
    from tests.training.conftest import Corpus

pytestmark = pytest.mark.slow

KILLS = 20
STEPS = 96


def train(config: Config, corpus: "Corpus", out: Path, resume: bool) -> None:
    pytest.MonkeyPatch().setattr("textreid.training.recipe.plot_run", lambda metrics: [])
    train_on(corpus, config, out, resume=resume)


def finish(started: Together) -> None:
    started.processes[0].join(120)
    assert started.processes[0].exitcode == 0


def test_killed_twenty_times(small_config: Callable[..., Config], corpus: "Corpus", tmp_path: Path) -> None:
    config = small_config("training.epochs=24", "training.checkpoint_every=3", "training.workers=1")

    def begin(out: Path, resume: bool = False) -> Together:
        return start(1, train, config, corpus, out, resume)

    straight, out = tmp_path / "straight", tmp_path / "run"
    finish(begin(straight))
    rng = np.random.default_rng(0)
    for number, step in enumerate(sorted(rng.choice(np.arange(4, STEPS), KILLS, replace=False).tolist())):
        started = begin(out, resume=number > 0)
        wait_for_step(out, step, started)
        (process,) = started.processes
        process.kill()  # whatever it does just now: a step, a checkpoint, the noise table
        process.join()
        assert process.exitcode == -signal.SIGKILL
    finish(begin(out, resume=True))
    for file in ("model/model.safetensors", "noise.npy", f"step-{STEPS:08}/optimizer.safetensors"):
        assert (out / file).read_bytes() == (straight / file).read_bytes(), file
