"""``textreid serve``: a gallery for programs and browsers."""

import sys

import typer


def serve(
    gallery: str = typer.Option(..., "--gallery", metavar="NAME", help="The gallery to serve."),
    host: str = typer.Option("127.0.0.1", "--host", metavar="ADDRESS", help="Where to listen; else this machine only."),
    port: int = typer.Option(8000, "--port", min=0, max=65_535, metavar="N", help="0 takes any that is free."),
    database: str | None = typer.Option(
        None, "--database", metavar="URL", help="A PostgreSQL server; else $TEXTREID_DATABASE, or the embedded one."
    ),
    connections: int = typer.Option(
        4, "--connections", min=1, max=64, metavar="N", help="To the database: so many searches run at once."
    ),
) -> None:
    """Serve a gallery over HTTP, until Ctrl-C.

    Whoever may use this machine may search the gallery; other machines are not answered. What was asked before Ctrl-C
    or SIGTERM is answered first.

    Programs find the API described at /api/v1/openapi.json, or take [bold]textreid.Client[/bold].
    """
    from textreid.errors import ConfigError
    from textreid.images import silence_decoders

    try:
        from textreid.service.server import serve as run
        from textreid.service.settings import Settings
    except ImportError as error:
        raise ConfigError(f"a service needs another package ({error.name}): pip install 'textreid[serve]'") from error
    silence_decoders()
    settings = Settings(gallery, database, host, port, connections)
    run(settings, lambda address: _note(f"gallery {gallery!r} is served at {address}"))


def _note(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
