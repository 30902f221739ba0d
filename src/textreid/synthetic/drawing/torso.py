"""The upper garment on the torso: its fall, opening, collar, folds and hem."""

from textreid.synthetic.drawing.canvas import Material, Point
from textreid.synthetic.drawing.figure import Figure

_PAD = {
    "t-shirt": 0.005, "shirt": 0.007, "polo shirt": 0.006, "sweater": 0.010, "hoodie": 0.013, "jacket": 0.014,
    "padded jacket": 0.024, "blazer": 0.010, "coat": 0.015, "vest": 0.002, "dress": 0.003,
}  # fmt: skip
_HEM = {
    "t-shirt": 0.475, "shirt": 0.465, "polo shirt": 0.480, "sweater": 0.475, "hoodie": 0.470, "jacket": 0.470,
    "padded jacket": 0.475, "blazer": 0.435, "coat": 0.310, "vest": 0.490, "dress": 0.330,
}  # fmt: skip
_OUTER = ("jacket", "padded jacket", "blazer", "coat")
# These fall straight from the chest to the hips; the others follow the waist.
_STRAIGHT = ("hoodie", "jacket", "padded jacket", "coat", "sweater", "shirt")
# The share of people who tuck it in.
_TUCKED = {"shirt": 0.45, "t-shirt": 0.2, "polo shirt": 0.25, "vest": 0.4, "sweater": 0.1}


def hem_height(figure: Figure) -> float:
    """Find where the upper garment ends, in statures above the ground."""
    cut, kind = figure.look.cut[0], figure.person.upper
    hem = _HEM[kind]
    if kind == "dress":
        # One dress in eight reaches almost to the ankles.
        return 0.10 if cut > 0.88 else hem + (cut - 0.45) * 0.16
    if kind == "coat":
        return hem + (cut - 0.5) * 0.16
    if cut < _TUCKED.get(kind, 0.0):
        return 0.545
    return hem + (cut - 0.5) * 0.06


def pad(figure: Figure) -> float:
    """Find how far the upper garment stands off the body, in statures."""
    return _PAD[figure.person.upper] * (0.7 + 0.6 * figure.look.cut[1])


def draw_torso(figure: Figure) -> None:
    """Draw the upper garment, from the neck to its hem, with collar, opening and pattern."""
    look, person = figure.look, figure.person
    whole = hem_height(figure)
    _neck(figure)
    hem = whole
    # What ends below the hips hangs free of the body from there, as a skirt does.
    if whole < 0.42:
        flare = 0.010 + 0.025 * look.cut[3] if person.upper == "coat" else 0.012 + 0.05 * look.cut[3]
        draw_skirt(figure, 0.60, whole, look.upper, flare)
        hem = 0.47
    outline, radii = _axis(figure, hem)
    (x, y), half = outline[-1], radii[-1]
    curve = (0.010 + 0.055 * figure.view.down) * figure.size
    if whole >= 0.42:
        shadow_under(figure, (x, y + curve), half)
        figure.canvas.ellipse(x, y, half, curve, look.upper, 0.88)
    figure.canvas.ribbon(outline, radii, look.upper, 1.0, caps=False)
    _slope(figure, look.upper)
    _folds(figure, outline, radii)
    _neckline(figure)
    _opening(figure, max(whole, 0.47), whole)
    _collar(figure)
    if person.upper_pattern == "logo":
        _logo(figure)


def _axis(figure: Figure, hem: float) -> tuple[list[Point], list[float]]:
    """Find axis and half-widths of the torso, so that it can be drawn like a limb."""
    extra = pad(figure)
    rows = [0.846, 0.832, 0.815, 0.77, 0.70, 0.615, 0.53]
    points, radii = [], []
    straight = figure.person.upper in _STRAIGHT
    for up in [row for row in rows if row > hem + 0.02] + [hem]:
        a, b = figure.body.slice(max(up, 0.465))
        if straight and 0.5 < up < 0.69:
            chest, hips = figure.body.slice(0.70), figure.body.slice(0.5)
            a, b = max(a, (chest[0] + hips[0]) * 0.485), max(b, (chest[1] + hips[1]) * 0.48)
        gather = -0.007 if up == hem and figure.person.upper in ("hoodie", "padded jacket", "sweater") else 0.0
        grow = extra * (0.4 if up > 0.8 else 1.0) + gather
        points.append(figure.at(0.0, 0.0, up))
        radii.append(figure.view.half_width(a + grow, b + grow) * figure.size)
    return points, radii


