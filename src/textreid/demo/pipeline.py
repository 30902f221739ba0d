"""Render, caption, pretrain, evaluate, search, report: each step is the library's own, none is special to the demo."""

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from textreid.artifacts import write_text
from textreid.config import Config
from textreid.datasets.records import Benchmark
from textreid.demo.report import (
    CaptionedImage,
    DemoReport,
    MetricsRow,
    RankedImage,
    Search,
    captions_with_noise,
    describe_noise,
)
from textreid.errors import ArtifactError
from textreid.presets import tiny

Say = Callable[[str], None]
_SCORES = ("R1", "R5", "R10", "mAP", "mINP")
Figures = Mapping[str, Mapping[str, float]]  # name of a row -> score -> fraction of 1


@dataclass(frozen=True)
class DemoSettings:
    """Sizes of the demo; the defaults take a few minutes on two cores."""

    train_domains: tuple[str, ...] = ("street", "campus", "mall")
    unseen_domain: str = "station"
    identities: int = 900  # in each training domain
    images_per_identity: int = 2
    unseen_identities: int = 100
    unseen_images_per_identity: int = 4
    epochs: int = 5
    seed: int = 0
    workers: int = 2

    def config(self) -> Config:
        """Return the ``tiny`` preset with a smaller vocabulary, for a short run."""
        images = len(self.train_domains) * self.identities * self.images_per_identity
        preset = tiny()
        return preset.override(
            [
                # The preset's warm-up of at least 100 steps would be half of a run that has about 215.
                "model.vocabulary_size=2048", "optimizer.warmup_epochs=2", "optimizer.min_warmup_steps=0",
                f"training.epochs={self.epochs}",
                f"training.batch_size={min(preset.training.batch_size, images)}",
                f"training.validate_every={self.epochs}", f"training.seed={self.seed}",
            ]
        )  # fmt: skip


@dataclass(frozen=True)
class DemoResult:
    """Files of the demo, and its figures as fractions of 1."""

    report: Path
    model: Path
    figures: Figures
    seconds: float


def run_demo(out: Path, settings: DemoSettings | None = None, say: Say = print) -> DemoResult:
    """Do the whole main job from nothing, into the new folder ``out``; ``out/report.html`` shows it.

    Args:
        out: must not exist yet.
        settings: sizes and seed; the defaults when None.
        say: shows one line about each step.

    Raises:
        ArtifactError: ``out`` exists already or cannot be written.
    """
    from textreid.captioning import caption

    settings = settings or DemoSettings()
    if out.exists():
        raise ArtifactError(f"{out}: exists already; remove it, or choose another folder with --out")
    clock = _Clock(say)
    with clock.step("render people"):
        corpora = _render(out, settings)
    with clock.step("caption them"):
        mllms = ["qwen=simulated", "shikra=simulated"]
        caption(out / "people", out / "captions", mllms, seed=settings.seed, show=False)
    with clock.step("pretrain with noise-aware masking, and evaluate"):
        figures = _pretrain(out, settings, corpora[settings.unseen_domain])
    model = out / "run" / "model"
    with clock.step("index and search"):
        searches = _search(corpora[settings.unseen_domain], model, settings.seed)
    with clock.step("write the report"):
        report = _report(out, settings, corpora, figures, searches, clock.timings)
        write_text(out / "report.html", report.to_html())
    return DemoResult(out / "report.html", model, figures, sum(seconds for _, seconds in clock.timings))


class _Clock:
    """Clock that announces each step and keeps how long it took."""

    def __init__(self, say: Say) -> None:
        self.timings: list[tuple[str, float]] = []
        self._say = say

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        self._say(f"{len(self.timings) + 1}/5 {name}")
        start = time.monotonic()
        yield
        self.timings.append((name, time.monotonic() - start))


def _render(out: Path, settings: DemoSettings) -> dict[str, Benchmark]:
    """Render one corpus for each domain; no two share a person."""
    from textreid.datasets.benchmarks import read_benchmark
    from textreid.synthetic import write_corpus

    people, domains = 0, (*settings.train_domains, settings.unseen_domain)
    for domain in domains:
        unseen = domain == settings.unseen_domain
        count = settings.unseen_identities if unseen else settings.identities
        images = settings.unseen_images_per_identity if unseen else settings.images_per_identity
        write_corpus(
            _folder(out, domain, settings), domain, count, images, settings.seed,
            split="test" if unseen else "train", workers=settings.workers, first_identity=people,
        )  # fmt: skip
        people += count
    return {domain: read_benchmark("generic", _folder(out, domain, settings)) for domain in domains}


