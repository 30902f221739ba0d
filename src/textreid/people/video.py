"""Video in: any file or stream that FFmpeg reads becomes upright RGB frames with times, some a second.

Rotation that a phone wrote into the file is applied, pixels that are not square are stretched, interlaced frames are
deinterlaced. What is damaged is left out and counted: a recording that was cut off gives what it has.
"""

import os
import re
import time
from collections.abc import Generator, Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from textreid.errors import ConfigError, VideoError

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import InputContainer
    from av.filter import Graph
    from av.video.stream import VideoStream

_READ = (
    ".3gp .asf .avi .dav .divx .dv .flv .h264 .h265 .hevc .ivf .m1v .m2ts .m2v .m4v .mjpeg .mjpg .mkv .mov .mp4 .mpeg "
    ".mpg .mts .mxf .nut .ogv .rm .ts .vob .webm .wmv .y4m"
)
SUFFIXES = frozenset(_READ.split())
MAX_PIXELS = 100_000_000  # of a frame
_STREAM = re.compile(r"(rtsps?|https?|rtmps?|srt|udp|tcp)://", re.IGNORECASE)
_USUAL_RATE = 25.0  # frames a second where a file does not tell
_JUMP_S = 24 * 3600.0  # a time stamp further ahead than this is damage, not a pause of the recording
_OPEN_S, _READ_S = 15.0, 30.0  # until a camera that says nothing is given up
_BEHIND_S = 1.0  # of a live stream: frames older than this are passed over
_KEY_FRAME_S = 12.0
_BUFFER = 1 << 18  # bytes read from a file at once
_GROWTH_EVERY_S = 0.2


class Frame(NamedTuple):
    """One picture of a video.

    Attributes:
        number: of the frame in order of display, from 0.
        seconds: since the beginning of the video.
        pixels: (H, W, 3) uint8, RGB, upright.
    """

    number: int
    seconds: float
    pixels: npt.NDArray[np.uint8]


def is_video(path: str | os.PathLike[str]) -> bool:
    """Tell by its suffix whether a path is a video, or by its beginning whether it is the address of a stream."""
    name = os.fspath(path)
    return is_stream(name) or Path(name).suffix.lower() in SUFFIXES


def is_stream(source: str | os.PathLike[str]) -> bool:
    """Tell whether something is the address of a stream, as ``rtsp://camera/1``."""
    return bool(_STREAM.match(os.fspath(source)))


