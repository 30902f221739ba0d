"""What all plots share: they draw without a display, leave the host program's matplotlib as it is, and look alike."""

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from textreid.artifacts import write_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito (2008): told apart by colour-blind readers too.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#444444")
_DOTS_PER_INCH = 120


def new_figure(width: float, height: float) -> "Figure":
    """Return an empty figure of a size in inches.

    It is drawn by Agg whatever backend the host program has chosen: matplotlib.pyplot, which holds that choice and
    a list of open figures, is not imported, and no default is changed.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    # It attaches itself to the figure; nothing else needs to hold it.
    FigureCanvasAgg(figure)
    return figure


def style_axes(axes: "Axes", grid: Literal["both", "x", "y"] = "both") -> None:
    """Give axes the colours, the light grid and the open frame of all plots; call it before curves are drawn."""
    # A curve takes its colour when it is drawn, so this must come before.
    axes.set_prop_cycle(color=COLOURS)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3, axis=grid)
    axes.set_axisbelow(True)


def to_png(figure: "Figure") -> bytes:
    """Draw a figure as a PNG file."""
    picture = BytesIO()
    figure.savefig(picture, format="png", dpi=_DOTS_PER_INCH)
    return picture.getvalue()


def save_figure(figure: "Figure", path: Path) -> None:
    """Draw a figure into the PNG file ``path``, whole or not at all.

    Raises:
        ArtifactError: the disk is full, or the folder is missing or read-only.
    """
    write_bytes(path, to_png(figure))
