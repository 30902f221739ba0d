"""``textreid evaluate``: measure a model on a benchmark."""

from json import dumps
from pathlib import Path

import typer

from textreid.artifacts import write_json


def evaluate(
    model: str = typer.Argument("tiny", metavar="[MODEL]", help="A model folder, or the name of a bundled model."),
    dataset: Path = typer.Option(..., metavar="FOLDER", help="In CUHK-PEDES form: imgs/ and reid_raw.json."),
    split: str = typer.Option("test", metavar="NAME", help="Which split of it."),
    baseline: bool = typer.Option(False, "--baseline", help="Add a row for colour histograms, which learn nothing."),
    max_rejected: float = typer.Option(
        0.05, min=0.0, max=1.0, metavar="SHARE", help="How much of the images or the captions may be unusable."
    ),
    out: Path | None = typer.Option(None, metavar="FILE", help="Write the report to this JSON file too."),
    json: bool = typer.Option(False, "--json", help="Print the report as JSON, not a table."),
) -> None:
    """Measure how well sentences find their person: R1, R5, R10, mAP and mINP, beside the level of chance."""
    from rich.console import Console

    from textreid.datasets.annotations import read_cuhk_form
    from textreid.evaluation.colour_baseline import ColourBaseline
    from textreid.evaluation.protocol import evaluate_model
    from textreid.evaluation.report import render, to_report

    part = read_cuhk_form(dataset, max_rejected).split(split)
    # A wrong folder is told before torch is imported, which takes seconds.
    from textreid.models import load_model

    loaded = load_model(model)
    evaluations = [
        evaluate_model(loaded, part, split, name=model, selected_on=loaded.selected_on, max_unreadable=max_rejected)
    ]
    if baseline:
        evaluations.append(
            evaluate_model(
                ColourBaseline(),
                part,
                split,
                name="colour histograms",
                selected_on="nothing: it does not learn",
                max_unreadable=max_rejected,
            )
        )
    report = to_report([evaluation.to_dict() for evaluation in evaluations])
    if json:
        typer.echo(dumps(report, indent=2, ensure_ascii=False))
    else:
        Console().print(render(report))
    if out:
        write_json(out, report)
