"""A run that is stopped anywhere and resumed ends as the run that was never stopped, to the last bit."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from tests.training.conftest import Validating, train_on

from textreid import interrupt
from textreid.artifacts import is_locked
from textreid.config import Config
from textreid.errors import ArtifactError, ResumeError, RunStoppedError
from textreid.models import Model, load_model
from textreid.models.trunk import read_trunk
from textreid.presets import settings_of_run
from textreid.runlog import RunLog, read_records
from textreid.training import captioned_images, train as train_data
from textreid.training.runs import summarize_runs

if TYPE_CHECKING:
    from tests.training.conftest import Corpus

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_plots")]
MakeConfig = Callable[..., Config]
SETTINGS = ("training.captions_per_image=2", "training.checkpoint_every=3", "training.log_every=2")
STEPS = 12


class KilledError(BaseException):
    """Stands for a kill: nothing of textreid catches it."""


class EventfulLog(RunLog):
    """Does something when a training step is finished."""

    def __init__(self, folder: Path, step: int, event: Callable[[], None]) -> None:
        super().__init__(folder, console=False)
        self._step, self._event, self._task = step, event, ""

    @contextmanager
    def progress(self, task: str, total: int, done: int = 0, unit: str = "steps") -> Iterator[None]:
        self._task = task
        yield

    def advance(self, done: int) -> None:
        if self._task == "train" and done == self._step:
            self._event()


def kill() -> None:
    raise KilledError


def press_ctrl_c() -> None:
    signal.raise_signal(signal.SIGINT)


def train(config: Config, corpus: "Corpus", out: Path, log: RunLog | None = None, **options: Any) -> Model:
    return train_on(corpus, config, out, log=log or RunLog(out, console=False), **options)


def measured(out: Path) -> list[dict[str, Any]]:
    """The records of a log without its clock and its account of interruptions."""
    records = [record for record in read_records(out / "metrics.jsonl") if record["event"] != "resume"]
    passing = ("images_per_second", "commit", "time")  # others may commit while this test runs
    return [{name: value for name, value in record.items() if name not in passing} for record in records]


def assert_same_run(out: Path, expected: Path) -> None:
    for file in ("model/model.safetensors", "noise.npy", "model/tokenizer.json"):
        assert (out / file).read_bytes() == (expected / file).read_bytes(), file
    last = f"step-{STEPS:08}"
    for file in ("weights.safetensors", "optimizer.safetensors", "totals.safetensors", "noise.npy"):
        assert (out / last / file).read_bytes() == (expected / last / file).read_bytes(), file
    assert measured(out) == measured(expected)


def length_of_encoding(model: Model) -> dict[str, float]:
    return {"figure": float(model.encode_texts(["a red top over black trousers"])[0, 0])}


VALIDATION = Validating(length_of_encoding)


@pytest.fixture(scope="module")
def config(small_config: MakeConfig) -> Config:
    return small_config(*SETTINGS)


@pytest.fixture(scope="module")
def straight(config: Config, corpus: "Corpus", tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("straight") / "run"
    train(config, corpus, out, validation=VALIDATION)
    assert len(measured(out)) == 1 + 6 + 4 + 3  # the start, training, validation, the spread of noise
    return out


@pytest.mark.parametrize("step", [1, 2, 3, 5, 8, 12])
def test_killed_after_any_step(step: int, config: Config, corpus: "Corpus", straight: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    with pytest.raises(KilledError):
        train(config, corpus, out, EventfulLog(out, step, kill), validation=VALIDATION)
    assert [r["step"] for r in measured(out) if r["event"] == "train"] == list(range(2, step + 1, 2))
    train(config, corpus, out, resume=True, validation=VALIDATION)
    assert_same_run(out, straight)


def test_killed_again_and_again(config: Config, corpus: "Corpus", straight: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    rng = np.random.default_rng(5)
    kills = 0
    for step in (2, *sorted(rng.choice(np.arange(3, STEPS + 1), size=5, replace=False).tolist())):
        with pytest.raises(KilledError):
            train(
                config,
                corpus,
                out,
                EventfulLog(out, step, kill),
                resume=kills > 0,
                validation=VALIDATION,
            )
        kills += 1
    train(config, corpus, out, resume=True, validation=VALIDATION)
    assert kills == 6
    assert_same_run(out, straight)


@pytest.mark.parametrize("step", [1, 4, 6, 11])
def test_ctrl_c_finishes_the_step_saves_and_says_how_to_go_on(
    step: int, config: Config, corpus: "Corpus", straight: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    former = signal.getsignal(signal.SIGINT)
    with pytest.raises(RunStoppedError, match=f"after step {step} of {STEPS}.*go on with --resume") as caught:
        train(config, corpus, out, EventfulLog(out, step, press_ctrl_c), validation=VALIDATION)
    assert caught.value.exit_code == 130
    assert (out / f"step-{step:08}" / "manifest.json").is_file()
    assert signal.getsignal(signal.SIGINT) is former
    train(config, corpus, out, resume=True, validation=VALIDATION)
    assert_same_run(out, straight)


def test_a_second_ctrl_c_stops_at_once(config: Config, corpus: "Corpus", tmp_path: Path) -> None:
    def twice() -> None:
        press_ctrl_c()
        press_ctrl_c()

    with pytest.raises(KeyboardInterrupt):
        train(config, corpus, tmp_path / "run", EventfulLog(tmp_path / "run", 2, twice))
    assert list((tmp_path / "run").glob("step-*")) == []


@pytest.mark.parametrize("method", ["em", "none"])
def test_without_a_noise_table(method: str, small_config: MakeConfig, corpus: "Corpus", tmp_path: Path) -> None:
    config = small_config(*SETTINGS, f"masking.method={method}", "training.epoch_unit=image")
    train(config, corpus, tmp_path / "straight")
    with pytest.raises(KilledError):
        train(config, corpus, tmp_path / "run", EventfulLog(tmp_path / "run", 7, kill))
    train(config, corpus, tmp_path / "run", resume=True)
    weights = [(tmp_path / name / "model" / "model.safetensors").read_bytes() for name in ("straight", "run")]
    assert weights[0] == weights[1]


def test_a_finished_run_can_be_resumed_and_stays_as_it_is(
    config: Config, corpus: "Corpus", straight: Path, tmp_path: Path
) -> None:
    shutil.copytree(straight, tmp_path / "run")
    train(config, corpus, tmp_path / "run", resume=True, validation=VALIDATION)
    assert_same_run(tmp_path / "run", straight)


def test_harmless_settings_may_change(config: Config, corpus: "Corpus", straight: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    with pytest.raises(KilledError):
        train(config, corpus, out, EventfulLog(out, 5, kill))
    changed = config.override(
        [
            "training.workers=0",
            "training.cache_images=off",
            "training.checkpoint_every=4",
            "training.keep_checkpoints=1",
        ]
    )
    train(changed, corpus, out, resume=True)
    expected, found = (folder / "model" / "model.safetensors" for folder in (straight, out))
    assert found.read_bytes() == expected.read_bytes()
    assert [path.name for path in sorted(out.glob("step-*"))] == [f"step-{STEPS:08}"]


def test_the_model_says_that_test_data_was_watched_before_a_resume_without(
    config: Config, corpus: "Corpus", tmp_path: Path
) -> None:
    out, test = tmp_path / "run", "the TEST split of A"
    with pytest.raises(KilledError):
        train(config, corpus, out, EventfulLog(out, 11, kill), validation=Validating(length_of_encoding, test))
    model = train(config, corpus, out, resume=True)
    assert model.selected_on == f"nothing: the last step; watched: {test}"
    card = (out / "model" / "card.md").read_text()
    assert f"| selected on | {model.selected_on} |" in card
    assert "This model" not in card  # nothing was measured at its step
    train(config, corpus, out, resume=True, validation=Validating(length_of_encoding, "B"))
    assert model.selected_on == load_model(out / "model").selected_on  # the run was over: nothing was measured on B


def test_one_process_at_a_time_trains_in_a_folder(config: Config, corpus: "Corpus", tmp_path: Path) -> None:
    out = tmp_path / "run"
    refused = []

    def begin_again() -> None:
        assert is_locked(out)
        assert summarize_runs([out])[0].state == "running"
        before = (out / "metrics.jsonl").read_bytes()
        with pytest.raises(ResumeError, match="run: another process trains here; wait until it is done, or choose"):
            train(config, corpus, out, resume=True)
        with pytest.raises(ArtifactError, match="exists already"):
            train(config, corpus, out)
        assert (out / "metrics.jsonl").read_bytes() == before
        refused.append(True)

    train(config, corpus, out, EventfulLog(out, 5, begin_again))
    assert refused == [True]
    assert not is_locked(out)
    assert summarize_runs([out])[0].state == "complete"


def test_the_lock_of_a_process_that_died_is_not_a_run(config: Config, corpus: "Corpus", tmp_path: Path) -> None:
    out = tmp_path / "run"
    code = (
        "import pathlib, sys\nfrom textreid.artifacts import locked\n"
        "with locked(pathlib.Path(sys.argv[1]), 'busy'):\n    print('ready', flush=True)\n    sys.stdin.read()\n"
    )
    out.mkdir()
    with subprocess.Popen(
        [sys.executable, "-c", code, out], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        with pytest.raises(ResumeError, match="another process trains here"):
            train(config, corpus, out)
        process.kill()
    train(config.override(["training.epochs=1"]), corpus, out)
    assert (out / "model").is_dir()


def test_a_run_of_older_names_goes_on(config: Config, corpus: "Corpus", straight: Path, tmp_path: Path) -> None:
    """Settings, records and checkpoints as they were written before some names were changed."""
    out = tmp_path / "run"
    with pytest.raises(KilledError):
        train(config, corpus, out, EventfulLog(out, 8, kill), validation=VALIDATION)
    former = {"head_lr_multiplier": "head_rate", "min_warmup_steps": "least_warmup_steps"}

    def rename(values: dict[str, Any]) -> dict[str, Any]:
        return {former.get(name, name): value for name, value in values.items()}

    settings = json.loads((out / "config.json").read_text())
    (out / "config.json").write_text(json.dumps({**settings, "optimizer": rename(settings["optimizer"])}))
    state = json.loads((out / "step-00000006" / "state.json").read_text())
    settings = {**state["config"], "optimizer": rename(state["config"]["optimizer"])}
    settings["model"]["vocabulary_size"] = 300  # as it was given, not as the tokenizer came out
    older = {**state, "config": settings, "watched": state["validation_set"]}
    del older["validation_set"], older["scaler"]
    file = out / "step-00000006" / "state.json"
    file.write_text(json.dumps(older))
    manifest = json.loads((file.parent / "manifest.json").read_text())
    manifest["files"]["state.json"] = file.stat().st_size
    (file.parent / "manifest.json").write_text(json.dumps(manifest))
    lines = (out / "metrics.jsonl").read_text()
    (out / "metrics.jsonl").write_text(lines.replace("chance_levels", "uninformed_losses"))
    own = settings_of_run(out)
    assert own is not None
    assert own.optimizer == config.optimizer
    train(own, corpus, out, resume=True, validation=VALIDATION)
    expected, found = (folder / "model" / "model.safetensors" for folder in (straight, out))
    assert found.read_bytes() == expected.read_bytes()


def test_half_precision_goes_on_with_its_loss_scale(small_config: MakeConfig, corpus: "Corpus", tmp_path: Path) -> None:
    # Gradients overflow at the first scale, so that it is halved on the way.
    config = small_config(*SETTINGS, "training.precision=fp16", "losses.itc=50", "training.keep_checkpoints=9")
    train(config, corpus, tmp_path / "straight")
    with pytest.raises(KilledError):
        train(config, corpus, tmp_path / "run", EventfulLog(tmp_path / "run", 8, kill))
    train(config, corpus, tmp_path / "run", resume=True)
    for file in ("model/model.safetensors", "noise.npy", "step-00000012/state.json"):
        assert (tmp_path / "run" / file).read_bytes() == (tmp_path / "straight" / file).read_bytes(), file
    state = json.loads((tmp_path / "run" / "step-00000006" / "state.json").read_text())
    assert 0 < state["scaler"]["scale"] < 2**16
    start = read_records(tmp_path / "run" / "metrics.jsonl")[0]
    assert (start["dtype"], start["reason"]) == ("float16", "precision is fp16")
    full = train(config.override(["training.precision=fp32"]), corpus, tmp_path / "full")
    for name, value in load_model(tmp_path / "run" / "model").encoder.state_dict().items():
        assert value.isfinite().all()
        assert (value - full.encoder.state_dict()[name]).abs().max() < 0.02, name


def test_unreadable_images_stay_left_out_and_counted(
    small_config: MakeConfig, make_corpus: Callable[..., "Corpus"], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = make_corpus(tmp_path / "corpus", images=100, broken=(17,))
    config = small_config(
        "training.checkpoint_every=7", "training.epochs=2", "training.cache_images=off", "training.workers=0"
    )
    straight, out = tmp_path / "straight", tmp_path / "run"
    train(config, broken, straight, RunLog(straight))
    said = capsys.readouterr().err
    assert said.count("left out, with its captions: ") == 1
    assert "0017.png: " in said
    assert f"left out: 1 of 100 images, named in {straight / 'metrics.jsonl'}" in said
    with pytest.raises(KilledError):
        train(config, broken, out, EventfulLog(out, 13, kill))
    for _ in range(2):  # goes on in the last epoch, then once more when it is finished
        train(config, broken, out, resume=True)
        noted = [record["images"] for record in read_records(out / "metrics.jsonl") if record["event"] == "left_out"]
        assert [list(images) for images in noted] == [["0017.png"]]
        assert "| unreadable images, left out | 1 |" in (out / "model" / "card.md").read_text()
    assert (out / "model" / "model.safetensors").read_bytes() == (straight / "model" / "model.safetensors").read_bytes()


def test_refuses_other_settings_and_says_which(config: Config, corpus: "Corpus", straight: Path) -> None:
    other = config.override(["optimizer.learning_rate=0.5", "losses.sdm=0.25", "training.seed=9"])
    before = sorted(path.name for path in straight.iterdir())
    with pytest.raises(ResumeError) as caught:
        train(other, corpus, straight, resume=True)
    message = str(caught.value)
    for difference in ("losses.sdm was 0.0, is 0.25", "learning_rate was 0.001, is 0.5", "training.seed was 0, is 9"):
        assert difference in message
    assert "epochs" not in message
    assert sorted(path.name for path in straight.iterdir()) == before


def test_refuses_other_data(
    config: Config, corpus: "Corpus", make_corpus: Callable[..., "Corpus"], straight: Path, tmp_path: Path
) -> None:
    other = make_corpus(tmp_path / "other", images=60, seed=3)
    with pytest.raises(ResumeError, match="the captions or images are others"):
        train(config, other, straight, resume=True)
    shutil.copytree(corpus.images, tmp_path / "imgs")
    (tmp_path / "imgs" / "0003.png").write_bytes((tmp_path / "imgs" / "0004.png").read_bytes() + b"\0")
    with pytest.raises(ResumeError, match="the captions or images are others"):
        train_data(config, captioned_images(tmp_path / "imgs", corpus.captions), straight, resume=True)


def test_refuses_where_there_is_no_run(config: Config, corpus: "Corpus", tmp_path: Path) -> None:
    with pytest.raises(ResumeError, match="no run to resume; start it without --resume"):
        train(config, corpus, tmp_path / "none", resume=True)


def test_a_checkpoint_cut_off_by_a_kill_is_passed_over(
    config: Config, corpus: "Corpus", straight: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    with pytest.raises(KilledError):
        train(config, corpus, out, EventfulLog(out, 8, kill), validation=VALIDATION)
    shutil.copytree(out / "step-00000006", out / ".step-00000009.123.partial")
    (out / ".step-00000009.123.partial" / "manifest.json").unlink()
    (out / "step-00000009").mkdir()  # as left by a copy that was cut off
    train(config, corpus, out, resume=True, validation=VALIDATION)
    assert_same_run(out, straight)
    assert list(out.glob(".step-*")) == []


def test_a_damaged_checkpoint_is_named(config: Config, corpus: "Corpus", tmp_path: Path) -> None:
    out = tmp_path / "run"
    with pytest.raises(KilledError):
        train(config, corpus, out, EventfulLog(out, 8, kill))
    for name in ("weights.safetensors", "optimizer.safetensors"):
        file = out / "step-00000006" / name
        whole = file.read_bytes()
        file.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(ArtifactError, match=rf"{name}: \d+ bytes, but \d+ were written"):
            train(config, corpus, out, resume=True)
        file.write_bytes(b"\xff" * len(whole))
        with pytest.raises(ArtifactError, match="step-00000006: damaged"):
            train(config, corpus, out, resume=True)
        file.write_bytes(whole)


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Files cannot grow beyond ``size`` bytes: to the writer as a full disk, to the rest of the machine not at all."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("size", [20_000, 300_000])  # too small for weights; for the state of the optimiser
def test_a_full_disk_leaves_the_last_checkpoint(
    size: int, config: Config, corpus: "Corpus", straight: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    with pytest.raises(KilledError):
        train(config, corpus, out, EventfulLog(out, 4, kill), validation=VALIDATION)
    with pytest.raises(ArtifactError, match=r"step-00000006: cannot be written: .*File too large"), largest_file(size):
        train(config, corpus, out, resume=True, validation=VALIDATION)
    assert [path.name for path in out.glob("step-*")] == ["step-00000003"]
    assert [path.name for path in out.glob(".*")] == [".lock"]
    train(config, corpus, out, resume=True, validation=VALIDATION)
    assert_same_run(out, straight)


def test_a_disk_that_is_full_from_the_start(config: Config, corpus: "Corpus", tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"noise\.npy: cannot be written: File too large"), largest_file(4000):
        train(config, corpus, tmp_path / "run")


def wait_for_step(out: Path, step: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and process.poll() is None:
        metrics = out / "metrics.jsonl"
        if metrics.exists() and any(json.loads(line)["step"] >= step for line in metrics.read_text().split("\n")[:-1]):
            return
        time.sleep(0.01)
    raise AssertionError(f"the run did not reach step {step}: {process.communicate()}")


def test_a_process_that_gets_sigint_then_sigkill(small_config: MakeConfig, corpus: "Corpus", tmp_path: Path) -> None:
    config = small_config("training.epochs=40", "training.checkpoint_every=30", "training.log_every=5")
    straight, out = tmp_path / "straight", tmp_path / "run"
    train(config, corpus, straight)
    (tmp_path / "config.json").write_text(json.dumps(config.to_dict()))
    command = [sys.executable, "-c", "from textreid.cli import main; main()", "pretrain"]
    command += ["--images", str(corpus.images), "--captions", str(corpus.captions), "--out", str(out)]
    command += ["--config", str(tmp_path / "config.json")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def start(*more: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*command, *more], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    with start() as first:
        wait_for_step(out, 20, first)
        first.send_signal(signal.SIGINT)
        _, said = first.communicate(timeout=300)
    assert first.returncode == 130
    assert f"{out} is saved, go on with --resume" in said
    stopped = int(sorted(out.glob("step-*"))[-1].name.removeprefix("step-"))
    assert 20 <= stopped < 120
    with start("--resume") as second:
        wait_for_step(out, stopped + 35, second)
        second.kill()
    assert second.returncode == -signal.SIGKILL
    train(config, corpus, out, resume=True)
    for file in ("model/model.safetensors", "noise.npy"):
        assert (out / file).read_bytes() == (straight / file).read_bytes(), file
    assert measured(out) == measured(straight)
    assert [record["event"] for record in read_records(out / "metrics.jsonl")].count("resume") == 2


def test_a_run_in_another_thread_leaves_signals_alone() -> None:
    former = signal.getsignal(signal.SIGINT)
    seen: list[str] = []

    def enter() -> None:
        with interrupt.StopRequest(lambda: seen.append("stop")) as stop:
            seen.append(str(stop.made))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert seen == ["False"]
    assert signal.getsignal(signal.SIGINT) is former


@pytest.mark.parametrize("cache", ["on", "maps"])
def test_a_run_with_a_frozen_trunk_goes_on_too(
    cache: str,
    small_config: MakeConfig,
    corpus: "Corpus",
    published_trunk: Path,
    tmp_path: Path,
) -> None:
    trunk = tmp_path / "efficientnet-lite0-57934424.pth"
    shutil.copy(published_trunk, trunk)
    config = small_config(
        *SETTINGS, "model.image_height=32", "model.image_width=32", "model.patch_size=16",
        "model.stem=efficientnet-lite0", f"model.trunk_weights={trunk}", "optimizer.trunk_lr_multiplier=0",
        f"training.cache_images={cache}", "training.map_views=2",
    )  # fmt: skip
    whole = train(config, corpus, tmp_path / "whole")
    with pytest.raises(KilledError):
        train(config, corpus, tmp_path / "run", EventfulLog(tmp_path / "run", 8, kill))
    expected = read_trunk(trunk)
    trunk.unlink()  # a checkpoint has its weights
    resumed = train(config, corpus, tmp_path / "run", resume=True)
    assert resumed.fingerprint == whole.fingerprint
    found = resumed.encoder.state_dict()
    assert all(np.array_equal(found[name], weights) for name, weights in expected.items())
