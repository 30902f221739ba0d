"""The plot of a figure: R1 along a setting, with intervals over seeds."""

from collections.abc import Mapping, Sequence
from io import BytesIO

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

Point = tuple[float, float, float, float]  # x, mean, low, high


def draw(curves: Mapping[str, Sequence[Point]], label: str) -> bytes:
    """The curves as a PNG file."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    FigureCanvasAgg(figure)  # draws without a display, whatever backend the user has set
    axes = figure.add_subplot()
    for name, points in curves.items():
        x, mean, low, high = zip(*points, strict=True)
        errors = [[m - lo for m, lo in zip(mean, low, strict=True)], [h - m for m, h in zip(mean, high, strict=True)]]
        style = "--" if name.endswith("published") else "-"
        axes.errorbar(x, mean, yerr=errors, label=name, marker="o", capsize=3, linestyle=style)
    axes.set(xlabel=label, ylabel="R1, %")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    picture = BytesIO()
    figure.savefig(picture, format="png", dpi=120)
    return picture.getvalue()
