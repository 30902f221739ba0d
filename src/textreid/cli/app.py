"""The ``textreid`` command: the story its help tells, and what an error looks like."""

import os
import sys
import traceback

import typer

from textreid.cli.cache import cache
from textreid.cli.caption import caption
from textreid.cli.captions import captions
from textreid.cli.convert import convert
from textreid.cli.demo import demo
from textreid.cli.doctor import doctor
from textreid.cli.evaluate import evaluate
from textreid.cli.finetune import finetune
from textreid.cli.inspect import inspect
from textreid.cli.pretrain import pretrain
from textreid.cli.reproduce import reproduce
from textreid.cli.runs import runs
from textreid.cli.search import search
from textreid.cli.synthesize import synthesize
from textreid.cli.templates import templates
from textreid.cli.unpack import unpack
from textreid.errors import TextReidError
from textreid.version import __version__

app = typer.Typer(
    name="textreid",
    help="Find a person in a pile of images by describing them in words, and train the models that do it.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"textreid {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _global_options(
    context: typer.Context,
    version: bool = typer.Option(False, "--version", callback=_print_version, is_eager=True, help="Print the version."),
    debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error; any command takes it."),
) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


# The story, in its order; then all of it at once, and what it left behind.
app.command()(synthesize)
app.command()(unpack)
app.command()(doctor)
app.command()(caption)
app.command()(pretrain)
app.command()(finetune)
app.command()(runs)
app.command()(inspect)
app.command()(evaluate)
app.command()(convert)
app.command()(search)
app.command()(demo)
app.command()(reproduce)
app.add_typer(captions, name="captions")
app.add_typer(templates, name="templates")
app.add_typer(cache, name="cache")


def main() -> None:
    """Run the command line: an error is one line on stderr and exit code 1, or 2 where the usage is wrong."""
    arguments, debug = _take_debug(sys.argv[1:])
    try:
        code = app(args=arguments, prog_name="textreid", standalone_mode=False)
        sys.stdout.flush()
    except (TextReidError, typer.TyperException) as error:
        if debug:
            traceback.print_exc()
        if not getattr(error, "reported", False):
            sys.stderr.write(f"textreid: {_one_line(error)}\n")
        sys.exit(error.exit_code)
    except BrokenPipeError:
        # The reader of a pipe went away: say nothing, now or when Python closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    sys.exit(code if isinstance(code, int) else 0)


def _take_debug(arguments: list[str]) -> tuple[list[str], bool]:
    """Take ``--debug`` out of the arguments wherever it stands before a ``--``."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    options = [argument for argument in arguments[:end] if argument != "--debug"]
    return options + arguments[end:], len(options) < end


def _one_line(error: TextReidError | typer.TyperException) -> str:
    if isinstance(error, TextReidError):
        return " ".join(str(error).split())
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "textreid"
    message = " ".join(error.format_message().split()).rstrip(".")
    return f"{message}{'' if message.endswith('?') else '.'} See '{command} --help'."
