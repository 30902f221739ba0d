"""What came of an experiment, drawn: R1 along a setting, or row below row beside the differences, over seeds."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any, NamedTuple

from textreid.reporting.figures import COLOURS, new_figure, style_axes
from textreid.reproduction.intervals import interval, paired, reference_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ALL_UNSEEN = "all unseen domains"  # the mean over the benchmarks, where people are drawn
_FAINT = "#bbbbbb"


class _Point(NamedTuple):
    """R1, or a difference, in per cent: the mean over seeds, its interval, and each of them."""

    mean: float
    low: float
    high: float
    seeds: Sequence[float]

    @classmethod
    def of(cls, seeds: Sequence[float]) -> "_Point":
        """Take the mean of fractions of 1; a single one has no interval."""
        values = [100 * one for one in seeds]
        low, high = interval(values) or (values[0], values[0])
        return cls(fmean(values), low, high, values)


def draw_results(results: Mapping[str, Any]) -> "Figure | None":
    """Draw what `textreid.reproduction.results.to_results` gathered; None where there is nothing to draw.

    Rows that are compared stand below each other; others lie along the axis that they have, or stand alone.
    """
    if results["x"] and not (results["drawn"] and results["reference"]):
        curves = _curves(results)
        return _draw_curves(curves, results["x"]) if curves else None
    measured = {row["id"]: found for row in results["rows"] if (found := _whole(row))}
    return _draw_rows(results, measured) if measured else None


def _whole(row: Mapping[str, Any]) -> Mapping[str, Mapping[str, float]]:
    """Return the scores of a row by seed: the mean over its benchmarks, or those of its first."""
    measured = row["measured"]
    found: Mapping[str, Mapping[str, float]] = measured.get(ALL_UNSEEN) or next(iter(measured.values()), {})
    return found


def _curves(results: Mapping[str, Any]) -> dict[str, list[tuple[float, _Point]]]:
    """Gather points by the curve's name: each benchmark and their mean, and at the paper's scale what was published."""
    curves: dict[str, list[tuple[float, _Point]]] = {}
    for row in (one for one in results["rows"] if one["x"] is not None):
        for name, by_seed in row["measured"].items():
            if by_seed:
                point = _Point.of([scores["R1"] for scores in by_seed.values()])
                curves.setdefault(name, []).append((row["x"], point))
        for benchmark, scores in {} if results["drawn"] else row["published"].items():
            curves.setdefault(f"{benchmark}, published", []).append((row["x"], _Point.of([scores["R1"]])))
    return {name: sorted(points) for name, points in curves.items()}


def _draw_curves(curves: Mapping[str, Sequence[tuple[float, _Point]]], label: str) -> "Figure":
    figure = new_figure(6, 4)
    axes = figure.add_subplot()
    style_axes(axes)
    for name, points in curves.items():
        style = "--" if name.endswith("published") else "-"
        x, y = [place for place, _ in points], [point for _, point in points]
        axes.errorbar(
            x, [point.mean for point in y], yerr=_errors(y), label=name, marker="o", capsize=3, linestyle=style
        )
    axes.set(xlabel=label, ylabel="R1, %")
    axes.legend(frameon=False)
    return figure


def _draw_rows(results: Mapping[str, Any], measured: Mapping[str, Mapping[str, Mapping[str, float]]]) -> "Figure":
    """Draw R1 of each row, and beside it the paired difference to the row that it is compared with."""
    labels = {row["id"]: row["label"] for row in results["rows"] if row["id"] in measured}
    scores = {name: _Point.of([one["R1"] for one in found.values()]) for name, found in measured.items()}
    differences = {}
    for name in measured:
        found = paired(measured[name], measured.get(reference_of(results, name) or "", {}), "R1")
        if found:
            differences[name] = _Point.of(found)
    figure = new_figure(10 if differences else 6, 1.0 + 0.3 * len(labels))
    left = figure.add_subplot(1, 2 if differences else 1, 1)
    # Seeds have people of their own: an interval of R1 itself would be as wide as people differ.
    _draw_points(left, labels, scores, with_interval=not differences)
    left.set_yticks(range(len(labels)), list(labels.values()))
    left.set_xlabel("R1, %")
    if differences:
        right = figure.add_subplot(1, 2, 2, sharey=left)
        _draw_points(right, labels, differences, with_interval=True)
        right.axvline(0, color=COLOURS[-1], linewidth=0.8)
        right.tick_params(labelleft=False)
        right.set_xlabel("difference, points")
    left.invert_yaxis()  # as in the table
    return figure


def _draw_points(axes: "Axes", labels: Mapping[str, str], points: Mapping[str, _Point], with_interval: bool) -> None:
    style_axes(axes, "x")
    for place, name in enumerate(labels):
        if name in points:
            point = points[name]
            axes.plot(point.seeds, [place] * len(point.seeds), "o", color=_FAINT, markersize=4)
            ends = _errors([point]) if with_interval else None
            axes.errorbar([point.mean], [place], xerr=ends, fmt="o", capsize=3, color=COLOURS[0])


def _errors(points: Sequence[_Point]) -> list[list[float]]:
    return [[point.mean - point.low for point in points], [point.high - point.mean for point in points]]
