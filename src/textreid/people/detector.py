"""Detectors of people: the protocol, and any network in ONNX whose form of output is known.

The bundled one is small and quick, and misses people that stand at the edge or bend down; another takes its place by
the path of its file. `textreid.people.output_forms` lists the forms that are read.
"""

import ast
import os
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from textreid.errors import ConfigError, ModelError
from textreid.people.boxes import Boxes, Detections, suppress
from textreid.people.output_forms import person_class, recognise

if TYPE_CHECKING:
    from onnxruntime import InferenceSession, NodeArg

BUNDLED = "person_detector.onnx"
LEAST_SCORE = 0.1  # below which nothing is handed out
_OPEN_SIDE = 640  # of the input of a network that takes any size, where its form has squares
_ANY_SIDE = 1024  # up to which a network that takes any size is shown a picture in one piece
_STEP = 64  # of the sizes that such a network takes
_GREY = 114  # around a picture that keeps its proportions, as the YOLOs were trained
_ADVICE = "pip install 'textreid[gallery]' installs it"


class Detector(Protocol):
    """Finder of people in one picture.

    Attributes:
        name: of the detector, for reports.
        side: up to which, in pixels, it looks at a picture in one piece.
        heights: of the people that it sees well, in pixels of what it is shown: least and greatest.
    """

    name: str
    side: int
    heights: tuple[int, int]

    def detect(self, picture: npt.NDArray[np.uint8]) -> Detections:
        """Return the people in an RGB picture (H, W, 3), in its pixels, each once."""
        ...


