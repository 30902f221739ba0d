"""One, two and four processes compute the same; and what happens when one of them does not go on."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tests.training.together import run_together

from textreid.config import Config
from textreid.datasets.benchmarks import read_benchmark
from textreid.errors import ConfigError
from textreid.runlog import RunLog, read_records
from textreid.training import annotated_people, captioned_images, train as train_data

if TYPE_CHECKING:
    from tests.training.conftest import Corpus

pytestmark = pytest.mark.slow

MakeConfig = Callable[..., Config]
STRAIGHT = [(1, "nam"), (1, "heads"), (1, "weigh"), (1, "trusted")]
TRAINED = [*STRAIGHT, (2, "nam"), (2, "heads"), (4, "nam"), (4, "heads"), (2, "weigh-micro"), (2, "trusted-micro")]
TRAINED += [(count, f"{kind}-micro") for count in (1, 4) for kind in ("nam", "heads")]
# Adam divides by the size of a gradient; without this epsilon it would blow up the rounding of those near 0.
EPSILON = "optimizer.epsilon=1e-4"
# Shares of unequal size in every batch; a checkpoint of every step, whose moments show the gradients.
RUN = ("training.batch_size=26", "training.epochs=2", "training.checkpoint_every=1", "training.keep_checkpoints=99")


def train(config: Config, data: Path, out: Path) -> None:
    pytest.MonkeyPatch().setattr("textreid.training.recipe.plot_run", lambda metrics: [])
    out = out if os.environ["RANK"] == "0" else out / "elsewhere"  # no shared disk
    log = RunLog(out, console=False)
    if config.losses.id:
        train_data(config, annotated_people(read_benchmark("generic", data / "people")), out, log=log)
    else:
        train_data(config, captioned_images(data / "corpus" / "imgs", data / "corpus" / "captions"), out, log=log)


@pytest.fixture(scope="module")
def configs(small_config: MakeConfig) -> dict[str, Config]:
    nam = (*RUN, EPSILON, "losses.sdm=1", "losses.itc=0.5", "training.captions_per_image=2")
    heads = (
        *RUN, EPSILON, "losses.sdm=1", "losses.itc=0", "losses.cmpm=0.2", "losses.id=1", "losses.mlm=1",
        "masking.method=em", "training.epoch_unit=pair", "training.batch_size=13", "training.epochs=1",
    )  # fmt: skip
    scorer = "masking.scorer=votes+discriminant+content"
    weigh = (*nam, scorer, "masking.shift=false", "masking.weigh=true", "losses.cmpm=0.2")
    trusted = (*nam, scorer, "losses.mlm=1", "losses.mlm_words=trusted")
    return {
        "weigh": small_config(*weigh),
        "weigh-micro": small_config(*weigh, "training.micro_batch=4"),
        "trusted": small_config(*trusted),
        "trusted-micro": small_config(*trusted, "training.micro_batch=4"),
        "nam": small_config(*nam),
        "nam-micro": small_config(*nam, "training.micro_batch=4"),
        "heads": small_config(*heads),
        "heads-micro": small_config(*heads, "training.micro_batch=3", "training.activation_checkpointing=true"),
    }


@pytest.fixture(scope="module")
def runs(
    configs: dict[str, Config],
    make_corpus: Callable[..., "Corpus"],
    make_people: Callable[..., Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """Everything of `TRAINED`, in ``<number>/<name>``."""
    root = tmp_path_factory.mktemp("runs")
    make_corpus(root / "corpus", images=101, broken=(42,))
    make_people(root / "people", {"train": 19}, images_each=2)
    for count, name in TRAINED:
        run_together(count, train, configs[name], root, root / str(count) / name)
        assert not (root / str(count) / name / "elsewhere").exists()
    return root


def test_the_reason_comes_from_the_process_that_read_the_image(
    small_config: MakeConfig, make_corpus: Callable[..., "Corpus"], tmp_path: Path
) -> None:
    # Each process reads half of each batch, and all four fall into one half in one of sixteen orders.
    broken = (3, 120, 250, 377)
    make_corpus(tmp_path / "corpus", images=400, broken=broken)
    config = small_config("training.epochs=1", "training.cache_images=off", "training.workers=0")
    run_together(2, train, config, tmp_path, tmp_path / "run")
    noted = [record["images"] for record in read_records(tmp_path / "run" / "metrics.jsonl") if "images" in record]
    found = {name: reason for images in noted if isinstance(images, dict) for name, reason in images.items()}
    assert sorted(found) == [f"{number:04}.png" for number in broken]
    for name, reason in found.items():
        assert reason.startswith(f"{tmp_path / 'corpus' / 'imgs' / name}: cut short: ")


def trained(out: Path) -> list[dict[str, Any]]:
    return [record for record in read_records(out / "metrics.jsonl") if record["event"] == "train"]


def gradients(out: Path) -> dict[str, torch.Tensor]:
    """Of the first step: nine tenths of Adam's first moment are still 0."""
    moments = load_file(out / "step-00000001" / "optimizer.safetensors")
    return {name: value / 0.1 for name, value in moments.items() if name.endswith("/exp_avg")}


