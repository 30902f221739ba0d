"""What a run notes and says at the end of an epoch, besides its validation."""

from typing import TYPE_CHECKING

from textreid.runlog import NOISE, RunLog, read_records
from textreid.training.diagnosis import complaint
from textreid.training.optimizer import warmup_steps

if TYPE_CHECKING:
    from textreid.training.preparation import Run


def end_epoch(run: "Run", step: int, log: RunLog) -> None:
    """Record how the noise of words is spread; once the warm-up is over, say if nothing has been learned so far."""
    per_epoch = run.sampler.steps_per_epoch
    epoch = step / per_epoch
    if run.noise:
        log.record(NOISE, step, epoch=epoch, counts=run.noise.histogram(run.captions.lengths).tolist())
    if warmup_steps(run.config.optimizer, per_epoch) < step < run.steps and (
        wrong := complaint(read_records(log.path))
    ):
        log.say(f"epoch {epoch:g}: {wrong}, so far")
