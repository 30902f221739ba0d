"""The recipe of pre-training and fine-tuning: one loop over captioned images (Tan et al. 2024, §3-4).

All randomness is a function of the seed and the step, so that a run that was stopped goes on exactly.
"""

from collections.abc import Iterator
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from textreid.config import Config
from textreid.errors import ArgumentError, RunStoppedError, check_path, check_type, in_short
from textreid.interrupt import StopRequest
from textreid.models import Model
from textreid.runlog import NOISE, NoLog, RunLog, read_records
from textreid.training.augmentation import augment_batch
from textreid.training.batch import Batch
from textreid.training.card import log_left_out, log_start, write_card
from textreid.training.dataset import TrainingSet, Validation
from textreid.training.gradcache import forward_backward
from textreid.training.masking import (
    MaskedTokens,
    caption_weights,
    mask_tokens,
    masking_probabilities,
    trusted_words,
)
from textreid.training.noise_table import NoiseTable
from textreid.training.optimizer import learning_rate, optimizer_step, warmup_steps
from textreid.training.plots import plot_run
from textreid.training.preparation import Run, cache_images, prepare, synchronize
from textreid.training.processes import processes_of_run
from textreid.training.runs import ADVICE, diagnose

_STOPPING = "stopping after this step; once more stops at once and loses what came after the last checkpoint"


def train(
    config: Config,
    data: TrainingSet,
    out: Path | str,
    *,
    validation: Validation | None = None,
    resume: bool = False,
    log: RunLog | None = None,
) -> Model:
    """Train a dual encoder and save it to ``out/model``; under torchrun, together with its other processes.

    >>> import textreid
    >>> few = ["training.epochs=1", "training.batch_size=16", "optimizer.min_warmup_steps=1"]
    >>> data = textreid.captioned_images("crops", "captions")
    >>> model = textreid.train(textreid.presets.tiny().override(few), data, "runs/first")
    >>> model.fingerprint == textreid.load_model("runs/first/model").fingerprint
    True

    Args:
        config: all settings; see `textreid.presets`.
        data: images, captions and labels.
        out: the run folder; must be new, unless ``resume``.
        validation: measured before the first step and at ends of epochs; its figures go to the log, and its name to
            the model folder and every report of the model.
        resume: continue the run in ``out`` from its newest checkpoint, with the same settings and data.
        log: where records and the console view go; ``out/metrics.jsonl`` and standard error when None.

    Returns:
        The model, as it is saved.

    Raises:
        ConfigError, DataError: the settings or the data cannot be used, or some of it is in ``validation`` too.
        ArtifactError: ``out`` exists (without ``resume``) or cannot be written.
        ResumeError: another process trains in ``out``; there is nothing to resume, or it was made with other settings
            or data.
        RunStoppedError: stopped by Ctrl-C or SIGTERM, after a checkpoint.
        ProcessError: another process of the run failed, was killed or hangs.
        TextReidError: the loss is no longer finite.
    """
    check_type("config", config, Config, "a Config, as of textreid.presets")
    check_type("data", data, TrainingSet, "a TrainingSet, as of captioned_images or annotated_people")
    check_path("out", out)
    if validation is not None and not hasattr(validation, "measure"):
        raise ArgumentError(f"validation: expected one of textreid.evaluation.splits, not {in_short(validation)}")
    config, out = config.checked(), Path(out)
    with processes_of_run(config.training.timeout) as processes, ExitStack() as stack:
        log = (log or RunLog(out)) if processes.is_first else NoLog(out)
        if validation:
            data.refuse_overlap(validation)
        name = validation.name if validation else None
        run = prepare(config, data, out, log, validation_set=name, resume=resume, processes=processes, stack=stack)
        log_start(run, log)
        cache_images(run, log)
        run = synchronize(run)
        log_left_out(run.loader.images, run.start, log)
        batches = run.loader.batches(range(run.start, run.steps), config.training.workers, run.compute.device)
        reached = run.start
        with (
            StopRequest(lambda: log.say(_STOPPING)) as stop,
            log.progress("train", run.steps, run.start),
            closing(batches),
        ):
            for reached in training_steps(run, batches, validation, log, stop):
                log.advance(reached)
        if reached < run.steps:
            raise RunStoppedError(
                f"stopped after step {reached} of {run.steps}; {run.folder} is saved, go on with --resume"
            )
        processes.on_rank0(lambda: _finish(run, log))
        # `_finish` has loaded the selected weights in the first process only, and all return one model.
        processes.broadcast_weights(run.network)
    return run.model


def training_steps(
    run: Run, batches: Iterator[Batch], validation: Validation | None, log: RunLog, stop: StopRequest | None = None
) -> Iterator[int]:
    """Train on one batch after the other; yields the number of steps that are finished, after each of them."""
    config, masking, noise = run.config, run.config.masking, run.noise
    run.network.train()
    # One iteration more than steps: the last evaluation and checkpoint take the same path as all others.
    for step in range(run.start, run.steps + 1):
        # A signal may reach one process only, but all must stop after the same step.
        stopping = run.processes.any_true(stop is not None and stop.made)
        _evaluate_and_save(run, step, validation, stopping, log)
        if stopping or step == run.steps:
            return

        batch, generator = next(batches), run.generator(step)
        if len(batch.images):  # not every image of it is unreadable
            with run.network.autocast():
                batch = augment_batch(batch, config.augmentation, config.model, generator)
            probabilities = noise.probabilities(batch)  # Eq. 3-4, of the last epoch; p everywhere in the first
            masked = _mask_or_weigh(run, batch, probabilities, generator)
            # SDM on the masked captions, Eq. 5-7; the noise of the words of the full ones, Eq. 1-2.
            losses, word_noise = forward_backward(run.ddp, batch, masked, config.losses, run.scorer)
            rate = learning_rate(step, run.steps, run.loader.sampler.steps_per_epoch, config.optimizer)
            optimizer_step(run.network, run.optimizer, rate, config.optimizer.clip_norm)
            p = masking_probabilities(word_noise, batch.is_word, masking.probability, masking.exact_mean, masking.shift)
            noise.update(batch, p.lerp(probabilities, masking.memory))  # Eq. 3-4, for the next epoch

            words = batch.is_word.sum()
            shares = {"mask_rate": masked.is_masked.sum() / words, "noise": word_noise.sum() / words}
            if masked.weights is not None:
                shares["weight"] = masked.weights.mean()
            run.meters.add(losses | shares, len(batch.images))
            if (step + 1) % config.training.log_every == 0 or step + 1 == run.steps:
                _log_means(run, step + 1, rate, log)
        yield step + 1


