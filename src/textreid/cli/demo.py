"""``textreid demo``: the whole main job, from nothing, in a few minutes."""

import sys
from functools import partial
from pathlib import Path

import typer


def demo(
    out: Path = typer.Option(Path("demo"), metavar="FOLDER", help="Where everything goes; must not exist."),
    seed: int = typer.Option(0, min=0, help="Equal seeds give equal people, captions and training."),
) -> None:
    """Render people, caption, pretrain, evaluate, search and report: the whole job, no download, no GPU."""
    from textreid.demo import DemoSettings, run_demo
    from textreid.reporting.tables import Table, print_tables

    result = run_demo(out, DemoSettings(seed=seed), partial(print, file=sys.stderr))
    scores = list(next(iter(result.figures.values())))
    rows = [(name, *(f"{100 * row[score]:.1f}" for score in scores)) for name, row in result.figures.items()]
    print_tables([Table("An unseen domain, in percent", ("", *scores), [rows])])
    sys.stdout.write(
        f"done in {result.seconds / 60:.1f} minutes\n"
        f"report: {result.report}\n"
        f'next:   textreid search "a woman in a red jacket" --images FOLDER\n'
    )
