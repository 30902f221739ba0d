"""The head: skull, face, hair by length and direction, and what is worn on it."""

from textreid.synthetic.drawing.canvas import Point
from textreid.synthetic.drawing.figure import Figure


def _skull(figure: Figure) -> tuple[float, float, float, float]:
    """Return centre, half-width and half-height of the skull in pixels."""
    x, y = figure.at(0.0, 0.008, 0.932)
    # As large as `Projection.place` makes what is at the height of the head.
    s = figure.size * figure.body.head * (1 + figure.view.perspective * 0.45)
    return x, y, figure.view.half_width(0.0445, 0.054) * s, 0.066 * s


def draw_hair_behind(figure: Figure) -> None:
    """Draw long hair that falls behind the shoulders, before the torso hides it."""
    person = figure.person
    # From behind, long hair lies over the clothes: `draw_hair_in_front` draws it after the torso.
    if figure.facing < -0.2 or person.hair_length not in ("long", "shoulder-length") or _covered(figure):
        return
    x, y, a, b = _skull(figure)
    low = 2.1 if person.hair_length == "shoulder-length" else 3.0
    back = -0.3 * a * figure.view.sin
    figure.canvas.ribbon(
        [(x + back, y - b * 0.3), (x + back * 1.4, y + b * low)], [a * 1.12, a * 1.05], figure.look.hair
    )


def draw_head(figure: Figure) -> None:
    """Draw skull, face and headwear."""
    person, look, canvas = figure.person, figure.look, figure.canvas
    x, y, a, b = _skull(figure)
    skin = figure.skin("head")
    bald = person.hair_length == "bald"
    canvas.ellipse(x, y, a, b, skin if bald else look.hair)
    if bald and not _covered(figure):
        _fringe(figure, x, y, a, b)
    facing, sin, down = figure.facing, figure.view.sin, figure.view.down
    # A little of the cheek can be seen from beyond the profile.
    if facing > -0.45:
        fx = x + sin * a * 0.42
        fy = y + b * (0.16 + 0.3 * down)
        wide = a * (0.60 + 0.24 * max(0.0, facing))
        canvas.ellipse(fx, fy, wide, b * (0.80 - 0.12 * down), skin, 1.03)
        _features(figure, fx, fy, wide, b)
    if person.headwear != "none":
        _draw_headwear(figure, x, y, a, b)


def _features(figure: Figure, x: float, y: float, wide: float, b: float) -> None:
    canvas, s = figure.canvas, figure.size
    sin, facing = figure.view.sin, max(0.0, figure.facing)
    cx = x + sin * wide * 0.35
    for side in (-1, 1):
        ex = cx + side * wide * 0.42 * (0.3 + 0.7 * facing)
        # Eyes, mouth and nose are shadows on the skin: a face is some ten pixels wide.
        canvas.relight_ellipse(ex, y - b * 0.14, wide * 0.24, b * 0.09, 0.58)
    canvas.relight_ellipse(cx, y + b * 0.36, wide * 0.3, b * 0.05, 0.66)
    canvas.relight_ellipse(cx + sin * wide * 0.2, y + b * 0.14, wide * 0.14, b * 0.1, 0.86)
    if figure.person.glasses:
        half = wide * 0.86
        canvas.line([(cx - half, y - b * 0.16), (cx + half * 0.9, y - b * 0.16)], max(1.2, 0.009 * s), figure.look.dark)
        # Half wear dark lenses; the vocabulary says "glasses" of both.
        if figure.look.cut[11] > 0.5:
            for side in (-1, 1):
                canvas.ellipse(cx + side * wide * 0.4, y - b * 0.12, wide * 0.3, b * 0.13, figure.look.dark)
    # 22 % of men have a beard. It is no attribute, so no caption speaks of it.
    if figure.person.gender == "man" and figure.look.cut[12] > 0.78:
        canvas.ellipse(cx, y + b * 0.52, wide * 0.7, b * 0.24, figure.look.hair)


def _fringe(figure: Figure, x: float, y: float, a: float, b: float) -> None:
    if figure.look.cut[13] > 0.5:
        return
    for side in (-1, 1):
        figure.canvas.ellipse(x + side * a * 0.85, y + b * 0.1, a * 0.22, b * 0.3, figure.look.hair, 0.9)
    if figure.facing < 0:
        figure.canvas.ellipse(x, y + b * 0.3, a * 0.9, b * 0.28, figure.look.hair, 0.9)


def _covered(figure: Figure) -> bool:
    return figure.person.headwear in ("hood", "headscarf")


