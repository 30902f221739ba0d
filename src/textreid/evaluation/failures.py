"""The sentences that a model answers worst, what it showed in place of the person, and which words misled it.

They become one self-contained page: pictures inside, readable without colour, in light and dark.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from textreid.evaluation.encoding import EncodedSplit, Encoder
from textreid.evaluation.metrics import Floats, QueryMetrics
from textreid.evaluation.protocol import Evaluation
from textreid.images import read_image
from textreid.reporting.html import render_page

CASES = 30
TOP = 10
_WORD = re.compile(r"\S+")
_THUMBNAIL = (144, 288)  # at most, width and height; shown at half that
_BOUNDS = (1, 5, 10, 50, 100, 500)  # last ranks of the bars but one
_TELLING, _PLACES = 1.5, 3  # a word is marked where the rank changes by this factor, and as many places, without it
_NAMED = 3  # words spelled out below a sentence


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
    """Find the sentences whose first true match stands last, one a person, worst first; none that succeed at rank 1.

    Args:
        model: that encoded the split; it encodes each sentence without each of its words.
        encoded: the split.
        each: text-to-image values of its sentences.
        count: number of sentences.
        top: number of images shown for each.
    """
    # The last key of `lexsort` counts first: the worst rank, then the least average precision.
    order = np.lexsort((each.average_precision, -each.rank))
    identities = encoded.caption_ids
    chosen: dict[int, int] = {}
    for row in order[each.rank[order] > 1]:
        # One sentence a person: else the sentences of one, which fail together, would fill the page.
        chosen.setdefault(int(identities[each.query[row]]), int(row))
        if len(chosen) == count:
            break
    return [_look_closer(model, encoded, each, row, top) for row in chosen.values()]


def _look_closer(model: Encoder, encoded: EncodedSplit, each: QueryMetrics, row: int, top: int) -> Failure:
    query = int(each.query[row])
    right = encoded.image_ids == encoded.caption_ids[query]
    scores = encoded.image_features @ encoded.text_features[query]
    # An irrelevant image precedes a relevant one of equal score, as in the metrics.
    order = np.lexsort((right, -scores))
    ranks = np.empty(len(order), dtype=np.int64)
    ranks[order] = np.arange(1, len(order) + 1)

    def shown(image: int) -> Shown:
        path = encoded.root / encoded.records[image].image
        return Shown(path, int(ranks[image]), float(scores[image]), bool(right[image]))

    best = int(order[right[order]][0])
    return Failure(
        sentence=_effects(model, encoded.captions[query], encoded.image_features, right),
        rank=int(ranks[best]),
        average_precision=float(each.average_precision[row]),
        described=shown(int(encoded.image_index[query])),
        best=shown(best),
        top=tuple(shown(int(image)) for image in order[:top]),
    )


def _effects(model: Encoder, sentence: str, images: Floats, right: npt.NDArray[np.bool_]) -> tuple[WordEffect, ...]:
    words = _WORD.findall(sentence)
    shortened = [" ".join(words[:left] + words[left + 1 :]) for left in range(len(words))]
    scores = model.encode_texts(shortened) @ images.T
    best = scores[:, right].max(axis=1, keepdims=True)
    # Equal scores count against the model, as in the metrics.
    ranks = 1 + np.count_nonzero(scores[:, ~right] >= best, axis=1)
    return tuple(WordEffect(word, int(rank)) for word, rank in zip(words, ranks, strict=True))


@dataclass(frozen=True)
class FailureSection:
    """One model on one benchmark."""

    evaluation: Evaluation
    failures: Sequence[Failure]

    @property
    def title(self) -> str:
        """Names of the model and the benchmark."""
        return f"{self.evaluation.model} on {self.evaluation.benchmark}"

    @property
    def sentences(self) -> int:
        """How many were asked."""
        return len(self.evaluation.text_to_image.per_query.rank)

    @property
    def missed(self) -> int:
        """How many do not find their person at the first rank."""
        return int(np.count_nonzero(self.evaluation.text_to_image.per_query.rank > 1))

    def rank_shares(self) -> list[tuple[str, float]]:
        """Compute the share of the sentences whose first true match stands in each range of ranks."""
        rank = self.evaluation.text_to_image.per_query.rank
        shares = []
        for low, high in pairwise([0, *_BOUNDS, math.inf]):
            name = f"above {low:,.0f}" if high == math.inf else "1" if high == 1 else f"{low + 1:.0f} to {high:.0f}"
            shares.append((name, float(np.mean((rank > low) & (rank <= high)))))
        return shares


def failures_page(sections: Sequence[FailureSection]) -> str:
    """Render the page as HTML.

    Raises:
        ImageError: a picture cannot be read any more.
    """
    return render_page(
        "textreid.evaluation", "failures.html",
        sections=sections, effect=_effect, telling_words=_telling_words, thumbnail=_thumbnail,
    )  # fmt: skip


def _effect(word: WordEffect, rank: int) -> str:
    """Name what a word does to a sentence whose first true match stands at ``rank``; empty where it is little."""
    better, worse = sorted((rank, word.rank_without))
    if worse < _TELLING * better or worse - better < _PLACES:
        return ""
    return "misleads" if word.rank_without < rank else "helps"


def _telling_words(failure: Failure) -> dict[str, list[WordEffect]]:
    """Find the words that matter most, to be spelled out: a mouse is not needed to learn of them."""
    found = {}
    for effect, verb in (("misleads", "misled by"), ("helps", "helped by")):
        words = [word for word in failure.sentence if _effect(word, failure.rank) == effect]
        if words:
            words.sort(key=lambda word: abs(word.rank_without - failure.rank), reverse=True)
            found[verb] = words[:_NAMED]
    return found


# An image may be a wrong answer to several sentences, and to several models.
@lru_cache(maxsize=1024)
def _thumbnail(path: Path) -> Image.Image:
    picture = read_image(path, at_least=_THUMBNAIL[::-1])
    picture.thumbnail(_THUMBNAIL, Image.Resampling.LANCZOS)
    return picture
