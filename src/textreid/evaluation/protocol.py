"""The protocol: every caption of a split asks and every image of it answers, and on request the other way round."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from textreid.datasets.records import Benchmark
from textreid.errors import ArgumentError, check_type, in_short
from textreid.evaluation.chance_level import bootstrap_means, interval, random_ranking
from textreid.evaluation.encoding import MAX_UNREADABLE, EncodedSplit, Encoder, encode_split
from textreid.evaluation.metrics import Floats, Indices, QueryMetrics, RetrievalMetrics, retrieval_metrics
from textreid.evaluation.swaps import SwapTest, swap_tests
from textreid.evaluation.words import WordRecall, word_recall

_EXAMPLES = 5  # of what was left out, named in the report


@dataclass(frozen=True)
class Retrieval:
    """One direction: what was measured, how sure it is, and what chance would give.

    Attributes:
        metrics: with the values of each query.
        intervals: 95 % bootstrap interval over identities of each score.
        chance: expectation of a random ranking of the same gallery for the same queries.
    """

    metrics: RetrievalMetrics
    intervals: dict[str, tuple[float, float]]
    chance: dict[str, float]

    @property
    def per_query(self) -> QueryMetrics:
        """The values of each query that has a match."""
        return self.metrics.per_query

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "queries": self.metrics.queries,
            "queries_without_match": len(self.metrics.without_match),
            "gallery": self.metrics.gallery,
            "scores": self.metrics.scores(),
            "intervals": {name: list(ends) for name, ends in self.intervals.items()},
            "chance": self.chance,
        }


@dataclass(frozen=True)
class Evaluation:
    """What was measured, of which model, on exactly which data.

    Attributes:
        model, fingerprint: its name, as a reader knows it, and what tells it from all others.
        selected_on: data that chose the checkpoint, or None where that is not recorded.
        training_text: where the sentences it learned from come from, or None where that is not recorded.
        benchmark, form, split: what it was measured on; the form is that of `textreid.datasets.benchmarks`.
        images, captions, identities: sizes of the gallery, of the set of sentences, and of the gallery's people.
        data: fingerprint of the list of images, identities and captions that were used, as `textreid doctor` gives it.
        rejected: number of things left out, by reason.
        rejected_examples: the first few of them.
        text_to_image: sentences ask, images answer.
        image_to_text: images ask, sentences answer; on request.
        words: how well sentences with each attribute word do; on request.
        swaps: how often a picture prefers its sentence to one with an attribute exchanged; on request.
    """

    model: str
    fingerprint: str
    selected_on: str | None
    training_text: tuple[str, ...] | None
    benchmark: str
    form: str
    split: str
    images: int
    captions: int
    identities: int
    data: str
    rejected: dict[str, int]
    rejected_examples: tuple[str, ...]
    text_to_image: Retrieval
    image_to_text: Retrieval | None = None
    words: tuple[WordRecall, ...] | None = None
    swaps: tuple[SwapTest, ...] | None = None

    def scores(self) -> dict[str, float]:
        """Return R1, R5, R10, mAP and mINP of text to image, as fractions of 1."""
        return self.text_to_image.metrics.scores()

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values, as `textreid.evaluation.report` reads them."""
        return {
            "model": self.model,
            "fingerprint": self.fingerprint,
            "selected_on": self.selected_on,
            "training_text": None if self.training_text is None else list(self.training_text),
            "benchmark": self.benchmark,
            "form": self.form,
            "split": self.split,
            "images": self.images,
            "captions": self.captions,
            "identities": self.identities,
            "data": self.data,
            "rejected": self.rejected,
            "rejected_examples": list(self.rejected_examples),
            "text_to_image": self.text_to_image.to_dict(),
            "image_to_text": self.image_to_text.to_dict() if self.image_to_text else None,
            "words": None if self.words is None else [word.to_dict() for word in self.words],
            "swaps": None if self.swaps is None else [test.to_dict() for test in self.swaps],
        }