def draw_hair_in_front(figure: Figure) -> None:
    """Draw hair that lies over the clothes: down the back, beside the face, tied up."""
    person, look, canvas = figure.person, figure.look, figure.canvas
    if _covered(figure) or person.hair_length in ("bald", "short"):
        return
    x, y, a, b = _skull(figure)
    facing, sin = figure.facing, figure.view.sin
    length = person.hair_length
    if length == "bun":
        lift = 0.75 if look.cut[13] > 0.5 else 0.1
        # From the front the head hides a low bun; only a knot on top can be seen from everywhere.
        if facing < 0.6 or lift > 0.5:
            canvas.ellipse(x - sin * a * 1.1, y - b * lift, a * 0.5, b * 0.36, look.hair, 0.95)
    elif length == "ponytail":
        if facing < 0.5:
            tail = x - sin * a * 1.15
            canvas.ribbon(
                [
                    (tail, y - b * 0.1),
                    (tail - sin * a * 0.5, y + b * 0.9),
                    (tail - sin * a * 0.35, y + b * (1.5 + look.cut[13])),
                ],
                [a * 0.36, a * 0.42, a * 0.2],
                look.hair,
            )
    else:
        low = 1.35 if length == "shoulder-length" else 2.1 + 0.9 * look.cut[13]
        if facing < 0.15:
            back = x - sin * a * 0.55
            wide = 0.98 if facing < -0.5 else 0.72
            canvas.ribbon(
                [(back, y - b * 0.1), (back - sin * a * 0.2, y + b * 0.7), (back - sin * a * 0.2, y + b * low)],
                [a * wide, a * (wide + 0.06), a * wide * 0.85],
                look.hair,
            )
        else:
            for side in (-1, 1):
                ex = x + side * a * 0.95 - sin * a * 0.25
                canvas.ribbon(
                    [(ex, y - b * 0.2), (ex + side * a * 0.1, y + b * 0.7), (ex, y + b * low)],
                    [a * 0.2, a * 0.3, a * 0.22],
                    look.hair,
                    0.95,
                )


def _draw_headwear(figure: Figure, x: float, y: float, a: float, b: float) -> None:
    cover, canvas, sin = figure.look.headwear, figure.canvas, figure.view.sin
    kind = figure.person.headwear
    if kind in ("cap", "beanie"):
        top = 1.08 if kind == "cap" else 1.16
        dome = _dome(x, y - b * 0.18, a * 1.08, b * top * 0.92)
        canvas.polygon(dome, cover, 1.0)
        canvas.relight(_dome(x + canvas.light * a * 0.3, y - b * 0.3, a * 0.55, b * 0.6), 1.14)
        if kind == "cap" and figure.facing > -0.5:
            reach = x + sin * a * 1.0
            canvas.ellipse(reach, y - b * 0.16, a * (0.55 + 0.35 * abs(figure.facing)), b * 0.15, cover, 0.8)
        elif kind == "beanie":
            canvas.crease([(x - a * 1.05, y - b * 0.24), (x + a * 1.05, y - b * 0.24)], b * 0.1, 0.75)
    elif kind == "hat":
        canvas.polygon(_dome(x, y - b * 0.3, a * 0.98, b * 0.85), cover, 1.0)
        canvas.ellipse(x, y - b * 0.28, a * 1.75, b * (0.16 + 0.4 * figure.view.down), cover, 0.95)
        # Once more, over the brim: its farther half lies behind the crown.
        canvas.polygon(_dome(x, y - b * 0.42, a * 0.95, b * 0.7), cover, 1.02)
        canvas.crease([(x - a * 0.95, y - b * 0.42), (x + a * 0.95, y - b * 0.42)], b * 0.12, 0.6)
    else:
        _draw_wrap(figure, x, y, a, b)


def _draw_wrap(figure: Figure, x: float, y: float, a: float, b: float) -> None:
    """Draw a hood or a headscarf: all but the face."""
    canvas, sin, cover = figure.canvas, figure.view.sin, figure.look.headwear
    canvas.ellipse(x, y - b * 0.02, a * 1.22, b * 1.14, cover)
    fall = [(x, y + b * 0.4), (x - sin * a * 0.1, y + b * 1.5)]
    canvas.ribbon(fall, [a * 1.15, a * 1.5], cover, 0.97)
    if figure.facing > -0.3:
        fx = x + sin * a * 0.55
        fy = y + b * 0.14
        wide = a * (0.42 + 0.3 * max(0.0, figure.facing))
        canvas.ellipse(fx, fy, wide, b * 0.72, figure.skin("head"), 0.92)
        _features(figure, fx, fy, wide, b)


def _dome(x: float, y: float, a: float, b: float) -> list[Point]:
    """Return the upper half of an ellipse, as a closed outline."""
    curve = (
        (-1.0, 0.0),
        (-0.97, -0.3),
        (-0.8, -0.65),
        (-0.5, -0.89),
        (0.0, -1.0),
        (0.5, -0.89),
        (0.8, -0.65),
        (0.97, -0.3),
        (1.0, 0.0),
    )
    return [(x + dx * a, y + dy * b) for dx, dy in curve]
