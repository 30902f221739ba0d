"""``textreid synthesize``: render a corpus of synthetic pedestrians."""

from pathlib import Path

import typer

from textreid.progress import Progress


def synthesize(
    out: Path = typer.Argument(help="Folder to write; must not exist."),
    # The names are those of DOMAINS, written out: to import them takes numpy and Pillow, which `textreid --help` cannot
    # wait for.
    domain: str = typer.Option("street", help="Set of cameras: street, campus, mall, station, night, plaza or lobby."),
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
    from textreid.synthetic import write_corpus

    # The count steps by the crops of one person: a process draws and hands back all of them together.
    with Progress("render") as progress:
        write_corpus(
            out, domain, identities, images, seed, split=split, workers=workers, first_identity=first_identity,
            progress=lambda done: progress.update(done, identities * images),
        )  # fmt: skip
    typer.echo(out)
    if captions:
        # By the captioning job: the table has the cleaning, the raw answers and the counts that one by MLLMs has.
        from textreid.captioning import caption

        caption(out, captions, ["qwen=simulated", "shikra=simulated"], seed=seed, show=False)
        typer.echo(captions)
