"""The whole on a GPU: what is computed there is what a CPU computes, in every precision, and a run goes on exactly."""

import signal
from pathlib import Path

import numpy as np
import pytest

import textreid
from textreid.config import Config
from textreid.errors import RunStoppedError
from textreid.runlog import RunLog, read_records
from textreid.synthetic import write_corpus

pytestmark = pytest.mark.gpu
SENTENCES = ["a woman in a red jacket and blue jeans", "a man with a backpack"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``crops`` in the form of CUHK-PEDES, and ``captions`` of them."""
    folder = tmp_path_factory.mktemp("place")
    write_corpus(folder / "crops", "street", 24, 2, seed=0, split="train")
    textreid.caption(folder / "crops", folder / "captions", ["draft=describe"])
    return folder


def few_steps(*more: str) -> Config:
    few = ["training.epochs=8", "training.batch_size=16", "optimizer.min_warmup_steps=1", "training.log_every=1"]
    return textreid.presets.tiny().override([*few, *more])


def losses(run: Path) -> list[float]:
    return [record["loss"] for record in read_records(run / "metrics.jsonl") if record["event"] == "train"]


def test_features_are_those_of_the_cpu(place: Path) -> None:
    pictures = sorted((place / "crops").rglob("*.jpg"))
    there, here = textreid.load_model(device="cuda"), textreid.load_model(device="cpu")
    assert there.device.type == "cuda"
    assert np.abs(there.similarity(SENTENCES, pictures) - here.similarity(SENTENCES, pictures)).max() < 2e-3  # TF32


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_run_learns_in_every_precision(precision: str, place: Path, tmp_path: Path) -> None:
    data = textreid.captioned_images(place / "crops", place / "captions")
    textreid.train(few_steps(f"training.precision={precision}"), data, tmp_path / "run")
    found = losses(tmp_path / "run")
    assert len(found) == 24
    assert np.mean(found[-3:]) < np.mean(found[:3])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's compiler in torch's own modules
def test_micro_batches_and_compiled_layers_compute_the_same(place: Path, tmp_path: Path) -> None:
    data = textreid.captioned_images(place / "crops", place / "captions")
    ways = {"plain": [], "micro": ["training.micro_batch=4"], "compiled": ["training.compile=true"]}
    for name, settings in ways.items():
        textreid.train(few_steps("training.precision=fp32", "training.epochs=1", *settings), data, tmp_path / name)
    for name in ("micro", "compiled"):
        assert losses(tmp_path / name) == pytest.approx(losses(tmp_path / "plain"), rel=1e-2)


class StoppingLog(RunLog):
    """Asks for a stop after the fifth step."""

    def advance(self, done: int) -> None:
        super().advance(done)
        if done == 5 and signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:  # training, not reading images
            signal.raise_signal(signal.SIGTERM)


def test_a_stopped_run_goes_on_where_it_was(place: Path, tmp_path: Path) -> None:
    data, config = textreid.captioned_images(place / "crops", place / "captions"), few_steps("training.precision=fp32")
    textreid.train(config, data, tmp_path / "straight")
    with pytest.raises(RunStoppedError, match="after step 5 of 24"):
        textreid.train(config, data, tmp_path / "run", log=StoppingLog(tmp_path / "run", console=False))
    textreid.train(config, data, tmp_path / "run", resume=True)
    # A GPU adds in an order that changes from run to run.
    assert losses(tmp_path / "run") == pytest.approx(losses(tmp_path / "straight"), rel=1e-2)
