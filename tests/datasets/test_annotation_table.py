"""The generic form: one table, three file formats."""

import csv
import io
import json
import os
import unicodedata
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from textreid.datasets.benchmarks import read_benchmark
from textreid.datasets.doctor.examination import examine
from textreid.datasets.records import Record, Rejection
from textreid.errors import AnnotationError

COLUMNS = ("image", "caption", "identity", "split")
ROWS: list[dict[str, Any]] = [
    {"image": "people/a.jpg", "caption": "a man in red, with a bag", "identity": 7, "split": "test"},
    {"image": "people/b.jpg", "caption": 'a "tall" woman\nin two lines', "identity": 9, "split": "test"},
    {"image": "people/a.jpg", "caption": "穿红色外套的男人", "identity": 7, "split": "test"},
    {"image": "people/c.jpg", "caption": None, "identity": 9, "split": "test"},
]
RECORDS = (
    Record("people/a.jpg", 7, ("a man in red, with a bag", "穿红色外套的男人"), "test"),
    Record("people/b.jpg", 9, ('a "tall" woman\nin two lines',), "test"),
    Record("people/c.jpg", 9, (), "test"),
)
FORMATS = (".csv", ".jsonl", ".parquet")


def write(table: Path, rows: list[dict[str, Any]]) -> Path:
    """A table, and an empty file for every image that it names."""
    for row in rows:
        image = table.parent / str(row.get("image") or "none").replace("\\", "/")
        image.parent.mkdir(parents=True, exist_ok=True)
        image.touch()
    if table.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), table)
    elif table.suffix == ".jsonl":
        table.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    else:
        stream = io.StringIO()
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
        table.write_text(stream.getvalue(), encoding="utf-8", newline="")
    return table


def test_a_parquet_table_in_a_folder_whose_name_is_not_utf8_is_read(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"m\xfcller")
    try:
        folder.mkdir()
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    rows = [{"image": "a.jpg", "identity": 1, "caption": "a man", "split": "test"}]
    write(tmp_path / "table.parquet", rows).rename(folder / "table.parquet")
    (folder / "a.jpg").touch()
    assert [record.image for record in read_benchmark("generic", folder / "table.parquet").records] == ["a.jpg"]


def refusal(table: Path) -> str:
    with pytest.raises(AnnotationError) as caught:
        read_benchmark("generic", table)
    message = str(caught.value)
    assert message.startswith(str(table))
    return message.removeprefix(str(table))


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("give_folder", [True, False])
def test_the_three_formats_give_the_same_records(suffix: str, give_folder: bool, tmp_path: Path) -> None:
    table = write(tmp_path / "mine" / f"annotations{suffix}", ROWS)
    benchmark = read_benchmark("generic", table.parent if give_folder else table)
    assert benchmark.records == RECORDS
    assert (benchmark.name, benchmark.form, benchmark.image_root) == ("mine", "generic", tmp_path / "mine")
    assert benchmark.rejected == (Rejection(3, "people/c.jpg", "test", "no-captions"),)


def test_a_folder_with_two_tables_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "annotations.csv", ROWS)
    write(tmp_path / "annotations.jsonl", ROWS)
    assert refusal(tmp_path) == ": holds annotations.csv and annotations.jsonl; give one of them"


def test_ones_own_folder_in_cuhk_form_is_generic_too(tmp_path: Path) -> None:
    (tmp_path / "imgs").mkdir()
    (tmp_path / "imgs" / "a.png").touch()
    entry = {"split": "test", "captions": ["a man"], "file_path": "a.png", "id": 1}
    (tmp_path / "reid_raw.json").write_text(json.dumps([entry]), encoding="utf-8")
    assert read_benchmark("generic", tmp_path).records == (Record("a.png", 1, ("a man",), "test"),)


def test_columns_may_stand_in_any_order_and_be_more(tmp_path: Path) -> None:
    rows = [{"camera": 3, **dict(reversed(row.items()))} for row in ROWS[:3]]
    for suffix in FORMATS:
        assert read_benchmark("generic", write(tmp_path / f"table{suffix}", rows)).records == RECORDS[:2]


