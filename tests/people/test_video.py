"""Real videos, made here, in every way that they are odd or damaged."""

import threading
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from tests.people.conftest import Picture, numbered, write_video

from textreid.errors import ConfigError, VideoError
from textreid.people.video import Frame, Video, is_stream, is_video


def read(path: Path | str, rate: float = 1000, **options: float) -> tuple[list[Frame], str | None]:
    with Video(path, rate, **options) as video:
        return list(video), video.problem


def number_of(frame: Frame) -> int:
    """What `numbered` drew."""
    return round((float(frame.pixels.mean()) - 16) / 8)


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """25 frames, at 25 a second."""
    return write_video(tmp_path_factory.mktemp("video") / "plain.mp4", numbered(25), "libx264", 25)


@pytest.mark.parametrize(
    ("path", "video"),
    [("a.MP4", True), ("a.avi", True), ("b/c.ts", True), ("a.jpg", False), ("a", False), ("rtsp://camera/1", True)],
)
def test_a_video_is_told_by_its_suffix(path: str, video: bool) -> None:
    assert is_video(path) is video


def test_a_stream_is_told_by_its_address() -> None:
    assert is_stream("rtsp://user:secret@10.0.0.3:554/main")
    assert not is_stream("C:/videos/a.mp4")
    assert not is_stream("rtsp.mp4")


def test_all_frames_in_order_with_their_times(plain: Path) -> None:
    frames, problem = read(plain)
    assert problem is None
    assert [frame.number for frame in frames] == list(range(25))
    assert [number_of(frame) for frame in frames] == list(range(25))
    assert [frame.seconds for frame in frames] == pytest.approx([number / 25 for number in range(25)], abs=1e-5)
    assert frames[0].pixels.shape == (48, 64, 3)


@pytest.mark.parametrize(("rate", "count"), [(10, 10), (5, 5), (25, 25), (60, 25), (1, 1)])
def test_some_frames_a_second(plain: Path, rate: float, count: int) -> None:
    frames, _ = read(plain, rate)
    assert len(frames) == count
    assert all(number_of(frame) == frame.number for frame in frames)


def test_a_rate_that_is_none_is_refused(plain: Path) -> None:
    with pytest.raises(ConfigError, match="frames_a_second: expected a number above 0, not 0"):
        Video(plain, 0)


@pytest.mark.parametrize("start", [3, 21])  # in seconds
@pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi", "ts"])
def test_a_start_in_the_middle_gives_the_same_frames_from_there(suffix: str, start: int, tmp_path: Path) -> None:
    codec = "mpeg4" if suffix == "avi" else "libx264"
    path = write_video(tmp_path / f"v.{suffix}", numbered(25), codec, 1, options={"g": "3", "bf": "0"})
    whole, _ = read(path)
    rest, problem = read(path, start=start)
    assert [frame.seconds for frame in rest] == [frame.seconds for frame in whole if frame.seconds > start - 0.1]
    assert [number_of(frame) for frame in rest] == list(range(start, 25))
    assert [frame.number for frame in rest] == list(range(start, 25))
    assert problem is None


def test_a_start_behind_the_end_gives_nothing(plain: Path) -> None:
    assert read(plain, start=5.0)[0] == []


def test_frames_of_a_variable_rate_have_the_times_they_were_given(tmp_path: Path) -> None:
    stamps = [0, 40, 80, 1080, 1090, 1100, 3000]
    path = write_video(
        tmp_path / "v.mkv", numbered(7), "libx264", 25, stamps=stamps, base=Fraction(1, 1000), options={"bf": "0"}
    )
    frames, problem = read(path)
    assert [round(1000 * frame.seconds) for frame in frames] == stamps
    assert [frame.number for frame in read(path, 10)[0]] == [0, 3, 6] or problem is None
    assert len(read(path, 10)[0]) == 3


