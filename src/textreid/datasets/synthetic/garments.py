"""Clothes: legs with trousers and shoes, the trunk with its garment, arms with sleeves."""

from dataclasses import replace
from typing import TYPE_CHECKING

from textreid.datasets.synthetic.canvas import Material, Point
from textreid.datasets.synthetic.pose import Joint

if TYPE_CHECKING:
    from textreid.datasets.synthetic.figure import Figure

_PAD = {
    "t-shirt": 0.006, "shirt": 0.008, "polo shirt": 0.006, "sweater": 0.012, "hoodie": 0.015, "jacket": 0.017,
    "padded jacket": 0.028, "blazer": 0.011, "coat": 0.018, "vest": 0.003, "dress": 0.004,
}  # fmt: skip
_HEM = {
    "t-shirt": 0.475, "shirt": 0.465, "polo shirt": 0.480, "sweater": 0.475, "hoodie": 0.470, "jacket": 0.470,
    "padded jacket": 0.475, "blazer": 0.435, "coat": 0.310, "vest": 0.490, "dress": 0.330,
}  # fmt: skip
OUTER = ("jacket", "padded jacket", "blazer", "coat")
_STRAIGHT = ("hoodie", "jacket", "padded jacket", "coat", "sweater", "shirt")


def hem_height(figure: "Figure") -> float:
    """Where the upper garment ends, in statures above the ground."""
    cut = figure.look.cut[0]
    hem = _HEM[figure.person.upper]
    if figure.person.upper == "dress":
        return 0.10 if cut > 0.88 else hem + (cut - 0.45) * 0.16
    if figure.person.upper == "coat":
        return hem + (cut - 0.5) * 0.14
    return hem + (cut - 0.5) * 0.05


def pad(figure: "Figure") -> float:
    """How far the upper garment stands off the body, in statures."""
    return _PAD[figure.person.upper] * (0.75 + 0.5 * figure.look.cut[1])


# -- legs ------------------------------------------------------------------------------------------------------------


def draw_legs(figure: "Figure") -> None:
    """Both legs with what they wear, then a skirt over them."""
    for order, side in enumerate(sorted((0, 1), key=lambda s: -figure.view.away(figure.body.legs[s][1]))):
        level = (0.84 if abs(figure.facing) < 0.75 else 0.95) if order == 0 else 1.0
        _draw_leg(figure, side, level)
        _draw_shoe(figure, side, level)
    kind = figure.person.lower
    if kind in ("skirt", "long skirt") or (kind == "dress" and figure.person.upper != "dress"):
        cut = figure.look.cut[2]
        hem = {"skirt": 0.30 + 0.09 * cut, "long skirt": 0.07 + 0.09 * cut, "dress": 0.27 + 0.1 * cut}[kind]
        _draw_skirt(figure, 0.58, hem, figure.look.lower, 0.010 + 0.05 * figure.look.cut[3])


def _draw_leg(figure: "Figure", side: int, level: float) -> None:
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
        stockings = kind != "shorts" and figure.person.gender == "woman" and figure.look.cut[5] > 0.62
        cover = replace(figure.look.dark, part="legs") if stockings else figure.skin("legs")
        radii = [thigh * 0.98, thigh * 0.86, 0.034, 0.037, 0.021]
        figure.canvas.ribbon(points, [r * s for r in radii], cover, level)
        if kind == "shorts":
            end = 0.95 if cut > 0.35 else 0.6
            thighs = figure.pixels((_between(hip, knee, -0.12), _between(hip, knee, 0.4), _between(hip, knee, end)))
            figure.canvas.ribbon(
                thighs, [(thigh + d) * s for d in (0.008, 0.008, 0.007)], figure.look.lower, level, caps=False
            )
            _shadow_under(figure, thighs[-1], (thigh + 0.005) * s)
        return
    radii = [thigh + loose, thigh * 0.88 + loose, 0.038 + loose, 0.037 + loose * 1.1, hem]
    figure.canvas.ribbon(points, [r * s for r in radii], figure.look.lower, level)
    if figure.look.lower.texture == "denim":
        fade = [points[0], points[1], points[2]]
        figure.canvas.ribbon(fade, [0.014 * s, 0.024 * s, 0.012 * s], figure.look.lower, level * 1.16, caps=False)
    if kind == "sweatpants" and cut > 0.66:
        stripe = [
            (x + (side * 2 - 1) * figure.facing * r * s * 0.8, y) for (x, y), r in zip(points, radii, strict=True)
        ]
        figure.canvas.line(
            stripe, max(1.0, s * 0.009), replace(figure.look.sole, colour=(222.0, 222.0, 222.0), part="legs")
        )
    _creases(figure, points, radii, level)


