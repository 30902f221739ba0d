"""From settings and data to everything the training loop works on."""

import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor

from textreid.artifacts import write_json
from textreid.config import Config, ModelConfig
from textreid.errors import ConfigError, TextReidError
from textreid.models import Model, Tokenizer, load_model
from textreid.models.device import Device, choose_device, refuse_to_compile, to_device
from textreid.models.folder import training_text_of
from textreid.runlog import LEFT_OUT, RunLog, read_records
from textreid.training.augmentation import augment, draw_changes
from textreid.training.checkpoint import Checkpoint, Checkpoints
from textreid.training.dataset import TrainingSet
from textreid.training.known_errors import KnownErrors
from textreid.training.loader import Loader
from textreid.training.network import TrainedNetwork, build_network
from textreid.training.noise_table import EqualNoise, NoiseTable, RemoteNoiseTable, open_noise
from textreid.training.optimizer import make_optimizer
from textreid.training.processes import Processes, own_gpu
from textreid.training.runs import Selection
from textreid.training.scorers.choice import choose_scorer
from textreid.training.scorers.scorer import WordScorer

if TYPE_CHECKING:
    from textreid.models.trunk import TrunkEmbedding

_DRAWS, _VIEWS = 2, 3  # streams of random numbers of the steps and of kept maps, apart from those of the sampler


class Meters:
    """Means of figures over the steps since the last line of the log.

    Attributes:
        names: of the figures.
        sums: (names + 1,) of each figure, and of the steps; part of a checkpoint, so that the lines of the log
            survive an interruption.
    """

    def __init__(self, names: Sequence[str], device: torch.device) -> None:
        self.names = tuple(names)
        self.sums = torch.zeros(len(names) + 1, dtype=torch.float64, device=device)
        self._images = 0
        self._since = time.monotonic()

    def add(self, figures: Mapping[str, Tensor], images: int) -> None:
        """Add the figures of one step over ``images``, without waiting for the device; others than `names` are left."""
        values = [figures[name].detach().double() for name in self.names]
        self.sums += torch.stack([*values, torch.ones_like(values[0])])
        self._images += images

    def check(self, step: int) -> None:
        """Raise TextReidError if a figure was not finite."""
        # A sum stays NaN or infinite once a figure was, so that no step has to wait for a check of its own.
        if not bool(self.sums.isfinite().all()):
            raise TextReidError(
                f"the loss is no longer finite at step {step}; lower optimizer.learning_rate "
                "or set optimizer.clip_norm, and start again"
            )

    def take(self) -> dict[str, float]:
        """Return the means, and images per second; begins anew."""
        *sums, steps = self.sums.tolist()
        means = {name: value / steps for name, value in zip(self.names, sums, strict=True)}
        means["images_per_second"] = round(self._images / (time.monotonic() - self._since), 1)
        self.sums.zero_()
        self.restart_clock()
        return means

    def restart_clock(self) -> None:
        """Leave what went before (an evaluation, a checkpoint) out of the images per second."""
        self._images, self._since = 0, time.monotonic()