def _folder(out: Path, domain: str, settings: DemoSettings) -> Path:
    """Return where a corpus lies: those to train on have one root."""
    return out / domain if domain == settings.unseen_domain else out / "people" / domain


def _pretrain(out: Path, settings: DemoSettings, unseen: Benchmark) -> Figures:
    """Train; returns the figures on the unseen domain of a random order, before training and after it."""
    from textreid.evaluation import Evaluation, evaluate
    from textreid.evaluation.encoding import Encoder
    from textreid.evaluation.splits import TEST_STAMP, Validation
    from textreid.training import captioned_images, train

    measured: list[Evaluation] = []

    class Unseen(Validation):
        """Validation on the unseen domain that keeps all that is measured."""

        def measure(self, model: Encoder) -> Mapping[str, float]:
            measured.append(evaluate(model, self.part))
            return measured[-1].scores()

    data = captioned_images(out / "people", out / "captions")
    train(settings.config(), data, out / "run", validation=Unseen(unseen, f"{TEST_STAMP} {unseen.name}"))
    return {
        "random order (expected)": measured[0].text_to_image.chance,
        "before training": measured[0].scores(),
        "after training": measured[-1].scores(),
    }


def _search(unseen: Benchmark, model: Path, seed: int) -> list[Search]:
    """Search three described people of the unseen domain among all its pictures."""
    from textreid.gallery.search import search

    identity_of = {unseen.image_root / record.image: record.identity for record in unseen.records}
    of_each = list({record.identity: record for record in unseen.records}.values())
    searches = []
    for record in random.Random(seed).sample(of_each, 3):  # noqa: S311 (a choice of examples)
        found = search(record.captions[0], unseen.image_root, model=model, top=10, cache=False)
        results = [RankedImage(hit.path, hit.score, identity_of[hit.path] == record.identity) for hit in found.hits]
        searches.append(Search(record.captions[0], unseen.image_root / record.image, results))
    return searches


def _report(
    out: Path, settings: DemoSettings, corpora: Mapping[str, Benchmark],
    figures: Figures, searches: Sequence[Search], timings: Sequence[tuple[str, float]],
) -> DemoReport:  # fmt: skip
    unseen = corpora[settings.unseen_domain]
    noise = captions_with_noise(out / "captions", out / "run")
    images = len(settings.train_domains) * settings.identities * settings.images_per_identity
    return DemoReport(
        summary=(
            f"A small model learned to match sentences and pictures from {images:,} drawn pedestrians and the noisy "
            f"captions a simulated multimodal model gave them, in {sum(s for _, s in timings) / 60:.1f} minutes on "
            "this machine, from random weights."
        ),
        gallery=[
            (f"{domain}{' (unseen)' if domain == settings.unseen_domain else ''}", _pictures(corpus))
            for domain, corpus in corpora.items()
        ],
        captioned=[
            CaptionedImage(out / "people" / image, captions) for image, captions in noise.examples(4, settings.seed)
        ],
        noise_sentence=describe_noise(noise),
        curves=sorted((out / "run" / "plots").glob("*.png")),
        metric_names=_SCORES,
        metrics=[
            MetricsRow(name, [100 * row[score] for score in _SCORES]) for name, row in figures.items()
        ],
        metrics_sentence=(
            f"{len(unseen.records)} pictures of {settings.unseen_identities} people the model never saw, from cameras "
            f"of a domain it never saw ({settings.unseen_domain}), queried with sentences of a describer that shares "
            "no template with the training captions. Percent; the last epoch, nothing was selected."
        ),
        searches=searches,
        timings=timings,
        settings=f"{settings}",
        next_steps=[
            ("Search your own pictures with the bundled model, which trained longer on more people:",
             'textreid search "a woman in a red jacket" --images FOLDER --sheet found.png'),
            ("Search with the model of this demo:",
             f'textreid search "a man with a backpack" --images {unseen.image_root} --model {out / "run" / "model"}'),
            ("Evaluate the bundled model on the same unseen domain, or on your own data in CUHK-PEDES form:",
             f"textreid evaluate tiny --benchmark {unseen.image_root.parent}"),
            ("Pretrain on more people, as long as you like:",
             f"textreid pretrain --images {out / 'people'} --captions {out / 'captions'} --out runs/longer "
             "--set training.epochs=100"),
        ],
    )  # fmt: skip


def _pictures(corpus: Benchmark) -> list[Path]:
    # From all over the corpus: neighbours are pictures of one person.
    step = max(1, len(corpus.records) // 12)
    return [corpus.image_root / record.image for record in corpus.records[::step][:12]]
