"""The dual encoder, its tokenizer, and weights in and out."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from textreid.models.checkpoints.report import KeyReport
    from textreid.models.cross_modal_head import CrossModalHead
    from textreid.models.dual_encoder import DualEncoder, Encoded
    from textreid.models.model import Model
    from textreid.models.onnx_model import OnnxModel
    from textreid.models.query_encoder import QueryEncoder
    from textreid.models.tokenizer import TokenBatch, Tokenizer
    from textreid.models.weights import import_model, initialize, load_model

_HOME = {
    "CrossModalHead": "cross_modal_head",
    "DualEncoder": "dual_encoder",
    "Encoded": "dual_encoder",
    "KeyReport": "checkpoints.report",
    "Model": "model",
    "OnnxModel": "onnx_model",
    "QueryEncoder": "query_encoder",
    "TokenBatch": "tokenizer",
    "Tokenizer": "tokenizer",
    "import_model": "weights",
    "initialize": "weights",
    "load_model": "weights",
}

__all__ = [
    "CrossModalHead",
    "DualEncoder",
    "Encoded",
    "KeyReport",
    "Model",
    "OnnxModel",
    "QueryEncoder",
    "TokenBatch",
    "Tokenizer",
    "import_model",
    "initialize",
    "load_model",
]


def __getattr__(name: str) -> Any:
    """Import a module when one of its names is used: the tokenizer and the query encoder need no torch."""
    if name in _HOME:
        import importlib

        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
