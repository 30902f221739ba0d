"""What people carry and add: bags, umbrella, phone, papers, bottle, scarf."""

from dataclasses import replace

from textreid.synthetic.drawing.canvas import Material
from textreid.synthetic.drawing.figure import Figure


def draw_backpack(figure: Figure) -> None:
    """Draw the block on the back; from the front only its edges beside the torso."""
    if figure.person.bag != "backpack":
        return
    look, s = figure.look, figure.size
    half, deep = 0.068 + 0.024 * look.cut[14], 0.05 + 0.03 * look.cut[15]
    _, b = figure.body.slice(0.70)
    behind = -(b + deep * 0.8)
    top, bottom = 0.828, 0.60 - 0.05 * look.cut[14]
    points, radii = [], []
    for up, wide in ((top, 0.62), (top - 0.03, 0.92), (0.72, 1.0), (bottom + 0.03, 1.0), (bottom, 0.86)):
        points.append(figure.at(0.0, behind, up))
        radii.append(figure.view.half_width(half * wide, deep * wide) * s)
    if figure.facing < -0.2:
        x, y = points[-1]
        figure.canvas.relight_ellipse(x, y + 0.012 * s, radii[-1], 0.022 * s, 0.62)
    figure.canvas.ribbon(points, radii, look.bag, 1.0, caps=False)
    if figure.facing < -0.2:
        x, y = figure.at(0.0, behind, 0.655)
        wide = radii[2] * 0.68
        figure.canvas.crease(
            [(x - wide, y), (x - wide, y - 0.055 * s), (x + wide, y - 0.055 * s), (x + wide, y)], s * 0.008, 0.6
        )
        figure.canvas.crease(
            [figure.at(-half * 0.7, behind, 0.79), figure.at(half * 0.7, behind, 0.79)], s * 0.008, 0.62
        )


def draw_straps(figure: Figure) -> None:
    """Draw straps over the clothes: two of a backpack, one of a shoulder bag."""
    look, s, bag = figure.look, figure.size, figure.person.bag
    extra = 0.018
    if bag == "backpack":
        for angle in (-36.0, 36.0):
            if figure.seen(angle):
                points = [
                    figure.surface(up, angle * t, extra)
                    for up, t in ((0.836, 1.0), (0.79, 1.0), (0.74, 1.1), (0.67, 1.7))
                ]
                figure.canvas.line(points, max(1.5, 0.021 * s), look.bag, 0.95)
    elif bag == "shoulder bag":
        side = 1 if look.cut[14] > 0.5 else -1
        across = look.cut[15] > 0.4
        start = -side if across else side
        for turn in (0.0, 180.0):
            if not figure.seen(turn):
                continue
            flip = 1 if turn == 0.0 else -1
            angles = [
                turn + flip * a
                for a in (
                    start * 40,
                    start * 12 if across else side * 55,
                    side * 30 if across else side * 70,
                    side * 75,
                )
            ]
            points = [figure.surface(up, a, extra) for up, a in zip((0.838, 0.76, 0.66, 0.55), angles, strict=True)]
            figure.canvas.line(points, max(1.4, 0.012 * s), look.bag, 0.9)
        # On the far side of the body the torso hides it.
        if figure.view.away((side * 0.1, 0.0, 0.5)) < 0.05:
            x, y = figure.at(side * (figure.body.slice(0.5)[0] + 0.03), -0.005, 0.50)
            _bag(figure, x, y, 0.062 + 0.03 * look.cut[13], 0.05, look.bag)


def _bag(figure: Figure, x: float, y: float, a: float, b: float, cover: Material) -> None:
    """Draw a soft box around a pixel; ``a`` across when seen from the side of the person, ``b`` down, in statures."""
    s = figure.size
    # A bag hangs flat against the leg: broad from the side, narrow from the front.
    half = figure.view.half_width(a * 0.45, a) * s
    tall = b * s
    shape = [
        (x - half * 0.86, y - tall),
        (x + half * 0.86, y - tall),
        (x + half, y + tall * 0.8),
        (x + half * 0.8, y + tall),
        (x - half * 0.8, y + tall),
        (x - half, y + tall * 0.8),
    ]
    figure.canvas.polygon(shape, cover, 0.86)
    side = figure.canvas.light * half * 0.2
    figure.canvas.relight(
        [
            (x - half * 0.6 + side, y - tall * 0.8),
            (x + half * 0.6 + side, y - tall * 0.8),
            (x + half * 0.6 + side, y + tall * 0.6),
            (x - half * 0.6 + side, y + tall * 0.6),
        ],
        1.04,
    )
    figure.canvas.crease([(x - half * 0.85, y - tall * 0.35), (x + half * 0.85, y - tall * 0.35)], s * 0.007, 0.66)


