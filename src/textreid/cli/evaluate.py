"""``textreid evaluate``: measure models on benchmarks."""

from functools import partial
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer

from textreid.errors import ConfigError
from textreid.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Callable

    from textreid.datasets.records import Benchmark
    from textreid.evaluation.report import Candidate

BENCHMARK_HELP = (
    "cuhk-pedes=, icfg-pedes= or rstpreid= and the folder as it is distributed; any other name, or none, for your own "
    "data: a folder in CUHK-PEDES form, or a table."
)


def evaluate(
    models: list[str] = typer.Argument(
        None,
        metavar="[MODEL]...",
        help="Model folders, names on the hub, small and tiny, which are bundled; + between some for their mean.",
        show_default=False,
    ),
    benchmarks: list[str] = typer.Option(
        [],
        "--benchmark",
        metavar="[NAME=]PATH",
        help=f"{BENCHMARK_HELP} Repeat for more.",
        show_default=False,
    ),
    dataset: list[str] = typer.Option([], "--dataset", hidden=True),  # what the option was called once
    split: Literal["test", "val", "train"] = typer.Option(
        "test", help="val: a benchmark without one sets 10 % of its training people aside (seed 0)."
    ),
    image_to_text: bool = typer.Option(False, "--image-to-text", help="Measure that direction too."),
    words: bool = typer.Option(False, "--words", help="Measure each attribute word: which is the model blind to?"),
    swaps: bool = typer.Option(
        False, "--swaps", help="Exchange each attribute: does the picture prefer the true sentence? 50 % is a coin."
    ),
    failures: Path | None = typer.Option(None, metavar="FILE.html", help="Write a page of the worst sentences."),
    report: Path | None = typer.Option(None, metavar="FOLDER", help="Write report.json, report.md and report.tex."),
    baseline: bool = typer.Option(False, "--baseline", help="Add a row for colour histograms, which learn nothing."),
    max_rejected: float = typer.Option(
        0.05, min=0.0, max=1.0, metavar="SHARE", help="How much of the images or the captions may be unusable."
    ),
    json: bool = typer.Option(False, "--json", help="Print the report as JSON, not as tables."),
) -> int:
    """Measure how well sentences find their person: R1, R5, R10, mAP and mINP, with intervals and the level of chance.

    Published figures stand beside them on the benchmarks that have some. Where one of several evaluations fails, the
    others are reported and the exit code is 1.
    """
    # Before any model is loaded: a wrong folder is told without waiting for torch, whose import takes some 2 s.
    parts = _parts([*benchmarks, *dataset], split, max_rejected)
    from textreid.evaluation.report import Measures, compare, report_tables, write_report
    from textreid.images import silence_decoders
    from textreid.models.folder import DEFAULT

    silence_decoders()
    measures = Measures(image_to_text, words, failures, max_rejected, swaps)
    with Progress("encode") as progress:

        def watch(model: str, benchmark: str) -> "Callable[[int, int], None]":
            return partial(progress.update, task=f"{model} on {benchmark}")

        found = compare(_candidates(models or [DEFAULT], baseline), parts, measures, watch)
    if report:
        write_report(report, found)
    if json:
        typer.echo(dumps(found, indent=2, ensure_ascii=False))
    else:
        from textreid.reporting.tables import print_tables

        print_tables(report_tables(found))
    for failure in found["failures"]:
        typer.echo(f"textreid: {failure['model']} on {failure['benchmark']}: {failure['error']}", err=True)
    return 1 if found["failures"] else 0


def _parts(arguments: list[str], split: str, max_rejected: float) -> "list[Benchmark]":
    """Read the split of each benchmark that is named."""
    from textreid.datasets.benchmarks import read_named
    from textreid.evaluation.splits import split_of

    if not arguments:
        raise ConfigError("nothing to measure on; give --benchmark [NAME=]PATH, as --benchmark mine=FOLDER")
    read = [read_named(argument, max_rejected) for argument in arguments]
    names = [benchmark.name for benchmark in read]
    if len(set(names)) < len(names):
        raise ConfigError(f"two benchmarks of one name: {', '.join(names)}; name one as in --benchmark mine=FOLDER")
    return [split_of(benchmark, split) for benchmark in read]


def _candidates(models: list[str], baseline: bool) -> "list[Candidate]":
    from textreid.evaluation.report import Candidate
    from textreid.models import load_model
    from textreid.models.colour_names import ColourNames

    if len(set(models)) < len(models):
        raise ConfigError(f"a model is named twice: {', '.join(models)}")
    found = [Candidate(model, partial(load_model, model)) for model in models]
    return [*found, Candidate("colour histograms", ColourNames)] if baseline else found
