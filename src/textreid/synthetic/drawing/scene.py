"""What surrounds the person: other people behind, the shadow on the ground, things in front that hide a part."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image, ImageDraw

from textreid.seeding import Chance, generator
from textreid.synthetic.domains import DOMAINS
from textreid.synthetic.drawing.background import Place, car_shape, ink, paint_place
from textreid.synthetic.drawing.canvas import Canvas
from textreid.synthetic.drawing.figure import Figure, appearance_of, arm_poses
from textreid.synthetic.drawing.person import Colours, Labels, develop, draw_figure
from textreid.synthetic.drawing.pose import Projection, build_body, strike_pose
from textreid.synthetic.palette import from_hsv
from textreid.synthetic.sampling import sample_person

# Drawn once per process, in about a second, and pasted from then on: to draw and shade a person is about half of
# the work of a crop.
# By name: the crowd, and with it every picture, would change with each domain that is added.
_CROWD_FROM = ("campus", "mall", "night", "station", "street")
_CROWD = 48
_TALL, _WIDE, _STATURE = 176, 96, 160.0
# Adds somebody to a scene: at column x, the feet on row ground, stature pixels tall.
Bystander = Callable[[Image.Image, float, float, float, Chance], None]


@dataclass(frozen=True)
class Frame:
    """The working picture, which is drawn larger than the crop is stored, and the person's place in it."""

    width: int
    height: int
    stature: float  # pixels
    x: float  # of the body's axis
    ground: float  # row of the feet


def paint_surroundings(
    place: Place, frame: Frame, chance: Chance, add_bystander: Bystander | None = None
) -> Image.Image:
    """Paint the place with the people behind, by ``add_bystander`` or as the drawn crowd."""
    add = add_bystander or _add_drawn
    scene = paint_place(place, frame.width, frame.height, chance)
    horizon = (place.horizon - 0.25) * frame.height
    if chance.happens(0.25 + 0.3 * place.clutter):
        for _ in range(1 + int(3 * chance.unit() * chance.unit())):
            near = chance.between(0.3, 0.95)
            ground = horizon + (frame.ground - horizon) * near
            add(scene, chance.between(-0.15, 1.15) * frame.width, ground, frame.stature * near, chance)
    return scene


