import json
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from tests.training.conftest import Validating, train_on

from textreid.captions.table import read_captions
from textreid.config import Config, OptimizerConfig
from textreid.errors import ArtifactError, ConfigError, DataError, TextReidError
from textreid.models import Model, Tokenizer, load_model
from textreid.runlog import RunLog, read_records
from textreid.training import captioned_images
from textreid.training.batch import MicroBatch
from textreid.training.network import Outputs, TrainedNetwork
from textreid.training.optimizer import learning_rate
from textreid.training.preparation import Run, cache_images, prepare
from textreid.training.recipe import training_steps

if TYPE_CHECKING:
    from tests.training.conftest import Corpus

    from textreid.training.scorers.scorer import WordScorer

pytestmark = pytest.mark.usefixtures("no_plots")  # test_command.py looks at them
MakeConfig = Callable[..., Config]
MakeCorpus = Callable[..., "Corpus"]


def train(config: Config, corpus: "Corpus", out: Path, **options: Any) -> Model:
    return train_on(corpus, config, out, **options)


def figures(out: Path, name: str) -> list[float]:
    return [record[name] for record in read_records(out / "metrics.jsonl") if record["event"] == "train"]


def weights(out: Path) -> bytes:
    return (out / "model" / "model.safetensors").read_bytes()


def outfit_recall(model: Model, corpus: "Corpus") -> float:
    """Share of outfits whose caption ranks a picture of that very outfit first."""
    outfits = sorted(set(corpus.outfits))
    images = model.encode_images(sorted(corpus.images.iterdir()))
    texts = model.encode_texts([f"a {top} top over {bottom} trousers" for top, bottom in outfits])
    best = (texts @ images.T).argmax(axis=1)
    return float(np.mean([corpus.outfits[row] == outfit for row, outfit in zip(best, outfits, strict=True)]))


@pytest.mark.slow
def test_learns_to_find_outfits_it_was_never_shown_as_pictures(
    small_config: MakeConfig, make_corpus: MakeCorpus, tmp_path: Path
) -> None:
    """R1 on new pictures: from chance (1 in 64) to most of them."""
    seen, new = make_corpus(tmp_path / "seen", images=400, seed=1), make_corpus(tmp_path / "new", images=200, seed=2)
    config = small_config(
        "training.epochs=14", "training.batch_size=50", "training.captions_per_image=2", "training.log_every=8",
        "optimizer.learning_rate=0.004", "augmentation.erase=0", "augmentation.flip=0", "augmentation.colour=0.1",
        "augmentation.blur=0", "augmentation.scale=0",
    )  # fmt: skip
    recalls: list[float] = []

    def evaluate(model: Model) -> Mapping[str, float]:
        recalls.append(outfit_recall(model, new))
        return {"r1": recalls[-1]}

    model = train(config, seen, tmp_path / "run", validation=Validating(evaluate))
    assert len(recalls) == 15
    assert recalls[0] < 0.1
    assert recalls[-1] > 0.5
    saved = load_model(tmp_path / "run" / "model")
    assert saved.fingerprint == model.fingerprint
    assert outfit_recall(saved, new) == recalls[-1]
    losses = figures(tmp_path / "run", "loss")
    assert losses[-1] < 0.6 * losses[0]


def test_leaves_a_whole_run_folder(small_config: MakeConfig, corpus: "Corpus", tmp_path: Path) -> None:
    def evaluate(model: Model) -> Mapping[str, float]:
        assert model.encode_texts(["a red top"]).shape == (1, 32)
        return {"r1": 0.25}

    config = small_config("training.validate_every=2", "training.checkpoint_every=5", "training.log_every=5")
    out = tmp_path / "run"
    model = train(config, corpus, out, validation=Validating(evaluate))
    assert model.encoder.training
    assert sorted(path.name for path in out.iterdir()) == [
        ".lock", "config.json", "metrics.jsonl", "model", "noise.npy", "step-00000010", "step-00000012",
    ]  # fmt: skip
    assert Config.load(out / "config.json") == config.override(
        [f"model.vocabulary_size={model.tokenizer.vocabulary_size}"]
    )
    records = read_records(out / "metrics.jsonl")
    first = records[0]
    assert (first["event"], first["step"], first["device"], first["dtype"]) == ("start", 0, "cpu", "float32")
    assert (first["steps"], first["seed"], first["images"], first["captions"]) == (12, 0, 60, 120)
    assert first["reason"] == "precision is fp32"
    assert first["parameters"] == sum(parameter.numel() for parameter in model.encoder.parameters())
    assert [(r["event"], r["step"]) for r in records[1:]] == [
        ("validation", 0), ("noise", 4), ("train", 5), ("validation", 8), ("noise", 8), ("train", 10), ("train", 12),
        ("validation", 12), ("noise", 12),
    ]  # fmt: skip
    card = (out / "model" / "card.md").read_text()
    for fact in (
        first["data"],
        "nam, p 0.15, layer 2",
        "| selected on | nothing: the last step; watched: a validation set |",
        "r1: 0.25",
        "| seed | 0 |",
    ):
        assert fact in card


