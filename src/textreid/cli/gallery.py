"""``textreid gallery``: which galleries there are, what is in one, and how it is kept safe or thrown away."""

import sys
import time
from dataclasses import asdict
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import typer

from textreid.cli.gallery_search import DATABASE
from textreid.errors import ConfigError
from textreid.progress import Progress

if TYPE_CHECKING:
    from textreid.gallery.store import Database, Store

gallery = typer.Typer(help="Show, keep safe or delete galleries, which textreid index fills.", no_args_is_help=True)
NAME = typer.Argument(metavar="NAME", help="Of the gallery.")
JSON = typer.Option(False, "--json", help="Print JSON.")


@gallery.command(name="list")
def list_galleries(json: bool = JSON, database: str | None = DATABASE) -> None:
    """List the galleries of a database."""
    with _open(database) as opened:
        rows = []
        for info in opened.galleries():
            counts = opened.store(info.name).counts()
            rows.append({"name": info.name, "crops": counts.crops, "model": info.model, "bytes": counts.size})
        place = opened.place
    if json:
        typer.echo(dumps(rows, indent=2))
        return
    if not rows:
        sys.stderr.write(f"{place}: no gallery yet: textreid index SOURCE --gallery NAME\n")
    for row in rows:
        typer.echo(f"{row['name']}\t{row['crops']}\t{row['model']}")


@gallery.command()
def info(name: str = NAME, json: bool = JSON, database: str | None = DATABASE) -> None:
    """Show what a gallery holds: crops, cameras, times, sources, and what was left out."""
    with _open(database) as opened:
        facts = _facts(opened.store(name))
    if json:
        typer.echo(dumps(facts, indent=2))
        return
    for key, value in facts.items():
        shown = "; ".join(f"{k}: {v:,}" for k, v in value.items()) if isinstance(value, dict) else value
        if isinstance(value, list):
            shown = "".join(f"\n  {one['path']}: {one['reason']}" for one in value[:20]) or "none"
        typer.echo(f"{key:<12} {f'{shown:,}' if isinstance(shown, int) else shown}")


def _facts(store: "Store") -> dict[str, Any]:
    from textreid.gallery.store.reindexing import progress_of

    again = progress_of(store)
    counts = {
        key: str(value) if hasattr(value, "isoformat") else value for key, value in asdict(store.counts()).items()
    }
    size = counts.pop("size")
    return {
        "name": store.name,
        "database": store.database.place,
        "model": store.model,
        "fingerprint": store.fingerprint,
        "dimensions": store.dim,
        **({"embedded again": {again[0]: again[1]}} if again else {}),
        **counts,
        "bytes": size,
        "cameras": store.cameras(),
        "sources": store.sources(),
        "quarantined": [{"path": str(path), "reason": reason} for path, reason in store.quarantine()],
    }


