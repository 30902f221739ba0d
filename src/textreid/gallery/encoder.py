"""A model as a search needs it: its text side at once, its image side only when a new picture must be embedded."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image

from textreid.errors import ArgumentError, CaptionError, ConfigError, nearest_name
from textreid.images import read_image, to_pixels
from textreid.models.folder import BUNDLED, DEFAULT, is_model_folder
from textreid.models.query_encoder import QueryEncoder
from textreid.models.side_by_side import QueryEncoders, names_of, networks_of

# Sentences that say nothing of a person. What a short query has in common with them is nearest to pictures of which
# little can be said, because somebody stands behind something: it is taken off. Chosen on photographs
# (docs/benchmarks.md), with the default model: the cosine from which it is taken off in part, and as a whole.
_SAYS_NOTHING = ("a person", "a man", "a woman", "somebody", "a pedestrian", "a person is walking")
_IN_PART, _AS_A_WHOLE = 0.35, 0.55

if TYPE_CHECKING:
    from textreid.models.device import Precision
    from textreid.models.model import Model
    from textreid.models.tokenizer import Tokenizer


class GalleryEncoder:
    """Text by numpy alone, because importing torch takes longer than a whole search; images by the model itself.

    Attributes:
        name: of the model, as it was asked for.
        fingerprint: the model's; sentences encoded by models with equal ones are equal.
        spaces: names of the vectors that may answer, the preferred first: of a model in one precision. Those of images
            are comparable within one space; a query is near enough to both precisions of its model.
        presence: tells of vectors of images which seem to show nobody; None where the model has no such file.
        batch_size: images that `encode_pixels` is best given at once.
    """

    batch_size = 64

    def __init__(self, model: "str | Path | Model | None" = None, precision: "Precision" = "auto") -> None:
        """Open a model: what `textreid.load_model` takes or returned, and the precision of the vectors of images.

        Of model folders, the bundled ones included, only the text side is read here. A CLIP folder or hub name is
        loaded whole, so that searching with it is slower: save it as a model folder once.

        Raises:
            ModelError, ArtifactError, DownloadError: as `textreid.load_model`.
            ConfigError: there is no such precision.
        """
        if precision not in ("auto", "fp32", "bf16"):
            raise ConfigError(f"precision {precision!r}; {nearest_name(str(precision), ('auto', 'fp32', 'bf16'))}")
        self._precision = precision
        self._model: Model | None = None
        self._queries: QueryEncoder | Model
        if model is None or isinstance(model, str | Path):
            self.name = DEFAULT if model is None else str(model)
            self._source = BUNDLED.get(self.name, model)
            names = names_of(self.name)
            folders = [BUNDLED.get(name, Path(name)) for name in networks_of(names) or (self.name,)]
            if all(map(is_model_folder, folders)):
                self._queries = QueryEncoders.of(names) if names else QueryEncoder.load(folders[0])
            else:
                self._queries = self.load()
        elif hasattr(model, "encode_pixels"):
            self.name = DEFAULT if getattr(model, "names", ()) == names_of(DEFAULT) else "the given model"
            self._precision = model.precision
            self._queries = self._model = model
        else:
            raise ArgumentError(f"model: expected a name, a folder or a model, not {model!r}")
        # The fingerprint is of the weights, whatever precision computes with them: the space has to say which.
        self.fingerprint = exact = self._queries.fingerprint
        rounded = f"{exact} bf16"
        presence = self._queries.presence  # of another model, if this one was changed since it was loaded
        self.presence = presence if presence and presence.fingerprint == exact else None
        self.spaces = {"fp32": (exact,), "bf16": (rounded,), "auto": (rounded, exact)}[self._precision]

    def encode_query(self, query: str) -> tuple[npt.NDArray[np.float32], str]:
        """Return the vector (D,) of a query, of length 1, and the end of it that the model did not read, mostly empty.

        Raises:
            CaptionError: the query has no letter and no digit.
        """
        self.check_query(query)
        return self.encode_queries([query])[0]

    @staticmethod
    def check_query(query: str) -> None:
        """Refuse a query without words.

        Raises:
            CaptionError: it has no letter and no digit.
        """
        if not any(character.isalnum() for character in query):
            raise CaptionError("the query has no words: describe a person, as in 'a woman in a red jacket'")

    def encode_queries(self, queries: Sequence[str]) -> list[tuple[npt.NDArray[np.float32], str]]:
        """Encode queries in one batch, as `encode_query` does each, whatever is in them."""
        features = self._queries.encode_texts(queries)
        if self.name == DEFAULT:
            features = self._take_off_what_says_nothing(features)
        return list(zip(features, map(self._unread, queries), strict=True))

    @cached_property
    def _nothing(self) -> npt.NDArray[np.float32]:
        """What the sentences that say nothing have in common, (D,) of length 1."""
        mean: npt.NDArray[np.float32] = self._queries.encode_texts(_SAYS_NOTHING).mean(axis=0)
        return mean / np.linalg.norm(mean)

    def _take_off_what_says_nothing(self, features: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Make queries (N, D) as unlike `_SAYS_NOTHING` as they are long; long sentences, and lengths, stay."""
        lengths = np.linalg.norm(features, axis=1, keepdims=True)
        # One after the other: the last bits of a product with all would depend on how many are asked at once.
        alike = np.array([[row @ self._nothing] for row in features], np.float32).reshape(-1, 1)
        share = np.clip((alike - _IN_PART) / (_AS_A_WHOLE - _IN_PART), 0, 1)
        rest = features - share * alike * self._nothing
        taken: npt.NDArray[np.float32] = rest * (
            lengths / np.maximum(np.linalg.norm(rest, axis=1, keepdims=True), 1e-6)
        )
        return np.where(share > 0, taken, features).astype(np.float32)

    def _unread(self, query: str) -> str:
        tokenizer = self._queries.tokenizer
        if not tokenizer.encode([query]).truncated:
            return ""
        pieces = tokenizer.pieces(query)
        return query[pieces[-1][2] :].strip() if pieces else ""

    @property
    def tokenizer(self) -> "Tokenizer":
        """The model's."""
        return self._queries.tokenizer

    def encode_sentences(self, sentences: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return the vectors (N, D) of sentences, each of length 1, whatever is in them."""
        return self._queries.encode_texts(sentences)

    def decode(self, path: Path | Image.Image) -> tuple[npt.NDArray[np.uint8], Image.Image]:
        """Read an image, a file or a picture, as the model wants it, (3, H, W) uint8, and as it is; loads nothing.

        Raises:
            ImageError: it cannot be read.
        """
        config = self._queries.config
        size = (config.image_height, config.image_width)
        picture = read_image(path, at_least=size if config.reduced_decoding else None)
        return to_pixels(picture, *size, config.interpolation), picture

    def load(self) -> "Model":
        """Load the image side, and torch with it, unless it is loaded."""
        if self._model is None:
            from textreid.models import load_model

            self._model = load_model(self._source, precision=self._precision)
        return self._model

    @property
    def dim(self) -> int:
        """The length of a vector; loads nothing."""
        return int(self._queries.encode_texts([]).shape[1])

    @property
    def space(self) -> str:
        """The one of `spaces` that `encode_pixels` computes in here; loads the model."""
        return self.spaces[0] if self.load().precision == "bf16" else self.spaces[-1]

    def encode_pixels(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Return the vectors (N, D) of decoded images (N, 3, H, W) uint8."""
        return self.load().encode_pixels(pixels)
