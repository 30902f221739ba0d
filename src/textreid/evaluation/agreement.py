"""What a changed form of a model loses: its features and its ranking beside those of the exact one."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from textreid.datasets.benchmarks import read_benchmark
from textreid.datasets.records import Benchmark
from textreid.errors import DataError
from textreid.evaluation.encoding import Features
from textreid.evaluation.metrics import Floats, retrieval_metrics
from textreid.synthetic import write_corpus

DRAWN = "drawn pedestrians"
_PEOPLE, _EACH = 50, 2


@dataclass(frozen=True)
class Agreement:
    """Cosines between the features of two encoders, as (mean, least), and the scores of each as fractions of 1."""

    data: str
    images: int
    captions: int
    image_cosine: tuple[float, float]
    text_cosine: tuple[float, float]
    before: dict[str, float]
    after: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self)

    def to_markdown(self) -> str:
        """Write a paragraph and a table for a model card."""
        rows = [f"| {name} | {100 * self.before[name]:.2f} | {100 * self.after[name]:.2f} |" for name in self.before]
        cosines = ", ".join(
            f"{side} {mean:.4f} on average and {least:.4f} at least"
            for side, (mean, least) in (("images", self.image_cosine), ("texts", self.text_cosine))
        )
        return "\n".join(
            [
                f"Measured on {self.data} ({self.images:,} images, {self.captions:,} captions), text to image.",
                f"Cosine to the features in float32: {cosines}.",
                "",
                "| % | float32 | this model |",
                "| --- | ---: | ---: |",
                *rows,
            ]
        )


def measure_agreement(exact: Features, changed: Features, benchmark: Benchmark) -> Agreement:
    """Encode all images and captions of a benchmark (or of one split) by both, and compare.

    Raises:
        DataError: it has no captions.
        ImageError: an image cannot be read; names it.
    """
    asked = [(caption, record.identity) for record in benchmark.records for caption in record.captions]
    if not asked:
        raise DataError(f"{benchmark.name}: no captions to measure with")
    captions, identities = zip(*asked, strict=True)
    paths = [benchmark.image_root / record.image for record in benchmark.records]
    owners = [record.identity for record in benchmark.records]
    images = [encoder.encode_images(paths) for encoder in (exact, changed)]
    texts = [encoder.encode_texts(captions) for encoder in (exact, changed)]
    # Each encoder's sentences ask its own images: features of two encoders are not in one space.
    before, after = (
        retrieval_metrics(queries, gallery, identities, owners).scores()
        for queries, gallery in zip(texts, images, strict=True)
    )
    return Agreement(benchmark.name, len(paths), len(captions), _cosine(*images), _cosine(*texts), before, after)


def draw_benchmark(folder: Path) -> Benchmark:
    """Draw a small benchmark of people in ``folder``, for those who have no data at hand; the same each time."""
    # "station" is not a domain that the bundled model was trained on.
    write_corpus(folder, "station", _PEOPLE, _EACH, seed=0)
    drawn = read_benchmark("generic", folder)
    return Benchmark(DRAWN, drawn.image_root, drawn.records)


def _cosine(exact: Floats, changed: Floats) -> tuple[float, float]:
    cosines = (exact * changed).sum(axis=1)
    return float(cosines.mean()), float(cosines.min())
