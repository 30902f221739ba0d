"""Pictures of a run, drawn from its ``metrics.jsonl`` and nothing else."""

from io import BytesIO
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from textreid.artifacts import write_bytes
from textreid.runlog import read_records

_FEW = 30  # points that are marked one by one

_CURVES = {"loss": "loss", "learning_rate": "learning rate", "mask_rate": "share of words masked"}
_NO_FIGURES = {"event", "step", "epoch"}


def plot_run(metrics: Path) -> list[Path]:
    """Draw the curves of the log ``metrics`` into ``plots`` beside it; a curve without values is left out.

    Raises:
        ArtifactError: the log is missing or unreadable, or a plot cannot be written.
    """
    records = read_records(metrics)
    trained = [record for record in records if record["event"] == "train"]
    validated = [record for record in records if record["event"] == "validation"]
    charts = {name: (_points(trained, [name]), label) for name, label in _CURVES.items()}
    figures = list(dict.fromkeys(name for record in validated for name in record if name not in _NO_FIGURES))
    charts["validation"] = (_points(validated, figures), "validation")
    drawn = []
    for name, (curves, label) in charts.items():
        if curves:
            drawn.append(metrics.parent / "plots" / f"{name}.png")
            write_bytes(drawn[-1], _draw(curves, label))
    return drawn


def _points(records: list[dict[str, Any]], names: list[str]) -> dict[str, list[tuple[int, float]]]:
    """(step, value) of each figure, for those that have any."""
    curves = {name: [(record["step"], record[name]) for record in records if name in record] for name in names}
    return {name: points for name, points in curves.items() if points}


def _draw(curves: dict[str, list[tuple[int, float]]], label: str) -> bytes:
    """The curves as a PNG file."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)  # draws without a display, whatever backend the user has set
    axes = figure.add_subplot()
    for name, points in curves.items():
        axes.plot(*zip(*points, strict=True), label=name, marker="." if len(points) < _FEW else None)
    axes.set(xlabel="step", ylabel=label, ylim=(0, None))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3)
    if len(curves) > 1:
        axes.legend(frameon=False)
    picture = BytesIO()
    figure.savefig(picture, format="png", dpi=120)
    return picture.getvalue()
