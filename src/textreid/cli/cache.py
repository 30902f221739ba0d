"""``textreid cache``: what earlier searches left on this machine, and how to delete it."""

from dataclasses import asdict
from json import dumps

import typer

cache = typer.Typer(help="Show or delete the embeddings that searches keep.", invoke_without_command=True)


@cache.callback()
def show(context: typer.Context, json: bool = typer.Option(False, "--json", help="Print one JSON object.")) -> None:
    """Show where the embeddings of searched images are kept, how many there are, and their size.

    They hold paths and vectors of the images, not the images; only you can read them. An image that was removed
    from its folder is forgotten at the next search there.
    """
    if context.invoked_subcommand is not None:
        return
    # Imported here, as in every command, what only this one needs: `textreid --help` answers in under half a second.
    from textreid.gallery.embedding_cache import FILE_NAME, CacheStatus, EmbeddingCache, cache_folder

    path = cache_folder() / FILE_NAME
    status = CacheStatus(path, 0, 0, 0, 0, 0)
    # Not opened where there is none: that would create it.
    if path.is_file():
        with EmbeddingCache(path.parent) as opened:
            status = opened.status()
    # The unit is in the name, for who reads the JSON.
    facts = {"bytes" if name == "size" else name: value for name, value in asdict(status).items()}
    facts["path"] = str(path)
    if json:
        typer.echo(dumps(facts, indent=2))
        return
    for name, value in facts.items():
        typer.echo(f"{name:<11} {value:,}" if isinstance(value, int) else f"{name:<11} {value}")


@cache.command()
def clear(
    older_than: float | None = typer.Option(
        None, "--older-than", min=0, metavar="DAYS", help="Only embeddings computed more than DAYS days ago."
    ),
) -> None:
    """Delete kept embeddings for good. The images are not touched."""
    from textreid.errors import ArtifactError
    from textreid.gallery.embedding_cache import FILE_NAME, EmbeddingCache, cache_folder, remove_cache

    folder = cache_folder()
    try:
        if older_than is None:
            typer.echo(f"freed {remove_cache(folder):,} bytes in {folder}")
        elif not (folder / FILE_NAME).is_file():
            typer.echo("deleted 0 embeddings")
        else:
            with EmbeddingCache(folder) as opened:
                typer.echo(f"deleted {opened.clear(older_than):,} embeddings")
    except OSError as error:
        raise ArtifactError(f"{folder}: cannot be cleared: {error.strerror or error}") from error
