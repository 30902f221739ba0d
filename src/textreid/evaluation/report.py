"""The printed form of an evaluation, from its JSON values alone: needs neither the model nor the data."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from textreid.errors import ArtifactError

FORMAT_VERSION = 1
_METRICS = ("R1", "R5", "R10", "mAP", "mINP")


def to_report(evaluations: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Join evaluations of several models on the same data into one report, the first one first.

    Raises:
        ArtifactError: they were not made on the same data.
    """
    if len({evaluation["data"] for evaluation in evaluations}) != 1:
        raise ArtifactError(
            "a report compares models on the same images and captions; these were made on different ones"
        )
    return {"kind": "evaluation", "format_version": FORMAT_VERSION, "evaluations": [dict(e) for e in evaluations]}


def render(report: Mapping[str, Any]) -> RenderableType:
    """A table with one row a model and one for chance, in per cent, and what it was measured on.

    Raises:
        ArtifactError: ``report`` was not made by `to_report` of this version.
    """
    if report.get("kind") != "evaluation" or report.get("format_version") != FORMAT_VERSION:
        raise ArtifactError("not an evaluation report of this version of textreid")
    evaluations = report["evaluations"]
    first = evaluations[0]
    table = Table(title=f"{first['benchmark']} / {first['split']}: text to image, %", title_justify="left")
    table.add_column("")
    for name in _METRICS:
        table.add_column(name, justify="right")
    for evaluation in evaluations:
        intervals = evaluation["intervals"]
        table.add_row(
            evaluation["name"], *(_cell(evaluation["scores"][name], intervals.get(name)) for name in _METRICS)
        )
    table.add_row("random ranking (expected)", *(_cell(first["chance"][name]) for name in _METRICS), style="dim")
    return Group(table, *(Text(line) for line in _notes(evaluations)))


def _cell(value: float, interval: Sequence[float] | None = None) -> str:
    return f"{100 * value:.2f}" + (f" [{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]" if interval else "")


def _notes(evaluations: Sequence[Mapping[str, Any]]) -> list[str]:
    first = evaluations[0]
    lines = [
        f"{first['images']:,} images of {first['identities']:,} people, {first['queries']:,} queries; "
        f"data {first['data'][:12]}",
        "[low, high]: 95 % bootstrap interval over identities",
    ]
    left_out = ", ".join(f"{count:,} {reason}" for reason, count in first["rejected"].items())
    if left_out:
        lines.append(f"left out: {left_out}: {', '.join(first['rejected_examples'])}")
    if first["queries_without_match"]:
        lines.append(f"left out: {first['queries_without_match']:,} queries without an image of their identity")
    lines += [
        f"{evaluation['name']}: {evaluation['fingerprint'][:12]}, checkpoint selected on "
        f"{evaluation['selected_on'] or 'data that is not recorded'}"
        for evaluation in evaluations
    ]
    return lines
