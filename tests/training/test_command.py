"""The command: what it passes on, what it prints where, and how it refuses."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from textreid.cli import main
from textreid.config import Config
from textreid.models import load_model

if TYPE_CHECKING:
    from tests.training.conftest import Corpus


@pytest.fixture
def textreid(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Run the command line in this process; returns exit code, standard output and standard error."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["textreid", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            main()
        shown = capsys.readouterr()
        return int(caught.value.code or 0), shown.out, shown.err

    return run


@pytest.fixture
def settings(small_config: Callable[..., Config], tmp_path: Path) -> Path:
    path = tmp_path / "settings.json"
    path.write_text(json.dumps(small_config("training.epochs=2").to_dict()))
    return path


def test_trains_with_the_settings_given(
    textreid: Callable[..., tuple[int, str, str]], corpus: "Corpus", settings: Path, tmp_path: Path
) -> None:
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


def test_measures_on_a_folder_in_cuhk_form(
    textreid: Callable[..., tuple[int, str, str]], corpus: "Corpus", settings: Path, tmp_path: Path
) -> None:
    benchmark = tmp_path / "benchmark"
    benchmark.mkdir()
    (benchmark / "imgs").symlink_to(corpus.images)
    entries = [
        {
            "split": "test",
            "captions": [f"a {top} top over {bottom} trousers"],
            "file_path": f"{row:04}.png",
            "id": row + 1,
        }
        for row, (top, bottom) in enumerate(corpus.outfits)
    ]
    (benchmark / "reid_raw.json").write_text(json.dumps(entries))
    code, _, said = textreid(
        "pretrain", "--images", corpus.images, "--captions", corpus.captions, "--out", tmp_path / "run",
        "--config", settings, "--validate", benchmark,
    )  # fmt: skip
    assert code == 0
    assert [line.split(":")[0] for line in said.splitlines()[1:4]] == ["epoch 0", "epoch 1", "epoch 2"]
    assert sorted(path.name for path in (tmp_path / "run" / "plots").iterdir()) == [
        "learning_rate.png", "loss.png", "mask_rate.png", "validation.png",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "training.epoch=3"], "training.epoch: no such setting; did you mean training.epochs?"),
        (["--preset", "tin"], "no preset 'tin'; did you mean 'tiny'?"),
        (["--masking", "all"], "'all' is not one of 'nam', 'em', 'none'"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_two(
    textreid: Callable[..., tuple[int, str, str]], corpus: "Corpus", tmp_path: Path, arguments: list[str], message: str
) -> None:
    code, data, said = textreid(
        "pretrain", "--images", corpus.images, "--captions", corpus.captions, "--out", tmp_path / "run", *arguments
    )
    assert (code, data) == (2, "")
    assert said.count("\n") == 1
    assert message in said
    assert not (tmp_path / "run").exists()


def test_missing_captions_are_one_line_and_exit_code_one(
    textreid: Callable[..., tuple[int, str, str]], corpus: "Corpus", tmp_path: Path
) -> None:
    code, data, said = textreid(
        "pretrain", "--images", corpus.images, "--captions", tmp_path / "none", "--out", tmp_path / "run"
    )
    assert (code, data) == (1, "")
    assert said.count("\n") == 1
    assert "none" in said
    assert not (tmp_path / "run").exists()
