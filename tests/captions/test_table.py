"""The caption table: what is written is read, and what cannot be used is counted or refused."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, strategies as st

from textreid.captions.cleaning import RULES
from textreid.captions.table import CaptionRow, read_captions, write_captions
from textreid.errors import ArtifactError, CaptionError


def row(image: str, slot: str = "qwen/static", caption: str = "A man in a red coat.", status: str = "ok") -> CaptionRow:
    return CaptionRow(image, slot, caption, "qwen", "static", "", "0123", 7, status)


def test_reads_what_was_written(tmp_path: Path) -> None:
    slots = ("shikra/static", "qwen/static")
    rows = [row(f"b/{n}.jpg", slot, f"Caption {n} of {slot}.") for n in (3, 1, 2) for slot in slots]
    write_captions(tmp_path / "table", rows)
    table = read_captions(tmp_path / "table")
    assert len(table) == 6
    assert table.images == ("b/1.jpg", "b/2.jpg", "b/3.jpg")
    assert table.slots == ("qwen/static", "shikra/static")
    assert table.image_index.dtype == np.int64
    read = [
        (table.images[image], table.slots[slot], table.caption(n))
        for n, (image, slot) in enumerate(zip(table.image_index, table.slot_index, strict=True))
    ]
    assert read == [(r.image, r.slot, r.caption) for r in rows]
    assert [text.as_py() for text in table.captions] == [r.caption for r in rows]
    assert table.rejected == {}


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3)), min_size=1, max_size=20, unique=True))
@pytest.mark.slow
def test_part_size_changes_nothing_but_the_parts(
    tmp_path_factory: pytest.TempPathFactory, keys: list[tuple[int, int]]
) -> None:
    tables = []
    for part_rows in (1, 3, 100):
        folder = tmp_path_factory.mktemp("tables") / "table"
        rows = (row(f"{image}.jpg", f"s{slot}", f"Image {image} slot {slot}.") for image, slot in keys)
        write_captions(folder, rows, part_rows)
        assert len(list(folder.glob("*.parquet"))) == -(-len(keys) // part_rows)
        tables.append(read_captions(folder))
    for table in tables[1:]:
        assert table.images == tables[0].images
        assert table.slots == tables[0].slots
        np.testing.assert_array_equal(table.image_index, tables[0].image_index)
        np.testing.assert_array_equal(table.slot_index, tables[0].slot_index)
        assert table.captions.equals(tables[0].captions)


@pytest.mark.parametrize(
    ("caption", "status"),
    [
        ("", "empty"),
        (" \t\n\u00a0\u3000", "empty"),
        ("... -- !?", "empty"),
        ("word " * 151, "too-long"),
        ("word\n\u3000" * 151, "too-long"),
        ("x" * 10_000, "too-long"),
        ("word " * 150, "ok"),
        ("word   " * 150, "ok"),
        ("一个穿红色外套的男人", "ok"),
        ("رجل يرتدي معطفا أحمر", "ok"),
        ("7", "ok"),
    ],
)
def test_unusable_captions_are_counted_and_left_out(tmp_path: Path, caption: str, status: str) -> None:
    write_captions(tmp_path / "table", [row("a.jpg"), row("b.jpg", caption=caption)])
    table = read_captions(tmp_path / "table")
    assert table.rejected == ({} if status == "ok" else {status: 1})
    assert table.images == (("a.jpg", "b.jpg") if status == "ok" else ("a.jpg",))
    assert len(table) == len(table.captions) == len(table.image_index) == len(table.images)


@given(st.lists(st.text() | st.text("a \n\u00a0一", max_size=500), min_size=1, max_size=20))
def test_a_table_and_the_cleaning_rules_agree(tmp_path_factory: pytest.TempPathFactory, captions: list[str]) -> None:
    folder = tmp_path_factory.mktemp("tables") / "table"
    rows = [row(f"{n}.jpg", caption=caption) for n, caption in enumerate(captions)]
    write_captions(folder, [*rows, row("good.jpg")])
    expected = Counter(rule for text in captions for rule in ("empty", "too-long") if RULES[rule](text))
    assert read_captions(folder).rejected == dict(expected)


def test_a_status_given_by_the_writer_is_kept(tmp_path: Path) -> None:
    write_captions(
        tmp_path / "table", [row("a.jpg"), row("b.jpg", status="refusal"), row("c.jpg", caption="", status="refusal")]
    )
    table = read_captions(tmp_path / "table")
    assert table.rejected == {"refusal": 2}
    assert len(table) == 1


def test_a_table_of_nothing_usable_is_refused(tmp_path: Path) -> None:
    write_captions(tmp_path / "table", [row("a.jpg", caption="...")])
    with pytest.raises(CaptionError, match=r"no caption can be used; rejected: \{'empty': 1\}"):
        read_captions(tmp_path / "table")


@pytest.mark.parametrize(
    "image", ["", "/etc/passwd", "../a.jpg", "a/../../b.jpg", "a/..", "C:\\a.jpg", "\\\\host\\a.jpg", "a\\..\\b"]
)
def test_paths_that_leave_the_root_are_refused(tmp_path: Path, image: str) -> None:
    with pytest.raises(CaptionError, match=r"row 1: image .* leaves the image root"):
        write_captions(tmp_path / "table", [row("a.jpg"), row(image)])
    assert not list(tmp_path.iterdir())
    forge(tmp_path / "forged", [row("a.jpg"), row(image)])
    with pytest.raises(CaptionError, match=r"part-00000\.parquet, row 1: image .* leaves the image root"):
        read_captions(tmp_path / "forged")


@pytest.mark.parametrize("image", ["..a.jpg", "a..b/c.jpg", "...", "a/b:c.jpg"])
def test_paths_that_look_like_leaving_are_kept(tmp_path: Path, image: str) -> None:
    write_captions(tmp_path / "table", [row(image)])
    assert read_captions(tmp_path / "table").images == (image,)


def test_a_second_caption_in_a_slot_is_refused(tmp_path: Path) -> None:
    rows = [row("a.jpg"), row("b.jpg"), row("a.jpg", "shikra/static"), row("b.jpg", caption="Another one.")]
    message = "image 'b.jpg' has more than one caption in slot 'qwen/static'"
    with pytest.raises(CaptionError, match=message):
        write_captions(tmp_path / "table", rows, part_rows=2)
    assert not list(tmp_path.iterdir())
    forge(tmp_path / "forged", rows)
    with pytest.raises(CaptionError, match=message):
        read_captions(tmp_path / "forged")


def test_a_table_needs_a_row(tmp_path: Path) -> None:
    with pytest.raises(CaptionError, match="at least one row"):
        write_captions(tmp_path / "table", [])
    assert not list(tmp_path.iterdir())


def test_an_interrupted_writing_leaves_nothing(tmp_path: Path) -> None:
    def rows() -> Iterator[CaptionRow]:
        yield row("a.jpg")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_captions(tmp_path / "table", rows())
    assert not list(tmp_path.iterdir())


def test_a_folder_without_manifest_is_refused(tmp_path: Path) -> None:
    write_captions(tmp_path / "table", [row("a.jpg")])
    (tmp_path / "table" / "manifest.json").unlink()
    with pytest.raises(ArtifactError, match="interrupted"):
        read_captions(tmp_path / "table")


def test_an_altered_part_is_refused(tmp_path: Path) -> None:
    write_captions(tmp_path / "table", [row("a.jpg")])
    part = tmp_path / "table" / "part-00000.parquet"
    content = bytearray(part.read_bytes())
    content[40] ^= 1
    part.write_bytes(content)
    with pytest.raises(CaptionError, match="changed after it was written"):
        read_captions(tmp_path / "table")


def test_a_foreign_schema_is_refused(tmp_path: Path) -> None:
    forge(tmp_path / "table", [row("a.jpg")], drop="seed")
    with pytest.raises(CaptionError, match="its columns are not those of a caption table"):
        read_captions(tmp_path / "table")


def test_the_fingerprint_follows_the_contents(tmp_path: Path) -> None:
    prints = []
    for number, caption in enumerate(("A man.", "A man.", "A woman.")):
        write_captions(tmp_path / str(number), [row("a.jpg", caption=caption)])
        prints.append(read_captions(tmp_path / str(number)).fingerprint)
    assert prints[0] == prints[1] != prints[2]


def forge(folder: Path, rows: list[CaptionRow], drop: str | None = None) -> None:
    """A table that passes the manifest's checks, as if another program had written it."""
    from textreid.artifacts import file_digest, read_json, write_json

    write_captions(folder, [row(f"{n}.jpg") for n in range(len(rows))])
    part = folder / "part-00000.parquet"
    table = pq.read_table(part)
    for column in ("image", "slot", "caption", "status"):
        index = table.schema.get_field_index(column)
        values = pa.array([getattr(each, column) for each in rows], pa.string())
        table = table.set_column(index, table.schema.field(column), values)
    pq.write_table(table.drop_columns([drop]) if drop else table, part)
    manifest = read_json(folder / "manifest.json")
    manifest["digests"][part.name] = file_digest(part)
    manifest["files"][part.name] = part.stat().st_size
    write_json(folder / "manifest.json", manifest)
