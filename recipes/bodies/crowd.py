"""Other people in the picture: drawn once per process, and pasted behind the person."""

from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from bodies.figure import Sight, draw_figure, dress
from bodies.lighting import Light
from textreid.seeding import Chance, generator
from textreid.synthetic.domains import DOMAINS
from textreid.synthetic.drawing import scene
from textreid.synthetic.drawing.camera import Camera
from textreid.synthetic.drawing.scene import Frame
from textreid.synthetic.sampling import sample_person

_CROWD = 40
_FROM = ("campus", "mall", "street", "night", "plaza")
_TALL, _WIDE, _STATURE = 176, 110, 160.0


def paint_surroundings(bank: Path, device: Camera, frame: Frame, chance: Chance) -> Image.Image:
    """Paint the place of a camera with the people behind."""

    def add(picture: Image.Image, x: float, ground: float, stature: float, chance: Chance) -> None:
        _paste(picture, chance.pick(_crowd(bank)), x, ground, stature)

    return scene.paint_surroundings(device.place, frame, chance, add)


def _paste(picture: Image.Image, someone: Image.Image, x: float, ground: float, stature: float) -> None:
    k = stature / _STATURE
    size = (max(2, int(_WIDE * k)), max(2, int(_TALL * k)))
    small = someone.resize(size, Image.Resampling.BILINEAR)
    picture.paste(small, (int(x - size[0] / 2), int(ground - size[1] * 0.96)), small)


@cache
def _crowd(bank: Path) -> tuple[Image.Image, ...]:
    return tuple(_bystander(bank, _FROM[number % len(_FROM)], number) for number in range(_CROWD))


def _bystander(bank: Path, domain: str, number: int) -> Image.Image:
    """Draw somebody as RGBA."""
    chance = Chance.of("crowd of bodies", number)
    person = sample_person(DOMAINS[domain], generator("crowd of bodies", domain, number))
    sight = Sight(chance.between(0, 360), 12.0, 0.0, 8.0)
    frame = Frame(_WIDE, _TALL, _STATURE, _WIDE / 2, _TALL * 0.96)
    light = Light.drawn(chance.between(-1, 1), chance.between(0, 0.6), chance)
    # Negative: the identities of corpora begin at 0, so nobody has a double in the crowd.
    wearer, parts = dress(bank, person, -1000 - number, chance.happens(0.6), chance)
    picture = draw_figure(wearer, parts, sight, frame, (_TALL, _WIDE), light, chance)
    alpha = np.where(picture.numbers >= 0, 255, 0).astype(np.uint8)
    return Image.fromarray(np.dstack((np.clip(picture.colours, 0, 255).astype(np.uint8), alpha)))
