"""Pictures of a run, drawn from its ``metrics.jsonl`` and nothing else."""

from pathlib import Path
from typing import Any

import matplotlib as mpl

from textreid.runlog import METRICS, read_records

_CURVES = {
    "loss.png": ("train", ("loss",), "loss"),
    "learning_rate.png": ("train", ("learning_rate",), "learning rate"),
    "mask_rate.png": ("train", ("mask_rate",), "share of words masked"),
    "validation.png": ("validation", ("r1", "r5", "r10", "map"), "validation"),
}


def plot_run(folder: Path) -> list[Path]:
    """Draw the curves of the run in ``folder`` into ``folder/plots``; a curve without values is left out.

    Raises:
        ArtifactError: ``metrics.jsonl`` is missing or unreadable.
    """
    records = read_records(folder / METRICS)
    (folder / "plots").mkdir(exist_ok=True)
    drawn = []
    for file, (event, names, label) in _CURVES.items():
        chosen = [record for record in records if record["event"] == event]
        curves = {name: [(r["step"], r[name]) for r in chosen if r.get(name) is not None] for name in names}
        if any(curves.values()):
            _draw(folder / "plots" / file, curves, label)
            drawn.append(folder / "plots" / file)
    return drawn


def _draw(path: Path, curves: dict[str, list[tuple[Any, Any]]], label: str) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with mpl.rc_context({"axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(7, 4), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        for name, points in curves.items():
            if points:
                axes.plot(*zip(*points, strict=True), label=name, marker="." if len(points) < 30 else None)
        axes.set(xlabel="step", ylabel=label)
        axes.grid(alpha=0.3)
        axes.set_ylim(bottom=0)
        if len(curves) > 1:
            axes.legend(frameon=False)
        figure.savefig(path, dpi=120)
