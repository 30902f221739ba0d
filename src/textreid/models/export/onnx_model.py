"""An exported model in use, by onnxruntime and without torch."""

import importlib.util
import os
from collections.abc import Sequence
from functools import partial
from itertools import islice
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image

from textreid.artifacts import read_json, read_manifest
from textreid.errors import ModelError, check_list
from textreid.images import map_ahead, read_pixels
from textreid.models.folder import TOKENIZER
from textreid.models.tokenizer import Tokenizer

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

KIND, FORMAT_VERSION = "converted model", 1
IMAGE, TEXT, PREPROCESSING = "image.onnx", "text.onnx", "preprocessing.json"

_BATCH = 16
_DECODING_THREADS = 4
Array = npt.NDArray[np.float32]


class OnnxModel:
    """Encodes as the model it was exported from: float32 up to rounding, int8 with the loss that its card states.

    The graphs are open files of any ONNX runtime; this class adds decoding, batches and sorting by length.
    """

    def __init__(self, folder: Path) -> None:
        """Open the graphs in ``folder``; `load` checks the folder first."""
        required("onnxruntime")
        self.tokenizer = Tokenizer.load(folder / TOKENIZER)
        image = read_json(folder / PREPROCESSING)["image"]
        self.image_size: tuple[int, int] = (image["height"], image["width"])
        self._decode = partial(
            read_pixels,
            height=image["height"],
            width=image["width"],
            interpolation=image.get("interpolation", "bicubic"),  # older exports do not tell
            reduced_decoding=image.get("reduced_decoding", True),
        )
        self._image, self._text = (_session(folder / name) for name in (IMAGE, TEXT))
        self.embedding_dim: int = self._image.get_outputs()[0].shape[1]

    @classmethod
    def load(cls, folder: Path | str) -> "OnnxModel":
        """Open a folder that ``textreid convert --to onnx`` wrote.

        Raises:
            ArtifactError: it is missing, foreign, incomplete or of another format version.
            ModelError: its files are damaged, or onnxruntime is not installed.
        """
        read_manifest(Path(folder), KIND, FORMAT_VERSION)
        return cls(Path(folder))

    def encode_images(self, images: Sequence[str | PathLike[str] | Image.Image]) -> Array:
        """Encode N pictures: (N, D) float32 features, each of length 1.

        Raises:
            ImageError: a picture cannot be read; names it.
            ArgumentError: ``images`` is not a list of pictures.
        """
        check_list("images", images, (str, PathLike, Image.Image), "pictures")
        features = np.zeros((len(images), self.embedding_dim), np.float32)
        decoded = map_ahead(self._decode, images, _DECODING_THREADS, 2 * _BATCH)
        for first in range(0, len(images), _BATCH):
            # The graph takes channels last; `read_pixels` gives them first, for torch.
            pixels = np.stack([picture.transpose(1, 2, 0) for picture in islice(decoded, _BATCH)])
            features[first : first + _BATCH] = self._image.run(None, {"pixels": pixels})[0]
        return features

    def encode_texts(self, texts: Sequence[str]) -> Array:
        """Encode N sentences: (N, D) float32 features, each of length 1.

        Raises:
            ArgumentError: ``texts`` is not a list of sentences.
        """
        check_list("texts", texts, str, "sentences")
        tokens = self.tokenizer.encode(texts)
        # Texts of like length together: the graph computes padding as well.
        by_length = np.argsort(tokens.lengths, kind="stable")
        features = np.zeros((len(texts), self.embedding_dim), np.float32)
        for first in range(0, len(texts), _BATCH):
            rows = by_length[first : first + _BATCH]
            features[rows] = self._text.run(None, {"ids": tokens.ids[rows, : tokens.lengths[rows].max()]})[0]
        return features


def required(*packages: str) -> None:
    """Raise `ModelError` if one of the packages is not installed; keep onnxruntime from reporting its use."""
    # Its releases for Linux send usage events to their maker; they read this once, when they are imported, and go on
    # sending after `disable_telemetry_events`.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    if missing:
        raise ModelError(f"{', '.join(missing)}: not installed; ONNX needs `pip install 'textreid[onnx]'`")


def _session(path: Path) -> "InferenceSession":
    from onnxruntime import InferenceSession, SessionOptions

    options = SessionOptions()
    # Threads that wait for each other by spinning stand still as soon as another program wants the cores.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime has no common type for its errors
        raise ModelError(f"{path}: cannot be read: {error}") from error
