"""The contact sheet shows every crop whole, in order, whatever their shapes and names."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from textreid.errors import ArtifactError
from textreid.gallery import Hit, contact_sheet, save_contact_sheet
from textreid.gallery.sheet import MAX_TILES

COLOURS = ["red", "lime", "blue", "yellow", "magenta", "cyan", "black"]


def make_hits(folder: Path, sizes: list[tuple[int, int]]) -> list[Hit]:
    hits = []
    for number, size in enumerate(sizes):
        path = folder / f"{number}.png"
        Image.new("RGB", size, COLOURS[number % len(COLOURS)]).save(path)
        hits.append(Hit(number + 1, 0.5 - number / 100, path))
    return hits


def boxes(sheet: Image.Image, colour: str) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of the pixels of exactly this colour."""
    pixels = np.asarray(sheet)
    target = Image.new("RGB", (1, 1), colour).getpixel((0, 0))
    rows, columns = np.nonzero((pixels == np.asarray(target)).all(axis=-1))
    return int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1


def test_crops_stand_in_rank_order_in_their_own_proportions(tmp_path: Path) -> None:
    sizes = [(64, 128), (64, 160), (50, 128), (64, 128), (128, 64), (640, 1280)]
    sheet = contact_sheet("a person", "note", make_hits(tmp_path, sizes))
    found = [boxes(sheet, colour) for colour in COLOURS[:6]]
    for (left, top, right, bottom), (width, height) in zip(found, sizes, strict=True):
        assert (bottom - top) / (right - left) == pytest.approx(height / width, rel=0.03)
    centres = [((left + right) / 2, (top + bottom) / 2) for left, top, right, bottom in found]
    assert [x for x, _ in centres[:5]] == sorted(x for x, _ in centres[:5])
    assert max(y for _, y in centres[:5]) - min(y for _, y in centres[:5]) < 2
    assert centres[5][1] > centres[0][1] + 128
    assert centres[5][0] == pytest.approx(centres[0][0], abs=1)


@pytest.mark.parametrize("count", [1, 3, 5, 6, 30, 31, MAX_TILES])
def test_every_number_of_crops_fits(count: int, tmp_path: Path) -> None:
    hits = make_hits(tmp_path, [(20, 50)] * min(count, 7)) * MAX_TILES
    sheet = contact_sheet("a person", "note", hits[:count])
    assert 600 < sheet.width < 2600
    # The margins stay free.
    for box in ((0, 0, sheet.width, 40), (0, sheet.height - 40, sheet.width, sheet.height), (0, 0, 40, sheet.height)):
        assert len(sheet.crop(box).getcolors() or []) == 1


def test_a_file_that_is_gone_leaves_a_panel(tmp_path: Path) -> None:
    hits = make_hits(tmp_path, [(40, 100)] * 3)
    whole = contact_sheet("a person", "note", hits)
    hits[1].path.unlink()
    sheet = contact_sheet("a person", "note", hits)
    assert sheet.size == whole.size
    assert boxes(sheet, "red") == boxes(whole, "red")
    with pytest.raises(ValueError, match="zero-size array"):
        boxes(sheet, "lime")


@pytest.mark.parametrize("count", [0, MAX_TILES + 1])
def test_no_crops_or_too_many_are_refused(count: int, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"1 to {MAX_TILES} images, got {count}"):
        contact_sheet("a person", "note", [Hit(1, 0.5, tmp_path / "none.png")] * count)


def test_a_long_title_makes_room_for_itself(tmp_path: Path) -> None:
    hits = make_hits(tmp_path, [(40, 100)])
    heights = [contact_sheet("a tall person " * times, "note", hits).height for times in (1, 4, 10, 1000)]
    assert heights == sorted(heights)
    assert heights[0] < heights[1] < heights[2] == heights[3]


@pytest.mark.parametrize(
    ("name", "picture_format"), [("s.png", "PNG"), ("s.JPG", "JPEG"), ("s.webp", "WEBP"), ("s", "PNG")]
)
def test_the_suffix_names_the_format(name: str, picture_format: str, tmp_path: Path) -> None:
    sheet = contact_sheet("a person", "note", make_hits(tmp_path, [(40, 100)]))
    save_contact_sheet(sheet, tmp_path / "new" / name)
    with Image.open(tmp_path / "new" / name) as saved:
        assert (saved.format, saved.size) == (picture_format, sheet.size)


def test_another_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"s\.pdf: a contact sheet is a \.png, \.jpg or \.webp file"):
        save_contact_sheet(Image.new("RGB", (4, 4)), tmp_path / "s.pdf")
