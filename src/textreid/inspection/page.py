"""An inspection to look at: as one picture, and as one HTML page that carries its pictures and needs no network."""

import re

import numpy as np
from PIL import Image, ImageDraw

from textreid.inspection.words import InspectedCaption, InspectedWord, Inspection
from textreid.reporting.html import render_page
from textreid.reporting.lettering import font, shorten, wrap

_PAPER, _INK, _GREY, _RULE, _HEAT = "#f7f7f5", "#1c1e21", "#6a6e73", "#dcdcd8", (234, 88, 12)
_WIDTH, _MARGIN, _GAP = 1240, 40, 14
_TILE = 84  # width of a word's picture
_FLATTEST, _TALLEST = 0.6, 3.0  # of a picture, height by width
_DARKEST = 0.25  # what is left of the light where a patch is least similar
_LINE = 56  # of a caption, with its numbers
_LEGEND = (
    "Shade and percentage: how probably Noise-Aware Masking hides the word next, more the noisier it is. "
    "Below, each word lights up the patches it is most similar to, each word on its own scale; the frame is the "
    "best, and the number is the word's noise: one minus that cosine."
)
_LEGEND_OF_OTHERS = (
    " After it, the evidence against the word: how much better the caption tells this picture from {others} beside it "
    "if the word is left out, in nats; above 0 the word misleads."
)


def shade(probability: float, mean: float) -> float:
    """Return how dark a word is drawn, from 0 to 1: at the mean probability a third, at 2.7 times the mean full."""
    return min(1.0, max(0.0, (probability - mean / 3) / (mean * 7 / 3))) if mean else 0.0


def light_up(picture: Image.Image, word: InspectedWord, width: int) -> Image.Image:
    """Draw the picture at ``width``, lit where its patches resemble the word, with a frame around the best."""
    small = _fit(picture, width)
    low, high = float(word.cosines.min()), float(word.cosines.max())
    heat = (word.cosines - low) / max(high - low, 1e-9)
    light = Image.fromarray((255 * (_DARKEST + (1 - _DARKEST) * heat)).astype(np.uint8))
    grid = np.asarray(light.resize(small.size, Image.Resampling.NEAREST), dtype=np.float32) / 255
    tile = Image.fromarray((np.asarray(small, dtype=np.float32) * grid[..., None]).astype(np.uint8))
    rows, columns = word.cosines.shape
    row, column = word.patch
    box = (
        column * width // columns, row * small.height // rows,
        (column + 1) * width // columns - 1, (row + 1) * small.height // rows - 1,
    )  # fmt: skip
    ImageDraw.Draw(tile).rectangle(box, outline=_HEAT, width=2)
    return tile


def draw_inspection(inspection: Inspection) -> Image.Image:
    """Draw everything as one picture, on light paper."""
    parts = [_head(inspection)]
    for caption in inspection.captions:
        parts += [_caption_text(caption, inspection.masking.probability), _tiles(caption, inspection.picture)]
    sheet = Image.new("RGB", (_WIDTH, sum(part.height for part in parts) + _MARGIN - _GAP), _PAPER)
    top = 0
    for part in parts:
        sheet.paste(part, (0, top))
        top += part.height
    return sheet


def to_html(inspection: Inspection) -> str:
    """Render the page as HTML, pictures embedded, for light and dark screens."""
    mean = inspection.masking.probability
    return render_page(
        "textreid.inspection", "page.html",
        inspection=inspection, facts=_facts(inspection), legend=_legend(inspection),
        picture=_fit(inspection.picture, 160), is_spoken=_is_spoken, figures=_figures,
        strength=lambda word: shade(word.probability, mean),
        tile=lambda word: light_up(inspection.picture, word, 2 * _TILE),
    )  # fmt: skip


def _facts(inspection: Inspection) -> str:
    masking = inspection.masking
    return (
        f"model {inspection.source}, tokens of layer {masking.layer}, mean masking probability {masking.probability:g}"
    )


def _legend(inspection: Inspection) -> str:
    return _LEGEND + (_LEGEND_OF_OTHERS.format(others=inspection.others) if inspection.others else "")


