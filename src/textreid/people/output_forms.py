"""Forms of output that detectors in ONNX have: each recognised by names and shapes, and read as people.

Every form is told from its file alone, so that a detector needs no settings beside it. Read are

- ``ssd``: TensorFlow's detection API. detection_boxes (1, N, 4) of y1, x1, y2, x2 from 0 to 1, detection_scores and
  detection_classes (1, N), num_detections (1,); classes begin with 1.
- ``detr``: RT-DETR and D-FINE as their authors export them. labels, scores (1, N), boxes (1, N, 4) of x1, y1, x2, y2
  in pixels of the size that a second input, orig_target_sizes (1, 2), tells.
- ``detr-logits``: the same as Hugging Face exports them. logits (1, N, C), pred_boxes (1, N, 4) of centre and size
  from 0 to 1.
- ``detr-joined``: RT-DETR as Ultralytics exports it. One output (1, N, 4 + C), centre and size from 0 to 1, scores.
- ``yolo-end2end``: one output (1, N, 6) of x1, y1, x2, y2 in pixels of the input, score, class (YOLOv10, YOLO26, and
  others exported with their suppression).
- ``yolo``: one output (1, 4 + C, N) of centre and size in pixels of the input, scores of C classes (YOLOv8 to YOLO12).
- ``yolo-objectness``: one output (1, N, 5 + C) of centre and size in pixels, objectness, C classes (YOLOv5, YOLOv7).
- ``yolox``: the same, centre and size still in steps of the grids of strides 8, 16 and 32.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from textreid.people.boxes import Detections, no_detections

Array = npt.NDArray[np.float32]
Shape = Sequence[int | str | None]

_PERSON_NAMES = ("person", "pedestrian", "people", "human")
_STRIDES = (8, 16, 32)


class Form(NamedTuple):
    """A form of output.

    Attributes:
        name: as in the list at the top of this module.
        read: from outputs by name, the (height, width) of the input and the class of people, to boxes with coordinates
            from 0 to 1 of the input, and scores.
        letterbox: whether the network saw its pictures with their proportions kept, the rest of the square grey.
        first_class: number of the first class, which in data sets of many things is the person.
        pixels: what the network wants: ``uint8``, ``unit`` (0 to 1) or ``bgr255`` (0 to 255, blue first).
    """

    name: str
    read: Callable[[Mapping[str, Array], tuple[int, int], int], Detections]
    letterbox: bool
    first_class: int = 0
    pixels: str = "unit"


def recognise(outputs: Mapping[str, Shape], inputs: Mapping[str, Shape]) -> Form | None:
    """Return the form of a network with such outputs and inputs, by name; None where it is none of those known."""
    names = {name.split(":")[0].lower() for name in outputs}
    if {"detection_boxes", "detection_scores"} <= names:
        return Form("ssd", _read_ssd, letterbox=False, first_class=1, pixels="uint8")
    if {"labels", "boxes", "scores"} <= names and len(inputs) == 2:
        return Form("detr", _read_detr, letterbox=False)
    if {"logits", "pred_boxes"} <= names:
        return Form("detr-logits", _read_detr_logits, letterbox=False)
    shapes = list(outputs.values())
    if len(shapes) != 1 or len(shapes[0]) != 3:
        return None
    rows, columns = (size if isinstance(size, int) else 0 for size in shapes[0][1:])
    return _recognise_single(rows, columns, _grid_cells(inputs))


def _recognise_single(rows: int, columns: int, cells: int) -> Form | None:
    """Recognise one output (1, rows, columns); 0 for a size that the file leaves open."""
    if columns == 6 and rows not in (cells, 3 * cells):
        return Form("yolo-end2end", _read_end2end, letterbox=True)
    if rows >= 5 and (columns > rows or columns == 0):
        return Form("yolo", _read_yolo, letterbox=True)
    if columns >= 6 and rows == cells:
        return Form("yolox", _read_yolox, letterbox=True, pixels="bgr255")
    if columns >= 6 and (rows == 3 * cells or rows > 1000):
        return Form("yolo-objectness", _read_objectness, letterbox=True)
    if columns >= 5 and 0 < rows <= 1000:
        return Form("detr-joined", _read_detr_joined, letterbox=False)
    return None


def person_class(form: Form, names: Sequence[str]) -> int:
    """Return the number of the class that is people: by the names of the file, else the first."""
    wanted = [number for number, name in enumerate(names) if name.strip().lower() in _PERSON_NAMES]
    return wanted[0] if wanted else form.first_class


def _grid_cells(inputs: Mapping[str, Shape]) -> int:
    """Return how many cells the grids of a YOLO have together; 0 where the input's size is open."""
    sizes = next(iter(inputs.values()))[2:4]
    height, width = (size if isinstance(size, int) else 0 for size in (*sizes, 0, 0)[:2])
    return sum((height // stride) * (width // stride) for stride in _STRIDES)


def _by_name(outputs: Mapping[str, Array], name: str) -> Array:
    value: Array = next(value for key, value in outputs.items() if key.split(":")[0].lower() == name)[0]
    return value


def _single(outputs: Mapping[str, Array]) -> Array:
    value: Array = next(iter(outputs.values()))[0]
    return value


def _of_centres(centres: Array, height: float = 1, width: float = 1) -> Array:
    """Turn centre x, centre y, width, height (N, 4) into corners from 0 to 1 of what is so many pixels large."""
    half = centres[:, 2:4] / 2
    corners = np.concatenate([centres[:, :2] - half, centres[:, :2] + half], axis=1)
    return np.asarray(corners / np.array([width, height, width, height], np.float32), np.float32)


def _sigmoid(logits: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-logits)), np.float32)


