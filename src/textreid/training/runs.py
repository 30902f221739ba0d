"""What runs did, side by side, from what lies in their folders. No torch here."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any, Literal

from textreid.artifacts import MANIFEST, is_locked, read_json
from textreid.errors import ArtifactError, DataError
from textreid.runlog import METRICS, read_records
from textreid.training.diagnosis import diagnose
from textreid.training.selection import Selection, Validated

_CONFIG, _MODEL = "config.json", "model"
Records = Sequence[dict[str, Any]]


@dataclass(frozen=True)
class RunSummary:
    """Summary of a run. What is not known yet, or cannot be read, is None.

    Attributes:
        folder: of the run.
        state: ``complete`` with its model, ``running`` in a process of this machine, ``stopped``, or ``damaged``.
        remark: why it is damaged, or that nothing was learned; or else empty.
        steps: finished, as far as they are logged.
        saved: the step of the newest checkpoint, from which it would go on; 0 where there is none.
        steps_total: of the whole run.
        loss: the last of the log.
        last, best: validations.
        selected_on: the data that chose the model, in words.
        images_per_second: median of the log.
        seconds: that processes worked on it.
        data: fingerprint of its images and captions.
        settings: by dotted name.
    """

    folder: Path
    state: Literal["complete", "running", "stopped", "damaged"]
    remark: str = ""
    steps: int | None = None
    saved: int | None = None
    steps_total: int | None = None
    loss: float | None = None
    last: Validated | None = None
    best: Validated | None = None
    selected_on: str | None = None
    images_per_second: float | None = None
    seconds: float | None = None
    data: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)


def summarize_runs(folders: Iterable[Path]) -> list[RunSummary]:
    """Summarize every run among ``folders`` and their direct subfolders; a summary of one that cannot be read says why.

    Raises:
        DataError: a folder is missing, or neither a run nor a folder of runs.
    """
    found = []
    for folder in folders:
        if not folder.is_dir():
            raise DataError(f"{folder}: no such folder")
        runs = [folder] if _is_run(folder) else sorted(filter(_is_run, folder.iterdir()))
        if not runs:
            raise DataError(f"{folder}: holds no run; give run folders, as of pretrain --out, or a folder of them")
        found += runs
    # A run may be given twice: by itself and by the folder it is in.
    return [_summarize(run) for run in dict.fromkeys(found)]


def differing_settings(runs: Sequence[RunSummary]) -> list[str]:
    """Name, with dots, the settings that are not the same in all ``runs`` whose settings are known."""
    known = [run.settings for run in runs if run.settings]
    names = dict.fromkeys(name for settings in known for name in settings)
    return [name for name in names if any(settings.get(name) != known[0].get(name) for settings in known)]


def _is_run(folder: Path) -> bool:
    """Tell whether it looks like a run, whole or not; a model folder has a manifest."""
    signs = ((folder / METRICS).is_file(), (folder / _CONFIG).is_file(), any(folder.glob("step-*")))
    return folder.is_dir() and any(signs) and not (folder / MANIFEST).exists() and not folder.name.startswith(".")


def _summarize(folder: Path) -> RunSummary:
    try:
        return _read(folder)
    except ArtifactError as error:
        return RunSummary(folder, "damaged", str(error))
    # A file changed by hand, for one, must not hide the other runs.
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        return RunSummary(folder, "damaged", f"{folder}: holds what no run writes: {type(error).__name__}: {error}")


def _read(folder: Path) -> RunSummary:
    config = read_json(folder / _CONFIG)
    settings = {f"{section}.{name}": value for section, values in config.items() for name, value in values.items()}
    records = read_records(folder / METRICS)
    begun = [record for record in records if record["event"] in ("start", "resume")]
    if not begun:
        raise ArtifactError(f"{folder / METRICS}: holds no start of a run")
    trained = [record for record in records if record["event"] == "train"]
    selection = Selection.from_records(config["training"]["select"], None, records)
    steps, total = max(int(record["step"]) for record in records), int(begun[-1]["steps"])
    # Both are needed: a run writes its model only after its last step, and may be stopped in between.
    finished = steps == total and (folder / _MODEL / MANIFEST).is_file()
    return RunSummary(
        folder=folder,
        # The lock counts first: a run is still at work when its model is there but its plots are not.
        state="running" if is_locked(folder) else "complete" if finished else "stopped",
        remark=diagnose(records),
        steps=steps,
        saved=_saved(folder),
        steps_total=total,
        loss=float(trained[-1]["loss"]) if trained else None,
        last=selection.seen[-1] if selection.seen else None,
        best=selection.best,
        selected_on=read_json(folder / _MODEL / MANIFEST)["selected_on"] if finished else None,
        # The median, because single slow intervals say nothing of the speed.
        images_per_second=median(float(record["images_per_second"]) for record in trained) if trained else None,
        seconds=_seconds(records),
        data=str(begun[-1]["data"]),
        settings=settings,
    )


def _saved(folder: Path) -> int:
    # Not by `textreid.training.checkpoint.whole_checkpoints`, whose module needs torch.
    steps = [int(path.name.removeprefix("step-")) for path in folder.glob("step-*") if (path / MANIFEST).is_file()]
    return max(steps, default=0)


def _seconds(records: Records) -> float | None:
    """Add up, of each process that worked on the run, the time from its first record to its last."""
    if any("time" not in record for record in records):
        return None
    total = 0.0
    for record, after in pairwise(records):
        # Between the last record of a process and the resume of the next one, nothing ran.
        if after["event"] != "resume":
            total += float(after["time"]) - float(record["time"])
    return total
