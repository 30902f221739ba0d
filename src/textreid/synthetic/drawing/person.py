"""One person: parts in the order in which they hide each other, then colours: cloth, patterns, the fall of light."""

import numpy as np
import numpy.typing as npt
from PIL import ImageFilter

from textreid.seeding import Chance
from textreid.synthetic.drawing import accessories, garments, head, textures, torso
from textreid.synthetic.drawing.figure import Figure

_STATURE = 230.0  # pixels for which blur and texture sizes are stated

Colours = npt.NDArray[np.float32]
Labels = npt.NDArray[np.uint8]


def draw_figure(figure: Figure) -> None:
    """Draw everything from far to near."""
    # A case stands beside or behind its owner: whatever overlaps it lies in front.
    accessories.draw_suitcase(figure)
    # From the front the torso has to hide most of a backpack; from behind it lies over the torso and the straps.
    if figure.facing > -0.15:
        accessories.draw_backpack(figure)
    order = sorted((0, 1), key=lambda side: -figure.view.away(figure.body.arms[side][1]))
    behind = [side for side in order if _arm_depth(figure, side) > 0.035]
    for side in behind:
        garments.draw_arm(figure, side)
        accessories.draw_in_hand(figure, side)
    head.draw_hair_behind(figure)
    garments.draw_legs(figure)
    torso.draw_torso(figure)
    head.draw_head(figure)
    accessories.draw_scarf(figure)
    accessories.draw_straps(figure)
    if figure.facing <= -0.15:
        accessories.draw_backpack(figure)
    head.draw_hair_in_front(figure)
    for side in order:
        if side not in behind:
            garments.draw_arm(figure, side)
            accessories.draw_in_hand(figure, side)
    accessories.draw_umbrella(figure)


def _arm_depth(figure: Figure, side: int) -> float:
    shoulder, elbow, wrist = figure.body.arms[side]
    away = figure.view.away
    # The wrist counts double: a hand held before the chest must not vanish because the shoulder is farther away.
    return (away(shoulder) + away(elbow) + 2 * away(wrist)) / 4


def develop(figure: Figure, sun: float, chance: Chance) -> tuple[Colours, Labels]:
    """Turn a drawn figure into (H, W, 3) float32 colours in 0–255 and its (H, W) labels, 0 where nothing was drawn."""
    canvas = figure.canvas
    unit = figure.size / _STATURE
    labels = np.array(canvas.labels)
    # Before the outlines are bent, so that stripes bend with the cloth.
    _apply_pattern(figure, labels)
    # Two box blurs are near enough to a Gaussian one, which Pillow makes of three.
    shade = canvas.shade.filter(ImageFilter.BoxBlur(1.5 * unit)).filter(ImageFilter.BoxBlur(1.0 * unit))
    bent = _bend(labels.shape, unit, chance)
    # Labels are moved whole: the mean of two numbers would be a third material.
    labels = labels.ravel()[bent]
    light = np.asarray(shade).ravel()[bent].astype(np.float32) * np.float32(1 / 128)
    light = np.float32(1) + (light - np.float32(1)) * np.float32(0.6 + 0.8 * sun)
    light += _relief(figure, labels, 0.85 + 0.7 * sun, chance)
    light *= _falloff(figure, sun, chance)
    # Only a guard: the least light on 120 drawn people was 0.26.
    np.maximum(light, np.float32(0.12), out=light)
    table = np.zeros((len(canvas.materials) + 1, 3), np.float32)
    for number, material in enumerate(canvas.materials, start=1):
        table[number] = material.colour
    colours = table[labels]
    colours *= light[:, :, None]
    # Dark cloth still reflects the sky: without this a black coat would be a hole.
    gloss = np.maximum(light - np.float32(0.72), np.float32(0)) * np.float32(16 + 12 * sun)
    colours += gloss[:, :, None]
    return colours, labels