@pytest.mark.parametrize(("count", "name"), [run for run in TRAINED if run not in STRAIGHT])
def test_losses_gradients_and_noise_are_those_of_one_process(runs: Path, count: int, name: str) -> None:
    kind = name.partition("-")[0]
    one, other = runs / "1" / kind, runs / str(count) / name
    expected, found = trained(one), trained(other)
    assert len(found) == len(expected) == (6 if kind == "heads" else 8)
    figures = {
        "nam": ("sdm", "itc", "noise"),
        "heads": ("sdm", "cmpm", "id", "mlm"),
        "weigh": ("sdm", "itc", "cmpm", "noise", "weight"),
        "trusted": ("sdm", "itc", "mlm", "noise"),
    }[kind]
    for record, reference in zip(found, expected, strict=True):
        for figure in ("loss", "mask_rate", *figures):
            assert record[figure] == pytest.approx(reference[figure], rel=1e-5, abs=1e-5), (record["step"], figure)
    reference_gradients, found_gradients = gradients(one), gradients(other)
    assert found_gradients.keys() == reference_gradients.keys()
    assert len(found_gradients) > 60
    for parameter, gradient in reference_gradients.items():
        torch.testing.assert_close(found_gradients[parameter], gradient, rtol=1e-4, atol=1e-5, msg=parameter)
    if kind != "heads":
        for step in (4, 8):  # ends of epochs
            tables = [np.load(out / f"step-{step:08}" / "noise.npy").astype(np.float32) for out in (one, other)]
            assert np.ptp(tables[0]) > 0.1
            np.testing.assert_allclose(tables[1], tables[0], atol=1e-3)  # neighbours in half precision


def test_the_card_counts_the_unreadable_image_that_another_process_met(runs: Path) -> None:
    for count in (1, 2, 4):
        card = (runs / str(count) / "nam" / "model" / "card.md").read_text()
        assert "| unreadable images, left out | 1 |" in card
        start = read_records(runs / str(count) / "nam" / "metrics.jsonl")[0]
        assert (start["event"], start["processes"]) == ("start", count)


def test_one_process_has_one_micro_batch_and_another_two(
    small_config: MakeConfig, make_corpus: Callable[..., "Corpus"], tmp_path: Path
) -> None:
    make_corpus(tmp_path / "corpus", images=10)
    config = small_config(
        "training.batch_size=5", "training.micro_batch=2", "training.epochs=1", "training.timeout=20",
        "optimizer.warmup_epochs=0",
    )  # fmt: skip
    for count in (1, 2):
        run_together(count, train, config, tmp_path, tmp_path / str(count))
    expected, found = (trained(tmp_path / count) for count in "12")
    assert [record["loss"] for record in found] == pytest.approx([record["loss"] for record in expected], rel=1e-4)


def refusal(config: Config, data: Path, out: Path) -> str:
    seed = os.environ["RANK"]
    with pytest.raises(ConfigError) as caught:
        train(config.override([f"training.seed={seed}"]), data, out)
    return str(caught.value)


def test_refuses_processes_that_were_started_otherwise(small_config: MakeConfig, runs: Path, tmp_path: Path) -> None:
    said = run_together(2, refusal, small_config(), runs, tmp_path / "run")
    assert (
        said
        == ["process 1 has another config than process 0: every machine needs the same command, images and captions"]
        * 2
    )
    said = run_together(3, refusal, small_config("training.batch_size=2"), runs, tmp_path / "run")
    assert said == ["training.batch_size: 2, but 3 processes share it"] * 3
