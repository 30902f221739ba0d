"""The answer to a search as one picture: the query above, the crops below in rank order."""

import io
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

from PIL import Image, ImageDraw

from textreid.artifacts import write_bytes
from textreid.errors import ArtifactError, ImageError
from textreid.gallery.search import Hit
from textreid.images import read_image
from textreid.reporting.lettering import font, shorten, wrap

MAX_TILES = 200  # a picture of more is too large to be looked at

_PAPER = "#f7f7f5"
_PANEL = "#e9e9e5"
_INK = "#1c1e21"
_GREY = "#74787d"
_TILE_WIDTH = 208
_GAP = 28
_MARGIN = 64
_CORNER = 10
_MAT = 10
_FLATTEST, _TALLEST = 0.6, 2.6  # of the tiles, height by width
_COLUMNS = 5
_WIDE_COLUMNS = 10  # of a sheet with more than _MANY tiles
_MANY = 30
_LABEL_HEIGHT = 62
_TITLE_LINES = 4


def contact_sheet(
    title: str, note: str, hits: Sequence[Hit], picture_of: Callable[[Hit], Path | Image.Image] | None = None
) -> Image.Image:
    """Draw the crops in the order given, each whole and in its own proportions, with rank, score and file name.

    Args:
        title: set large above the crops, wrapped, at most four lines.
        note: one small line below the title.
        hits: at most `MAX_TILES`. One whose file cannot be read any more gets an empty panel that says so.
        picture_of: what a hit looks like, where it is not the file at its path; raises `ImageError` or `ArtifactError`.

    Raises:
        ValueError: there are too many hits, or none.
    """
    if not 1 <= len(hits) <= MAX_TILES:
        raise ValueError(f"a contact sheet holds 1 to {MAX_TILES} images, got {len(hits)}")
    pictures = [_read(hit, picture_of) for hit in hits]
    shapes = [picture.height / picture.width for picture in pictures if picture]
    shape = min(max(median(shapes or [2.0]), _FLATTEST), _TALLEST)
    tile_height = round((_TILE_WIDTH - 2 * _MAT) * shape) + 2 * _MAT
    columns = min(_WIDE_COLUMNS if len(hits) > _MANY else _COLUMNS, max(len(hits), 3))
    width = 2 * _MARGIN + columns * _TILE_WIDTH + (columns - 1) * _GAP
    title_font, note_font = font(34, bold=True), font(17)
    lines = wrap(title, title_font, width - 2 * _MARGIN, _TITLE_LINES)
    head = _MARGIN - 8 + 46 * len(lines) + 62
    rows = math.ceil(len(hits) / columns)
    sheet = Image.new("RGB", (width, head + rows * (tile_height + _LABEL_HEIGHT + _GAP) - _GAP + _MARGIN - 8), _PAPER)
    draw = ImageDraw.Draw(sheet)
    for number, line in enumerate(lines):
        draw.text((_MARGIN, _MARGIN - 8 + 46 * number + 34), line, _INK, title_font, anchor="ls")
    draw.text((_MARGIN, head - 30), shorten(note, note_font, width - 2 * _MARGIN), _GREY, note_font, anchor="ls")
    for number, (hit, picture) in enumerate(zip(hits, pictures, strict=True)):
        left = _MARGIN + (number % columns) * (_TILE_WIDTH + _GAP)
        top = head + (number // columns) * (tile_height + _LABEL_HEIGHT + _GAP)
        sheet.paste(_panel(picture, tile_height), (left, top), _rounded(_TILE_WIDTH, tile_height, _CORNER))
        _draw_label(draw, hit, left, top + tile_height)
    return sheet


def save_contact_sheet(sheet: Image.Image, path: Path) -> None:
    """Write the sheet in the format of the suffix of ``path``; PNG where there is none.

    Raises:
        ArtifactError: the suffix is of no picture format, or the file cannot be written.
    """
    suffix = path.suffix.lower() or ".png"
    picture_format = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}.get(suffix)
    if picture_format is None:
        raise ArtifactError(f"{path}: a contact sheet is a .png, .jpg or .webp file")
    stream = io.BytesIO()
    sheet.save(stream, picture_format, quality=92)
    write_bytes(path, stream.getvalue())


def _read(hit: Hit, picture_of: Callable[[Hit], Path | Image.Image] | None) -> Image.Image | None:
    largest = (_TILE_WIDTH, round(_TILE_WIDTH * _TALLEST))
    try:
        picture = read_image(picture_of(hit) if picture_of else hit.path, at_least=largest[::-1])
    except (ImageError, ArtifactError):
        return None
    picture.thumbnail(largest, Image.Resampling.LANCZOS)  # two hundred photographs in full would fill the memory
    return picture


def _panel(picture: Image.Image | None, height: int) -> Image.Image:
    panel = Image.new("RGB", (_TILE_WIDTH, height), _PANEL)
    if picture is None:
        ImageDraw.Draw(panel).text((_TILE_WIDTH / 2, height / 2), "cannot be read", _GREY, font(15), anchor="mm")
        return panel
    room = (_TILE_WIDTH - 2 * _MAT, height - 2 * _MAT)
    scale = min(room[0] / picture.width, room[1] / picture.height)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    place = ((_TILE_WIDTH - size[0]) // 2, (height - size[1]) // 2)
    panel.paste(picture.resize(size, Image.Resampling.LANCZOS), place, _rounded(*size, 4))
    return panel


def _rounded(width: int, height: int, corner: int, oversampling: int = 4) -> Image.Image:
    # Pillow draws edges hard: they are drawn larger, and averaged.
    mask = Image.new("L", (width * oversampling, height * oversampling))
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, mask.width - 1, mask.height - 1), corner * oversampling, "white")
    return mask.resize((width, height), Image.Resampling.BOX)


def _draw_label(draw: ImageDraw.ImageDraw, hit: Hit, left: int, top: int) -> None:
    draw.text((left, top + 29), str(hit.rank), _INK, font(20, bold=True), anchor="ls")
    draw.text((left + _TILE_WIDTH, top + 29), f"{hit.score:.3f}", _INK, font(17), anchor="rs")
    name = os.fsencode(hit.path.name).decode("utf-8", "replace")
    draw.text((left, top + 52), shorten(name, font(13), _TILE_WIDTH), _GREY, font(13), anchor="ls")
