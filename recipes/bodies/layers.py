"""What a figure is put together from: parts with their own paint, and the materials that the paint is made of."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from bodies.anatomy import WIDTH
from bodies.mesh import Floats, Mesh
from textreid.synthetic.drawing.canvas import Material
from textreid.synthetic.palette import scale

Numbers = npt.NDArray[np.int64]
Paint = Callable[[Floats], Numbers]


@dataclass
class Materials:
    """Materials of one figure, numbered from 0 in the order of their first use."""

    known: list[Material] = field(default_factory=list)

    def number(self, material: Material) -> int:
        """Return the number of ``material``."""
        if material not in self.known:
            self.known.append(material)
        return self.known.index(material)

    def plain(self, material: Material) -> Paint:
        """Make a paint of one material."""
        number = self.number(material)
        return lambda chart: np.full(len(chart), number, np.int64)


@dataclass(frozen=True)
class Part:
    """Mesh with its (V, `WIDTH`) chart and the paint that turns (P, `WIDTH`) charts of pixels into materials."""

    vertices: Floats
    faces: npt.NDArray[np.int64]
    chart: Floats
    paint: Paint
    one_sided: bool = False


def part(mesh: Mesh, paint: Paint) -> Part:
    """Make a part of a mesh, whose chart of three columns takes the first three."""
    chart = np.zeros((len(mesh.vertices), WIDTH), np.float32)
    chart[:, :3] = mesh.chart
    return Part(mesh.vertices, mesh.faces, chart, paint, not mesh.open)


def shaded(material: Material, factor: float) -> Material:
    """Return the same material, lighter or darker: a seam, a pocket, a fold."""
    return replace(material, colour=scale(material.colour, factor))
