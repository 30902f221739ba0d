"""The ``textreid`` command: the story its help tells, and what an error looks like."""

import os
import signal
import sys
import traceback

import typer

from textreid.errors import TextReidError
from textreid.version import __version__

app = typer.Typer(
    name="textreid",
    help="Find a person in a pile of images by describing them in words, and train the models that do it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"textreid {__version__}")
        raise typer.Exit


@app.callback()
def _global_options(
    version: bool = typer.Option(False, "--version", callback=_print_version, is_eager=True, help="Print the version."),
    debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error."),
) -> None:
    if debug:
        os.environ["TEXTREID_DEBUG"] = "1"


def main() -> None:
    """Run the command line; errors of textreid become one line on stderr and exit code 1 (2: wrong usage)."""
    try:
        app()
    except TextReidError as error:
        if os.environ.get("TEXTREID_DEBUG"):
            traceback.print_exc()
        sys.stderr.write(f"textreid: {error}\n")
        sys.exit(error.exit_code)
    except BrokenPipeError:
        sys.exit(128 + signal.SIGPIPE)
