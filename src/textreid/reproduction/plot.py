"""The plot of a figure: R1 along a setting, with intervals over seeds."""

from collections.abc import Mapping, Sequence

from textreid.reporting.figures import new_figure, style_axes, to_png

Point = tuple[float, float, float, float]  # x, mean, low, high


def draw(curves: Mapping[str, Sequence[Point]], label: str) -> bytes:
    """The curves as a PNG file."""
    figure = new_figure(6, 4)
    axes = figure.add_subplot()
    style_axes(axes)
    for name, points in curves.items():
        x, mean, low, high = zip(*points, strict=True)
        errors = [[m - lo for m, lo in zip(mean, low, strict=True)], [h - m for m, h in zip(mean, high, strict=True)]]
        style = "--" if name.endswith("published") else "-"
        axes.errorbar(x, mean, yerr=errors, label=name, marker="o", capsize=3, linestyle=style)
    axes.set(xlabel=label, ylabel="R1, %")
    axes.legend(frameon=False)
    return to_png(figure)
