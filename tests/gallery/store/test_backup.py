"""A gallery as a file comes back as it was, under new numbers; a table is for other programs."""

import json
import zipfile
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from textreid.errors import ArtifactError
from textreid.gallery.embedding_cache import FileStamp
from textreid.gallery.store import Database, Facts, Filters, NewCrop, NewFile, Store, StoreError
from textreid.gallery.store.backup import back_up, export, restore

STAMP = FileStamp(1, 2, 3)
TIME = datetime(2026, 5, 31, 14, 5, 9)
VECTORS = np.eye(8, dtype=np.float32)


@pytest.fixture
def store(database: Database) -> Store:
    store = database.create("demo", "small", "abc", 8)
    store.set_fact("calibration", {"slope": 2})
    video = [
        NewCrop(
            VECTORS[i], bytes([i]) * 32, b"\xff\xd8 jpeg %d" % i, i, i / 2, TIME, "gate", (1, 2, 3, i + 0.5), i,
            ("bag",), 1.5, 0.25, 0.9,
        )
        for i in range(3)
    ]  # fmt: skip
    store.add("/v", [NewFile("/v/a b\t\\.avi", STAMP, None, video, Facts("gate", TIME), position=9, finished=False)])
    store.add("/crops", [NewFile("/crops/ü.png", STAMP, b"d", [NewCrop(VECTORS[4], b"d" * 32)])])
    store.add("/crops", [NewFile("/crops/bad.png", STAMP, b"e", problem="damaged")])
    return store


def content(store: Store) -> list[object]:
    numbers = store.all_scores(VECTORS[:1])[0].tolist()
    crops = [replace(crop, id=0, file_id=0) for crop in store.crops(numbers)]
    return [crops, store.vectors(numbers).tolist(), store.sources(), store.quarantine(), store.fact("calibration")]


def test_a_backup_comes_back_as_it_was(database: Database, store: Store, tmp_path: Path) -> None:
    path = tmp_path / "demo.gallery"
    assert back_up(store, path) == 4
    again = restore(database, path, "again")
    assert content(again) == content(store)
    assert (again.model, again.fingerprint, again.dim) == ("small", "abc", 8)
    assert again.as_of() > store.as_of()
    (hit,) = again.search(VECTORS[1], Filters(cameras=("gate",)), 1).hits
    assert (again.jpeg(hit.crop.id), hit.score) == (b"\xff\xd8 jpeg 1", 0.75)
    known = again.known_files(["/v/a b\t\\.avi"])["/v/a b\t\\.avi"]
    assert (known.position, known.finished, known.facts) == (9, False, Facts("gate", TIME))
    with pytest.raises(StoreError, match="there is a gallery 'demo'"):
        restore(database, path)
    database.delete("demo")
    assert restore(database, path).name == "demo"


def test_a_damaged_backup_changes_nothing(database: Database, store: Store, tmp_path: Path) -> None:
    path = tmp_path / "demo.gallery"
    back_up(store, path)
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
        begin = archive.getinfo("crop.copy").header_offset + 60
    manifest = json.loads(parts["manifest.json"])
    flipped = whole[:begin] + bytes(byte ^ 0x55 for byte in whole[begin : begin + 8]) + whole[begin + 8 :]
    for name, data in {"cut": whole[: len(whole) // 2], "none": b"nothing", "flipped": flipped}.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ArtifactError, match=name):
            restore(database, tmp_path / name, "again")
    for name, change in {"newer": {"schema": 999}, "foreign": {"kind": "x"}}.items():
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            for part, data in (parts | {"manifest.json": json.dumps(manifest | change).encode()}).items():
                archive.writestr(part, data)
        with pytest.raises(ArtifactError, match=name):
            restore(database, tmp_path / name, "again")
    assert [info.name for info in database.galleries()] == ["demo"]
    with pytest.raises(ArtifactError, match="nowhere: cannot be read"):
        restore(database, tmp_path / "nowhere")


def test_an_export_is_one_line_a_crop_and_a_row_of_numbers(store: Store, tmp_path: Path) -> None:
    assert export(store, tmp_path / "a.jsonl", tmp_path / "a.npy") == 4
    rows = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text("utf-8").splitlines()]
    assert [row["path"] for row in rows] == ["/v/a b\t\\.avi"] * 3 + ["/crops/ü.png"]
    assert (rows[1]["time"], rows[1]["box"], rows[1]["tags"]) == ("2026-05-31T14:05:09", [1, 2, 3, 1.5], ["bag"])
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), VECTORS[[0, 1, 2, 4]])
