import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tests.people.conftest import Picture

from textreid.errors import ModelError
from textreid.people import load_detector
from textreid.people.boxes import iou
from textreid.people.output_forms import recognise
from textreid.people.tiling import detect_at_scales

Outputs = dict[str, Any]


def write_network(path: Path, inputs: dict[str, list[Any]], outputs: Outputs, names: str = "", kind: int = 1) -> Path:
    """A network whose outputs are always the same, with inputs and outputs as detectors have them."""
    nodes = [
        helper.make_node("Constant", [], [name], value=numpy_helper.from_array(np.asarray(value, np.float32)))
        if name != "labels"
        else helper.make_node("Constant", [], [name], value=numpy_helper.from_array(np.asarray(value, np.int64)))
        for name, value in outputs.items()
    ]
    graph = helper.make_graph(
        nodes,
        "detector",
        [
            helper.make_tensor_value_info(name, TensorProto.INT64 if "size" in name else kind, shape)
            for name, shape in inputs.items()
        ],
        [
            helper.make_tensor_value_info(
                name, TensorProto.INT64 if name == "labels" else TensorProto.FLOAT, np.asarray(value).shape
            )
            for name, value in outputs.items()
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)
    if names:
        model.metadata_props.append(onnx.StringStringEntryProto(key="names", value=names))
    onnx.save(model, path)
    return path


SQUARE: dict[str, list[Any]] = {"images": [1, 3, 640, 640]}
NAMES = json.dumps({0: "bus", 1: "person"}).replace('"0"', "0").replace('"1"', "1")


def rows(count: int, width: int) -> Any:
    return np.zeros((1, count, width), np.float32)


def yolov8() -> Outputs:
    """4 + 80 numbers of 8400 places: somebody at (100..140, 200..300), and a dog."""
    output = rows(84, 8400)
    output[0, :5, 17] = 120, 250, 40, 100, 0.9
    output[0, [0, 1, 2, 3, 20], 30] = 400, 400, 80, 80, 0.95
    return {"output0": output}


def yolov5() -> Outputs:
    output = rows(25200, 85)
    output[0, 17, :6] = 120, 250, 40, 100, 0.95, 0.9
    output[0, 30, [0, 1, 2, 3, 4, 21]] = 400, 400, 80, 80, 0.95, 0.95
    return {"output": output}


def yolox() -> Outputs:
    """Place 6400 + 40 * 15 + 7 is the cell of x 7 and y 15 of the grid of stride 16."""
    output = rows(8400, 85)
    output[0, 6400 + 40 * 15 + 7, :6] = 0.5, 0.625, np.log(40 / 16), np.log(100 / 16), 0.95, 0.9
    return {"output": output}


def end2end() -> Outputs:
    output = rows(300, 6)
    output[0, 0] = 100, 200, 140, 300, 0.9, 0
    output[0, 1] = 360, 360, 440, 440, 0.95, 16
    return {"output0": output}


def detr() -> Outputs:
    boxes, scores, labels = rows(300, 4), np.zeros((1, 300)), np.zeros((1, 300))
    boxes[0, :2] = [[100, 200, 140, 300], [360, 360, 440, 440]]
    scores[0, :2], labels[0, :2] = [0.9, 0.95], [0, 16]
    return {"labels": labels, "boxes": boxes, "scores": scores}


def detr_logits() -> Outputs:
    logits, boxes = rows(300, 80) - 9, rows(300, 4)
    logits[0, 0, 0], logits[0, 1, 16] = np.log(9), 3
    boxes[0, :2] = [[120 / 640, 250 / 640, 40 / 640, 100 / 640], [0.6, 0.6, 0.1, 0.1]]
    return {"logits": logits, "pred_boxes": boxes}


def detr_joined() -> Outputs:
    output = rows(300, 84)
    output[0, 0, :5] = 120 / 640, 250 / 640, 40 / 640, 100 / 640, 0.9
    output[0, 1, [0, 1, 2, 3, 20]] = 0.6, 0.6, 0.1, 0.1, 0.95
    return {"output0": output}


def ssd() -> Outputs:
    boxes, scores, classes = rows(100, 4), np.zeros((1, 100)), np.zeros((1, 100))
    boxes[0, :2] = [[200 / 640, 100 / 640, 300 / 640, 140 / 640], [0.5, 0.5, 0.6, 0.6]]
    scores[0, :2], classes[0, :2] = [0.9, 0.95], [1, 17]
    return {
        "detection_boxes:0": boxes,
        "detection_scores:0": scores,
        "detection_classes:0": classes,
        "num_detections:0": [100],
    }


@pytest.mark.parametrize(
    ("form", "outputs", "inputs", "kind"),
    [
        ("yolo", yolov8(), SQUARE, TensorProto.FLOAT),
        ("yolo-objectness", yolov5(), SQUARE, TensorProto.FLOAT),
        ("yolox", yolox(), SQUARE, TensorProto.FLOAT),
        ("yolo-end2end", end2end(), SQUARE, TensorProto.FLOAT),
        ("detr", detr(), {**SQUARE, "orig_target_sizes": [1, 2]}, TensorProto.FLOAT),
        ("detr-logits", detr_logits(), {"pixel_values": ["batch", 3, "height", "width"]}, TensorProto.FLOAT),
        ("detr-joined", detr_joined(), SQUARE, TensorProto.FLOAT),
        ("ssd", ssd(), {"image_tensor:0": [1, 640, 640, 3]}, TensorProto.UINT8),
        ("yolo", yolov8(), SQUARE, TensorProto.FLOAT16),
    ],
)
def test_every_form_is_recognised_and_read(
    form: str, outputs: Outputs, inputs: dict[str, list[Any]], kind: int, tmp_path: Path
) -> None:
    detector = load_detector(write_network(tmp_path / "network.onnx", inputs, outputs, kind=kind))
    assert detector.form == form
    assert form in str(detector)
    assert "network.onnx" in str(detector)
    found = detector.detect(np.zeros((640, 640, 3), np.uint8))
    np.testing.assert_allclose(found.boxes, [[100, 200, 140, 300]], atol=0.1)
    assert found.scores == pytest.approx([0.9 * (0.95 if form in {"yolo-objectness", "yolox"} else 1)], abs=1e-3)
    # A picture of other proportions fills the upper half of a YOLO's square, or is stretched over the others'.
    wide = detector.detect(np.zeros((640, 1280, 3), np.uint8))
    stretched = "yolo" not in form
    expected = [200, 200, 280, 300] if stretched else [200, 400, 280, 600]
    np.testing.assert_allclose(wide.boxes, [expected], atol=0.2)


def test_the_class_of_people_is_told_by_the_names_in_the_file(tmp_path: Path) -> None:
    output = rows(6, 8400)
    output[0, :, 5] = 120, 250, 40, 100, 0.1, 0.8
    output[0, :, 9] = 300, 250, 40, 100, 0.9, 0
    detector = load_detector(write_network(tmp_path / "y.onnx", SQUARE, {"output0": output}, NAMES))
    assert detector.person == 1
    np.testing.assert_allclose(detector.detect(np.zeros((640, 640, 3), np.uint8)).boxes, [[100, 200, 140, 300]])
    broken = load_detector(write_network(tmp_path / "b.onnx", SQUARE, {"output0": output}, "{0: 'bus'"))
    assert broken.person == 0


@pytest.mark.parametrize(
    ("shape", "form"),
    [
        ([1, 84, 8400], "yolo"),
        ([1, 5, 8400], "yolo"),
        (["b", 84, "anchors"], "yolo"),
        ([1, 25200, 85], "yolo-objectness"),
        ([1, 25200, 6], "yolo-objectness"),
        ([1, 8400, 85], "yolox"),
        ([1, 8400, 6], "yolox"),
        ([1, 300, 6], "yolo-end2end"),
        (["b", "found", 6], "yolo-end2end"),
        ([1, 300, 84], "detr-joined"),
        ([1, 300, 5], "detr-joined"),
        ([1, 1000], None),
        ([1, 3, 4], None),
        ([1, 3, 640, 640], None),
    ],
)
def test_shapes_that_tell_a_form(shape: list[int | str], form: str | None) -> None:
    found = recognise({"output0": shape}, SQUARE)
    assert (found.name if found else None) == form


def test_a_network_of_another_kind_is_refused_with_its_outputs(tmp_path: Path) -> None:
    path = write_network(tmp_path / "classifier.onnx", SQUARE, {"probabilities": np.zeros((1, 1000))})
    with pytest.raises(ModelError, match=r"classifier\.onnx: outputs probabilities \[1, 1000\] are of no known form"):
        load_detector(path)


def test_files_that_are_no_network_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"missing\.onnx: there is no such detector file"):
        load_detector(tmp_path / "missing.onnx")
    (tmp_path / "text.onnx").write_text("not a network")
    with pytest.raises(ModelError, match=r"text\.onnx: not an ONNX network"):
        load_detector(tmp_path / "text.onnx")