@pytest.mark.parametrize(
    "changes",
    [
        ["training.workers=0", "training.cache_images=off"],
        ["training.workers=3", "training.cache_images=off"],
        ["training.log_every=7", "training.checkpoint_every=2", "training.validate_every=3"],
    ],
)
def test_settings_that_leave_the_weights_alone(
    small_config: MakeConfig, corpus: "Corpus", tmp_path: Path, changes: list[str]
) -> None:
    shorter = "training.epochs=2"
    train(small_config(shorter), corpus, tmp_path / "a")
    train(small_config(shorter, *changes), corpus, tmp_path / "b")
    assert weights(tmp_path / "a") == weights(tmp_path / "b")
    assert (tmp_path / "a" / "noise.npy").read_bytes() == (tmp_path / "b" / "noise.npy").read_bytes()


def test_the_seed_changes_the_run(small_config: MakeConfig, corpus: "Corpus", tmp_path: Path) -> None:
    train(small_config("training.epochs=1"), corpus, tmp_path / "a")
    train(small_config("training.epochs=1", "training.seed=1"), corpus, tmp_path / "b")
    assert figures(tmp_path / "a", "loss") != figures(tmp_path / "b", "loss")


def test_the_first_epoch_of_nam_is_em_and_the_next_is_not(
    small_config: MakeConfig, corpus: "Corpus", tmp_path: Path
) -> None:
    quarter = "masking.probability=0.25"  # exact in half precision
    train(small_config(quarter, "masking.method=nam", "training.epoch_unit=pair"), corpus, tmp_path / "nam")
    train(small_config(quarter, "masking.method=em", "training.epoch_unit=pair"), corpus, tmp_path / "em")
    nam, em = figures(tmp_path / "nam", "loss"), figures(tmp_path / "em", "loss")
    assert len(nam) == len(em) == 24
    assert nam[:8] == em[:8]
    assert nam[8:] != em[8:]


def test_the_noise_table_holds_each_captions_own_probabilities(
    small_config: MakeConfig, corpus: "Corpus", tmp_path: Path
) -> None:
    out = tmp_path / "run"
    model = train(small_config("training.epoch_unit=pair", "masking.exact_mean=true"), corpus, out)
    table = np.load(out / "noise.npy").astype(np.float64)
    captions = read_captions(corpus.captions)
    lengths = model.tokenizer.encode(captions.captions.to_pylist()).lengths
    assert table.shape == (120, 24)
    spread = []
    for row, length in zip(table, lengths.tolist(), strict=True):
        words = row[1 : length - 1]
        assert words.mean() == pytest.approx(0.15, abs=1e-3)
        assert (row[0], row[length - 1]) == (0, 0)  # start and end are never masked
        spread.append(float(np.ptp(words)))
    assert min(spread) > 0.01


@pytest.mark.parametrize(("method", "expected"), [("nam", 0.15), ("em", 0.15), ("none", 0.0)])
@pytest.mark.slow
def test_the_rate_of_masking(
    small_config: MakeConfig, corpus: "Corpus", tmp_path: Path, method: str, expected: float
) -> None:
    config = small_config(f"masking.method={method}", "training.captions_per_image=2", "training.log_every=12")
    train(config, corpus, tmp_path / "run")
    assert figures(tmp_path / "run", "mask_rate") == [pytest.approx(expected, abs=0.03)]
    trained = [record for record in read_records(tmp_path / "run" / "metrics.jsonl") if record["event"] == "train"]
    assert ["noise" in record for record in trained] == [method == "nam"]
    assert (tmp_path / "run" / "noise.npy").exists() is (method == "nam")


def test_all_captions_of_an_image_may_share_its_pass(
    small_config: MakeConfig, corpus: "Corpus", tmp_path: Path
) -> None:
    losses = ("losses.sdm=0.5", "losses.itc=2")
    train(small_config("training.captions_per_image=2", *losses), corpus, tmp_path / "run")
    parts = [figures(tmp_path / "run", name) for name in ("loss", "sdm", "itc")]
    assert len(parts[0]) == 12
    for total, sdm, itc in zip(*parts, strict=True):
        assert total == pytest.approx(0.5 * sdm + 2 * itc, rel=1e-5)


