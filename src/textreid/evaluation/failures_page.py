"""The failures as one self-contained page: pictures inside, readable without colour, in light and dark."""

import base64
import html
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from string import Template

import numpy as np
from PIL import Image

from textreid.evaluation.failures import Failure, Shown, WordEffect
from textreid.evaluation.metrics import QueryMetrics
from textreid.evaluation.protocol import Evaluation
from textreid.images import read_image

_THUMBNAIL = (144, 288)  # at most, width and height; shown at half that
_BOUNDS = (1, 5, 10, 50, 100, 500)  # last ranks of the bars but one
_TELLING, _PLACES = 1.5, 3  # a word is marked where the rank changes by this factor, and as many places, without it
_NAMED = 3  # words spelled out below a sentence


@dataclass(frozen=True)
class FailureSection:
    """One model on one benchmark."""

    evaluation: Evaluation
    failures: Sequence[Failure]


def failures_page(sections: Sequence[FailureSection]) -> str:
    """The page in HTML.

    Raises:
        ImageError: a picture cannot be read any more.
    """
    page = Template(files("textreid.evaluation").joinpath("failures.html").read_text(encoding="utf-8"))
    titles = [f"{section.evaluation.model} on {section.evaluation.benchmark}" for section in sections]
    links = [f'<a href="#s{number}">{html.escape(title)}</a>' for number, title in enumerate(titles)]
    return page.substitute(
        navigation=f"<nav>{''.join(links)}</nav>" if len(sections) > 1 else "",
        sections="".join(map(_section, range(len(sections)), titles, sections)),
    )


def _section(number: int, title: str, section: FailureSection) -> str:
    evaluation = section.evaluation
    each = evaluation.text_to_image.per_query
    facts = "".join(
        f"<div><dt>{name}</dt><dd>{100 * value:.1f}<small> %</small></dd></div>"
        for name, value in evaluation.scores().items()
    )
    cards = "".join(_card(row, failure, evaluation) for row, failure in enumerate(section.failures, start=1))
    missed = int(np.count_nonzero(each.rank > 1))
    story = (
        f"{missed:,} of {len(each.rank):,} sentences do not find their person at the first rank. Below are the "
        f"{len(section.failures)} whose first true match stands last, one a person."
        if section.failures
        else "Every sentence finds its person at the first rank."
    )
    return (
        f'<section id="s{number}"><h2>{html.escape(title)} <small>/ {html.escape(evaluation.split)}</small></h2>'
        f"<p class=note>{evaluation.images:,} images of {evaluation.identities:,} people; weights "
        f"{evaluation.fingerprint[:12]}, data {evaluation.data[:12]}. Checkpoint "
        f"selected on: {html.escape(evaluation.selected_on or 'unknown')}.</p><dl>{facts}</dl>"
        f"{_bars(each)}<p>{story}</p>{cards}</section>"
    )


def _bars(each: QueryMetrics) -> str:
    """Where the first true match stands, as a row of bars."""
    edges = [0, *_BOUNDS, math.inf]
    rows = []
    for low, high in pairwise(edges):
        share = float(np.mean((each.rank > low) & (each.rank <= high)))
        name = f"above {low:,.0f}" if high == math.inf else "1" if high == 1 else f"{low + 1:.0f} to {high:.0f}"
        rows.append(
            f'<tr><th scope=row>{name}</th><td class=bar><i style="width:{100 * share:.2f}%"></i></td>'
            f"<td>{100 * share:.1f} %</td></tr>"
        )
    return f"<table><caption>Rank of the first true match</caption>{''.join(rows)}</table>"


def _card(number: int, failure: Failure, evaluation: Evaluation) -> str:
    top = "".join(map(_figure, failure.top))
    truth = _figure(failure.described, f"described, rank {failure.described.rank:,}")
    if failure.best.path != failure.described.path:
        truth += _figure(failure.best, f"best match, rank {failure.best.rank:,}")
    words = " ".join(_word(word, failure.rank) for word in failure.sentence)
    return (
        f"<article><header><b>{number}</b><span>first true match at rank <strong>{failure.rank:,}</strong> of "
        f"{evaluation.images:,}</span><span>average precision {100 * failure.average_precision:.1f} %</span></header>"
        f"<blockquote>{words}</blockquote>{_telling(failure)}"
        f"<div class=row><div class=truth>{truth}</div><div class=top>{top}</div></div></article>"
    )


def _word(word: WordEffect, rank: int) -> str:
    text = html.escape(word.text)
    kind = _kind(word, rank)
    if not kind:
        return text
    title = f"left out, the first true match stands at rank {word.rank_without:,}"
    return f'<span class={kind} title="{title}">{text}</span>'


def _kind(word: WordEffect, rank: int) -> str:
    """What a word does to a sentence whose first true match stands at ``rank``; empty where it is little."""
    better, worse = sorted((rank, word.rank_without))
    if worse < _TELLING * better or worse - better < _PLACES:
        return ""
    return "misleads" if word.rank_without < rank else "helps"


def _telling(failure: Failure) -> str:
    """The words that matter most, in words: a mouse is not needed to learn of them."""
    parts = []
    for kind, verb in (("misleads", "misled by"), ("helps", "helped by")):
        telling = sorted(
            (word for word in failure.sentence if _kind(word, failure.rank) == kind),
            key=lambda word: abs(word.rank_without - failure.rank),
            reverse=True,
        )
        named = [
            f"“{html.escape(word.text.strip('.,;:!?'))}” (rank {word.rank_without:,} without)"
            for word in telling[:_NAMED]
        ]
        parts += [f"{verb} {', '.join(named)}"] if named else []
    return f"<p class=note>{'; '.join(parts)}</p>" if parts else ""


def _figure(shown: Shown, label: str | None = None) -> str:
    kind, sign = ("right", "✓ right") if shown.right else ("wrong", "✗ wrong")
    name = html.escape(shown.path.name)
    caption = label or f"{shown.rank} <span>{sign}</span>"
    return (
        f'<figure class={kind}><img src="{_embed(shown.path)}" alt="{name}, {sign[2:]}" title="{name}">'
        f"<figcaption>{caption}<small>{shown.score:.3f}</small></figcaption></figure>"
    )


@lru_cache(maxsize=1024)
def _embed(path: Path) -> str:
    picture = read_image(path, at_least=_THUMBNAIL[::-1])
    picture.thumbnail(_THUMBNAIL, Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=82)
    return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"
