"""The paper's story in small, in the time that is given: a model that knows words meets cameras that it does not know.

A captioner that errs describes people of these cameras, the model is pretrained on what it says, and is measured on
other people before and after. Each step is the library's own, none is special to the demo.
"""

import dataclasses
import random
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from textreid.artifacts import read_json, write_json, write_text
from textreid.config import Config
from textreid.demo.cameras import PLACE, STATION, render_at_night
from textreid.demo.report import (
    CaptionedImage,
    DemoReport,
    MetricsRow,
    RankedImage,
    Search,
    captions_with_noise,
    describe_noise,
)
from textreid.demo.sizes import IMAGES_EACH, Costs, DemoSettings, Size, fit
from textreid.errors import ArtifactError
from textreid.presets import tiny
from textreid.runlog import RunLog, read_records

if TYPE_CHECKING:
    from textreid.evaluation import Evaluation
    from textreid.evaluation.encoding import EncodedSplit

Say = Callable[[str], None]
START = "small"  # the bundled model, in CLIP's place
_SCORES = ("R1", "R5", "R10", "mAP", "mINP")
_PLAN = "demo.json"
_STEPS = 5
_REPORT_S = 5.0
Figures = Mapping[str, Mapping[str, float]]  # name of a row -> score -> fraction of 1, or the difference of two


@dataclass(frozen=True)
class DemoResult:
    """Files of the demo, and what it measured.

    Attributes:
        report, model: its page, and the folder of its model.
        figures: of a random order, and of the model before and after, as fractions of 1.
        gain: mean difference over the queries of each score, with the ends of its 95 % interval over people.
        size: how much it trained on.
        seconds: that it took.
    """

    report: Path
    model: Path
    figures: Figures
    gain: Mapping[str, tuple[float, float, float]]
    size: Size
    seconds: float


class _Measured(NamedTuple):
    """Features of the unseen people by one model, and how well it finds them."""

    encoded: "EncodedSplit"
    evaluation: "Evaluation"


def run_demo(out: Path, settings: DemoSettings | None = None, say: Say = print) -> DemoResult:
    """Do the whole main job into the folder ``out``; ``out/report.html`` shows it.

    A demo that was stopped goes on: what is there is kept.

    Args:
        out: new, or of a demo with equal settings.
        settings: seed and time; the defaults when None.
        say: shows one line about each step.

    Raises:
        ArtifactError: ``out`` holds something else or cannot be written.
    """
    settings = settings or DemoSettings()
    size = _begin(out, settings)
    clock = _Clock(say)
    with clock.step(
        f"draw people at cameras that {START} does not know, measure it on them, time a moment of training"
    ):
        _render(out / "unseen", settings, settings.unseen_identities, settings.unseen_images, "test")
        before = _measure(START, out / "unseen")
        if size is None:
            size = _choose_size(out, settings, clock)
            write_json(out / _PLAN, _facts(settings, size))
    say(f"    {size.images:,} pictures and {size.epochs} epochs fit into {settings.minutes:g} minutes on this machine")
    with clock.step("draw people to learn from"):
        more = size.identities - settings.first_identities
        if more > 0:
            first = settings.unseen_identities + settings.first_identities
            _render(out / "people" / "more", settings, more, IMAGES_EACH, "train", first)
    with clock.step("caption them, with errors"):
        _caption(out, settings)
    with clock.step("pretrain on the captions, and hide the words that seem wrong"):
        _train(out, out / "run", settings, size.epochs)
    with clock.step("measure again, and write the report"):
        after = _measure(out / "run" / "model", out / "unseen")
        report = _report(out, settings, size, before, after, clock)
        write_text(out / "report.html", report.to_html())
    return DemoResult(
        out / "report.html", out / "run" / "model", _figures(before, after), _gain(before, after), size, clock.seconds()
    )


class _Clock:
    """Clock that announces each step and keeps how long it took."""

    def __init__(self, say: Say) -> None:
        self.timings: list[tuple[str, float]] = []
        self._say, self._start = say, time.monotonic()

    def seconds(self) -> float:
        """Return the seconds since the start."""
        return time.monotonic() - self._start

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        self._say(f"{len(self.timings) + 1}/{_STEPS} {name}")
        start = time.monotonic()
        yield
        self.timings.append((name, time.monotonic() - start))


def _begin(out: Path, settings: DemoSettings) -> Size | None:
    """Make the folder, or go on in it; returns the size that was chosen there before."""
    if not out.exists():
        write_json(out / _PLAN, _facts(settings, None))
        return None
    facts = read_json(out / _PLAN) if (out / _PLAN).is_file() else {}
    if facts.get("settings") != dataclasses.asdict(settings):
        raise ArtifactError(f"{out}: exists already; remove it, or choose another folder with --out")
    return Size(**facts["size"]) if facts["size"] else None


