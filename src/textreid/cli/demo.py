"""``textreid demo``: the whole main job, from nothing, in a few minutes."""

import sys
from pathlib import Path

import typer


def demo(
    out: Path = typer.Option(Path("demo"), metavar="FOLDER", help="Where everything goes; must not exist."),
    seed: int = typer.Option(0, min=0, help="Equal seeds give equal people, captions and training."),
) -> None:
    """Render people, caption, pretrain, evaluate, search and report: the whole job, no download, no GPU."""
    from rich.console import Console
    from rich.table import Table

    from textreid.demo import DemoSettings, run_demo

    result = run_demo(out, DemoSettings(seed=seed), Console(stderr=True, highlight=False).print)
    scores = list(next(iter(result.figures.values())))
    table = Table(title="An unseen domain, in percent", title_justify="left")
    for name in ("", *scores):
        table.add_column(name, justify="right" if name else "left")
    for name, row in result.figures.items():
        table.add_row(name, *(f"{100 * row[score]:.1f}" for score in scores))
    Console().print(table)
    sys.stdout.write(
        f"done in {result.seconds / 60:.1f} minutes\n"
        f"report: {result.report}\n"
        f'next:   textreid search "a woman in a red jacket" --images FOLDER\n'
    )
