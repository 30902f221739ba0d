"""A picture as an MLLM is sent it."""

import base64
import io
from pathlib import Path

from textreid.images import read_image

_QUALITY = 90


def encode_picture(image: Path, longest_side: int) -> bytes:
    """The picture as a JPEG, made smaller where a side is longer than ``longest_side`` pixels.

    The same file always gives the same bytes (on one version of Pillow).

    Raises:
        ImageError: the file cannot be read as a picture.
    """
    picture = read_image(image, at_least=(longest_side, longest_side))
    picture.thumbnail((longest_side, longest_side), reducing_gap=2.0)
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=_QUALITY)
    return stream.getvalue()


def data_uri(jpeg: bytes) -> str:
    """The JPEG as a ``data:`` URI."""
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode("ascii")
