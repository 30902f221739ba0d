"""From settings and data to everything the training loop works on."""

from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from textreid.artifacts import LOCK, fingerprint, locked, write_json
from textreid.config import Config
from textreid.errors import ArtifactError, ConfigError, ResumeError
from textreid.models import Model, Tokenizer, initialize, load_model
from textreid.models.device import Device, choose_device, refuse_to_compile
from textreid.models.folder import training_text_of
from textreid.runlog import LEFT_OUT, RunLog, read_records
from textreid.training.checkpoint import Checkpoint, Checkpoints, Identity
from textreid.training.dataset import Sampler, TrainingSet
from textreid.training.diagnosis import Meters
from textreid.training.loader import ImageStore, Loader, should_cache, tokenize
from textreid.training.masking import PatchScorer, WordScorer
from textreid.training.network import TrainedNetwork
from textreid.training.noise_table import EqualNoise, NoiseTable, RemoteNoiseTable
from textreid.training.optimizer import make_optimizer, warmup_steps
from textreid.training.processes import Processes, local_processes, own_gpu
from textreid.training.selection import Selection

_NOISE = "noise.npy"
_DRAWS = 2  # stream of random numbers of the steps, apart from those of the sampler


@dataclass(frozen=True)
class Run:
    """A run that is ready to take step ``start`` (from 0).

    Attributes:
        folder: of the first process.
        config: as it is used: without a loss that the data cannot serve.
        compute: device and precision.
        model: what is exported: the network's encoder with its tokenizer.
        network: the encoder, and heads.
        ddp: the same, as all processes train it.
        optimizer: of the network.
        loader: source of the batches.
        noise: the masking probabilities of all captions.
        scorer: gives the words their noise; None where all are masked alike.
        meters: means for the log.
        checkpoints: of the run folder.
        selection: of the model that is kept.
        processes: of the run.
        start: the step it begins or goes on with.
        resumed: whether it goes on from a checkpoint.
        changes: what is not as it was before, so that it goes on equal up to rounding.
        losses_left_out: what the data cannot serve.
    """

    folder: Path
    config: Config
    compute: Device
    model: Model
    network: TrainedNetwork
    ddp: torch.nn.Module
    optimizer: torch.optim.Optimizer
    loader: Loader
    noise: NoiseTable | RemoteNoiseTable | EqualNoise
    scorer: WordScorer | None
    meters: Meters
    checkpoints: Checkpoints
    selection: Selection
    processes: Processes
    start: int
    resumed: bool
    changes: tuple[str, ...]
    losses_left_out: tuple[str, ...]

    @property
    def steps(self) -> int:
        """Steps of the whole run."""
        return self.config.training.epochs * self.loader.sampler.steps_per_epoch

    def generator(self, step: int) -> torch.Generator:
        """Seed the random numbers of a step: how its images change, and which of its words are masked."""
        # Mixed, not added: seed 0 at step 1 must not draw what seed 1 draws at step 0.
        state = np.random.SeedSequence((self.config.training.seed, step, _DRAWS)).generate_state(1, np.uint64)
        return torch.Generator(self.compute.device).manual_seed(int(state[0]))

    def save(self, step: int) -> None:
        """Write a checkpoint after ``step`` steps.

        Raises:
            TextReidError: the loss is no longer finite; the former checkpoints stay.
            ArtifactError: the disk is full; the former checkpoints stay.
        """
        # Before writing: a checkpoint of weights that are NaN would be the one to go on from.
        self.meters.check(step)
        self.checkpoints.save(
            step, self.network, self.optimizer, self.model.tokenizer, self.noise, self.meters.sums,
            self.selection.kept_step,
        )  # fmt: skip
        self.meters.restart_clock()

    def keep_selected(self) -> None:
        """Give the model, after the last step, the weights that `selection` chose.

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
    log: RunLog,
    *,
    validation_set: str | None = None,
    resume: bool = False,
    processes: Processes | None = None,
    held: ExitStack | None = None,
) -> Run:
    """Read the data, build or restore the network; arguments and errors are those of `textreid.training.recipe.train`.

    Only the first process touches ``out``.

    Args:
        validation_set: its name; None where nothing will be validated.
        processes: of the run; alone when None.
        held: keeps the lock of ``out``; without it, the folder is not locked.
    """
    processes = processes or Processes()
    if resume:  # without a shared disk, the other processes cannot read what the run was started with
        config = Config.from_dict(processes.all_gather_object(config.to_dict())[0])
    training = config.training
    sampler = Sampler(
        data.image_index, training.batch_size, training.epoch_unit, training.captions_per_image, training.seed
    )
    _refuse_unfit(config, data, sampler, validation_set, processes)
    compute = choose_device(training.precision, own_gpu())
    if training.compile:
        refuse_to_compile(compute.device)
    model = config.model
    images = ImageStore(
        data.root, data.images, model.image_height, model.image_width, model.interpolation, model.reduced_decoding
    )
    identity = _identify(config, data, images, compute, validation_set, processes)
    _refuse_other_starts(processes, identity)
    checkpoints = Checkpoints(out, training.keep_checkpoints, identity)
    folder, found, tokenizer, records = processes.on_rank0(
        lambda: _open(config, data, out, resume, checkpoints, log, held)
    )
    images.restore_quarantine(
        {name: why for record in records if record["event"] == LEFT_OUT for name, why in record["images"].items()}
    )
    used = _as_used(config, data, tokenizer)
    network = _build_network(used, data.identities, compute, found, processes).to(compute.device)
    optimizer = make_optimizer(network, used.optimizer)
    captions = tokenize(data.captions, tokenizer)
    noise, scorer = _open_noise(used, out, found, len(data), tokenizer.text_length, processes)
    meters = Meters(_figures(used, scorer), compute.device)
    if found and found.scaler:
        network.scaler.load_state_dict(found.scaler)
    # The others may not see the folder; `bring_together` sends them the weights and the moments.
    if processes.is_first:
        if found:
            meters.sums.copy_(found.restore(network, optimizer))
        write_json(out / "config.json", used.to_dict())
    return Run(
        folder=Path(folder),
        config=used,
        compute=compute,
        model=Model(network.encoder, tokenizer, training_text=_training_text(config, data, records)),
        network=network,
        ddp=network,
        optimizer=optimizer,
        loader=Loader(sampler, images, captions, data.labels, training.micro_batch, processes),
        noise=noise,
        scorer=scorer,
        meters=meters,
        checkpoints=checkpoints,
        selection=Selection.from_records(training.select, validation_set, records),
        processes=processes,
        start=found.step if found else 0,
        resumed=found is not None,
        changes=found.changes if found else (),
        losses_left_out=tuple(sorted(config.losses.weights().keys() - used.losses.weights().keys())),
    )


def bring_together(run: Run, log: RunLog) -> Run:
    """Read the images that fit the memory, then bring all processes to the state of the first."""
    images, training = run.loader.images, run.config.training
    # Each process on this machine keeps a cache of its own.
    if should_cache(training.cache_images, images.bytes_decoded * local_processes()):
        with log.progress("read images", len(images.names), unit="images"):
            images.fill_cache(training.workers, log.advance)
    run.processes.all_gather_object(None)  # some have read their data earlier
    run.processes.broadcast_moments(run.optimizer)
    ddp = run.processes.wrap(run.network)
    if ddp is not run.network:
        # Gradients travel in the order of the first backward pass, and the order decides how their sums are rounded.
        # With a pass over nothing for the first, a run that goes on adds up like one that never stopped.
        model, none = run.config.model, torch.zeros(0, dtype=torch.int64, device=run.compute.device)
        pixels = torch.zeros((0, 3, model.image_height, model.image_width), device=run.compute.device)
        outputs = ddp(pixels, none[:, None], none, none, none[:, None].bool())
        torch.autograd.backward([rows.sum() for rows in outputs if rows.requires_grad])
        run.network.zero_grad(set_to_none=True)
    return replace(run, ddp=ddp)


def _identify(
    config: Config,
    data: TrainingSet,
    images: ImageStore,
    compute: Device,
    validation_set: str | None,
    processes: Processes,
) -> Identity:
    # The tokenizer decides on the size of the vocabulary, and the data on the loss of identities: see `_as_used`.
    settings = config.to_dict()
    del settings["model"]["vocabulary_size"]
    if not data.identities:
        del settings["losses"]["id"]
    return Identity(
        config=settings,
        # Names and sizes stand for the contents of image files, which would take long to read.
        data=fingerprint([data.fingerprint, list(images.names), images.sizes]),
        validation_set=validation_set if config.training.select == "validation" else None,
        compute=f"{compute.device.type}, {compute.dtype}",
        processes=processes.count,
    )


def _refuse_other_starts(processes: Processes, identity: Identity) -> None:
    """Raise ConfigError if a process has other settings or data than the first."""
    first, *others = processes.all_gather_object(asdict(identity))
    for rank, other in enumerate(others, 1):
        differing = [name for name, value in first.items() if other[name] != value]
        if differing:
            raise ConfigError(
                f"process {rank} has another {' and '.join(differing)} than process 0: "
                "every machine needs the same command, images and captions"
            )


def _build_network(
    config: Config, identities: int, compute: Device, found: Checkpoint | None, processes: Processes
) -> TrainedNetwork:
    # A checkpoint has its own weights: those that the run began with need not be at hand any more.
    elsewhere = found or not processes.is_first
    model = replace(config.model, weights=None) if elsewhere else config.model
    encoder = initialize(model, config.training.seed)
    if config.training.activation_checkpointing:
        encoder.recompute_layers()
    if config.training.compile:
        encoder.compile_layers()
    return TrainedNetwork(encoder, config.losses, identities, config.training.seed, config.masking.layer, compute)


def _refuse_unfit(
    config: Config, data: TrainingSet, sampler: Sampler, validation_set: str | None, processes: Processes
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
    if training.select == "validation" and validation_set is None:
        found.append(
            "training.select: validation, but there is no validation set; give one, or set training.select=last"
        )
    if found:
        raise ConfigError("; ".join(found))


def _as_used(config: Config, data: TrainingSet, tokenizer: Tokenizer) -> Config:
    """Return the settings with the tokenizer's vocabulary; without identities, without the loss that needs them."""
    return replace(
        config,
        model=replace(config.model, vocabulary_size=tokenizer.vocabulary_size),
        losses=config.losses if data.identities else replace(config.losses, id=0.0),
    )


