"""``textreid reproduce``: the published experiments, as commands of this program, and in miniature."""

from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from functools import partial
from io import StringIO
from json import dumps
from pathlib import Path
from shlex import join
from typing import TYPE_CHECKING, Any, Literal

import typer

from textreid.errors import ConfigError

if TYPE_CHECKING:
    from textreid.reproduction import Plan

_ALL = "all"  # what stands for every experiment that a scale has
_say = partial(typer.echo, err=True)


def reproduce(
    context: typer.Context,
    name: str | None = typer.Argument(
        None, metavar="[EXPERIMENT]", help="Its name or alias, or all; without, all are listed."
    ),
    scale: Literal["paper", "mini"] = typer.Option(
        "mini", help="paper: data sets and CLIP, as published; mini: drawn people on two cores, minutes."
    ),
    run: bool | None = typer.Option(
        None, "--run/--print", help="Run the commands, or print them. Without: mini runs, paper prints."
    ),
    data: list[str] = typer.Option(
        [],
        metavar="NAME=PATH",
        help="Where things are, at the paper's scale: luperson, luperson-mllm, clip, cuhk-pedes, icfg-pedes, rstpreid, "
        "mals, mals-images, luperson-t, luperson-t-images. Rows that lack some are left out.",
    ),
    out: Path = typer.Option(
        Path("reproduction"), metavar="FOLDER", help="Where everything goes; the same command again goes on."
    ),
    seeds: int | None = typer.Option(None, min=1, help="Repetitions of each row: 3 for mini, else 1."),
    quick: bool = typer.Option(False, "--quick", help="mini on a handful of people: tells that it runs, no more."),
    json: bool = typer.Option(False, "--json", help="Print the report as JSON."),
) -> None:
    """Repeat the published experiments row by row; what is done is kept, so a stopped run goes on."""
    from textreid.reproduction import SCALES, experiments, find_experiment, make_plan, run_plan

    if quick and scale != "mini":
        raise typer.BadParameter("--quick needs --scale mini")
    if name is None:
        for one in experiments():
            typer.echo(f"{one.name:<14}{one.alias:<9}{one.title}")
        return
    size = SCALES["quick" if quick else scale]
    chosen = [one for one in experiments() if one.rows[size.rows]] if name == _ALL else [find_experiment(name)]
    given = _paths(data, size.drawn)
    plans = [make_plan(one, size, out, range(seeds or size.seeds), given) for one in chosen]
    # At the paper's scale a row takes up to ten hours of a fast GPU (docs/reproduce.md): unasked, it is only printed.
    if not (run if run is not None else size.drawn):
        _print(plans)
        return
    reports = []
    for plan in plans:
        for reason in run_plan(plan, partial(_execute, context.find_root().command.main), _say):
            _say(f"left out: {reason}")
        # After each, so that a command that is stopped leaves the tables that are done.
        reports.append(_report(plan, json))
    if json:
        typer.echo(dumps(reports if name == _ALL else reports[0], indent=2, ensure_ascii=False))


def _paths(data: list[str], drawn: bool) -> dict[str, Path]:
    """Read the names and paths of ``--data``; each name must be known, each path exist."""
    from textreid.reproduction import DATA

    if data and drawn:
        raise ConfigError("--data is for --scale paper; the miniature draws its people")
    found = {}
    for one in data:
        key, equals, path = one.partition("=")
        if not equals or key not in DATA:
            raise ConfigError(f"--data {one}: expected NAME=PATH, NAME one of {', '.join(DATA)}")
        if not Path(path).exists():
            raise ConfigError(f"--data {one}: no such file or folder")
        found[key] = Path(path)
    return found


def _execute(textreid: Callable[..., object], arguments: Sequence[str]) -> None:
    """Run another command in this process; what it prints on stdout is dropped, for its files say the same."""
    # In this process: torch is imported once, and an error keeps its class and its one line.
    with redirect_stdout(StringIO()):
        textreid(list(arguments), prog_name="textreid", standalone_mode=False)


def _print(plans: Sequence["Plan"]) -> None:
    """Print each row as comments and lines of a shell script; a command that an earlier row has is not repeated."""
    from textreid.reproduction.results import published_scores

    shown = set()
    for plan in plans:
        typer.echo(f"# {plan.experiment.title} ({plan.experiment.name}), scale {plan.scale.name}")
        for planned in plan.rows:
            typer.echo(f"\n# {planned.row.label}, seed {planned.seed}" + (f": {planned.size}" if planned.size else ""))
            for benchmark in plan.scale.benchmarks:
                if scores := published_scores(planned.row, benchmark):
                    figures = ", ".join(f"{score} {100 * value:.2f}" for score, value in scores.items())
                    typer.echo(f"# published on {benchmark}: {figures}")
            if planned.needs:
                typer.echo(f"# needs {planned.missing_options}")
            for step in planned.steps:
                # Rows share steps, which run once (`Steps`).
                if step.makes not in shown:
                    shown.add(step.makes)
                    typer.echo(join(["textreid", *step.arguments]))


def _report(plan: "Plan", json: bool) -> dict[str, Any]:
    """Write what came of an experiment, print its tables unless JSON is to come, and return it."""
    from textreid.reporting.tables import print_tables
    from textreid.reproduction.results import result_tables, to_results, write_results

    results = to_results(plan)
    files = write_results(plan.folder / plan.experiment.name, results)
    if not json:
        print_tables(result_tables(results))
        for file in files:
            _say(file)
    return results
