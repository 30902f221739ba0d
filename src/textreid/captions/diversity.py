"""How diverse captions are: figures that put several corpora side by side, their table and their plots."""

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from textreid.captions.text import SLOTS, sentence_pattern, tokens_of
from textreid.errors import ArtifactError, CaptionError
from textreid.reporting.figures import new_figure, style_axes, to_png
from textreid.seeding import generator

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from rich.console import RenderableType

SAMPLE = 20_000
BLEU_SAMPLE = 1_000
ATTRIBUTES = (*SLOTS, "colour")
_ORDERS = (1, 2, 3, 4)
_OPENING_WORDS = 3
_OPENINGS = 10
_PATTERNS_KEPT = 200  # the commonest ones, for the plot and for reading
_LONGEST_BIN = 100  # words; longer captions are counted here

Tokens = Sequence[str]


@dataclass(frozen=True)
class Diversity:
    """The figures of one corpus.

    Distinct-n, self-BLEU, the number of patterns and their entropy all depend on how many captions they are taken
    from, so only figures of equally many captions compare; `compare_corpora` sees to that.

    Attributes:
        name: of the corpus.
        available: captions in the corpus.
        captions: captions that were drawn from it and measured.
        different: different texts among them; annotators may have given several pictures of a person the same one.
        distinct: for n from 1 to 4, distinct n-grams of words / all n-grams (Li et al. 2016).
        self_bleu: mean BLEU-4 of a caption against all others of a sample (Zhu et al. 2018); high is monotonous.
        self_bleu_captions: size of that sample.
        patterns: number of distinct sentence patterns.
        pattern_entropy: of the patterns, in bits; 2 to its power is the number of equally common patterns that
            would be as diverse.
        common_patterns: the commonest patterns and their shares.
        openings_share: share of the captions that begin with one of the ten commonest openings, which are the first
            three words of a pattern.
        openings: those openings and their shares.
        coverage: share of the captions that mention each of `ATTRIBUTES`.
        words: mean, standard deviation, and the 5th, 50th and 95th percentile of the number of words.
        lengths: number of captions with 0, 1, ... words; the last entry counts the longer ones too.
    """

    name: str
    available: int
    captions: int
    different: int
    distinct: Mapping[str, float]
    self_bleu: float
    self_bleu_captions: int
    patterns: int
    pattern_entropy: float
    common_patterns: Sequence[tuple[str, float]]
    openings_share: float
    openings: Sequence[tuple[str, float]]
    coverage: Mapping[str, float]
    words: Mapping[str, float]
    lengths: Sequence[int]

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as JSON values."""
        return asdict(self)


def compare_corpora(
    corpora: Mapping[str, Sequence[str]],
    sample: int = SAMPLE,
    bleu_sample: int = BLEU_SAMPLE,
    seed: int = 0,
    equal_sizes: bool = True,
) -> list[Diversity]:
    """Measure corpora on equally many captions each: ``sample``, or as many as the smallest corpus has.

    Args:
        corpora: captions by the corpus' name.
        sample: largest number of captions to draw from a corpus, without replacement.
        bleu_sample: largest number of them that self-BLEU is taken on.
        seed: equal seeds draw equal captions.
        equal_sizes: whether the smallest corpus limits the others; without, each figure describes its own corpus, but
            only entropy, coverage, lengths and openings of large corpora still compare.

    Raises:
        CaptionError: no corpus, a corpus without captions, or a sample of fewer than two.
    """
    if not corpora:
        raise CaptionError("no captions to measure")
    if min(sample, bleu_sample) < 2:
        raise CaptionError("diversity is measured on two captions or more")
    for name, captions in corpora.items():
        if len(captions) < 2:
            raise CaptionError(f"{name}: {len(captions)} captions; diversity needs two or more")
    smallest = min(len(captions) for captions in corpora.values())
    size = min(sample, smallest) if equal_sizes else sample
    measured = []
    for name, captions in corpora.items():
        chosen = generator(seed, "diversity").permutation(len(captions))[:size]
        drawn = [captions[index] for index in chosen.tolist()]
        measured.append(_measure(name, len(captions), drawn, bleu_sample))
    return measured


def _measure(name: str, available: int, captions: Sequence[str], bleu_sample: int) -> Diversity:
    words = [[token for token in tokens_of(caption) if token[0].isalnum()] for caption in captions]
    patterns: Counter[str] = Counter()
    mentions: Counter[str] = Counter()
    for caption in captions:
        pattern = sentence_pattern(caption)
        patterns[pattern.text] += 1
        mentions.update(pattern.mentions)
    openings: Counter[str] = Counter()
    for text, count in patterns.items():
        openings[" ".join(text.split()[:_OPENING_WORDS])] += count
    total = len(captions)
    commonest = _shares(openings, _OPENINGS, total)
    lengths = np.array([len(caption) for caption in words])
    low, median, high = np.percentile(lengths, (5, 50, 95)).tolist()
    return Diversity(
        name=name,
        available=available,
        captions=total,
        different=len(set(captions)),
        distinct={str(n): distinct_share(words, n) for n in _ORDERS},
        self_bleu=self_bleu(words[:bleu_sample]),
        self_bleu_captions=len(words[:bleu_sample]),
        patterns=len(patterns),
        pattern_entropy=entropy(patterns.values()),
        common_patterns=_shares(patterns, _PATTERNS_KEPT, total),
        openings_share=sum(share for _, share in commonest),
        openings=commonest,
        coverage={attribute: mentions[attribute] / total for attribute in ATTRIBUTES},
        words={"mean": float(lengths.mean()), "sd": float(lengths.std()), "p5": low, "p50": median, "p95": high},
        lengths=np.bincount(np.minimum(lengths, _LONGEST_BIN)).tolist(),
    )


def _shares(counts: Counter[str], most: int, total: int) -> list[tuple[str, float]]:
    """Return the commonest keys and their shares; keys that are equally common in alphabetical order."""
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [(text, count / total) for text, count in ranked[:most]]


def entropy(counts: Iterable[int]) -> float:
    """Compute Shannon entropy in bits of a distribution given by counts, without bias correction."""
    present = [count for count in counts if count]
    total = sum(present)
    return -sum(count / total * math.log2(count / total) for count in present) + 0.0


def distinct_share(captions: Iterable[Tokens], n: int) -> float:
    """Divide distinct n-grams by all n-grams of the captions; 0 where none is long enough (Li et al. 2016)."""
    seen: set[tuple[str, ...]] = set()
    total = 0
    for caption in captions:
        grams = _grams(caption, n)
        seen.update(grams)
        total += len(grams)
    return len(seen) / total if total else 0.0


def self_bleu(captions: Sequence[Tokens]) -> float:
    """Average the BLEU-4 of each caption against all the others (Zhu et al. 2018).

    BLEU of Papineni et al. 2002 with the closest reference length (the shorter of two) and a count of 0.1 in place of
    no matches (Chen & Cherry 2014, method 1). Takes time linear in the number of words: clipping needs, of each
    n-gram, only its highest count in a caption and the highest in any other one.
    """
    peaks = [_peaks(captions, n) for n in _ORDERS]
    lengths = sorted(len(caption) for caption in captions)
    return sum(_bleu(index, caption, peaks, lengths) for index, caption in enumerate(captions)) / len(captions)


def _bleu(
    index: int, caption: Tokens, peaks: Sequence[Mapping[Any, tuple[int, int, int]]], lengths: list[int]
) -> float:
    if not caption:
        return 0.0
    logarithms = 0.0
    for n, peak in zip(_ORDERS, peaks, strict=True):
        matches = 0
        for gram, count in Counter(_grams(caption, n)).items():
            first, holder, second = peak[gram]
            matches += min(count, second if holder == index else first)
        if n == 1 and not matches:
            return 0.0
        logarithms += math.log((matches or 0.1) / max(1, len(caption) - n + 1))
    reference = _closest_other(len(caption), lengths)
    brevity = min(0.0, 1 - reference / len(caption))
    return math.exp(brevity + logarithms / len(_ORDERS))


def _peaks(captions: Sequence[Tokens], n: int) -> dict[tuple[str, ...], tuple[int, int, int]]:
    """Find for each n-gram its highest count in a caption, that caption's index, and its highest count in another."""
    peaks: dict[tuple[str, ...], tuple[int, int, int]] = {}
    for index, caption in enumerate(captions):
        for gram, count in Counter(_grams(caption, n)).items():
            first, holder, second = peaks.get(gram, (0, -1, 0))
            if count > first:
                peaks[gram] = (count, index, first)
            elif count > second:
                peaks[gram] = (first, holder, count)
    return peaks


