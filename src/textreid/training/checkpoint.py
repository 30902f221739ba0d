"""Checkpoints: ``step-*`` folders that hold everything a run needs to go on as if it had never stopped.

Random numbers and the order of the data are functions of seed and step (`textreid.training.dataset.Sampler`), so the
step number stands for both. The continuation is exact to the last bit on one machine with one number of threads and
of processes: another number adds up in another order.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from textreid.artifacts import MANIFEST, new_folder, read_json, read_manifest, write_json
from textreid.config import Config, ModelConfig
from textreid.errors import ArtifactError, ResumeError
from textreid.models import DualEncoder, Tokenizer
from textreid.training.network import ENCODER, TrainedNetwork, is_of_head
from textreid.training.noise_table import NoiseTable

_KIND, _FORMAT_VERSION = "checkpoint", 3
_WEIGHTS, _OPTIMIZER, _TOTALS = "weights.safetensors", "optimizer.safetensors", "totals.safetensors"
_TOKENIZER, _NOISE, _STATE = "tokenizer.json", "noise.npy", "state.json"
_HARMLESS = frozenset(  # settings that may change between the parts of a run: weights stay as they are, up to rounding
    f"training.{name}"
    for name in (
        "workers", "timeout", "cache_images", "checkpoint_every", "keep_checkpoints", "log_every", "validate_every",
        "activation_checkpointing", "micro_batch",
    )
)  # fmt: skip


@dataclass(frozen=True)
class Identity:
    """Everything that must be the same for a run to be continued."""

    config: dict[str, Any]
    data: str
    validation_set: str | None  # where it chooses the model
    compute: str  # device and precision
    processes: int  # may be another number: it changes the rounding of sums


class Checkpoints:
    """The checkpoints of the run in ``folder``, of which the newest ``keep`` stay."""

    def __init__(self, folder: Path, keep: int, identity: Identity) -> None:
        self._folder = folder
        self._keep = keep
        self.identity = identity

    def save(
        self, step: int, network: TrainedNetwork, optimizer: torch.optim.Optimizer, tokenizer: Tokenizer,
        noise: object, totals: Tensor, kept_step: int | None = None,
    ) -> Path:  # fmt: skip
        """Write the state after ``step`` steps, then remove the oldest checkpoints beyond ``keep`` and ``kept_step``.

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
                noise.save(partial / _NOISE)
            scaler = network.scaler.state_dict()  # empty but under fp16
            write_json(partial / _STATE, {"step": step, **asdict(self.identity), "scaler": scaler})
            _flush(partial)
        # Only now that the new one is whole: if the disk is full, nothing is lost.
        for old in self._paths()[: -self._keep]:
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
        paths = self._paths()
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

    def _paths(self) -> list[Path]:
        return whole_checkpoints(self._folder)

    def _refuse_other_run(self, path: Path, state: dict[str, Any]) -> None:
        was = Config.from_dict(state["config"]).to_dict()  # under the names that settings have today
        differing = [
            f"{section}.{name} was {was[section][name]!r}, is {value!r}"
            for section, values in self.identity.config.items()
            for name, value in values.items()
            if f"{section}.{name}" not in self._harmless() and was[section][name] != value
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

    def _harmless(self) -> frozenset[str]:
        """List the settings that may change; how often it validates matters to a run that chooses by validation."""
        return _HARMLESS if self.identity.validation_set is None else _HARMLESS - {"training.validate_every"}


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

    def noise(self, working: Path, captions: int, text_length: int) -> NoiseTable:
        """Copy the noise table to ``working`` and open it."""
        return NoiseTable.restore(working, self.path / _NOISE, captions, text_length)

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


def whole_checkpoints(run: Path) -> list[Path]:
    """List the folders of the whole checkpoints of a run, oldest first."""
    return sorted(path for path in run.glob("step-*") if (path / MANIFEST).is_file())


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
