"""Stopping a run at the end of a step instead of in the middle of one."""

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """While entered, Ctrl-C and SIGTERM set `made` instead of ending the process; a second one ends it.

    Python delivers signals to the main thread only; entered in another thread, it leaves them alone.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self.made = False
        self._say = say
        self._former: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._former = {number: signal.signal(number, self._note) for number in _SIGNALS}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._restore()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.made = True
        self._restore()
        self._say("stopping after this step; once more stops at once and loses what came after the last checkpoint")

    def _restore(self) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)
        self._former = {}