def cast_shadow(scene: Colours, labels: Labels, figure: Figure, sun: float, chance: Chance) -> Colours:
    """Darken the ground around the feet and, under a hard sun, along the figure's shadow."""
    h, w = scene.shape[:2]
    mask = Image.new("L", (w // 2, h // 2), 0)
    s, ground = figure.size / 2, figure.view.ground / 2
    if sun > 0.3:
        shape = Image.fromarray(np.minimum(labels[::2, ::2], 1) * np.uint8(int(90 + 70 * sun)))
        fall = chance.between(0.12, 0.5) * (1 if chance.happens(0.6) else -0.5)
        skew = -figure.canvas.light * chance.between(0.3, 1.1) / fall
        # Pillow asks for the way back: from a pixel of the shadow to the pixel of the figure that casts it.
        coefficients = (1.0, skew, -skew * ground, 0.0, 1 / fall, ground - ground / fall)
        mask = shape.transform(mask.size, Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR)
    draw = ImageDraw.Draw(mask)
    for leg in figure.body.legs:
        x, y = figure.view.place((leg[2][0], leg[2][1] + 0.03, 0.0))
        x, y = x / 2, y / 2
        draw.ellipse((x - 0.075 * s, y - 0.024 * s, x + 0.075 * s, y + 0.026 * s), fill=130)
    # To shrink and enlarge is the blur: shadows have soft edges.
    small = mask.resize((max(1, w // 5), max(1, h // 5)), Image.Resampling.BOX)
    dark = np.asarray(small.resize((w, h), Image.Resampling.BILINEAR), np.float32) * np.float32(1 / 255)
    return scene * (np.float32(1) - dark[:, :, None])


def hide_partly(picture: Image.Image, frame: Frame, clutter: float, chance: Chance) -> Image.Image | None:
    """Put something in front of the person, in some pictures: returns its mask, or None if nothing was put."""
    if not chance.happens(0.06 + 0.12 * clutter):
        return None
    mask = Image.new("L", picture.size, 0)
    kind = chance.unit()
    w, h = picture.size
    if kind < 0.45:
        side = chance.pick((-1, 1))
        near = chance.between(1.0, 1.25)
        x = frame.x + side * frame.stature * chance.between(0.17, 0.30)
        ground = frame.ground + frame.stature * (near - 1) * chance.between(0.5, 1.5)
        _add_bystander(picture, mask, x, ground, frame.stature * near, chance)
        return mask
    shapes: list[list[tuple[float, float]]] = []
    if kind < 0.65:
        x, thick = chance.between(0.15, 0.85) * w, chance.between(0.02, 0.07) * w
        shapes.append([(x, 0), (x + thick, 0), (x + thick, h), (x, h)])
        colour = from_hsv(chance.between(0, 360), 0.3 * chance.unit() ** 2, chance.between(0.12, 0.75))
    elif kind < 0.85:
        top = frame.ground - frame.stature * chance.between(0.12, 0.42)
        edge = chance.between(-0.2, 0.5) * w if chance.happens(0.5) else -0.4 * w
        colour = from_hsv(chance.between(0, 360), 0.8 * chance.unit() ** 2, chance.between(0.12, 0.95))
        shapes += car_shape(edge, top, w * 1.8, h * 1.1 - top) if chance.happens(0.5) else []
        shapes = shapes or [[(edge, top), (w * 1.2, top), (w * 1.2, h), (edge, h)]]
    else:
        top = frame.ground - frame.stature * chance.between(0.3, 0.5)
        colour = from_hsv(chance.between(0, 360), 0.4 * chance.unit() ** 2, chance.between(0.2, 0.8))
        bar = max(2.0, 0.012 * h)
        shapes += [[(0, top + d), (w, top + d), (w, top + d + bar), (0, top + d + bar)] for d in (0, 0.12 * h)]
        gap = chance.between(0.12, 0.3) * w
        shapes += [[(x, top), (x + bar, top), (x + bar, h), (x, h)] for x in (gap * i for i in range(int(w / gap) + 1))]
    ground_draw, mask_draw = ImageDraw.Draw(picture), ImageDraw.Draw(mask)
    for shape in shapes:
        ground_draw.polygon(shape, fill=ink(colour))
        mask_draw.polygon(shape, fill=255)
    return mask


def _add_drawn(scene: Image.Image, x: float, ground: float, stature: float, chance: Chance) -> None:
    _add_bystander(scene, None, x, ground, stature, chance)


def _add_bystander(
    picture: Image.Image, mask: Image.Image | None, x: float, ground: float, stature: float, chance: Chance
) -> None:
    someone = chance.pick(_crowd())
    if chance.happens(0.5):
        someone = someone.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    k = stature / _STATURE
    size = (max(2, int(_WIDE * k)), max(2, int(_TALL * k)))
    someone = someone.resize(size, Image.Resampling.BILINEAR)
    corner = (int(x - size[0] / 2), int(ground - size[1] * 0.96))
    picture.paste(someone, corner, someone)
    if mask is not None:
        mask.paste(255, corner, someone.getchannel("A"))


@cache
def _crowd() -> tuple[Image.Image, ...]:
    """Draw people to stand about, once per process: RGBA pictures."""
    return tuple(_bystander(_CROWD_FROM[i % len(_CROWD_FROM)], i) for i in range(_CROWD))


def _bystander(domain: str, number: int) -> Image.Image:
    chance = Chance.of("crowd", number)
    person = sample_person(DOMAINS[domain], generator("crowd", domain, number))
    body = build_body(person, chance)
    walking = chance.happens(0.6)
    modes = arm_poses(person, walking, chance)
    strike_pose(body, walking, modes, chance)
    view = Projection(chance.between(0.0, 360.0), 14.0, _STATURE, _WIDE / 2, _TALL * 0.95)
    canvas = Canvas(_WIDE, _TALL, chance.between(-1, 1))
    # Negative: the identities of corpora begin at 0, so nobody has a double in the crowd.
    figure = Figure(person, appearance_of(person, -1 - number), body, view, canvas, chance, walking, modes)
    draw_figure(figure)
    colours, labels = develop(figure, chance.between(0.0, 0.6), chance)
    alpha = np.minimum(labels, 1) * np.uint8(255)
    pixels = np.clip(colours, 0, 255).astype(np.uint8)
    return Image.fromarray(np.dstack((pixels, alpha)))