@gallery.command()
def reindex(
    name: str = NAME,
    model: str | None = typer.Option(
        None, "--model", metavar="MODEL", help="That it shall have: a model folder, or CLIP; else the bundled model."
    ),
    precision: Literal["auto", "fp32", "bf16"] = typer.Option(
        "auto", "--precision", help="bf16 is faster where the processor multiplies it."
    ),
    leave_out: bool = typer.Option(
        False, "--leave-out", help="Lose the crops whose picture cannot be had any more; else they keep the old model."
    ),
    json: bool = JSON,
    database: str | None = DATABASE,
) -> None:
    """Embed the crops of a gallery again by another model.

    The gallery answers by the old model until every crop is done, then by the new one. The same command goes on where
    an earlier one was stopped, even with kill -9; for the model that the gallery has, what was begun is given up.
    """
    from textreid.gallery.encoder import GalleryEncoder
    from textreid.gallery.store import reindexing
    from textreid.gallery.store.indexing import place_of
    from textreid.images import silence_decoders

    silence_decoders()
    with _open(database) as opened:
        old = opened.store(name)
        encoder = GalleryEncoder(model, precision)
        begun = time.monotonic()
        with Progress(f"embed {name} again", "crops") as progress:
            store, done = reindexing.reindex(old, encoder, place_of(encoder), progress.update, leave_out=leave_out)
        seconds = time.monotonic() - begun
    if json:
        left_out = [{"crop": crop, "path": str(path), "reason": why} for crop, path, why in done.unreadable]
        answer = {"gallery": name, "model": store.model, "embedded": done.embedded, "kept": done.kept}
        typer.echo(dumps({**answer, "left_out": left_out}, indent=2))
    for crop, path, why in done.unreadable:
        sys.stderr.write(f"left out: crop {crop} of {path}: {why}\n")
    if store is old:
        sys.stderr.write(f"gallery {name!r} is embedded by model {store.model} already\n")
        return
    earlier = f", {done.kept:,} earlier" if done.kept else ""
    sys.stderr.write(
        f"gallery {name!r}: {done.embedded:,} crops embedded by model {store.model} in {seconds:.1f} s{earlier}; "
        f"it answers by that now, and not by {old.model} ({old.fingerprint[:12]})\n"
    )


@gallery.command()
def export(
    name: str = NAME,
    out: Path = typer.Argument(metavar="FILE", help="JSON Lines, one a crop."),
    vectors: Path | None = typer.Option(None, "--vectors", metavar="FILE", help="Their vectors too (.npy, float16)."),
    database: str | None = DATABASE,
) -> None:
    """Write what is known of the crops of a gallery for other programs."""
    from textreid.gallery.store import backup

    with _open(database) as opened:
        count = backup.export(opened.store(name), out, vectors)
    sys.stderr.write(f"{out}: {count:,} crops\n")


@gallery.command()
def delete(
    name: str = NAME,
    yes: bool = typer.Option(False, "--yes", help="Do not ask."),
    database: str | None = DATABASE,
) -> None:
    """Delete a gallery for good, with what was uploaded into it. Other files that it was made from are not touched."""
    from textreid.service.uploads import delete_gallery

    with _open(database) as opened:
        store = opened.store(name)
        counts = store.counts()
        if not yes:
            if not sys.stdin.isatty():
                raise ConfigError(f"gallery {name!r} holds {counts.crops:,} crops; --yes deletes it for good")
            typer.confirm(f"Delete gallery {name!r} with {counts.crops:,} crops for good?", abort=True)
        uploads = delete_gallery(store)
    sent = f", {uploads:,} uploaded files" if uploads else ""
    sys.stderr.write(f"deleted gallery {name!r}: {counts.crops:,} crops, {counts.size:,} bytes{sent}\n")


@gallery.command(name="backup")
def back_up(
    name: str = NAME,
    out: Path = typer.Argument(metavar="FILE", help="The backup; one that is there is replaced."),
    database: str | None = DATABASE,
) -> None:
    """Write a whole gallery to one file, which any version of PostgreSQL and any later textreid restores."""
    from textreid.gallery.store import backup

    with _open(database) as opened:
        count = backup.back_up(opened.store(name), out)
    sys.stderr.write(f"{out}: {count:,} crops, {out.stat().st_size:,} bytes\n")


@gallery.command()
def restore(
    path: Path = typer.Argument(metavar="FILE", help="What textreid gallery backup wrote."),
    name: str | None = typer.Option(None, "--gallery", metavar="NAME", help="Another name than it had."),
    database: str | None = DATABASE,
) -> None:
    """Make a gallery of a backup."""
    from textreid.gallery.store import backup

    with _open(database) as opened:
        store = backup.restore(opened, path, name)
        count = store.counts().crops
        store.build_index()
    sys.stderr.write(f"gallery {store.name!r}: {count:,} crops\n")


def _open(url: str | None) -> "Database":
    from textreid.gallery.store import open_database

    return open_database(url)
