"""From settings and data to everything the training loop works on."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from textreid.artifacts import fingerprint, write_json
from textreid.config import Config
from textreid.errors import ArtifactError, ConfigError, ResumeError
from textreid.models import Model, Tokenizer, initialize, load_model
from textreid.models.device import Device, choose_device, refuse_to_compile
from textreid.models.folder import training_text_of
from textreid.runlog import RunLog, read_records
from textreid.training.checkpoint import Checkpoint, Checkpoints, Identity
from textreid.training.dataset import TrainingSet
from textreid.training.loader import ImageStore, TokenizedCaptions, should_cache, tokenize
from textreid.training.network import TrainedNetwork
from textreid.training.noise_table import NoiseTable
from textreid.training.optimizer import make_optimizer, warmup_steps
from textreid.training.processes import Processes, local_processes, own_gpu
from textreid.training.sampler import Sampler
from textreid.training.selection import Selection
from textreid.training.totals import Totals
from textreid.training.uninformed import uninformed_losses
from textreid.version import __version__, source_commit

_NOISE = "noise.npy"


@dataclass(frozen=True)
class Run:
    """A run that is ready to take step ``start`` (from 0)."""

    config: Config  # as it is used: without a loss that the data cannot serve
    compute: Device
    model: Model
    network: TrainedNetwork  # the model's encoder, and heads
    joined: torch.nn.Module  # the same, as all processes train it
    processes: Processes
    optimizer: torch.optim.Optimizer
    sampler: Sampler
    images: ImageStore
    captions: TokenizedCaptions
    labels: torch.Tensor  # (images,) on the device
    noise: NoiseTable | None  # only under Noise-Aware Masking, and only in the first process
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


def prepare(
    config: Config,
    data: TrainingSet,
    out: Path,
    resume: bool,
    log: RunLog,
    processes: Processes,
    watched: str | None = None,
) -> Run:
    """Read the data, build or restore the network; arguments and errors are those of `textreid.training.recipe.train`.

    ``watched`` is None where nothing will be validated. Only the first process touches ``out``.
    """
    training = config.training
    sampler = Sampler(
        data.image_index, training.batch_size, training.epoch_unit, training.captions_per_image, training.seed
    )
    _refuse_unfit(config, data, sampler, watched, processes)
    compute = choose_device(training.precision, own_gpu())
    if training.compile:
        refuse_to_compile(compute.device)
    store = ImageStore(data.root, data.images, config.model.image_height, config.model.image_width)
    identity = _identify(config, data, store, compute, watched, processes)
    _refuse_other_starts(processes, identity)
    checkpoints = Checkpoints(out, training.keep_checkpoints, identity)
    found, tokenizer, records = processes.from_first(lambda: _open(config, data, out, resume, checkpoints, log))
    used = _as_used(config, data, tokenizer)
    network = _build_network(used, data.identities, found, processes).to(compute.device)
    optimizer = make_optimizer(network, used.optimizer)
    totals = Totals(_figures(used), compute.device)
    if processes.is_first and found:
        totals.sums.copy_(found.restore(network, optimizer))
    elif processes.is_first:
        write_json(out / "config.json", used.to_dict())
    run = Run(
        config=used,
        compute=compute,
        model=Model(network.encoder, tokenizer, training_text=_training_text(config, data, records)),
        network=network,
        joined=network,
        processes=processes,
        optimizer=optimizer,
        sampler=sampler,
        images=store,
        captions=tokenize(data.captions, tokenizer),
        labels=torch.from_numpy(data.labels).to(compute.device),
        noise=_open_noise(used, out, found, len(data), tokenizer.text_length) if processes.is_first else None,
        totals=totals,
        checkpoints=checkpoints,
        selection=Selection.from_records(training.select, watched, records),
        start=found.step if found else 0,
        resumed=found is not None,
    )
    _introduce(run, data, sorted(config.losses.weights().keys() - used.losses.weights().keys()), found, log)
    if should_cache(training.cache_images, store.bytes_decoded * local_processes()):
        with log.progress("read images", len(data.images), unit="images"):
            store.fill_cache(training.workers, log.advance)
    return replace(run, joined=_join(run))


def _identify(
    config: Config,
    data: TrainingSet,
    images: ImageStore,
    compute: Device,
    watched: str | None,
    processes: Processes,
) -> Identity:
    return Identity(
        config=config.to_dict(),
        data=fingerprint([data.fingerprint, list(images.names), images.sizes]),
        watched=watched if config.training.select == "validation" else None,
        compute=f"{compute.device.type}, {compute.dtype}",
        processes=processes.count,
    )


def _refuse_other_starts(processes: Processes, identity: Identity) -> None:
    """Raise ConfigError if a process has other settings or data than the first."""
    first, *others = processes.of_all(asdict(identity))
    for rank, other in enumerate(others, 1):
        differing = [name for name, value in first.items() if other[name] != value]
        if differing:
            raise ConfigError(
                f"process {rank} has another {' and '.join(differing)} than process 0: "
                "every machine needs the same command, images and captions"
            )


def _build_network(config: Config, identities: int, found: Checkpoint | None, processes: Processes) -> TrainedNetwork:
    # A checkpoint has its own weights: those that the run began with need not be at hand any more.
    elsewhere = found or not processes.is_first
    model = replace(config.model, weights=None) if elsewhere else config.model
    encoder = initialize(model, config.training.seed)
    if config.training.activation_checkpointing:
        encoder.recompute_layers()
    if config.training.compile:
        encoder.compile_layers()
    return TrainedNetwork(encoder, config.losses, identities, config.training.seed)


def _join(run: Run) -> torch.nn.Module:
    """Bring all processes to the state of the first."""
    run.processes.of_all(None)  # some have read their data earlier
    run.processes.copy_moments(run.optimizer)
    joined = run.processes.join(run.network)
    if joined is not run.network:
        # Gradients travel in the order of the first backward pass, and the order decides how their sums are rounded.
        # With a pass over nothing for the first, a run that goes on adds up like one that never stopped.
        model, none = run.config.model, torch.zeros(0, dtype=torch.int64, device=run.compute.device)
        pixels = torch.zeros((0, 3, model.image_height, model.image_width), device=run.compute.device)
        outputs = joined(pixels, none[:, None], none, none, none[:, None].bool(), run.config.masking.layer)
        torch.autograd.backward([rows.sum() for rows in outputs if rows.requires_grad])
        run.network.zero_grad(set_to_none=True)
    return joined


def _refuse_unfit(
    config: Config, data: TrainingSet, sampler: Sampler, watched: str | None, processes: Processes
) -> None:
    """Raise ConfigError with every setting that does not fit the data."""
    training, found = config.training, []
    steps = training.epochs * sampler.steps_per_epoch
    if training.batch_size > sampler.units:
        found.append(
            f"training.batch_size: {training.batch_size}, but an epoch has only {sampler.units} "
            f"{training.epoch_unit}s; set it to {sampler.units} or less"
        )
    if training.batch_size < processes.count:
        found.append(f"training.batch_size: {training.batch_size}, but {processes.count} processes share it")
    if (warmup := warmup_steps(config.optimizer, sampler.steps_per_epoch)) >= steps:
        cause = "min_warmup_steps" if warmup == config.optimizer.min_warmup_steps else "warmup_epochs"
        found.append(
            f"optimizer.{cause}: a warm-up of {warmup} steps leaves nothing of the {steps} of this run; "
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
    """Names of what `textreid.training.gradcache.take_step` measures."""
    noise = ("noise",) if config.masking.method == "nam" else ()
    return ("loss", *config.losses.weights(), "mask_rate", *noise)


def _open(
    config: Config, data: TrainingSet, out: Path, resume: bool, checkpoints: Checkpoints, log: RunLog
) -> tuple[Checkpoint | None, Tokenizer, list[dict[str, Any]]]:
    """The checkpoint to go on from, the tokenizer, and the records of the log up to the checkpoint."""
    found = _open_folder(out, resume, checkpoints, log)
    tokenizer = found.tokenizer() if found else _make_tokenizer(config, data)
    log.keep_until(found.step if found else -1)
    return found, tokenizer, read_records(log.path) if found else []


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
        return load_model(model.weights).tokenizer.shortened(model.text_length)
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


def _introduce(run: Run, data: TrainingSet, left_out: list[str], found: Checkpoint | None, log: RunLog) -> None:
    """Say and record where the run computes, what it trains and on how much, and the losses that it cannot use."""
    parameters = {name: _count_parameters(part) for name, part in run.network.named_children()}
    draw = run.sampler.draw(0)
    labels = run.labels.cpu()[draw.images]
    facts: dict[str, Any] = {
        "device": str(run.compute.device),
        "dtype": str(run.compute.dtype).removeprefix("torch."),
        "reason": run.compute.reason,
        "threads": torch.get_num_threads(),
        "processes": run.processes.count,
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
        f"{facts['device']}, {facts['dtype']} ({facts['reason']}), "
        + (f"{run.processes.count} processes, " if run.processes.count > 1 else "")
        + f"{facts['parameters'] / 1e6:.1f} M parameters, "
        f"{run.steps} steps, seed {facts['seed']}; {facts['images']} images, {facts['captions']} captions"
        + (f", {data.identities} identities" if data.identities else "")
        + (f"; no identities, so without the loss {', '.join(left_out)}" if left_out else "")
        + (f"; goes on from step {run.start}" if found else "")
        + (f", with {' and '.join(found.changes)}: equal up to rounding" if found and found.changes else "")
    )
