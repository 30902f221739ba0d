"""Checkpoints: ``step-*`` folders that hold everything a run needs to go on as if it had never stopped.

Random numbers and the order of the data are functions of seed and step (`textreid.training.dataset.Sampler`), so the
step number stands for both. The continuation is exact to the last bit on one machine with one number of threads and
of processes: another number adds up in another order.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from textreid.artifacts import LOCK, locked, new_folder, read_json, read_manifest, write_json
from textreid.config import Config, ModelConfig
from textreid.errors import ArtifactError, ConfigError, ResumeError
from textreid.models import DualEncoder, Tokenizer
from textreid.models.device import Device
from textreid.runlog import RunLog
from textreid.training.loader import Loader
from textreid.training.network import ENCODER, TrainedNetwork, is_of_head
from textreid.training.noise_table import NOISE_TABLE, NoiseTable
from textreid.training.processes import Processes
from textreid.training.runs import whole_checkpoints

_KIND, _FORMAT_VERSION = "checkpoint", 3
_WEIGHTS, _OPTIMIZER, _TOTALS = "weights.safetensors", "optimizer.safetensors", "totals.safetensors"
_REFINEMENTS = "refinements."  # begins the names of their buffers in the network
_TOKENIZER, _STATE = "tokenizer.json", "state.json"
_HARMLESS = frozenset(  # settings that may change between the parts of a run: weights stay as they are, up to rounding
    f"training.{name}"
    for name in (
        "workers", "timeout", "cache_images", "checkpoint_every", "keep_checkpoints", "log_every", "validate_every",
        "activation_checkpointing", "micro_batch",
    )
)  # fmt: skip


@dataclass(frozen=True)
class Identity:
    """Settings, data and machine of a run, which must be the same for it to be continued."""

    config: dict[str, Any]
    data: str
    validation_set: str | None  # where it chooses the model
    compute: str  # device and precision
    processes: int  # may be another number: it changes the rounding of sums


class Checkpoints:
    """The checkpoints of the run in ``folder``, and what must be the same for the run to go on from them.

    Raises:
        ConfigError: another process has other settings or data than the first.
    """

    def __init__(
        self, folder: Path, config: Config, loader: Loader, compute: Device, validation_set: str | None
    ) -> None:
        settings = config.to_dict()
        # The tokenizer decides on the size of the vocabulary, and the data on the loss of identities.
        del settings["model"]["vocabulary_size"]
        if not loader.data.identities:
            del settings["losses"]["id"]
        self._folder = folder
        self._keep = config.training.keep_checkpoints
        self.identity = Identity(
            config=settings,
            data=loader.fingerprint,
            validation_set=validation_set if config.training.select == "validation" else None,
            compute=f"{compute.device.type}, {compute.dtype}",
            processes=loader.processes.count,
        )
        _refuse_others(self.identity, loader.processes)

    def open(self, resume: bool, log: RunLog, stack: ExitStack | None = None) -> "Checkpoint | None":
        """Take the folder for a run; returns the checkpoint to go on from, up to which the log is kept.

        Args:
            resume: whether there must be a run in it, or must not.
            log: of the run.
            stack: holds the lock of the folder; without it, the folder is not locked.

        Raises:
            ArtifactError: the folder holds something, and the run is a new one.
            ResumeError: there is nothing to resume; another process trains here; or as `newest`.
        """
        self._refuse_folder(resume)
        if stack:
            self._folder.mkdir(parents=True, exist_ok=True)
            busy = "another process trains here; wait until it is done, or choose another folder"
            stack.enter_context(locked(self._folder, busy))
            self._refuse_folder(resume)  # it may have come to be, and been given back, in between
        found = self.newest() if resume else None
        if resume and found is None:
            log.say(f"{self._folder}: stopped before its first checkpoint; starts from the beginning")
        # Later steps are taken again and would be in the log twice.
        log.keep_until(found.step if found else -1)
        return found

    def _refuse_folder(self, resume: bool) -> None:
        """Raise an error where a new run finds something, or one that shall go on finds none."""
        out = self._folder
        if resume and not (out / "config.json").is_file():
            raise ResumeError(f"{out}: no run to resume; start it without --resume")
        # A lock is not a run: it may be left of one that was refused.
        if not resume and out.exists() and (not out.is_dir() or any(path.name != LOCK for path in out.iterdir())):
            raise ArtifactError(f"{out}: exists already; continue it with --resume, or choose another folder")

    def save(
        self, step: int, network: TrainedNetwork, optimizer: torch.optim.Optimizer, tokenizer: Tokenizer,
        noise: object, totals: Tensor, kept_step: int | None = None,
    ) -> Path:  # fmt: skip
        """Write the state after ``step`` steps, then remove the oldest checkpoints.

        As many as the run keeps stay, and that of ``kept_step``.

        Raises:
            ArtifactError: it cannot be written (the disk is full); the former checkpoints stay.
        """
        path = self._path(step)
        with new_folder(path, _KIND, _FORMAT_VERSION, replace=True, step=step) as partial:
            try:
                save_file(_contiguous(network.state_dict()), partial / _WEIGHTS)
                save_file(_moments(network, optimizer), partial / _OPTIMIZER)
                save_file({"totals": totals.cpu()}, partial / _TOTALS)
            except SafetensorError as error:
                raise ArtifactError(f"{path}: cannot be written: {error}") from error
            tokenizer.save(partial / _TOKENIZER)
            if isinstance(noise, NoiseTable):
                noise.save(partial / NOISE_TABLE)
            scaler = network.scaler.state_dict()  # empty but under fp16
            write_json(partial / _STATE, {"step": step, **asdict(self.identity), "scaler": scaler})
            _flush(partial)
        # Only now that the new one is whole: if the disk is full, nothing is lost.
        for old in whole_checkpoints(self._folder)[: -self._keep]:
            if kept_step is None or old != self._path(kept_step):
                shutil.rmtree(old)
        return path

    def newest(self) -> "Checkpoint | None":
        """Find the newest whole checkpoint, or None; what was left half-written is removed.

        Raises:
            ResumeError: the run was made with other settings or other data; says which.
            ArtifactError: a whole checkpoint is damaged.
        """
        for partial in self._folder.glob(".step-*"):
            shutil.rmtree(partial)
        paths = whole_checkpoints(self._folder)
        if not paths:
            return None
        try:
            read_manifest(paths[-1], _KIND, _FORMAT_VERSION)
            state = read_json(paths[-1] / _STATE)
        except ArtifactError as error:
            raise ArtifactError(f"{error}; remove {paths[-1].name} to go on from the checkpoint before it") from error
        self._refuse_other_run(paths[-1], state)
        return Checkpoint(paths[-1], state["step"], self._changes_of_rounding(state), state.get("scaler"))

    def at(self, step: int) -> "Checkpoint":
        """Find the whole checkpoint after ``step`` steps.

        Raises:
            ArtifactError: it is missing or damaged.
        """
        read_manifest(self._path(step), _KIND, _FORMAT_VERSION)
        return Checkpoint(self._path(step), step)

    def _path(self, step: int) -> Path:
        # Zeros in front, because checkpoints are found in the order of their names.
        return self._folder / f"step-{step:08}"

    def _refuse_other_run(self, path: Path, state: dict[str, Any]) -> None:
        was = Config.from_dict(state["config"]).to_dict()  # under the names that settings have today
        # How often it validates matters to a run that chooses its model by that.
        matters = {"training.validate_every"} if self.identity.validation_set else set()
        differing = [
            f"{section}.{name} was {was[section][name]!r}, is {value!r}"
            for section, values in self.identity.config.items()
            for name, value in values.items()
            if f"{section}.{name}" not in _HARMLESS - matters and was[section][name] != value
        ]
        if state["data"] != self.identity.data:
            differing.append("the captions or images are others")
        chose_on = state.get("validation_set", state.get("watched"))  # as older checkpoints call it
        if chose_on != self.identity.validation_set:
            differing.append(f"it chose its model on {chose_on}, this does on {self.identity.validation_set}")
        if state["compute"] != self.identity.compute:
            differing.append(f"it computed on {state['compute']}, this is {self.identity.compute}")
        if differing:
            raise ResumeError(
                f"{path}: cannot be continued exactly: {'; '.join(differing)}. "
                "Give the settings and data of the run, or start another with a new --out"
            )

    def _changes_of_rounding(self, state: dict[str, Any]) -> tuple[str, ...]:
        was, now = state["config"]["training"]["micro_batch"], self.identity.config["training"]["micro_batch"]
        processes = f"{self.identity.processes} processes in place of {state['processes']}"
        return (
            *([processes] if state["processes"] != self.identity.processes else []),
            *([f"training.micro_batch {now} in place of {was}"] if was != now else []),
        )


@dataclass(frozen=True)
class Checkpoint:
    """One whole checkpoint on disk."""

    path: Path
    step: int
    changes: tuple[str, ...] = ()  # what is not as it was, so that the run goes on equal up to rounding
    scaler: dict[str, Any] | None = None  # state of the gradient scaler, of a run under fp16

    def tokenizer(self) -> Tokenizer:
        """Read the tokenizer of the run."""
        return Tokenizer.load(self.path / _TOKENIZER)

    def restore(self, network: TrainedNetwork, optimizer: torch.optim.Optimizer) -> Tensor:
        """Load weights and optimiser state in place; returns the running totals of the log.

        Raises:
            ArtifactError: the files are damaged or do not fit the network.
        """
        self.restore_weights(network)
        with self._reading():
            _load_moments(network, optimizer, load_file(self.path / _OPTIMIZER))
            return load_file(self.path / _TOTALS)["totals"]

    def restore_weights(self, network: nn.Module) -> None:
        """Load the weights alone, in place.

        Raises:
            ArtifactError: the file is damaged or does not fit the network.
        """
        with self._reading():
            network.load_state_dict(load_file(self.path / _WEIGHTS))

    def remembered(self) -> dict[str, Tensor]:
        """Read what the refinements of the noise of words remember, by their own names; nothing where there are none.

        Raises:
            ArtifactError: the file is damaged.
        """
        with self._reading(), safe_open(self.path / _WEIGHTS, "pt") as weights:
            return {
                name.removeprefix(_REFINEMENTS): weights.get_tensor(name)
                for name in weights.keys()  # noqa: SIM118 (it is no mapping)
                if name.startswith(_REFINEMENTS)
            }

    def encoder(self, config: ModelConfig) -> DualEncoder:
        """Read the network without its heads.

        Raises:
            ArtifactError: the file is damaged or does not fit ``config``.
        """
        encoder = DualEncoder(config)
        with self._reading():
            weights = load_file(self.path / _WEIGHTS)
            encoder.load_state_dict(
                {name.removeprefix(ENCODER): weight for name, weight in weights.items() if not is_of_head(name)}
            )
        return encoder

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        # PyTorch raises RuntimeError for weights that are missing or of another shape.
        except (SafetensorError, OSError, RuntimeError, KeyError) as error:
            raise ArtifactError(f"{self.path}: damaged, or of another model: {error}") from error


def _refuse_others(identity: Identity, processes: Processes) -> None:
    """Raise ConfigError if a process has other settings or data than the first."""
    first, *others = processes.all_gather_object(asdict(identity))
    for rank, other in enumerate(others, 1):
        differing = [name for name, value in first.items() if other[name] != value]
        if differing:
            raise ConfigError(
                f"process {rank} has another {' and '.join(differing)} than process 0: "
                "every machine needs the same command, images and captions"
            )


def _flush(folder: Path) -> None:
    """Flush the files to disk before the folder gets its name: a power cut must not leave a name without data."""
    for path in folder.iterdir():
        with path.open("rb") as stream:
            os.fsync(stream.fileno())


def _contiguous(state: dict[str, Tensor]) -> dict[str, Tensor]:
    # safetensors refuses views whose elements do not lie one after the other.
    return {name: tensor.detach().contiguous() for name, tensor in state.items()}


def _moments(network: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the optimiser's state by parameter name: ``<name>/exp_avg`` and so on."""
    return _contiguous(
        {
            f"{name}/{key}": value
            for name, parameter in network.named_parameters()
            for key, value in optimizer.state.get(parameter, {}).items()
        }
    )


def _load_moments(network: nn.Module, optimizer: torch.optim.Optimizer, saved: dict[str, Tensor]) -> None:
    parameters = dict(network.named_parameters())
    for name, value in saved.items():
        parameter, key = name.rsplit("/", 1)
        owner = parameters[parameter]
        optimizer.state[owner][key] = value.to(owner.device)
