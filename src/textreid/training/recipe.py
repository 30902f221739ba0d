"""The one recipe, of pre-training and fine-tuning: a loop over captioned images (Tan et al. 2024, §3-4).

All randomness is a function of the seed and the step, so that a run that was stopped goes on exactly.
"""

from collections.abc import Callable, Mapping
from contextlib import closing
from functools import partial
from pathlib import Path

from textreid.config import Config
from textreid.datasets.records import Benchmark
from textreid.errors import RunStoppedError
from textreid.interrupt import StopRequest
from textreid.models import Model
from textreid.runlog import NoLog, RunLog, read_records
from textreid.training.card import write_card
from textreid.training.dataset import TrainingSet, annotated_people, captioned_images
from textreid.training.diagnosis import REMEDY, complaint
from textreid.training.epoch_end import end_epoch
from textreid.training.gradcache import take_step
from textreid.training.loader import batches
from textreid.training.optimizer import learning_rate
from textreid.training.plots import plot_run
from textreid.training.preparation import Run, prepare
from textreid.training.processes import processes_of_run

_STOPPING = "stopping after this step; once more stops at once and loses what came after the last checkpoint"
Evaluate = Callable[[Model], Mapping[str, float]]


def pretrain(
    config: Config,
    images: Path,
    captions: Path,
    out: Path,
    resume: bool = False,
    evaluate: Evaluate | None = None,
    watched: str | None = None,
    log: RunLog | None = None,
) -> Model:
    """`train` on the images below ``images`` with the captions of the caption table ``captions``."""
    return train(config, captioned_images(images, captions), out, resume, evaluate, watched, log)


def finetune(
    config: Config,
    people: Benchmark,
    out: Path,
    resume: bool = False,
    evaluate: Evaluate | None = None,
    watched: str | None = None,
    log: RunLog | None = None,
) -> Model:
    """`train` on the annotated images ``people``, the training split of a benchmark."""
    return train(config, annotated_people(people), out, resume, evaluate, watched, log)


def train(
    config: Config,
    data: TrainingSet,
    out: Path,
    resume: bool = False,
    evaluate: Evaluate | None = None,
    watched: str | None = None,
    log: RunLog | None = None,
) -> Model:
    """Train a dual encoder and save it to ``out/model``; under torchrun, together with its other processes.

    Args:
        config: all settings; see `textreid.presets`.
        data: images, captions and labels.
        out: the run folder; must be new, unless ``resume``.
        resume: continue the run in ``out`` from its newest checkpoint, with the same settings and data.
        evaluate: measures the model before the first step and at ends of epochs; its figures go to the log.
        watched: the data that ``evaluate`` measures on, in words; the model folder and every report of it say so.
        log: where records and the console view go; ``out/metrics.jsonl`` and standard error when None.

    Raises:
        ConfigError, DataError: the settings or the data cannot be used.
        ArtifactError: ``out`` exists (without ``resume``) or cannot be written.
        ResumeError: there is nothing to resume, or it was made with other settings or data.
        RunStoppedError: stopped by Ctrl-C or SIGTERM, after a checkpoint.
        ProcessError: another process of the run failed, was killed or hangs.
        TextReidError: the loss is no longer finite.
    """
    config = config.checked()
    with processes_of_run(config.training.timeout) as processes:
        log = (log or RunLog(out)) if processes.is_first else NoLog(out)
        run = prepare(config, data, out, resume, log, processes, (watched or "a validation set") if evaluate else None)
        with StopRequest(lambda: log.say(_STOPPING)) as stop, log.progress("train", run.steps, run.start):
            reached = _train(run, evaluate, log, stop)
        if reached < run.steps:
            raise RunStoppedError(f"stopped after step {reached} of {run.steps}; {out} is saved, go on with --resume")
        processes.from_first(lambda: _finish(run, out, log))
        processes.copy_weights(run.network)
    return run.model


def _finish(run: Run, out: Path, log: RunLog) -> None:
    run.keep_selected()
    run.model.save(out / "model", write_card(run, log.path), replace=True)
    plot_run(log.path)
    if run.selection.seen:
        log.say(f"{run.selection.describe()}; selected on {run.model.selected_on}")
    log.say(f"model: {out / 'model'}")
    if wrong := complaint(read_records(log.path)):
        log.say(f"{wrong}; {REMEDY}")


def _train(run: Run, evaluate: Evaluate | None, log: RunLog, stop: StopRequest) -> int:
    """Run the loop; returns the number of steps that are finished."""
    config, training, per_epoch = run.config, run.config.training, run.sampler.steps_per_epoch
    run.network.train()
    steps = range(run.start, run.steps)
    with closing(batches(run.sampler, run.images, run.captions, steps, training.workers, run.processes)) as data:
        # One iteration more than steps: the last evaluation and checkpoint take the same path as all others.
        for step in range(run.start, run.steps + 1):
            last, stopping = step == run.steps, run.processes.in_any(stop.made)
            fresh = step > run.start or not run.resumed
            validating = fresh and (last or step % (per_epoch * training.validate_every) == 0)
            saving = step > run.start and (last or stopping or step % training.checkpoint_every == 0)
            ending = step > run.start and step % per_epoch == 0
            if validating or saving or ending:
                measure = evaluate if validating else None
                run.processes.from_first(partial(_keep, run, step, measure, ending, saving, log))
            if last or stopping:
                break

            batch = next(data)
            if not len(batch.images):
                continue  # every image of this batch is unreadable
            rate = learning_rate(step, run.steps, per_epoch, config.optimizer)
            run.totals.add(len(batch.images), take_step(run, step, batch, rate))
            if (step + 1) % training.log_every == 0 or step + 1 == run.steps:
                _log(run, step + 1, rate, log)
            log.advance(step + 1)
    return step


def _keep(run: Run, step: int, evaluate: Evaluate | None, ending: bool, saving: bool, log: RunLog) -> None:
    """Measure, note what ends with an epoch, write a checkpoint where it is time or the model is the best so far."""
    best = _validate(run, evaluate, step, log) if evaluate else False
    if ending:
        end_epoch(run, step, log)
    if saving or best:
        run.save(step)


def _validate(run: Run, evaluate: Evaluate, step: int, log: RunLog) -> bool:
    """Measure, record and show; returns whether this is the model to keep so far."""
    figures = dict(evaluate(run.model))
    epoch = step / run.sampler.steps_per_epoch
    log.record("validation", step, epoch=epoch, watched=run.selection.on, **figures)
    log.say(f"epoch {epoch:g}: " + "  ".join(f"{name} {value:.4g}" for name, value in figures.items()))
    run.totals.restart_clock()
    return run.selection.offer(step, epoch, figures)


def _log(run: Run, step: int, rate: float, log: RunLog) -> None:
    run.totals.check(step)
    means = run.totals.take()
    epoch = step / run.sampler.steps_per_epoch
    log.record("train", step, epoch=epoch, learning_rate=rate, **means)
    log.note(
        f"epoch {epoch:.1f}  loss {means['loss']:.4f}  masked {means['mask_rate']:.3f}  "
        f"{means['images_per_second']:.0f} images/s"
    )
