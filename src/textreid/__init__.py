"""Find a person in a pile of images by describing them in words, and train the models that do it.

>>> import textreid
>>> model = textreid.load_model()  # the bundled model; no download  # doctest: +SKIP
>>> images = model.encode_images(["a.jpg", "b.jpg"])  # (2, D), L2-normalised  # doctest: +SKIP
>>> texts = model.encode_texts(["a woman in a red jacket"])  # (1, D), L2-normalised  # doctest: +SKIP
>>> scores = texts @ images.T  # cosine similarities  # doctest: +SKIP
"""

from typing import Any

from textreid.errors import (
    AnnotationError,
    ArtifactError,
    CaptionError,
    ConfigError,
    DataError,
    DownloadError,
    ImageError,
    ModelError,
    ResumeError,
    RunStoppedError,
    TextReidError,
)
from textreid.version import __version__

_LAZY = {"load_model": "textreid.models", "Model": "textreid.models"}

__all__ = [
    "AnnotationError",
    "ArtifactError",
    "CaptionError",
    "ConfigError",
    "DataError",
    "DownloadError",
    "ImageError",
    "Model",
    "ModelError",
    "ResumeError",
    "RunStoppedError",
    "TextReidError",
    "__version__",
    "load_model",
]


def __getattr__(name: str) -> Any:
    """Import the names that need torch only when they are used."""
    if name in _LAZY:
        import importlib

        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'textreid' has no attribute {name!r}")
