"""The light on a figure: a sky, a sun, dark places between limbs, the grain of cloth; and the shadow on the ground."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from PIL import Image, ImageFilter

from bodies.layers import Numbers
from bodies.mesh import Floats, Indices
from bodies.raster import Fragments
from textreid.seeding import Chance
from textreid.synthetic.drawing import textures
from textreid.synthetic.drawing.canvas import Material


@dataclass(frozen=True)
class Light:
    """A sky and a sun: ``direction`` (3,) to the sun, across the picture, towards the camera, up; its strength, 0–1."""

    direction: Floats
    strength: float

    @classmethod
    def drawn(cls, side: float, strength: float, chance: Chance) -> Self:
        """Draw where the sun stands; ``side`` is -1 for the left of the picture … 1."""
        direction = np.array([side * 0.9, chance.between(-0.4, 0.8), chance.between(0.5, 1.3)], np.float32)
        return cls(direction / np.float32(np.linalg.norm(direction)), strength)

    def on(self, normal: Floats) -> Floats:
        """Compute the light on surfaces by their unit normals (P, 3): 1 is full light."""
        facing = np.maximum(normal @ self.direction, 0)
        sky = 0.5 + 0.5 * normal[:, 2]
        # Surfaces that look at the camera are what its exposure is set by.
        ahead = np.maximum(normal[:, 1], 0)
        ambient = (0.50 + 0.22 * sky + 0.16 * ahead) * (1 - 0.28 * self.strength)
        level: Floats = (ambient + facing * (0.20 + 0.55 * self.strength)).astype(np.float32)
        return level

    def cast(self, points: Floats) -> Floats:
        """Let (P, 3) points fall on the ground, away from the sun."""
        flat = points[:, :2] - points[:, 2:] * (self.direction[:2] / self.direction[2])
        return np.concatenate((flat, np.zeros((len(points), 1), np.float32)), axis=1)


def occlusion(fragments: Fragments, size: tuple[int, int], metres: Floats, radius: float) -> Floats:
    """Darken what lies behind its surroundings in the picture, as between legs or under an arm; (P,) factors.

    ``metres`` are the distances of the pixels from the camera; what is not covered counts as far away.
    """
    distance = np.full(size[0] * size[1], float(metres.max()) + 0.2 if len(metres) else 1.0, np.float32)
    distance[fragments.pixels] = metres
    low, high = float(distance.min()), float(distance.max())
    grey = Image.fromarray(((distance - low) * (255 / max(high - low, 1e-3))).astype(np.uint8).reshape(size))
    around = np.asarray(grey.filter(ImageFilter.BoxBlur(radius)), np.float32).ravel()[fragments.pixels]
    behind = metres - (around * ((high - low) / 255) + low)
    factor: Floats = 1 - np.clip(behind * np.float32(3.0), 0, 0.42)
    return factor


def relief(
    materials: list[Material], numbers: Numbers, pixels: Indices, size: tuple[int, int], strength: float, chance: Chance
) -> Floats:
    """Compute the change of light that the textures of the (P,) ``numbers`` of materials cause."""
    scale = 3 if size[0] > 340 else 2
    # Weaker than on flat drawings, whose folds are all the shape that they have.
    weak = {"folds": 0.5, "quilt": 0.5, "drape": 0.7}
    total = np.zeros(len(numbers), np.float32)
    # Sorted, because each texture draws its window by chance.
    for texture in sorted({m.texture for m in materials if m.relief > 0}):
        table = np.array(
            [m.relief * strength * weak.get(texture, 1.0) if m.texture == texture else 0 for m in materials], np.float32
        )
        window = textures.crop(textures.cloth(texture, scale), *size, chance)
        total += table[numbers] * window.ravel()[pixels]
    return total


def ground_shadow(points: Floats, feet: Floats, size: tuple[int, int], sun: float) -> Floats:
    """Return the (H, W) share of light that the ground loses by the shadow of ``points`` (P, 2) and ``feet`` (2, 2)."""
    rows, columns = size
    small = (max(1, rows // 4), max(1, columns // 4))
    dark = np.zeros(small, np.float32)
    if sun > 0.25:
        place = (points // 4).astype(np.int64)
        inside = ((place >= 0) & (place < [small[1], small[0]])).all(axis=1)
        np.add.at(dark, (place[inside, 1], place[inside, 0]), 1.0)
        dark = np.minimum(dark, 1.0) * np.float32(0.25 + 0.35 * min(1.0, sun))
    y, x = np.mgrid[0 : small[0], 0 : small[1]]
    reach = rows * 0.05
    for foot in feet:
        away = ((x * 4 - foot[0]) / reach) ** 2 + ((y * 4 - foot[1]) / (reach * 0.4)) ** 2
        dark = np.maximum(dark, np.float32(0.55) * (away < 1.6))
    grey = Image.fromarray((dark * 255).astype(np.uint8)).filter(ImageFilter.BoxBlur(1.5))
    lost: Floats = np.asarray(grey.resize((columns, rows), Image.Resampling.BILINEAR), np.float32) * np.float32(1 / 255)
    return lost
