"""The sentences that a model answers worst, what it showed in place of the person, and which words misled it."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from textreid.evaluation.encoding import EncodedSplit, Encoder, Floats
from textreid.evaluation.metrics import QueryMetrics

CASES = 30
TOP = 10
_WORD = re.compile(r"\S+")


@dataclass(frozen=True)
class Shown:
    """An image at its rank, and whether it shows the person who is described."""

    path: Path
    rank: int
    score: float
    right: bool


@dataclass(frozen=True)
class WordEffect:
    """A word of the sentence, and where the first true match would stand if it were left out."""

    text: str
    rank_without: int


@dataclass(frozen=True)
class Failure:
    """One sentence that does not find its person at once.

    Attributes:
        sentence: split into words.
        rank: of the first image of the person.
        average_precision: of the sentence.
        described: the image that the sentence was written for.
        best: the first image of the person.
        top: what was ranked highest.
    """

    sentence: tuple[WordEffect, ...]
    rank: int
    average_precision: float
    described: Shown
    best: Shown
    top: tuple[Shown, ...]


def worst_queries(
    model: Encoder, encoded: EncodedSplit, each: QueryMetrics, count: int = CASES, top: int = TOP
) -> list[Failure]:
    """The sentences whose first true match stands last, one a person, worst first; none that succeed at rank 1.

    Args:
        model: that encoded the split; it encodes each sentence without each of its words.
        encoded: the split.
        each: text-to-image values of its sentences.
        count: number of sentences.
        top: number of images shown for each.
    """
    order = np.lexsort((each.average_precision, -each.rank))
    identities = encoded.identities
    chosen: dict[int, int] = {}
    for row in order[each.rank[order] > 1]:
        chosen.setdefault(int(identities[each.query[row]]), int(row))
        if len(chosen) == count:
            break
    return [_look_closer(model, encoded, each, row, top) for row in chosen.values()]


def _look_closer(model: Encoder, encoded: EncodedSplit, each: QueryMetrics, row: int, top: int) -> Failure:
    query = int(each.query[row])
    right = encoded.owners == encoded.identities[query]
    scores = encoded.images @ encoded.texts[query]
    # An irrelevant image precedes a relevant one of equal score, as in the metrics.
    order = np.lexsort((right, -scores))
    ranks = np.empty(len(order), dtype=np.int64)
    ranks[order] = np.arange(1, len(order) + 1)

    def shown(image: int) -> Shown:
        path = encoded.root / encoded.records[image].image
        return Shown(path, int(ranks[image]), float(scores[image]), bool(right[image]))

    best = int(order[right[order]][0])
    return Failure(
        sentence=_effects(model, encoded.sentences[query], encoded.images, right),
        rank=int(ranks[best]),
        average_precision=float(each.average_precision[row]),
        described=shown(int(encoded.sources[query])),
        best=shown(best),
        top=tuple(shown(int(image)) for image in order[:top]),
    )


def _effects(model: Encoder, sentence: str, images: Floats, right: npt.NDArray[np.bool_]) -> tuple[WordEffect, ...]:
    words = _WORD.findall(sentence)
    shortened = [" ".join(words[:left] + words[left + 1 :]) for left in range(len(words))]
    scores = model.encode_texts(shortened) @ images.T
    best = scores[:, right].max(axis=1, keepdims=True)
    ranks = 1 + np.count_nonzero(scores[:, ~right] >= best, axis=1)
    return tuple(WordEffect(word, int(rank)) for word, rank in zip(words, ranks, strict=True))