class OnnxDetector:
    """Detector from an ONNX file, on one thread a call; several threads may call at once.

    Attributes:
        name: of the file.
        form: of its output, see `textreid.people.output_forms`.
        side: the larger side of its input.
        heights: of the people that it sees well.
        person: number of the class that is people.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Load a file and recognise its form.

        Raises:
            ModelError: it is missing, no ONNX network, or has outputs of no known form; says which they are.
            ConfigError: onnxruntime is not installed.
        """
        self.name = Path(path).name
        self._session = _open_session(Path(path))
        inputs = {arg.name: arg.shape for arg in self._session.get_inputs()}
        outputs = {arg.name: arg.shape for arg in self._session.get_outputs()}
        form = recognise(outputs, inputs)
        if form is None:
            shown = ", ".join(f"{name} {list(shape)}" for name, shape in outputs.items())
            raise ModelError(
                f"{path}: outputs {shown} are of no known form of detector: "
                "SSD, YOLO (v5 to v12, X, end to end), RT-DETR and D-FINE are read"
            )
        self._form = form
        self.form = form.name
        self._image, *rest = self._session.get_inputs()
        self._size_input = rest[0].name if form.name == "detr" and rest else None
        size = _input_size(self._image)
        self._any_size = size is None and form.name == "ssd"
        self._height, self._width = size or (_OPEN_SIDE, _OPEN_SIDE)
        self.side = _ANY_SIDE if self._any_size else max(self._height, self._width)
        # By its anchors; a network that is given by path has sees what is a sixteenth of its input, and all above.
        self.heights = (50, 260) if self._any_size else (self.side // 16, self.side)
        self.person = person_class(form, _class_names(self._session))

    def __str__(self) -> str:
        size = "any number of" if self._any_size else f"{self._width}x{self._height}"
        return f"{self.name}: {self.form} output, {size} pixels, people are class {self.person}"

    def detect(self, picture: npt.NDArray[np.uint8]) -> Detections:
        """Return the people in an RGB picture (H, W, 3), in its pixels, within its borders, the surest first."""
        height, width = picture.shape[:2]
        pixels, (used_height, used_width), (input_height, input_width) = self._fit(picture)
        feeds = {self._image.name: pixels}
        if self._size_input:
            feeds[self._size_input] = np.array([[input_width, input_height]], np.int64)
        names = [arg.name for arg in self._session.get_outputs()]
        outputs = dict(zip(names, self._session.run(names, feeds), strict=True))
        found = self._form.read(outputs, (input_height, input_width), self.person)
        found = found.take(found.scores >= LEAST_SCORE)
        scale = np.array([input_width / used_width * width, input_height / used_height * height], np.float32)
        people = _within(Detections(found.boxes * np.tile(scale, 2), found.scores), width, height)
        return people.take(suppress(people))

    def _fit(self, picture: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.generic], tuple[int, int], tuple[int, int]]:
        """Return a picture as the network's input, the (height, width) of the part that it fills, and of the input."""
        given = (picture.shape[0], picture.shape[1])
        if self._any_size:
            used, size = given, (-(-given[0] // _STEP) * _STEP, -(-given[1] // _STEP) * _STEP)
        else:
            used = size = (self._height, self._width)
            if self._form.letterbox:
                scale = min(size[0] / given[0], size[1] / given[1])
                used = (max(1, round(given[0] * scale)), max(1, round(given[1] * scale)))
        pixels = np.full((*size, 3), _GREY, np.uint8)
        pixels[: used[0], : used[1]] = resized(picture, *used)
        return self._as_input(pixels), used, size

    def _as_input(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.generic]:
        if self._form.pixels == "uint8":
            return pixels[None]
        if self._form.pixels == "bgr255":
            pixels = pixels[:, :, ::-1]
        scale = np.float32(255 if self._form.pixels == "unit" else 1)
        kind = np.float16 if self._image.type == "tensor(float16)" else np.float32
        planes = np.ascontiguousarray(pixels.transpose(2, 0, 1)[None], dtype=np.float32) / scale
        return planes.astype(kind)


def resized(picture: npt.NDArray[np.uint8], height: int, width: int) -> npt.NDArray[np.uint8]:
    """Return a picture (H, W, 3) in another size."""
    if picture.shape[:2] == (height, width):
        return picture
    image = Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR, reducing_gap=2)
    return np.asarray(image, np.uint8)


def load_detector(path: str | os.PathLike[str] | None = None) -> OnnxDetector:
    """Load a detector of people: the bundled one, or an ONNX file of another.

    >>> from textreid.people import load_detector
    >>> print(load_detector())
    person_detector.onnx: ssd output, any number of pixels, people are class 1

    Raises:
        ModelError, ConfigError: as of `OnnxDetector`.
    """
    if path is not None:
        return OnnxDetector(path)
    with resources.as_file(resources.files("textreid.people") / "data" / BUNDLED) as bundled:
        return OnnxDetector(bundled)


def _open_session(path: Path) -> "InferenceSession":
    try:
        import onnxruntime
    except ImportError:
        raise ConfigError(f"finding people in pictures needs onnxruntime: {_ADVICE}") from None
    if not path.is_file():
        raise ModelError(f"{path}: there is no such detector file")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # several frames are looked at side by side, which is faster
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises a dozen kinds of its own
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"{path}: not an ONNX network that onnxruntime runs: {reason}") from error


def _input_size(image: "NodeArg") -> tuple[int, int] | None:
    """Return the height and width of a network's input; of one that takes any size, None."""
    height, width = image.shape[1:3] if image.type == "tensor(uint8)" else image.shape[2:4]
    return (height, width) if isinstance(height, int) and isinstance(width, int) else None


def _class_names(session: "InferenceSession") -> list[str]:
    """Return the names of the classes that exporters write into a file, if they did."""
    written = session.get_modelmeta().custom_metadata_map.get("names", "")
    try:
        names = ast.literal_eval(written) if written else {}
    except (ValueError, SyntaxError):
        return []
    if isinstance(names, dict):
        names = [names[number] for number in sorted(names)]
    return [str(name) for name in names] if isinstance(names, list | tuple) else []


def _within(found: Detections, width: int, height: int) -> Detections:
    """Cut boxes at the borders of a picture; those of which nothing is left go, as do numbers that are none."""
    boxes: Boxes = np.clip(found.boxes, 0, np.array([width, height, width, height], np.float32)).astype(np.float32)
    sides = boxes[:, 2:] - boxes[:, :2]
    good = (sides >= 1).all(axis=1) & np.isfinite(found.boxes).all(axis=1) & np.isfinite(found.scores)
    return Detections(boxes, found.scores.astype(np.float32)).take(good)