def test_computes_in_bfloat16_with_weights_in_float32(
    small_config: MakeConfig, corpus: "Corpus", tmp_path: Path
) -> None:
    model = train(small_config("training.precision=bf16", "training.epochs=1"), corpus, tmp_path / "bf16")
    train(small_config("training.epochs=1"), corpus, tmp_path / "fp32")
    assert {parameter.dtype for parameter in model.encoder.parameters()} == {torch.float32}
    half, full = figures(tmp_path / "bf16", "loss"), figures(tmp_path / "fp32", "loss")
    assert half != full
    assert half == pytest.approx(full, rel=0.02)


@pytest.mark.gpu
def test_a_step_never_waits_for_the_gpu(small_config: MakeConfig, corpus: "Corpus", tmp_path: Path) -> None:
    # Blurring some of the images asks which they are.
    config = small_config("augmentation.blur=0", "optimizer.clip_norm=0", "training.log_every=100")
    (tmp_path / "run").mkdir()
    log = RunLog(tmp_path / "run", console=False)
    run = prepare(config, captioned_images(corpus.images, corpus.captions), tmp_path / "run", log)
    batches = list(run.loader.batches(range(4), 0, run.compute.device))
    steps = training_steps(run, iter(batches), None, log)
    for step in range(4):
        if step:  # the first step allocates
            torch.cuda.set_sync_debug_mode("error")
        try:
            next(steps)
        finally:
            torch.cuda.set_sync_debug_mode("default")


class OwnScorer:
    """Leaves one word out after the other: a word is noisy if the caption fits the image better without it."""

    asked = 0

    def noise(self, network: TrainedNetwork, batch: MicroBatch, outputs: Outputs, images: torch.Tensor) -> torch.Tensor:
        self.asked += 1
        noise = torch.zeros(batch.ids.shape)
        images = outputs.image_features.float()[batch.image_index]
        with torch.no_grad(), network.autocast():
            for column in range(1, batch.ids.shape[1] - 1):
                without = torch.cat([batch.ids[:, :column], batch.ids[:, column + 1 :]], dim=1)
                texts = network.encoder.encode_text(without, batch.lengths.clamp(min=column + 2) - 1)
                noise[:, column] = torch.cosine_similarity(images, texts.float())
        return noise * batch.is_word


@pytest.mark.parametrize("micro", [0, 4])
def test_another_scorer_of_words_can_train(
    small_config: MakeConfig, corpus: "Corpus", tmp_path: Path, monkeypatch: pytest.MonkeyPatch, micro: int
) -> None:
    scorer: WordScorer = OwnScorer()

    def with_own(*arguments: Any, **options: Any) -> Run:
        return replace(prepare(*arguments, **options), scorer=scorer)

    train(small_config("training.epochs=2"), corpus, tmp_path / "nam")
    monkeypatch.setattr("textreid.training.recipe.prepare", with_own)
    train(small_config("training.epochs=2", f"training.micro_batch={micro}"), corpus, tmp_path / "own")
    assert isinstance(scorer, OwnScorer)
    assert scorer.asked == (8 if not micro else 8 * 4)
    nam, own = figures(tmp_path / "nam", "loss"), figures(tmp_path / "own", "loss")
    assert own[:4] == pytest.approx(nam[:4], rel=1e-5)  # it decides on the next epoch
    assert own[4:] != pytest.approx(nam[4:], rel=1e-5)
    tables = [np.load(tmp_path / name / "noise.npy").astype(np.float32) for name in ("nam", "own")]
    assert np.abs(tables[0] - tables[1]).max() > 0.01


@pytest.mark.gpu
def test_a_gpu_trains_in_half_precision(small_config: MakeConfig, corpus: "Corpus", tmp_path: Path) -> None:
    settings = ("training.epochs=2", "training.captions_per_image=2", "losses.sdm=1")
    half = train(small_config(*settings, "training.precision=fp16"), corpus, tmp_path / "fp16")
    train(small_config(*settings), corpus, tmp_path / "fp32")
    assert {parameter.dtype for parameter in half.encoder.parameters()} == {torch.float32}
    assert all(parameter.isfinite().all() for parameter in half.encoder.parameters())
    assert figures(tmp_path / "fp16", "loss") == pytest.approx(figures(tmp_path / "fp32", "loss"), rel=0.05)


