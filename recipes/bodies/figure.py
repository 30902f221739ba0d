"""A whole figure: a body posed and dressed becomes triangles, and triangles that a camera sees become lit pixels."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bodies import lighting
from bodies.anatomy import WIDTH, chart_of
from bodies.bank import read_bank
from bodies.carried import carried_parts
from bodies.cloth_paint import body_paint
from bodies.clothes import dressed_skin, hung_cloth
from bodies.hair import hair_parts
from bodies.headwear import collar_parts, headwear_parts, scarf_parts
from bodies.layers import Materials, Numbers, Part
from bodies.lighting import Light
from bodies.mesh import Floats, Indices, normals, rotation
from bodies.posing import pose
from bodies.raster import Fragments, rasterise
from bodies.tailoring import cut_of
from bodies.wearer import Wearer
from textreid.seeding import Chance
from textreid.synthetic.attributes import Person
from textreid.synthetic.drawing.canvas import Material
from textreid.synthetic.drawing.figure import appearance_of, arm_poses
from textreid.synthetic.drawing.scene import Frame


@dataclass(frozen=True)
class Sight:
    """How a figure is looked at: degrees of yaw, of pitch and of roll, and metres to the camera."""

    yaw: float  # 0 faces the camera, 90 the right side of the picture
    pitch: float  # the camera looks down
    roll: float
    distance: float

    def turned(self, points: Floats) -> Floats:
        """Turn (V, 3) points so that they are across the picture, towards the camera, up."""
        seen: Floats = points @ rotation(2, -self.yaw).T
        return seen

    def project(self, turned: Floats) -> tuple[Floats, Floats]:
        """Return (V, 2) places in the picture, y down, at a focal length of 1, and the (V,) distances in metres."""
        # The camera looks at the middle of the body.
        up, toward = turned[:, 2] - np.float32(0.9), turned[:, 1]
        down, along = np.sin(np.radians(self.pitch)), np.cos(np.radians(self.pitch))
        distance = np.maximum(self.distance - (toward * along + up * down), 0.3).astype(np.float32)
        flat = np.stack((turned[:, 0] / distance, (toward * down - up * along) / distance), axis=1)
        return (flat @ rotation(2, self.roll)[:2, :2].T).astype(np.float32), distance


@dataclass(frozen=True)
class Picture:
    """Pixels of a figure: (H, W, 3) colours, (H, W) numbers of materials, -1 where there are none, and the (H, W) share
    of light that the ground around it loses."""

    colours: Floats
    numbers: Numbers
    materials: list[Material]
    shadow: Floats


@dataclass(frozen=True)
class Assembly:
    """All parts of a figure as one mesh: `Part`'s arrays side by side, and the (F,) part of each face."""

    parts: list[Part]
    vertices: Floats
    faces: Indices
    chart: Floats
    normals: Floats
    owners: Indices

    @classmethod
    def of(cls, parts: list[Part]) -> "Assembly":
        """Put the parts side by side."""
        starts = np.cumsum([0, *(len(part.vertices) for part in parts[:-1])])
        return cls(
            parts,
            np.concatenate([part.vertices for part in parts]),
            np.concatenate([part.faces + start for part, start in zip(parts, starts, strict=True)]),
            np.concatenate([part.chart for part in parts]),
            np.concatenate([normals(part.vertices, part.faces) for part in parts]),
            np.repeat(np.arange(len(parts)), [len(part.faces) for part in parts]),
        )