def _slope(figure: Figure, cover: Material) -> None:
    """Draw the slope from the neck to the arms, lit from above."""
    extra = pad(figure)
    s = figure.body.shoulder
    ends = [figure.at(side * (s + 0.6 * extra), 0.0, 0.800 + 0.5 * extra) for side in (-1, 1)]
    low = [figure.at(side * (s + 0.3 * extra), 0.0, 0.770) for side in (-1, 1)]
    tops = [figure.at(side * s * 0.36, 0.0, 0.850 + extra * 0.3) for side in (-1, 1)]
    # From the side the shoulders lie behind one another: there is no slope to see.
    if abs(ends[0][0] - ends[1][0]) > figure.size * 0.07:
        figure.canvas.polygon([low[0], ends[0], tops[0], tops[1], ends[1], low[1]], cover, 1.04)
        figure.canvas.relight([ends[0], tops[0], tops[1], ends[1]], 1.13)


def _folds(figure: Figure, axis: list[Point], radii: list[float]) -> None:
    """Draw creases from the armpits and at the waist, other ones in every picture."""
    s, chance = figure.size, figure.chance
    if figure.person.upper == "padded jacket" or len(axis) < 6:
        return
    for _ in range(chance.whole(3, 8)):
        index = chance.whole(3, len(axis))
        (x, y), r = axis[index], radii[index]
        side = chance.pick((-1.0, 1.0))
        start = (x + side * r * chance.between(0.5, 1.0), y + chance.between(-0.03, 0.03) * s)
        end = (x + side * r * chance.between(-0.4, 0.5), y + chance.between(-0.015, 0.06) * s)
        dark = chance.between(0.66, 0.9)
        figure.canvas.crease([start, end], s * 0.009, dark)
        # A fold is a dark line with a light one above it, as light comes from above.
        lift = s * 0.011
        figure.canvas.crease(
            [(start[0], start[1] - lift), (end[0], end[1] - lift)], s * 0.008, chance.between(1.04, 1.2)
        )


def draw_skirt(figure: Figure, waist: float, hem: float, cover: Material, flare: float) -> None:
    """Draw a tube from the waist that widens to its hem and makes room for the legs."""
    knees = [figure.view.place(leg[1]) for leg in figure.body.legs]
    ankles = [figure.view.place(leg[2]) for leg in figure.body.legs]
    # A hem at the knees makes room for the knees, one at the ankles for the ankles.
    low = max(0.0, min(1.0, (0.28 - hem) / 0.22))
    reach = [(k[0] + (a[0] - k[0]) * low) for k, a in zip(knees, ankles, strict=True)]
    s, extra = figure.size, pad(figure)
    points, radii = [], []
    for up in (waist, 0.53, 0.46, (0.46 + hem) / 2, hem):
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
    x, y = points[-1]
    curve = radii[-1] * 0.10 + figure.view.down * 0.06 * s
    shadow_under(figure, (x, y + curve * 0.6), radii[-1])
    figure.canvas.ellipse(x, y, radii[-1], curve, cover, 0.88)
    figure.canvas.ribbon(points, radii, cover, 1.0, caps=False)
    for _ in range(figure.chance.whole(1, 4)):
        t = figure.chance.between(-0.8, 0.8)
        folds = [(px + t * r, py) for (px, py), r in zip(points[2:], radii[2:], strict=True)]
        figure.canvas.crease(folds, s * 0.012, figure.chance.between(0.68, 0.86))


def shadow_under(figure: Figure, where: Point, half: float) -> None:
    """Darken what is already there below a hem."""
    x, y = where
    figure.canvas.relight_ellipse(x, y + 0.008 * figure.size, half * 0.95, 0.028 * figure.size, 0.56)


def _neck(figure: Figure) -> None:
    x, y = figure.at(0.0, 0.012, 0.868)
    s = figure.size
    figure.canvas.ribbon([(x, y), (x, y + 0.045 * s)], [0.030 * s, 0.034 * s], figure.skin("head"), 0.74, caps=False)


def _neckline(figure: Figure) -> None:
    kind, s = figure.person.upper, figure.size
    depth = {"vest": 0.045, "dress": 0.036, "t-shirt": 0.02, "sweater": 0.013, "hoodie": 0.01}.get(kind)
    if depth is not None and figure.facing > 0.25 and figure.person.inner_colour is None:
        x, y = figure.surface(0.852, 0)
        deep = depth * (0.6 + 0.8 * figure.look.cut[15])
        figure.canvas.ellipse(x, y, 0.036 * s * figure.facing, deep * s, figure.skin("head"), 0.84)


