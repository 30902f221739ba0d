"""``textreid evaluate``: measure a model on a benchmark."""

import json
from pathlib import Path

import typer

from textreid.artifacts import write_json


def evaluate(
    model: str = typer.Argument("tiny", help="A model folder, or the name of a bundled model."),
    dataset: Path = typer.Option(..., help="Folder in CUHK-PEDES form: imgs/ and reid_raw.json."),
    split: str = typer.Option("test", help="Which split of it."),
    baseline: bool = typer.Option(False, "--baseline", help="Add a row for colour histograms, which learn nothing."),
    max_rejected: float = typer.Option(
        0.05, min=0.0, max=1.0, help="Share of images and of captions that may be unusable."
    ),
    out: Path | None = typer.Option(None, help="Write the report to this JSON file too."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON, not a table."),
) -> None:
    """Measure how well sentences find their person: R1, R5, R10, mAP and mINP, beside the level of chance."""
    from rich.console import Console

    from textreid.datasets.annotations import read_cuhk_form
    from textreid.evaluation.colour_baseline import ColourBaseline
    from textreid.evaluation.protocol import evaluate_model
    from textreid.evaluation.report import render, to_report

    benchmark = read_cuhk_form(dataset, max_rejected).split(split)
    from textreid.models import load_model

    evaluations = [evaluate_model(load_model(model), benchmark, split, name=model)]
    if baseline:
        evaluations.append(evaluate_model(ColourBaseline(), benchmark, split, name="colour histograms"))
    report = to_report([evaluation.to_dict() for evaluation in evaluations])
    if out:
        write_json(out, report)
    if as_json:
        typer.echo(json.dumps(report, indent=2, ensure_ascii=False))
    else:
        Console().print(render(report))
