"""What records say: runs side by side, whole and damaged; whether one learns; which model is kept."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.commands import Run
from tests.training.conftest import Validating, train_on

from textreid.artifacts import locked
from textreid.config import Config
from textreid.errors import ConfigError, DataError
from textreid.models import Model
from textreid.runlog import RunLog
from textreid.training.runs import Selection, diagnose, differing_settings, summarize_runs

if TYPE_CHECKING:
    from tests.training.conftest import Corpus


@pytest.fixture(scope="module")
def folder(
    small_config: Callable[..., Config], corpus: "Corpus", tmp_path_factory: pytest.TempPathFactory, no_plots: None
) -> Path:
    """Two finished runs, and what is none."""
    folder = tmp_path_factory.mktemp("runs")
    scores = iter((0.1, 0.4, 0.3))

    def evaluate(model: Model) -> dict[str, float]:
        return {"R1": next(scores)}

    for name, validation, settings in (
        ("flat", None, ("optimizer.learning_rate=0", "optimizer.warmup_start=0", "masking.method=em")),
        ("watched", Validating(evaluate, "a street"), ()),
    ):
        train_on(corpus, small_config("training.epochs=2", *settings), folder / name, validation=validation)
    (folder / "notes").mkdir()
    (folder / "notes.txt").write_text("mine")
    return folder


def records(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_tells_what_each_run_did(folder: Path) -> None:
    flat, watched = summarize_runs([folder])
    assert (flat.folder.name, flat.state, flat.steps, flat.saved, flat.steps_total) == ("flat", "complete", 8, 8, 8)
    assert flat.remark.startswith("nothing learned: the itc loss is ")
    assert (flat.last, flat.best, flat.selected_on) == (None, None, "nothing: the last step")
    assert watched.last is not None
    assert watched.best is not None
    assert (watched.last.score, watched.last.epoch, watched.best.score, watched.best.epoch) == (0.3, 2, 0.4, 1)
    assert watched.selected_on == "nothing: the last step; watched: a street"
    assert watched.loss == [r for r in records(folder / "watched") if r["event"] == "train"][-1]["loss"]
    assert watched.data == flat.data == records(folder / "flat")[0]["data"]
    assert watched.seconds == pytest.approx(
        records(folder / "watched")[-1]["time"] - records(folder / "watched")[0]["time"]
    )
    assert differing_settings([flat, watched]) == [
        "masking.method", "optimizer.learning_rate", "optimizer.warmup_start",
    ]  # fmt: skip
    assert differing_settings([flat]) == []


def test_a_run_named_twice_is_one_row(folder: Path) -> None:
    assert len(summarize_runs([folder, folder / "flat"])) == 2


def test_running_stopped_and_time_without_interruptions(folder: Path, tmp_path: Path) -> None:
    run = shutil.copytree(folder / "flat", tmp_path / "run")
    shutil.rmtree(run / "model")
    log = RunLog(run, console=False)
    with locked(run, "busy"):
        assert summarize_runs([run])[0].state == "running"
    shutil.rmtree(run / "step-00000008")
    (run / "step-00000008").mkdir()  # without a manifest: its writing was interrupted
    shutil.copytree(folder / "flat" / "step-00000008", run / "step-00000004")
    (stopped,) = summarize_runs([run])
    assert (stopped.steps, stopped.saved) == (8, 4)
    assert (stopped.state, stopped.selected_on) == ("stopped", None)
    begun = records(run)[0]
    log.record(**{**begun, "event": "resume", "step": 8, "time": 0})
    lines = [{**record, "time": time} for record, time in zip(records(run), (*range(100, 111), 900), strict=False)]
    lines += [{**lines[-1], "event": "train", "time": 905, "loss": 1.0, "itc": 1.0, "images_per_second": 7}]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    resumed = [line["event"] for line in lines].index("resume")
    expected = lines[resumed - 1]["time"] - 100 + lines[-1]["time"] - lines[resumed]["time"]
    assert summarize_runs([run])[0].seconds == expected


@pytest.mark.parametrize(
    ("file", "content", "reason"),
    [
        ("config.json", None, "config.json: cannot be read"),
        ("config.json", "{", "config.json: not valid JSON"),
        ("config.json", "[]", "holds what no run writes"),
        ("config.json", '{"training": {}}', "holds what no run writes: KeyError: 'select'"),
        ("metrics.jsonl", None, "metrics.jsonl: cannot be read"),
        ("metrics.jsonl", "", "metrics.jsonl: holds no start of a run"),
        ("metrics.jsonl", "[]\n{\n7\n", "metrics.jsonl: holds no start of a run"),
        ("metrics.jsonl", '{"event": "start", "step": 0, "steps": "many"}', "holds what no run writes: ValueError"),
        ("model/manifest.json", "{}", "holds what no run writes: KeyError: 'selected_on'"),
    ],
)
def test_a_damaged_run_is_a_row_with_a_reason(
    folder: Path, tmp_path: Path, file: str, content: str | None, reason: str
) -> None:
    for name in ("flat", "watched"):
        shutil.copytree(folder / name, tmp_path / name)
    (tmp_path / "flat" / file).unlink()
    if content is not None:
        (tmp_path / "flat" / file).write_text(content)
    flat, watched = summarize_runs([tmp_path])
    assert (flat.state, watched.state) == ("damaged", "complete")
    assert reason in flat.remark
    assert (flat.steps, flat.settings) == (None, {})
    assert differing_settings([flat, watched]) == []


def test_a_folder_without_runs_is_refused(folder: Path) -> None:
    with pytest.raises(DataError, match="notes: holds no run"):
        summarize_runs([folder / "notes"])
    with pytest.raises(DataError, match="none: no such folder"):
        summarize_runs([folder / "none"])
    with pytest.raises(DataError, match="model: holds no run"):
        summarize_runs([folder / "flat" / "model"])


def test_the_command(folder: Path, textreid: Run) -> None:
    code, printed, _ = textreid("runs", folder)
    assert code == 0
    rows = [line.split() for line in printed.splitlines()]
    assert ["flat", "complete", "em", "0.0", "0.0", "8/8", "8"] in [row[:7] for row in rows]
    (watched,) = [row for row in rows if row[:1] == ["watched"]]
    assert watched[:6] == ["watched", "complete", "nam", "0.001", "1e-05", "8/8"]
    assert watched[8:11] == ["30.0", "40.0", "1"]
    assert any(line.startswith("flat: nothing learned: the itc loss is") for line in printed.splitlines())
    assert "selected on nothing: the last step; watched: a street: watched" in printed
    code, printed, _ = textreid("runs", folder / "watched", "--json")
    (found,) = json.loads(printed)
    assert (code, found["state"], found["best"]) == (0, "complete", {"step": 4, "epoch": 1.0, "score": 0.4})
    assert found["settings"]["training.epochs"] == 2


START = {"event": "start", "step": 0, "chance_levels": {"itc": 10.35}}


def losses_of(*losses: float, start: dict[str, Any] | None = START, part: str = "itc") -> list[dict[str, Any]]:
    trained = [{"event": "train", "step": step, "loss": loss, part: loss} for step, loss in enumerate(losses, start=1)]
    return [*([start] if start else []), *trained, {"event": "validation", "step": len(losses), "R1": 0.0}]


def test_a_loss_that_stays_where_everything_looks_alike_is_named() -> None:
    flat = "nothing learned: the itc loss is 10.350, and 10.350 is that of a model to which everything looks alike"
    assert diagnose(losses_of(10.56, 10.36, *[10.35] * 18)) == flat
    assert diagnose(losses_of(10.56, 10.36, 5.0, *[10.35] * 18)) == flat  # it was better once: no matter


@pytest.mark.parametrize("losses", [(10.5, 10.0), (10.5, 9.0, 8.0), (10.5, *[7.0] * 30, 10.5), (10.5,), ()])
def test_a_loss_that_fell_or_hardly_began_is_not(losses: tuple[float, ...]) -> None:
    assert diagnose(losses_of(*losses)) == ""


def test_the_sum_must_fall_whatever_the_losses_are() -> None:
    risen = "the loss has not fallen: 2.000 at first, 2.100 now"
    assert diagnose(losses_of(2.0, 1.5, 2.1)) == risen
    assert diagnose(losses_of(2.0, 1.5, 2.1, start=None)) == risen
    assert diagnose(losses_of(2.0, 1.5, 2.1, start={"event": "start", "step": 0}, part="mlm")) == risen


def test_the_end_is_the_last_tenth() -> None:
    assert diagnose(losses_of(*[5.0] * 18, 5.9, 4.0)) == ""
    assert diagnose(losses_of(*[5.0] * 18, 6.1, 4.0)).startswith("the loss has not fallen: 5.000 at first, 5.050 now")


def test_diagnoses_older_logs() -> None:
    older = {"event": "start", "step": 0, "uninformed_losses": {"itc": 10.35}}
    assert diagnose(losses_of(10.56, *[10.35] * 18, start=older)).startswith("nothing learned")


X = "the validation split of X"
RECORDS = [
    {"event": "start", "step": 0},
    {"event": "validation", "validation_set": X, "step": 0, "epoch": 0.0, "R1": 0.9},
    {"event": "validation", "validation_set": X, "step": 4, "epoch": 1.0, "R1": 0.25},
    {"event": "train", "step": 5, "loss": 1.0},
    {"event": "validation", "validation_set": X, "step": 8, "epoch": 2.0, "R1": 0.5},
    {"event": "validation", "validation_set": X, "step": 12, "epoch": 3.0, "R1": 0.5},
    {"event": "validation", "validation_set": X, "step": 16, "epoch": 4.0, "R1": 0.375},
]


def test_keeps_the_first_of_the_best_epochs_but_never_the_model_it_started_from() -> None:
    selection = Selection.from_records("validation", X, RECORDS)
    assert selection.kept_step == 8
    assert selection.describe() == "R1 0.375 after epoch 4, the last; best 0.5 after epoch 2"
    assert selection.selected_on() == "the validation split of X (R1)"
    assert not selection.offer(20, 5.0, {"R1": 0.5})
    assert selection.offer(24, 6.0, {"R1": 0.75})
    assert selection.describe() == "R1 0.75 after epoch 6, the last and best"


def test_the_last_is_kept_whatever_was_measured() -> None:
    selection = Selection.from_records("last", X, RECORDS)
    assert selection.kept_step is None
    assert selection.best is not None
    assert selection.best.step == 8
    assert selection.selected_on() == "nothing: the last step; watched: the validation split of X"
    assert Selection("last", None).selected_on() == "nothing: the last step"
    assert Selection("last", None).describe() == ""


def test_needs_r1_to_choose_by() -> None:
    assert not Selection("last", "X").offer(4, 1.0, {"loss": 1.0})
    with pytest.raises(ConfigError, match=r"training\.select: validation, but the figures of it hold no R1"):
        Selection("validation", "X").offer(4, 1.0, {"loss": 1.0})


def test_names_every_set_that_was_watched_and_compares_only_figures_of_the_present_one() -> None:
    other = {"event": "validation", "validation_set": "the TEST split of Y", "step": 12, "epoch": 3.0, "R1": 0.125}
    selection = Selection.from_records("last", None, [*RECORDS[:3], other])
    assert selection.selected_on() == f"nothing: the last step; watched: {X}, the TEST split of Y"
    assert selection.describe() == "R1 0.125 after epoch 3, the last and best"
    again = Selection.from_records("last", X, [*RECORDS[:3], other])
    assert again.describe() == "R1 0.25 after epoch 1, the last and best"
    again.offer(16, 4.0, {"R1": 0.5})
    assert again.selected_on() == selection.selected_on()


def test_selects_from_older_logs() -> None:
    without = [{name: value for name, value in record.items() if name != "validation_set"} for record in RECORDS]
    assert Selection.from_records("validation", X, without) == Selection.from_records("validation", X, RECORDS)
    assert Selection.from_records("last", None, without).selected_on() == "nothing: the last step"
    renamed = [{**record, "watched": X} if record["event"] == "validation" else record for record in without]
    assert Selection.from_records("last", None, renamed) == Selection.from_records("last", None, RECORDS)