def _closest_other(length: int, lengths: Sequence[int]) -> int:
    """Find, of the sorted ``lengths``, with one that equals ``length`` taken out, the closest; the smaller of two."""
    place = bisect_left(lengths, length)
    others = [*lengths[max(0, place - 1) : place], *lengths[place + 1 : place + 2]]
    return min(others, key=lambda other: (abs(other - length), other))


def _grams(caption: Tokens, n: int) -> list[tuple[str, ...]]:
    return list(zip(*(caption[start:] for start in range(n)), strict=False))


# -- the report: from JSON values alone, without the captions ----------------------------------------------------------

KIND = "caption-diversity"
FORMAT_VERSION = 1

_Corpus = Mapping[str, Any]
_FIGURES: dict[str, Callable[[_Corpus], str]] = {
    "captions": lambda c: f"{c['available']:,}",
    "measured": lambda c: f"{c['captions']:,}",
    "different texts": lambda c: f"{c['different']:,}",
    "distinct-1 %": lambda c: _percent(c["distinct"]["1"]),
    "distinct-2 %": lambda c: _percent(c["distinct"]["2"]),
    "distinct-3 %": lambda c: _percent(c["distinct"]["3"]),
    "self-BLEU-4 %": lambda c: _percent(c["self_bleu"]),
    "sentence patterns": lambda c: f"{c['patterns']:,}",
    "pattern entropy, bits": lambda c: f"{c['pattern_entropy']:.2f}",
    "ten openings %": lambda c: _percent(c["openings_share"]),
    "words, mean ± sd": lambda c: f"{c['words']['mean']:.1f} ± {c['words']['sd']:.1f}",
    "words, 5 to 95 %": lambda c: f"{c['words']['p5']:.0f} to {c['words']['p95']:.0f}",
}
_LEGEND = (
    "self-BLEU: of a caption against all others; lower is more diverse. "
    "Ten openings: share of the captions that begin with one of the ten commonest."
)


