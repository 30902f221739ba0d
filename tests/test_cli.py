"""The command line as a user meets it: a real process, its streams and its exit code."""

import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import pytest
import typer

from textreid import __version__
from textreid.captions.table import CaptionRow, write_captions
from textreid.cli.app import app
from textreid.cli.usage import EXAMPLES

STORY = [
    "synthesize",
    "unpack",
    "doctor",
    "caption",
    "pretrain",
    "finetune",
    "runs",
    "inspect",
    "evaluate",
    "convert",
    "search",
    "index",
    "serve",
    "erase",
    "models",
    "demo",
    "reproduce",
    "account",
    "audit",
    "captions",
    "templates",
    "gallery",
    "watch",
    "cache",
]
LIMIT_SECONDS = 0.5


COMMAND = [sys.executable, "-c", "from textreid.cli import main; main()"]
ENVIRONMENT = {**os.environ, "COLUMNS": "120", "NO_COLOR": "1"}


def textreid(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, check=False, env=ENVIRONMENT)


def best_seconds(arguments: Sequence[str], tries: int = 3) -> float:
    """Processor time of the quickest of some runs: on an idle machine the time a user waits, on a busy one still it."""
    taken = []
    for _ in range(tries):
        before = os.times()
        textreid(*arguments)
        after = os.times()
        taken.append(after.children_user + after.children_system - before.children_user - before.children_system)
    return min(taken)


@pytest.mark.parametrize("option", ["--version", "--help"])
def test_it_answers_at_once(option: str) -> None:
    assert 0 < best_seconds([option]) < LIMIT_SECONDS


def test_version() -> None:
    result = textreid("--version")
    assert (result.returncode, result.stdout) == (0, f"textreid {__version__}\n")


def test_help_tells_the_story_in_order() -> None:
    commands = [command.callback.__name__ for command in app.registered_commands if command.callback]
    names = {*commands, *(group.name for group in app.registered_groups)}
    assert names <= set(STORY)
    lines = textreid("--help").stdout.splitlines()
    listed = [word for line in lines if (word := line.strip("│ ").split(" ")[0]) in STORY]
    assert listed == [name for name in STORY if name in names]


def test_no_arguments_show_the_help() -> None:
    assert textreid().stdout.split() == textreid("--help").stdout.split()


@pytest.mark.parametrize("arguments", [["serach"], ["--colour"]])
def test_wrong_usage_is_one_line_and_exit_code_2(arguments: list[str]) -> None:
    result = textreid(*arguments)
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith("textreid: ")
    assert result.stderr.count("\n") == 1
    assert "See 'textreid --help'." in result.stderr


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("search q --images . --to 3", "No such option: --to; did you mean --top?"),
        ("search q -images .", "No such option: -images; did you mean --images?"),
        ("search q -images=.", "No such option: -images; did you mean --images?"),
        ("search q --directory .", "No such option: --directory; did you mean --images?"),
        ("search q --folder .", "No such option: --folder; did you mean --images?"),
        ("search q -n 3 --images .", "No such option: -n; did you mean --top?"),
        ("search q -x 3 --images .", "No such option: -x; known: --images, --gallery, --top, "),
        ("search q --images . --output f.png", "No such option: --output; did you mean --sheet?"),
        ("search q --images . --format json", "No such option: --format; did you mean --json?"),
        ("evaluate --model tiny", "No such option: --model; MODELS stands there without it"),
        ("caption . --model describe", "No such option: --model; did you mean --mllm?"),
        ("synthesize p --people 3", "No such option: --people; did you mean --identities?"),
        ("search q --images . --top", "Option '--top' requires an argument."),
        ("finetune m", "Missing option '--out'."),
        ("caption --images . --out x", "No such option: --images; IMAGES stands there without it"),
        ("evaluate --bechmark x", "No such option: --bechmark; did you mean --benchmark?"),
        ("captions export a b --sa cuhk", "No such option: --sa; did you mean --as?"),
        ("pretrain --epochs 3", "No such option: --epochs; did you mean --set training.epochs=VALUE?"),
        ("pretrain --batch-size=3", "did you mean --set training.batch_size=VALUE?"),
        ("finetune m --lr 1e-5", "did you mean --set optimizer.learning_rate=VALUE?"),
    ],
)
def test_a_near_miss_names_the_nearest_option_and_a_line_that_works(line: str, said: str) -> None:
    result = textreid(*line.split())
    words = line.split()
    command = " ".join(["textreid", *words[: 2 if words[0] == "captions" else 1]])
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert said in result.stderr
    assert result.stderr.endswith(f"See '{command} --help', or write: {EXAMPLES[command]}\n")


