"""``textreid synthesize``: render a corpus of synthetic pedestrians."""

import sys
from pathlib import Path

import typer


def synthesize(
    out: Path = typer.Argument(help="Folder to write; must not exist."),
    domain: str = typer.Option("street", help="Set of cameras: street, campus, mall, station or night."),
    identities: int = typer.Option(200, min=1, help="Number of people."),
    images: int = typer.Option(4, min=1, help="Crops of each person, from different cameras."),
    seed: int = typer.Option(0, min=0, help="Equal seeds give equal pictures."),
    split: str = typer.Option("test", help="What the annotation calls the images: train, val or test."),
    first_identity: int = typer.Option(0, min=0, help="Number of the first person; separate ranges share nobody."),
    workers: int = typer.Option(1, min=1, help="Processes that render."),
    captions: Path | None = typer.Option(
        None, metavar="FOLDER", help="Also write a caption table by simulated MLLMs, which err now and then."
    ),
) -> None:
    """Render synthetic pedestrians with captions, as a data set in the form of CUHK-PEDES."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from textreid.synthetic import write_corpus

    columns = (TextColumn("rendering"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("rendering", total=identities * images)
        write_corpus(
            out,
            domain,
            identities,
            images,
            seed,
            split=split,
            workers=workers,
            first_identity=first_identity,
            progress=lambda done: bar.update(task, completed=done),
        )
    sys.stdout.write(f"{out}\n")
    if captions:
        from textreid.captioning import caption

        caption(out, captions, ["qwen=simulated", "shikra=simulated"], seed=seed, show=False)
        sys.stdout.write(f"{captions}\n")
