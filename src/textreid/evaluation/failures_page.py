"""The failures as one self-contained page: pictures inside, readable without colour, in light and dark."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image

from textreid.evaluation.failures import Failure, WordEffect
from textreid.evaluation.protocol import Evaluation
from textreid.images import read_image
from textreid.reporting.html import render_page

_THUMBNAIL = (144, 288)  # at most, width and height; shown at half that
_BOUNDS = (1, 5, 10, 50, 100, 500)  # last ranks of the bars but one
_TELLING, _PLACES = 1.5, 3  # a word is marked where the rank changes by this factor, and as many places, without it
_NAMED = 3  # words spelled out below a sentence


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
        """Share of the sentences whose first true match stands in each range of ranks."""
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
        "textreid.evaluation", "failures_page.html",
        sections=sections, effect=_effect, telling_words=_telling_words, thumbnail=_thumbnail,
    )  # fmt: skip


def _effect(word: WordEffect, rank: int) -> str:
    """What a word does to a sentence whose first true match stands at ``rank``; empty where it is little."""
    better, worse = sorted((rank, word.rank_without))
    if worse < _TELLING * better or worse - better < _PLACES:
        return ""
    return "misleads" if word.rank_without < rank else "helps"


def _telling_words(failure: Failure) -> dict[str, list[WordEffect]]:
    """The words that matter most, to be spelled out: a mouse is not needed to learn of them."""
    found = {}
    for effect, verb in (("misleads", "misled by"), ("helps", "helped by")):
        words = [word for word in failure.sentence if _effect(word, failure.rank) == effect]
        if words:
            words.sort(key=lambda word: abs(word.rank_without - failure.rank), reverse=True)
            found[verb] = words[:_NAMED]
    return found


@lru_cache(maxsize=1024)
def _thumbnail(path: Path) -> Image.Image:
    picture = read_image(path, at_least=_THUMBNAIL[::-1])
    picture.thumbnail(_THUMBNAIL, Image.Resampling.LANCZOS)
    return picture
