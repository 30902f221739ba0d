"""Captions come in from the forms of others and go out again, unchanged; what does not fit is named."""

import gzip
import io
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from textreid.captions.exporting import FORMS, export_captions
from textreid.captions.importing import Source, captions_in, import_captions
from textreid.captions.table import CaptionRow, read_captions, write_captions
from textreid.captions.writer import GrowingTable, caption_rows
from textreid.errors import ArtifactError, CaptionError

NAMES = ("a b.jpg", "c'd.jpg", 'e"f.jpg', "ü-😀.jpg")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    (folder / "cam1").mkdir(parents=True)
    for name in NAMES:
        (folder / "cam1" / name).touch()
    return folder


def write(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def contents(folder: Path) -> set[tuple[str, str, str]]:
    table = read_captions(folder)
    return {
        (table.images[image], table.slots[slot], table.caption(row))
        for row, (image, slot) in enumerate(zip(table.image_index, table.slot_index, strict=True))
    }


def test_the_four_released_files(tmp_path: Path, images: Path) -> None:
    sources = []
    for name in ("Ts-qwen", "Td-qwen", "Ts-shikra", "Td-shikra"):
        entries = {f"/home/someone/LUPerson/{image}": f"{name} says: a man, {image}." for image in NAMES}
        sources.append(Source.parse(str(write(tmp_path / f"{name}.json", entries))))
    imported = import_captions(sources, tmp_path / "captions", images)
    assert (imported.rows, imported.left_out.total()) == (16, 0)
    table = read_captions(tmp_path / "captions")
    assert table.slots == ("qwen/dynamic", "qwen/static", "shikra/dynamic", "shikra/static")
    assert table.images == tuple(sorted(f"cam1/{name}" for name in NAMES))
    assert ("cam1/a b.jpg", "shikra/dynamic", "Td-shikra says: a man, a b.jpg.") in contents(tmp_path / "captions")


def test_tables_of_one_mllm_after_another_become_one(tmp_path: Path) -> None:
    rows = [
        CaptionRow("a.jpg", "qwen/static", "A man in red.", "qwen", "static", "", "ab12", 3),
        CaptionRow("a.jpg", "intern/dynamic", "A woman in blue.", "intern", "dynamic", "t7", "cd34", 5),
        CaptionRow("b.jpg", "intern/dynamic", "Sorry.", "intern", "dynamic", "t8", "ef56", 6, "refusal"),
    ]
    write_captions(tmp_path / "one", rows[:1])
    with GrowingTable(tmp_path / "two", {"images": "x"}) as table:
        table.append(rows[1:])
    tables = [Source.parse(str(tmp_path / name)) for name in ("one", "two")]
    assert import_captions(tables, tmp_path / "both").rows == 3
    assert list(caption_rows(tmp_path / "both")) == rows
    with pytest.raises(CaptionError, match=r"'a.jpg' has more than one caption in slot 'qwen/static'"):
        import_captions([tables[0], tables[0]], tmp_path / "twice")


@pytest.mark.parametrize(
    ("text", "mllm", "instruction"),
    [
        ("here/Ts-qwen.json", "qwen", "static"),
        ("Td-llava-1.5.json", "llava-1.5", "dynamic"),
        ("human=reid_raw.json", "human", "static"),
        ("gpt-4o/dynamic=folder/with = sign", "gpt-4o", "dynamic"),
    ],
)
def test_sources_in_words(text: str, mllm: str, instruction: str) -> None:
    source = Source.parse(text)
    assert (source.mllm, source.instruction) == (mllm, instruction)
    assert text.endswith(str(source.path))


@pytest.mark.parametrize(
    ("text", "problem"),
    [("captions.json", "say whose captions these are"), ("qwen/free=x.json", "no instruction 'free'; known: static")],
)
def test_sources_that_say_too_little(text: str, problem: str) -> None:
    with pytest.raises(CaptionError, match=problem):
        Source.parse(text)


def test_cuhk_form_has_several_captions_an_image(tmp_path: Path, images: Path) -> None:
    entries = [
        {"id": 3, "split": "train", "file_path": "cam1/a b.jpg", "captions": ["A man.", "A man in red."]},
        {"id": 4, "split": "test", "img_path": "c'd.jpg", "file_path": "cam1/c'd.jpg", "captions": ["A lady."]},
    ]
    imported = import_captions([Source(write(tmp_path / "x.json", entries), "human")], tmp_path / "captions", images)
    assert imported.rows == 3
    assert contents(tmp_path / "captions") == {
        ("cam1/a b.jpg", "human/static", "A man."),
        ("cam1/a b.jpg", "human/static-2", "A man in red."),
        ("cam1/c'd.jpg", "human/static", "A lady."),
    }


@pytest.mark.parametrize(
    ("there", "said", "found"),
    [
        # The path itself, whatever else has its base name.
        (("a/1.jpg", "b/1.jpg"), ("a/1.jpg", "b/1.jpg"), ("a/1.jpg", "b/1.jpg")),
        # Another folder's picture of the same name is another picture.
        (("b/1.jpg",), ("a/1.jpg", "b/1.jpg"), (None, "b/1.jpg")),
        (("b/1.jpg", "b/2.jpg"), ("a/1.jpg", "c/2.jpg"), (None, None)),
        (("1.jpg",), ("a/1.jpg", "b/2.jpg"), (None, None)),
        # The longest common end.
        (("x/a/1.jpg", "x/b/1.jpg"), ("data/a/1.jpg", "data/b/1.jpg"), ("x/a/1.jpg", "x/b/1.jpg")),
        (("p/x/a/1.jpg", "q/x/a/1.jpg", "r/a/1.jpg"), ("q/x/a/1.jpg", "/d/r/a/1.jpg"), ("q/x/a/1.jpg", "r/a/1.jpg")),
        (("a/1.jpg",), ("c:\\\\data\\\\a\\\\1.jpg", "d/2.jpg"), ("a/1.jpg", None)),
        # Two that fit alike.
        (("p/a/1.jpg", "q/a/1.jpg"), ("a/1.jpg", "b/2.jpg"), ("ambiguous", None)),
        (("a/1.jpg", "b/1.jpg"), ("1.jpg", "2.jpg"), ("ambiguous", None)),
        # The base name, where folders tell nothing apart.
        (("a/1.jpg", "b/2.jpg"), ("1.jpg", "2.jpg"), ("a/1.jpg", "b/2.jpg")),
        (("a/1.jpg", "b/2.jpg"), ("/data/1.jpg", "/data/2.jpg"), ("a/1.jpg", "b/2.jpg")),
        # Composed and decomposed letters are the same letters.
        (("caf\u00e9/n\u00fc.jpg",), ("cafe\u0301/nu\u0308.jpg",), ("caf\u00e9/n\u00fc.jpg",)),
        (("nu\u0308.jpg", "n\u00fc.jpg"), ("n\u00fc.jpg", "nu\u0308.jpg"), ("n\u00fc.jpg", "nu\u0308.jpg")),
    ],
)
def test_which_image_a_path_means(
    tmp_path: Path, there: Sequence[str], said: Sequence[str], found: Sequence[str | None]
) -> None:
    for name in there:
        (tmp_path / "root" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "root" / name).touch()
    (tmp_path / "root" / "last.jpg").touch()
    said = [name.replace("\\\\", "\\") for name in said]
    entries = {name: f"A man, {number}." for number, name in enumerate(said)}
    folder = said[0].rpartition("/")[0]
    extra = f"{folder}/last.jpg" if len({name.rpartition("/")[0] for name in said}) == 1 and folder else "last.jpg"
    source = Source(write(tmp_path / "x.json", {**entries, extra: "A man, at last."}), "qwen")
    imported = import_captions([source], tmp_path / "captions", tmp_path / "root", max_rejected=1)
    placed = {text: image for image, _, text in contents(tmp_path / "captions")}
    expected = [name for name in found if name not in (None, "ambiguous")]
    assert [placed.get(f"A man, {number}.") for number in range(len(said))] == [
        None if name == "ambiguous" else name for name in found
    ]
    assert imported.rows >= len(expected)
    assert imported.left_out["ambiguous"] == found.count("ambiguous")
    assert imported.left_out["no-image"] == len(said) + 1 - imported.rows - imported.left_out["ambiguous"]


def test_how_images_were_found_is_counted(tmp_path: Path, images: Path) -> None:
    (images / "cam2").mkdir()
    (images / "cam2" / "a b.jpg").touch()
    entries = {"cam2/a b.jpg": "A man.", "x/cam1/c'd.jpg": "A lady.", 'y/e"f.jpg': "A boy.", "z/a b.jpg": "A girl."}
    source = Source(write(tmp_path / "x.json", entries), "qwen")
    imported = import_captions([source], tmp_path / "captions", images, max_rejected=0.5)
    assert (imported.rows, imported.matched, imported.left_out) == (2, {"suffix": 1}, {"no-image": 2})
    with pytest.raises(CaptionError, match=r'2 of 4 captions cannot be used .* y/e"f\.jpg \(no-image\)'):
        import_captions([source], tmp_path / "other", images)
    assert not (tmp_path / "other").exists()


def test_two_entries_of_one_image_are_an_error(tmp_path: Path, images: Path) -> None:
    entries = {"p/cam1/a b.jpg": "A man.", "q/cam1/a b.jpg": "A lady."}
    source = Source(write(tmp_path / "x.json", entries), "qwen")
    with pytest.raises(CaptionError, match=r"'q/cam1/a b\.jpg' and an earlier one both describe 'cam1/a b\.jpg'"):
        import_captions([source], tmp_path / "captions", images)
    assert import_captions([source], tmp_path / "as_given").rows == 2


def test_a_repeated_key_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text('{"a.jpg": "A man.", "a.jpg": "A lady."}')
    with pytest.raises(CaptionError, match="and an earlier one both describe"):
        import_captions([Source(path, "qwen")], tmp_path / "captions")


def test_what_is_left_out_is_counted(tmp_path: Path, images: Path) -> None:
    entries: Mapping[str, Any] = {
        "a b.jpg": "A man.", "gone.jpg": "A man.", "c'd.jpg": None, 'e"f.jpg': 3, "ü-😀.jpg": "half \ud83d", "": "A",
    }  # fmt: skip
    source = Source(write(tmp_path / "x.json", entries), "qwen")
    with pytest.raises(CaptionError, match=r"5 of 6 captions cannot be used \(allowed: 5%\): gone\.jpg \(no-image\)"):
        import_captions([source], tmp_path / "captions", images)
    assert not (tmp_path / "captions").exists()
    imported = import_captions([source], tmp_path / "captions", images, max_rejected=0.9)
    rules = {"no-image": 1, "no-captions": 1, "not-text": 1, "not-unicode": 1, "no-path": 1}
    assert (imported.rows, imported.left_out) == (1, rules)


@pytest.mark.parametrize("image", ["/data/a.jpg", "../a.jpg", "x/../../a.jpg", "C:\\a.jpg", ".."])
def test_without_an_image_root_paths_must_be_relative(tmp_path: Path, image: str) -> None:
    source = Source(write(tmp_path / "x.json", {image: "A man."}), "qwen")
    with pytest.raises(CaptionError, match="not a path below an image root; give the folder of the images"):
        import_captions([source], tmp_path / "captions")


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ([3], "entry 0 is not an object"),
        ([{"id": 3, "captions": []}], "no field image or file_path .* for the image; there are: id, captions"),
        ([{"file_path": "a.jpg", "words": "x"}], "for the caption; .* name it with --caption-field"),
        ("text", "expected a JSON object or list"),
    ],
)
def test_foreign_json_is_named(tmp_path: Path, value: Any, problem: str) -> None:
    with pytest.raises(CaptionError, match=problem):
        import_captions([Source(write(tmp_path / "x.json", value), "qwen")], tmp_path / "captions")


