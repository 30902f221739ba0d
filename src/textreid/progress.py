"""How far a long task is, its rate and the time left: a bar on a terminal, elsewhere a line now and then."""

import sys
import time
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from rich.progress import Progress as Bar, TaskID

_EVERY_S = 10.0  # between lines where standard error is not a terminal


class Progress:
    """Display of a task on standard error while entered; every long task of textreid shows itself by one.

    Nothing is shown before the first `update`, so that a task that is short can stay silent.

    Args:
        task: what is done, in a word or two.
        unit: what is counted.
        visible: False shows nothing at all.
    """

    def __init__(self, task: str, unit: str = "images", visible: bool = True) -> None:
        self._task, self._unit, self._visible = task, unit, visible
        self._bar: Bar | None = None
        self._rows: dict[str, TaskID] = {}
        self._stack = ExitStack()
        self._start = self._spoken = time.monotonic()
        self._found = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._stack.close()
        self._bar = None

    def update(self, done: int, total: int | None, note: str = "", task: str | None = None) -> None:
        """Show that ``done`` of ``total`` are finished, or of nobody knows how many; ``note`` stands beside it.

        With another ``task`` than before, the next stage of the work begins: its rate is measured afresh.
        """
        if task is not None and task != self._task:
            self._task = task
            self.start(done)
        if not self._visible:
            return
        if sys.stderr.isatty():
            self._draw(done, total, note)
        elif time.monotonic() - self._spoken >= _EVERY_S and (total is None or done < total):
            self._spoken = time.monotonic()
            self.say(self._line(done, total, note))

    def say(self, text: str) -> None:
        """Write a line of its own, above the bar where there is one."""
        if not self._visible:
            return
        if self._bar is not None:
            # Paths may hold brackets, which rich would take for markup.
            self._bar.console.print(text, highlight=False, markup=False, soft_wrap=True)
        else:
            sys.stderr.write(text + "\n")

    def start(self, done: int) -> None:
        """Measure the rate from now on; ``done`` were finished before."""
        self._start = self._spoken = time.monotonic()
        self._found = done

    def _line(self, done: int, total: int | None, note: str) -> str:
        rate = (done - self._found) / (time.monotonic() - self._start)
        parts = [f"{self._task}: {done:,} {'' if total is None else f'of {total:,} '}{self._unit}"]
        parts += [note] if note else [f"{rate:,.0f} a second"]
        parts += [f"{_clock((total - done) / rate)} left"] if rate > 0 and total is not None else []
        return ", ".join(parts)

    def _draw(self, done: int, total: int | None, note: str) -> None:
        if self._bar is None:
            self._bar = self._stack.enter_context(_bar())
        if self._task not in self._rows:
            self._rows[self._task] = self._bar.add_task(self._task, total=total, completed=done, note=note)
        rate = (done - self._found) / max(time.monotonic() - self._start, 1e-9)
        self._bar.update(
            self._rows[self._task], completed=done, total=total, note=note or (f"{rate:,.0f}/s" if rate > 0 else "")
        )


def _bar() -> "Bar":
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress as Bar, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"), TimeRemainingColumn(),
    )  # fmt: skip
    return Bar(*columns, console=Console(stderr=True), transient=True)


def _clock(seconds: float) -> str:
    """Write ``75`` as ``1:15``, and with hours ``1:01:15``."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}:{rest:02}" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