def _creases(figure: "Figure", points: list[Point], radii: list[float], level: float) -> None:
    """Folds behind the knee and above the shoe, different in every picture."""
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


def _draw_shoe(figure: "Figure", side: int, level: float) -> None:
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
        top = _between(ankle, knee, 0.28 + 0.5 * look.cut[6] * (figure.person.gender == "woman"))
        shaft = figure.pixels((top, ankle, heel))
        canvas.ribbon(shaft, [r * s for r in (0.038 if look.cut[6] > 0.5 else 0.030, 0.027, 0.024)], look.shoes, level)


# -- trunk -----------------------------------------------------------------------------------------------------------


def draw_trunk(figure: "Figure") -> None:
    """The upper garment, from the neck to its hem, with collar, opening and pattern."""
    look, person = figure.look, figure.person
    hem = hem_height(figure)
    cover = look.upper
    if hem < 0.42:
        flare = 0.016 + 0.03 * look.cut[3] if person.upper == "coat" else 0.012 + 0.05 * look.cut[3]
        _draw_skirt(figure, 0.60, hem, cover, flare)
        hem = 0.47
    outline, radii = _trunk_axis(figure, hem)
    _shadow_under(figure, outline[-1], radii[-1])
    figure.canvas.ribbon(outline, radii, cover, 1.0, caps=False)
    _shoulders(figure, cover)
    _neck(figure)
    _front_details(figure, hem_height(figure))


def _trunk_axis(figure: "Figure", hem: float) -> tuple[list[Point], list[float]]:
    """Axis and half-widths of the trunk, so that it can be drawn like a limb."""
    extra = pad(figure)
    rows = [0.838, 0.815, 0.77, 0.70, 0.615, 0.53]
    points, radii = [], []
    straight = figure.person.upper in _STRAIGHT
    for up in [row for row in rows if row > hem + 0.02] + [hem]:
        a, b = figure.body.slice(max(up, 0.465))
        if straight and 0.5 < up < 0.69:
            chest, hips = figure.body.slice(0.70), figure.body.slice(0.5)
            a, b = max(a, (chest[0] + hips[0]) * 0.49), max(b, (chest[1] + hips[1]) * 0.48)
        gather = -0.006 if up == hem and figure.person.upper in ("hoodie", "padded jacket", "sweater") else 0.0
        grow = extra * (0.4 if up > 0.8 else 1.0) + gather
        points.append(figure.at(0.0, 0.0, up))
        radii.append(figure.view.half_width(a + grow, b + grow) * figure.size)
    return points, radii


def _shoulders(figure: "Figure", cover: Material) -> None:
    """The slope from the neck to the arms, which a trunk made of level slices lacks."""
    extra = pad(figure)
    s = figure.body.shoulder + extra * 0.5
    ends = [figure.at(side * s, 0.0, 0.792) for side in (-1, 1)]
    tops = [figure.at(side * s * 0.42, 0.0, 0.842 + extra * 0.3) for side in (-1, 1)]
    if abs(ends[0][0] - ends[1][0]) > figure.size * 0.06:
        figure.canvas.polygon([ends[0], tops[0], tops[1], ends[1]], cover, 1.06)


