"""The place behind a person: a ground that runs to a horizon, and what stands on it. Its colours ignore the clothes."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw

from textreid.seeding import Chance
from textreid.synthetic.drawing import textures
from textreid.synthetic.palette import RGB, from_hsv, mix, scale

Ground = Literal["asphalt", "paving", "grass", "tiles", "polished"]
Behind = Literal["wall", "shops", "cars", "trees", "fence", "glass", "train"]


@dataclass(frozen=True)
class Place:
    """Place that a camera looks at."""

    ground: Ground
    ground_colour: RGB
    second_colour: RGB  # joints, kerbs, markings
    behind: Behind
    behind_colour: RGB
    horizon: float  # row where the ground ends, as a share of the crop; below 0: nothing but ground
    clutter: float  # how much stands about


def make_place(ground: Ground, behind: Behind, horizon: float, clutter: float, chance: Chance) -> Place:
    """Make a place of a kind, with colours of its own."""
    # Every ground draws its colour and one is taken, so that what is drawn later is the same for all of them.
    base: dict[Ground, RGB] = {
        "asphalt": from_hsv(chance.between(200, 240), chance.between(0.0, 0.08), chance.between(0.34, 0.56)),
        "paving": from_hsv(chance.between(15, 50), chance.between(0.02, 0.20), chance.between(0.48, 0.78)),
        "grass": from_hsv(chance.between(70, 110), chance.between(0.25, 0.5), chance.between(0.34, 0.55)),
        "tiles": from_hsv(chance.between(20, 60), chance.between(0.0, 0.16), chance.between(0.55, 0.86)),
        "polished": from_hsv(chance.between(25, 50), chance.between(0.02, 0.22), chance.between(0.6, 0.88)),
    }
    colour = base[ground]
    second = scale(colour, chance.between(0.7, 0.9) if chance.happens(0.6) else chance.between(1.08, 1.22))
    # The product of two uniforms is mostly small: walls are dull, and now and then one is not.
    wall = from_hsv(chance.between(0, 360), chance.between(0.0, 0.28) * chance.unit(), chance.between(0.3, 0.85))
    if behind == "trees":
        wall = from_hsv(chance.between(75, 125), chance.between(0.25, 0.5), chance.between(0.2, 0.42))
    return Place(ground, colour, second, behind, wall, horizon, clutter)


def paint_place(place: Place, width: int, height: int, chance: Chance) -> Image.Image:
    """Paint the place without the person, ``width`` × ``height`` pixels, drawn at half that size."""
    # A quarter of the pixels, and even so about an eighth of the time that a crop takes.
    w, h = (width + 1) // 2, (height + 1) // 2
    light = chance.between(0.86, 1.12)
    image = Image.new("RGB", (w, h), ink(scale(place.ground_colour, light)))
    _litter(image, (0, 0, w, h), chance.between(0.0, 0.22) * place.clutter, chance)
    draw = ImageDraw.Draw(image)
    # People walk nearer and farther under one camera, and the horizon behind them moves.
    horizon = int((place.horizon + chance.middle(-0.16, 0.16)) * h)
    _ground(draw, place, w, h, horizon, chance)
    if horizon > 2:
        _behind(draw, place, w, horizon, chance)
        _litter(image, (0, 0, w, min(h, horizon)), chance.between(0.1, 0.85), chance)
        draw.line([(0, horizon), (w, horizon)], fill=ink(scale(place.ground_colour, chance.between(0.5, 0.9))), width=2)
        if place.behind == "cars":
            _car(draw, chance.between(-0.6, 0.6) * w, horizon + 3, w * chance.between(0.8, 1.6), chance)
    # Rounded up or down by chance, so that the mean is exactly three times the clutter.
    for _ in range(int(place.clutter * 3 + chance.unit())):
        _clutter(draw, place, w, h, horizon, chance)
    pixels = np.asarray(image, np.float32)
    rough = {"asphalt": 6.0, "paving": 5.0, "grass": 13.0}.get(place.ground, 3.0) * chance.between(0.3, 1.2)
    field = np.float32(rough) * textures.crop(textures.noise(3, 2), h, w, chance)
    field = field + np.float32(chance.between(4, 16)) * textures.crop(textures.noise(40, 30), h, w, chance)
    if chance.happens(0.25):
        field = field + _dapple(h, w, chance)
    speckled = np.clip(pixels + field[:, :, None], 0, 255).astype(np.uint8)
    return Image.fromarray(speckled).resize((width, height), Image.Resampling.BILINEAR)


def _litter(image: Image.Image, box: tuple[int, int, int, int], share: float, chance: Chance) -> None:
    """Blend random structure into a part of the picture."""
    left, top, right, bottom = box
    if bottom - top < 3 or share < 0.02:
        return
    heap = textures.litter(chance.whole(0, 6))
    tall = min(heap.height, max(8, int((bottom - top) * chance.between(0.5, 1.5))))
    wide = min(heap.width, max(8, int((right - left) * chance.between(0.5, 1.5))))
    x, y = chance.whole(0, heap.width - wide + 1), chance.whole(0, heap.height - tall + 1)
    size = (right - left, bottom - top)
    patch = heap.resize(size, Image.Resampling.BILINEAR, box=(x, y, x + wide, y + tall))
    image.paste(Image.blend(image.crop(box), patch, share), (left, top))


def _dapple(h: int, w: int, chance: Chance) -> textures.Field:
    """Draw hard-edged shadows of trees and buildings on the ground."""
    field = textures.crop(textures.noise(60, 40), h, w, chance)
    step = np.clip((field - np.float32(chance.between(-0.3, 0.5))) * np.float32(6), 0, 1)
    shadow: textures.Field = np.float32(-chance.between(15, 55)) * step
    return shadow


def _ground(draw: ImageDraw.ImageDraw, place: Place, w: int, h: int, horizon: int, chance: Chance) -> None:
    line = ink(place.second_colour)
    tilt = chance.between(-0.35, 0.35)
    if place.ground in ("tiles", "paving", "polished") and chance.happens(0.55):
        line = ink(mix(place.ground_colour, place.second_colour, chance.between(0.2, 0.9)))
        step, y = chance.between(5, 22), h + chance.between(0, 10)
        # Joints come closer with distance, down to 2 pixels, which the enlarging would blur into a grey.
        far = max(horizon, -h // 2)
        while y > far and step > 2.2:
            draw.line([(0, y - tilt * w * 0.5), (w, y + tilt * w * 0.5)], fill=line)
            y -= step
            step *= 0.9 if horizon > 0 else 0.98
        vanish, gap = chance.between(0, w), chance.between(8, 26)
        spread = 0.35 if horizon > 0 else 0.8
        for i in range(-6, 7):
            foot = w / 2 + i * gap
            draw.line([(foot, h), (vanish + (foot - vanish) * spread, max(0, horizon))], fill=line)
    for _ in range(chance.whole(0, 3)):
        kind = chance.unit()
        y = chance.between(max(0, horizon), h)
        thick = chance.between(2, 10)
        slope = chance.between(-0.5, 0.5) * w
        colour = (
            place.second_colour
            if kind < 0.4
            else (225.0, 225.0, 220.0)
            if kind < 0.65
            else mix(place.ground_colour, from_hsv(chance.between(60, 120), 0.4, 0.4), 0.8)
            if kind < 0.8
            else scale(place.ground_colour, chance.between(0.5, 1.25))
        )
        if kind > 0.75:
            thick *= 3
        if chance.happens(0.5):
            draw.polygon(
                [(0, y - slope / 2), (w, y + slope / 2), (w, y + slope / 2 + thick), (0, y - slope / 2 + thick)],
                fill=ink(colour),
            )
        else:
            x = chance.between(-0.2, 1.2) * w
            draw.polygon(
                [(x, max(0, horizon)), (x + thick * 0.6, max(0, horizon)), (x + slope + thick, h), (x + slope, h)],
                fill=ink(colour),
            )


def _behind(draw: ImageDraw.ImageDraw, place: Place, w: int, horizon: int, chance: Chance) -> None:
    colour = scale(place.behind_colour, chance.between(0.75, 1.2))
    draw.rectangle((0, 0, w, horizon), fill=ink(colour))
    kind = place.behind
    for _ in range(chance.whole(2, 6)):
        x, y = chance.between(-0.3, 1.0) * w, chance.between(-0.4, 0.8) * horizon
        a, b = chance.between(0.15, 0.7) * w, chance.between(0.2, 0.9) * horizon
        if kind == "trees":
            for _ in range(3):
                ex, ey = x + chance.between(-8, 8), y + chance.between(-8, 8)
                draw.ellipse((ex, ey, ex + a, ey + b), fill=ink(scale(colour, chance.between(0.55, 1.5))))
        elif kind in ("shops", "cars"):
            other = from_hsv(
                chance.between(0, 360), chance.between(0.0, 0.75) * chance.unit(), chance.between(0.1, 0.95)
            )
            draw.rectangle((x, y, x + a, y + b), fill=ink(other))
            draw.rectangle((x + 1, y + 1, x + 1 + a * 0.8, y + 1 + b * 0.5), fill=ink(scale(other, 0.6)))
        elif kind == "fence":
            for i in range(0, w, 5):
                draw.line([(i, 0), (i, horizon)], fill=ink(scale(colour, 0.6)))
        else:
            draw.rectangle((x, y, x + a * 0.6, y + b), fill=ink(scale(colour, chance.between(0.4, 1.4))))
            draw.line([(x, y), (x, y + b)], fill=ink(scale(colour, 0.5)))


def car_shape(x: float, top: float, length: float, tall: float) -> list[list[tuple[float, float]]]:
    """Outline the cabin and the body of a car whose roof is at ``top``."""
    waist, floor = top + tall * 0.42, top + tall * 0.9
    cabin = [(x + length * 0.16, waist), (x + length * 0.3, top), (x + length * 0.72, top), (x + length * 0.86, waist)]
    body = [(x, waist), (x + length, waist), (x + length, floor), (x, floor)]
    return [cabin, body]


def _car(draw: ImageDraw.ImageDraw, x: float, bottom: float, length: float, chance: Chance) -> None:
    paint = from_hsv(chance.between(0, 360), chance.between(0, 0.7) * chance.unit(), chance.between(0.12, 0.95))
    tall = length * 0.36
    cabin, body = car_shape(x, bottom - tall, length, tall)
    draw.polygon(cabin, fill=(58, 64, 70))
    draw.polygon(body, fill=ink(paint))
    draw.line([*body[:2]], fill=ink(scale(paint, 1.2)))
    for share in (0.2, 0.8):
        r = tall * 0.2
        draw.ellipse((x + length * share - r, bottom - 2 * r, x + length * share + r, bottom), fill=(28, 28, 30))


def _clutter(draw: ImageDraw.ImageDraw, place: Place, w: int, h: int, horizon: int, chance: Chance) -> None:
    kind = chance.unit()
    colour = from_hsv(chance.between(0, 360), chance.between(0, 0.8) * chance.unit(), chance.between(0.12, 0.9))
    x = chance.between(-0.1, 1.1) * w
    if kind < 0.45:
        thick = chance.between(1.0, 5.0)
        foot = chance.between(max(horizon, 0) + 2, h)
        draw.rectangle((x, -2 if kind < 0.25 else foot - h * 0.3, x + thick, foot), fill=ink(scale(colour, 0.6)))
    elif kind < 0.6:
        _car(draw, x - w * 0.5, chance.between(max(horizon, 0), h), w * chance.between(0.7, 1.5), chance)
    else:
        a, b = chance.between(3, 0.3 * w + 4), chance.between(4, 0.2 * h)
        y = chance.between(max(horizon - b, -b), h)
        draw.rectangle((x, y, x + a, y + b), fill=ink(colour))
        draw.rectangle((x, y + b * 0.8, x + a, y + b), fill=ink(scale(colour, 0.55)))


def ink(colour: RGB) -> tuple[int, int, int]:
    """Return a colour as whole numbers that can be drawn with."""
    red, green, blue = (max(0, min(255, int(v))) for v in colour)
    return (red, green, blue)
