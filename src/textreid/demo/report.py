"""The demo's report: one HTML page that carries its pictures and needs no network."""

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from string import Template

from textreid.config import MaskingConfig
from textreid.inspection.page import shade


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
        """The page, pictures embedded."""
        page = Template(files("textreid.demo").joinpath("report.html").read_text(encoding="utf-8"))
        return page.substitute(
            summary=html.escape(self.summary),
            gallery="".join(_strip(domain, pictures) for domain, pictures in self.gallery),
            captioned="".join(_captioned(example) for example in self.captioned),
            noise_sentence=html.escape(self.noise_sentence),
            curves="".join(f'<img class="curve" alt="{html.escape(c.stem)}" src="{_embed(c)}">' for c in self.curves),
            metrics=_table(self.metric_names, self.metrics),
            metrics_sentence=html.escape(self.metrics_sentence),
            searches="".join(_search(search) for search in self.searches),
            timings="".join(
                f"<tr><td>{html.escape(step)}</td><td>{seconds:.1f} s</td></tr>" for step, seconds in self.timings
            ),
            settings=html.escape(self.settings),
            next_steps="".join(
                f"<li>{html.escape(what)}<pre>{html.escape(command)}</pre></li>" for what, command in self.next_steps
            ),
        )


def _embed(picture: Path) -> str:
    kind = "png" if picture.suffix == ".png" else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(picture.read_bytes()).decode()}"


def _strip(domain: str, pictures: Sequence[Path]) -> str:
    images = "".join(f'<img alt="a drawn pedestrian" src="{_embed(picture)}">' for picture in pictures)
    return f'<div class="strip"><span class="label">{html.escape(domain)}</span>{images}</div>'


def _captioned(example: CaptionedImage) -> str:
    captions = "".join(
        f'<p><span class="label">{html.escape(slot)}</span>{"".join(map(_word, words))}</p>'
        for slot, words in example.captions
    )
    return f'<div class="captioned"><img alt="" src="{_embed(example.image)}"><div>{captions}</div></div>'


def _word(word: Word) -> str:
    text = html.escape(word.text)
    if word.probability is None:
        return text
    strength = shade(word.probability, MaskingConfig().probability)
    classes = "word wrong" if word.wrong else "word"
    return (
        f'<span class="{classes}" style="--strength:{strength:.2f}" '
        f'title="masked with probability {word.probability:.2f}">{text}</span>'
    )


def _table(names: Sequence[str], rows: Sequence[MetricsRow]) -> str:
    head = "".join(f"<th>{html.escape(name)}</th>" for name in names)
    body = "".join(
        f"<tr><td>{html.escape(row.name)}</td>{''.join(f'<td>{value:.1f}</td>' for value in row.values)}</tr>"
        for row in rows
    )
    return f"<table><thead><tr><th></th>{head}</tr></thead><tbody>{body}</tbody></table>"


def _search(search: Search) -> str:
    tiles = "".join(
        f'<figure class="{"hit" if result.correct else "miss"}"><img alt="" src="{_embed(result.image)}">'
        f"<figcaption>{rank} · {result.score:.2f}</figcaption></figure>"
        for rank, result in enumerate(search.results, start=1)
    )
    target = (
        f'<figure class="target"><img alt="" src="{_embed(search.person)}"><figcaption>described</figcaption></figure>'
    )
    return (
        f'<section class="search"><blockquote>{html.escape(search.query)}</blockquote>'
        f'<div class="row">{target}{tiles}</div></section>'
    )