def _draw_skirt(figure: "Figure", waist: float, hem: float, cover: Material, flare: float) -> None:
    """A tube from the waist that widens to its hem and makes room for the legs."""
    knees = [figure.view.place(leg[1]) for leg in figure.body.legs]
    ankles = [figure.view.place(leg[2]) for leg in figure.body.legs]
    low = max(0.0, min(1.0, (0.28 - hem) / 0.22))
    reach = [(k[0] + (a[0] - k[0]) * low) for k, a in zip(knees, ankles, strict=True)]
    s, extra = figure.size, pad(figure)
    points, radii = [], []
    rows = [waist, 0.53, 0.46, (0.46 + hem) / 2, hem]
    for up in rows:
        a, b = figure.body.slice(max(up, 0.465))
        t = max(0.0, (0.5 - up) / (0.5 - hem))
        x, y = figure.at(0.0, 0.0, up)
        half = figure.view.half_width(a + extra + flare * t, b + extra + flare * t) * s
        left, right = x - half, x + half
        if t > 0:
            left = min(left, left + (min(reach) - 0.03 * s - left) * t)
            right = max(right, right + (max(reach) + 0.03 * s - right) * t)
        points.append(((left + right) / 2, y))
        radii.append((right - left) / 2)
    _shadow_under(figure, points[-1], radii[-1])
    figure.canvas.ribbon(points, radii, cover, 1.0, caps=False)
    x, y = points[-1]
    figure.canvas.ellipse(x, y, radii[-1], radii[-1] * 0.12 + figure.view.down * 0.05 * s, cover, 0.9)


def _shadow_under(figure: "Figure", where: Point, half: float) -> None:
    """The dark below a hem, drawn on what is already there."""
    x, y = where
    figure.canvas.relight_ellipse(x, y + 0.012 * figure.size, half * 0.95, 0.026 * figure.size, 0.62)


def _neck(figure: "Figure") -> None:
    x, y = figure.at(0.0, 0.012, 0.862)
    s = figure.size
    figure.canvas.ribbon([(x, y), (x, y + 0.035 * s)], [0.031 * s, 0.033 * s], figure.skin("head"), 0.72)


def _front_details(figure: "Figure", hem: float) -> None:
    """Opening, lapels, collar, buttons, zip, hood, logo: what tells garments apart."""
    person, look, canvas, s = figure.person, figure.look, figure.canvas, figure.size
    kind, extra = person.upper, pad(figure)
    if person.inner_colour is not None:
        wide = 12 + 26 * look.cut[7] if kind != "blazer" else 12 + 10 * look.cut[7]
        _front_strip(figure, 0.845, max(hem, 0.47), wide, look.inner, taper=kind == "blazer")
    elif kind == "blazer":
        _front_strip(figure, 0.845, 0.66, 22, look.inner, taper=True)
    elif kind in OUTER or kind == "shirt":
        canvas.crease([figure.surface(up, 0, extra) for up in (0.84, 0.75, 0.65, 0.55, max(hem, 0.47))], s * 0.008, 0.6)
    if kind in ("t-shirt", "vest", "dress", "sweater"):
        depth = {"vest": 0.05, "dress": 0.04}.get(kind, 0.018)
        if figure.seen(0):
            x, y = figure.surface(0.842, 0)
            canvas.ellipse(x, y, 0.036 * s * max(0.4, figure.facing), depth * s, figure.skin("head"), 0.86)
    if kind in ("shirt", "polo shirt", "blazer", "coat", "jacket"):
        for angle in (-50, 50):
            collar = [
                figure.surface(0.862, angle * 0.5),
                figure.surface(0.85, angle * 1.3),
                figure.surface(0.81, angle * 0.5),
            ]
            canvas.polygon(collar, look.upper, 1.12)
    if kind == "padded jacket":
        x, y = figure.at(0.0, 0.0, 0.855)
        canvas.ellipse(x, y, 0.052 * s, 0.022 * s, look.upper, 1.0)
    if kind == "hoodie" and person.headwear != "hood":
        x, y = figure.at(0.0, -0.03, 0.835)
        low = 0.045 if figure.facing < 0 else 0.026
        canvas.ellipse(x, y, 0.066 * s, low * s, look.upper, 0.95)
        if figure.facing > 0.3:
            canvas.ellipse(*figure.surface(0.845, 0), 0.03 * s, 0.02 * s, figure.skin("head"), 0.7)
    if person.upper_pattern == "logo":
        _logo(figure)


