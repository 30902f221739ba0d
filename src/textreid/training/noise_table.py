"""Masking probabilities (Eq. 3-4) of every word of every caption, one dense half-precision table on disk."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from numpy.lib.format import open_memmap, write_array_header_1_0
from torch import Tensor

from textreid.config import MaskingConfig
from textreid.errors import ArtifactError, TextReidError
from textreid.models import Tokenizer
from textreid.models.device import AsyncCopy, to_device
from textreid.training.batch import Batch
from textreid.training.dataset import TrainingSet
from textreid.training.known_errors import KnownErrors

NOISE_TABLE = "noise.npy"  # in the run folder, and in each checkpoint
BINS = 50  # of a histogram over [0, 1]
_BLOCK_ROWS = 1 << 16


class NoiseTable:
    """(captions, text_length) float16 in a ``.npy`` file, memory-mapped; row = caption, column = token position.

    A step reads the probabilities it masks with and writes those of the next epoch (Tan et al. 2024, §3.3). What was
    written last is copied from its device while the next step runs; whoever reads or saves sees it nevertheless.
    """

    def __init__(self, path: Path, values: "np.memmap[tuple[int, int], np.dtype[np.float16]]") -> None:
        self.path = path
        self._values = values
        self._waiting: tuple[npt.NDArray[np.int64], AsyncCopy] | None = None

    def probabilities(self, batch: Batch) -> Tensor:
        """Return the probabilities (T, L) of a batch, as `update` set them when its captions were met last."""
        values = torch.from_numpy(self.read(batch.caption_index, batch.ids.shape[1]))
        return to_device(batch.processes.broadcast(values), batch.ids.device)

    def update(self, batch: Batch, probabilities: Tensor) -> None:
        """Set the probabilities (T, L) with which the captions of a batch are masked when they are met next."""
        self.write(batch.caption_index, probabilities)

    @classmethod
    def create(cls, path: Path, captions: int, text_length: int, probability: float) -> Self:
        """Write a table to ``path`` that holds ``probability`` everywhere; replaces a former one.

        Raises:
            ArtifactError: it cannot be written.
        """
        try:
            with path.open("wb") as stream:  # plain writes: on a full disk a fresh memory map would kill the process
                header = {"descr": "<f2", "fortran_order": False, "shape": (captions, text_length)}
                write_array_header_1_0(stream, header)
                for start in range(0, captions, _BLOCK_ROWS):
                    rows = min(_BLOCK_ROWS, captions - start)
                    stream.write(np.full((rows, text_length), probability, dtype="<f2").tobytes())
            values = open_memmap(path, mode="r+")
        except OSError as error:
            raise ArtifactError(f"{path}: cannot be written: {error.strerror or error}") from error
        return cls(path, values)

    @classmethod
    def restore(cls, path: Path, saved: Path, captions: int, text_length: int) -> Self:
        """Copy the table that was `save`d at ``saved`` to ``path`` and open the copy.

        Raises:
            ArtifactError: it is unreadable, of another shape, or holds values that are no probabilities.
        """
        try:
            values = np.load(saved, mmap_mode="r")
        except (OSError, ValueError) as error:
            raise ArtifactError(f"{saved}: cannot be read as a noise table: {error}") from error
        if values.shape != (captions, text_length) or values.dtype != np.float16:
            raise ArtifactError(
                f"{saved}: holds {values.shape} {values.dtype}, but the captions need {(captions, text_length)} float16"
            )
        for start in range(0, captions, _BLOCK_ROWS):
            block = values[start : start + _BLOCK_ROWS]
            if not ((block >= 0) & (block <= 1)).all():
                raise ArtifactError(f"{saved}: holds values outside [0, 1] in rows from {start}: damaged")
        try:
            # A copy, since the run writes into it and the checkpoint must stay as it is.
            shutil.copyfile(saved, path)
            return cls(path, open_memmap(path, mode="r+"))
        except OSError as error:
            raise ArtifactError(f"{path}: cannot be written: {error.strerror or error}") from error

    def read(self, captions: npt.NDArray[np.int64], length: int) -> npt.NDArray[np.float32]:
        """Return the probabilities (T, length) of the first ``length`` tokens of ``captions``.

        Raises:
            TextReidError: as `write`.
        """
        # Wait for the device only where one of these captions is still on its way.
        if self._waiting and np.isin(captions, self._waiting[0]).any():
            self._settle()
        return np.asarray(self._values[captions, :length], dtype=np.float32)

    def write(self, captions: npt.NDArray[np.int64], probabilities: Tensor) -> None:
        """Set the probabilities (T, length), on any device, of the first tokens of ``captions``.

        Raises:
            TextReidError: a value is not in [0, 1], as when the weights have become NaN. It is found when the values
                arrive: here at the next call, or when they are read or saved.
        """
        self._settle()
        self._waiting = captions, AsyncCopy(probabilities)

    def histogram(self, lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Count the words that have a probability in each of `BINS` equal parts of [0, 1]; the last part includes 1.

        Args:
            lengths: (captions,) tokens of every caption, start and end included; what they leave over is no word.
        """
        self._settle()
        counts = np.zeros(BINS, dtype=np.int64)
        columns = np.arange(self._values.shape[1])
        for start in range(0, len(lengths), _BLOCK_ROWS):
            block = self._values[start : start + _BLOCK_ROWS]
            # Start and end tokens and padding are never masked.
            words = (columns > 0) & (columns < lengths[start : start + _BLOCK_ROWS, None] - 1)
            counts += np.histogram(block[words].astype(np.float32), bins=BINS, range=(0, 1))[0]
        return counts

    def save(self, path: Path) -> None:
        """Write a copy to ``path``; raises OSError like any file operation, and TextReidError as `write`."""
        self._settle()
        self._values.flush()
        shutil.copyfile(self.path, path)

    def _settle(self) -> None:
        """Bring into the table what was written last."""
        if self._waiting is None:
            return
        (captions, copy), self._waiting = self._waiting, None
        probabilities = copy.wait()
        # Asked in this way, because NaN fails every comparison.
        if not ((probabilities >= 0) & (probabilities <= 1)).all():
            raise TextReidError("a masking probability is not in [0, 1]: the training has diverged; lower the rate")
        self._values[captions, : probabilities.shape[1]] = probabilities