def test_numbers_that_are_none_and_boxes_outside_are_left_out(tmp_path: Path) -> None:
    output = rows(300, 6)
    output[0, 0] = np.nan, 200, 140, 300, 0.9, 0
    output[0, 1] = 700, 200, 900, 300, 0.9, 0
    output[0, 2] = -50, 200, 40, 900, 0.9, 0
    output[0, 3] = 100, 200, 140, 300, np.nan, 0
    detector = load_detector(write_network(tmp_path / "y.onnx", SQUARE, {"output0": output}))
    assert detector.detect(np.zeros((640, 640, 3), np.uint8)).boxes.tolist() == [[0, 200, 40, 640]]


def scene(people: list[Picture], places: list[tuple[int, int]], height: int, width: int) -> Picture:
    picture = np.full((height, width, 3), 128, np.uint8)
    for number, (left, top) in enumerate(places):
        person = people[number % len(people)]
        picture[top : top + person.shape[0], left : left + person.shape[1]] = person
    return picture


@pytest.mark.parametrize(("height", "width"), [(320, 448), (301, 433)])
def test_the_bundled_detector_finds_drawn_people_in_pictures_of_any_size(
    people: list[Picture], height: int, width: int
) -> None:
    places = [(60, 100), (300, 80)]
    found = detect_at_scales(load_detector(), scene(people[1:], places, height, width), [1.0])
    found = found.take(found.scores > 0.5)
    assert len(found.scores) == 2
    for left, top in places:
        person = np.array([[left, top, left + 60, top + 150]], np.float32)
        assert iou(person, found.boxes).max() > 0.4, found


def test_the_bundled_detector_finds_nobody_in_noise_and_in_a_pixel() -> None:
    detector = load_detector()
    noise = np.random.default_rng(0).integers(0, 256, (200, 300, 3), np.uint8)
    assert (detector.detect(noise).scores < 0.5).all()
    assert len(detector.detect(noise[:1, :1]).scores) == 0