def _figures(word: InspectedWord) -> str:
    """Write the noise of a word, and the evidence against it where there is some."""
    return f"{word.noise:.2f}" + ("" if word.evidence is None else f"  {word.evidence:+z.1f}")


def _is_spoken(word: InspectedWord) -> bool:
    """Tell whether a word is more than punctuation."""
    return any(map(str.isalnum, word.text))


def _fit(picture: Image.Image, width: int) -> Image.Image:
    shape = min(max(picture.height / picture.width, _FLATTEST), _TALLEST)
    return picture.resize((width, round(width * shape)), Image.Resampling.LANCZOS)


def _head(inspection: Inspection) -> Image.Image:
    picture = _fit(inspection.picture, 110)
    head = Image.new("RGB", (_WIDTH, picture.height + 2 * _MARGIN - 10), _PAPER)
    head.paste(picture, (_MARGIN, _MARGIN))
    draw, left, room = ImageDraw.Draw(head), _MARGIN + 110 + 26, _WIDTH - 2 * _MARGIN - 136
    draw.text(
        (left, _MARGIN + 24), shorten(inspection.name, font(28, bold=True), room), _INK, font(28, bold=True), "ls"
    )
    draw.text((left, _MARGIN + 54), shorten(_facts(inspection), font(15), room), _GREY, font(15), "ls")
    for number, line in enumerate(wrap(_legend(inspection), font(15), room, 6)):
        draw.text((left, _MARGIN + 90 + 23 * number), line, _GREY, font(15), "ls")
    return head


def _caption_text(caption: InspectedCaption, mean: float) -> Image.Image:
    """Draw the caption, its words shaded, each with its probability below."""
    letters, room = font(20), _WIDTH - _MARGIN
    boxes: list[tuple[float, int, str, InspectedWord | None]] = []
    left, line = float(_MARGIN), 0
    for part in caption.parts:
        word = None if isinstance(part, str) else part
        for text in [word.text] if word else re.findall(r"\s+|\S+", str(part)):
            shown = " " if text.isspace() else shorten(text, letters, room - _MARGIN)
            width = letters.getlength(shown)
            if left + width > room and shown != " ":
                left, line = float(_MARGIN), line + 1
            boxes.append((left, line, shown, word))
            left += width
    strip = Image.new("RGB", (_WIDTH, 40 + _LINE * (line + 1)), _PAPER)
    draw = ImageDraw.Draw(strip, "RGBA")
    draw.line((_MARGIN, 2, _WIDTH - _MARGIN, 2), _RULE)
    draw.text((_MARGIN, 30), f"{caption.label}   similarity {caption.similarity:.3f}", _GREY, font(15, bold=True), "ls")
    for left, line, text, word in boxes:
        base = 40 + _LINE * line + 26
        width = letters.getlength(text)
        if word:
            draw.rounded_rectangle(
                (left - 1, base - 20, left + width + 1, base + 6), 3,
                (*_HEAT, round(150 * shade(word.probability, mean))),
            )  # fmt: skip
        draw.text((left, base), text, _INK if word else _GREY, letters, "ls")
        if word and _is_spoken(word):
            draw.text((left + width / 2, base + 20), f"{100 * word.probability:.0f}", _GREY, font(12), "ms")
    return strip


def _tiles(caption: InspectedCaption, picture: Image.Image) -> Image.Image:
    tiles = [(word, light_up(picture, word, _TILE)) for word in caption.words if _is_spoken(word)]
    columns = (_WIDTH - 2 * _MARGIN + _GAP) // (_TILE + _GAP)
    row_height = (tiles[0][1].height if tiles else 0) + 50
    grid = Image.new("RGB", (_WIDTH, row_height * -(-len(tiles) // columns) + _GAP), _PAPER)
    draw = ImageDraw.Draw(grid)
    for number, (word, tile) in enumerate(tiles):
        left = _MARGIN + (number % columns) * (_TILE + _GAP)
        top = (number // columns) * row_height
        grid.paste(tile, (left, top))
        draw.text((left, top + tile.height + 17), shorten(word.text, font(14), _TILE), _INK, font(14), "ls")
        draw.text((left, top + tile.height + 35), _figures(word), _GREY, font(13), "ls")
    return grid