def test_starts_from_the_weights_of_a_model_folder(small_config: MakeConfig, corpus: "Corpus", tmp_path: Path) -> None:
    first = train(small_config("training.epochs=1"), corpus, tmp_path / "first")
    config = small_config(
        f"model.weights={tmp_path / 'first' / 'model'}",
        f"model.vocabulary_size={first.tokenizer.vocabulary_size}",
        "training.epochs=1", "optimizer.learning_rate=0", "optimizer.warmup_epochs=0",
    )  # fmt: skip
    second = train(config, corpus, tmp_path / "second")
    shorter = train(config.override(["model.text_length=20"]), corpus, tmp_path / "shorter")
    assert shorter.tokenizer.text_length == shorter.config.text_length == 20
    assert second.tokenizer.to_json() == first.tokenizer.to_json()
    for name, value in first.encoder.state_dict().items():
        assert torch.equal(value, second.encoder.state_dict()[name]), name
    assert (
        "| weights at the start | " + str(tmp_path / "first" / "model")
        in (tmp_path / "second" / "model" / "card.md").read_text()
    )


def test_unreadable_images_are_counted_on_the_card(
    small_config: MakeConfig, make_corpus: MakeCorpus, tmp_path: Path
) -> None:
    corpus = make_corpus(tmp_path, images=100, broken=(17,))
    for cache in ("on", "off"):
        train(small_config("training.epochs=1", f"training.cache_images={cache}"), corpus, tmp_path / cache)
        assert "| unreadable images, left out | 1 |" in (tmp_path / cache / "model" / "card.md").read_text()
    assert weights(tmp_path / "on") == weights(tmp_path / "off")


TRUNK = (
    "model.image_height=32", "model.image_width=32", "model.patch_size=16", "model.stem=efficientnet-lite0",
    "model.trunk_weights=small", "optimizer.trunk_lr_multiplier=0", "training.epochs=1",
)  # fmt: skip
UNCHANGED = tuple(f"augmentation.{change}=0" for change in ("flip", "pad", "erase", "scale", "colour", "blur"))


def test_maps_that_are_kept_train_as_the_pixels_do(small_config: MakeConfig, corpus: "Corpus", tmp_path: Path) -> None:
    losses = {}
    for cache in ("on", "maps"):
        train(small_config(*TRUNK, *UNCHANGED, f"training.cache_images={cache}"), corpus, tmp_path / cache)
        records = read_records(tmp_path / cache / "metrics.jsonl")
        losses[cache] = [one["loss"] for one in records if one["event"] == "train"]
    # Maps are kept in float16.
    assert losses["maps"] == pytest.approx(losses["on"], rel=1e-3)
    assert losses["maps"] != losses["on"]


def test_epochs_take_turns_among_the_views_of_a_picture(
    small_config: MakeConfig, corpus: "Corpus", tmp_path: Path
) -> None:
    settings = (*TRUNK, "training.epochs=3", "training.cache_images=maps", "training.map_views=2")
    config = small_config(*settings, "augmentation.flip=0.5", "augmentation.colour=0.3")
    (tmp_path / "run").mkdir()
    log = RunLog(tmp_path / "run", console=False)
    run = prepare(config, captioned_images(corpus.images, corpus.captions), tmp_path / "run", log)
    cache_images(run, log)
    seen = [run.loader.images.read(np.arange(4), epoch)[0] for epoch in range(3)]
    assert np.array_equal(seen[0], seen[2])
    assert all(not np.array_equal(one, other) for one, other in zip(seen[0], seen[1], strict=True))


def test_maps_of_a_trunk_that_learns_are_refused(small_config: MakeConfig, corpus: "Corpus", tmp_path: Path) -> None:
    needed = "maps needs a frozen trunk: model.stem=efficientnet-lite0 and optimizer.trunk_lr_multiplier=0"
    with pytest.raises(ConfigError, match=f"training.cache_images: {needed}"):
        train(small_config("training.cache_images=maps"), corpus, tmp_path / "run")


def test_too_many_unreadable_images_stop_the_run(
    small_config: MakeConfig, make_corpus: MakeCorpus, tmp_path: Path
) -> None:
    corpus = make_corpus(tmp_path, images=60, broken=(17,))
    with pytest.raises(DataError, match=r"1 of 60 images cannot be read.*0017\.png"):
        train(small_config("training.cache_images=off"), corpus, tmp_path / "run")