def test_every_command_has_an_example_that_it_can_read() -> None:
    root = typer.main.get_command(app)
    checked = []
    for name, example in EXAMPLES.items():
        program, *words = shlex.split(example)
        assert example.startswith(f"{name} ")
        assert program == "textreid"
        command = root
        for _ in name.split()[1:]:
            command = command.commands[words.pop(0)]  # type: ignore[attr-defined]
        command.make_context(name, words)
        checked.append(name)
    commands = {command.callback.__name__ for command in app.registered_commands if command.callback}
    assert {f"textreid {name}" for name in commands} <= set(checked)
    assert "Example: textreid search" in textreid("search", "-h").stdout


def test_a_group_without_its_command_names_those_it_has() -> None:
    assert "a command is missing; known: list, discover." in textreid("templates").stderr
    assert "did you mean 'textreid cache clear'?" in textreid("cache", "--clear").stderr


@pytest.mark.parametrize("line", ["runs {}", "doctor {}", "evaluate --benchmark mine={}", "search a {} --images ."])
def test_a_path_that_the_system_refuses_is_one_line(line: str) -> None:
    result = textreid(*line.format("a" * 300).split())
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (1, "", 1)
    assert result.stderr.endswith(": File name too long\n")
    assert "Traceback" in textreid(*line.format("a" * 300).split(), "--debug").stderr


def test_letters_that_the_output_does_not_have_do_not_stop_it(tmp_path: Path) -> None:
    said = ["a man in red", "a tall woman with a bag", "someone in blue shorts", "a boy who runs"]
    rows = [CaptionRow(f"{n}.jpg", "a/static", said[n % 4], "a", "static", "", "", 0) for n in range(24)]
    write_captions(tmp_path / "table", rows)
    arguments = ["captions", "stats", str(tmp_path / "table")]
    assert "±" in textreid(*arguments).stdout
    environment = {**ENVIRONMENT, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    plain = subprocess.run([*COMMAND, *arguments], capture_output=True, check=True, env=environment)
    assert plain.stdout.isascii()
    assert plain.stderr == b""


def test_what_has_one_meaning_is_taken() -> None:
    assert textreid("help", "search").stdout == textreid("search", "--help").stdout
    assert textreid("version").stdout == textreid("--version").stdout
    assert textreid("cache", "-h").stdout == textreid("cache", "--help").stdout
    expected = textreid("search", "a red jacket", "--images", "/nowhere", "--no-cache")
    assert expected.stderr.startswith("textreid: /nowhere: ")
    for line in ("--images /nowhere --no_cache 'a red jacket'", "'a red jacket' --Images=/nowhere --no-cache"):
        result = textreid("search", *shlex.split(line))
        assert (result.returncode, result.stderr) == (expected.returncode, expected.stderr)


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["cache"], ["cache", "--json"], ["reproduce"]])
@pytest.mark.parametrize("buffered", [False, True])
@pytest.mark.slow
def test_an_output_that_is_full_or_closed_is_one_line(arguments: list[str], buffered: bool) -> None:
    environment = {**ENVIRONMENT, "PYTHONUNBUFFERED": "" if buffered else "1"}

    def run(stdout: IO[str] | None) -> tuple[int, str]:
        # The shell closes the stream, as `textreid … >&-` does.
        close = [] if stdout else ["sh", "-c", 'exec "$@" >&-', "sh"]
        command = [*close, *COMMAND, *arguments]
        result = subprocess.run(
            command, stdout=stdout, stderr=subprocess.PIPE, text=True, check=False, env=environment, timeout=60
        )
        return result.returncode, result.stderr

    with open("/dev/full", "w", encoding="utf-8") as full:  # noqa: PTH123
        assert run(full) == (1, "textreid: the output cannot be written: No space left on device\n")
    code, said = run(None)
    assert (code, said.count("\n")) == (1, 1)
    assert said.startswith("textreid: standard output is closed; nothing was done")


@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full"])
def test_an_error_that_nobody_can_read_still_has_its_exit_code(redirection: str) -> None:
    command = ["sh", "-c", f'exec "$@" {redirection}', "sh", *COMMAND]
    assert subprocess.run([*command, "serach"], check=False, env=ENVIRONMENT).returncode == 2
    shown = subprocess.run([*command, "--version"], check=False, env=ENVIRONMENT, capture_output=True, text=True)
    assert (shown.returncode, shown.stdout) == (0, f"textreid {__version__}\n")