@dataclass(frozen=True)
class Run:
    """A run that is ready to take step ``start`` (from 0).

    Attributes:
        folder: of the run; only the first process reads and writes it.
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
    noise: NoiseTable | RemoteNoiseTable | EqualNoise | KnownErrors
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
        return _generator(self.compute.device, self.config.training.seed, step, _DRAWS)

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
    stack: ExitStack | None = None,
) -> Run:
    """Read the data, build or restore the network; arguments and errors are those of `textreid.training.recipe.train`.

    Only the first process touches ``out``.

    Args:
        validation_set: its name; None where nothing will be validated.
        processes: of the run; alone when None.
        stack: holds the lock of ``out``; without it, the folder is not locked.
    """
    processes = processes or Processes()
    if resume:  # without a shared disk, the other processes cannot read what the run was started with
        config = Config.from_dict(processes.all_gather_object(config.to_dict())[0])
    training = config.training
    if training.select == "validation" and validation_set is None:
        raise ConfigError(
            "training.select: validation, but there is no validation set; give one, or set training.select=last"
        )
    if training.cache_images == "maps":
        _check_maps(config)
    loader = Loader.from_data(data, config, processes)
    compute = choose_device(training.precision, own_gpu(), training=True)
    if training.compile:
        refuse_to_compile(compute.device)
    checkpoints = Checkpoints(out, config, loader, compute, validation_set)
    found, tokenizer, training_text, records = processes.on_rank0(
        lambda: _open(config, loader, checkpoints, resume, log, stack)
    )
    loader.images.restore_quarantine(
        {name: why for record in records if record["event"] == LEFT_OUT for name, why in record["images"].items()}
    )
    loader.tokenize(tokenizer)
    used = replace(
        config,
        model=replace(config.model, vocabulary_size=tokenizer.vocabulary_size),
        losses=config.losses if loader.data.identities else replace(config.losses, id=0.0),
    )
    # A checkpoint has its own weights: those that the run began with need not be at hand any more.
    from_weights = processes.is_first and not found
    network = build_network(used, loader.data.identities, compute, from_weights)
    scorer, network.refinements = choose_scorer(used, tokenizer, compute.device)
    network.to(compute.device)
    optimizer = make_optimizer(network, used.optimizer)
    noise = open_noise(used.masking, out, found.path if found else None, loader.data, tokenizer, processes.is_first)
    figures = ("mask_rate", *(("noise",) if scorer else ()), *(("weight",) if used.masking.weigh else ()))
    meters = Meters(("loss", *used.losses.weights(), *figures), compute.device)
    if found and found.scaler:
        network.scaler.load_state_dict(found.scaler)
    # The others may not see the folder; `synchronize` sends them the weights and the moments.
    if processes.is_first:
        if found:
            meters.sums.copy_(found.restore(network, optimizer))
        write_json(out / "config.json", used.to_dict())
    return Run(
        folder=out,
        config=used,
        compute=compute,
        model=Model(network.encoder, tokenizer, training_text=training_text),
        network=network,
        ddp=network,
        optimizer=optimizer,
        loader=loader,
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


def cache_images(run: Run, log: RunLog) -> None:
    """Keep the images in memory, or the maps of a trunk that nothing changes, as ``training.cache_images`` says.

    Raises:
        DataError: more than 1 % of the images are unreadable.
    """
    run.loader.cache_images(run.config.training, log)
    if run.config.training.cache_images != "maps":
        return
    model, changes, training = run.config.model, run.config.augmentation, run.config.training
    embedding = cast("TrunkEmbedding", run.network.encoder.vision_model.embeddings.patch_embedding)  # by `_check_maps`

    @torch.no_grad()
    def maps(pixels: Tensor, view: int, first: int) -> Tensor:
        drawn = draw_changes(len(pixels), changes, _generator(run.compute.device, training.seed, view, first, _VIEWS))
        images = augment(to_device(pixels, run.compute.device), changes, drawn, model.pixel_mean, model.pixel_std)
        with run.network.autocast():
            return embedding.maps(images)

    with log.progress("compute maps", len(run.loader.images.names), unit="images"):
        run.loader.images.map_cache(maps, training.map_views, log.advance)


def _check_maps(config: Config) -> None:
    """Raise ConfigError where maps are to be kept that the training would change."""
    if not config.model.has_trunk or config.optimizer.trunk_lr_multiplier:
        raise ConfigError(
            "training.cache_images: maps needs a frozen trunk: model.stem=efficientnet-lite0 and "
            "optimizer.trunk_lr_multiplier=0"
        )


def _generator(device: torch.device, *keys: int) -> torch.Generator:
    # Mixed, not added: seed 0 at step 1 must not draw what seed 1 draws at step 0.
    return torch.Generator(device).manual_seed(int(np.random.SeedSequence(keys).generate_state(1, np.uint64)[0]))


def synchronize(run: Run) -> Run:
    """Bring all processes to the state of the first, and join them for gradients."""
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


def _open(
    config: Config, loader: Loader, checkpoints: Checkpoints, resume: bool, log: RunLog, stack: ExitStack | None
) -> tuple[Checkpoint | None, Tokenizer, tuple[str, ...] | None, list[dict[str, Any]]]:
    """Return the checkpoint to go on from, the tokenizer, what it has learned from, and the records up to there."""
    found = checkpoints.open(resume, log, stack)
    tokenizer = found.tokenizer() if found else _make_tokenizer(config.model, loader.data.captions)
    records = read_records(log.path) if found else []
    return found, tokenizer, _training_text(config, loader.data.sources, records), records


def _make_tokenizer(model: ModelConfig, captions: Iterable[object]) -> Tokenizer:
    if model.tokenizer == "clip":
        return Tokenizer.clip(model.text_length)
    if model.weights is not None:
        return load_model(model.weights).tokenizer.shortened(model.text_length)
    return Tokenizer.learn(map(str, captions), model.vocabulary_size, model.text_length)


def _training_text(config: Config, sources: tuple[str, ...], records: list[dict[str, Any]]) -> tuple[str, ...] | None:
    """Name what the starting weights learned from, and who wrote the captions; None where the former is not known.

    A run that goes on has it in its log: the weights it began with need not be at hand any more.
    """
    for record in records:
        if record["event"] == "start":
            return None if record["training_text"] is None else tuple(record["training_text"])
    before = training_text_of(config.model.weights)
    return None if before is None else tuple(dict.fromkeys([*before, *sources]))
