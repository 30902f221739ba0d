"""The command line as a user meets it: a real process, its streams and its exit code."""

import os
import subprocess
import sys
from collections.abc import Sequence

import pytest

from textreid import __version__
from textreid.cli.app import app

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
    "demo",
    "reproduce",
    "captions",
    "templates",
    "cache",
]
LIMIT_SECONDS = 0.5


def textreid(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from textreid.cli import main; main()", *arguments]
    environment = {**os.environ, "COLUMNS": "120", "NO_COLOR": "1"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


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
