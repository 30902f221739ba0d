"""Whole runs under other scorers than the paper's: what they remember is part of a run."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from safetensors.torch import load_file
from tests.training.conftest import corpus, make_corpus, no_plots, small_config, train_on

from textreid.config import Config
from textreid.errors import RunStoppedError
from textreid.models import load_model
from textreid.runlog import RunLog, read_records

if TYPE_CHECKING:
    from tests.training.conftest import Corpus

__all__ = ["corpus", "make_corpus", "no_plots", "small_config"]
pytestmark = pytest.mark.usefixtures("no_plots")
MakeConfig = Callable[..., Config]
SCORER = "masking.scorer=gradient+votes+discriminant+centred+content+average"
SETTINGS = (SCORER, "training.epochs=2", "training.captions_per_image=2", "training.checkpoint_every=3")
WEIGHED = ("masking.weigh=true", "masking.shift=false")
TRUSTED = ("losses.mlm=1", "losses.mlm_words=trusted")


class StoppingLog(RunLog):
    """Stops the run after five steps, as a signal would."""

    training = False

    @contextmanager
    def progress(self, task: str, total: int, done: int = 0, unit: str = "steps") -> Iterator[None]:
        self.training = task == "train"
        yield

    def advance(self, done: int) -> None:
        if self.training and done == 5:
            raise RunStoppedError("enough")


@pytest.mark.parametrize("more", [(), WEIGHED, TRUSTED], ids=["masked", "weighed", "trusted"])
def test_a_run_that_was_stopped_remembers(
    more: tuple[str, ...], small_config: MakeConfig, corpus: "Corpus", tmp_path: Path
) -> None:
    config = small_config(*SETTINGS, *more)
    train_on(corpus, config, tmp_path / "whole")
    with pytest.raises(RunStoppedError):
        train_on(corpus, config, tmp_path / "parts", log=StoppingLog(tmp_path / "parts", console=False))
    kept = load_file(tmp_path / "parts" / "step-00000003" / "weights.safetensors")
    remembered = [name for name in kept if name.startswith("refinements.")]
    assert len(remembered) == 4 + 5 + 2
    assert all(kept[name].any() for name in remembered)
    train_on(corpus, config, tmp_path / "parts", resume=True)
    files = ("noise.npy", "model/model.safetensors", "step-00000008/weights.safetensors")
    for name in files:
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes(), name
    assert not any("refinements" in name for name in load_file(tmp_path / "whole" / "model" / "model.safetensors"))
    assert "gradient+votes" in (tmp_path / "whole" / "model" / "card.md").read_text()
    assert load_model(tmp_path / "whole" / "model").config.embedding_dim == 32


def test_micro_batches_give_the_same_noise(small_config: MakeConfig, corpus: "Corpus", tmp_path: Path) -> None:
    for name, micro in (("whole", 0), ("cut", 5)):
        train_on(corpus, small_config(*SETTINGS, f"training.micro_batch={micro}"), tmp_path / name)
    whole, cut = (np.load(tmp_path / name / "noise.npy").astype(np.float32) for name in ("whole", "cut"))
    assert np.abs(whole - 0.15)[:, 1:5].max() > 0.05
    np.testing.assert_allclose(whole, cut, atol=5e-3)


def trained(out: Path) -> list[dict[str, float]]:
    return [record for record in read_records(out / "metrics.jsonl") if record["event"] == "train"]


def test_weights_hide_nothing_and_change_what_is_learned(
    small_config: MakeConfig, corpus: "Corpus", tmp_path: Path
) -> None:
    for name, more in {"weighed": WEIGHED, "cut": (*WEIGHED, "training.micro_batch=5"), "plain": ()}.items():
        method = () if more else ("masking.method=none",)
        train_on(corpus, small_config(*SETTINGS, *more, *method), tmp_path / name)
    weighed, cut, plain = (trained(tmp_path / name) for name in ("weighed", "cut", "plain"))
    assert [record["mask_rate"] for record in weighed] == [0] * 8
    # In the first epoch nothing is known of any caption.
    assert [record["weight"] for record in weighed[:4]] == [1] * 4
    assert all(0 < record["weight"] < 1 for record in weighed[4:])
    assert [record["loss"] for record in weighed[:4]] == pytest.approx([record["loss"] for record in plain[:4]], 1e-5)
    assert weighed[-1]["loss"] != pytest.approx(plain[-1]["loss"], rel=1e-5)
    for one, other in zip(weighed, cut, strict=True):
        assert other["loss"] == pytest.approx(one["loss"], rel=1e-3)


def test_suspicious_words_are_hidden_and_not_asked_for(
    small_config: MakeConfig, corpus: "Corpus", tmp_path: Path
) -> None:
    for name, more in {"trusted": TRUSTED, "cut": (*TRUSTED, "training.micro_batch=5"), "all": TRUSTED[:1]}.items():
        train_on(corpus, small_config(*SETTINGS, *more), tmp_path / name)
    trusted, cut, every = (trained(tmp_path / name) for name in ("trusted", "cut", "all"))
    # In the first epoch all words are trusted alike.
    assert [record["mlm"] for record in trusted[:4]] == [record["mlm"] for record in every[:4]]
    assert trusted[4]["mask_rate"] == every[4]["mask_rate"]
    assert trusted[4]["mlm"] != pytest.approx(every[4]["mlm"], rel=1e-4)
    for one, other in zip(trusted, cut, strict=True):
        assert other["mlm"] == pytest.approx(one["mlm"], rel=1e-2)


def test_average_keeps_half_of_the_last_epoch(small_config: MakeConfig, corpus: "Corpus", tmp_path: Path) -> None:
    first = ("training.epochs=1", "training.epoch_unit=pair")
    for name, scorer in (("new", "patches"), ("average", "patches+average")):
        train_on(corpus, small_config(*first, f"masking.scorer={scorer}"), tmp_path / name)
    new, average = (np.load(tmp_path / name / "noise.npy").astype(np.float32) for name in ("new", "average"))
    np.testing.assert_allclose(average, (new + 0.15) / 2, atol=1e-3)