class RemoteNoiseTable:
    """Stand-in for the `NoiseTable` of the first process in the others: it has the values told, and keeps none."""

    def probabilities(self, batch: Batch) -> Tensor:
        """Return the probabilities (T, L) that the first process reads."""
        return to_device(batch.processes.broadcast(torch.empty(batch.ids.shape)), batch.ids.device)

    def update(self, batch: Batch, probabilities: Tensor) -> None:
        """Do nothing: the first process has the same probabilities."""


@dataclass(frozen=True)
class EqualNoise:
    """Stand-in for a `NoiseTable` where all words are masked alike, with one ``probability``, or not at all."""

    probability: float

    def probabilities(self, batch: Batch) -> Tensor:
        """Return the one probability, (T, L)."""
        return torch.full(batch.ids.shape, self.probability, device=batch.ids.device)

    def update(self, batch: Batch, probabilities: Tensor) -> None:
        """Do nothing: the next epoch masks as this one."""


def open_noise(
    config: MaskingConfig, folder: Path, checkpoint: Path | None, data: TrainingSet, tokenizer: Tokenizer, first: bool
) -> NoiseTable | RemoteNoiseTable | EqualNoise | KnownErrors:
    """Open the masking probabilities.

    Args:
        config: method and probability.
        folder: of the run, in which the table lies.
        checkpoint: folder of the checkpoint that the run goes on from.
        data: the training set.
        tokenizer: of its captions.
        first: whether this process is the one that reads and writes the folder.

    Raises:
        ConfigError: the errors of the captions are to be masked, and not known.
        ArtifactError: the table cannot be read or written.
    """
    captions, text_length = len(data), tokenizer.text_length
    if config.method == "oracle":
        return KnownErrors.of(data, tokenizer)
    if config.method != "nam":
        return EqualNoise(config.probability if config.method == "em" else 0.0)
    if not first:
        return RemoteNoiseTable()
    path = folder / NOISE_TABLE
    if checkpoint:
        return NoiseTable.restore(path, checkpoint / NOISE_TABLE, captions, text_length)
    return NoiseTable.create(path, captions, text_length, config.probability if config.shift else 0.0)
