"""A model as a search needs it: its text side at once, its image side only when a new picture must be embedded."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from textreid.errors import CaptionError
from textreid.models.folder import BUNDLED, is_model_folder
from textreid.models.query_encoder import QueryEncoder

if TYPE_CHECKING:
    from textreid.models.model import Model


class GalleryEncoder:
    """Text by numpy alone, because importing torch takes longer than a whole search; images by the model itself.

    Attributes:
        name: of the model, as it was asked for.
        fingerprint: of the model; vectors are comparable within one.
        image_size: (height, width) in pixels that images are resized to.
    """

    def __init__(self, name_or_path: str | Path | None = None) -> None:
        """Open a model: what `textreid.load_model` takes.

        Of a model folder, the bundled one included, only the text side is read here. A CLIP folder or hub name is
        loaded whole, so that searching with it is slower: save it as a model folder once.

        Raises:
            ModelError, ArtifactError, DownloadError: as `textreid.load_model`.
        """
        self.name = BUNDLED.name if name_or_path is None else str(name_or_path)
        self._source = BUNDLED if self.name == BUNDLED.name else name_or_path
        self._model: Model | None = None
        self._queries: QueryEncoder | Model
        if self._source and is_model_folder(Path(self._source)):
            self._queries = QueryEncoder.load(self._source)
        else:
            self._source = name_or_path
            self._queries = self.load()
        self.fingerprint = self._queries.fingerprint
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

            self._model = load_model(self._source)
        return self._model

    def encode_pixels(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """The vectors (N, D) of decoded images (N, 3, H, W) uint8."""
        return self.load().encode_pixels(pixels)