def test_a_loss_that_is_not_finite_ends_the_run_before_it_is_saved(
    small_config: MakeConfig, corpus: "Corpus", tmp_path: Path
) -> None:
    config = small_config(
        "optimizer.learning_rate=1e30", "optimizer.warmup_epochs=0", "training.log_every=100",
        "training.checkpoint_every=4", "masking.method=em",
    )  # fmt: skip
    with pytest.raises(TextReidError, match=r"no longer finite at step 4; lower optimizer\.learning_rate"):
        train(config, corpus, tmp_path / "run")
    assert list((tmp_path / "run").glob("step-*")) == []


def test_a_run_that_learned_nothing_says_so(
    small_config: MakeConfig, corpus: "Corpus", tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = small_config("optimizer.learning_rate=0", "optimizer.warmup_start=0", "training.epochs=2")
    train(config, corpus, tmp_path / "run", log=RunLog(tmp_path / "run"))
    *_, told, last = capsys.readouterr().err.splitlines()
    wrong = "nothing learned: the itc loss is "
    assert told.startswith("model: ")
    assert last.startswith(wrong)
    assert "try a longer warm-up (optimizer.min_warmup_steps)" in last
    assert f"| **warning** | {wrong}" in (tmp_path / "run" / "model" / "card.md").read_text()
    start = read_records(tmp_path / "run" / "metrics.jsonl")[0]
    assert start["chance_levels"] == {"itc": pytest.approx(2 * math.log(15))}  # four batches of 15 images


def test_the_spread_of_noise_is_noted_at_the_end_of_each_epoch(
    small_config: MakeConfig, corpus: "Corpus", tmp_path: Path
) -> None:
    train(small_config("training.epochs=2", "training.captions_per_image=2"), corpus, tmp_path / "run")
    noted = [record for record in read_records(tmp_path / "run" / "metrics.jsonl") if record["event"] == "noise"]
    assert [(record["step"], record["epoch"]) for record in noted] == [(4, 1.0), (8, 2.0)]
    table = np.load(tmp_path / "run" / "noise.npy")
    captions = read_captions(corpus.captions).captions.to_pylist()
    lengths = Tokenizer.load(tmp_path / "run" / "model" / "tokenizer.json").encode(captions).lengths
    words = np.concatenate([row[1 : length - 1] for row, length in zip(table, lengths, strict=True)])
    assert noted[-1]["counts"] == np.histogram(words.astype(np.float32), bins=50, range=(0, 1))[0].tolist()
    train(small_config("training.epochs=1", "masking.method=em"), corpus, tmp_path / "em")
    assert "noise" not in (tmp_path / "em" / "metrics.jsonl").read_text()


def test_refuses_a_folder_that_holds_something(small_config: MakeConfig, corpus: "Corpus", tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(ArtifactError, match="exists already; continue it with --resume"):
        train(small_config(), corpus, tmp_path)
    with pytest.raises(ArtifactError, match="exists already"):
        train(small_config(), corpus, tmp_path / "note.txt")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["note.txt"]


def test_learning_rate_warms_up_and_falls_as_a_cosine() -> None:
    config = OptimizerConfig(learning_rate=1.0, warmup_start=0.2, final_learning_rate=0.1, warmup_epochs=2)
    rates = [learning_rate(step, 24, 2, config) for step in range(24)]
    assert rates[:4] == pytest.approx([0.4, 0.6, 0.8, 1.0])
    assert rates[4] == pytest.approx(1.0)
    assert rates[14] == pytest.approx(0.55)  # half-way down
    assert rates[23] == pytest.approx(0.1 + 0.9 * (1 + math.cos(math.pi * 19 / 20)) / 2)
    assert rates[4:] == sorted(rates[4:], reverse=True)


@pytest.mark.parametrize(("epochs", "least", "steps"), [(0, 3, 3), (0.5, 3, 3), (2, 3, 8), (2, 0, 8), (0, 0, 0)])
def test_the_warm_up_has_a_least_number_of_steps(epochs: float, least: int, steps: int) -> None:
    config = OptimizerConfig(learning_rate=1.0, warmup_start=0, warmup_epochs=epochs, min_warmup_steps=least)
    rates = [learning_rate(step, 24, 4, config) for step in range(24)]
    assert rates[:steps] == pytest.approx([(step + 1) / steps for step in range(steps)])
    assert rates[steps] == 1.0
    assert rates[-1] < 0.1


def test_every_line_of_the_log_is_json(small_config: MakeConfig, corpus: "Corpus", tmp_path: Path) -> None:
    train(small_config("training.epochs=1"), corpus, tmp_path / "run")
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == 6
    assert all(json.loads(line)["step"] >= 0 for line in lines)
