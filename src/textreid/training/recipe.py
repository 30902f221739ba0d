"""Pre-training as the paper describes it: one loop over captioned images (Tan et al. 2024, §3-4).

All randomness is a function of the seed and the step, so that a run that was stopped goes on exactly.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from textreid.artifacts import write_json
from textreid.config import Config, LossConfig, OptimizerConfig
from textreid.datasets.captions import CaptionTable, read_captions
from textreid.datasets.transforms import augment
from textreid.errors import ArtifactError, ResumeError, TextReidError
from textreid.models import DualEncoder, Model, Tokenizer, initialize, load_model
from textreid.runlog import RunLog
from textreid.training.card import write_card
from textreid.training.checkpoint import Checkpoint, Checkpoints, Identity
from textreid.training.data import (
    Batch,
    ImageStore,
    TokenizedCaptions,
    batches,
    data_fingerprint,
    should_cache,
    tokenize,
)
from textreid.training.device import Compute, choose_compute
from textreid.training.interrupt import RunStoppedError, StopRequest
from textreid.training.losses import itc, sdm
from textreid.training.masking import mask_tokens, masking_probabilities, noise_levels
from textreid.training.noise_table import NoiseTable
from textreid.training.plots import plot_run
from textreid.training.sampler import Sampler

Evaluate = Callable[[Model], Mapping[str, float]]
_DRAWS = 2  # stream of random numbers, apart from those of the sampler


@dataclass
class _Run:
    """Everything the loop works on."""

    config: Config
    compute: Compute
    model: Model
    optimizer: torch.optim.Optimizer
    sampler: Sampler
    images: ImageStore
    captions: TokenizedCaptions
    noise: NoiseTable | None
    totals: "_Totals"
    checkpoints: Checkpoints
    start: int
    resumed: bool

    @property
    def steps(self) -> int:
        return self.config.training.epochs * self.sampler.steps_per_epoch


def pretrain(
    config: Config,
    images: Path,
    captions: Path,
    out: Path,
    resume: bool = False,
    evaluate: Evaluate | None = None,
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
        log: where records and the console view go; ``out/metrics.jsonl`` and standard error when None.

    Raises:
        ConfigError, DataError: the settings or the data cannot be used.
        ArtifactError: ``out`` exists (without ``resume``) or cannot be written.
        ResumeError: there is nothing to resume, or it was made with other settings or data.
        RunStoppedError: stopped by Ctrl-C or SIGTERM, after a checkpoint.
        TextReidError: the loss is no longer finite.
    """
    log = log or RunLog(out)
    run = _prepare(config, images, captions, out, resume, log)
    with StopRequest() as stop, log.progress("pretrain", run.steps, run.start):
        reached = _train(run, evaluate, log, stop)
    if reached < run.steps:
        raise RunStoppedError(f"stopped after step {reached} of {run.steps}, saved in {out}; go on with --resume")
    run.model.save(out / "model", write_card(config, run.checkpoints.identity, log.path), replace=True)
    plot_run(out)
    log.say(f"model: {out / 'model'}")
    return run.model


def _train(run: _Run, evaluate: Evaluate | None, log: RunLog, stop: StopRequest) -> int:
    """Run the loop; returns the number of steps that were finished."""
    config, encoder, compute = run.config, run.model.encoder, run.compute
    training, masking = config.training, config.masking
    per_epoch = run.sampler.steps_per_epoch
    data = batches(run.sampler, run.images, run.captions, run.start, run.steps, training.workers)
    encoder.train()
    # One iteration more than there are steps: the last evaluation and checkpoint take the same path as all others.
    for step in range(run.start, run.steps + 1):
        finished = step == run.steps
        if step > run.start or not run.resumed:
            if evaluate and (finished or step % (per_epoch * training.validate_every) == 0):
                _validate(run.model, evaluate, step, step / per_epoch, log)
            if finished or stop.made or (step and step % training.checkpoint_every == 0):
                run.totals.check(step)
                run.checkpoints.save(step, encoder, run.optimizer, run.model.tokenizer, run.noise, run.totals.sums)
        if finished or stop.made:
            break

        batch = next(data)
        draws = _generator(training.seed, step, compute.device)
        ids, lengths, labels, owners = _to_device(batch, compute.device)
        words = _word_mask(ids, lengths)
        pixels = augment(
            torch.from_numpy(batch.pixels).to(compute.device), config.augmentation, draws,
            config.model.pixel_mean, config.model.pixel_std,
        )  # fmt: skip
        masked = mask_tokens(
            ids, _probabilities(run, batch, ids), words, draws,
            run.model.tokenizer.mask_id, run.model.tokenizer.vocabulary_size,
        )  # fmt: skip
        with torch.autocast(compute.device.type, compute.dtype, enabled=compute.dtype != torch.float32):
            encoded = encoder(pixels, masked.ids, lengths, masking.layer)
            if run.noise:
                with torch.no_grad():
                    tokens = encoder.text_tokens(ids, lengths, masking.layer)
        loss, parts = _loss(encoded.image_features, encoded.text_features, labels, labels[owners], config.losses)
        torch.autograd.backward(loss)
        rate = learning_rate(step, run.steps, per_epoch, config.optimizer)
        _update(encoder, run.optimizer, rate, config.optimizer.clip_norm)
        if run.noise:
            noise = noise_levels(tokens, encoded.patch_tokens[owners], words)
            following = masking_probabilities(noise, words, masking.probability, masking.exact_mean)
            run.noise.write(batch.pairs, following.cpu().numpy())
            parts["noise"] = noise.sum() / words.sum()
        run.totals.add(len(pixels), loss, masked.chosen.sum() / words.sum(), parts)
        if (step + 1) % training.log_every == 0 or step + 1 == run.steps:
            run.totals.check(step + 1)
            run.totals.flush(log, step + 1, (step + 1) / per_epoch, rate)
        log.advance(step + 1, f"epoch {step // per_epoch + 1}/{training.epochs}{run.totals.note}")
    return step


