"""The table and the plots of a comparison of corpora, from its JSON values alone: needs no captions."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from textreid.captions.diversity import Diversity
from textreid.errors import ArtifactError
from textreid.reporting.figures import new_figure, style_axes, to_png

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from rich.console import RenderableType

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
    """The figures of several corpora as JSON values, in order."""
    return {
        "kind": KIND,
        "format_version": FORMAT_VERSION,
        "seed": seed,
        "corpora": [corpus.to_dict() for corpus in corpora],
    }


def render(report: Mapping[str, Any]) -> "RenderableType":
    """A table with one column a corpus.

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
    """Lengths, patterns by rank, attribute coverage, and distinct-n beside self-BLEU, as one PNG file.

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
    """One group of bars a figure, one bar a corpus."""
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
