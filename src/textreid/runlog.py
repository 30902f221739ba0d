"""The log of a run: ``metrics.jsonl``, one JSON object a line, and its view on the console (standard error).

A record has ``event``, ``step`` (steps finished when it was written) and ``time`` (Unix), then its values. Records are
flushed one by one, so a killed process loses none but, at most, the half of a line that it was writing. TensorBoard
gets its numbers from the same records.
"""

import importlib.util
import json
import os
import shutil
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from textreid.artifacts import write_text
from textreid.errors import ArtifactError, ConfigError
from textreid.progress import Progress

METRICS = "metrics.jsonl"
NOISE, LEFT_OUT = "noise", "left_out"  # the events of a histogram, and of images that cannot be used
# What a record says of itself; the rest was measured. "watched" stands for "validation_set" in older logs.
ABOUT = frozenset({"event", "step", "epoch", "time", "validation_set", "watched"})


class RunLog:
    """Appends records to ``folder/metrics.jsonl`` and, if ``console``, shows the run on standard error.

    With ``tensorboard`` it also writes the numbers of the records to ``folder/tensorboard``.

    Raises:
        ConfigError: TensorBoard is asked for and not installed.
    """

    def __init__(self, folder: Path, console: bool = True, tensorboard: bool = False) -> None:
        self.path = folder / METRICS
        self._console = console
        self._tensorboard = _TensorBoard(folder / "tensorboard") if tensorboard else None
        self._progress: Progress | None = None
        self._total, self._note = 0, ""

    def record(self, event: str, step: int, **values: Any) -> None:
        """Append one record.

        Raises:
            ArtifactError: it cannot be written.
        """
        record = {"event": event, "step": step, "time": round(time.time(), 2), **values}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # Opened for each record, so that no part of one waits in a buffer when the process is killed.
            with self.path.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(record, ensure_ascii=False) + "\n")
        except OSError as error:
            raise ArtifactError(f"{self.path}: cannot be written: {error.strerror or error}") from error
        if self._tensorboard:
            self._tensorboard.write([record])

    def say(self, text: str) -> None:
        """Show one line on the console."""
        if self._progress is not None:
            self._progress.say(text)
        elif self._console:
            sys.stderr.write(text + "\n")

    @contextmanager
    def progress(self, task: str, total: int, done: int = 0, unit: str = "steps") -> Iterator[None]:
        """Show how far ``task`` is, its rate and the time left, while the block runs and calls `advance`."""
        with Progress(task, unit, self._console) as shown:
            self._progress, self._total, self._note = shown, total, ""
            shown.start(done)
            try:
                yield
            finally:
                self._progress = None

    def note(self, text: str) -> None:
        """Set the text beside the progress."""
        self._note = text

    def advance(self, done: int) -> None:
        """Show that ``done`` units of the task in `progress` are finished."""
        if self._progress is not None:
            self._progress.update(done, self._total, self._note)

    def keep_until(self, step: int) -> None:
        """Remove the records of later steps, and a last line that is cut off."""
        if self.path.exists():
            # A run that is resumed makes the steps after its checkpoint again, and records them again.
            kept = [line for line in self.path.read_text(encoding="utf-8").splitlines() if _step(line) <= step]
            write_text(self.path, "".join(f"{line}\n" for line in kept))
            if self._tensorboard:
                self._tensorboard.rewrite(read_records(self.path))


class _TensorBoard:
    """Numbers of training and validation as scalars ``train/loss``, ..., and the histograms of word noise."""

    def __init__(self, folder: Path) -> None:
        if importlib.util.find_spec("tensorboard") is None:
            raise ConfigError("tensorboard is not installed: pip install 'textreid[tensorboard]', or leave it out")
        self._folder = folder
        self._writer: Any = None

    def write(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Append records; they are on disk when this returns."""
        from torch.utils.tensorboard import SummaryWriter

        self._writer = self._writer or SummaryWriter(str(self._folder))
        for record in records:
            event, step, when = record["event"], record["step"], record["time"]
            if event in ("train", "validation"):
                for name in record.keys() - ABOUT:
                    self._writer.add_scalar(f"{event}/{name}", record[name], step, when)
            elif event == NOISE:
                self._add_histogram(record["counts"], step, when)
        self._writer.flush()

    def rewrite(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Replace what was written by ``records``."""
        if self._writer:
            self._writer.close()
            self._writer = None
        # TensorBoard can only append to its files.
        shutil.rmtree(self._folder, ignore_errors=True)
        self.write(records)

    def _add_histogram(self, counts: list[int], step: int, when: float) -> None:
        width = 1 / len(counts)
        middles = [(index + 0.5) * width for index in range(len(counts))]
        self._writer.add_histogram_raw(
            "masking probability", min=0.0, max=1.0, num=sum(counts),
            sum=sum(count * middle for count, middle in zip(counts, middles, strict=True)),
            sum_squares=sum(count * middle**2 for count, middle in zip(counts, middles, strict=True)),
            bucket_limits=[(index + 1) * width for index in range(len(counts))], bucket_counts=counts,
            global_step=step, walltime=when,
        )  # fmt: skip


class NoLog(RunLog):
    """The log of a process that leaves the talking to another: writes nothing, shows nothing."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, console=False)

    def record(self, event: str, step: int, **values: Any) -> None:
        """Do nothing."""

    def keep_until(self, step: int) -> None:
        """Do nothing."""


def first_of_run() -> bool:
    """Tell whether this process speaks for its run: torchrun's first, or the only one."""
    return os.environ.get("RANK", "0") == "0"


def read_records(path: Path) -> list[dict[str, Any]]:
    """Read the records of a ``metrics.jsonl``, without a last line that is cut off.

    Raises:
        ArtifactError: the file is missing or unreadable.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read: {error.strerror or error}") from error
    return [json.loads(line) for line in lines if _step(line) < float("inf")]


def _step(line: str) -> float:
    """Return the step of a record; infinite for a line that is cut off or holds no record."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")