def draw_figure(
    wearer: Wearer, parts: list[Part], sight: Sight, frame: Frame, size: tuple[int, int], light: Light, chance: Chance
) -> Picture:
    """Draw a figure into an empty picture.

    Args:
        wearer: who is drawn.
        parts: from `dress`; the first is the body, which `frame` is laid around.
        sight: the camera.
        frame: where the body stands in the picture and how tall it is.
        size: rows and columns.
        light: the sun.
        chance: of the cloth's grain.
    """
    whole = Assembly.of(parts)
    turned = sight.turned(whole.vertices)
    flat, distance = sight.project(turned)
    body = flat[: len(parts[0].vertices)]
    low, high = body[:, 1].min(), body[:, 1].max()
    zoom = np.float32(frame.stature / (high - low))
    centre = (body[:, 0].min() + body[:, 0].max()) / 2
    origin = np.array([frame.x - centre * zoom, frame.ground - high * zoom], np.float32)
    one_sided = np.array([part.one_sided for part in parts])[whole.owners]
    nearness: Floats = np.reciprocal(distance)
    fragments = rasterise(origin + flat * zoom, nearness, whole.faces, one_sided, size)
    colours, numbers = _develop(whole, wearer.materials, fragments, sight, distance, size, light, chance)
    # Every second vertex is dense enough for a blurred shadow.
    fallen, _ = sight.project(light.cast(turned[::2]))
    feet = np.stack([wearer.posed.head(f"foot.{side}") for side in "LR"]) * np.array([1, 1, 0], np.float32)
    standing, _ = sight.project(sight.turned(feet))
    shadow = lighting.ground_shadow(origin + fallen * zoom, origin + standing * zoom, size, light.strength)
    return Picture(colours, numbers, wearer.materials.known, shadow)


def dress(bank: Path, person: Person, identity: int, walking: bool, chance: Chance) -> tuple[Wearer, list[Part]]:
    """Pose a body of the bank and dress it; ``identity`` fixes body and cut, ``chance`` the pose."""
    look = appearance_of(person, identity)
    bodies = read_bank(bank)
    number = bodies.pick(person.gender, person.build, Chance.of("body", identity))
    modes = arm_poses(person, walking, chance)
    posed = pose(bodies, number, walking, modes, person.shoes == "heels", chance)
    chart = chart_of(bank, number)
    wearer = Wearer(person, look, cut_of(person, look.cut), bodies, number, chart, posed, Materials())
    skin = dressed_skin(wearer)
    return wearer, [
        Part(skin, bodies.faces, chart, body_paint(wearer), one_sided=True),
        *hung_cloth(wearer, skin),
        *hair_parts(wearer, skin, chance),
        *headwear_parts(wearer, skin),
        *collar_parts(wearer),
        *scarf_parts(wearer),
        *carried_parts(wearer, skin, modes, walking),
    ]


def _develop(
    whole: Assembly, materials: Materials, fragments: Fragments, sight: Sight, distance: Floats, size: tuple[int, int],
    light: Light, chance: Chance,
) -> tuple[Floats, Numbers]:  # fmt: skip
    """Turn fragments into (H, W, 3) colours and (H, W) numbers of materials."""
    known = np.concatenate((whole.chart, sight.turned(whole.normals), distance[:, None]), axis=1)
    values = fragments.interpolate(known, whole.faces)
    owner = whole.owners[fragments.faces]
    numbers = np.empty(len(owner), np.int64)
    for n, part in enumerate(whole.parts):
        mine = owner == n
        if mine.any():
            numbers[mine] = part.paint(values[mine, :WIDTH])
    normal = values[:, WIDTH:-1]
    normal /= np.maximum(np.sqrt(np.einsum("ij,ij->i", normal, normal)), 1e-6)[:, None]
    # The inside of open cloth is lit as its outside would be, turned to the camera.
    normal[:, 1] = np.where(normal[:, 1] < -0.3, -normal[:, 1], normal[:, 1])
    level = light.on(normal)
    level *= lighting.occlusion(fragments, size, values[:, -1], size[0] * 0.022)
    level += lighting.relief(materials.known, numbers, fragments.pixels, size, 0.8 + 0.6 * light.strength, chance)
    np.maximum(level, np.float32(0.12), out=level)
    table = np.array([material.colour for material in materials.known], np.float32)
    # Dark cloth still reflects the sky.
    gloss = np.maximum(level - np.float32(0.72), 0) * np.float32(14)
    colours = np.zeros((size[0] * size[1], 3), np.float32)
    colours[fragments.pixels] = table[numbers] * level[:, None] + gloss[:, None]
    full = np.full(size[0] * size[1], -1, np.int64)
    full[fragments.pixels] = numbers
    return colours.reshape(*size, 3), full.reshape(size)
