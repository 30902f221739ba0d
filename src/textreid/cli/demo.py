"""``textreid demo``: the paper's story in a few minutes: noisy captions of new cameras, and what is gained by them."""

from functools import partial
from json import dumps
from pathlib import Path

import typer


def demo(
    out: Path = typer.Option(
        Path("demo"), metavar="FOLDER", help="Where everything goes; the same command again goes on."
    ),
    seed: int = typer.Option(0, min=0, help="Of the people, the captions and the training."),
    minutes: float = typer.Option(5, min=0.5, help="It learns from as many pictures as fit into them."),
    as_json: bool = typer.Option(False, "--json", help="Print the figures as one JSON object."),
) -> None:
    """Draw people at new cameras, caption them with errors, pretrain on that, show what is gained: no download, no GPU.

    The bundled model stands for CLIP. The figures are those on people whom no training saw, before and after.
    FOLDER/report.html shows the searches, the captions with the words that were wrong and those that were held for
    wrong, and the loss. How much there is to learn from depends on the machine, which is timed first.
    """
    # Imported here, or every command would wait for torch before it reads its options.
    from textreid.demo import DemoSettings, run_demo
    from textreid.reporting.tables import Table, print_tables

    # The steps are told on stderr: stdout holds the figures and nothing else, so that a program can read them.
    result = run_demo(out, DemoSettings(seed=seed, minutes=minutes), partial(typer.echo, err=True))
    if as_json:
        facts = {
            "report": str(result.report),
            "model": str(result.model),
            "figures": result.figures,
            "gain": {
                score: dict(zip(("mean", "low", "high"), ends, strict=True)) for score, ends in result.gain.items()
            },
            "images": result.size.images,
            "epochs": result.size.epochs,
            "seconds": round(result.seconds, 1),
        }
        typer.echo(dumps(facts, indent=2))
        return
    scores = list(result.gain)
    rows = [(name, *(f"{100 * row[score]:.1f}" for score in scores)) for name, row in result.figures.items()]
    rows.append(("difference", *(f"{100 * mean:+.1f}" for mean, _, _ in result.gain.values())))
    print_tables([Table("People whom no training saw, in percent", ("", *scores), [rows])])
    sure = "; ".join(f"{name} {100 * low:+.1f} to {100 * high:+.1f}" for name, (_, low, high) in result.gain.items())
    typer.echo(f"95 % intervals of the difference, over people: {sure}")
    typer.echo(f"done in {result.seconds / 60:.1f} minutes")
    typer.echo(f"report: {result.report}")
    typer.echo('next:   textreid search "a woman in a red jacket" --images FOLDER')
