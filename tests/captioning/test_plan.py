"""`caption` from Python: what the command does, in any thread, leaving the host program as it was."""

import asyncio
import gc
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from examples.mllm_server import Question
from PIL import Image
from tests.captioning.server import Behaviour, Server, stock_answer

from textreid.captioning import CaptionerOptions, caption
from textreid.captioning.job import caption_images
from textreid.captioning.mllms import CaptionerSpec, destinations, open_engine, read_mllms
from textreid.captioning.plan import plan_captions
from textreid.captioning.requests import Settings
from textreid.captions.table import read_captions
from textreid.errors import ArgumentError, CaptioningStoppedError, ConfigError, DataError, RunStoppedError


@pytest.fixture
def crops(tmp_path: Path) -> Path:
    (tmp_path / "crops").mkdir()
    for number in range(4):
        Image.effect_noise((16, 32), 50 + number).save(tmp_path / "crops" / f"{number}.png")
    return tmp_path / "crops"


@pytest.fixture
def handlers() -> Iterator[dict[int, Callable[..., None]]]:
    """Handlers of a host program, which are there again after the test."""
    former = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    ours: dict[int, Callable[..., None]] = {number: lambda *_: None for number in former}
    for number, handler in ours.items():
        signal.signal(number, handler)
    yield ours
    for number, before in former.items():
        signal.signal(number, before)


def test_it_does_what_the_command_does(crops: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    counts = caption(crops, tmp_path / "out", ["draft=describe"])
    assert (counts.done, counts.total, counts.images_done) == (8, 8, 4)
    assert read_captions(tmp_path / "out").slots == ("draft/dynamic", "draft/static")
    assert caption(str(crops), str(tmp_path / "out"), ["draft=describe"], show=False).total == 8
    assert capfd.readouterr().out == ""


def test_options_reach_the_server(crops: Path, tmp_path: Path) -> None:
    with Server() as server:
        options = CaptionerOptions(max_tokens=33, fields={"top_p": 0.5})
        caption(crops, tmp_path / "out", [f"q={server.url}#sim"], slots=["static"], options=options, show=False)
        assert {(q.body["max_tokens"], q.body["top_p"]) for q in server.questions} == {(33, 0.5)}


@pytest.mark.parametrize("where", ["main", "thread", "notebook"])
def test_handlers_and_collector_are_as_before(
    where: str, crops: Path, tmp_path: Path, handlers: dict[int, Callable[..., None]]
) -> None:
    done: list[int] = []

    def run() -> None:
        done.append(caption(crops, tmp_path / "out", ["describe"], show=False).done)

    async def notebook() -> None:
        run()

    if where == "thread":
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
    elif where == "notebook":
        asyncio.run(notebook())
    else:
        run()
    assert done == [8]
    assert {number: signal.getsignal(number) for number in handlers} == handlers
    assert gc.get_freeze_count() == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_it_raises_and_the_handlers_are_back(
    number: signal.Signals, crops: Path, tmp_path: Path, handlers: dict[int, Callable[..., None]]
) -> None:
    answered: list[str] = []

    def answer(question: Question) -> str:
        if not answered:
            os.kill(os.getpid(), number)
        answered.append(stock_answer(question))
        return answered[-1]

    with (
        Server(behaviour=Behaviour(latency=0.1), answer=answer) as server,
        pytest.raises(CaptioningStoppedError, match="run the same command to go on") as stopped,
    ):
        caption(crops, tmp_path / "out", [f"q={server.url}#sim"], in_flight=1, show=False)
    assert isinstance(stopped.value, RunStoppedError)
    assert stopped.value.exit_code == 130
    assert {number: signal.getsignal(number) for number in handlers} == handlers


def test_eight_threads_at_once(crops: Path, tmp_path: Path) -> None:
    done: list[int] = []

    def run(folder: Path) -> None:
        done.append(caption(crops, folder, ["describe"], show=False).done)

    threads = [threading.Thread(target=run, args=(tmp_path / str(number),)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert done == [8] * 8
    assert gc.get_freeze_count() == 0


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"mllms": []}, ConfigError, "--mllm: needed at least once"),
        ({"mllms": [5]}, ArgumentError, "expected a list of strings like NAME=URL#MODEL, not 5"),
        ({"mllms": "describe"}, ArgumentError, "mllms: expected a list of strings like NAME=URL#MODEL"),
        ({"images": None}, ArgumentError, "images: expected a path"),
        ({"out": 5}, ArgumentError, "out: expected a path"),
        ({"images": "/no such folder"}, DataError, "/no such folder"),
        ({"slots": ["statik"]}, ConfigError, "'statik': did you mean static?"),
        ({"attempts": 0}, ConfigError, "attempts and in_flight must be 1 or more"),
        ({"workers": 3}, ConfigError, "--workers and --tensor-parallel: need --engine ray"),
        ({"options": CaptionerOptions(fields={"a": 1})}, ConfigError, "--field: none of these MLLMs takes it"),
    ],
)
def test_wrong_arguments(
    changes: dict[str, Any], error: type[Exception], message: str, crops: Path, tmp_path: Path
) -> None:
    arguments = {"images": crops, "out": tmp_path / "out", "mllms": ["describe"], **changes}
    with pytest.raises(error, match=message):
        caption(**arguments, show=False)
    assert not (tmp_path / "out").exists()


