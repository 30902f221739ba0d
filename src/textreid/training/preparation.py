"""From settings and folders to everything the training loop works on."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from textreid.artifacts import fingerprint, write_json
from textreid.config import Config
from textreid.datasets.captions import CaptionTable, read_captions
from textreid.errors import ArtifactError, ResumeError
from textreid.models import Model, Tokenizer, initialize, load_model
from textreid.models.folder import training_text_of
from textreid.runlog import RunLog
from textreid.training.card import source_commit
from textreid.training.checkpoint import Checkpoint, Checkpoints, Identity
from textreid.training.data import ImageStore, TokenizedCaptions, should_cache, tokenize
from textreid.training.device import Compute, choose_compute
from textreid.training.noise_table import NoiseTable
from textreid.training.sampler import Sampler
from textreid.training.totals import Totals
from textreid.version import __version__

_NOISE = "noise.npy"


@dataclass(frozen=True)
class Run:
    """A run that is ready to take step ``start`` (from 0)."""

    config: Config
    compute: Compute
    model: Model
    optimizer: torch.optim.Optimizer
    sampler: Sampler
    images: ImageStore
    captions: TokenizedCaptions
    noise: NoiseTable | None  # only under Noise-Aware Masking
    totals: Totals
    checkpoints: Checkpoints
    start: int
    resumed: bool

    @property
    def steps(self) -> int:
        """Steps of the whole run."""
        return self.config.training.epochs * self.sampler.steps_per_epoch

    def save(self, step: int) -> None:
        """Write a checkpoint after ``step`` steps.

        Raises:
            TextReidError: the loss is no longer finite; the former checkpoints stay.
            ArtifactError: the disk is full; the former checkpoints stay.
        """
        self.totals.check(step)
        encoder, tokenizer = self.model.encoder, self.model.tokenizer
        self.checkpoints.save(step, encoder, self.optimizer, tokenizer, self.noise, self.totals.sums)
        self.totals.restart_clock()


def prepare(config: Config, images: Path, captions: Path, out: Path, resume: bool, log: RunLog) -> Run:
    """Read the data, build or restore the model; arguments and errors are those of `textreid.training.pretrain`."""
    training = config.training
    compute = choose_compute(training.precision)
    table = read_captions(captions)
    store = ImageStore(images, table.images, config.model.image_height, config.model.image_width)
    data = fingerprint([table.fingerprint, list(store.names), store.sizes])
    identity = Identity(config.to_dict(), data, f"{compute.device.type}, {compute.dtype}")
    checkpoints = Checkpoints(out, training.keep_checkpoints, identity)
    found = _open_folder(out, resume, checkpoints, log)
    tokenizer = found.tokenizer() if found else _make_tokenizer(config, table)
    config = replace(config, model=replace(config.model, vocabulary_size=tokenizer.vocabulary_size))
    # A checkpoint has its own weights: those that the run began with need not be at hand any more.
    model = replace(config.model, weights=None) if found else config.model
    encoder = initialize(model, training.seed).to(compute.device)
    optimizer = _make_optimizer(encoder, config)
    names = ("loss", *(name for name in ("sdm", "itc") if getattr(config.losses, name)), "mask_rate")
    totals = Totals((*names, "noise") if config.masking.method == "nam" else names, compute.device)
    if found:
        totals.sums.copy_(found.restore(encoder, optimizer))
    else:
        write_json(out / "config.json", config.to_dict())
    log.keep_until(found.step if found else -1)
    run = Run(
        config=config,
        compute=compute,
        model=Model(encoder, tokenizer, training_text=_training_text(config, table)),
        optimizer=optimizer,
        sampler=Sampler(
            table.image_index, training.batch_size, training.epoch_unit, training.captions_per_image, training.seed
        ),
        images=store,
        captions=tokenize(table, tokenizer),
        noise=_open_noise(config, out, found, len(table), tokenizer.text_length),
        totals=totals,
        checkpoints=checkpoints,
        start=found.step if found else 0,
        resumed=found is not None,
    )
    _introduce(run, table, log)
    if should_cache(training.cache_images, store.bytes_decoded):
        with log.progress("read images", len(table.images)):
            store.fill_cache(training.workers, log.advance)
    return run


def _open_folder(out: Path, resume: bool, checkpoints: Checkpoints, log: RunLog) -> Checkpoint | None:
    """The checkpoint to go on from, or None at the beginning of a run."""
    if not resume:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise ArtifactError(f"{out}: exists already; continue it with --resume, or choose another folder")
        return None
    if not (out / "config.json").is_file():
        raise ResumeError(f"{out}: no run to resume; start it without --resume")
    found = checkpoints.newest()
    if found is None:
        log.say(f"{out}: stopped before its first checkpoint; starts from the beginning")
    return found


def _make_tokenizer(config: Config, table: CaptionTable) -> Tokenizer:
    model = config.model
    if model.tokenizer == "clip":
        return Tokenizer.clip(model.text_length)
    if model.weights is not None:
        return load_model(model.weights).tokenizer
    return Tokenizer.learn(map(str, table.captions), model.vocabulary_size, model.text_length)


def _make_optimizer(encoder: torch.nn.Module, config: Config) -> torch.optim.Optimizer:
    """Adam whose weights and moments stay float32; the rate is set at every step."""
    settings = config.optimizer
    return torch.optim.Adam(
        encoder.parameters(),
        lr=settings.learning_rate,
        betas=(settings.beta1, settings.beta2),
        eps=settings.epsilon,
        weight_decay=settings.weight_decay,
        fused=True,
    )


def _training_text(config: Config, table: CaptionTable) -> tuple[str, ...] | None:
    """What the starting weights learned from, and the MLLMs of the captions; None where the former is not known."""
    try:
        before = training_text_of(config.model.weights)
    except ArtifactError:  # a run is continued, and the weights it began with are not at hand any more
        return None
    return None if before is None else tuple(dict.fromkeys([*before, *(slot.split("/")[0] for slot in table.slots)]))


def _open_noise(config: Config, out: Path, found: Checkpoint | None, pairs: int, length: int) -> NoiseTable | None:
    if config.masking.method != "nam":
        return None
    if found:
        return found.noise(out / _NOISE, pairs, length)
    return NoiseTable.create(out / _NOISE, pairs, length, config.masking.probability)


def _introduce(run: Run, table: CaptionTable, log: RunLog) -> None:
    """Say and record where the run computes, what it trains and on how much."""
    facts: dict[str, Any] = {
        "device": str(run.compute.device),
        "dtype": str(run.compute.dtype).removeprefix("torch."),
        "reason": run.compute.reason,
        "threads": torch.get_num_threads(),
        "parameters": sum(parameter.numel() for parameter in run.model.encoder.parameters()),
        "steps": run.steps,
        "steps_per_epoch": run.sampler.steps_per_epoch,
        "seed": run.config.training.seed,
        "images": len(table.images),
        "captions": len(table),
        "captions_rejected": sum(table.rejected.values()),
        "captions_cut": run.captions.truncated,
        "version": __version__,
        "commit": source_commit(),
        "data": run.checkpoints.identity.data,
    }
    log.record("resume" if run.resumed else "start", run.start, **facts)
    log.say(
        f"{facts['device']}, {facts['dtype']} ({facts['reason']}), {facts['parameters'] / 1e6:.1f} M parameters, "
        f"{run.steps} steps, seed {facts['seed']}; {facts['images']} images, {facts['captions']} captions"
        + (f"; goes on from step {run.start}" if run.resumed else "")
    )
