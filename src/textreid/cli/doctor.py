"""``textreid doctor``: what a data set is worth, before a model sees it."""

from json import dumps
from pathlib import Path

import typer


def doctor(
    path: Path = typer.Argument(help="A benchmark, a table of annotations, a caption table, or a folder of images."),
    benchmark: str | None = typer.Option(
        None, metavar="NAME", help="cuhk-pedes, icfg-pedes, rstpreid or generic; else told from the files."
    ),
    images: Path | None = typer.Option(None, metavar="FOLDER", help="The image root of a caption table."),
    manifest: Path | None = typer.Option(
        None, metavar="FILE", help="Write the exact list of usable images and captions, with digests, as JSON Lines."
    ),
    json: bool = typer.Option(False, "--json", help="Print the findings as JSON, not tables."),
) -> None:
    """Check a data set: missing, unreadable and equal images, identities, captions, counts. Exit code 1 if wrong."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from textreid.datasets.doctor.examination import examine
    from textreid.datasets.doctor.report import render

    console = Console(stderr=True)
    columns = (TextColumn("decoding"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("decoding", total=None)
        diagnosis = examine(path, benchmark, images, lambda done, total: bar.update(task, completed=done, total=total))
    if json:
        typer.echo(dumps(diagnosis.to_dict(), indent=2, ensure_ascii=False))
    else:
        Console().print(render(diagnosis))
    if manifest:
        diagnosis.manifest.write(manifest)
        typer.echo(f"manifest: {manifest}", err=True)
    if not diagnosis.healthy:
        raise typer.Exit(1)
