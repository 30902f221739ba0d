"""The one recipe, of pre-training and fine-tuning: a loop over captioned images (Tan et al. 2024, §3-4).

All randomness is a function of the seed and the step, so that a run that was stopped goes on exactly.
"""

from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from textreid.config import Config, LossConfig
from textreid.datasets.records import Benchmark
from textreid.datasets.transforms import augment
from textreid.errors import RunStoppedError
from textreid.models import Model
from textreid.runlog import RunLog, read_records
from textreid.training.card import write_card
from textreid.training.data import Batch, batches
from textreid.training.epoch_end import end_epoch
from textreid.training.interrupt import StopRequest
from textreid.training.losses import cmpm, identity, itc, masked_words, sdm
from textreid.training.masking import mask_tokens, masking_probabilities, noise_levels
from textreid.training.network import Outputs
from textreid.training.noise_table import NoiseTable
from textreid.training.optimizer import learning_rate, update
from textreid.training.plots import plot_run
from textreid.training.preparation import Run, prepare
from textreid.training.training_set import TrainingSet, annotated_people, captioned_images
from textreid.training.verdict import REMEDY, complaint

Evaluate = Callable[[Model], Mapping[str, float]]
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
    """Train a dual encoder and save it to ``out/model``.

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
        TextReidError: the loss is no longer finite.
    """
    log = log or RunLog(out)
    run = prepare(config, data, out, resume, log, (watched or "a validation set") if evaluate else None)
    with StopRequest(log.say) as stop, log.progress("train", run.steps, run.start):
        reached = _train(run, evaluate, log, stop)
    if reached < run.steps:
        raise RunStoppedError(f"stopped after step {reached} of {run.steps}; {out} is saved, go on with --resume")
    run.keep_selected()
    run.model.save(out / "model", write_card(run, log.path), replace=True)
    plot_run(log.path)
    if run.selection.seen:
        log.say(f"{run.selection.describe()}; selected on {run.model.selected_on}")
    log.say(f"model: {out / 'model'}")
    if wrong := complaint(read_records(log.path)):
        log.say(f"{wrong}; {REMEDY}")
    return run.model


def _train(run: Run, evaluate: Evaluate | None, log: RunLog, stop: StopRequest) -> int:
    """Run the loop; returns the number of steps that are finished."""
    config, training, per_epoch = run.config, run.config.training, run.sampler.steps_per_epoch
    run.network.train()
    with closing(batches(run.sampler, run.images, run.captions, run.start, run.steps, training.workers)) as data:
        # One iteration more than steps: the last evaluation and checkpoint take the same path as all others.
        for step in range(run.start, run.steps + 1):
            last = step == run.steps
            fresh = step > run.start or not run.resumed
            best = False
            if evaluate and fresh and (last or step % (per_epoch * training.validate_every) == 0):
                best = _validate(run, evaluate, step, log)
            if step > run.start and step % per_epoch == 0:
                end_epoch(run, step, log)
            if step > run.start and (last or stop.made or best or step % training.checkpoint_every == 0):
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
    config, tokenizer, compute = run.config, run.model.tokenizer, run.compute
    draws = _generator(config.training.seed, step, compute.device)
    pixels, ids, lengths, images, owners = _to_device(batch, compute.device)
    words = _word_mask(ids, lengths)

    pixels = augment(pixels, config.augmentation, draws, config.model.pixel_mean, config.model.pixel_std)
    p = _probabilities(run, batch, ids)
    masked = mask_tokens(ids, p, words, draws, tokenizer.mask_id, tokenizer.vocabulary_size)
    with compute.autocast():
        outputs = run.network(pixels, masked.ids, lengths, owners, masked.chosen, config.masking.layer)
    loss, figures = _loss(outputs, run.labels[images], owners, ids[masked.chosen], config.losses)
    torch.autograd.backward(loss)
    if run.noise:  # with the weights of the image pass, so before they change
        figures["noise"] = _renew_noise(run, run.noise, batch, ids, lengths, words, outputs.patch_tokens[owners])
    update(run.network, run.optimizer, rate, config.optimizer.clip_norm)
    return figures | {"mask_rate": masked.chosen.sum() / words.sum()}


def _loss(
    outputs: Outputs, labels: Tensor, owners: Tensor, hidden: Tensor, config: LossConfig
) -> tuple[Tensor, dict[str, Tensor]]:
    """The weighted sum of the losses, and each by name; one whose weight is 0 is not computed."""
    images, texts, of_texts = outputs.image_features, outputs.text_features, labels[owners]
    losses = {
        "sdm": lambda: sdm(images, texts, labels, config.temperature, of_texts),
        "itc": lambda: itc(images, texts, labels, config.temperature, of_texts),
        "cmpm": lambda: cmpm(images, texts, labels, of_texts),
        "id": lambda: identity(outputs.image_identities, outputs.text_identities, labels, of_texts),
        "mlm": lambda: masked_words(outputs.words, hidden),
    }
    weights = config.weights()
    parts = {name: losses[name]() for name in weights}
    total = torch.stack([weight * parts[name] for name, weight in weights.items()]).sum()
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
    arrays = (batch.pixels, batch.ids, batch.lengths, batch.images, batch.owners)
    pixels, ids, lengths, images, owners = (torch.from_numpy(array).to(device) for array in arrays)
    return pixels, ids, lengths, images, owners


def _generator(seed: int, step: int, device: torch.device) -> torch.Generator:
    state = np.random.SeedSequence((seed, step, _DRAWS)).generate_state(1, np.uint64)
    return torch.Generator(device).manual_seed(int(state[0]))


def _validate(run: Run, evaluate: Evaluate, step: int, log: RunLog) -> bool:
    """Measure, record and show; returns whether this is the model to keep so far."""
    figures = dict(evaluate(run.model))
    epoch = step / run.sampler.steps_per_epoch
    log.record("validation", step, epoch=epoch, **figures)
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