def test_frames_without_time_stamps_get_the_times_of_their_rate(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.h264", numbered(12), "libx264", 25, options={"bf": "0"}, file_format="h264")
    frames, problem = read(path)
    assert len(frames) == 12
    assert np.diff([frame.seconds for frame in frames]) == pytest.approx([1 / 25] * 11, abs=1e-4)
    assert problem is None


def test_times_grow_where_a_recording_begins_anew_in_the_same_file(tmp_path: Path) -> None:
    part = write_video(tmp_path / "a.ts", numbered(10), "mpeg2video", 25)
    (tmp_path / "b.ts").write_bytes(part.read_bytes() * 2)
    frames, _ = read(tmp_path / "b.ts")
    assert len(frames) == 20
    steps = np.diff([frame.seconds for frame in frames])
    assert (steps > 0).all()
    assert steps == pytest.approx([1 / 25] * 19, abs=0.02)


@pytest.mark.parametrize("turn", [0, 90, 180, 270])
def test_a_phone_that_was_turned(turn: int, tmp_path: Path) -> None:
    scene = np.zeros((48, 96, 3), np.uint8)
    scene[:16, :32] = 255  # bright at the top left of what the sensor saw
    path = write_video(
        tmp_path / "v.mp4", [scene] * 3, prepare=lambda stream: stream.set_display_rotation(turn), options={"bf": "0"}
    )
    frames, _ = read(path)
    shown = frames[0].pixels
    assert shown.shape == ((48, 96, 3) if turn % 180 == 0 else (96, 48, 3))
    corners = {
        "top left": shown[:12, :12], "top right": shown[:12, -12:],
        "bottom left": shown[-12:, :12], "bottom right": shown[-12:, -12:],
    }  # fmt: skip
    bright = [name for name, corner in corners.items() if corner.mean() > 128]
    # A display matrix says how many degrees the picture is turned counter-clockwise to be shown.
    assert bright == [{0: "top left", 90: "bottom left", 180: "bottom right", 270: "top right"}[turn]]


def test_interlaced_frames_lose_their_combs(tmp_path: Path) -> None:
    frames = []
    for number in range(10):
        picture = np.full((64, 128, 3), 30, np.uint8)
        for field in (0, 1):  # the second field sees the bar four pixels further
            left = 8 + 8 * number + 4 * field
            picture[field::2, left : left + 24] = 220
        frames.append(picture)
    flags = {"flags": "+ildct+ilme", "b": "4M", "top": "1", "bf": "0"}
    path = write_video(tmp_path / "v.mpg", frames, "mpeg2video", 25, options=flags)

    with av.open(str(path)) as container:
        raw = [
            (np.asarray(frame.to_ndarray(format="rgb24"), np.uint8), frame.interlaced_frame)
            for frame in container.decode(video=0)
        ]
    assert all(interlaced for _, interlaced in raw)
    shown, problem = read(path)
    assert len(shown) == 10
    assert problem is None

    def comb(picture: Picture) -> float:
        rows = picture.astype(float).mean(axis=2)
        return float(np.abs(rows[1:-1] - (rows[:-2] + rows[2:]) / 2).mean())

    before = np.mean([comb(picture) for picture, _ in raw[2:-2]])
    after = np.mean([comb(frame.pixels) for frame in shown[2:-2]])
    assert after < before / 3
    assert [frame.number for frame in shown] == list(range(10))


@pytest.mark.parametrize(
    ("name", "codec", "pixels"),
    [
        ("v.mkv", "ffv1", "gray"),
        ("v.mkv", "ffv1", "gray16le"),
        ("v.mkv", "ffv1", "yuv410p"),
        ("v.mkv", "ffv1", "yuv444p10le"),
        ("v.mkv", "ffv1", "bgra"),
        ("v.mkv", "ffv1", "gbrp12le"),
        ("v.nut", "rawvideo", "yuyv422"),
        ("v.nut", "rawvideo", "nv12"),
        ("v.nut", "rawvideo", "rgb565le"),
        ("v.mov", "qtrle", "rgb24"),
        ("v.avi", "mjpeg", "yuvj422p"),
        ("v.mp4", "libx264", "yuv422p10le"),
    ],
)
def test_any_format_of_pixels(name: str, codec: str, pixels: str, tmp_path: Path) -> None:
    path = write_video(tmp_path / name, numbered(4), codec, pixels=pixels)
    frames, problem = read(path)
    assert [number_of(frame) for frame in frames] == [0, 1, 2, 3]
    assert problem is None


def test_sides_that_are_odd(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mkv", numbered(3, 33, 17), "ffv1", pixels="yuv444p")
    assert {frame.pixels.shape for frame in read(path)[0]} == {(33, 17, 3)}


def test_pixels_that_are_not_square_are_stretched(tmp_path: Path) -> None:
    def wide(stream: object) -> None:
        stream.codec_context.sample_aspect_ratio = Fraction(16, 11)  # type: ignore[attr-defined]

    path = write_video(tmp_path / "v.mkv", numbered(3, 64, 88), "libx264", prepare=wide)
    assert {frame.pixels.shape for frame in read(path)[0]} == {(64, 128, 3)}


def test_files_that_are_no_video_are_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.avi").write_text("this is a text\n" * 100)
    (tmp_path / "folder.mp4").mkdir()
    with av.open(str(tmp_path / "sound.mkv"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.rate = 8000
        container.mux(stream.encode(frame))
    cases = {
        "empty.mp4": "the file is empty", "text.avi": "not a video that can be read", "missing.mp4": "no such file",
        "folder.mp4": "not a file", "sound.mkv": "holds no video",
    }  # fmt: skip
    for name, reason in cases.items():
        with pytest.raises(VideoError, match=reason) as caught:
            read(tmp_path / name)
        assert name in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_playlist_does_not_open_other_files(plain: Path, tmp_path: Path) -> None:
    playlist = tmp_path / "list.ts"
    playlist.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{plain.resolve()}\n#EXT-X-ENDLIST\n")
    with pytest.raises(VideoError):
        read(playlist)


@pytest.mark.parametrize("name", ["sub:1/v.mp4", "http:x.mp4", "-f.mp4", "\udcff.mp4", "%d.mp4"])
def test_names_that_mean_something_to_ffmpeg_are_names(name: str, plain: Path, tmp_path: Path) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(plain.read_bytes())
    assert len(read(path)[0]) == 25


@pytest.mark.parametrize("suffix", ["avi", "mkv", "ts"])
def test_a_recording_that_was_cut_off_gives_what_it_has(suffix: str, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (100, 64, 64, 3), np.uint8)
    whole = write_video(tmp_path / f"whole.{suffix}", noise, "mpeg2video", 25, options={"g": "5"})
    cut = tmp_path / f"cut.{suffix}"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    frames, problem = read(cut)
    assert 40 <= len(frames) <= 55
    if suffix == "avi":  # whose header promises how long it is
        assert problem is not None


def test_a_recording_whose_index_was_never_written_is_refused(plain: Path, tmp_path: Path) -> None:
    content = plain.read_bytes()
    assert content.index(b"moov") > content.index(b"mdat")
    (tmp_path / "cut.mp4").write_bytes(content[: content.index(b"moov") - 4])
    with pytest.raises(VideoError, match=r"cut\.mp4: lacks its index"):
        read(tmp_path / "cut.mp4")


def test_damage_in_the_middle_costs_the_frames_there(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (50, 64, 64, 3), np.uint8)
    path = write_video(tmp_path / "v.mkv", noise, "libx264", 25, options={"g": "5", "bf": "0"})
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + len(content) // 10] = bytes(len(content) // 10)
    path.write_bytes(content)
    with Video(path, 1000) as video:
        frames = list(video)
    assert 25 <= len(frames) < 50
    assert all(frame.pixels.shape == (64, 64, 3) for frame in frames)


def test_a_file_of_which_no_frame_can_be_decoded_is_refused(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3), np.uint8)
    path = write_video(tmp_path / "v.avi", noise, "mjpeg", pixels="yuvj420p")
    content = bytearray(path.read_bytes())
    start, end = content.index(b"movi") + 4, content.index(b"idx1")
    content[start + 8 : end] = b"\x11" * (end - start - 8)
    path.write_bytes(content)
    with pytest.raises(VideoError, match=r"v\.avi: "):
        read(path)


def test_a_file_that_still_grows_is_followed_to_its_end(tmp_path: Path) -> None:
    content = write_video(tmp_path / "whole.ts", numbered(25), "mpeg2video", 25).read_bytes()
    growing = tmp_path / "growing.ts"
    parts = [content[place : place + len(content) // 4 + 1] for place in range(0, len(content), len(content) // 4 + 1)]

    def write() -> None:
        with growing.open("wb") as file:
            for part in parts:
                file.write(part)
                file.flush()
                time.sleep(0.1)

    writer = threading.Thread(target=write)
    writer.start()
    while not growing.exists():
        time.sleep(0.01)
    frames, _ = read(growing, follow=0.8)
    writer.join()
    assert len(frames) == 25


def test_many_videos_leave_no_file_open(plain: Path, tmp_path: Path) -> None:
    (tmp_path / "text.avi").write_text("no video")
    descriptors = Path("/proc/self/fd")
    if not descriptors.exists():
        pytest.skip("needs /proc")
    before = len(list(descriptors.iterdir()))
    for _ in range(5):
        read(plain)
        with pytest.raises(VideoError):
            read(tmp_path / "text.avi")
    assert len(list(descriptors.iterdir())) <= before + 1
