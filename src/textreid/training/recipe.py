"""Pre-training as the paper describes it: one loop over captioned images (Tan et al. 2024, §3-4).

All randomness is a function of the seed and the step, so that a run that was stopped goes on exactly.
"""

import math
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from textreid.config import Config, LossConfig, OptimizerConfig
from textreid.datasets.transforms import augment
from textreid.models import DualEncoder, Encoded, Model
from textreid.runlog import RunLog
from textreid.training.card import write_card
from textreid.training.data import Batch, batches
from textreid.training.interrupt import RunStoppedError, StopRequest
from textreid.training.losses import itc, sdm
from textreid.training.masking import mask_tokens, masking_probabilities, noise_levels
from textreid.training.noise_table import NoiseTable
from textreid.training.plots import plot_run
from textreid.training.preparation import Run, prepare

Evaluate = Callable[[Model], Mapping[str, float]]
_LOSSES = {"sdm": sdm, "itc": itc}
_DRAWS = 2  # stream of random numbers, apart from those of the sampler


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
    """Train a dual encoder on captioned images and save it to ``out/model``.

    Args:
        config: all settings; see `textreid.presets`.
        images: root of the image paths in the caption table.
        captions: folder of a caption table.
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
        TextReidError: the loss is no longer finite.
    """
    log = log or RunLog(out)
    run = prepare(config, images, captions, out, resume, log)
    with StopRequest(log.say) as stop, log.progress("pretrain", run.steps, run.start):
        reached = _train(run, evaluate, log, stop)
    if reached < run.steps:
        raise RunStoppedError(f"stopped after step {reached} of {run.steps}; {out} is saved, go on with --resume")
    run.model.selected_on = "nothing: the last step" + (f"; watched: {watched}" if watched else "")
    card = write_card(run.config, log.path, run.images.quarantined, run.model.selected_on)
    run.model.save(out / "model", card, replace=True)
    plot_run(log.path)
    log.say(f"model: {out / 'model'}")
    return run.model


def _train(run: Run, evaluate: Evaluate | None, log: RunLog, stop: StopRequest) -> int:
    """Run the loop; returns the number of steps that are finished."""
    config, training, per_epoch = run.config, run.config.training, run.sampler.steps_per_epoch
    run.model.encoder.train()
    with closing(batches(run.sampler, run.images, run.captions, run.start, run.steps, training.workers)) as data:
        # One iteration more than steps: the last evaluation and checkpoint take the same path as all others.
        for step in range(run.start, run.steps + 1):
            last = step == run.steps
            fresh = step > run.start or not run.resumed
            if evaluate and fresh and (last or step % (per_epoch * training.validate_every) == 0):
                _validate(run, evaluate, step, log)
            if step > run.start and (last or stop.made or step % training.checkpoint_every == 0):
                run.save(step)
            if last or stop.made:
                break

            batch = next(data)
            if not len(batch.pixels):
                continue  # every image of this batch is unreadable
            rate = learning_rate(step, run.steps, per_epoch, config.optimizer)
            run.totals.add(len(batch.pixels), take_step(run, step, batch, rate))
            if (step + 1) % training.log_every == 0 or step + 1 == run.steps:
                _log(run, step + 1, rate, log)
            log.advance(step + 1)
    return step


def take_step(run: Run, step: int, batch: Batch, rate: float) -> dict[str, Tensor]:
    """Train on one batch; returns its losses, the share of words masked and, under NAM, their mean noise."""
    config, encoder, tokenizer, compute = run.config, run.model.encoder, run.model.tokenizer, run.compute
    draws = _generator(config.training.seed, step, compute.device)
    pixels, ids, lengths, labels, owners = _to_device(batch, compute.device)
    words = _word_mask(ids, lengths)

    pixels = augment(pixels, config.augmentation, draws, config.model.pixel_mean, config.model.pixel_std)
    p = _probabilities(run, batch, ids)
    masked = mask_tokens(ids, p, words, draws, tokenizer.mask_id, tokenizer.vocabulary_size)
    with compute.autocast():
        encoded = encoder(pixels, masked.ids, lengths, config.masking.layer)
    loss, figures = _loss(encoded, labels, labels[owners], config.losses)
    torch.autograd.backward(loss)
    if run.noise:  # with the weights of the image pass, so before they change
        figures["noise"] = _renew_noise(run, run.noise, batch, ids, lengths, words, encoded.patch_tokens[owners])
    _update(encoder, run.optimizer, rate, config.optimizer.clip_norm)
    return figures | {"mask_rate": masked.chosen.sum() / words.sum()}