def draw_in_hand(figure: Figure, side: int) -> None:
    """Draw what hangs from or is held in the hand of one arm."""
    person, look, s, canvas = figure.person, figure.look, figure.size, figure.canvas
    mode = figure.modes[side]
    x, y = figure.view.place(figure.body.arms[side][2])
    y += 0.022 * s
    other = figure.modes[1 - side]
    # Both arms may hang, but one hand carries.
    if mode == "hang" and person.bag in ("handbag", "carrier bag") and (side == 1 or other != "hang"):
        if person.bag == "handbag":
            a, b = 0.060 + 0.03 * look.cut[14], 0.045 + 0.02 * look.cut[15]
            canvas.line(
                [(x, y), (x - 0.03 * s, y + 0.045 * s), (x + 0.03 * s, y + 0.045 * s), (x, y)],
                max(1.2, 0.009 * s),
                look.bag,
            )
            _bag(figure, x, y + (0.045 + b) * s, a, b, look.bag)
        else:
            b = 0.07 + 0.03 * look.cut[14]
            canvas.polygon([(x, y), (x - 0.03 * s, y + 0.05 * s), (x + 0.03 * s, y + 0.05 * s)], look.bag, 0.8)
            _bag(figure, x, y + (0.04 + b) * s, 0.058, b, replace(look.bag, texture="folds", relief=1.0))
    if person.held == "phone" and mode in ("ear", "chest"):
        canvas.ribbon([(x, y - 0.05 * s), (x, y - 0.015 * s)], [0.011 * s, 0.011 * s], look.dark)
    elif person.held == "papers" and mode == "chest":
        half = 0.05 * s
        # White whatever the colour drawn for it: only an umbrella's colour is ever said (`Phrases.held`).
        white = replace(look.held, colour=(232.0, 232.0, 228.0))
        canvas.polygon(
            [
                (x - half, y - 0.06 * s),
                (x + half * 0.8, y - 0.075 * s),
                (x + half, y + 0.015 * s),
                (x - half * 0.8, y + 0.03 * s),
            ],
            white,
            1.05,
        )
    elif person.held == "bottle" and mode in ("chest", "hang") and (side == 0 or other not in ("chest", "hang")):
        canvas.ribbon([(x, y - 0.05 * s), (x, y + 0.035 * s)], [0.011 * s, 0.016 * s], look.held)


def draw_suitcase(figure: Figure) -> None:
    """Draw a case on wheels beside or behind the person, with its handle."""
    if figure.person.bag != "suitcase":
        return
    look, s, canvas = figure.look, figure.size, figure.canvas
    side = 0 if figure.modes[0] == "pull" else 1
    shoulder, _, wrist = figure.body.arms[side]
    lateral = shoulder[0] * 1.5
    back = -0.16 if figure.walking else -0.06
    half, deep, tall = 0.085, 0.05, 0.30 + 0.08 * look.cut[14]
    bottom, top = figure.at(lateral, back, 0.03), figure.at(lateral, back, tall)
    wide = figure.view.half_width(half, deep) * s
    hand = figure.view.place(wrist)
    canvas.line([hand, top], max(1.5, 0.012 * s), look.dark)
    canvas.ribbon([top, bottom], [wide, wide], look.bag, 0.98, caps=False)
    for offset in (-0.5, 0.0, 0.5):
        canvas.crease(
            [(top[0] + offset * wide, top[1] + 0.02 * s), (bottom[0] + offset * wide, bottom[1] - 0.02 * s)],
            s * 0.007,
            0.72,
        )
    for offset in (-0.8, 0.8):
        canvas.ellipse(bottom[0] + offset * wide, bottom[1] + 0.012 * s, 0.012 * s, 0.014 * s, look.dark)


def draw_scarf(figure: Figure) -> None:
    """Draw a scarf wound round the neck, an end hanging down in front."""
    if figure.person.scarf_colour is None:
        return
    look, s, canvas = figure.look, figure.size, figure.canvas
    x, y = figure.at(0.0, 0.005, 0.853)
    canvas.ellipse(x, y, 0.058 * s, 0.033 * s, look.scarf)
    canvas.crease([(x - 0.05 * s, y + 0.004 * s), (x + 0.05 * s, y - 0.004 * s)], s * 0.007, 0.68)
    if look.cut[12] > 0.35 and figure.seen(20):
        canvas.ribbon(
            [figure.surface(0.845, 16, 0.02), figure.surface(0.76, 18, 0.03), figure.surface(0.68, 16, 0.03)],
            [0.02 * s, 0.025 * s, 0.027 * s],
            look.scarf,
            caps=False,
        )


def draw_umbrella(figure: Figure) -> None:
    """Draw an open umbrella above the head."""
    if figure.person.held != "umbrella" or "raise" not in figure.modes:
        return
    look, s, canvas = figure.look, figure.size, figure.canvas
    hand = figure.view.place(figure.body.arms[0 if figure.modes[0] == "raise" else 1][2])
    top = (hand[0] * 0.6 + figure.view.x * 0.4, figure.at(0.0, 0.0, 1.12)[1])
    canvas.line([hand, top], max(1.4, 0.009 * s), look.dark)
    half, tall = 0.27 * s, 0.15 * s
    low = figure.at(0.0, 0.0, 1.0)[1]
    rim = [
        (top[0] + half * t, low + (0.02 if i % 2 else 0.0) * s)
        for i, t in enumerate((1.0, 0.66, 0.33, 0.0, -0.33, -0.66, -1.0))
    ]
    dome = [
        (top[0] - half * 0.86, low - tall * 0.5),
        (top[0] - half * 0.5, low - tall * 0.86),
        (top[0], low - tall),
        (top[0] + half * 0.5, low - tall * 0.86),
        (top[0] + half * 0.86, low - tall * 0.5),
    ]
    canvas.polygon(rim + dome, look.held, 0.95)
    canvas.relight([(top[0], low - tall), (top[0] + half * 0.33, low), (top[0] - half * 0.33, low)], 1.1)
