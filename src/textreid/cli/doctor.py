"""``textreid doctor``: what a data set is worth, before a model sees it."""

from json import dumps
from pathlib import Path

import typer

from textreid.errors import ConfigError
from textreid.progress import Progress


def doctor(
    path: Path | None = typer.Argument(
        None, help="A benchmark, a table of annotations, a caption table, or a folder of images.", show_default=False
    ),
    benchmark: str | None = typer.Option(
        None, metavar="NAME[=PATH]", help="cuhk-pedes, icfg-pedes, rstpreid, or any name for your own."
    ),
    images: Path | None = typer.Option(None, metavar="FOLDER", help="The image root of a caption table."),
    manifest: Path | None = typer.Option(
        None, metavar="FILE", help="Write the exact list of usable images and captions, with digests, as JSON Lines."
    ),
    json: bool = typer.Option(False, "--json", help="Print the findings as JSON, not tables."),
) -> None:
    """Check a data set before a long job: images, identities, captions, counts, formats. Exit code 1 if wrong.

    Looks for missing, unreadable, blank, equal and nearly equal images, for formats that are not read, and for what
    annotations and captions contradict.
    """
    from textreid.datasets.doctor.examination import diagnosis_tables, examine
    from textreid.images import silence_decoders

    if benchmark:  # as other commands take it
        benchmark, _, rest = benchmark.partition("=")
        if path and rest and Path(rest) != path:
            raise ConfigError(f"two places to look at, {path} and {rest}; give one, as --benchmark {benchmark}={rest}")
        path = path or (Path(rest) if rest else None)
    if path is None:
        raise ConfigError("nothing to examine; give a folder or a table, as textreid doctor FOLDER")
    silence_decoders()
    with Progress("decode") as progress:
        diagnosis = examine(path, benchmark, images, progress.update)
    if json:
        typer.echo(dumps(diagnosis.to_dict(), indent=2, ensure_ascii=False))
    else:
        from textreid.reporting.tables import print_tables

        print_tables(diagnosis_tables(diagnosis))
    if manifest:
        diagnosis.manifest.write(manifest)
        typer.echo(f"manifest: {manifest}", err=True)
    # Last, when all is printed and written: who runs it in a script stops here.
    if not diagnosis.healthy:
        raise typer.Exit(1)
