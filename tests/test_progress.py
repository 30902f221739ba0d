"""The one display of progress: a line now and then where standard error is no terminal, a bar on one."""

import os
import pty
import subprocess
import sys

import pytest

from textreid.progress import Progress


def test_a_short_task_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("embed") as shown:
        shown.update(1, 2)
        shown.update(2, 2)
    assert capsys.readouterr() == ("", "")


def test_a_long_task_tells_its_rate_and_the_time_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    with Progress("embed") as shown:
        shown.start(1000)  # found done
        now += 20
        shown.update(1200, 2000)
        now += 1
        shown.update(1210, 2000)  # too early for another line
        now += 10
        shown.update(0, 50, task="read")  # a stage of its own, measured afresh
        now += 10
        shown.update(10, 7210, task="read", note="1 unreadable")
        now += 10
        shown.update(30, None, task="read")
    assert capsys.readouterr().err.splitlines() == [
        "embed: 1,200 of 2,000 images, 10 a second, 1:20 left",
        "read: 10 of 7,210 images, 1 unreadable, 2:00:00 left",
        "read: 30 images, 2 a second",
    ]


def test_nothing_is_shown_where_nothing_shall_be(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("embed", visible=False) as shown:
        shown.update(1, 2)
        shown.say("a line")
    assert capsys.readouterr() == ("", "")


def test_a_terminal_gets_a_bar_that_goes_away_and_lines_that_stay() -> None:
    code = (
        "from textreid.progress import Progress\n"
        "with Progress('embed') as shown:\n    shown.update(1, 4)\n    shown.say('[one] is unreadable')\n"
    )
    terminal, inside = pty.openpty()
    subprocess.run([sys.executable, "-c", code], stderr=inside, check=True)
    os.close(inside)
    text = b""
    while True:
        try:
            block = os.read(terminal, 4096)
        except OSError:  # Linux says so at the end
            break
        if not block:
            break
        text += block
    os.close(terminal)
    assert b"embed" in text
    assert b"1/4" in text
    assert b"[one] is unreadable" in text