def _figures(config: Config, scorer: WordScorer | None) -> tuple[str, ...]:
    """Name what a step measures."""
    return ("loss", *config.losses.weights(), "mask_rate", *(("noise",) if scorer else ()))


def _open(
    config: Config,
    data: TrainingSet,
    out: Path,
    resume: bool,
    checkpoints: Checkpoints,
    log: RunLog,
    held: ExitStack | None,
) -> tuple[str, Checkpoint | None, Tokenizer, list[dict[str, Any]]]:
    """Return the folder, the checkpoint to go on from, the tokenizer, and the records of the log up to there."""
    _refuse_folder(out, resume)
    if held:
        out.mkdir(parents=True, exist_ok=True)
        held.enter_context(locked(out, "another process trains here; wait until it is done, or choose another folder"))
        _refuse_folder(out, resume)  # it may have come to be, and been given back, in between
    found = checkpoints.newest() if resume else None
    if resume and found is None:
        log.say(f"{out}: stopped before its first checkpoint; starts from the beginning")
    tokenizer = found.tokenizer() if found else _make_tokenizer(config, data)
    # Later steps are taken again and would be in the log twice.
    log.keep_until(found.step if found else -1)
    return str(out), found, tokenizer, read_records(log.path) if found else []


def _refuse_folder(out: Path, resume: bool) -> None:
    """Raise an error where a new run finds something, or one that shall go on finds none."""
    if resume and not (out / "config.json").is_file():
        raise ResumeError(f"{out}: no run to resume; start it without --resume")
    # A lock is not a run: it may be left of one that was refused.
    if not resume and out.exists() and (not out.is_dir() or any(path.name != LOCK for path in out.iterdir())):
        raise ArtifactError(f"{out}: exists already; continue it with --resume, or choose another folder")


