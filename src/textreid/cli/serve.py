"""``textreid serve``: a gallery for programs and browsers."""

import os
import sys
from pathlib import Path

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
    certificate: Path | None = typer.Option(None, "--certificate", metavar="FILE", help="For HTTPS (PEM)."),
    key: Path | None = typer.Option(None, "--key", metavar="FILE", help="Of the certificate (PEM)."),
    require_purpose: bool = typer.Option(
        False, "--require-purpose", help="A search must say what it is for; the audit log keeps it."
    ),
    keep_days: float | None = typer.Option(
        None, "--keep-days", metavar="DAYS", help="Erase crops that were seen longer ago, now and every day."
    ),
    rate: float = typer.Option(50, "--rate", metavar="N", help="Requests a second that an account may send for long."),
    upload_mb: int = typer.Option(256, "--upload-mb", metavar="N", help="MiB of one upload at most; 0 takes none."),
    alerts: Path | None = typer.Option(None, "--alerts", metavar="FILE", help="Where saved searches tell of arrivals."),
) -> None:
    """Serve a gallery over HTTP, until Ctrl-C.

    Until there is an account ([bold]textreid account add[/bold]), whoever may use this machine may search the gallery,
    and other machines are not answered. What was asked before Ctrl-C or SIGTERM is answered first.

    Programs find the API described at /api/v1/openapi.json, or take [bold]textreid.Client[/bold].
    """
    # Sentences are small: several threads would wait for each other longer than each computes.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from textreid.errors import ConfigError
    from textreid.images import silence_decoders

    try:
        from textreid.service.server import serve as run
        from textreid.service.settings import Settings
    except ImportError as error:
        raise ConfigError(f"a service needs another package ({error.name}): pip install 'textreid[serve]'") from error
    silence_decoders()
    settings = Settings(
        gallery, database, host, port, connections, certificate, key, require_purpose, keep_days, rate,
        upload_mb, alerts,
    )  # fmt: skip

    def tell(address: str) -> None:
        if not settings.is_local and certificate is None:
            _note("passwords and pictures go over plain HTTP: take --certificate and --key, or a proxy with TLS")
        _note(f"gallery {gallery!r} is served at {address}")

    run(settings, tell)


def _note(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