def learning_rate(step: int, steps: int, steps_per_epoch: int, config: OptimizerConfig) -> float:
    """Rate of step ``step`` (from 0) of ``steps``: linear warm-up, then half a cosine down to the final rate."""
    warmup = round(config.warmup_epochs * steps_per_epoch)
    if step < warmup:
        return config.warmup_start + (config.learning_rate - config.warmup_start) * (step + 1) / warmup
    share = (step - warmup) / max(1, steps - warmup)
    span = config.learning_rate - config.final_learning_rate
    return config.final_learning_rate + span * (1 + math.cos(math.pi * share)) / 2


def _loss(
    images: Tensor, texts: Tensor, labels: Tensor, text_labels: Tensor, config: LossConfig
) -> tuple[Tensor, dict[str, Tensor]]:
    """The weighted sum of the losses, and each by name; one whose weight is 0 is not computed."""
    weights = {name: weight for name, weight in (("sdm", config.sdm), ("itc", config.itc)) if weight}
    functions = {"sdm": sdm, "itc": itc}
    parts = {name: functions[name](images, texts, labels, config.temperature, text_labels) for name in weights}
    total = torch.stack([weights[name] * parts[name] for name in weights]).sum()
    return total, {name: part.detach() for name, part in parts.items()}


def _update(encoder: DualEncoder, optimizer: torch.optim.Optimizer, rate: float, clip_norm: float) -> None:
    if clip_norm:
        torch.nn.utils.clip_grad_norm_(encoder.parameters(), clip_norm)
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def _probabilities(run: _Run, batch: Batch, ids: Tensor) -> Tensor:
    """Masking probabilities (T, L) of this step's captions."""
    if run.noise:
        return torch.from_numpy(run.noise.read(batch.pairs, ids.shape[1])).to(ids.device)
    masking = run.config.masking
    return torch.full(ids.shape, masking.probability if masking.method == "em" else 0.0, device=ids.device)


def _word_mask(ids: Tensor, lengths: Tensor) -> Tensor:
    """True between the start and the end token of each row (T, L)."""
    positions = torch.arange(ids.shape[1], device=ids.device)
    return (positions > 0) & (positions < lengths[:, None] - 1)


