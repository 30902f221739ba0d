"""The demo's report: one HTML page that carries its pictures and needs no network.

Its captions show how probably each word was held for wrong, beside what was wrong with it.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from textreid.captions.sidecars import error_spans
from textreid.captions.table import CaptionTable, read_captions
from textreid.inspection.ranking import auroc
from textreid.models.tokenizer import Tokenizer
from textreid.reporting.html import render_page

_SUREST = 100  # a hundredth of the words


@dataclass(frozen=True)
class Word:
    """A stretch of a caption as the tokenizer cut it."""

    text: str
    probability: float | None  # of being masked when the caption is met next; None for what lies between words
    wrong: bool  # whether the captioner erred here, known because the person was drawn to order


Caption = tuple[str, Sequence[Word]]  # (slot, words)


@dataclass(frozen=True)
class CaptionedImage:
    """A training image and the captions of its slots."""

    image: Path
    captions: Sequence[Caption]


@dataclass(frozen=True)
class RankedImage:
    """One answer of a search."""

    image: Path
    score: float
    correct: bool


@dataclass(frozen=True)
class Search:
    """A sentence and what each model found by it, best first."""

    query: str
    person: Path  # the picture that the sentence describes
    rankings: Sequence[tuple[str, Sequence[RankedImage]]]  # (model, results)


@dataclass(frozen=True)
class MetricsRow:
    """One line of the table, in percent."""

    name: str
    values: Sequence[str]


@dataclass(frozen=True)
class DemoReport:
    """Contents of the page."""

    summary: str
    start: str  # name of the model that it starts from
    place: str
    gallery: Sequence[tuple[str, Sequence[Path]]]  # (use, pictures)
    captioned: Sequence[CaptionedImage]
    noise_sentence: str
    curves: Sequence[Path]
    metric_names: Sequence[str]
    metrics: Sequence[MetricsRow]
    metrics_sentence: str
    verdict: str
    searches: Sequence[Search]
    timings: Sequence[tuple[str, float]]  # (step, seconds)
    settings: str
    next_steps: Sequence[tuple[str, str]]  # (what, command)

    def to_html(self) -> str:
        """Render the page, pictures embedded."""
        return render_page("textreid.demo", "report.html", report=self)


@dataclass(frozen=True)
class CaptionNoise:
    """The captions of a run, with the masking probabilities of its last checkpoint and the captioner's errors."""

    table: CaptionTable
    tokenizer: Tokenizer
    probabilities: npt.NDArray[np.float16]  # (N, text_length)
    errors: dict[tuple[str, str], list[tuple[int, int]]]  # (image, slot) -> spans of wrong characters

    def words(self, index: int) -> list[Word]:
        """Cut caption ``index`` into its tokens and what lies between them."""
        text = self.table.caption(index)
        key = (self.table.images[self.table.image_index[index]], self.table.slots[self.table.slot_index[index]])
        wrong = self.errors.get(key, [])
        words, end = [], 0
        pieces = self.tokenizer.pieces(text)[: self.probabilities.shape[1] - 2]
        for position, (_, start, stop) in enumerate(pieces, start=1):
            if start == stop:
                continue
            if start > end:
                words.append(Word(text[end:start], None, False))
            overlaps = any(start < high and low < stop for low, high in wrong)
            words.append(Word(text[start:stop], float(self.probabilities[index, position]), overlaps))
            end = stop
        return [*words, Word(text[end:], None, False)]

    def examples(self, count: int, seed: int) -> list[tuple[str, list[Caption]]]:
        """Choose ``count`` images with captions, at least one of them wrong somewhere."""
        images = sorted({image for image, _ in self.errors})
        chosen = random.Random(seed).sample(images, min(count, len(images)))  # noqa: S311 (a choice of examples)
        return [(image, self._captions_of(image)) for image in chosen]

    def _captions_of(self, image: str) -> list[Caption]:
        indices = np.flatnonzero(self.table.image_index == self.table.images.index(image))
        return [(self.table.slots[self.table.slot_index[i]], self.words(int(i))) for i in indices]


def captions_with_noise(captions: Path, run: Path) -> CaptionNoise:
    """Read the caption table, its ``errors.jsonl`` and the newest checkpoint of a run."""
    checkpoint = max(run.glob("step-*"))
    return CaptionNoise(
        read_captions(captions),
        Tokenizer.load(checkpoint / "tokenizer.json"),
        np.load(checkpoint / "noise.npy"),
        error_spans(captions),
    )


def describe_noise(noise: CaptionNoise) -> str:
    """Say in words how well the masking probabilities of a run tell false words from true ones."""
    scored = [word for index in range(len(noise.table)) for word in noise.words(index) if word.probability is not None]
    probabilities = np.array([word.probability for word in scored])
    wrong = np.array([word.wrong for word in scored])
    if not wrong.any():
        return "The captioner made no error here."
    # Words of equal probability are in the order of the captions, whatever is wrong with them.
    surest = np.argsort(-probabilities, kind="stable")[: max(1, len(scored) // _SUREST)]
    return (
        f"Of {len(scored):,} words {wrong.sum():,} are false ({wrong.mean():.1%}); of the {len(surest):,} likeliest "
        f"to be masked {wrong[surest].mean():.0%} are. False words are masked with probability "
        f"{probabilities[wrong].mean():.2f} on average, true words with {probabilities[~wrong].mean():.3f}. The area "
        f"under the ROC curve is {auroc(probabilities, wrong):.2f}, where 0.5 is chance and 1 tells them apart without "
        "a mistake."
    )
