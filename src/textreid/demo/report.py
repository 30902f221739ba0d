"""The demo's report: one HTML page that carries its pictures and needs no network."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from textreid.config import MaskingConfig
from textreid.inspection.page import shade
from textreid.reporting.html import render_page


@dataclass(frozen=True)
class Word:
    """A stretch of a caption as the tokenizer cut it."""

    text: str
    probability: float | None  # of being masked in the next epoch; None for what lies between words
    wrong: bool  # whether the captioner erred here, known because the person was drawn to order


@dataclass(frozen=True)
class CaptionedImage:
    """A training image and the captions of its slots."""

    image: Path
    captions: Sequence[tuple[str, Sequence[Word]]]  # (slot, words)


@dataclass(frozen=True)
class RankedImage:
    """One answer of a search."""

    image: Path
    score: float
    correct: bool


@dataclass(frozen=True)
class Search:
    """A sentence and what it found, best first."""

    query: str
    person: Path  # a picture of the one that the sentence describes
    results: Sequence[RankedImage]


@dataclass(frozen=True)
class MetricsRow:
    """One line of the table, in percent."""

    name: str
    values: Sequence[float]


@dataclass(frozen=True)
class DemoReport:
    """Everything the page shows."""

    summary: str
    gallery: Sequence[tuple[str, Sequence[Path]]]  # (domain, pictures)
    captioned: Sequence[CaptionedImage]
    noise_sentence: str
    curves: Sequence[Path]
    metric_names: Sequence[str]
    metrics: Sequence[MetricsRow]
    metrics_sentence: str
    searches: Sequence[Search]
    timings: Sequence[tuple[str, float]]  # (step, seconds)
    settings: str
    next_steps: Sequence[tuple[str, str]]  # (what, command)

    def to_html(self) -> str:
        """Render the page, pictures embedded."""
        mean = MaskingConfig().probability
        return render_page(
            "textreid.demo", "report.html", report=self, shade=lambda probability: shade(probability, mean)
        )
