"""The ``textreid`` command: the story its help tells, and what an error looks like."""

import errno
import io
import os
import sys
import traceback
from contextlib import suppress

import typer

from textreid.cli.accounts import account
from textreid.cli.audit import audit
from textreid.cli.cache import cache
from textreid.cli.caption import caption
from textreid.cli.captions import captions
from textreid.cli.convert import convert, models
from textreid.cli.demo import demo
from textreid.cli.doctor import doctor
from textreid.cli.erase import erase
from textreid.cli.evaluate import evaluate
from textreid.cli.finetune import finetune
from textreid.cli.gallery import gallery
from textreid.cli.index import index
from textreid.cli.inspect import inspect
from textreid.cli.pretrain import pretrain
from textreid.cli.reproduce import reproduce
from textreid.cli.runs import runs
from textreid.cli.search import search
from textreid.cli.serve import serve
from textreid.cli.synthesize import synthesize
from textreid.cli.templates import templates
from textreid.cli.unpack import unpack
from textreid.cli.usage import EXAMPLES, explain
from textreid.cli.watch import watch
from textreid.errors import TextReidError
from textreid.version import __version__

# What writing to a standard stream fails with: a full disk, a closed pipe, a disk that is gone.
_OUTPUT_FAILS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EPIPE, errno.EBADF}

# How OpenMP's threads wait for each other; it is read once, when torch is imported. By default they spin, and on a busy
# machine those that spin keep away those that work: two threads beside one other process then train at a tenth of the
# rate of one thread, and at its full rate if they wait passively (docs/training.md).
_WAITING = frozenset({"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"})

app = typer.Typer(
    name="textreid",
    help="Find a person in a pile of images by describing them in words, and train the models that do it.",
    add_completion=False,
    # An error is one line, as `main` writes it; with --debug the traceback is Python's own.
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    # --no_cache and --Images have one meaning, and people try -h.
    context_settings={
        "help_option_names": ["-h", "--help"],
        "token_normalize_func": lambda name: name.lower().replace("_", "-"),
    },
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
for command in (
    *(synthesize, unpack, doctor, caption, pretrain, finetune, runs, inspect, evaluate, convert, search, index),
    *(serve, erase, models, demo, reproduce),
):
    app.command(epilog=f"Example: {EXAMPLES[f'textreid {command.__name__}']}")(command)
for name, group in (
    ("account", account),
    ("audit", audit),
    ("captions", captions),
    ("templates", templates),
    ("gallery", gallery),
    ("watch", watch),
    ("cache", cache),
):
    app.add_typer(group, name=name)


def main() -> None:
    """Run the command line: an error is one line on stderr and exit code 1, or 2 where the usage is wrong."""
    _open_closed_streams()
    # A choice of the user's own, by whichever of these names, is left alone.
    if not os.environ.keys() & _WAITING:
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    arguments, debug = _take_debug(sys.argv[1:])
    try:
        # Not standalone, or typer would write errors in its own way and end the process.
        code = app(args=arguments, prog_name="textreid", standalone_mode=False)
        # Now, and not as Python ends: a full disk is to be told like any other error.
        sys.stdout.flush()
    except (TextReidError, typer.TyperException) as error:
        if debug:
            traceback.print_exc()
        if not getattr(error, "reported", False):
            _say(" ".join(str(error).split()) if isinstance(error, TextReidError) else explain(error, arguments))
        sys.exit(error.exit_code)
    except OSError as error:
        if (debug and error.filename is not None) or not _say_os_error(error):
            raise
        sys.exit(1)
    sys.exit(code if isinstance(code, int) else 0)


def _open_closed_streams() -> None:
    """Refuse a closed standard output before any work; no file that is opened later shall take a stream's place."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stdout is None:
        _say("standard output is closed; nothing was done: send it somewhere, as in `textreid … > /dev/null`")
        sys.exit(1)
    # What a terminal or pipe has no letter for becomes a question mark, and a file name keeps its bytes.
    errors = "surrogateescape" if sys.stdout.encoding.lower() == "utf-8" else "replace"
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors=errors)


def _say_os_error(error: OSError) -> bool:
    """Say in one line what the system refused: a path that is too long or closed, an output that is full."""
    if error.filename is not None:
        _say(f"{os.fsdecode(error.filename)}: {error.strerror}")
        return True
    if error.errno not in _OUTPUT_FAILS:
        return False
    if error.errno != errno.EPIPE:  # whoever closed a pipe wants to hear nothing
        _say(f"the output cannot be written: {error.strerror}")
    for number in (1, 2):  # or Python would try again when it ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), number)
    return True


def _say(line: str) -> None:
    with suppress(OSError):
        sys.stderr.write(f"textreid: {line}\n")


def _take_debug(arguments: list[str]) -> tuple[list[str], bool]:
    """Take ``--debug`` out of the arguments wherever it stands before a ``--``; make ``help`` the option it means."""
    # Taken out by hand: typer would know it before the command only, and people write it at the end.
    end = arguments.index("--") if "--" in arguments else len(arguments)
    options = [argument for argument in arguments[:end] if argument != "--debug"]
    if options[:1] in (["help"], ["version"]):  # as other programs have it, and nothing else is called so
        options = [*options[1:], f"--{options[0]}"]
    return options + arguments[end:], len(options) < end
