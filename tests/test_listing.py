import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from textreid.errors import DataError
from textreid.images import read_suffixes
from textreid.listing import list_images, name_on_disk


def test_images_are_listed_in_order_without_hidden_ones(tmp_path: Path) -> None:
    root = tmp_path / "images"
    names = ["b/2.JPG", "b/10.png", "a.webp", "b/deep/er/x.jpeg", "é.gif"]
    others = [".hidden.jpg", ".cache/a.jpg", "b/notes.txt", "b/jpg", "b/.x/y.png"]
    for name in names + others:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    (root / "b" / "again").symlink_to(root)  # a circle
    outside = tmp_path / "elsewhere"
    outside.mkdir()
    (outside / "linked.jpg").write_bytes(b"")
    (root / "z").symlink_to(outside)
    found = [path.relative_to(root).as_posix() for path in list_images(root).images]
    assert found == sorted([*names, "z/linked.jpg"])
    assert list_images(outside).images == [outside / "linked.jpg"]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("@eaDir/a.jpg/SYNOPHOTO_THUMB_M.jpg", "@eaDir"),
        ("#recycle/a.jpg", "#recycle"),
        ("@Recycle/a.jpg", "@Recycle"),
        (".@__thumb/a.jpg", ".@__thumb"),
        ("__MACOSX/._a.jpg", "__MACOSX"),
        ("._a.jpg", "._*"),
        (".thumbnails/a.jpg", ".thumbnails"),
        (".picasaoriginals/a.jpg", ".picasaoriginals"),
        ("$RECYCLE.BIN/a.jpg", "$RECYCLE.BIN"),
        ("System Volume Information/a.jpg", "System Volume Information"),
        ("lost+found/a.jpg", "lost+found"),
        (".git/a.jpg", ".git"),
        ("Thumbs.db", "Thumbs.db"),
        ("desktop.ini", "desktop.ini"),
        (".DS_Store", ".DS_Store"),
        (".cache/a.jpg", "hidden"),
        ("FOUND.000/a.jpg", "FOUND.000"),
        ("~snapshot/a.jpg", "~snapshot"),
        ("Network Trash Folder/a.jpg", "Network Trash Folder"),
        ("Previews.lrdata/a.jpg", "*.lrdata"),
        ("a.jpg~", "*~"),
    ],
)
def test_by_products_of_other_programs_are_skipped_and_counted(name: str, kind: str, tmp_path: Path) -> None:
    for path in ("sub/eaDir.jpg", f"sub/{name}", name):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(b"")
    listing = list_images(tmp_path)
    assert listing.images == [tmp_path / "sub/eaDir.jpg"]
    assert listing.by_products == {kind: 2}
    assert listing.notes() == [f"left out, made by other programs or hidden: 2 {kind}"]


def test_formats_that_are_not_read_are_counted_by_suffix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    read_suffixes.cache_clear()
    for name in ("a.jpg", "b.HEIC", "c.heic", "d.mov", "e.NEF", "f.jxl", "notes.txt", "sub/g.avif"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    listing = list_images(tmp_path)
    read_suffixes.cache_clear()
    assert [path.name for path in listing.images] == ["a.jpg", "g.avif"]
    assert listing.notes() == ["not read: 2 .heic, 1 .jxl, 1 .mov, 1 .nef; pip install 'textreid[heic]' reads HEIC"]


def test_odd_entries_are_named_and_the_rest_is_listed(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"")
    (tmp_path / "broken.jpg").symlink_to("nowhere.jpg")
    (tmp_path / "self.jpg").symlink_to("self.jpg")
    (tmp_path / "one").symlink_to("two")
    (tmp_path / "two").symlink_to("one")
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "folder.jpg" / "b.jpg").write_bytes(b"")
    listing = list_images(tmp_path)
    assert [path.name for path in listing.images] == ["a.jpg", "b.jpg"]
    named = {path.name: reason for path, reason in listing.odd}
    assert named == {
        "broken.jpg": "a broken link", "one": "Too many levels of symbolic links", "pipe.jpg": "not a file",
        "self.jpg": "Too many levels of symbolic links", "two": "Too many levels of symbolic links",
    }  # fmt: skip
    assert listing.notes()[0] == f"left out: {tmp_path}/broken.jpg: a broken link"


def test_a_subfolder_that_cannot_be_listed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.jpg", "locked/b.jpg", "z/c.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    scandir = os.scandir

    def refuse(path: Path) -> AbstractContextManager[Iterator[os.DirEntry[str]]]:  # permissions do not stop root
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    listing = list_images(tmp_path)
    assert [path.name for path in listing.images] == ["a.jpg", "c.jpg"]
    assert listing.notes() == [f"left out: {tmp_path}/locked: cannot be listed: Permission denied"]


def test_many_odd_entries_are_not_all_named(tmp_path: Path) -> None:
    for number in range(9):
        (tmp_path / f"{number}.jpg").symlink_to("nowhere")
    assert len(list_images(tmp_path).odd) == 9
    assert list_images(tmp_path).notes()[-1] == "left out: 4 more that cannot be followed"


def test_a_folder_that_is_missing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere: cannot be listed: No such file"):
        list_images(tmp_path / "nowhere")
    (tmp_path / "file.jpg").write_bytes(b"")
    with pytest.raises(DataError, match="cannot be listed: Not a directory"):
        list_images(tmp_path / "file.jpg")


def test_a_suffix_that_is_no_word_leaves_the_format_to_the_content(tmp_path: Path) -> None:
    jpeg, text = b"\xff\xd8\xff\xe0", b"no picture"
    pictures = ["a", "b.jpg_large", "c.jpg.1", "d.jpg!d", "e.0001"]
    for name in pictures:
        (tmp_path / name).write_bytes(jpeg)
    for name in ("README", "f.part", "notes.1"):
        (tmp_path / name).write_bytes(jpeg if name == "f.part" else text)
    os.mkfifo(tmp_path / "pipe")
    assert [path.name for path in list_images(tmp_path).images] == pictures


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may enter every folder")
def test_a_name_in_a_folder_that_nobody_may_enter_is_not_on_disk(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o444)
    assert name_on_disk(tmp_path, "closed/a.jpg") == "closed/a.jpg"


def test_a_name_that_no_system_takes_is_not_on_disk(tmp_path: Path) -> None:
    assert name_on_disk(tmp_path, "é" * 300) == "é" * 300