@pytest.mark.parametrize(("suffix", "place"), [(".csv", "line 3"), (".jsonl", "line 2"), (".parquet", "row 2")])
@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("image", "", "\"image\": expected a path, got ''"),
        ("image", "../a.jpg", "\"image\": '../a.jpg' leaves "),
        ("image", "C:\\people\\a.jpg", "\"image\": 'C:\\\\people\\\\a.jpg' is absolute; write it relative to "),
        ("identity", "p7", "\"identity\": expected a whole number, got 'p7'"),
        ("identity", -3, '"identity": expected a whole number'),
        ("identity", 7.5, '"identity": expected a whole number, got'),
        ("split", "", "\"split\": expected the name of a split, got ''"),
    ],
)
def test_a_wrong_value_is_named_with_its_line_and_column(
    suffix: str, place: str, column: str, value: Any, message: str, tmp_path: Path
) -> None:
    rows = [row | {column: str(row[column])} if isinstance(value, str) else dict(row) for row in ROWS[:2]]
    rows[1][column] = value
    if suffix == ".parquet" and isinstance(value, float):
        rows[0][column] = 7.0
    folder = tmp_path / "mine"
    folder.mkdir()
    for image in ("people/a.jpg", "people/b.jpg"):
        (folder / image).parent.mkdir(exist_ok=True)
        (folder / image).touch()
    table = write_only(folder / f"table{suffix}", rows)
    assert f"{place}, {message}" in refusal(table)


def write_only(table: Path, rows: list[dict[str, Any]]) -> Path:
    """A table without the images that it names, which may lie anywhere."""
    safe = [row | {"image": "none"} for row in rows]
    write(table, safe)
    if table.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), table)
    else:
        text = table.read_text(encoding="utf-8")
        for row in rows:
            value = json.dumps(row["image"]) if table.suffix == ".jsonl" else row["image"]
            text = text.replace('"none"' if table.suffix == ".jsonl" else "none", value, 1)
        table.write_text(text, encoding="utf-8", newline="")
    return table


