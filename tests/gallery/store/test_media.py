"""Videos and photographs come into a gallery: the people in them, once, also after a kill and as a file grows."""

import os
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from tests.people.conftest import BlobDetector, write_video

from textreid.gallery.encoder import GalleryEncoder
from textreid.gallery.store import Database, Facts, Store
from textreid.gallery.store.indexing import IndexReport, Knowledge, index_crops, open_gallery
from textreid.gallery.store.media import embed_photographs, find_videos, index_video
from textreid.people.boxes import Detections

Picture = npt.NDArray[np.uint8]
START = datetime(2026, 5, 31, 14)


@pytest.fixture
def opened(database: Database, model_folder: Path) -> tuple[Store, GalleryEncoder]:
    return open_gallery(database, "demo", str(model_folder), "fp32")


def walk(seconds: int, width: int = 240) -> Iterator[Picture]:
    """Somebody, striped, walks through a dark picture from left to right in five seconds, again and again."""
    generator = np.random.default_rng(0)
    person = generator.integers(90, 255, (90, 36, 3), np.uint8)
    for number in range(10 * seconds):
        frame = np.zeros((120, width, 3), np.uint8)
        left = 4 * (number % 50)
        frame[16:106, left : left + 36] = person[:, : max(0, width - left)]
        yield frame


def crops_of(store: Store) -> list[tuple[float | None, int | None]]:
    ids = store.all_scores(np.eye(1, store.dim, dtype=np.float32))[0].tolist()
    return sorted((crop.seconds, crop.track) for crop in store.crops(ids))


class StoppedError(Exception):
    """The end of a run that is killed."""


class StopAfter:
    """Detector that ends the run at a frame."""

    def __init__(self, frames: int) -> None:
        self._blobs, self._left = BlobDetector(), frames
        self.name, self.side, self.heights = "stop", self._blobs.side, self._blobs.heights

    def detect(self, picture: Picture) -> Detections:
        self._left -= 1
        if self._left < 0:
            raise StoppedError
        return self._blobs.detect(picture)


def test_the_people_of_a_video_are_found_once(opened: tuple[Store, GalleryEncoder], tmp_path: Path) -> None:
    store, encoder = opened
    video = write_video(tmp_path / "gate.avi", walk(12))
    said: list[tuple[float, float | None, int]] = []
    knowledge = Knowledge(table={"gate.avi": Facts("gate", START, ("may",))})
    done = index_video(
        str(video), store, encoder, BlobDetector(), knowledge, lambda *what: said.append(what), IndexReport(embedded=7)
    )
    count = done.embedded - 7  # of a source before
    assert count == store.counts().crops == len(crops_of(store)) >= 3
    length = 11.901  # of 120 frames, up to the last
    assert [(seconds, total) for seconds, total, _ in said] == [(0, None), (10, 12), (length, length)]
    assert said[-1][2] == count
    page = store.search(np.eye(1, store.dim, dtype=np.float32)[0], top=100)
    for hit in page.hits:
        crop = hit.crop
        assert (crop.camera, crop.tags, crop.is_file, str(crop.path)) == ("gate", ("may",), False, str(video))
        assert crop.seconds is not None
        assert crop.time is not None
        assert abs(crop.time - START - timedelta(seconds=crop.seconds)) < timedelta(milliseconds=1)
        assert crop.box is not None
        assert store.picture(crop.id).height == pytest.approx(crop.box[3], abs=2)
        assert crop.place.startswith(f"{video}#t={crop.seconds:.2f}&xywh=")
    again = index_video(str(video), store, encoder, BlobDetector(), knowledge)
    assert (again.embedded, again.unchanged) == (0, 1)
    later = Knowledge(table={"gate.avi": Facts("yard", START + timedelta(hours=1))})
    assert index_video(str(video), store, encoder, BlobDetector(), later).updated == 1
    assert store.cameras() == {"yard": count}
    first = store.counts().first
    assert first is not None
    assert first >= START + timedelta(hours=1)


