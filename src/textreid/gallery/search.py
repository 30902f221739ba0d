"""One sentence against a folder of pictures."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from textreid.gallery.embedding_cache import EmbeddingCache
from textreid.gallery.encoder import GalleryEncoder
from textreid.gallery.indexing import Rejected, Report, index_folder

if TYPE_CHECKING:
    from textreid.models.device import Precision


@dataclass(frozen=True)
class Hit:
    """One ranked image.

    Attributes:
        rank: 1 is the best.
        score: cosine similarity of image and query. It ranks the images of one search; it is no probability.
        path: of the image file.
    """

    rank: int
    score: float
    path: Path


@dataclass(frozen=True)
class SearchResult:
    """The answer to a query.

    Attributes:
        query: as it was asked.
        unread: the end of the query that the model did not read because it was too long, or nothing.
        model: name or path.
        images: how many were ranked.
        rejected: image files that could not be read.
        hits: best first; images with equal scores are ordered by path.
        notes: lines on what was left out when the folder was listed: formats that are not read, by-products.
    """

    query: str
    unread: str
    model: str
    images: int
    rejected: tuple[Rejected, ...]
    hits: tuple[Hit, ...]
    notes: tuple[str, ...] = ()


def search_folder(
    query: str,
    folder: Path | str,
    *,
    model: str | Path | None = None,
    top: int = 10,
    precision: "Precision" = "auto",
    cache: EmbeddingCache | None = None,
    report: Report | None = None,
) -> SearchResult:
    """Rank the images below ``folder`` by how well they fit ``query``.

    Args:
        query: a sentence that describes a person.
        folder: searched with its subfolders; hidden files are left out.
        model: what `textreid.load_model` takes; None is the bundled model.
        top: how many hits to return at most.
        precision: of the images' vectors, as `textreid.load_model` takes it; vectors of two are never mixed.
        cache: where vectors are kept between searches; None keeps none.
        report: called with progress while new images are read and embedded.

    Raises:
        CaptionError: the query has no words.
        DataError: the folder is missing or has no images, or more than half of them cannot be read.
        ModelError, DownloadError: there is no such model, or it is damaged.
        ArtifactError: the model folder is incomplete, or the cache cannot be used.
    """
    folder = Path(folder)
    encoder = GalleryEncoder(model, precision)
    vector, unread = encoder.encode_query(query)
    if cache is None:
        with EmbeddingCache() as memory:
            index = index_folder(folder, encoder, memory, report)
    else:
        index = index_folder(folder, encoder, cache, report)
    # Scores are of contents, not of files: copies of one picture get exactly the same.
    scores = (index.features @ vector)[index.rows]
    order = np.argsort(-scores, kind="stable")[: max(top, 0)]
    hits = tuple(Hit(rank, float(scores[i]), index.path(i)) for rank, i in enumerate(order, start=1))
    return SearchResult(query, unread, encoder.name, len(index.paths), index.rejected, hits, index.notes)