def _front_strip(figure: "Figure", top: float, bottom: float, angle: float, cover: Material, taper: bool) -> None:
    if not (figure.seen(-angle) or figure.seen(angle)):
        return
    steps = 5
    rows = [top + (bottom - top) * i / steps for i in range(steps + 1)]
    spread = [angle * (1 - i / steps if taper else 0.7 + 0.3 * i / steps) for i in range(steps + 1)]
    extra = pad(figure)
    left = [figure.surface(up, -wide, extra * 0.8) for up, wide in zip(rows, spread, strict=True)]
    right = [figure.surface(up, wide, extra * 0.8) for up, wide in zip(rows, spread, strict=True)]
    figure.canvas.polygon(left + right[::-1], cover, 0.97)
    for edge in (left, right):
        figure.canvas.crease(edge, figure.size * 0.007, 0.6)


def _logo(figure: "Figure") -> None:
    cut, s = figure.look.cut[8], figure.size
    angle = 0.0 if figure.seen(0) and figure.facing > 0.2 else 180.0
    if angle and cut < 0.4:
        return
    wide, top, tall = 14 + 18 * cut, 0.765 - 0.03 * cut, 0.03 + 0.05 * cut
    rows = (top, top - tall)
    points = [
        figure.surface(up, angle + a, pad(figure))
        for up, a in zip((rows[0], rows[0], rows[1], rows[1]), (-wide, wide, wide, -wide), strict=True)
    ]
    figure.canvas.polygon(points, figure.look.second, 1.0)
    (x0, y0), (x1, y1) = points[0], points[2]
    if cut > 0.5:
        figure.canvas.polygon(
            [
                (x0, (y0 + y1) / 2),
                (x1, (y0 + y1) / 2),
                (x1, (y0 + y1) / 2 + 0.012 * s),
                (x0, (y0 + y1) / 2 + 0.012 * s),
            ],
            figure.look.upper,
        )


# -- arms ------------------------------------------------------------------------------------------------------------


def draw_arm(figure: "Figure", side: int) -> None:
    """One arm: skin, sleeve, hand."""
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
    edge = [(x - 0.9 * (r + extra) * s * _inward(figure, side), y) for x, y in points[:3]]
    canvas.crease(edge, s * 0.012, 0.62)
    radii = [(v + extra) * s for v in (r * 1.06, r, r * 0.86, r * 0.8, r * 0.66)]
    if person.sleeve == "short":
        end = _between(shoulder, elbow, 0.55 + 0.3 * look.cut[10])
        canvas.ribbon(figure.pixels((shoulder, end)), [radii[0], (r + extra + 0.004) * s], cover, level, caps=False)
        x, y = figure.view.place(shoulder)
        canvas.ellipse(x, y, radii[0], radii[0] * 0.9, cover, level)
        return
    canvas.ribbon(points, radii, cover, level)
    _creases(figure, points, [v / s for v in radii], level)


def _inward(figure: "Figure", side: int) -> float:
    return (1 if side else -1) * figure.facing


def _between(first: Joint, second: Joint, share: float) -> Joint:
    return (
        first[0] + (second[0] - first[0]) * share,
        first[1] + (second[1] - first[1]) * share,
        first[2] + (second[2] - first[2]) * share,
    )
