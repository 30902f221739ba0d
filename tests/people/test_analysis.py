import io
import time
import tracemalloc
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from tests.people.conftest import BlobDetector, Picture, blobs, numbered, write_video
from tests.people.rtsp_server import Camera

from textreid.errors import ImageError, VideoError
from textreid.people import PersonCrop, Video, analyse_photograph, analyse_video, find_people
from textreid.people.boxes import Detections
from textreid.people.tracking import Features


def walk(seconds: float, speed: int = 6, start: int = 0) -> list[list[tuple[int, int]]]:
    """Somebody walks through the picture of `blobs`, ten frames a second."""
    return [[(start + speed * frame, 50)] for frame in range(int(10 * seconds))]


def all_alike(crops: Sequence[Picture]) -> Features:
    return np.ones((len(crops), 1), np.float32)


def by_track(crops: list[PersonCrop]) -> dict[int | None, list[PersonCrop]]:
    tracks = defaultdict(list)
    for crop in crops:
        tracks[crop.track].append(crop)
    return dict(tracks)


def test_one_walk_past_a_camera_is_a_few_crops_of_one_track(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mkv", blobs([*[[]] * 5, *walk(4.5), *[[]] * 5]))
    crops = list(find_people(path, detector=BlobDetector()))
    assert {crop.track for crop in crops} == {0}
    assert len(crops) == 2
    for crop in crops:
        assert crop.frame is not None
        assert crop.seconds == pytest.approx(crop.frame / 10)
        left, top, width, height = crop.box
        assert (left, top, width, height) == pytest.approx((6 * (crop.frame - 5), 50, 24, 60), abs=4)
        assert crop.pixels.shape == pytest.approx((height, width, 3), abs=1)
        assert crop.pixels[10:50, 4:-4].mean() > 100
        assert crop.confidence == pytest.approx(0.9)
        assert Image.open(io.BytesIO(crop.jpeg)).size == crop.pixels.shape[1::-1]


@pytest.mark.parametrize(("rate", "asked"), [(2, 10.0), (1, 10.0), (10, 2.0), (10, 0.4)])
def test_who_walks_past_a_camera_of_few_frames_is_found(rate: int, asked: float, tmp_path: Path) -> None:
    places = [[(step * 10 // rate, 50)] for step in range(20 * rate)]
    path = write_video(tmp_path / "v.mkv", [*blobs([[]] * rate), *blobs(places), *blobs([[]] * rate)], rate=rate)
    crops = list(find_people(path, detector=BlobDetector(), embed=all_alike, frames_a_second=asked))
    assert {crop.track for crop in crops} == {0}
    seconds = [crop.seconds or 0.0 for crop in crops]
    assert min(seconds) < 6
    assert max(seconds) > 15


def test_two_people_are_two_tracks_and_whoever_is_cut_by_the_border_is_no_first_choice(tmp_path: Path) -> None:
    places = [[(6 * frame - 20, 20), (300 - 6 * frame, 90)] for frame in range(50)]
    crops = list(find_people(write_video(tmp_path / "v.mkv", blobs(places)), detector=BlobDetector()))
    assert set(by_track(crops)) == {0, 1}
    assert all(crop.box[0] > 4 and crop.box[0] + crop.box[2] < 316 for crop in crops)


def test_times_and_the_camera_are_told(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mkv", blobs(walk(2)))
    began = datetime(2026, 3, 1, 12, 30)
    (part,) = analyse_video(path, detector=BlobDetector(), camera="gate", started=began, first_track=40)
    assert part.finished
    assert part.problem is None
    assert part.position > 1900
    for crop in part.crops:
        assert crop.time == began + timedelta(seconds=crop.seconds or 0)
        assert (crop.camera, crop.track) == ("gate", 40)


def test_parts_arrive_on_the_way_also_where_nobody_is(tmp_path: Path) -> None:
    frames = blobs([*[[]] * 125, *walk(4), *[[]] * 40, *walk(6, 5), *[[]] * 20])
    parts = list(analyse_video(write_video(tmp_path / "v.mkv", frames), detector=BlobDetector()))
    assert [part.finished for part in parts] == [False, False, True]
    assert [len(part.crops) for part in parts[:1]] == [0]
    assert [round(part.position / 1000) for part in parts] == [10, 20, 28]
    crops = [crop for part in parts for crop in part.crops]
    assert set(by_track(crops)) == {0, 1}
    for part, before in zip(parts, [0, *[part.position for part in parts]], strict=False):
        assert all(before <= 1000 * (crop.seconds or 0) < part.position for crop in part.crops)


@pytest.mark.parametrize("kill_after", [1, 2])
def test_a_run_that_goes_on_hands_out_nothing_twice_and_leaves_out_nothing(kill_after: int, tmp_path: Path) -> None:
    places = [[(40 + (5 * frame) % 200, 20 + 40 * (frame // 40 % 2))] for frame in range(250)]
    path = write_video(tmp_path / "v.mkv", blobs(places), options={"g": "12"})
    whole = [part for part in analyse_video(path, detector=BlobDetector())]  # noqa: C416
    first = whole[:kill_after]
    rest = list(analyse_video(path, start=first[-1].position, first_track=100, detector=BlobDetector()))
    frames = [crop.frame for part in [*first, *rest] for crop in part.crops]
    assert len(frames) == len(set(frames))
    assert all((crop.seconds or 0) * 1000 >= first[-1].position for part in rest for crop in part.crops)
    assert rest[-1].position == whole[-1].position
    shown = sorted(crop.seconds or 0 for part in [*first, *rest] for crop in part.crops)
    assert max(after - before for before, after in pairwise([0, *shown, 25])) < 8


def test_who_stays_gives_one_crop_now_and_then(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mkv", blobs([[(100, 50)]] * 450))
    parts = list(analyse_video(path, detector=BlobDetector()))
    assert [len(part.crops) for part in parts] == [4, 1, 1, 1, 1]
    assert {crop.track for part in parts for crop in part.crops} == {0}


class ColourOf:
    """Features of a crop: the mean colour, of length 1."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, crops: Sequence[Picture]) -> Features:
        self.count += len(crops)
        means = np.stack([crop[10:-10, 5:-5].reshape(-1, 3).mean(axis=0) for crop in crops]).astype(np.float32)
        centred = means - means.mean(axis=1, keepdims=True)
        return np.asarray(centred / np.linalg.norm(centred, axis=1, keepdims=True), np.float32)


def test_looks_join_what_was_seen_before_and_after_a_pillar(tmp_path: Path) -> None:
    before, after = [[(3 * frame, 50)] for frame in range(20)], [[(100 + 3 * frame, 50)] for frame in range(25)]
    places: list[list[tuple[int, int]]] = [*before, *[[]] * 25, *after]
    path = write_video(tmp_path / "v.mkv", blobs(places))
    without = by_track(list(find_people(path, detector=BlobDetector())))
    embed = ColourOf()
    joined = by_track(list(find_people(path, detector=BlobDetector(), embed=embed)))
    assert len(joined) == 1
    assert len(without) in {1, 2}
    assert 2 <= embed.count <= 15


def test_a_video_in_which_nobody_is(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", numbered(12))
    (part,) = analyse_video(path)
    assert part.crops == ()
    assert part.finished


@pytest.mark.slow
def test_a_walk_of_a_drawn_person_with_the_bundled_detector(people: list[Picture], tmp_path: Path) -> None:
    frames = []
    for frame in range(30):
        scene = np.full((320, 448, 3), 128, np.uint8)
        scene[100:250, 20 + 10 * frame : 80 + 10 * frame] = people[0]
        frames.append(scene)
    crops = list(find_people(write_video(tmp_path / "v.mp4", frames, "libx264")))
    assert set(by_track(crops)) == {0}
    for crop in crops:
        left, _, width, _ = crop.box
        assert 20 + 10 * (crop.frame or 0) - 20 < left + width / 2 - 30 < 20 + 10 * (crop.frame or 0) + 20


@pytest.mark.slow
def test_4k(people: list[Picture], tmp_path: Path) -> None:
    person = np.asarray(Image.fromarray(people[0]).resize((400, 1000)))
    scene = np.full((2160, 3840, 3), 128, np.uint8)
    scene[600:1600, 1000:1400] = person
    path = write_video(tmp_path / "v.mp4", [scene] * 4, "libx264", options={"preset": "ultrafast"})
    crops = list(find_people(path))
    assert len(crops) == 1
    assert crops[0].pixels.shape[0] > 600


@pytest.mark.slow
def test_a_photograph_of_a_crowd_of_two_hundred(people: list[Picture], tmp_path: Path) -> None:
    scene = np.full((1500, 2500, 3), 128, np.uint8)
    small = np.asarray(Image.fromarray(people[1]).resize((44, 110)))
    places = [(20 + 98 * column, 20 + 180 * row) for row in range(8) for column in range(25)]
    for left, top in places:
        scene[top : top + 110, left : left + 44] = small
    Image.fromarray(scene).save(tmp_path / "crowd.png")
    part = analyse_photograph(tmp_path / "crowd.png", camera="square")
    assert part.finished
    assert 190 <= len(part.crops) <= 210
    assert {crop.camera for crop in part.crops} == {"square"}
    assert all((crop.track, crop.frame, crop.seconds) == (None, None, None) for crop in part.crops)


def test_files_that_cannot_be_read_say_so(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("no photograph")
    (tmp_path / "a.mp4").touch()
    with pytest.raises(ImageError, match=r"a\.jpg: not an image"):
        analyse_photograph(tmp_path / "a.jpg")
    with pytest.raises(VideoError, match=r"a\.mp4: the file is empty"):
        list(analyse_video(tmp_path / "a.mp4"))


def test_what_is_wrong_with_a_video_is_told_with_its_last_part(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 64, 64, 3), np.uint8)
    whole = write_video(tmp_path / "v.avi", noise, "mjpeg", pixels="yuvj420p")
    (tmp_path / "cut.avi").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    *_, last = analyse_video(tmp_path / "cut.avi", detector=BlobDetector())
    assert last.finished
    assert last.problem is not None


def test_an_error_of_the_detector_reaches_the_caller(tmp_path: Path) -> None:
    class Broken(BlobDetector):
        def detect(self, picture: npt.NDArray[np.uint8]) -> Detections:
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        list(analyse_video(write_video(tmp_path / "v.mkv", blobs(walk(1))), detector=Broken()))


def test_a_run_that_is_given_up_ends_its_threads_and_closes_the_file(tmp_path: Path) -> None:
    import threading

    path = write_video(tmp_path / "v.mkv", blobs([[(100, 50)]] * 300))
    before = threading.active_count()
    parts = analyse_video(path, detector=BlobDetector())
    next(parts)
    parts.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


@pytest.mark.slow
def test_memory_does_not_grow_with_the_length_of_a_video(tmp_path: Path) -> None:
    places = [[(10 + (7 * frame) % 280, 20 + 30 * (frame // 40 % 3))] for frame in range(600)]
    peaks = []
    for count in (150, 600):
        path = write_video(tmp_path / f"{count}.mkv", blobs(places[:count]))
        tracemalloc.start()
        for _ in analyse_video(path, detector=BlobDetector()):
            pass
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 2 * peaks[0]  # of four times the frames; how far it reads ahead hangs on what else runs


def test_a_camera_on_the_network(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.ts", blobs(walk(4)), "libx264", options={"g": "10", "bf": "0"})
    with Camera(path.read_bytes()) as camera:
        parts = list(analyse_video(f"rtsp://user:secret@127.0.0.1:{camera.port}/main", detector=BlobDetector()))
        assert "PLAY" in camera.requests
    assert parts[-1].finished
    crops = [crop for part in parts for crop in part.crops]
    assert set(by_track(crops)) == {0}


@pytest.mark.slow
def test_who_is_too_slow_for_a_camera_passes_frames_over_and_not_those_of_a_file(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.ts", blobs(walk(4)), "libx264", options={"g": "10", "bf": "0"})

    def read_slowly(source: str | Path) -> list[int]:
        with Video(source) as video:
            numbers = []
            for frame in video:
                numbers.append(frame.number)
                if len(numbers) < 8:
                    time.sleep(0.3)
        return numbers

    with Camera(path.read_bytes()) as camera:
        seen = read_slowly(f"rtsp://127.0.0.1:{camera.port}/main")
    assert seen[:4] == [0, 1, 2, 3]
    assert 8 <= len(seen) < 40
    assert read_slowly(path) == list(range(40))


def test_a_camera_that_is_not_there_is_named_without_its_password() -> None:
    with Camera(b"") as camera:
        port = camera.port
    with pytest.raises(VideoError, match="the stream does not answer") as caught:
        list(find_people(f"rtsp://user:secret@127.0.0.1:{port}/main", detector=BlobDetector()))
    assert "secret" not in str(caught.value)
    assert f"127.0.0.1:{port}/main" in str(caught.value)
