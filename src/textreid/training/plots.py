"""Pictures of a run, drawn from its ``metrics.jsonl`` and nothing else."""

from io import BytesIO
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from textreid.artifacts import write_bytes
from textreid.runlog import read_records

_FEW = 30  # points that are marked one by one

_CURVES = {
    "loss.png": ("train", ("loss",), "loss"),
    "learning_rate.png": ("train", ("learning_rate",), "learning rate"),
    "mask_rate.png": ("train", ("mask_rate",), "share of words masked"),
    "validation.png": ("validation", ("r1", "r5", "r10", "map"), "validation"),
}


def plot_run(metrics: Path) -> list[Path]:
    """Draw the curves of the log ``metrics`` into ``plots`` beside it; a curve without values is left out.

    Raises:
        ArtifactError: the log is missing or unreadable, or a plot cannot be written.
    """
    records = read_records(metrics)
    drawn = []
    for file, (event, names, label) in _CURVES.items():
        chosen = [record for record in records if record["event"] == event]
        curves = {name: [(r["step"], r[name]) for r in chosen if r.get(name) is not None] for name in names}
        curves = {name: points for name, points in curves.items() if points}
        if curves:
            path = metrics.parent / "plots" / file
            write_bytes(path, _draw(curves, label))
            drawn.append(path)
    return drawn


def _draw(curves: dict[str, list[tuple[float, float]]], label: str) -> bytes:
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