def _mask_or_weigh(run: Run, batch: Batch, probabilities: Tensor, generator: torch.Generator) -> MaskedTokens:
    """Hide words by their probability, or let their captions count less; and say which words are to be predicted."""
    masking, tokenizer = run.config.masking, run.model.tokenizer
    hiding = torch.zeros_like(probabilities) if masking.weigh else probabilities
    masked = mask_tokens(batch.ids, hiding, batch.is_word, generator, tokenizer.mask_id, tokenizer.vocabulary_size)
    if masking.weigh:
        return masked._replace(weights=caption_weights(probabilities, batch.is_word))
    if run.config.losses.mlm_words == "trusted":
        is_trusted = trusted_words(probabilities, masking.probability)
        return masked._replace(is_predicted=masked.is_masked & is_trusted)
    return masked


def _evaluate_and_save(run: Run, step: int, validation: Validation | None, stopping: bool, log: RunLog) -> None:
    """Do between two steps what is due: validate, note the end of an epoch, write a checkpoint; the others wait."""
    training, per_epoch = run.config.training, run.loader.sampler.steps_per_epoch
    last, began = step == run.steps, step > run.start
    # A run that goes on has validated at this step already, before it wrote the checkpoint.
    validating = (began or not run.resumed) and (last or step % (per_epoch * training.validate_every) == 0)
    saving = began and (last or stopping or step % training.checkpoint_every == 0)
    ending = began and step % per_epoch == 0
    if validating or saving or ending:
        due = validation if validating else None
        run.processes.on_rank0(partial(_evaluate_and_save_alone, run, step, due, ending, saving, log))


def _evaluate_and_save_alone(
    run: Run, step: int, validation: Validation | None, ending: bool, saving: bool, log: RunLog
) -> None:
    """Validate, note what ends with an epoch, write a checkpoint where it is time or the model is the best so far."""
    # Before the checkpoint: the selection says which of the old ones must stay.
    best = _validate(run, validation, step, log) if validation else False
    log_left_out(run.loader.images, step, log)
    if ending:
        _end_epoch(run, step, log)
    if saving or best:
        run.save(step)


def _validate(run: Run, validation: Validation, step: int, log: RunLog) -> bool:
    """Measure, record and show; returns whether this is the model to keep so far."""
    figures = dict(validation.measure(run.model))
    epoch = step / run.loader.sampler.steps_per_epoch
    log.record("validation", step, epoch=epoch, validation_set=run.selection.validation_set, **figures)
    log.say(f"epoch {epoch:g}: " + "  ".join(f"{name} {value:.4g}" for name, value in figures.items()))
    run.meters.restart_clock()
    return run.selection.offer(step, epoch, figures)


def _end_epoch(run: Run, step: int, log: RunLog) -> None:
    """Record how the noise of words is spread; once the warm-up is over, say if nothing has been learned so far."""
    per_epoch = run.loader.sampler.steps_per_epoch
    epoch = step / per_epoch
    if isinstance(run.noise, NoiseTable):
        log.record(NOISE, step, epoch=epoch, counts=run.noise.histogram(run.loader.captions.lengths).tolist())
    if warmup_steps(run.config.optimizer, per_epoch) < step < run.steps and (wrong := diagnose(read_records(log.path))):
        log.say(f"epoch {epoch:g}: {wrong}, so far")


def _log_means(run: Run, step: int, rate: float, log: RunLog) -> None:
    # Here and not at every step, because to read the figures is to wait for the device.
    run.meters.check(step)
    means = run.meters.take()
    epoch = step / run.loader.sampler.steps_per_epoch
    log.record("train", step, epoch=epoch, learning_rate=rate, **means)
    log.note(
        f"epoch {epoch:.1f}  loss {means['loss']:.4f}  masked {means['mask_rate']:.3f}  "
        f"{means['images_per_second']:.0f} images/s"
    )


def _finish(run: Run, log: RunLog) -> None:
    run.keep_selected()
    # After `keep_selected`, which puts the weights of the selected step into the network.
    run.model.save(run.folder / "model", write_card(run, log.path), replace=True)
    plot_run(log.path)
    if run.selection.seen:
        log.say(f"{run.selection.describe()}; selected on {run.model.selected_on}")
    if left_out := len(run.loader.images.quarantined):
        log.say(f"left out: {left_out:,} of {len(run.loader.images.names):,} images, named in {log.path}")
    log.say(f"model: {run.folder / 'model'}")
    if wrong := diagnose(read_records(log.path)):
        log.say(f"{wrong}; {ADVICE}")
