"""One person drawn on a canvas: parts in the order in which they hide each other."""

from textreid.synthetic.drawing import accessories, garments, head, trunk
from textreid.synthetic.drawing.figure import Figure


def draw_figure(figure: Figure) -> None:
    """Draw everything from far to near."""
    accessories.draw_suitcase(figure)
    if figure.facing > -0.15:
        accessories.draw_backpack(figure)
    order = sorted((0, 1), key=lambda side: -figure.view.away(figure.body.arms[side][1]))
    behind = [side for side in order if _arm_depth(figure, side) > 0.035]
    for side in behind:
        garments.draw_arm(figure, side)
        accessories.draw_in_hand(figure, side)
    head.draw_hair_behind(figure)
    garments.draw_legs(figure)
    trunk.draw_trunk(figure)
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
    return (away(shoulder) + away(elbow) + 2 * away(wrist)) / 4