def test_a_run_that_was_killed_goes_on_and_finds_what_one_run_finds(
    opened: tuple[Store, GalleryEncoder], tmp_path: Path, database: Database, model_folder: Path
) -> None:
    store, encoder = opened
    video = write_video(tmp_path / "a.avi", walk(24))
    with pytest.raises(StoppedError):
        index_video(str(video), store, encoder, StopAfter(170))
    path = os.path.realpath(video)
    known = store.known_files([path])[path]
    assert not known.finished
    assert known.position == pytest.approx(10_000, abs=300)
    some = store.counts().crops
    assert some > 0
    done = index_video(str(video), store, encoder, BlobDetector())
    assert store.counts().crops == some + done.embedded
    other, _ = open_gallery(database, "whole", str(model_folder), "fp32")
    index_video(str(video), other, encoder, BlobDetector())
    # A track that the kill cut in two has another number and perhaps one crop more; nobody is missing.
    at = np.array([seconds for seconds, _ in crops_of(store)])
    for seconds, _ in crops_of(other):
        assert np.abs(at - seconds).min() < 2.5
    assert len(at) <= len(crops_of(other)) + 3
    assert len(set(at.tolist())) == len(at)


def test_a_video_that_was_replaced_is_looked_at_anew(opened: tuple[Store, GalleryEncoder], tmp_path: Path) -> None:
    store, encoder = opened
    video = write_video(tmp_path / "a.avi", walk(4))
    index_video(str(video), store, encoder, BlobDetector())
    write_video(video, (np.zeros((120, 240, 3), np.uint8) for _ in range(30)))
    index_video(str(video), store, encoder, BlobDetector())
    assert store.counts().crops == 0
    assert store.counts().files == 1


@pytest.mark.parametrize(("content", "reason"), [(b"", "empty"), (b"no video" * 100, "")])
def test_a_video_that_cannot_be_read_is_quarantined(
    opened: tuple[Store, GalleryEncoder], tmp_path: Path, content: bytes, reason: str
) -> None:
    store, encoder = opened
    (tmp_path / "bad.avi").write_bytes(content)
    for _ in range(2):
        done = index_video(str(tmp_path / "bad.avi"), store, encoder, BlobDetector())
        ((path, said),) = done.quarantined
        assert path.name == "bad.avi"
        assert reason in said
        assert not said.startswith(str(tmp_path))
    assert store.counts().quarantined == 1


def test_photographs_of_several_people(
    opened: tuple[Store, GalleryEncoder], tmp_path: Path, make_crops: Callable[..., Path]
) -> None:
    store, encoder = opened
    folder = make_crops(1, "photographs")
    frame = np.zeros((200, 400, 3), np.uint8)
    person = np.random.default_rng(0).integers(90, 255, (90, 36, 3), np.uint8)
    for left in (20, 180, 300):
        frame[50:140, left : left + 36] = person
    Image.fromarray(frame).save(folder / "three.png")
    (folder / "bad.png").write_bytes(b"no picture")

    def find(*arguments: object) -> Iterator[int]:
        return embed_photographs(BlobDetector(), *arguments)  # type: ignore[arg-type]

    (folder / "0.png").unlink()
    done = index_crops(folder, store, encoder, photographs=find)
    assert (done.embedded, len(done.quarantined)) == (3, 1)
    hits = store.search(np.eye(1, store.dim, dtype=np.float32)[0]).hits
    assert sorted(hit.crop.box[0] for hit in hits if hit.crop.box) == pytest.approx([20, 180, 300], abs=2)
    assert index_crops(folder, store, encoder, photographs=find).unchanged == 1
    # Said to be crops now, they are looked at again: as one person the picture of three is noise.
    done = IndexReport()
    index_crops(folder, store, encoder, done=done)
    assert [reason.split(":")[0] for _, reason in done.quarantined] == ["not an image (known formats", "shows nothing"]
    assert store.counts().crops == 0


def test_videos_of_a_folder_are_found(tmp_path: Path) -> None:
    for name in ("b.MP4", "sub/a.avi", ".hidden/c.avi", "@eaDir/d.avi", "e.txt", "._f.avi"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [path.relative_to(tmp_path).as_posix() for path in find_videos(tmp_path)] == ["b.MP4", "sub/a.avi"]
