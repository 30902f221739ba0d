"""``textreid runs``: training runs side by side."""

from dataclasses import asdict
from datetime import timedelta
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from textreid.reporting.tables import Table
    from textreid.training.runs import RunSummary


def runs(
    folders: list[Path] = typer.Argument(metavar="FOLDER...", help="Run folders, or folders of them."),
    json: bool = typer.Option(False, "--json", help="Print everything that is known of each as JSON."),
) -> None:
    """Compare training runs: the settings in which they differ, how far they are, loss, validation, speed, data."""
    from textreid.training.runs import differing_settings, summarize_runs

    found = summarize_runs(folders)
    if json:
        typer.echo(dumps([_plain(run) for run in found], indent=2, ensure_ascii=False))
        return
    from textreid.reporting.tables import print_tables

    print_tables([_table(found, differing_settings(found))])


def _plain(run: "RunSummary") -> dict[str, Any]:
    validations = {name: value._asdict() if (value := getattr(run, name)) else None for name in ("last", "best")}
    # asdict leaves the named tuples of the validations as tuples, which JSON would write as lists without names.
    return {**asdict(run), "folder": str(run.folder), **validations}


def _table(found: "list[RunSummary]", differing: list[str]) -> "Table":
    from textreid.reporting.tables import Table

    columns = [
        "run", "state", *(name.replace(".", " ") for name in differing), "steps", "saved", "loss", "last R1 %",
        "best R1 %", "best epoch", "images/s", "time", "data",
    ]  # fmt: skip
    rows = [
        [
            run.folder.name or str(run.folder),
            run.state,
            *(_shown(run.settings, name) for name in differing),
            "" if run.steps is None else f"{run.steps:,}/{run.steps_total:,}",
            "" if run.saved is None else f"{run.saved:,}",
            _number(run.loss, ".4f"),
            _number(run.last and 100 * run.last.score, ".1f"),
            _number(run.best and 100 * run.best.score, ".1f"),
            _number(run.best and run.best.epoch, "g"),
            _number(run.images_per_second, ".0f"),
            "" if run.seconds is None else str(timedelta(seconds=round(run.seconds))),
            (run.data or "")[:8],
        ]
        for run in found
    ]
    notes = [f"{run.folder.name}: {run.remark}" for run in found if run.remark]
    for selected_on in dict.fromkeys(run.selected_on for run in found if run.selected_on):
        # A note and not a column: it is a sentence, and mostly the same for all.
        chosen = [run.folder.name for run in found if run.selected_on == selected_on]
        notes.append(f"selected on {selected_on}: {', '.join(chosen)}")
    return Table("Runs", columns, [rows], notes, frozenset({0, 1}))


def _shown(settings: dict[str, Any], name: str) -> str:
    value = settings.get(name, "")
    return value if isinstance(value, str) else dumps(value)


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
