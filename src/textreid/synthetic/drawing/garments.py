"""Legs with what they wear, shoes, arms with their sleeves."""

from dataclasses import replace

from textreid.synthetic.drawing.canvas import Material, Point
from textreid.synthetic.drawing.figure import Figure
from textreid.synthetic.drawing.pose import Joint
from textreid.synthetic.drawing.torso import draw_skirt, hem_height, pad, shadow_under

# -- legs ------------------------------------------------------------------------------------------------------------


def draw_legs(figure: Figure) -> None:
    """Draw both legs with what they wear, then a skirt over them."""
    for order, side in enumerate(sorted((0, 1), key=lambda s: -figure.view.away(figure.body.legs[s][1]))):
        # From the side the farther leg is in the shadow of the nearer one; from the front both are lit nearly alike.
        level = (0.84 if abs(figure.facing) < 0.75 else 0.95) if order == 0 else 1.0
        _draw_leg(figure, side, level)
        _draw_shoe(figure, side, level)
    kind = figure.person.lower
    if kind in ("jeans", "trousers", "sweatpants", "leggings", "shorts"):
        _draw_seat(figure)
    if kind in ("skirt", "long skirt") or (kind == "dress" and figure.person.upper != "dress"):
        cut = figure.look.cut[2]
        hem = {"skirt": 0.30 + 0.09 * cut, "long skirt": 0.07 + 0.09 * cut, "dress": 0.27 + 0.1 * cut}[kind]
        draw_skirt(figure, 0.58, hem, figure.look.lower, 0.010 + 0.05 * figure.look.cut[3])


def _draw_seat(figure: Figure) -> None:
    """Draw hips and waist of trousers, with a belt where the shirt is tucked in."""
    s = figure.size
    points, radii = [], []
    for up in (0.575, 0.53, 0.485):
        a, b = figure.body.slice(up)
        points.append(figure.at(0.0, 0.0, up))
        radii.append(figure.view.half_width(a + 0.004, b + 0.004) * s)
    figure.canvas.ribbon(points, radii, figure.look.lower, 0.97, caps=False)
    if hem_height(figure) > 0.53:
        (x, y), half = figure.at(0.0, 0.0, 0.54), radii[1]
        belt = replace(figure.look.dark, part="legs")
        if figure.look.cut[13] > 0.4:
            figure.canvas.line([(x - half, y), (x + half, y)], max(1.0, 0.014 * s), belt, 1.0)
    x, y = figure.at(0.0, 0.0, 0.47)
    figure.canvas.crease([(x, y - 0.02 * s), (x, y + 0.05 * s)], 0.014 * s, 0.66)


def _draw_leg(figure: Figure, side: int, level: float) -> None:
    hip, knee, ankle = figure.body.legs[side]
    kind, thigh, cut = figure.person.lower, figure.body.thigh, figure.look.cut[4]
    bare = kind in ("shorts", "skirt", "long skirt", "dress")
    loose = {"jeans": 0.004, "trousers": 0.008, "sweatpants": 0.012, "leggings": -0.004}.get(kind, 0.0)
    hem = {"jeans": 0.026, "trousers": 0.032, "sweatpants": 0.030, "leggings": 0.021}.get(kind, 0.02)
    if kind in ("jeans", "trousers"):
        loose += 0.012 * (cut - 0.4)
        hem += 0.014 * (cut - 0.4)
    points = figure.pixels((_between(hip, knee, -0.12), _between(hip, knee, 0.4), knee, _between(knee, ankle, 0.42)))
    points.append(figure.view.place(ankle))
    s = figure.size
    if bare:
        # 38 % of the women in a skirt or a dress; no caption mentions it.
        stockings = kind != "shorts" and figure.person.gender == "woman" and figure.look.cut[5] > 0.62
        # Bare or not, what is here counts as legs: by it a view tells whether the lower body could be seen.
        cover = replace(figure.look.dark, part="legs") if stockings else figure.skin("legs")
        radii = [thigh * 0.98, thigh * 0.86, 0.034, 0.037, 0.021]
        figure.canvas.ribbon(points, [r * s for r in radii], cover, level)
        if kind == "shorts":
            end = 0.95 if cut > 0.35 else 0.6
            thighs = figure.pixels((_between(hip, knee, -0.12), _between(hip, knee, 0.4), _between(hip, knee, end)))
            figure.canvas.ribbon(
                thighs, [(thigh + d) * s for d in (0.008, 0.008, 0.007)], figure.look.lower, level, caps=False
            )
            shadow_under(figure, thighs[-1], (thigh + 0.005) * s)
        return
    radii = [thigh + loose, thigh * 0.88 + loose, 0.038 + loose, 0.037 + loose * 1.1, hem]
    figure.canvas.ribbon(points, [r * s for r in radii], figure.look.lower, level)
    if figure.look.lower.texture == "denim":
        # Denim wears pale along the thigh.
        fade = [points[0], points[1], points[2]]
        figure.canvas.ribbon(fade, [0.014 * s, 0.024 * s, 0.012 * s], figure.look.lower, level * 1.16, caps=False)
    # A third of sweatpants have a pale stripe down the side, as sportswear has.
    if kind == "sweatpants" and cut > 0.66:
        stripe = [
            (x + (side * 2 - 1) * figure.facing * r * s * 0.8, y) for (x, y), r in zip(points, radii, strict=True)
        ]
        figure.canvas.line(
            stripe, max(1.0, s * 0.009), replace(figure.look.sole, colour=(222.0, 222.0, 222.0), part="legs")
        )
    _creases(figure, points, radii, level)


