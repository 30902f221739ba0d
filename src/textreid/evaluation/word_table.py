"""The table of attribute words."""

from collections.abc import Mapping, Sequence
from typing import Any

from textreid.reporting.tables import Table

_NOTES = (
    "with / others: R1 of the sentences that say the word, and of all others; gap: 95 % interval of the difference, in "
    "points. Such sentences differ in other ways too: a gap is a symptom.",
    "without it: points of R1 and mAP that sentences lose when the word is taken out of them (up to 300 a word), with "
    "95 % intervals.",
    "used: yes, where the interval of the lost mAP is above 0; misleads, where it is below; unclear, where it holds "
    "0: the model is blind to the word, or the sentences are too few to tell.",
)


def word_table(evaluation: Mapping[str, Any]) -> Table:
    """One row an attribute word and one for all of its class, from the values of `Evaluation.to_dict`."""
    words = evaluation["words"]
    kinds = list(dict.fromkeys(word["kind"] for word in words))
    return Table(
        title=f"{evaluation['model']} on {evaluation['benchmark']} / {evaluation['split']}: words, text to image, %",
        columns=(
            "word", "sentences", "people", "R1 with", "R1 others", "gap", "mAP with", "mAP others",
            "R1 lost without it", "mAP lost without it", "used",
        ),
        groups=[[_row(word) for word in words if word["kind"] == kind] for kind in kinds],
        notes=_NOTES if words else ("no attribute word is said of enough people",),
        texts=frozenset({0, 10}),
    )  # fmt: skip


def _row(word: Mapping[str, Any]) -> list[str]:
    loss, ends = word["loss"], word["loss_interval"]
    return [
        f"{word['kind']}: {word['word']}",
        f"{word['queries']:,}",
        f"{word['identities']:,}",
        *(f"{100 * word[side]['R1']:.1f}" for side in ("scores", "other_scores")),
        _interval(word["difference"]["R1"]),
        *(f"{100 * word[side]['mAP']:.1f}" for side in ("scores", "other_scores")),
        *(f"{_points(loss[name])} {_interval(ends[name])}" if loss else "" for name in ("R1", "mAP")),
        _used(*ends["mAP"]) if loss else "",
    ]


def _used(low: float, high: float) -> str:
    return "yes" if low > 0 else "misleads" if high < 0 else "unclear"


def _interval(ends: Sequence[float]) -> str:
    return f"[{_points(ends[0])}, {_points(ends[1])}]"


def _points(value: float) -> str:
    return f"{100 * value:+z.1f}"