def to_report(corpora: Sequence[Diversity], seed: int) -> dict[str, Any]:
    """Give the figures of several corpora as JSON values, in order."""
    return {
        "kind": KIND,
        "format_version": FORMAT_VERSION,
        "seed": seed,
        "corpora": [corpus.to_dict() for corpus in corpora],
    }


def render(report: Mapping[str, Any]) -> "RenderableType":
    """Lay out a table with one column a corpus.

    Raises:
        ArtifactError: ``report`` was not made by `to_report` of this version.
    """
    from rich.table import Table

    corpora = _corpora(report)
    table = Table(title="Diversity of captions", caption=_LEGEND, title_justify="left", caption_justify="left")
    table.add_column(no_wrap=True)
    for corpus in corpora:
        table.add_column(str(corpus["name"]), justify="right")
    for label, figure in _FIGURES.items():
        table.add_row(label, *map(figure, corpora))
    table.add_section()
    for attribute in corpora[0]["coverage"]:
        table.add_row(f"mentions {attribute} %", *(_percent(corpus["coverage"][attribute]) for corpus in corpora))
    return table


def plot(report: Mapping[str, Any]) -> bytes:
    """Plot lengths, patterns by rank, attribute coverage, and distinct-n beside self-BLEU, as one PNG file.

    Raises:
        ArtifactError: ``report`` was not made by `to_report` of this version.
    """
    corpora = _corpora(report)
    figure = new_figure(11, 7.5)
    panels = lengths, ranks, coverage, overlap = figure.subplots(2, 2).ravel()
    for axes in panels:
        style_axes(axes, grid="y")
    for corpus in corpora:
        total = corpus["captions"]
        lengths.plot([100 * count / total for count in corpus["lengths"]], label=corpus["name"])
        shares = [100 * share for _, share in corpus["common_patterns"]]
        ranks.loglog(range(1, len(shares) + 1), shares, label=corpus["name"])
    lengths.xaxis.get_major_locator().set_params(integer=True)
    lengths.set(title="Length", xlabel="words", ylabel="% of captions", ylim=(0, None), xlim=(0, None))
    ranks.set(title="Sentence patterns: flat is diverse", xlabel="rank of the pattern", ylabel="% of captions")
    for axis in (ranks.xaxis, ranks.yaxis):
        axis.set_major_formatter("{x:g}")
    coverage.set(title="What they mention")
    _bars(coverage, corpora, {name: ("coverage", name) for name in corpora[0]["coverage"]}, "% of captions")
    overlap.set(title="Words in common: high distinct-n, low self-BLEU is diverse")
    scores: dict[str, tuple[str, ...]] = {f"distinct-{n}": ("distinct", n) for n in corpora[0]["distinct"]}
    _bars(overlap, corpora, {**scores, "self-BLEU": ("self_bleu",)}, "%")
    handles, labels = lengths.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=min(6, len(labels)), frameon=False)
    return to_png(figure)


def _bars(axes: "Axes", corpora: Sequence[_Corpus], groups: Mapping[str, tuple[str, ...]], label: str) -> None:
    """Draw one group of bars a figure, one bar a corpus."""
    width = 0.8 / len(corpora)
    for place, corpus in enumerate(corpora):
        heights = []
        for path in groups.values():
            value: Any = corpus
            for key in path:
                value = value[key]
            heights.append(100 * value)
        axes.bar([group + (place + 0.5) * width - 0.4 for group in range(len(groups))], heights, width)
    axes.set_xticks(range(len(groups)), list(groups), rotation=30, ha="right")
    axes.set(ylabel=label, ylim=(0, 100))


def _corpora(report: Mapping[str, Any]) -> Sequence[_Corpus]:
    if report.get("kind") != KIND or report.get("format_version") != FORMAT_VERSION or not report.get("corpora"):
        raise ArtifactError("not a report on the diversity of captions of this version of textreid")
    return list(report["corpora"])


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"
