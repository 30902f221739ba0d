"""The command: what it passes on, what it prints where, and how it refuses."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.commands import Run

from textreid.config import Config
from textreid.models import load_model

if TYPE_CHECKING:
    from tests.training.conftest import Corpus

pytestmark = pytest.mark.slow


@pytest.fixture
def settings(small_config: Callable[..., Config], tmp_path: Path) -> Path:
    path = tmp_path / "settings.json"
    path.write_text(json.dumps(small_config("training.epochs=2").to_dict()))
    return path


def test_trains_with_the_settings_given(textreid: Run, corpus: "Corpus", settings: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    code, data, said = textreid(
        "pretrain", "--images", corpus.images, "--captions", corpus.captions, "--out", out, "--config", settings,
        "--masking", "em", "--set", "training.epochs=1", "--set", "training.seed=7",
    )  # fmt: skip
    assert (code, data) == (0, f"{out / 'model'}\n")
    assert said.startswith("cpu, float32 (precision is fp32), 0.1 M parameters, 4 steps, seed 7; 60 images")
    used = Config.load(out / "config.json")
    assert (used.masking.method, used.training.epochs, used.training.seed) == ("em", 1, 7)
    assert load_model(out / "model").encode_texts(["a red top"]).shape == (1, 32)
    code, data, said = textreid(
        "pretrain", "--images", corpus.images, "--captions", corpus.captions, "--out", out, "--config", settings
    )
    assert (code, data) == (1, "")
    assert said.endswith("run: exists already; continue it with --resume, or choose another folder\n")


def test_a_run_goes_on_with_its_own_settings_and_compares_what_is_given(
    textreid: Run, corpus: "Corpus", settings: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    arguments = ("pretrain", "--images", corpus.images, "--captions", corpus.captions, "--out", out)
    assert textreid(*arguments, "--config", settings, "--set", "training.seed=7")[0] == 0
    before = (out / "model" / "model.safetensors").read_bytes()
    code, data, said = textreid(*arguments, "--resume")
    assert (code, data) == (0, f"{out / 'model'}\n"), said
    assert "2 steps" not in said
    assert "seed 7" in said
    # Given again, and given otherwise.
    assert textreid(*arguments, "--resume", "--set", "training.seed=7", "--masking", "nam")[0] == 0
    code, _, said = textreid(*arguments, "--resume", "--set", "training.seed=8", "--masking", "em")
    assert (code, said.count("\n")) == (1, 1)
    assert "masking.method was 'nam', is 'em'; training.seed was 7, is 8. Give the settings" in said
    # A preset is not a setting that was given one by one: the run's own stand, and the difference is told.
    code, _, said = textreid(*arguments, "--resume", "--preset", "tiny")
    assert code == 0, said
    assert "in --preset tiny, model.image_height is 128, not 32; " in said.splitlines()[0]
    assert (out / "model" / "model.safetensors").read_bytes() == before
    code, _, said = textreid(*arguments[:-1], tmp_path / "none", "--resume")
    assert (code, said) == (1, f"textreid: {tmp_path / 'none'}: no run to resume; start it without --resume\n")


@pytest.fixture
def benchmark(corpus: "Corpus", tmp_path: Path) -> Path:
    """The images of the corpus as a benchmark: two thirds of its people to train on, the others to test on."""
    folder = tmp_path / "benchmark"
    shutil.copytree(corpus.images, folder / "imgs")
    entries = [
        {
            "split": "train" if row % 3 else "test",
            "captions": [f"a {top} top over {bottom} trousers"],
            "file_path": f"{row:04}.png",
            "id": row + 1,
        }
        for row, (top, bottom) in enumerate(corpus.outfits)
    ]
    (folder / "reid_raw.json").write_text(json.dumps(entries))
    return folder


@pytest.mark.parametrize(
    ("options", "watched"),
    [
        ([], "10% of the training people (seed 0) of benchmark"),
        (["--validate-on-test"], "the TEST split of benchmark"),
    ],
)
def test_measures_on_the_validation_split_and_stamps_a_look_at_test(
    textreid: Run, corpus: "Corpus", settings: Path, benchmark: Path, tmp_path: Path,
    options: list[str], watched: str,
) -> None:  # fmt: skip
    out, images = tmp_path / "run", shutil.copytree(corpus.images, tmp_path / "images")
    (images / "clip.mov").touch()
    code, _, said = textreid(
        "pretrain", "--images", images, "--captions", corpus.captions, "--out", out, "--config", settings,
        "--validate", benchmark, *options,
    )  # fmt: skip
    assert code == 0
    assert "not read: 1 .mov\n" in said
    measured = [line.split(":")[0] for line in said.splitlines() if line.startswith("epoch") and "R1" in line]
    assert measured == ["epoch 0", "epoch 1", "epoch 2"]
    assert sorted(path.name for path in (out / "plots").iterdir()) == [
        "learning_rate.png", "loss.png", "mask_rate.png", "noise.png", "validation.png",
    ]  # fmt: skip
    model = load_model(out / "model")
    assert model.selected_on == f"nothing: the last step; watched: {watched}"
    assert model.training_text == ("m",)
    assert f"| selected on | {model.selected_on} |" in (out / "model" / "card.md").read_text()


def test_refuses_to_validate_on_what_it_trains_on(
    textreid: Run, corpus: "Corpus", settings: Path, benchmark: Path, tmp_path: Path
) -> None:
    shutil.rmtree(benchmark / "imgs")
    (benchmark / "imgs").symlink_to(corpus.images)
    code, _, said = textreid(
        "pretrain", "--images", corpus.images, "--captions", corpus.captions, "--out", tmp_path / "run",
        "--config", settings, "--validate", benchmark,
    )  # fmt: skip
    assert (code, said.count("\n")) == (1, 1)
    assert "are in the training set and in the validation set, 10% of the training people (seed 0) of benchm" in said
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "training.epoch=3"], "training.epoch: no such setting; did you mean training.epochs?"),
        (["--preset", "tin"], "no preset 'tin'; did you mean tiny?"),
        (["--masking", "all"], "'all' is not one of 'nam', 'em', 'none'"),
        (["--validate-on-test"], "--validate-on-test needs --benchmark"),
        (["--validate", "cuhk-pede=data"], "benchmark 'cuhk-pede': did you mean cuhk-pedes?"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_two(
    textreid: Run, corpus: "Corpus", tmp_path: Path, arguments: list[str], message: str
) -> None:
    code, data, said = textreid(
        "pretrain", "--images", corpus.images, "--captions", corpus.captions, "--out", tmp_path / "run", *arguments
    )
    assert (code, data) == (2, "")
    assert said.count("\n") == 1
    assert message in said
    assert not (tmp_path / "run").exists()


def test_missing_captions_are_one_line_and_exit_code_one(textreid: Run, corpus: "Corpus", tmp_path: Path) -> None:
    code, data, said = textreid(
        "pretrain", "--images", corpus.images, "--captions", tmp_path / "none", "--out", tmp_path / "run"
    )
    assert (code, data) == (1, "")
    assert said.count("\n") == 1
    assert "none" in said
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("given", "expected"),
    [({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE"), ({"GOMP_SPINCOUNT": "100"}, None)],
)
def test_threads_wait_passively_unless_the_user_has_said_how(given: dict[str, str], expected: str | None) -> None:
    code = "import os, sys\nfrom textreid.cli import main\ntry:\n    main()\nexcept SystemExit:\n    pass\n"
    code += "print(os.environ.get('OMP_WAIT_POLICY'), 'torch' in sys.modules)"
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"} | given
    command = [sys.executable, "-c", code, "--version"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == f"{expected} False"


@pytest.fixture
def start(textreid: Run, corpus: "Corpus", settings: Path, tmp_path: Path) -> Path:
    """A small model to fine-tune."""
    out = tmp_path / "pretrained"
    code, _, said = textreid(
        "pretrain", "--images", corpus.images, "--captions", corpus.captions, "--out", out, "--config", settings,
        "--set", "training.epochs=1",
    )  # fmt: skip
    assert code == 0, said
    return out / "model"


SHORT = ("--set", "training.epochs=2", "--set", "optimizer.warmup_epochs=1", "--set", "training.batch_size=8")


def test_finetune_sets_people_aside_and_keeps_the_best_epoch(
    textreid: Run, start: Path, make_people: Callable[..., Path], tmp_path: Path
) -> None:
    people, out = make_people(tmp_path / "people", {"train": 20, "test": 5}, images_each=2), tmp_path / "run"
    arguments = ("finetune", start, "--benchmark", people, "--out", out, *SHORT)
    code, data, said = textreid(*arguments)
    assert (code, data) == (0, f"{out / 'model'}\n"), said
    lines = said.splitlines()
    assert "36 images, 72 captions, 18 identities" in lines[0]
    assert [line.split(":")[0] for line in lines[1:4]] == ["epoch 0", "epoch 1", "epoch 2"]
    assert "selected on 10% of the training people (seed 0) of people (R1)" in said
    assert load_model(out / "model").selected_on == "10% of the training people (seed 0) of people (R1)"
    before = (out / "model" / "model.safetensors").read_bytes()
    shutil.rmtree(start)  # a run goes on without the weights that it began with
    code, _, said = textreid(*arguments[: -len(SHORT)], "--resume")
    assert code == 0, said
    assert (out / "model" / "model.safetensors").read_bytes() == before


def test_finetune_on_everybody_or_on_the_own_validation_split(
    textreid: Run, start: Path, make_people: Callable[..., Path], tmp_path: Path
) -> None:
    people = make_people(tmp_path / "people", {"train": 20, "test": 5}, images_each=2)
    code, _, said = textreid(
        "finetune", start, "--benchmark", people, "--out", tmp_path / "all", *SHORT, "--set", "training.select=last"
    )
    assert (code, said.count("epoch ")) == (0, 0)
    assert "40 images, 80 captions, 20 identities" in said
    assert load_model(tmp_path / "all" / "model").selected_on == "nothing: the last step"
    split = make_people(tmp_path / "split", {"train": 20, "val": 5}, images_each=2)
    code, _, said = textreid("finetune", start, "--benchmark", split, "--out", tmp_path / "own", *SHORT)
    assert code == 0, said
    assert "40 images, 80 captions, 20 identities" in said
    assert load_model(tmp_path / "own" / "model").selected_on == "the validation split of split (R1)"


def test_finetune_on_captions_alone_needs_something_to_choose_on(
    textreid: Run, start: Path, corpus: "Corpus",
    make_people: Callable[..., Path], tmp_path: Path,
) -> None:  # fmt: skip
    arguments = ("finetune", start, "--images", corpus.images, "--captions", corpus.captions, *SHORT)
    code, _, said = textreid(*arguments, "--out", tmp_path / "run")
    assert (code, said.count("\n")) == (2, 1)
    assert "training.select: validation, but there is no validation set" in said
    people = make_people(tmp_path / "people", {"train": 20, "val": 5}, images_each=1)
    code, _, said = textreid(*arguments, "--out", tmp_path / "run", "--validate", people)
    assert code == 0, said
    assert "no identities, so without the loss id" in said.splitlines()[0]


@pytest.mark.parametrize("arguments", [[], ["--images", "x"], ["--benchmark", "x", "--images", "x", "--captions", "x"]])
def test_finetune_wants_one_source_of_people(textreid: Run, tmp_path: Path, arguments: list[str]) -> None:
    code, data, said = textreid("finetune", "tiny", "--out", tmp_path / "run", *arguments)
    assert (code, data) == (2, "")
    assert said == "textreid: give either --benchmark, or --images and --captions\n"
