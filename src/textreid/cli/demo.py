"""``textreid demo``: the whole main job, from nothing, in a few minutes."""

from functools import partial
from json import dumps
from pathlib import Path

import typer


def demo(
    out: Path = typer.Option(Path("demo"), metavar="FOLDER", help="Where everything goes; must not exist."),
    seed: int = typer.Option(0, min=0, help="Equal seeds give equal people, captions and training."),
    as_json: bool = typer.Option(False, "--json", help="Print the figures as one JSON object."),
) -> None:
    """Render people, caption, pretrain, evaluate, search and report: the whole job, no download, no GPU.

    The figures are those on people and cameras that the training never saw. FOLDER/report.html shows the searches, the
    captions with the words that were masked and the words that were wrong, and the loss.
    """
    # Imported here, or every command would wait for torch before it reads its options.
    from textreid.demo import DemoSettings, run_demo
    from textreid.reporting.tables import Table, print_tables

    # The steps are told on stderr: stdout holds the figures and nothing else, so that a program can read them.
    result = run_demo(out, DemoSettings(seed=seed), partial(typer.echo, err=True))
    if as_json:
        facts = {
            "report": str(result.report),
            "model": str(result.model),
            "figures": result.figures,
            "seconds": round(result.seconds, 1),
        }
        typer.echo(dumps(facts, indent=2))
        return
    scores = list(next(iter(result.figures.values())))
    rows = [(name, *(f"{100 * row[score]:.1f}" for score in scores)) for name, row in result.figures.items()]
    print_tables([Table("An unseen domain, in percent", ("", *scores), [rows])])
    typer.echo(f"done in {result.seconds / 60:.1f} minutes")
    typer.echo(f"report: {result.report}")
    typer.echo('next:   textreid search "a woman in a red jacket" --images FOLDER')