def evaluate(
    model: Encoder,
    benchmark: Benchmark,
    split: str = "test",
    *,
    name: str = "model",
    max_unreadable: float = MAX_UNREADABLE,
) -> Evaluation:
    """Measure text-to-image retrieval on one split of a benchmark: R1, R5, R10, mAP and mINP, with intervals.

    >>> import textreid
    >>> people = textreid.read_benchmark("generic", "unseen")
    >>> found = textreid.evaluate(textreid.load_model(), people)
    >>> sorted(found.scores())
    ['R1', 'R10', 'R5', 'mAP', 'mINP']

    Args:
        model: `textreid.Model`, or anything else that encodes both sides.
        benchmark: as `textreid.read_benchmark` gives it.
        split: the part of it whose sentences ask, and whose images answer.
        name: of the model, for a report.
        max_unreadable: share of the images that may be left out.

    Raises:
        ArgumentError: not a model, or not a benchmark.
        AnnotationError: there is no such split.
        DataError: too many of its images cannot be read, it has no caption, or features are not finite.
    """
    if not hasattr(model, "encode_texts"):
        raise ArgumentError(f"model: expected a model, as load_model gives it, not {in_short(model)}")
    check_type("benchmark", benchmark, Benchmark, "a benchmark, as read_benchmark gives it")
    encoded = encode_split(model, benchmark.split(split), max_unreadable=max_unreadable)
    return measure(model, encoded, name=name)


def measure(
    model: Encoder,
    encoded: EncodedSplit,
    *,
    name: str,
    image_to_text: bool = False,
    words: bool = False,
    swaps: bool = False,
) -> Evaluation:
    """Rank and count.

    Args:
        model: that encoded the split.
        encoded: the split.
        name: of the model, for the report.
        image_to_text: whether to measure that direction too.
        words: whether to measure each attribute word; encodes up to some thousands of shortened sentences.
        swaps: whether to exchange attributes; encodes each sentence once for each attribute that it names.

    Raises:
        DataError: features are not finite, or no sentence has an image of its identity.
    """
    images, texts = encoded.image_features, encoded.text_features
    image_ids, caption_ids = encoded.image_ids, encoded.caption_ids
    forward = _retrieve(texts, images, caption_ids, image_ids)
    return Evaluation(
        model=name,
        fingerprint=model.fingerprint,
        selected_on=model.selected_on,
        training_text=model.training_text,
        benchmark=encoded.name,
        form=encoded.form,
        split=encoded.records[0].split,
        images=len(encoded.records),
        captions=len(encoded.captions),
        identities=len(np.unique(image_ids)),
        # Of what was used: with images left out it is another list, and reports do not put the two side by side.
        data=Benchmark(encoded.name, encoded.root, encoded.records).list_fingerprint,
        rejected=dict(Counter(reason for _, reason in encoded.left_out)),
        rejected_examples=tuple(f"{image} ({reason})" for image, reason in encoded.left_out[:_EXAMPLES]),
        text_to_image=forward,
        image_to_text=_retrieve(images, texts, image_ids, caption_ids) if image_to_text else None,
        words=word_recall(model, encoded, forward.per_query) if words else None,
        swaps=swap_tests(model, encoded) if swaps else None,
    )


def _retrieve(queries: Floats, gallery: Floats, query_ids: Indices, gallery_ids: Indices) -> Retrieval:
    metrics = retrieval_metrics(queries, gallery, query_ids, gallery_ids)
    each = metrics.per_query
    values = each.scores()
    ends = interval(bootstrap_means(np.stack(list(values.values()), axis=1), query_ids[each.query]))
    return Retrieval(
        metrics=metrics,
        intervals={score: (float(low), float(high)) for score, (low, high) in zip(values, ends, strict=True)},
        chance=random_ranking(each.relevant, metrics.gallery),
    )
