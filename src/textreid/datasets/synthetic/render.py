"""One shot: a person in front of a camera becomes a crop, and the truth about what can be seen in it."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from textreid.datasets.synthetic import textures
from textreid.datasets.synthetic.appearance import appearance_of
from textreid.datasets.synthetic.attributes import Direction, Person, View
from textreid.datasets.synthetic.background import paint_place
from textreid.datasets.synthetic.camera import Camera, expose
from textreid.datasets.synthetic.canvas import Canvas
from textreid.datasets.synthetic.chance import Chance
from textreid.datasets.synthetic.domains import Domain
from textreid.datasets.synthetic.figure import Figure, arm_poses, draw_figure
from textreid.datasets.synthetic.pose import Projection, build_body, pick_yaw, strike_pose

_DIRECTIONS: dict[Direction, float] = {"front": 0.32, "back": 0.32, "left": 0.18, "right": 0.18}


@dataclass(frozen=True)
class Shot:
    """A crop (RGB) and what it shows."""

    image: Image.Image
    view: View


@dataclass(frozen=True)
class Frame:
    """Where the crop cuts: pixels of the working picture, which is drawn larger than the crop is stored."""

    width: int
    height: int
    stature: float  # pixels
    x: float  # of the body's axis
    ground: float  # row of the feet


def render(person: Person, identity: int, domain: Domain, camera: int, seed: int) -> Shot:
    """Render one crop at the resolution of the camera.

    Args:
        person: the attributes to show.
        identity: fixes what the attributes leave open (exact shades, cuts, body), whatever the camera and the seed.
        domain: the set of cameras.
        camera: its index in ``domain.cameras``.
        seed: of everything else: pose, framing, place, light, noise.

    Returns:
        The crop, RGB, before any file compression, and the view it shows. Equal arguments give equal pixels.
    """
    device = domain.cameras[camera]
    chance = Chance.of("shot", seed, domain.name, identity, camera)
    direction = chance.weighted(_DIRECTIONS)
    walking = chance.happens(0.68)
    height = _stored_height(device, chance)
    frame = _frame(height, direction, walking, chance)
    figure = _figure(person, identity, direction, walking, device, frame, chance)
    draw_figure(figure)
    colours, labels = develop(figure, device, chance)
    scene = np.asarray(paint_place(device.place, frame.width, frame.height, chance), np.float32)
    scene = cast_shadow(scene, labels, figure, frame, device, chance)
    crop = labels[: frame.height]
    scene = np.where((crop > 0)[:, :, None], colours[: frame.height], scene)
    picture = Image.fromarray(np.clip(scene, 0, 255).astype(np.uint8))
    stored_width = max(16, (frame.width * height + frame.height // 2) // frame.height)
    image = expose(picture, device, height, stored_width, chance)
    seen = _visible_parts(figure, labels, frame)
    view = View(direction, walking, seen["feet"], seen["head"], seen["legs"])
    return Shot(image, view)


def _stored_height(camera: Camera, chance: Chance) -> int:
    low, high = camera.heights
    return int(chance.middle(low, high))


def _frame(height: int, direction: Direction, walking: bool, chance: Chance) -> Frame:
    tall = 256 if height <= 160 else 384
    side = direction in ("left", "right")
    aspect = chance.middle(0.33, 0.50) + (0.05 if side and walking else 0.0)
    width = int(tall * aspect)
    share = chance.middle(0.80, 0.99)
    if chance.happens(0.10):
        share = chance.between(1.0, 1.22)
    top = chance.between(0.0, max(0.005, 1 - share)) if share < 1 else chance.between(-0.05, 0.02)
    ground = (top + share) * tall
    x = width * (0.5 + chance.middle(-0.09, 0.09))
    return Frame(width, tall, share * tall, x, ground)


def _figure(
    person: Person, identity: int, direction: Direction, walking: bool, camera: Camera, frame: Frame, chance: Chance
) -> Figure:
    body = build_body(person, Chance.of("body", identity))
    modes = arm_poses(person, walking, chance)
    strike_pose(body, walking, modes, chance)
    pitch = chance.between(*camera.pitch)
    view = Projection(
        pick_yaw(direction, chance), pitch, frame.stature * 0.985, frame.x, frame.ground,
        perspective=chance.between(0.0, 0.05) + pitch * 0.003, lean=0.035 if walking else chance.between(-0.01, 0.02),
    )  # fmt: skip
    view.ground -= 0.02 * frame.stature
    view.size = frame.stature * 0.96 / (view.along + 0.12 * view.down)
    beyond = max(0, int(frame.ground + 0.05 * frame.stature) - frame.height)
    canvas = Canvas(frame.width, frame.height + beyond, camera.light * (0.5 + 0.5 * camera.sun))
    return Figure(person, appearance_of(person, identity), body, view, canvas, chance, walking, modes)


def develop(figure: Figure, camera: Camera, chance: Chance) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
    """Turn labels and shade into colours: returns (H, W, 3) float32 in 0–255 and the (H, W) labels."""
    canvas = figure.canvas
    labels = np.array(canvas.labels)
    _apply_pattern(figure, labels, chance)
    h, w = labels.shape
    unit = figure.size / 230
    shade = canvas.shade.filter(ImageFilter.BoxBlur(1.6 * unit)).filter(ImageFilter.BoxBlur(1.1 * unit))
    light = np.asarray(shade, np.float32) * np.float32(1 / 128)
    depth = 0.55 + 0.75 * camera.sun
    light = np.float32(1) + (light - np.float32(1)) * np.float32(depth)
    light = light + _relief(figure, labels, chance)
    rows = (np.arange(h, dtype=np.float32) * np.float32(-0.22 / 256) / np.float32(unit) + np.float32(1.10))[:, None]
    columns = np.arange(w, dtype=np.float32) - np.float32(figure.view.x)
    columns = np.float32(1) + columns * np.float32(canvas.light * (0.0006 + 0.0016 * camera.sun) / unit)
    light = np.maximum(light * rows * columns[None, :], np.float32(0.12))
    table = np.zeros((len(canvas.materials) + 1, 3), np.float32)
    for number, material in enumerate(canvas.materials, start=1):
        table[number] = material.colour
    colours = table[labels] * light[:, :, None]
    # Dark cloth still reflects the sky: without this a black coat would be a hole.
    gloss = np.maximum(light - np.float32(0.72), np.float32(0)) * np.float32(14 + 10 * camera.sun)
    return colours + gloss[:, :, None], labels


def _relief(figure: Figure, labels: npt.NDArray[np.uint8], chance: Chance) -> npt.NDArray[np.float32]:
    """The change of light that cloth textures cause."""
    materials = figure.canvas.materials
    h, w = labels.shape
    total = np.zeros((h, w), np.float32)
    scale = 3 if figure.canvas.labels.height > 340 else 2
    for texture in sorted({m.texture for m in materials if m.relief > 0}):
        strength = np.zeros(len(materials) + 1, np.float32)
        for number, material in enumerate(materials, start=1):
            if material.texture == texture:
                strength[number] = material.relief
        total += strength[labels] * textures.crop(textures.cloth(texture, scale), h, w, chance)
    return total


def _apply_pattern(figure: Figure, labels: npt.NDArray[np.uint8], chance: Chance) -> None:
    """Recolour part of the upper garment: stripes and checks by rows and columns, the yoke of a two-tone garment."""
    pattern, look, canvas = figure.person.upper_pattern, figure.look, figure.canvas
    if pattern not in ("stripes", "check", "two-tone") or look.upper not in canvas.materials:
        return
    cover = labels == canvas.number(look.upper)
    h, w = labels.shape
    unit = figure.size / 230
    period = max(3, int((6 + 10 * look.cut[8]) * unit))
    rows, columns = np.arange(h)[:, None], np.arange(w)[None, :]
    second = canvas.number(look.second)
    if pattern == "stripes":
        labels[cover & ((rows + columns // 9) % period < period * (0.3 + 0.3 * look.cut[9]))] = second
    elif pattern == "check":
        band = max(1, int(period * 0.42))
        across, down = rows % period < band, columns % period < band
        labels[cover & (across ^ down)] = canvas.number(look.blend)
        labels[cover & (across & down)] = second
    else:
        cut = figure.at(0.0, 0.0, 0.735 if look.cut[9] > 0.4 else 0.60)[1]
        part = rows < cut if look.cut[8] > 0.5 else rows > cut
        labels[cover & part] = second


def cast_shadow(
    scene: npt.NDArray[np.float32],
    labels: npt.NDArray[np.uint8],
    figure: Figure,
    frame: Frame,
    camera: Camera,
    chance: Chance,
) -> npt.NDArray[np.float32]:
    """Darken the ground around the feet, and under a hard sun along the body's shadow."""
    h, w = scene.shape[:2]
    mask = Image.new("L", (w // 2, h // 2), 0)
    from PIL import ImageDraw

    draw = ImageDraw.Draw(mask)
    s = figure.size / 2
    for leg in figure.body.legs:
        x, y = figure.view.place((leg[2][0], leg[2][1] + 0.03, 0.0))
        x, y = x / 2, y / 2
        draw.ellipse((x - 0.085 * s, y - 0.028 * s, x + 0.085 * s, y + 0.03 * s), fill=120)
    if camera.sun > 0.3:
        x, y = figure.view.x / 2, figure.view.ground / 2
        end = (x - camera.light * 0.55 * s, y - chance.between(0.02, 0.22) * s)
        draw.line([(x, y), end], fill=int(150 * camera.sun), width=max(2, int(0.14 * s)))
    blurred = mask.filter(ImageFilter.BoxBlur(max(1.0, 0.014 * s))).resize((w, h), Image.Resampling.BILINEAR)
    dark = np.asarray(blurred, np.float32) * np.float32(1 / 255)
    return scene * (np.float32(1) - dark[:, :, None])


def _visible_parts(figure: Figure, labels: npt.NDArray[np.uint8], frame: Frame) -> dict[str, bool]:
    """Whether enough of the head, the legs and the feet lies inside the crop."""
    whole = np.bincount(labels.ravel(), minlength=256)
    inside = np.bincount(labels[: frame.height].ravel(), minlength=256)
    seen = {}
    for part, share in (("head", 0.45), ("legs", 0.5), ("feet", 0.4)):
        numbers = [n for n, m in enumerate(figure.canvas.materials, start=1) if m.part == part]
        total, shown = sum(int(whole[n]) for n in numbers), sum(int(inside[n]) for n in numbers)
        seen[part] = total > 0 and shown >= share * total
    return seen