def stream_file(path: Path, table: pa.Table) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)


def in_columns(captions: Sequence[Any], embedded: bool, names: Sequence[str] = ("image", "caption")) -> pa.Table:
    rows: list[Any] = [{"bytes": b"\x89PNG", "path": name} if embedded else name for name in NAMES]
    return pa.table({names[0]: rows, names[1]: captions})


@pytest.mark.parametrize("embedded", [True, False])
@pytest.mark.parametrize("suffix", ["arrow", "arrow-file", "parquet"])
def test_folders_of_the_datasets_library(tmp_path: Path, suffix: str, embedded: bool) -> None:
    folder = tmp_path / "hub"
    table = in_columns(["A man.", "A lady.", "A boy.", "A girl."], embedded)
    if suffix == "arrow":
        stream_file(folder / "train" / "data-00000-of-00001.arrow", table)
        stream_file(folder / "train" / "cache-1234.arrow", table)
    elif suffix == "arrow-file":
        folder.mkdir()
        with pa.ipc.new_file(str(folder / "data.arrow"), table.schema) as writer:
            writer.write_table(table)
    else:
        (folder / "data").mkdir(parents=True)
        pq.write_table(table, folder / "data" / "train-00000-of-00001.parquet", row_group_size=3)
    import_captions([Source(folder, "llava", "dynamic")], tmp_path / "captions")
    assert contents(tmp_path / "captions") == {
        (name, "llava/dynamic", caption)
        for name, caption in zip(NAMES, ["A man.", "A lady.", "A boy.", "A girl."], strict=True)
    }


