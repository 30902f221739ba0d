"""From settings and data to everything the training loop works on."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from textreid.artifacts import fingerprint, write_json
from textreid.config import Config
from textreid.errors import ArtifactError, ConfigError, ResumeError
from textreid.models import Model, Tokenizer, initialize, load_model
from textreid.models.folder import training_text_of
from textreid.runlog import RunLog, read_records
from textreid.training.card import source_commit
from textreid.training.checkpoint import Checkpoint, Checkpoints, Identity
from textreid.training.data import ImageStore, TokenizedCaptions, should_cache, tokenize
from textreid.training.device import Compute, choose_compute
from textreid.training.network import TrainedNetwork
from textreid.training.noise_table import NoiseTable
from textreid.training.optimizer import make_optimizer, warmup_steps
from textreid.training.sampler import Sampler
from textreid.training.selection import Selection
from textreid.training.totals import Totals
from textreid.training.training_set import TrainingSet
from textreid.training.uninformed import uninformed_losses
from textreid.version import __version__

_NOISE = "noise.npy"


@dataclass(frozen=True)
class Run:
    """A run that is ready to take step ``start`` (from 0)."""

    config: Config  # as it is used: without a loss that the data cannot serve
    compute: Compute
    model: Model
    network: TrainedNetwork  # the model's encoder, and heads
    optimizer: torch.optim.Optimizer
    sampler: Sampler
    images: ImageStore
    captions: TokenizedCaptions
    labels: torch.Tensor  # (images,) on the device
    noise: NoiseTable | None  # only under Noise-Aware Masking
    totals: Totals
    checkpoints: Checkpoints
    selection: Selection
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
        self.checkpoints.save(
            step, self.network, self.optimizer, self.model.tokenizer, self.noise, self.totals.sums,
            self.selection.kept_step,
        )  # fmt: skip
        self.totals.restart_clock()

    def keep_selected(self) -> None:
        """After the last step: give the model the weights that `selection` chose.

        Raises:
            ArtifactError: their checkpoint is missing or damaged.
        """
        kept = self.selection.kept_step
        if kept not in (None, self.steps):
            self.checkpoints.at(kept).restore_weights(self.network)
        self.model.selected_on = self.selection.selected_on()


def prepare(config: Config, data: TrainingSet, out: Path, resume: bool, log: RunLog, watched: str | None = None) -> Run:
    """Read the data, build or restore the network; arguments and errors are those of `textreid.training.recipe.train`.

    ``watched`` is None where nothing will be validated.
    """
    training = config.training
    sampler = Sampler(
        data.image_index, training.batch_size, training.epoch_unit, training.captions_per_image, training.seed
    )
    _refuse_unfit(config, data, sampler, watched)
    compute = choose_compute(training.precision)
    store = ImageStore(data.root, data.images, config.model.image_height, config.model.image_width)
    checkpoints = Checkpoints(out, training.keep_checkpoints, _identify(config, data, store, compute, watched))
    found = _open_folder(out, resume, checkpoints, log)
    tokenizer = found.tokenizer() if found else _make_tokenizer(config, data)
    used = _as_used(config, data, tokenizer)
    network = _build_network(used, data.identities, found).to(compute.device)
    optimizer = make_optimizer(network, used.optimizer)
    totals = Totals(_figures(used), compute.device)
    if found:
        totals.sums.copy_(found.restore(network, optimizer))
    else:
        write_json(out / "config.json", used.to_dict())
    log.keep_until(found.step if found else -1)
    records = read_records(log.path) if found else []
    run = Run(
        config=used,
        compute=compute,
        model=Model(network.encoder, tokenizer, training_text=_training_text(config, data, records)),
        network=network,
        optimizer=optimizer,
        sampler=sampler,
        images=store,
        captions=tokenize(data.captions, tokenizer),
        labels=torch.from_numpy(data.labels).to(compute.device),
        noise=_open_noise(used, out, found, len(data), tokenizer.text_length),
        totals=totals,
        checkpoints=checkpoints,
        selection=Selection.from_records(training.select, watched, records),
        start=found.step if found else 0,
        resumed=found is not None,
    )
    _introduce(run, data, sorted(config.losses.weights().keys() - used.losses.weights().keys()), log)
    if should_cache(training.cache_images, store.bytes_decoded):
        with log.progress("read images", len(data.images)):
            store.fill_cache(training.workers, log.advance)
    return run


def _identify(config: Config, data: TrainingSet, images: ImageStore, compute: Compute, watched: str | None) -> Identity:
    return Identity(
        config=config.to_dict(),
        data=fingerprint([data.fingerprint, list(images.names), images.sizes]),
        watched=watched if config.training.select == "validation" else None,
        compute=f"{compute.device.type}, {compute.dtype}",
    )


def _build_network(config: Config, identities: int, found: Checkpoint | None) -> TrainedNetwork:
    # A checkpoint has its own weights: those that the run began with need not be at hand any more.
    model = replace(config.model, weights=None) if found else config.model
    return TrainedNetwork(initialize(model, config.training.seed), config.losses, identities, config.training.seed)


def _refuse_unfit(config: Config, data: TrainingSet, sampler: Sampler, watched: str | None) -> None:
    """Raise ConfigError with every setting that does not fit the data."""
    training, found = config.training, []
    steps = training.epochs * sampler.steps_per_epoch
    if training.batch_size > sampler.units:
        found.append(
            f"training.batch_size: {training.batch_size}, but an epoch has only {sampler.units} "
            f"{training.epoch_unit}s; set it to {sampler.units} or less"
        )
    if (warmup := warmup_steps(config.optimizer, sampler.steps_per_epoch)) >= steps:
        found.append(
            f"optimizer.least_warmup_steps: a warm-up of {warmup} steps leaves nothing of the {steps} of this run; "
            f"raise training.epochs above {warmup // sampler.steps_per_epoch}, or lower it"
        )
    if config.losses.weights().keys() == {"id"} and not data.identities:
        found.append("losses.id: the only loss, but the data has no identities; set losses.sdm=1")
    if training.select == "validation" and watched is None:
        found.append(
            "training.select: validation, but there is no validation set; give one, or set training.select=last"
        )
    if found:
        raise ConfigError("; ".join(found))


def _as_used(config: Config, data: TrainingSet, tokenizer: Tokenizer) -> Config:
    """The settings with the tokenizer's vocabulary; without identities, without the loss that needs them."""
    return replace(
        config,
        model=replace(config.model, vocabulary_size=tokenizer.vocabulary_size),
        losses=config.losses if data.identities else replace(config.losses, id=0.0),
    )