def _facts(settings: DemoSettings, size: Size | None) -> dict[str, object]:
    return {
        "kind": "demo",
        "settings": dataclasses.asdict(settings),
        "size": dataclasses.asdict(size) if size else None,
    }


def _render(folder: Path, settings: DemoSettings, people: int, images: int, split: str, first: int = 0) -> None:
    """Draw a corpus, unless it is there; no two share a person."""
    from textreid.synthetic import write_corpus

    if not folder.exists():
        write_corpus(
            folder, STATION, people, images, settings.seed, split, settings.workers, first,
            renderer=render_at_night,
        )  # fmt: skip


def _caption(out: Path, settings: DemoSettings) -> None:
    from textreid.captioning import caption

    mllms = ["qwen=simulated", "shikra=simulated"]
    caption(out / "people", out / "captions", mllms, seed=settings.seed, show=False)


def _measure(model: str | Path, unseen: Path) -> _Measured:
    """Measure a model on the people whom nobody trains on."""
    from textreid.datasets.benchmarks import read_benchmark
    from textreid.evaluation.encoding import encode_split
    from textreid.evaluation.protocol import measure
    from textreid.models import load_model

    loaded = load_model(model)
    encoded = encode_split(loaded, read_benchmark("generic", unseen).split("test"))
    return _Measured(encoded, measure(loaded, encoded, name=str(model)))


def _choose_size(out: Path, settings: DemoSettings, clock: _Clock) -> Size:
    """Do everything with a few people, and see how many there is time for."""
    images = settings.first_identities * IMAGES_EACH
    start = time.time()
    _render(
        out / "people" / "first", settings, settings.first_identities, IMAGES_EACH, "train", settings.unseen_identities
    )
    _caption(out, settings)
    shutil.rmtree(out / "trial", ignore_errors=True)
    began = time.time()
    _train(out, out / "trial", settings, 3, RunLog(out / "trial", console=False))
    ends = [record["time"] for record in read_records(out / "trial" / "metrics.jsonl") if record["event"] == "train"]
    shutil.rmtree(out / "trial")
    # The first step has the compiler's and the allocator's beginnings in it: it is left out of the rate.
    visit = max(1e-6, (ends[-1] - ends[0]) / (len(ends) - 1) / _batch_size(images))
    before = (began - start + max(0.0, ends[0] - began)) / images
    return fit(
        Costs(before, visit, time.time() - ends[-1] + _REPORT_S), 60 * settings.minutes - clock.seconds(), settings
    )


def _batch_size(images: int) -> int:
    return min(64, images)


def _train(out: Path, run: Path, settings: DemoSettings, epochs: int, log: RunLog | None = None) -> None:
    from textreid.training import captioned_images, train

    data = captioned_images(out / "people", out / "captions")
    resume = (run / "config.json").is_file()
    if not (run / "model").exists():
        train(_config(settings, epochs, len(data.images)), data, run, resume=resume, log=log)


def _config(settings: DemoSettings, epochs: int, images: int) -> Config:
    """Return the settings of a short training that goes on from the bundled model, above its frozen trunk."""
    from textreid.models import load_model

    config = dataclasses.replace(tiny(), model=dataclasses.replace(load_model(START).config, weights=START))
    return config.override(
        [
            # The trunk stays as it is, and so do the pictures: it sees each of them once.
            "optimizer.trunk_lr_multiplier=0", "training.cache_images=maps",
            "augmentation.flip=0", "augmentation.pad=0", "augmentation.erase=0", "augmentation.scale=0",
            "augmentation.colour=0", "augmentation.blur=0",
            # What two captions of a picture say of each other, and its features of both, tell wrong words best
            # (docs/findings.md): so all four are in one step.
            "masking.scorer=votes+discriminant+content", "masking.shift=false", "training.captions_per_image=4",
            "optimizer.learning_rate=5e-4", "optimizer.warmup_epochs=0.5", "optimizer.min_warmup_steps=0",
            f"training.epochs={epochs}", f"training.batch_size={_batch_size(images)}",
            # A demo that is stopped shall go on, and not learn from the beginning.
            "training.checkpoint_every=25",
            f"training.log_every={1 if images < 500 else 5}", f"training.seed={settings.seed}",
        ]
    )  # fmt: skip


def _figures(before: _Measured, after: _Measured) -> Figures:
    return {
        "random order (expected)": before.evaluation.text_to_image.chance,
        "before": before.evaluation.scores(),
        "after": after.evaluation.scores(),
    }