def test_columns_of_other_names_and_lists_of_captions(tmp_path: Path) -> None:
    folder = tmp_path / "hub"
    stream_file(folder / "d.arrow", in_columns([["A man.", "A guy."], ["A lady."], [], None], False, ("crop", "said")))
    with pytest.raises(CaptionError, match="there are: crop, said; name it with --image-field"):
        import_captions([Source(folder, "x")], tmp_path / "captions")
    source = Source(folder, "x", image_field="crop", caption_field="said")
    imported = import_captions([source], tmp_path / "captions", max_rejected=0.5)
    assert (imported.rows, dict(imported.left_out)) == (3, {"no-captions": 2})
    assert list(captions_in(source)) == ["A man.", "A guy.", "A lady."]


LINES = [{"file_name": name, "text": f"A man, {name}."} for name in NAMES]


@pytest.mark.parametrize("name", ["captions.jsonl", "captions.ndjson", "captions.json", "folder/metadata.jsonl"])
def test_json_lines(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("\ufeff" + "\n\n".join(json.dumps(line) for line in LINES) + "\n", encoding="utf-8")
    source = Source(path.parent if "folder" in name else path, "human")
    assert import_captions([source], tmp_path / "table").rows == 4
    assert contents(tmp_path / "table") == {(line["file_name"], "human/static", line["text"]) for line in LINES}
    if path.suffix != ".json":
        path.write_text(json.dumps(LINES[0]) + '\n{"file_name": ')
        with pytest.raises(CaptionError, match="line 2: not valid JSON"):
            import_captions([source], tmp_path / "other")


@pytest.mark.parametrize(("suffix", "comma"), [("csv", ","), ("tsv", "\t")])
def test_tables_of_text(tmp_path: Path, suffix: str, comma: str) -> None:
    path = tmp_path / f"captions.{suffix}"
    path.write_text(f'image{comma}caption\na.jpg{comma}"A man, in ""red""."\nb.jpg{comma}\n')
    imported = import_captions([Source(path, "human")], tmp_path / "table", max_rejected=0.5)
    assert (imported.rows, imported.left_out) == (1, {"no-captions": 1})
    assert contents(tmp_path / "table") == {("a.jpg", "human/static", 'A man, in "red".')}
    path.write_text(f"image{comma}caption\na.jpg{comma}one{comma}two\n")
    with pytest.raises(CaptionError, match="row 2 has 3 values under 2 columns"):
        import_captions([Source(path, "human")], tmp_path / "other")


def test_captions_below_the_path_in_an_object(tmp_path: Path) -> None:
    source = Source(write(tmp_path / "x.json", {"a.jpg": {"caption": "A man.", "score": 0.5}}), "qwen")
    import_captions([source], tmp_path / "table")
    assert contents(tmp_path / "table") == {("a.jpg", "qwen/static", "A man.")}


SAID = [(name, f"A man, {name}.") for name in ("a.jpg", "b.jpg")]


@pytest.mark.parametrize(
    "value",
    [
        [{"file_name": name, "sentence": text} for name, text in SAID],
        [{"Image": name, "Description": text} for name, text in SAID],
        [{"filename": name, "sentences": [{"raw": text, "tokens": []}]} for name, text in SAID],
        [
            {"image": name, "conversations": [{"from": "human", "value": "?"}, {"from": "gpt", "value": text}]}
            for name, text in SAID
        ],
        {"data": [{"image": name, "caption": text} for name, text in SAID]},
        {"dataset": "d", "images": [{"filename": name, "id": 1, "sentences": [{"raw": text}]} for name, text in SAID]},
        {
            "info": {"year": 2024}, "licenses": [], "type": "captions",
            "images": [{"id": number, "file_name": name} for number, (name, _) in enumerate(SAID)],
            "annotations": [{"id": 7, "image_id": number, "caption": text} for number, (_, text) in enumerate(SAID)],
        },
    ],
)  # fmt: skip
@pytest.mark.parametrize("packed", [True, False])
def test_forms_of_other_data_sets(tmp_path: Path, value: Any, packed: bool) -> None:
    path = write(tmp_path / "x.json", value)
    if packed:
        path = tmp_path / "x.json.gz"
        path.write_bytes(gzip.compress((tmp_path / "x.json").read_bytes()))
    import_captions([Source(path, "web")], tmp_path / "table")
    assert contents(tmp_path / "table") == {(name, "web/static", text) for name, text in SAID}


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
@pytest.mark.parametrize("header", ["image;caption", "Image,Caption", "image_name|comment", "image\tdescription"])
def test_tables_as_spreadsheets_write_them(tmp_path: Path, encoding: str, header: str) -> None:
    path, comma = tmp_path / "x.csv", next(sign for sign in ";,|\t" if sign in header)
    lines = [header, *(f'{name}{comma} "{text}"' for name, text in SAID)]
    path.write_text("\r\n".join(lines), encoding=encoding)
    import_captions([Source(path, "web")], tmp_path / "table")
    assert contents(tmp_path / "table") == {(name, "web/static", text) for name, text in SAID}


def test_further_lines_of_an_image_are_further_captions(tmp_path: Path) -> None:
    lines = [{"image": "a.jpg", "caption": f"A man, {number}."} for number in range(3)]
    assert import_captions([Source(write(tmp_path / "x.json", lines), "web")], tmp_path / "table").rows == 3
    assert {slot for _, slot, _ in contents(tmp_path / "table")} == {"web/static", "web/static-2", "web/static-3"}


PNG = b"\x89PNG and pixels "


def hub_file(path: Path, **columns: Sequence[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return path


@pytest.mark.parametrize("folder", [True, False])
def test_two_caption_columns_are_two_slots(tmp_path: Path, folder: bool) -> None:
    for names in (("caption_1", "caption_2"), ("caption", "caption_2"), ("qwen_caption", "Short Caption")):
        path = tmp_path / names[0] / "data" / "train-00000-of-00001.parquet"
        texts: dict[str, Any] = {names[0]: ["A man."], names[1]: ["A guy in red."], "caption_length": [3]}
        hub_file(path, image=["a.jpg"], **texts)
        source = Source(path.parent.parent if folder else path, "web")
        assert import_captions([source], tmp_path / names[0] / "table").rows == 2
        assert contents(tmp_path / names[0] / "table") == {
            ("a.jpg", "web/static", "A man."), ("a.jpg", "web/static-2", "A guy in red."),
        }  # fmt: skip
        only = Source(path, "web", caption_field=names[1])
        assert list(captions_in(only)) == ["A guy in red."]
        both = Source(path, "web", caption_field=f"{names[1]},{names[0]}")
        assert list(captions_in(both)) == ["A guy in red.", "A man."]


@pytest.mark.parametrize("struct", [True, False])
def test_images_in_the_file_are_saved_or_told(tmp_path: Path, struct: bool) -> None:
    paths = ["cam/a.png", None, "../b.png", "cam/a.png"]
    images = [{"bytes": PNG + bytes([n]), "path": path} if struct else PNG + bytes([n]) for n, path in enumerate(paths)]
    path = hub_file(tmp_path / "x.parquet", image=images, caption=[f"A man, {n}." for n in range(4)])
    source, folder = Source(path, "web"), tmp_path / "images"
    if not struct:
        with pytest.raises(CaptionError, match=r"\(embedded\); --save-images FOLDER writes the images"):
            import_captions([source], tmp_path / "table")
    for attempt in ("table", "again"):
        assert import_captions([source], tmp_path / attempt, save_images=folder).rows == 4
        rows = sorted(contents(tmp_path / attempt), key=lambda row: row[2])
        assert [(folder / image).read_bytes() for image, _, _ in rows] == [PNG + bytes([n]) for n in range(4)]
        assert len([file for file in folder.rglob("*") if file.is_file()]) == 4
    assert (rows[0][0] == "cam/a.png") is struct
    assert all(image.endswith(".png") for image, _, _ in rows)
    assert not (tmp_path / "b.png").exists()
    with pytest.raises(CaptionError, match="not both"):
        import_captions([source], tmp_path / "other", images=folder, save_images=folder)


def test_two_columns_of_one_name_are_an_error(tmp_path: Path) -> None:
    table = pa.table([["a.jpg"], ["A man."], ["A lady."]], names=["image", "caption", "caption"])
    pq.write_table(table, tmp_path / "x.parquet")
    stream_file(tmp_path / "x.arrow", table)
    (tmp_path / "x.csv").write_text("image,caption,caption\na.jpg,A man.,A lady.\n")
    (tmp_path / "x.jsonl").write_text('{"image": "a.jpg", "caption": "A man.", "caption": "A lady."}\n')
    (tmp_path / "x.json").write_text('[{"image": "a.jpg", "image": "b.jpg", "captions": ["A man."]}]')
    for suffix in ("parquet", "arrow", "csv", "jsonl", "json"):
        with pytest.raises(
            CaptionError, match=f"two columns or fields are called '{'image' if suffix == 'json' else 'caption'}'"
        ):
            import_captions([Source(tmp_path / f"x.{suffix}", "any")], tmp_path / "table")
    (tmp_path / "x.json").write_text('[{"image": "a.jpg", "captions": ["A man."], "other": 1, "other": 2}]')
    assert import_captions([Source(tmp_path / "x.json", "any")], tmp_path / "table").rows == 1


def test_folders_without_captions(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(CaptionError, match="holds no Arrow or Parquet files"):
        import_captions([Source(tmp_path / "empty", "x")], tmp_path / "captions")
    (tmp_path / "empty" / "a.parquet").write_bytes(b"PAR1 and so on")
    with pytest.raises(CaptionError, match=r"a\.parquet: cannot be read"):
        import_captions([Source(tmp_path / "empty", "x")], tmp_path / "captions")
    with pytest.raises(CaptionError, match="no source"):
        import_captions([], tmp_path / "captions")


@pytest.fixture
def table(tmp_path: Path) -> Path:
    rows = [
        CaptionRow(f"cam/{name}", slot, f"{slot}: a man, {name}.", slot.split("/")[0], slot.split("/")[1], "", "", 0)
        for slot in ("shikra/dynamic", "qwen/static")
        for name in NAMES[: 4 if slot == "qwen/static" else 2]
    ]
    rows.append(CaptionRow("cam/rejected.jpg", "qwen/static", "I'm sorry.", "qwen", "static", "", "", 0, "refusal"))
    write_captions(tmp_path / "table", rows)
    return tmp_path / "table"


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
def test_folders_whose_names_are_not_utf8_are_written_and_read(tmp_path: Path, table: Path, suffix: str) -> None:
    folder = tmp_path / os.fsdecode(b"m\xfcller")
    try:
        folder.mkdir()
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    (file,) = export_captions(table, folder / "out", "datasets")
    if suffix == ".arrow":
        stream_file(tmp_path / "made.arrow", pq.read_table(io.BytesIO(file.read_bytes())))
        file.unlink()
        (tmp_path / "made.arrow").rename(folder / "out" / "data" / "data-00000-of-00001.arrow")
    import_captions([Source(folder / "out", "any")], folder / "back")
    assert contents(folder / "back") == contents(table)


@pytest.mark.parametrize("form", FORMS)
def test_what_goes_out_comes_in_again(tmp_path: Path, table: Path, form: str) -> None:
    files = export_captions(table, tmp_path / "out", form)
    assert all(file.is_file() for file in files)
    assert sorted(file for file in (tmp_path / "out").rglob("*") if file.is_file()) == sorted(files)
    sources = [Source.parse(str(file)) for file in files] if form == "released" else [Source(tmp_path / "out", "any")]
    import_captions(sources, tmp_path / "back")
    if form == "cuhk":
        assert {(image, text) for image, _, text in contents(tmp_path / "back")} == {
            (image, text) for image, _, text in contents(table)
        }
    else:
        assert contents(tmp_path / "back") == contents(table)


def test_the_released_files_are_plain_json(tmp_path: Path, table: Path) -> None:
    files = export_captions(table, tmp_path / "out", "released")
    assert [file.name for file in files] == ["Ts-qwen.json", "Td-shikra.json"]
    qwen = json.loads(files[0].read_text(encoding="utf-8"))
    assert qwen == {f"cam/{name}": f"qwen/static: a man, {name}." for name in NAMES}
    assert list(qwen) == sorted(qwen)


def test_cuhk_form_makes_each_image_its_own_identity(tmp_path: Path, table: Path) -> None:
    (file,) = export_captions(table, tmp_path / "out", "cuhk")
    entries = json.loads(file.read_text(encoding="utf-8"))
    assert [entry["id"] for entry in entries] == [1, 2, 3, 4]
    assert sorted(len(entry["captions"]) for entry in entries) == [1, 1, 2, 2]
    assert {entry["split"] for entry in entries} == {"train"}


def test_exports_that_cannot_be_made(tmp_path: Path, table: Path) -> None:
    with pytest.raises(CaptionError, match="no form 'xml'; known: released, cuhk, datasets"):
        export_captions(table, tmp_path / "out", "xml")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").touch()
    with pytest.raises(ArtifactError, match="exists already"):
        export_captions(table, tmp_path / "out", "cuhk")
    write_captions(tmp_path / "human", [CaptionRow("a.jpg", "human/static-2", "A man.", "human", "static", "", "", 0)])
    with pytest.raises(CaptionError, match="slot 'human/static-2' has no name in the released form"):
        export_captions(tmp_path / "human", tmp_path / "other", "released")


def test_tables_that_lie_quietly_or_are_not_utf8_are_refused_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("image,caption,Caption\n1.jpg,a man,a woman\n")
    with pytest.raises(CaptionError, match="two columns or fields are called 'caption'"):
        import_captions([Source(tmp_path / "a.csv", "human")], tmp_path / "out")
    import_captions([Source(tmp_path / "a.csv", "human", caption_field="Caption")], tmp_path / "out")
    for name, text in (("b.csv", "image,caption\n1.jpg,un café"), ("b.json", '{"1.jpg": "un café"}')):
        (tmp_path / name).write_bytes(text.encode("cp1252"))
        with pytest.raises(CaptionError, match=r"not UTF-8 text: .* iconv -f cp1252 -t utf-8 OLD > NEW"):
            import_captions([Source(tmp_path / name, "human")], tmp_path / "other")


@pytest.mark.parametrize("order", [("images", "annotations"), ("annotations", "images")])
def test_the_lists_of_coco_may_be_long_and_stand_in_any_order(order: tuple[str, str], tmp_path: Path) -> None:
    lists: dict[str, list[dict[str, Any]]] = {
        "images": [{"id": n, "file_name": f"{n}.jpg", "padding": "x" * 3_000_000} for n in range(6)],
        "annotations": [{"id": n, "image_id": n, "caption": f"a man, {n}"} for n in range(6)],
    }
    (tmp_path / "coco.json").write_text(json.dumps({"info": {}, **{name: lists[name] for name in order}}))
    assert import_captions([Source(tmp_path / "coco.json", "human")], tmp_path / "out").rows == 6
    assert [row.image for row in caption_rows(tmp_path / "out")] == [f"{n}.jpg" for n in range(6)]


@pytest.mark.parametrize("name", ["results.token", "captions.txt"])
def test_numbered_captions_without_a_header(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text('1.jpg#0\ta man, in "red" .\n1.jpg#1\ta person .\n2.jpg#0\ta woman .\n')
    assert import_captions([Source(tmp_path / name, "human")], tmp_path / "out").rows == 3
    found = [(row.image, row.slot, row.caption) for row in caption_rows(tmp_path / "out")]
    assert found[:2] == [("1.jpg", "human/static", 'a man, in "red" .'), ("1.jpg", "human/static-2", "a person .")]
    (tmp_path / name).write_text("1.jpg#0\ta man\nno image\n")
    with pytest.raises(CaptionError, match="line 2: expected IMAGE#NUMBER"):
        import_captions([Source(tmp_path / name, "human")], tmp_path / "other")