def _figures(config: Config) -> tuple[str, ...]:
    """Names of what `textreid.training.recipe.take_step` measures."""
    noise = ("noise",) if config.masking.method == "nam" else ()
    return ("loss", *config.losses.weights(), "mask_rate", *noise)


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


def _make_tokenizer(config: Config, data: TrainingSet) -> Tokenizer:
    model = config.model
    if model.tokenizer == "clip":
        return Tokenizer.clip(model.text_length)
    if model.weights is not None:
        return load_model(model.weights).tokenizer
    return Tokenizer.learn(map(str, data.captions), model.vocabulary_size, model.text_length)


def _count_parameters(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def _training_text(config: Config, data: TrainingSet, records: list[dict[str, Any]]) -> tuple[str, ...] | None:
    """What the starting weights learned from, and who wrote the captions; None where the former is not known.

    A run that goes on has it in its log: the weights it began with need not be at hand any more.
    """
    for record in records:
        if record["event"] == "start":
            return None if record["training_text"] is None else tuple(record["training_text"])
    before = training_text_of(config.model.weights)
    return None if before is None else tuple(dict.fromkeys([*before, *data.sources]))


def _open_noise(config: Config, out: Path, found: Checkpoint | None, pairs: int, length: int) -> NoiseTable | None:
    if config.masking.method != "nam":
        return None
    if found:
        return found.noise(out / _NOISE, pairs, length)
    return NoiseTable.create(out / _NOISE, pairs, length, config.masking.probability)


def _introduce(run: Run, data: TrainingSet, left_out: list[str], log: RunLog) -> None:
    """Say and record where the run computes, what it trains and on how much, and the losses that it cannot use."""
    parameters = {name: _count_parameters(part) for name, part in run.network.named_children()}
    draw = run.sampler.draw(0)
    labels = run.labels.cpu()[draw.images]
    facts: dict[str, Any] = {
        "device": str(run.compute.device),
        "dtype": str(run.compute.dtype).removeprefix("torch."),
        "reason": run.compute.reason,
        "threads": torch.get_num_threads(),
        "parameters": parameters["encoder"],
        "parameters_of_heads": sum(parameters.values()) - parameters["encoder"],
        "steps": run.steps,
        "steps_per_epoch": run.sampler.steps_per_epoch,
        "seed": run.config.training.seed,
        "images": len(data.images),
        "captions": len(data),
        "captions_rejected": data.rejected,
        "captions_cut": run.captions.truncated,
        "identities": data.identities,
        "sources": list(data.sources),
        "training_text": run.model.training_text,
        "losses_left_out": left_out,
        "uninformed_losses": uninformed_losses(run.config.losses, labels, labels[draw.owners], data.identities),
        "version": __version__,
        "commit": source_commit(),
        "data": run.checkpoints.identity.data,
    }
    log.record("resume" if run.resumed else "start", run.start, **facts)
    log.say(
        f"{facts['device']}, {facts['dtype']} ({facts['reason']}), {facts['parameters'] / 1e6:.1f} M parameters, "
        f"{run.steps} steps, seed {facts['seed']}; {facts['images']} images, {facts['captions']} captions"
        + (f", {data.identities} identities" if data.identities else "")
        + (f"; no identities, so without the loss {', '.join(left_out)}" if left_out else "")
        + (f"; goes on from step {run.start}" if run.resumed else "")
    )