def _make_tokenizer(config: Config, data: TrainingSet) -> Tokenizer:
    model = config.model
    if model.tokenizer == "clip":
        return Tokenizer.clip(model.text_length)
    if model.weights is not None:
        return load_model(model.weights).tokenizer.shortened(model.text_length)
    return Tokenizer.learn(map(str, data.captions), model.vocabulary_size, model.text_length)


def _training_text(config: Config, data: TrainingSet, records: list[dict[str, Any]]) -> tuple[str, ...] | None:
    """Name what the starting weights learned from, and who wrote the captions; None where the former is not known.

    A run that goes on has it in its log: the weights it began with need not be at hand any more.
    """
    for record in records:
        if record["event"] == "start":
            return None if record["training_text"] is None else tuple(record["training_text"])
    before = training_text_of(config.model.weights)
    return None if before is None else tuple(dict.fromkeys([*before, *data.sources]))


def _open_noise(
    config: Config, out: Path, found: Checkpoint | None, captions: int, length: int, processes: Processes
) -> tuple[NoiseTable | RemoteNoiseTable | EqualNoise, WordScorer | None]:
    """Open the masking probabilities, and choose what scores the words: all that depends on the method of masking."""
    masking = config.masking
    if masking.method != "nam":
        return EqualNoise(masking.probability if masking.method == "em" else 0.0), None
    if not processes.is_first:
        return RemoteNoiseTable(), PatchScorer(masking.layer)
    if found:
        return found.noise(out / _NOISE, captions, length), PatchScorer(masking.layer)
    return NoiseTable.create(out / _NOISE, captions, length, masking.probability), PatchScorer(masking.layer)
