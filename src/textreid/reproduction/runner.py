"""Run the commands of a plan in order; what is done is not done again, and what was interrupted goes on."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from textreid.artifacts import read_json, write_json
from textreid.errors import ArtifactError, ConfigError
from textreid.reproduction.plans import Plan, PlannedRow
from textreid.reproduction.sources import Step

Execute = Callable[[Sequence[str]], object]  # runs `textreid` with these arguments; raises where that fails
Say = Callable[[str], None]
_CONFIG = "config.json"  # what a training run writes first; before that there is nothing to go on from


def run_plan(plan: Plan, execute: Execute, say: Say) -> list[str]:
    """Run every step that is not done; returns why rows were left out.

    Raises:
        ConfigError: no row has the data it needs.
        ArtifactError: the folder holds results of other commands (of another version, or other data).
        TextReidError: whatever a command raises; the same call goes on from there.
    """
    ready = [row for row in plan.rows if not row.needs]
    left_out = [_why_left_out(row) for row in plan.rows if row.needs]
    if not ready:
        raise ConfigError(f"nothing to run: {'; '.join(left_out)}")
    for number, row in enumerate(ready, start=1):
        say(f"[{number}/{len(ready)}] {row.row.label}, seed {row.seed}")
        for step in row.steps:
            _run_step(plan.folder, step, execute, say)
    return left_out


def _why_left_out(row: PlannedRow) -> str:
    return f"{row.row.label}: give {' '.join(f'--data {name}=PATH' for name in row.needs)}"


def _run_step(folder: Path, step: Step, execute: Execute, say: Say) -> None:
    note = folder / "steps" / ("-".join(step.makes.relative_to(folder).parts) + ".json")
    arguments = list(step.arguments)
    if note.exists() or step.makes.exists():
        made_by = read_json(note)["arguments"] if note.exists() else None
        if made_by != arguments:
            raise ArtifactError(
                f"{step.makes.parent}: made by other arguments of textreid than it would be now (see {note}); choose "
                "another folder with --out, or remove both"
            )
    if step.makes.exists():
        return
    write_json(note, {"arguments": arguments})
    resumed = ["--resume"] if step.run and (step.run / _CONFIG).is_file() else []
    say("$ textreid " + " ".join([*arguments, *resumed]))
    start = time.monotonic()
    execute([*arguments, *resumed])
    write_json(note, {"arguments": arguments, "seconds": round(time.monotonic() - start, 1), "resumed": bool(resumed)})