def _bend(shape: tuple[int, ...], unit: float, chance: Chance) -> npt.NDArray[np.int32]:
    """Make flat indices that shift pixels by a smooth random field: cloth and bodies have no straight outlines."""
    h, w = shape
    # Two sizes and not one for each stature: a field of noise is made once per process and size, and kept.
    size = 3 if unit > 1.25 else 2
    reach = np.float32(chance.between(0.6, 1.9) * unit)
    across = textures.crop(textures.noise(10 * size // 2, 13 * size // 2), h, w, chance) * reach
    down = textures.crop(textures.noise(12 * size // 2, 9 * size // 2), h, w, chance) * reach
    rows = np.arange(h, dtype=np.int32)[:, None] + down.astype(np.int32)
    columns = np.arange(w, dtype=np.int32)[None, :] + across.astype(np.int32)
    index: npt.NDArray[np.int32] = np.clip(rows, 0, h - 1) * np.int32(w) + np.clip(columns, 0, w - 1)
    return index


def _falloff(figure: Figure, sun: float, chance: Chance) -> Colours:
    """Compute light from above and from one side, (H, W)."""
    h, w = figure.canvas.labels.height, figure.canvas.labels.width
    unit = figure.size / _STATURE
    head = np.float32(figure.view.place((0.0, 0.0, 1.0))[1])
    drop = chance.between(0.08, 0.34)
    rows = np.float32(1.06 + drop * 0.35) - (np.arange(h, dtype=np.float32) - head) * np.float32(drop / figure.size)
    columns = np.arange(w, dtype=np.float32) - np.float32(figure.view.x)
    slant = figure.canvas.light * (0.0008 + 0.0042 * sun) / unit
    columns = np.float32(1) + np.clip(columns * np.float32(slant), np.float32(-0.3), np.float32(0.3))
    fall: Colours = rows[:, None] * columns[None, :]
    return fall


def _relief(figure: Figure, labels: Labels, strength: float, chance: Chance) -> Colours:
    """Compute the change of light that cloth textures cause, (H, W)."""
    materials = figure.canvas.materials
    h, w = labels.shape
    total = np.zeros((h, w), np.float32)
    # A canvas of 256 rows grows to 333 at most where the crop cuts the feet off (see `_frame` and `_figure`).
    scale = 3 if h > 340 else 2
    # Sorted, because each texture draws its window by chance and the order of a set differs from process to process.
    for texture in sorted({m.texture for m in materials if m.relief > 0}):
        table = np.zeros(len(materials) + 1, np.float32)
        for number, material in enumerate(materials, start=1):
            if material.texture == texture:
                table[number] = material.relief * strength
        total += table[labels] * textures.crop(textures.cloth(texture, scale), h, w, chance)
    return total


def _apply_pattern(figure: Figure, labels: Labels) -> None:
    """Recolour part of the upper garment: stripes and checks by rows and columns, the yoke of a two-tone garment."""
    pattern, look, canvas = figure.person.upper_pattern, figure.look, figure.canvas
    if pattern not in ("stripes", "check", "two-tone") or look.upper not in canvas.materials:
        return
    cover = labels == canvas.number(look.upper)
    h, w = labels.shape
    unit = figure.size / _STATURE
    period = max(3, int((6 + 10 * look.cut[8]) * unit))
    rows, columns = np.arange(h)[:, None], np.arange(w)[None, :]
    second = canvas.number(look.second)
    if pattern == "stripes":
        sag = columns - int(figure.view.x)
        # The square bends the stripes down beside the body's axis, as round cloth does; the last term lets them slope.
        bent = rows + sag * sag // max(1, int(220 * unit)) + columns // max(4, int(18 * unit))
        labels[cover & (bent % period < period * (0.3 + 0.3 * look.cut[9]))] = second
    elif pattern == "check":
        band = max(1, int(period * 0.42))
        across, down = rows % period < band, columns % period < band
        labels[cover & (across ^ down)] = canvas.number(look.blend)
        labels[cover & (across & down)] = second
    else:
        cut = figure.at(0.0, 0.0, 0.735 if look.cut[9] > 0.4 else 0.60)[1]
        labels[cover & (rows < cut if look.cut[8] > 0.5 else rows > cut)] = second
