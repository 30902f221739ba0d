import json
import time
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from textreid.errors import ArtifactError, ConfigError
from textreid.runlog import RunLog, read_records


def test_records_are_lines_of_json_that_are_there_at_once(tmp_path: Path) -> None:
    log = RunLog(tmp_path / "run", console=False)
    log.record("start", 0, device="cpu", name="Zürich")
    log.record("train", 10, loss=1.5)
    lines = (tmp_path / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    first, second = map(json.loads, lines)
    assert read_records(log.path) == [first, second]
    assert time.time() - 60 < first.pop("time") <= second.pop("time") <= time.time() + 1
    assert first == {"event": "start", "step": 0, "device": "cpu", "name": "Zürich"}
    assert second == {"event": "train", "step": 10, "loss": 1.5}


@given(steps=st.lists(st.integers(0, 30), max_size=20), kept=st.integers(-1, 30), cut=st.booleans())
@settings(deadline=None, max_examples=40)
def test_keeps_the_records_until_a_step(
    steps: list[int], kept: int, cut: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    log = RunLog(tmp_path_factory.mktemp("log"), console=False)
    for index, step in enumerate(steps):
        log.record("train", step, index=index)
    if cut:
        with log.path.open("a") as stream:
            stream.write('{"event": "train", "st')
    assert [record["step"] for record in (read_records(log.path) if log.path.exists() else [])] == steps
    log.keep_until(kept)
    log.record("train", 99, index=-1)  # a new line is a line of its own
    found = [(record["step"], record["index"]) for record in read_records(log.path)]
    assert found == [*((step, index) for index, step in enumerate(steps) if step <= kept), (99, -1)]


def test_a_log_that_cannot_be_written_or_read_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match=r"file/metrics\.jsonl: cannot be written"):
        RunLog(tmp_path / "file", console=False).record("train", 1)
    with pytest.raises(ArtifactError, match=r"none/metrics\.jsonl: cannot be read: No such file"):
        read_records(tmp_path / "none" / "metrics.jsonl")


def test_the_console_is_standard_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = RunLog(tmp_path)
    log.say("before [1]")
    with log.progress("pretrain", total=10, done=2):
        log.note("loss 1.5")
        log.advance(3)
        log.say("in between [bold]")
    log.advance(4)  # outside: nothing to show
    quiet = RunLog(tmp_path, console=False)
    with quiet.progress("pretrain", total=10):
        quiet.say("nothing")
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.splitlines() == ["before [1]", "in between [bold]"]


def test_progress_without_a_terminal_is_a_line_now_and_then(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("textreid.progress._EVERY_S", 0.0)
    log = RunLog(tmp_path)
    with log.progress("pretrain", total=10):
        log.note("loss 1.5")
        for done in range(1, 11):
            log.advance(done)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 9  # what is finished needs no line
    assert lines[0].startswith("pretrain: 1 of 10 steps, loss 1.5")
    assert "left" in lines[-1]


def test_tensorboard_gets_the_numbers_of_the_records_that_are_kept(tmp_path: Path) -> None:
    log = RunLog(tmp_path, console=False, tensorboard=True)
    log.record("start", 0, device="cpu", images=60)
    for step in (1, 2, 3):
        log.record("train", step, loss=1 / step)
    log.record("noise", 3, epoch=1.0, counts=[0, 6, 0, 2])
    log.keep_until(2)
    log.record("train", 3, loss=0.5)
    log.record("validation", 3, R1=0.25)
    resumed = RunLog(tmp_path, console=False, tensorboard=True)
    resumed.keep_until(3)
    resumed.record("noise", 4, epoch=2.0, counts=[0, 1, 0, 7])

    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    curves = {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    assert curves == {"train/loss": [(1, 1.0), (2, 0.5), (3, 0.5)], "validation/R1": [(3, 0.25)]}
    (histogram,) = events.Histograms("masking probability")
    assert (histogram.step, histogram.histogram_value.num) == (4, 8)
    assert list(histogram.histogram_value.bucket) == [0, 1, 0, 7]


def test_no_tensorboard_unless_it_is_asked_for_and_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    RunLog(tmp_path, console=False).record("train", 1, loss=1.0)
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'textreid\[tensorboard\]'"):
        RunLog(tmp_path, tensorboard=True)