def test_what_has_one_meaning_needs_no_name() -> None:
    assert read_mllms(["describe"]) == (CaptionerSpec("describe", "describe", "describe"),)
    assert read_mllms(["transformers:Qwen/VL"]) == (CaptionerSpec("transformers", "transformers", "Qwen/VL"),)
    assert destinations(read_mllms(["describe", "q=vllm:Qwen/VL"])) == [
        "describe: pictures stay on this machine", "q: pictures stay in the Ray cluster"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("specification", "message"),
    [
        ("descibe", "--mllm: did you mean describe? expected .* such as --mllm qwen=http"),
        ("d=simulate", "--mllm d: did you mean simulated? expected"),
        ("d=", "--mllm d: expected"),
        ("transformers:", "--mllm: expected"),
        ("qwen=http://a/v1", "--mllm qwen: expected NAME=URL#MODEL, as in --mllm qwen=http://a/v1#MODEL$"),
        ("qwen=gpu1:8000/v1#Qwen/VL", "as in --mllm qwen=http://gpu1:8000/v1#Qwen/VL$"),
    ],
)
def test_near_misses_name_the_nearest(specification: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("?", r"\?")):
        read_mllms([specification])


@pytest.mark.parametrize("trouble", ["hang", "error_500", "too_many"])
@pytest.mark.slow
def test_a_stop_ends_a_run_that_gets_no_answer(
    trouble: str, crops: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("textreid.captioning.job._TICK_S", 0.4)
    monkeypatch.setattr("textreid.captioning.job._EXIT_GRACE_S", 1.0)
    lines: list[str] = []
    with Server() as server:
        plan = plan_captions(
            crops, tmp_path / "out", [f"q={server.url}#sim"], slots=["static"], settings=Settings()
        )  # fmt: skip
        server.set(**{trouble: 1.0})
        threading.Timer(1.6, lambda: os.kill(os.getpid(), signal.SIGTERM)).start()
        began = time.monotonic()
        with pytest.raises(CaptioningStoppedError, match="0 of 4 captions are saved"):
            caption_images(
                plan.images, plan.selection.images, plan.out, open_engine(plan.specs, plan.images), plan.slots,
                plan.settings, watch=lambda counts: lines.append(counts.line({})),
            )  # fmt: skip
        assert time.monotonic() - began < 40  # alone 3; without the stop, minutes
    assert len(lines) >= 3  # though nothing was saved
    kind = {"error_500": "http-500", "too_many": "http-429"}.get(trouble)
    assert kind is None or f"0 images, 0.0 captions/s, at the moment {kind}: {server.url}: HTTP " in lines[2]
