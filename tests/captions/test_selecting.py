"""A part of a caption table."""

from pathlib import Path

import pytest

from textreid.captions.selecting import select_captions
from textreid.captions.table import CaptionRow, read_captions, write_captions
from textreid.errors import CaptionError

SLOTS = ("qwen/static", "qwen/dynamic", "shikra/static")


@pytest.fixture
def table(tmp_path: Path) -> Path:
    rows = [
        CaptionRow(f"{number}.jpg", slot, f"{number} by {slot}", slot.split("/")[0], slot.split("/")[1], "", "", number)
        for number in range(40)
        for slot in SLOTS
    ]
    write_captions(tmp_path / "table", rows)
    return tmp_path / "table"


def test_slots_and_nested_samples(table: Path, tmp_path: Path) -> None:
    kept = {}
    for count in (10, 25):
        assert select_captions(table, tmp_path / f"{count}", SLOTS[:2], count, seed=1) == 2 * count
        part = read_captions(tmp_path / f"{count}")
        assert part.slots == ("qwen/dynamic", "qwen/static")
        kept[count] = set(part.images)
    assert (len(kept[10]), len(kept[25])) == (10, 25)
    assert kept[10] < kept[25]
    select_captions(table, tmp_path / "other", SLOTS[2:], 25, seed=1)
    assert set(read_captions(tmp_path / "other").images) == kept[25]  # whatever the slots
    select_captions(table, tmp_path / "seed", SLOTS[:1], 25, seed=2)
    assert set(read_captions(tmp_path / "seed").images) != kept[25]


def test_rows_are_copied_as_they_are(table: Path, tmp_path: Path) -> None:
    assert select_captions(table, tmp_path / "all") == 40 * len(SLOTS)
    before, after = read_captions(table), read_captions(tmp_path / "all")
    assert after.images == before.images
    assert after.captions.to_pylist() == before.captions.to_pylist()


@pytest.mark.parametrize(
    ("slots", "sample", "message"),
    [(["llava/static"], None, "no slot llava/static; there are: qwen/dynamic, qwen/static"), ([], 41, "but it has 40")],
)
def test_what_is_not_there_is_refused(
    slots: list[str], sample: int | None, message: str, table: Path, tmp_path: Path
) -> None:
    with pytest.raises(CaptionError, match=message):
        select_captions(table, tmp_path / "out", slots, sample)
    assert not (tmp_path / "out").exists()