def _read_ssd(outputs: Mapping[str, Array], size: tuple[int, int], person: int) -> Detections:
    boxes, scores = _by_name(outputs, "detection_boxes"), _by_name(outputs, "detection_scores")
    named = any(name.split(":")[0].lower() == "detection_classes" for name in outputs)
    people = (_by_name(outputs, "detection_classes") == person) if named else np.ones(len(scores), bool)
    return Detections(boxes[:, [1, 0, 3, 2]], scores).take(people)


def _read_detr(outputs: Mapping[str, Array], size: tuple[int, int], person: int) -> Detections:
    height, width = size  # which is what the second input was told
    boxes = _by_name(outputs, "boxes") / np.array([width, height, width, height], np.float32)
    return Detections(boxes.astype(np.float32), _by_name(outputs, "scores")).take(_by_name(outputs, "labels") == person)


def _read_detr_logits(outputs: Mapping[str, Array], size: tuple[int, int], person: int) -> Detections:
    scores = _sigmoid(_by_name(outputs, "logits"))[:, person]
    return Detections(_of_centres(_by_name(outputs, "pred_boxes")), scores)


def _read_detr_joined(outputs: Mapping[str, Array], size: tuple[int, int], person: int) -> Detections:
    rows = _single(outputs)
    return Detections(_of_centres(rows), rows[:, 4 + person])


def _read_end2end(outputs: Mapping[str, Array], size: tuple[int, int], person: int) -> Detections:
    height, width = size
    rows = _single(outputs)
    boxes = rows[:, :4] / np.array([width, height, width, height], np.float32)
    return Detections(boxes.astype(np.float32), rows[:, 4]).take(rows[:, 5] == person)


def _read_yolo(outputs: Mapping[str, Array], size: tuple[int, int], person: int) -> Detections:
    rows = _single(outputs).T
    return Detections(_of_centres(rows, *size), rows[:, 4 + person])


def _read_objectness(outputs: Mapping[str, Array], size: tuple[int, int], person: int) -> Detections:
    rows = _single(outputs)
    return Detections(_of_centres(rows, *size), rows[:, 4] * rows[:, 5 + person])


def _read_yolox(outputs: Mapping[str, Array], size: tuple[int, int], person: int) -> Detections:
    rows = _single(outputs)
    if not len(rows):
        return no_detections()
    height, width = size
    cells, strides = [], []
    for stride in _STRIDES:
        y, x = np.mgrid[: height // stride, : width // stride]
        cells.append(np.stack([x.ravel(), y.ravel()], axis=1))
        strides.append(np.full((x.size, 1), stride))
    steps = np.concatenate(strides).astype(np.float32)
    centres = (rows[:, :2] + np.concatenate(cells)) * steps
    boxes = np.concatenate([centres, np.exp(rows[:, 2:4]) * steps], axis=1).astype(np.float32)
    return Detections(_of_centres(boxes, *size), rows[:, 4] * rows[:, 5 + person])
