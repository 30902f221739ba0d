"""Stopping long work at the end of a step instead of in the middle of one."""

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """Handler of Ctrl-C and SIGTERM that, while entered, sets `made` instead of ending the process.

    A second signal meets the handlers that were there before, as does one after the block. Python delivers signals to
    the main thread only; entered in another thread, the handlers are left alone.

    Args:
        on_request: called once, in the main thread and between two of its instructions, when a stop is asked for;
            with an event loop, let it call ``loop.call_soon_threadsafe``.
    """

    def __init__(self, on_request: Callable[[], None]) -> None:
        self.made = False
        self._on_request = on_request
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
        self._on_request()

    def _restore(self) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)
        self._former = {}