def _gain(before: _Measured, after: _Measured) -> dict[str, tuple[float, float, float]]:
    """Compare query by query: the same sentences ask the same pictures of both models."""
    from textreid.evaluation.chance_level import bootstrap_means, interval

    one, other = (found.evaluation.text_to_image.per_query for found in (before, after))
    differences = np.stack([other.scores()[score] - one.scores()[score] for score in _SCORES], axis=1)
    ends = interval(bootstrap_means(differences, before.encoded.caption_ids[one.query]))
    return {
        score: (float(mean), float(low), float(high))
        for score, mean, (low, high) in zip(_SCORES, differences.mean(axis=0), ends, strict=True)
    }


def _searches(before: _Measured, after: _Measured, seed: int) -> list[Search]:
    """Search three described people, drawn by the seed, among all pictures of the unseen; by both models."""
    records, root = before.encoded.records, before.encoded.root
    searches = []
    for query in random.Random(seed).sample(range(len(before.encoded.captions)), 3):  # noqa: S311 (examples)
        person = records[before.encoded.image_index[query]]
        rankings = []
        for name, found in (("before", before.encoded), ("after", after.encoded)):
            scores = found.image_features @ found.text_features[query]
            best = np.argsort(-scores, kind="stable")[:10].tolist()
            images = [
                RankedImage(root / records[i].image, float(scores[i]), records[i].identity == person.identity)
                for i in best
            ]
            rankings.append((name, images))
        searches.append(Search(before.encoded.captions[query], root / person.image, rankings))
    return searches


def _report(
    out: Path, settings: DemoSettings, size: Size, before: _Measured, after: _Measured, clock: _Clock
) -> DemoReport:
    noise = captions_with_noise(out / "captions", out / "run")
    examples = [CaptionedImage(out / "people" / name, captions) for name, captions in noise.examples(4, settings.seed)]
    gain = _gain(before, after)
    rows = [
        MetricsRow(name, [f"{100 * row[score]:.1f}" for score in _SCORES])
        for name, row in _figures(before, after).items()
    ]
    rows.append(MetricsRow("difference", [f"{100 * gain[score][0]:+.1f}" for score in _SCORES]))
    rows.append(MetricsRow("95 % interval", [f"{100 * gain[s][1]:+.1f} to {100 * gain[s][2]:+.1f}" for s in _SCORES]))
    return DemoReport(
        summary=(
            f"The bundled model knows words, but not these cameras. In {clock.seconds() / 60:.1f} minutes on this "
            f"machine it learned from {size.images:,} pictures taken by them, with captions of a simulated multimodal "
            "model that makes mistakes; nobody annotated anything."
        ),
        start=START,
        place=PLACE,
        gallery=[
            ("to learn from", _pictures(sorted((out / "people").rglob("*.jpg")))),
            ("to be found", _pictures([before.encoded.root / record.image for record in before.encoded.records])),
        ],
        captioned=examples,
        noise_sentence=describe_noise(noise),
        curves=sorted((out / "run" / "plots").glob("*.png")),
        metric_names=_SCORES,
        metrics=rows,
        metrics_sentence=(
            f"{len(before.encoded.records)} pictures of {settings.unseen_identities} other people, whom neither the "
            f"bundled model nor this training has seen, asked for by {len(before.encoded.captions)} sentences of a "
            "describer that shares no template with the captions. Percent; the last epoch, nothing was selected. The "
            "difference is taken query by query, its interval over people."
        ),
        verdict=_verdict(gain["R1"]),
        searches=_searches(before, after, settings.seed),
        timings=clock.timings,
        settings=f"{settings}\n{size}",
        next_steps=[
            ("Search your own pictures with what is bundled:",
             'textreid search "a woman in a red jacket" --images FOLDER --sheet found.png'),
            ("Search with the model of this demo:",
             f'textreid search "a man with a backpack" --images {before.encoded.root} --model {out / "run" / "model"}'),
            ("Do the same with your own cameras: crops of people, and a real multimodal model to describe them:",
             "textreid caption CROPS --out captions --mllm NAME=URL#MODEL"),
            ("See which words of a caption the model holds for wrong:",
             f"textreid inspect {out / 'run'} --image {examples[0].image} --captions {out / 'captions'}"),
        ],
    )  # fmt: skip


def _verdict(gain: tuple[float, float, float]) -> str:
    mean, low, high = (100 * value for value in gain)
    told = f"R1 {mean:+.1f} points, from {low:+.1f} to {high:+.1f}"
    if low > 0:
        return f"It helped: {told}."
    what = "It did harm" if high < 0 else "No gain beyond chance is to be seen"
    return f"{what}: {told}. With more time (--minutes) there is more to learn from."


def _pictures(images: Sequence[Path]) -> list[Path]:
    # From all over the corpus: neighbours are pictures of one person.
    return list(images[:: max(1, len(images) // 12)][:12])