def _creases(figure: Figure, points: list[Point], radii: list[float], level: float) -> None:
    """Draw folds behind the knee and above the shoe, different in every picture."""
    s, chance = figure.size, figure.chance
    for index in (2, 2, 3, 4, 4):
        (x, y), r = points[index], radii[index] * s
        up = chance.between(-0.03, 0.02) * s
        tilt = chance.between(-0.5, 0.5) * r
        side = chance.pick((-1.0, 1.0))
        figure.canvas.crease(
            [(x + side * r, y + up - tilt), (x - side * r * chance.between(0.0, 0.5), y + up + tilt)],
            s * 0.009,
            level * chance.between(0.68, 0.86),
        )


def _draw_shoe(figure: Figure, side: int, level: float) -> None:
    _, knee, ankle = figure.body.legs[side]
    kind, look, s, canvas = figure.person.shoes, figure.look, figure.size, figure.canvas
    lateral, forward, up = ankle
    lift = max(0.0, up - 0.042)
    toe_out = 0.018 * (1 if side else -1)
    heel = (lateral, forward - 0.028, lift + 0.02)
    ball = (lateral + toe_out * 0.7, forward + 0.055, lift + 0.018 - lift * 0.3)
    toe = (lateral + toe_out, forward + 0.098, lift + 0.014 - lift * 0.5)
    foot = figure.pixels((heel, ball, toe))
    wide = {"trainers": 0.023, "boots": 0.024, "sandals": 0.018, "dress shoes": 0.019, "heels": 0.016}[kind]
    if kind == "trainers":
        below = [(x, y + 0.010 * s) for x, y in foot]
        canvas.ribbon(below, [r * s for r in (wide, wide, wide * 0.8)], look.sole, level)
    if kind in ("sandals", "heels"):
        canvas.ribbon(foot, [r * s for r in (0.018, 0.017, 0.013)], figure.skin("feet"), level)
        covered = foot[1:] if kind == "heels" else [foot[0], foot[1]]
        canvas.ribbon(covered, [0.017 * s, 0.012 * s], look.shoes, level)
        if kind == "heels":
            x, y = foot[0]
            canvas.line([(x, y), (x, y + 0.03 * s)], max(1.0, 0.012 * s), look.shoes)
        return
    canvas.ribbon(foot, [r * s for r in (wide, wide, wide * 0.72)], look.shoes, level)
    if kind == "boots":
        # Men's end above the ankle, and only theirs are called ankle boots (vocabulary.toml); women's may reach higher.
        top = _between(ankle, knee, 0.28 + 0.5 * look.cut[6] * (figure.person.gender == "woman"))
        shaft = figure.pixels((top, ankle, heel))
        canvas.ribbon(shaft, [r * s for r in (0.038 if look.cut[6] > 0.5 else 0.030, 0.027, 0.024)], look.shoes, level)


# -- arms ------------------------------------------------------------------------------------------------------------


def draw_arm(figure: Figure, side: int) -> None:
    """Draw one arm: skin, sleeve, hand."""
    joints = figure.body.arms[side]
    person, look, s, r = figure.person, figure.look, figure.size, figure.body.arm
    shoulder, elbow, wrist = joints
    points = figure.pixels((shoulder, _between(shoulder, elbow, 0.5), elbow, _between(elbow, wrist, 0.5), wrist))
    far = figure.view.away(shoulder) > 0.04
    level = 0.82 if far else 1.0
    canvas, extra = figure.canvas, pad(figure) * 0.72
    hand = figure.view.place(_between(elbow, wrist, 1.17))
    if figure.modes[side] != "pocket":
        canvas.ellipse(hand[0], hand[1], 0.018 * s, 0.023 * s, figure.skin("thing"), level)
    cover = look.second if person.upper_pattern == "two-tone" and look.cut[9] > 0.4 else look.upper
    if person.sleeve != "long":
        bare = [v * s for v in (r, r * 0.92, r * 0.8, r * 0.72, r * 0.56)]
        canvas.ribbon(points, bare, figure.skin("upper"), level)
    if person.sleeve == "sleeveless":
        return
    # Sleeve and torso have one colour: without a dark line between them they would be one shape.
    edge = [(x - 0.9 * (r + extra) * s * _inward(figure, side), y) for x, y in points[:3]]
    canvas.crease(edge, s * 0.012, 0.62)
    radii = [(v + extra) * s for v in (r * 1.06, r, r * 0.86, r * 0.8, r * 0.66)]
    if person.sleeve == "short":
        end = _between(shoulder, elbow, 0.55 + 0.3 * look.cut[10])
        canvas.ribbon(figure.pixels((shoulder, end)), [radii[0], (r + extra + 0.004) * s], cover, level, caps=False)
        _cap(figure, points, [radii[0] * 0.86], cover, level)
        return
    radii[0] *= 0.82
    canvas.ribbon(points, radii, cover, level, caps=False)
    _cap(figure, points, radii, cover, level)
    _creases(figure, points, [v / s for v in radii], level)


def _cap(figure: Figure, points: list[Point], radii: list[float], cover: Material, level: float) -> None:
    """Round the sleeve over the shoulder so that it runs into the torso, and close its cuff."""
    (x, y), r = points[0], radii[0]
    inward = max(-1.0, min(1.0, (figure.view.x - x) / (0.05 * figure.size)))
    figure.canvas.ellipse(x + inward * r * 0.12, y, r, r * 0.95, cover, level * 1.06)
    if len(radii) == len(points):
        figure.canvas.ellipse(points[-1][0], points[-1][1], radii[-1], radii[-1] * 0.6, cover, level * 0.85)


def _inward(figure: Figure, side: int) -> float:
    return (1 if side else -1) * figure.facing


def _between(first: Joint, second: Joint, share: float) -> Joint:
    return (
        first[0] + (second[0] - first[0]) * share,
        first[1] + (second[1] - first[1]) * share,
        first[2] + (second[2] - first[2]) * share,
    )