def learning_rate(step: int, steps: int, steps_per_epoch: int, config: OptimizerConfig) -> float:
    """Rate of step ``step`` (from 0) of ``steps``: linear warm-up, then half a cosine down to the final rate."""
    warmup = round(config.warmup_epochs * steps_per_epoch)
    if step < warmup:
        return config.warmup_start + (config.learning_rate - config.warmup_start) * (step + 1) / warmup
    share = (step - warmup) / max(1, steps - warmup)
    span = config.learning_rate - config.final_learning_rate
    return config.final_learning_rate + span * (1 + math.cos(math.pi * share)) / 2


def _loss(
    encoded: Encoded, labels: Tensor, text_labels: Tensor, config: LossConfig
) -> tuple[Tensor, dict[str, Tensor]]:
    """The weighted sum of the losses, and each by name; one whose weight is 0 is not computed."""
    images, texts = encoded.image_features, encoded.text_features
    weights = {name: weight for name in _LOSSES if (weight := getattr(config, name))}
    parts = {name: _LOSSES[name](images, texts, labels, config.temperature, text_labels) for name in weights}
    total = torch.stack([weights[name] * parts[name] for name in weights]).sum()
    return total, {"loss": total, **parts}


@torch.no_grad()
def _renew_noise(
    run: Run, table: NoiseTable, batch: Batch, ids: Tensor, lengths: Tensor, words: Tensor, patches: Tensor
) -> Tensor:
    """Score the words of the full captions and set their probabilities for the next epoch; returns the mean noise."""
    masking = run.config.masking
    with run.compute.autocast():
        tokens = run.model.encoder.text_tokens(ids, lengths, masking.layer)
    noise = noise_levels(tokens, patches, words)
    p = masking_probabilities(noise, words, masking.probability, masking.exact_mean)
    table.write(batch.pairs, p.cpu().numpy())
    return noise.sum() / words.sum()


def _update(encoder: DualEncoder, optimizer: torch.optim.Optimizer, rate: float, clip_norm: float) -> None:
    if clip_norm:
        torch.nn.utils.clip_grad_norm_(encoder.parameters(), clip_norm)
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def _probabilities(run: Run, batch: Batch, ids: Tensor) -> Tensor:
    """Masking probabilities (T, L) of this step's captions."""
    if run.noise:
        return torch.from_numpy(run.noise.read(batch.pairs, ids.shape[1])).to(ids.device)
    masking = run.config.masking
    return torch.full(ids.shape, masking.probability if masking.method == "em" else 0.0, device=ids.device)


def _word_mask(ids: Tensor, lengths: Tensor) -> Tensor:
    """True between the start and the end token of each row (T, L)."""
    positions = torch.arange(ids.shape[1], device=ids.device)
    return (positions > 0) & (positions < lengths[:, None] - 1)


def _to_device(batch: Batch, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    arrays = (batch.pixels, batch.ids, batch.lengths, batch.labels, batch.owners)
    pixels, ids, lengths, labels, owners = (torch.from_numpy(array).to(device) for array in arrays)
    return pixels, ids, lengths, labels, owners


def _generator(seed: int, step: int, device: torch.device) -> torch.Generator:
    state = np.random.SeedSequence((seed, step, _DRAWS)).generate_state(1, np.uint64)
    return torch.Generator(device).manual_seed(int(state[0]))


def _validate(run: Run, evaluate: Evaluate, step: int, log: RunLog) -> None:
    figures = dict(evaluate(run.model))
    epoch = step / run.sampler.steps_per_epoch
    log.record("validation", step, epoch=epoch, **figures)
    log.say(f"epoch {epoch:g}: " + "  ".join(f"{name} {value:.4g}" for name, value in figures.items()))
    run.totals.restart_clock()


def _log(run: Run, step: int, rate: float, log: RunLog) -> None:
    run.totals.check(step)
    means = run.totals.take()
    epoch = step / run.sampler.steps_per_epoch
    log.record("train", step, epoch=epoch, learning_rate=rate, **means)
    log.note(
        f"epoch {epoch:.1f}  loss {means['loss']:.4f}  masked {means['mask_rate']:.3f}  "
        f"{means['images_per_second']:.0f} images/s"
    )
