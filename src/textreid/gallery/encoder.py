"""A model as a search needs it: its text side at once, its image side only when a new picture must be embedded."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from textreid.errors import CaptionError
from textreid.models.folder import BUNDLED, is_model_folder
from textreid.models.query_encoder import QueryEncoder

if TYPE_CHECKING:
    from textreid.models.device import Precision
    from textreid.models.model import Model


class GalleryEncoder:
    """Text by numpy alone, because importing torch takes longer than a whole search; images by the model itself.

    Attributes:
        name: of the model, as it was asked for.
        spaces: names of the vectors that may answer, the preferred first: of a model in one precision. Those of images
            are comparable within one space; a query is near enough to both precisions of its model.
        image_size: (height, width) in pixels that images are resized to.
    """

    def __init__(self, name_or_path: str | Path | None = None, precision: "Precision" = "auto") -> None:
        """Open a model: what `textreid.load_model` takes, and the precision of the vectors of images.

        Of a model folder, the bundled one included, only the text side is read here. A CLIP folder or hub name is
        loaded whole, so that searching with it is slower: save it as a model folder once.

        Raises:
            ModelError, ArtifactError, DownloadError: as `textreid.load_model`.
        """
        self._precision = precision
        self.name = BUNDLED.name if name_or_path is None else str(name_or_path)
        self._source = BUNDLED if self.name == BUNDLED.name else name_or_path
        self._model: Model | None = None
        self._queries: QueryEncoder | Model
        if self._source and is_model_folder(Path(self._source)):
            self._queries = QueryEncoder.load(self._source)
        else:
            self._source = name_or_path
            self._queries = self.load()
        exact, rounded = self._queries.fingerprint, f"{self._queries.fingerprint} bf16"
        self.spaces = {"fp32": (exact,), "bf16": (rounded,), "auto": (rounded, exact)}[precision]
        self.image_size = (self._queries.config.image_height, self._queries.config.image_width)

    def encode_query(self, query: str) -> tuple[npt.NDArray[np.float32], str]:
        """The vector (D,) of a query, of length 1, and the end of it that the model did not read (mostly empty).

        Raises:
            CaptionError: the query has no letter and no digit.
        """
        if not any(character.isalnum() for character in query):
            raise CaptionError("the query has no words: describe a person, as in 'a woman in a red jacket'")
        tokenizer = self._queries.tokenizer
        pieces = tokenizer.pieces(query)
        cut = query[pieces[-1][2] :] if tokenizer.encode([query]).truncated and pieces else ""
        return self._queries.encode_texts([query])[0], cut.strip()

    def load(self) -> "Model":
        """Load the image side, and torch with it, unless it is loaded."""
        if self._model is None:
            from textreid.models import load_model

            self._model = load_model(self._source, precision=self._precision)
        return self._model

    @property
    def space(self) -> str:
        """The one of `spaces` that `encode_pixels` computes in here; loads the model."""
        return self.spaces[0] if self.load().precision == "bf16" else self.spaces[-1]

    def encode_pixels(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """The vectors (N, D) of decoded images (N, 3, H, W) uint8."""
        return self.load().encode_pixels(pixels)