def test_the_line_of_a_csv_row_is_where_it_begins(tmp_path: Path) -> None:
    rows = [ROWS[1], ROWS[0] | {"identity": "x"}, ROWS[1], ROWS[0] | {"split": ""}]
    message = refusal(write(tmp_path / "table.csv", rows))
    assert 'line 4, "identity"' in message  # line 1 is the header, lines 2 and 3 are one row
    assert 'line 7, "split"' in message


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("column", COLUMNS)
def test_a_missing_column_is_named(suffix: str, column: str, tmp_path: Path) -> None:
    rows = [{name: value for name, value in row.items() if name != column} for row in ROWS]
    message = refusal(write(tmp_path / f"table{suffix}", rows))
    assert (f'"{column}": missing' if suffix == ".jsonl" else f": no column {column}; there are: ") in message


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("table.csv", b"", "no column image; identity; caption; split; there are: none"),
        ("table.csv", b"image,caption,identity,split\n", "the table has no rows"),
        (
            "table.csv",
            b"image,caption,identity,split\na.jpg,red, with a bag,1,test\n",
            "line 2: more values than columns",
        ),
        (
            "table.csv",
            b"image,caption,identity,split\na.jpg,red\n",
            "line 2: fewer values than columns",
        ),
        (
            "table.csv",
            b"image,identity,split,caption\na.jpg,1,test\n",  # its caption is lost, not empty
            "line 2: fewer values than columns",
        ),
        (
            "table.csv",
            b"image,caption,identity,split,caption\na.jpg,one,1,test,two\n",
            "more than one column caption; there are: 'image', 'caption', 'identity', 'split', 'caption'; rename",
        ),
        (
            "table.csv",
            b"image,caption,identity,split, Caption\na.jpg,one,1,test,two\n",
            "more than one column caption; there are: 'image', 'caption', 'identity', 'split', ' Caption'; rename",
        ),
        ("table.jsonl", b'{"image": "a", "caption": "one", "caption": "two"}\n', '"caption" more than once'),
        ("table.csv", b'image,caption,identity,split\na.jpg,"red,1,test\n', "line 2: not CSV: unexpected end of data"),
        ("table.csv", b"image,caption,identity,split\n\xff", "not UTF-8 text"),
        ("table.jsonl", b'{"image": "a"\n', "line 1: not JSON"),
        ("table.jsonl", b"\n\n[1]\n", "line 3: expected an object, got a list"),
        ("table.jsonl", b"[" * 100_000, "line 1: not JSON"),
        ("table.jsonl", b"", "the table has no rows"),
        ("table.parquet", b"PAR1 not really", "cannot be read as Parquet"),
        ("table.xlsx", b"", "expected a table with one of the suffixes .csv, .jsonl, .parquet"),
    ],
)
def test_a_file_that_is_no_such_table_is_refused(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    assert message in refusal(tmp_path / name)


def test_two_columns_of_one_name_are_refused_in_parquet(tmp_path: Path) -> None:
    names = ["image", "caption", "identity", "split", "caption"]
    table = pa.table([pa.array([value]) for value in ("a.jpg", "one", 1, "test", "two")], names=names)
    pq.write_table(table, tmp_path / "table.parquet")
    assert "more than one column caption" in refusal(tmp_path / "table.parquet")


def test_other_columns_may_have_any_names(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    (tmp_path / "table.csv").write_text("image,caption,identity,split,x,x\na.jpg,one,1,test,2,3\n", encoding="utf-8")
    assert len(read_benchmark("generic", tmp_path / "table.csv").records) == 1


@pytest.mark.parametrize("folder", ["", "Zoë/", "a/Zoë/b/"])
@pytest.mark.parametrize(("listed", "there"), [("NFC", "NFD"), ("NFD", "NFC"), ("NFC", "NFC"), ("NFD", "NFD")])
def test_names_composed_otherwise_are_matched(
    folder: str, listed: Literal["NFC", "NFD"], there: Literal["NFC", "NFD"], tmp_path: Path
) -> None:
    image = tmp_path / unicodedata.normalize(there, f"{folder}Café.jpg")
    image.parent.mkdir(parents=True, exist_ok=True)
    image.touch()
    row = ROWS[2] | {"image": unicodedata.normalize(listed, f"{folder}Café.jpg")}
    pq.write_table(pa.Table.from_pylist([row, row | {"caption": "Again."}]), tmp_path / "table.parquet")
    benchmark = read_benchmark("generic", tmp_path / "table.parquet")
    (record,) = benchmark.records
    assert (benchmark.image_root / record.image).is_file()
    assert len(record.captions) == 2
    composed = replace(benchmark, records=(replace(record, image=unicodedata.normalize("NFC", record.image)),))
    assert composed.list_fingerprint == benchmark.list_fingerprint


def test_a_byte_order_mark_and_windows_lines_are_fine(tmp_path: Path) -> None:
    rows = [row | {"image": row["image"].replace("/", "\\")} for row in ROWS[:3]]
    for suffix in (".csv", ".jsonl"):
        table = write(tmp_path / f"table{suffix}", rows)
        text = table.read_bytes().replace(b"\r\n", b"\n").replace(b"}\n", b"}\r\n")
        table.write_bytes(b"\xef\xbb\xbf" + text)
        assert read_benchmark("generic", table).records == RECORDS[:2]


def test_a_spreadsheet_may_have_semicolons_and_capital_letters(tmp_path: Path) -> None:
    table = write(tmp_path / "table.csv", ROWS[2:3])
    table.write_text(f"Image;Caption ;IDENTITY;split;note\r\n{';'.join(map(str, ROWS[2].values()))}\r\n", "utf-8")
    assert [record.captions for record in read_benchmark("generic", table).records] == [(ROWS[2]["caption"],)]


def test_rows_of_one_image_must_agree(tmp_path: Path) -> None:
    table = write(tmp_path / "table.csv", [ROWS[0], ROWS[0] | {"identity": 8}, ROWS[2]])
    benchmark = read_benchmark("generic", table, max_rejected=0.5)
    assert benchmark.records == RECORDS[:1]
    assert benchmark.rejected == (Rejection(1, "people/a.jpg", "test", "contradicting"),)
    assert "1 of 3 rows cannot be used" in refusal(table)


def test_an_absent_image_counts_once_in_a_diagnosis(tmp_path: Path) -> None:
    table = write(tmp_path / "annotations.csv", ROWS)
    (tmp_path / "people" / "a.jpg").unlink()
    absent = [finding for finding in examine(table).findings if finding.rule == "absent"]
    assert [(finding.count, finding.examples) for finding in absent] == [(1, ("people/a.jpg (absent)",))]
    assert "2 of 4 rows cannot be used (allowed: 5%): people/a.jpg (absent)" in refusal(table)