def _opening(figure: Figure, bottom: float, hem: float) -> None:
    """Draw what shows between the two fronts, or the seam where they meet."""
    person, look = figure.person, figure.look
    kind, extra = person.upper, pad(figure)
    if person.inner_colour is not None:
        wide = 12 + 10 * look.cut[7] if kind == "blazer" else 13 + 28 * look.cut[7]
        _strip(figure, 0.852, bottom, wide, look.inner, taper=kind == "blazer")
    elif kind == "blazer":
        _strip(figure, 0.852, 0.66, 22, look.inner, taper=True)
    elif kind in _OUTER or kind == "shirt":
        seam = [figure.surface(up, 0, extra) for up in (0.84, 0.75, 0.65, 0.55, bottom)]
        figure.canvas.crease(seam, figure.size * 0.008, 0.62)
    if kind == "coat" and hem < bottom and figure.seen(0):
        x, y = figure.surface(bottom, 0, extra)
        figure.canvas.crease([(x, y), (x, figure.at(0, 0, hem)[1])], figure.size * 0.010, 0.55)


def _strip(figure: Figure, top: float, bottom: float, angle: float, cover: Material, taper: bool) -> None:
    if not (figure.seen(-angle) or figure.seen(angle)):
        return
    steps = 5
    rows = [top + (bottom - top) * i / steps for i in range(steps + 1)]
    spread = [angle * (1 - i / steps if taper else 0.7 + 0.3 * i / steps) for i in range(steps + 1)]
    extra = pad(figure)
    left = [figure.surface(up, -wide, extra * 0.8) for up, wide in zip(rows, spread, strict=True)]
    right = [figure.surface(up, wide, extra * 0.8) for up, wide in zip(rows, spread, strict=True)]
    figure.canvas.polygon(left + right[::-1], cover, 0.95)
    for edge in (left, right):
        figure.canvas.crease(edge, figure.size * 0.008, 0.58)


def _collar(figure: Figure) -> None:
    kind, look, canvas, s = figure.person.upper, figure.look, figure.canvas, figure.size
    if kind in ("shirt", "polo shirt", "blazer", "coat", "jacket"):
        for angle in (-50, 50):
            corners = (0.868, angle * 0.5), (0.856, angle * 1.3), (0.815, angle * 0.5)
            canvas.polygon([figure.surface(up, a) for up, a in corners], look.upper, 1.1)
    if kind == "padded jacket":
        x, y = figure.at(0.0, 0.0, 0.857)
        canvas.ellipse(x, y, 0.048 * s, 0.022 * s, look.upper, 1.0)
    if kind in ("hoodie", "padded jacket", "coat") and figure.person.headwear != "hood":
        if kind != "hoodie" and look.cut[11] < 0.5:
            return
        x, y = figure.at(0.0, -0.03, 0.838)
        low = 0.048 if figure.facing < 0 else 0.024
        canvas.ellipse(x, y, 0.062 * s, low * s, look.upper, 0.94)
        if figure.facing > 0.3:
            canvas.ellipse(*figure.surface(0.85, 0), 0.03 * s, 0.018 * s, figure.skin("head"), 0.7)
        elif figure.facing < -0.3:
            canvas.relight_ellipse(x, y + low * 0.95 * s, 0.05 * s, 0.008 * s, 0.62)


def _logo(figure: Figure) -> None:
    cut, canvas = figure.look.cut[8], figure.canvas
    # Prints are on the back as well, but words tell only of one seen from the front (`phrases.Seen`).
    angle = 0.0 if figure.facing > 0.1 else 180.0
    wide, top, tall = 12 + 18 * cut, 0.765 - 0.03 * cut, 0.03 + 0.06 * cut
    if angle:
        wide, tall = wide * 0.9, tall * 0.8

    def row(up: float) -> list[Point]:
        return [figure.surface(up, angle - wide, pad(figure)), figure.surface(up, angle + wide, pad(figure))]

    shape = row(top) + row(top - tall)[::-1]
    canvas.polygon(shape, figure.look.second)
    if cut > 0.4:
        canvas.polygon(row(top - tall * 0.4) + row(top - tall * 0.6)[::-1], figure.look.upper)