def _to_device(batch: Batch, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    arrays = (batch.ids, batch.lengths, batch.labels, batch.owners)
    ids, lengths, labels, owners = (torch.from_numpy(array).to(device) for array in arrays)
    return ids, lengths, labels, owners


def _generator(seed: int, step: int, device: torch.device) -> torch.Generator:
    state = np.random.SeedSequence((seed, step, _DRAWS)).generate_state(1, np.uint64)
    return torch.Generator(device).manual_seed(int(state[0]))


def _validate(model: Model, evaluate: Evaluate, step: int, epoch: float, log: RunLog) -> None:
    figures = dict(evaluate(model))
    log.record("validation", step, epoch=epoch, **figures)
    log.say(f"epoch {epoch:g}: " + "  ".join(f"{name} {value:.4g}" for name, value in figures.items()))


class _Totals:
    """Sums since the last line of the log; part of a checkpoint, so that lines do not depend on interruptions."""

    _NAMES = ("steps", "images", "loss", "mask_rate", "sdm", "itc", "noise")

    def __init__(self, device: torch.device) -> None:
        self.sums = torch.zeros(len(self._NAMES), dtype=torch.float64, device=device)
        self.note = ""
        self._since = time.monotonic()
        self._images = 0

    def add(self, images: int, loss: Tensor, mask_rate: Tensor, parts: Mapping[str, Tensor]) -> None:
        """Add one step."""
        known: dict[str, Tensor | float] = {
            "steps": 1.0,
            "images": float(images),
            "loss": loss.detach(),
            "mask_rate": mask_rate,
            **parts,
        }
        for position, name in enumerate(self._NAMES):
            self.sums[position] += known.get(name, 0.0)
        self._images += images

    def check(self, step: int) -> None:
        """Raise TextReidError if a loss was not finite."""
        if not bool(torch.isfinite(self.sums).all()):
            raise TextReidError(
                f"the loss is no longer finite at step {step}; lower optimizer.learning_rate or set optimizer.clip_norm"
            )

    def flush(self, log: RunLog, step: int, epoch: float, rate: float) -> None:
        """Write the means to the log and start again."""
        values = dict(zip(self._NAMES, self.sums.tolist(), strict=True))
        means = {name: values[name] / values["steps"] for name in self._NAMES[2:]}
        absent = [name for name in ("sdm", "itc", "noise") if means[name] == 0]
        speed = self._images / (time.monotonic() - self._since)
        log.record(
            "train", step, epoch=epoch, learning_rate=rate,
            **{name: value for name, value in means.items() if name not in absent}, images_per_second=round(speed, 1),
        )  # fmt: skip
        self.note = f"  loss {means['loss']:.4f}  masked {means['mask_rate']:.3f}  {speed:.0f} images/s"
        self.sums.zero_()
        self._since, self._images = time.monotonic(), 0


def _prepare(config: Config, images: Path, captions: Path, out: Path, resume: bool, log: RunLog) -> _Run:
    compute = choose_compute(config.training.precision)
    table = read_captions(captions)
    data = data_fingerprint(table, images)
    checkpoints = Checkpoints(
        out, config.training.keep_checkpoints, Identity(config.to_dict(), data, compute.device.type)
    )
    found = _open_folder(out, resume, checkpoints)
    tokenizer = found.tokenizer() if found else _make_tokenizer(config, table)
    config = replace(config, model=replace(config.model, vocabulary_size=tokenizer.vocabulary_size))
    encoder = initialize(config.model, config.training.seed).to(compute.device)
    config = replace(config, model=encoder.config)
    settings = config.optimizer
    optimizer = torch.optim.Adam(
        encoder.parameters(), lr=settings.learning_rate, betas=(settings.beta1, settings.beta2),
        eps=settings.epsilon, weight_decay=settings.weight_decay, fused=True,
    )  # fmt: skip
    totals = _Totals(compute.device)
    if found:
        totals.sums.copy_(found.restore(encoder, optimizer))
        log.keep_until(found.step)
    else:
        out.mkdir(parents=True, exist_ok=True)
        log.keep_until(-1)
        write_json(out / "config.json", config.to_dict())
    training = config.training
    run = _Run(
        config, compute, Model(encoder, tokenizer), optimizer,
        Sampler(
            table.image_index, training.batch_size, training.epoch_unit, training.captions_per_image, training.seed
        ),
        ImageStore(images, table.images, config.model.image_height, config.model.image_width),
        tokenize(table, tokenizer), _open_noise(config, out, found, len(table), tokenizer.text_length),
        totals, checkpoints, found.step if found else 0, bool(found),
    )  # fmt: skip
    _introduce(run, table, data, log)
    if should_cache(training.cache_images, run.images.bytes_decoded):
        with log.progress("read the images", len(table.images)):
            run.images.fill_cache(training.workers, log.advance)
    return run


def _open_folder(out: Path, resume: bool, checkpoints: Checkpoints) -> Checkpoint | None:
    """The checkpoint to go on from, or None at the beginning of a run."""
    if not resume:
        if out.exists() and any(out.iterdir()):
            raise ArtifactError(f"{out}: exists already; continue it with --resume, or choose another --out")
        return None
    if not (out / "config.json").is_file():
        raise ResumeError(f"{out}: no run to resume; start it without --resume")
    return checkpoints.newest()


def _make_tokenizer(config: Config, table: CaptionTable) -> Tokenizer:
    model = config.model
    if model.weights and (Path(model.weights) / "tokenizer.json").is_file() and model.tokenizer == "own":
        return load_model(model.weights).tokenizer
    if model.tokenizer == "clip":
        return Tokenizer.clip(model.text_length)
    texts = (str(text) for text in table.captions)
    return Tokenizer.learn(texts, model.vocabulary_size, model.text_length)


def _open_noise(config: Config, out: Path, found: Checkpoint | None, pairs: int, length: int) -> NoiseTable | None:
    if config.masking.method != "nam":
        return None
    if found:
        return found.noise(out / "noise.npy", pairs, length)
    return NoiseTable.create(out / "noise.npy", pairs, length, config.masking.probability)


def _introduce(run: _Run, table: CaptionTable, data: str, log: RunLog) -> None:
    facts: dict[str, Any] = {
        "device": str(run.compute.device),
        "dtype": str(run.compute.dtype).removeprefix("torch."),
        "reason": run.compute.reason,
        "parameters": sum(parameter.numel() for parameter in run.model.encoder.parameters()),
        "steps": run.steps,
        "seed": run.config.training.seed,
        "steps_per_epoch": run.sampler.steps_per_epoch,
        "images": len(table.images),
        "captions": len(table),
        "captions_rejected": sum(table.rejected.values()),
        "captions_cut": run.captions.truncated,
        "threads": torch.get_num_threads(),
        "data": data,
    }
    log.record("resume" if run.resumed else "start", run.start, **facts)
    log.say(
        f"{facts['device']}, {facts['dtype']} ({facts['reason']}), {facts['parameters'] / 1e6:.1f} M parameters, "
        f"{run.steps} steps, seed {facts['seed']}; {facts['images']} images, {facts['captions']} captions"
        + (f"; goes on from step {run.start}" if run.resumed else "")
    )
