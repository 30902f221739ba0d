"""``textreid erase``: people leave a gallery for good."""

import sys
from datetime import datetime

import typer

from textreid.errors import ConfigError


def erase(
    crops: list[int] = typer.Argument(None, help="Numbers of crops, as a search shows them."),
    gallery: str = typer.Option(..., "--gallery", metavar="NAME", help="The gallery."),
    older_than: float | None = typer.Option(
        None, "--older-than", min=0, metavar="DAYS", help="Instead: those seen more than DAYS days ago."
    ),
    database: str | None = typer.Option(
        None, "--database", metavar="URL", help="A PostgreSQL server; else $TEXTREID_DATABASE, or the embedded one."
    ),
) -> None:
    """Erase crops from a gallery everywhere: rows, pictures, vectors, index, the database's own log.

    Prints the files that still show the people: textreid deletes no file of yours. The gallery waits meanwhile.
    """
    from textreid.gallery.store import open_database
    from textreid.service import audit
    from textreid.service.erasure import erase as erase_crops
    from textreid.service.retention import erase_older

    if bool(crops) == (older_than is not None):
        raise ConfigError("erase: give either numbers of crops, or --older-than DAYS")
    with open_database(database) as opened:
        store = opened.store(gallery)
        if older_than is not None:
            erased = erase_older(store, older_than, datetime.now())
        else:
            audit.append(opened, "command line", "erase", gallery=gallery, erased=crops)
            erased = erase_crops(store, crops)
    for path in erased.files:
        typer.echo(path)
    sys.stderr.write(f"erased {erased.crops:,} crops; {len(erased.files):,} files still show who was in them\n")
    if not erased.thorough:
        sys.stderr.write("the server's write-ahead log keeps them until it is reused: that needs its administrator\n")
