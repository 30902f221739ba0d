"""A model as two ONNX graphs that take pixels and token ids as they come and give features of length 1.

Scaling and normalising pixels, finding the end of a text and normalising features are in the graphs, so that a user
writes no copy of them. Needs the packages of the extra ``onnx``.
"""

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from textreid.artifacts import new_folder, write_json, write_text
from textreid.errors import ModelError
from textreid.models.export.onnx_model import FORMAT_VERSION, IMAGE, KIND, PREPROCESSING, TEXT, OnnxModel, required
from textreid.models.folder import CARD, TOKENIZER

if TYPE_CHECKING:
    from textreid.models.model import Model

# The version that torch's exporter writes its operators in: any other is a conversion afterwards.
_OPSET = 18
_QUANTIZED = ["MatMul", "Gemm"]  # convolutions stay: integers slow a small stem down


def export_onnx(
    model: "Model", path: Path | str, card: Callable[[OnnxModel], str], int8: bool = False, replace: bool = False
) -> None:
    """Write ``image.onnx``, ``text.onnx``, ``tokenizer.json``, ``preprocessing.json`` and ``card.md`` to a folder.

    Args:
        model: on a CPU, in float32.
        path: the folder.
        card: gives the Markdown of the card; called with the exported model, so that it can be measured.
        int8: multiply 8-bit integers: weights are rounded once (a scale for each output), what flows between layers
            is rounded as it comes, with one scale for a whole batch.
        replace: whether a folder at ``path`` may be replaced.

    Raises:
        ModelError: the extra ``onnx`` is not installed, or the model does not compute in float32 on a CPU.
        ArtifactError: ``path`` exists, or cannot be written.
    """
    required("onnx", "onnxscript", "onnxruntime")
    if model.device.type != "cpu" or model.precision != "fp32":
        raise ModelError("only a model that was loaded with device='cpu' and precision='fp32' can be exported to ONNX")
    config = model.config
    facts = {"fingerprint": model.fingerprint, "int8": int8, "selected_on": model.selected_on}
    with new_folder(Path(path), KIND, FORMAT_VERSION, replace=replace, **facts) as folder:
        # Two of each: torch.export takes a side of length 1 for a constant.
        pixels = torch.zeros(2, config.image_height, config.image_width, 3, dtype=torch.uint8)
        ids = torch.full((2, min(8, config.text_length)), model.tokenizer.end_id)
        length = torch.export.Dim("length", min=2, max=config.text_length)
        _write(_ImageGraph(model), pixels, "pixels", {}, folder / IMAGE)
        _write(_TextGraph(model), ids, "ids", {1: length}, folder / TEXT)
        if int8:
            _quantize(folder / IMAGE)
            _quantize(folder / TEXT)
        model.tokenizer.save(folder / TOKENIZER)
        write_json(folder / PREPROCESSING, _preprocessing(model))
        write_text(folder / CARD, card(OnnxModel(folder)))


class _ImageGraph(nn.Module):
    """Pixels (N, H, W, 3) uint8 to unit features (N, D)."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, model: "Model") -> None:
        super().__init__()
        self.encoder = model.encoder
        self.register_buffer("mean", torch.tensor(model.config.pixel_mean).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(model.config.pixel_std).view(3, 1, 1))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        # Rows, columns, channels: as Pillow, numpy and OpenCV hold a picture.
        scaled = pixels.permute(0, 3, 1, 2).float() / 255
        return nn.functional.normalize(self.encoder.encode_image((scaled - self.mean) / self.std), dim=-1)


class _TextGraph(nn.Module):
    """Ids (N, T), whatever follows the end token, to unit features (N, D)."""

    def __init__(self, model: "Model") -> None:
        super().__init__()
        self.encoder = model.encoder
        self.end = model.tokenizer.end_id

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        # `argmax` takes no bool, and gives the first of equal values: the first end token.
        lengths = (ids == self.end).long().argmax(dim=1) + 1
        return nn.functional.normalize(self.encoder.encode_text(ids, lengths), dim=-1)


def _write(graph: nn.Module, example: torch.Tensor, name: str, dynamic: dict[int, Any], path: Path) -> None:
    shapes = {name: {0: torch.export.Dim("batch"), **dynamic}}
    with _quiet(), torch.no_grad():
        traced = torch.export.export(graph.eval(), (example,), dynamic_shapes=shapes)
        program = torch.onnx.export(
            traced, input_names=[name], output_names=["features"], opset_version=_OPSET, verbose=False
        )
    if program is None:
        raise ModelError(f"{path}: torch gave no ONNX program")
    for node in program.model.graph:
        node.metadata_props.clear()  # paths of source files on the machine that exported
    # One file a tower: protobuf allows 2 GiB, and the image tower of ViT-L has 1.2 GB in float32.
    program.save(path, external_data=False)


def _quantize(path: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    exact = path.with_suffix(".fp32")
    path.rename(exact)
    with _quiet():
        quantize_dynamic(exact, path, per_channel=True, weight_type=QuantType.QInt8, op_types_to_quantize=_QUANTIZED)
    exact.unlink()


def _preprocessing(model: "Model") -> dict[str, Any]:
    config, tokenizer = model.config, model.tokenizer
    return {
        "image": {
            "input": "pixels: (N, height, width, 3) uint8, RGB; scaled and normalised in the graph",
            "height": config.image_height,
            "width": config.image_width,
            "resize": f"to that size whatever the aspect ratio, {config.interpolation} with antialiasing (Pillow)",
            "interpolation": config.interpolation,
            "reduced_decoding": config.reduced_decoding,
        },
        "text": {
            "input": "ids: (N, length) int64 of tokenizer.json, padded with any id to the longest of the batch",
            "longest": tokenizer.text_length,
            "pad_id": 0,
            "start_id": tokenizer.start_id,
            "end_id": tokenizer.end_id,
            "before": "text that is not plain ASCII, or holds an HTML entity, is cleaned as CLIP does, which "
            "tokenizer.json cannot express; in Python: html.unescape(html.unescape(ftfy.fix_text(text))).lower()",
        },
        "output": f"features: (N, {config.embedding_dim}) float32 of length 1; a product of two is their cosine",
    }


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what the exporters say of themselves to the root logger and as warnings."""
    # Put back to what it was: a program that calls this may have switched logging off itself.
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
