"""``textreid unpack``: WebDataset shards in, images and captions out."""

from pathlib import Path

import typer

from textreid.cli.captions import print_counts


def unpack(
    shards: list[str] = typer.Argument(
        metavar="SHARDS...", help="Tar files, folders of them, or patterns such as 'train-{000000..000099}.tar'."
    ),
    out: Path = typer.Option(..., metavar="FOLDER", help="Folder to write; must not exist."),
    writer: str = typer.Option("shards", metavar="NAME", help="Who wrote the captions, as in the slot NAME/static."),
    max_rejected: float = typer.Option(
        0.05, min=0.0, max=1.0, metavar="SHARE", help="How many of the samples may be unusable."
    ),
    json: bool = typer.Option(False, "--json", help="Print the counts as JSON."),
) -> None:
    """Unpack WebDataset shards for `pretrain` (imgs, captions) and, where people are named, for `evaluate`.

    Captions come from KEY.txt, or from "caption" or "captions" in KEY.json; people from "identity" and "split" there.
    Samples that cannot be used are left out, and the reason is told with a way to mend it.
    """
    from textreid.datasets.shards import REASONS, list_shards, unpack_shards
    from textreid.listing import counted

    found = [shard for pattern in shards for shard in list_shards(pattern)]
    unpacked = unpack_shards(found, out, writer, max_rejected)
    print_counts({"samples": unpacked.samples, "captions": unpacked.captions, **unpacked.left_out}, json)
    if json:
        return
    # Only on stderr: the remedy is for who wrote the shards, while the counts on stdout are for programs too.
    if unpacked.by_products:
        typer.echo(f"left out, made by other programs or hidden: {counted(unpacked.by_products)}", err=True)
    for reason, remedy in REASONS.items():
        if reason in unpacked.left_out:
            first = next(example for example in unpacked.examples if example.endswith(f"({reason})"))
            typer.echo(f"left out, {reason}: {remedy}; the first: {first}", err=True)
    typer.echo(f"next: textreid pretrain --images {out}/imgs --captions {out}/captions --out RUN", err=True)
    if unpacked.annotated:
        typer.echo(f"and:  textreid evaluate --benchmark mine={out}", err=True)