class Video:
    """Video that is open: an iterable of its `Frame` objects, once; a context manager.

    Attributes:
        name: path or address, without the password of the latter.
        damaged: packets and frames that could not be decoded, so far.
        problem: what is wrong with the video as a whole, in words, or None; complete after the last frame.
    """

    def __init__(
        self,
        source: str | os.PathLike[str],
        frames_a_second: float = 10.0,
        *,
        start: float = 0.0,
        follow: float = 0.0,
    ) -> None:
        """Open a video.

        Args:
            source: a file, or the address of a stream: ``rtsp://user:password@camera/1``.
            frames_a_second: how many of the frames are handed out; a video with fewer hands out all.
            start: seconds from the beginning that are passed over.
            follow: for how many seconds without growth the end of a file is waited for, which another program still
                writes; 0 takes the file as it is.

        Raises:
            VideoError: there is no such file, it is empty, or not a video; or the stream does not answer.
            ConfigError: PyAV is not installed, or ``frames_a_second`` is not above 0.
        """
        if not frames_a_second > 0:
            raise ConfigError(f"frames_a_second: expected a number above 0, not {frames_a_second}")
        self.name = re.sub(r"//[^/@]*@", "//", os.fspath(source))
        self.damaged = 0
        self.problem: str | None = None
        self._live = is_stream(source)
        self._step, self._start = 1 / frames_a_second, start
        self._file: IO[bytes] | _GrowingFile | None = None if self._live else _open_file(Path(source), follow)
        try:
            self._container = _open_container(self._file or os.fspath(source), self.name)
            self._stream = _video_stream(self._container, self.name)
        except BaseException:
            self.close()
            raise
        self._clock = _Clock(self._stream)
        self._deinterlacer = _Deinterlacer()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the file or the connection."""
        if hasattr(self, "_container"):
            self._container.close()
        if self._file is not None:
            self._file.close()

    @property
    def interval(self) -> float:
        """Seconds from one frame that is handed out to the next, by what was asked for and the file says."""
        return max(self._step, self._clock.interval)

    @property
    def duration(self) -> float | None:
        """Seconds that the file says it lasts; None where it says nothing."""
        length = self._container.duration  # in microseconds
        return length / 1e6 if length and length > 0 else None

    def __iter__(self) -> Generator[Frame]:
        first = self._seek()
        number, due, seconds = -1, self._start, 0.0
        opened = time.monotonic()
        for frame in self._upright_frames():
            seconds = frame.time
            number = first(seconds) if number < 0 else number + 1
            late = self._live and time.monotonic() - opened - seconds > _BEHIND_S
            if seconds < due - self._clock.interval / 4 or late:
                continue
            due = max(due + self._step, seconds + self._step / 2)
            yield Frame(number, seconds, _to_pixels(frame, self._stream, self.name))
        if number < 0 and self._start == 0:
            raise VideoError(f"{self.name}: no frame of it can be decoded{self._because()}")
        self._look_at_end(seconds)

    def _seek(self) -> Any:
        """Go to the last key frame before the start; return what numbers the first frame there by its time."""
        rate, base = 1 / self._clock.interval, self._stream.time_base
        # Some containers land behind the key frame before a time; few cameras send none for so long.
        before = self._start - _KEY_FRAME_S
        if before > 0 and base is not None and not self._live:
            with suppress(OSError, ValueError):  # what cannot seek is decoded from its beginning
                self._container.seek(round((before + self._clock.origin) / base), stream=self._stream, backward=True)
                self._clock.seek()
                return lambda seconds: round(seconds * rate)
        return lambda seconds: 0

    def _upright_frames(self) -> "Iterator[VideoFrame]":
        """Yield every frame decoded, with times that grow, deinterlaced; count what is damaged."""
        from av import FFmpegError

        try:
            for packet in self._container.demux(self._stream):
                try:
                    frames = packet.decode()
                except FFmpegError:
                    self.damaged += 1
                    continue
                for frame in frames:
                    if frame.is_corrupt:
                        self.damaged += 1
                        continue
                    self._clock.set(frame)
                    yield from self._deinterlacer.feed(frame)
        except FFmpegError as error:
            self.problem = f"ends in the middle: {error.strerror or error}"
        yield from self._deinterlacer.flush()

    def _because(self) -> str:
        if self.problem:
            return f": {self.problem}"
        return f": {self.damaged} packets are damaged" if self.damaged else ""

    def _look_at_end(self, seconds: float) -> None:
        """Note that a file is shorter than it says, or that parts of it could not be decoded."""
        promised = None if self._live else self.duration
        if self.problem is None and promised and seconds < promised - max(1.0, 2 * self._clock.interval):
            self.problem = f"cut short: it ends after {seconds:.1f} of {promised:.1f} seconds"
        if self.damaged:
            damaged = f"{self.damaged} damaged packets or frames left out"
            self.problem = f"{self.problem}; {damaged}" if self.problem else damaged


class _Clock:
    """Times of frames from the first on, that grow whatever the time stamps do."""

    def __init__(self, stream: "VideoStream") -> None:
        rate = float(stream.average_rate or stream.guessed_rate or 0)
        self.interval = 1 / rate if 0.01 <= rate <= 1000 else 1 / _USUAL_RATE
        start, base = stream.start_time, stream.time_base
        self.origin = float(start * base) if start is not None and base is not None else 0.0
        self._offset = self.origin
        self._last: float | None = None

    def seek(self) -> None:
        """Expect the next time stamp to be anywhere."""
        self._last = None

    def set(self, frame: "VideoFrame") -> None:
        """Write the time of the next frame in order of display into it, in microseconds from the beginning."""
        from fractions import Fraction

        last = self._last
        stamp = None if frame.pts is None or frame.time_base is None else float(frame.pts * frame.time_base)
        if stamp is None:
            seconds = 0.0 if last is None else last + self.interval
        else:
            seconds = stamp - self._offset
            # A counter that overflowed, or a stream that began anew: time goes on where it was.
            if last is not None and (seconds <= last or seconds > last + _JUMP_S):
                seconds = last + self.interval
                self._offset = stamp - seconds
        self._last = max(seconds, 0.0)
        frame.pts, frame.time_base = round(self._last * 1e6), Fraction(1, 1_000_000)


class _Deinterlacer:
    """Passage for frames that lets progressive ones through as they are, and gives others their missing lines."""

    def __init__(self) -> None:
        self._graph: Graph | None = None
        self._kind: tuple[int, int, str] | None = None

    def feed(self, frame: "VideoFrame") -> "Iterator[VideoFrame]":
        """Take a frame; yield those that are ready, in order: one frame late, since the next one helps."""
        kind = (frame.width, frame.height, frame.format.name)
        if self._graph is not None and kind != self._kind:
            yield from self.flush()
        if self._graph is None:
            if not frame.interlaced_frame:
                yield frame
                return
            self._graph, self._kind = _deinterlacing(frame), kind
        self._graph.vpush(frame)
        yield from self._ready()

    def flush(self) -> "Iterator[VideoFrame]":
        """Yield what is still held."""
        if self._graph is not None:
            self._graph.vpush(None)
            yield from self._ready()
            self._graph = None

    def _ready(self) -> "Iterator[VideoFrame]":
        from av.error import BlockingIOError as NothingReadyError, EOFError as EndError

        while self._graph is not None:
            try:
                yield self._graph.vpull()
            except (NothingReadyError, EndError):
                return


def _deinterlacing(frame: "VideoFrame") -> "Graph":
    from av.filter import Graph

    graph = Graph()
    source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base)
    graph.link_nodes(source, graph.add("bwdif", "mode=send_frame:deint=interlaced"), graph.add("buffersink"))
    graph.configure()
    return graph


def _to_pixels(frame: "VideoFrame", stream: "VideoStream", name: str) -> npt.NDArray[np.uint8]:
    """Return a frame as (H, W, 3) RGB: turned upright, its pixels made square."""
    if frame.width * frame.height > MAX_PIXELS:
        raise VideoError(f"{name}: frames of {frame.width}x{frame.height} pixels, more than are accepted")
    aspect = float(stream.sample_aspect_ratio or 1)
    width = round(frame.width * aspect) if 0.25 <= aspect <= 4 else frame.width
    pixels = frame.reformat(width=max(width, 1), format="rgb24").to_ndarray()
    turned = np.rot90(pixels, round(frame.rotation / 90) % 4)
    return np.ascontiguousarray(turned, dtype=np.uint8)


def _open_container(source: Any, name: str) -> "InputContainer":
    try:
        import av
    except ImportError:
        raise ConfigError("reading video needs PyAV: pip install 'textreid[gallery]' installs it") from None
    options = {}
    if isinstance(source, str) and source.lower().startswith("rtsp"):
        options = {"rtsp_transport": "tcp"}  # over UDP a busy machine loses packets, and people with them
    try:
        container: InputContainer = av.open(
            source, mode="r", options=options, buffer_size=_BUFFER, timeout=(_OPEN_S, _READ_S), metadata_errors="ignore"
        )
    except (av.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        if isinstance(source, str):
            raise VideoError(f"{name}: the stream does not answer: {reason}") from error
        if _lacks_index(source):
            raise VideoError(f"{name}: lacks its index: the recording was stopped before it was written") from error
        raise VideoError(f"{name}: not a video that can be read: {reason}") from error
    return container


def _lacks_index(file: "IO[bytes] | _GrowingFile") -> bool:
    """Tell whether a file is an MP4 or QuickTime whose table of frames does not follow."""
    if isinstance(file, _GrowingFile):
        return False
    boxes, place = set[bytes](), 0
    file.seek(0)
    while len(header := file.read(16)) >= 8 and len(boxes) < 100:
        boxes.add(header[4:8])
        size = int.from_bytes(header[:4])
        size = int.from_bytes(header[8:]) if size == 1 else size
        if size < 8:  # up to the end of the file
            break
        place += size
        file.seek(place)
    return b"ftyp" in boxes and b"moov" not in boxes


def _video_stream(container: "InputContainer", name: str) -> "VideoStream":
    """Return the video of a container, leaving out still covers of music."""
    streams = [stream for stream in container.streams.video if not stream.disposition.value & 0x400]
    if not streams:
        raise VideoError(f"{name}: holds no video")
    stream = max(streams, key=lambda each: each.width * each.height)
    stream.thread_type = "AUTO"
    return stream


def _open_file(path: Path, follow: float) -> "IO[bytes] | _GrowingFile":
    try:
        if not path.is_file():
            raise VideoError(f"{path}: {'not a file' if path.exists() else 'there is no such file'}")
        file = path.open("rb")
    except OSError as error:
        raise VideoError(f"{path}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise VideoError(f"{str(path)!r}: not a possible file name") from error
    if follow > 0:
        return _GrowingFile(file, follow)
    if os.fstat(file.fileno()).st_size == 0:
        file.close()
        raise VideoError(f"{path}: the file is empty")
    return file


class _GrowingFile:
    """File that another program still writes: its end is where it has not grown for some seconds."""

    def __init__(self, file: IO[bytes], patience: float) -> None:
        self._file, self._patience = file, patience

    def read(self, size: int) -> bytes:
        """Read up to ``size`` bytes, waiting for them."""
        waited = 0.0
        while not (content := self._file.read(size)) and waited < self._patience:
            time.sleep(_GROWTH_EVERY_S)
            waited += _GROWTH_EVERY_S
        return content

    def close(self) -> None:
        """Close the file."""
        self._file.close()
