"""One shot of a person in three dimensions, by a camera of the package's domains: its place, its lens, its noise."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from bodies.crowd import paint_surroundings
from bodies.figure import Sight, draw_figure, dress
from bodies.layers import Numbers
from bodies.lighting import Light
from textreid.models.attribute_network import PARTS
from textreid.seeding import Chance
from textreid.synthetic.attributes import Direction, Person, View
from textreid.synthetic.domains import Domain
from textreid.synthetic.drawing.camera import expose
from textreid.synthetic.drawing.canvas import Material
from textreid.synthetic.drawing.pose import pick_yaw
from textreid.synthetic.drawing.render import Shot
from textreid.synthetic.drawing.scene import Frame, hide_partly

_DIRECTIONS: dict[Direction, float] = {"front": 0.32, "back": 0.32, "left": 0.18, "right": 0.18}
_FINE = 176  # crops stored taller than this are made at 384 rows, others at 256
_CELLS = (24, 48)  # columns and rows
_NAMED = {"head": "headwear", "legs": "lower", "feet": "shoes"}  # what the renderer calls otherwise
_ENOUGH = {"head": 0.45, "legs": 0.5, "feet": 0.4}  # share of a part's pixels that must show


def render_shot(bank: Path, person: Person, identity: int, domain: Domain, camera: int, seed: int) -> Shot:
    """Render one crop as the package's `render` does, with a body of the bank; the arguments are `render_parts`'s."""
    return render_parts(bank, person, identity, domain, camera, seed)[0]


def render_parts(
    bank: Path, person: Person, identity: int, domain: Domain, camera: int, seed: int
) -> tuple[Shot, npt.NDArray[np.uint8]]:
    """Render one crop, and tell what each of 48 × 24 cells of it shows: (48, 24), places in `PARTS`.

    Args:
        bank: file of `bodies.bank.make_bank`.
        person: the attributes to show.
        identity: fixes what the attributes leave open: body, shades, cuts.
        domain: the set of cameras.
        camera: its index in ``domain.cameras``.
        seed: of everything else: pose, framing, place, light, noise.
    """
    device = domain.cameras[camera]
    chance = Chance.of("body shot", seed, domain.name, identity, camera)
    direction = chance.weighted(_DIRECTIONS)
    walking = chance.happens(0.68)
    height = int(chance.middle(*device.heights))
    frame = _frame(height, direction, walking, chance)
    light = Light.drawn(device.light, device.sun * chance.between(0.5, 1.1), chance)
    pitch = max(0.0, min(38.0, chance.between(*device.pitch)))
    sight = Sight(pick_yaw(direction, chance), pitch, chance.middle(-4, 4), chance.between(3.0, 12.0))
    # Feet below the crop are drawn too: how much of a part is cut off can be told only of the whole.
    beyond = max(0, int(frame.ground + 0.06 * frame.stature) - frame.height)
    wearer, parts = dress(bank, person, identity, walking, chance)
    picture = draw_figure(wearer, parts, sight, frame, (frame.height + beyond, frame.width), light, chance)
    scene = np.asarray(paint_surroundings(bank, device, frame, chance), np.float32)
    scene = scene * (1 - picture.shadow[: frame.height, :, None])
    crop = picture.numbers[: frame.height]
    scene = np.where((crop >= 0)[:, :, None], picture.colours[: frame.height], scene)
    image = Image.fromarray(np.clip(scene, 0, 255).astype(np.uint8))
    hidden = hide_partly(image, frame, device.place.clutter, chance)
    if hidden is not None:
        crop = np.where(np.asarray(hidden) > 127, -1, crop)
    stored = max(16, (frame.width * height + frame.height // 2) // frame.height)
    shown = _shown(picture.materials, picture.numbers, crop)
    view = View(direction, walking, shown["feet"], shown["head"], shown["legs"])
    return Shot(expose(image, device, height, stored, chance), view), _parts(picture.materials, crop, wearer.look.skin)


def _parts(materials: list[Material], crop: Numbers, skin: Material) -> npt.NDArray[np.uint8]:
    """Tell which part most of each cell shows; materials know theirs, but for skin and hair."""
    known = [PARTS.index("background")]
    for material in materials:
        if material.colour == skin.colour:
            part = "skin"
        elif material.texture == "hair":
            part = "hair"
        else:
            part = _NAMED.get(material.part, material.part)
        known.append(PARTS.index(part))
    labels = np.array(known)[crop + 1]
    shares = [
        Image.fromarray((labels == part).astype(np.uint8) * 255).resize(_CELLS, Image.Resampling.BOX)
        for part in range(len(PARTS))
    ]
    most: npt.NDArray[np.uint8] = np.stack([np.asarray(share) for share in shares]).argmax(axis=0).astype(np.uint8)
    return most


def _frame(height: int, direction: Direction, walking: bool, chance: Chance) -> Frame:
    """Cut the crop around the person: loose or tight, off-centre, sometimes through the feet or the head."""
    tall = 256 if height <= _FINE else 384
    aspect = chance.middle(0.34, 0.52) + (0.05 if direction in ("left", "right") and walking else 0.0)
    width = int(tall * aspect)
    share = chance.between(1.0, 1.22) if chance.happens(0.10) else chance.middle(0.84, 1.02)
    top = chance.between(0.0, max(0.005, 1 - share)) if share < 1 else chance.between(-0.06, 0.02)
    return Frame(width, tall, share * tall, width * (0.5 + chance.middle(-0.10, 0.10)), (top + share) * tall)


def _shown(materials: list[Material], whole: Numbers, crop: Numbers) -> dict[str, bool]:
    """Tell whether enough of the head, the legs and the feet lies inside the crop and is not hidden."""
    count = len(materials)
    drawn = np.bincount(whole[whole >= 0], minlength=count)
    left = np.bincount(crop[crop >= 0], minlength=count)
    shown = {}
    for name, enough in _ENOUGH.items():
        mine = np.array([material.part == name for material in materials])
        total = int(drawn[mine].sum())
        shown[name] = total > 0 and int(left[mine].sum()) >= enough * total
    return shown
