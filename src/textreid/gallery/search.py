"""One sentence against a folder of pictures."""

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from textreid.captions.language import reads_as_english
from textreid.errors import ConfigError, check_type
from textreid.gallery.embedding_cache import EmbeddingCache, open_cache
from textreid.gallery.encoder import GalleryEncoder
from textreid.gallery.indexing import Rejected, Report, index_folder

if TYPE_CHECKING:
    from textreid.models.device import Precision
    from textreid.models.model import Model

NOT_ENGLISH = "the query does not read as English, and the model reads English: scores may mean nothing"


@dataclass(frozen=True)
class Hit:
    """One ranked image.

    Attributes:
        rank: 1 is the best.
        score: cosine similarity of image and query, less what the image loses because it rather shows nobody. It ranks
            the images of one search; it is not a probability.
        path: of the image file.
        seems_empty: whether it seems to show nobody, if the model can tell (docs/checkpoints.md).
    """

    rank: int
    score: float
    path: Path
    seems_empty: bool = False


@dataclass(frozen=True)
class SearchResult:
    """The answer to a query.

    Attributes:
        query: as it was asked.
        unread: the end of the query that the model did not read because it was too long, or nothing.
        model: name or path.
        images: how many were ranked.
        rejected: image files that could not be read, or show nothing.
        hits: best first; images with equal scores are ordered by path.
        notes: lines for the user: on the query, the cache, what was left out when the folder was listed, and how many
            images seem to show nobody.
    """

    query: str
    unread: str
    model: str
    images: int
    rejected: tuple[Rejected, ...]
    hits: tuple[Hit, ...]
    notes: tuple[str, ...] = ()


def search(
    query: str,
    folder: Path | str,
    *,
    model: "str | Path | Model | None" = None,
    top: int = 10,
    precision: "Precision" = "auto",
    cache: EmbeddingCache | bool = True,
    report: Report | None = None,
) -> SearchResult:
    """Rank the images below a folder by how well they fit a description.

    >>> import textreid
    >>> found = textreid.search("a woman in a red jacket", "crops", top=3)
    >>> [hit.rank for hit in found.hits]
    [1, 2, 3]
    >>> best = found.hits[0].path  # and its cosine similarity: found.hits[0].score

    The first search of a folder embeds its images; later ones take the vectors from the cache of the user.

    Args:
        query: a sentence that describes a person, in English.
        folder: searched with its subfolders; hidden files are left out.
        model: what `textreid.load_model` takes or returned; None is the bundled model.
        top: how many hits to return at most.
        precision: of the images' vectors, as `textreid.load_model` takes it; vectors of two are never mixed. A model
            that is given keeps its own.
        cache: where vectors are kept between searches: the cache of the user, or one that is open, or False for none.
        report: called with progress while new images are read and embedded.

    Raises:
        ArgumentError: an argument has a wrong type.
        CaptionError: the query has no words.
        DataError: the folder is missing or has no images, or more than half of them cannot be read, or none of them
            shows anything.
        ModelError, DownloadError: there is no such model, or it is damaged.
        ArtifactError: the model folder is incomplete, or the cache is damaged.
    """
    check_type("query", query, str, "a sentence")
    check_type("folder", folder, (str, Path), "the path of a folder")
    check_type("top", top, int, "a number of images")
    if top < 1:
        raise ConfigError(f"top: expected at least 1, got {top}")
    encoder = GalleryEncoder(model, precision)
    # Before the folder: a query that is refused must not first cost the embedding of its images.
    vector, unread = encoder.encode_query(query)
    notes = [] if reads_as_english(query) else [NOT_ENGLISH]
    with ExitStack() as stack:
        if isinstance(cache, bool):
            opened, problem = open_cache() if cache else (EmbeddingCache(), "")
            notes += [problem] if problem else []
            cache = stack.enter_context(opened)
        index = index_folder(Path(folder), encoder, cache, report)
        notes += [cache.problem] if cache.problem else []
    # Scores are of contents, not of files: copies of one picture get exactly the same.
    scores, empty = index.features @ vector, np.zeros(len(index.features), np.bool_)
    if encoder.presence:
        log_odds = encoder.presence.log_odds(index.features)
        scores = scores - encoder.presence.losses(log_odds)
        empty = log_odds < encoder.presence.threshold
    scores, empty = scores[index.rows], empty[index.rows]
    # Stable, and of the negative: an ascending order, turned round, puts equal scores in the reverse order of paths.
    order = np.argsort(-scores, kind="stable")[:top]
    hits = tuple(Hit(rank, float(scores[i]), index.path(i), bool(empty[i])) for rank, i in enumerate(order, start=1))
    notes += [*index.notes, *_note_empty(int(empty.sum()))]
    return SearchResult(query, unread, encoder.name, len(index.paths), index.rejected, hits, tuple(notes))


def _note_empty(count: int) -> list[str]:
    if not count:
        return []
    return [f"{count:,} {'image seems' if count == 1 else 'images seem'} to show nobody: ranked low"]
