"""Pictures of a run, drawn from its ``metrics.jsonl`` and nothing else."""

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.ticker import MaxNLocator, PercentFormatter

from textreid.config import LOSSES
from textreid.reporting.figures import COLOURS, new_figure, save_figure, style_axes
from textreid.runlog import ABOUT, NOISE, read_records
from textreid.training.runs import Records, chance_levels_of

_FEW = 30  # points that are marked one by one
_FLATTEST = 0.1  # of its largest value: the least that an axis of losses spans, so that a flat loss looks flat
_SELECTING = "R1"


def plot_run(metrics: Path) -> list[Path]:
    """Draw the curves of the log ``metrics`` into ``plots`` beside it; a curve without values is left out.

    Raises:
        ArtifactError: the log is missing or unreadable, or a plot cannot be written.
    """
    records = read_records(metrics)
    charts: dict[str, Callable[[Axes, Records], bool]] = {
        "loss": _draw_losses,
        "learning_rate": _draw_learning_rate,
        "mask_rate": _draw_mask_rate,
        "noise": _draw_noise,
        "validation": _draw_validation,
    }
    drawn = []
    for name, draw in charts.items():
        figure = new_figure(7, 4)
        axes = figure.add_subplot()
        style_axes(axes)
        if draw(axes, records):
            drawn.append(metrics.parent / "plots" / f"{name}.png")
            save_figure(figure, drawn[-1])
    return drawn


def _draw_losses(axes: Axes, records: Records) -> bool:
    """Draw the sum, its parts where there are several, and what each would be for a network that knows nothing."""
    trained = _of(records, "train")
    parts = [name for name in LOSSES if any(name in record for record in trained)]
    names = ["loss", *parts] if len(parts) > 1 else ["loss"]
    curves = {name: points for name in names if (points := _points(trained, name))}
    levels = chance_levels_of(records)
    for name, points in curves.items():
        (line,) = axes.plot(*zip(*points, strict=True), label="sum" if name == "loss" and parts else name)
        level = levels.get(parts[0] if len(parts) == 1 else name)
        if level is not None:
            axes.axhline(level, color=line.get_color(), linestyle=":", linewidth=1)
    if not curves:
        return False
    values = [value for points in curves.values() for _, value in points]
    if max(values) - min(values) < _FLATTEST * max(values):
        axes.set_ylim(max(values) * (1 - _FLATTEST), max(values) * (1 + _FLATTEST / 5))
    else:
        axes.set_ylim(0 if len(curves) > 1 else None)
    _finish(axes, "loss" + (" (dotted: nothing told apart)" if levels else ""), records)
    return True


def _draw_learning_rate(axes: Axes, records: Records) -> bool:
    points = _points(_of(records, "train"), "learning_rate")
    if points:
        axes.plot(*zip(*points, strict=True))
        axes.set_ylim(0)
        _finish(axes, "learning rate", records)
    return bool(points)


def _draw_mask_rate(axes: Axes, records: Records) -> bool:
    points = _points(_of(records, "train"), "mask_rate")
    if points:
        axes.plot(*zip(*points, strict=True))
        axes.set_ylim(0, 1.4 * max(0.05, *(value for _, value in points)))
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        _finish(axes, "words masked", records)
    return bool(points)


def _draw_noise(axes: Axes, records: Records) -> bool:
    """Draw a column an epoch: how the masking probabilities of all words are spread."""
    noted = _of(records, NOISE)
    if not noted:
        return False
    counts = np.array([record["counts"] for record in noted]).T  # (bins, epochs)
    shares = counts / counts.sum(axis=0)
    epochs = np.array([record["epoch"] for record in noted])
    edges = np.linspace(0, 1, len(counts) + 1)
    # Colour by the square root of a share: rare probabilities would be too pale beside the mean.
    mesh = axes.pcolormesh(
        np.append(epochs - 0.5, epochs[-1] + 0.5), edges, shares, norm=PowerNorm(0.5, vmin=0), cmap="Blues"
    )
    axes.get_figure(root=True).colorbar(mesh, ax=axes, label="share of the words", format=PercentFormatter(1.0, 0))  # type: ignore[union-attr]
    # From the middles of the bins, so within half a bin (0.01) of the true mean.
    mean = (edges[:-1] + edges[1:]) @ shares / 2
    axes.plot(epochs, mean, color=COLOURS[1], marker="." if len(mean) < _FEW else None, label="mean")
    axes.legend(frameon=False, loc="upper right")
    axes.set(xlabel="epoch", ylabel="probability of being masked next", ylim=(0, edges[_highest(counts) + 1]))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    return True


def _highest(counts: "np.ndarray[tuple[int, int], np.dtype[np.int64]]") -> int:
    """Find the last bin that holds at least one word in a thousand in some epoch."""
    return int(np.flatnonzero((counts >= 1e-3 * counts.sum(axis=0)).any(axis=1)).max())


def _draw_validation(axes: Axes, records: Records) -> bool:
    """Draw every figure, and the best of the one that can select the model."""
    validated = _of(records, "validation")
    names = dict.fromkeys(name for record in validated for name in record if name not in ABOUT)
    for name in names:
        points = _points(validated, name)
        axes.plot(
            *zip(*points, strict=True), label=name, linewidth=2.5 if name == _SELECTING else 1.2,
            marker="." if len(points) < _FEW else None,
        )  # fmt: skip
        if name == _SELECTING:
            step, best = max(points, key=lambda point: point[1])
            axes.plot(step, best, "o", markersize=10, fillstyle="none", color=axes.lines[-1].get_color(),
                      label=f"best {name}: {best:.1%}")  # fmt: skip
    if names:
        axes.set_ylim(0)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        _finish(axes, "validation", records)
    return bool(names)


def _of(records: Iterable[dict[str, Any]], event: str) -> list[dict[str, Any]]:
    return [record for record in records if record["event"] == event]


def _points(records: Records, name: str) -> list[tuple[int, float]]:
    """List (step, value) of a figure, where it was measured."""
    return [(record["step"], record[name]) for record in records if name in record]


def _finish(axes: Axes, label: str, records: Records) -> None:
    """Add what all curves over steps have in common: epochs above, a legend beside them if there are several."""
    axes.set(xlabel="step", ylabel=label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if len(axes.get_legend_handles_labels()[0]) > 1:
        axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.01, 1))
    per_epoch = next((record["steps_per_epoch"] for record in _of(records, "start") if "steps_per_epoch" in record), 0)
    if per_epoch:
        above = axes.secondary_xaxis(
            "top", functions=(partial(np.multiply, 1 / per_epoch), partial(np.multiply, per_epoch))
        )
        above.set_xlabel("epoch")
        above.spines["top"].set_visible(False)
