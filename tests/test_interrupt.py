"""Stop requests: asked for once, told once, and the host program's own handlers are back afterwards."""

import asyncio
import os
import signal

import pytest

from textreid.interrupt import StopRequest


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_asks_for_a_stop_and_the_next_meets_the_former_handler(number: signal.Signals) -> None:
    told: list[str] = []
    met: list[int] = []
    former = signal.signal(number, lambda received, frame: met.append(received))
    try:
        with StopRequest(lambda: told.append("stop")) as stop:
            assert not stop.made
            os.kill(os.getpid(), number)
            assert (stop.made, told, met) == (True, ["stop"], [])
            os.kill(os.getpid(), number)
            assert (told, met) == (["stop"], [number])
    finally:
        signal.signal(number, former)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_handlers_are_as_before_also_after_an_error(number: signal.Signals) -> None:
    def own(received: int, frame: object) -> None:
        pass

    former = signal.signal(number, own)
    try:
        with pytest.raises(RuntimeError), StopRequest(lambda: None):
            raise RuntimeError
        assert signal.getsignal(number) is own
    finally:
        signal.signal(number, former)


def test_an_event_loop_is_woken() -> None:
    async def wait() -> bool:
        stopped, loop = asyncio.Event(), asyncio.get_running_loop()

        def wake() -> None:
            loop.call_soon_threadsafe(stopped.set)

        with StopRequest(wake) as stop:
            loop.call_later(0.05, os.kill, os.getpid(), signal.SIGTERM)
            await asyncio.wait_for(stopped.wait(), 5)
            return stop.made

    assert asyncio.run(wait())
