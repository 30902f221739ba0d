"""One shot: a person in front of a camera becomes a crop, and the truth about what can be seen in it."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from textreid.seeding import Chance
from textreid.synthetic.attributes import Direction, Person, View
from textreid.synthetic.domains import Domain
from textreid.synthetic.drawing.camera import Camera, expose
from textreid.synthetic.drawing.canvas import Canvas
from textreid.synthetic.drawing.figure import Figure, appearance_of, arm_poses
from textreid.synthetic.drawing.person import Labels, develop, draw_figure
from textreid.synthetic.drawing.pose import Projection, build_body, pick_yaw, strike_pose
from textreid.synthetic.drawing.scene import Frame, cast_shadow, hide_partly, paint_surroundings

_DIRECTIONS: dict[Direction, float] = {"front": 0.32, "back": 0.32, "left": 0.18, "right": 0.18}
_FINE = 160  # crops stored taller than this are drawn on the larger canvas
_ENOUGH = {"head": 0.45, "legs": 0.5, "feet": 0.4}  # share of a part's pixels that must show


@dataclass(frozen=True)
class Shot:
    """A crop (RGB) and what it shows."""

    image: Image.Image
    view: View


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
    # With camera and identity: else all people of one seed would stand in one pose in one place.
    chance = Chance.of("shot", seed, domain.name, identity, camera)
    direction = chance.weighted(_DIRECTIONS)
    walking = chance.happens(0.68)
    height = int(chance.middle(*device.heights))
    frame = _frame(height, direction, walking, chance)
    figure = _figure(person, identity, direction, walking, device, frame, chance)
    draw_figure(figure)
    sun = device.sun * chance.between(0.5, 1.1)
    colours, labels = develop(figure, sun, chance)
    scene = np.asarray(paint_surroundings(device.place, frame, chance), np.float32)
    crop = labels[: frame.height]
    scene = cast_shadow(scene, crop, figure, sun, chance)
    scene = np.where((crop > 0)[:, :, None], colours[: frame.height], scene)
    picture = Image.fromarray(np.clip(scene, 0, 255).astype(np.uint8))
    hidden = hide_partly(picture, frame, device.place.clutter, chance)
    if hidden is not None:
        crop = np.where(np.asarray(hidden) > 127, np.uint8(0), crop)
    stored_width = max(16, (frame.width * height + frame.height // 2) // frame.height)
    image = expose(picture, device, height, stored_width, chance)
    shown = _shown(figure, labels, crop)
    return Shot(image, View(direction, walking, shown["feet"], shown["head"], shown["legs"]))


def _frame(height: int, direction: Direction, walking: bool, chance: Chance) -> Frame:
    """Cut the crop around the person: loose or tight, off-centre, sometimes through the feet or the head."""
    tall = 256 if height <= _FINE else 384
    aspect = chance.middle(0.32, 0.50) + (0.05 if direction in ("left", "right") and walking else 0.0)
    width = int(tall * aspect)
    # One crop in ten is cut too tight, as those of a detector are: the feet or the crown may be outside.
    share = chance.between(1.0, 1.22) if chance.happens(0.10) else chance.middle(0.74, 1.0)
    top = chance.between(0.0, max(0.005, 1 - share)) if share < 1 else chance.between(-0.06, 0.02)
    x = width * (0.5 + chance.middle(-0.10, 0.10))
    return Frame(width, tall, share * tall, x, (top + share) * tall)


def _figure(
    person: Person, identity: int, direction: Direction, walking: bool, camera: Camera, frame: Frame, chance: Chance
) -> Figure:
    body = build_body(person, Chance.of("body", identity))
    modes = arm_poses(person, walking, chance)
    strike_pose(body, walking, modes, chance)
    pitch = chance.between(*camera.pitch)
    view = Projection(
        yaw=pick_yaw(direction, chance),
        pitch=pitch,
        size=frame.stature,
        x=frame.x,
        ground=frame.ground - 0.02 * frame.stature,
        perspective=chance.between(0.0, 0.05) + pitch * 0.003,
        lean=0.035 if walking else chance.between(-0.01, 0.02),
        tilt=chance.middle(-0.05, 0.05),
    )
    # Who is seen from above looks shorter: larger by as much, so that the share of the frame stays what was drawn.
    view.size = frame.stature * 0.96 / (view.along + 0.12 * view.down)
    # Feet below the crop are drawn too: how much of a part is cut off can be told only of the whole. At the top at most
    # 0.06 of the frame is lost, less than half a head, so nothing is added there.
    beyond = max(0, int(frame.ground + 0.05 * frame.stature) - frame.height)
    canvas = Canvas(frame.width, frame.height + beyond, camera.light * (0.5 + 0.5 * camera.sun))
    return Figure(person, appearance_of(person, identity), body, view, canvas, chance, walking, modes)


def _shown(figure: Figure, whole: Labels, crop: Labels) -> dict[str, bool]:
    """Tell whether enough of the head, the legs and the feet lies inside the crop and is not hidden."""
    drawn, left = np.bincount(whole.ravel(), minlength=256), np.bincount(crop.ravel(), minlength=256)
    shown = {}
    for part, enough in _ENOUGH.items():
        numbers = [n for n, material in enumerate(figure.canvas.materials, start=1) if material.part == part]
        total = sum(int(drawn[n]) for n in numbers)
        shown[part] = total > 0 and sum(int(left[n]) for n in numbers) >= enough * total
    return shown
