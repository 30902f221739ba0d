"""A question about a person against a folder of pictures."""

import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from textreid.errors import ConfigError, DataError, check_list, check_type
from textreid.gallery.embedding_cache import EmbeddingCache, open_cache
from textreid.gallery.encoder import GalleryEncoder
from textreid.gallery.indexing import FolderIndex, Rejected, Report, index_folder
from textreid.gallery.query.fusion import refine
from textreid.gallery.query.grouping import group_results
from textreid.gallery.query.nobody import MATCH_STRENGTHS, Verdict, calibrate, match_strengths
from textreid.gallery.query.pairs import Pair
from textreid.gallery.query.question import Question, encode_question, question_of

if TYPE_CHECKING:
    from textreid.models.device import Precision
    from textreid.models.model import Model

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Hit:
    """One ranked image.

    Attributes:
        rank: 1 is the best.
        score: cosine similarity of image and query, less what the image loses because it rather shows nobody. It ranks
            the images of one search; it is not a probability.
        path: of the image file.
        seems_empty: whether it seems to show nobody, if the model can tell (docs/checkpoints.md).
        alike: images that hardly differ from this one, best first, where a search groups them.
    """

    rank: int
    score: float
    path: Path
    seems_empty: bool = False
    alike: tuple[Path, ...] = ()


@dataclass(frozen=True)
class SearchResult:
    """The answer to a query.

    Attributes:
        query: the question in one line; of one sentence, as it was asked.
        unread: the end of the query that the model did not read because it was too long, or nothing.
        model: name or path.
        images: how many were ranked.
        rejected: image files that could not be read, or show nothing.
        hits: best first; images with equal scores are ordered by path.
        notes: lines for the user: on the query, the cache, what was left out when the folder was listed, and how many
            images seem to show nobody.
        verdict: how likely it is that anybody in the folder fits; None where that was not asked.
        fingerprint: SHA-256 of the model.
    """

    query: str
    unread: str
    model: str
    images: int
    rejected: tuple[Rejected, ...]
    hits: tuple[Hit, ...]
    notes: tuple[str, ...] = ()
    verdict: Verdict | None = None
    fingerprint: str = ""


def search(
    query: str | Sequence[str] | Question,
    folder: Path | str,
    *,
    model: "str | Path | Model | None" = None,
    top: int = 10,
    right: Sequence[Path | str] = (),
    wrong: Sequence[Path | str] = (),
    group: bool = False,
    prior: float | None = None,
    pairs: Sequence[Pair] = (),
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
        query: a sentence that describes a person, in English; or a list of sentences of several witnesses; or a
            `Question`, which may hold pictures and what was not seen.
        folder: searched with its subfolders; hidden files are left out.
        model: what `textreid.load_model` takes or returned; None is the bundled model.
        top: how many hits to return at most.
        right, wrong: images of the folder that an earlier search found and somebody judged. The query moves towards the
            right ones; the wrong ones are left out.
        group: put images that hardly differ together as one hit.
        prior: how likely it is that the person is in the folder, before the search, to be told how likely it is after
            it; None for no such `Verdict`. The first one with a model takes some seconds.
        pairs: sentences and images of the folder that show whom they describe: how high such score is measured for the
            verdict, in place of what is assumed; see `read_pairs`.
        precision: of the images' vectors, as `textreid.load_model` takes it; vectors of two are never mixed. A model
            that is given keeps its own.
        cache: where vectors are kept between searches: the cache of the user, or one that is open, or False for none.
        report: called with progress while new images are read and embedded.

    Raises:
        ArgumentError: an argument has a wrong type.
        CaptionError: a sentence has no words.
        DataError: the folder is missing or has no images, or more than half of them cannot be read, or none of them
            shows anything; or an image that was judged is not one of its.
        ModelError, DownloadError: there is no such model, or it is damaged.
        ArtifactError: the model folder is incomplete, or the cache is damaged.
    """
    question = question_of(query)
    check_type("folder", folder, (str, Path), "the path of a folder")
    check_type("top", top, int, "a number of images")
    for name, judged in (("right", right), ("wrong", wrong)):
        check_list(name, judged, (str, Path), "paths of images")
    if top < 1:
        raise ConfigError(f"top: expected at least 1, got {top}")
    encoder = GalleryEncoder(model, precision)
    # Before the folder: a query that is refused must not first cost the embedding of its images.
    encoded = encode_question(question, encoder)
    vector = encoded.features.vector()
    references = vector[:0] if prior is None else encoded.references(encoder, keep=cache is not False)
    with ExitStack() as stack:
        problems = []
        if isinstance(cache, bool):
            opened, problem = open_cache() if cache else (EmbeddingCache(), "")
            problems += [problem] if problem else []
            cache = stack.enter_context(opened)
        index = index_folder(Path(folder), encoder, cache, report)
        problems += [cache.problem] if cache.problem else []
    # Of the question as it was asked: what somebody found in the folder says nothing about who else is there.
    strengths = _strengths(pairs, index, encoder) if prior is not None else None
    verdict = _judge(index, vector, references, encoder, prior, strengths) if prior is not None else None
    liked, disliked = _rows_of(right, index), _rows_of(wrong, index)
    vector = refine(vector, *(index.features[index.rows[judged]] for judged in (liked, disliked)))
    scores, empty = _scores(index, vector, encoder)
    # Stable, and of the negative: an ascending order, turned round, puts equal scores in the reverse order of paths.
    order = np.argsort(-scores, kind="stable")
    order = order[~np.isin(order, disliked)]
    groups = _grouped(order, index, top) if group else [[int(row)] for row in order[:top]]
    hits = tuple(
        Hit(rank, float(scores[best]), index.path(best), bool(empty[best]), tuple(index.path(row) for row in alike))
        for rank, (best, *alike) in enumerate(groups, start=1)
    )
    notes = (*encoded.notes, *problems, *index.notes, *_note_empty(int(empty.sum())))
    return SearchResult(
        question.title, encoded.unread, encoder.name, len(index.paths), index.rejected, hits, notes, verdict,
        encoder.fingerprint,
    )  # fmt: skip


def _scores(index: FolderIndex, vector: Array, encoder: GalleryEncoder) -> tuple[Array, npt.NDArray[np.bool_]]:
    """Score the images (N,) of a folder, and tell which seem to show nobody (N,)."""
    # Scores are of contents, not of files: copies of one picture get exactly the same.
    scores, empty = index.features @ vector, np.zeros(len(index.features), np.bool_)
    if encoder.presence:
        log_odds = encoder.presence.log_odds(index.features)
        scores = scores - encoder.presence.losses(log_odds)
        empty = log_odds < encoder.presence.threshold
    return scores[index.rows], empty[index.rows]


def _judge(
    index: FolderIndex,
    vector: Array,
    references: Array,
    encoder: GalleryEncoder,
    prior: float,
    strengths: Sequence[float] | None,
) -> Verdict:
    """Judge the best score of a question by those of the same question about people (M, D) who are not there."""
    others = np.stack([_scores(index, reference, encoder)[0] for reference in references])
    moments = others.max(axis=1), others.mean(axis=1), others.std(axis=1)
    calibration = calibrate(*moments, strengths or MATCH_STRENGTHS, len(strengths or ()))
    return calibration.judge(float(_scores(index, vector, encoder)[0].max()), prior)


def _strengths(pairs: Sequence[Pair], index: FolderIndex, encoder: GalleryEncoder) -> list[float]:
    """Measure how high the images of labelled pairs score, once for each sentence."""
    images: dict[str, list[str]] = {}
    for sentence, image in pairs:
        images.setdefault(sentence, []).append(image)
    scores = [_scores(index, encoder.encode_query(sentence)[0], encoder)[0] for sentence in images]
    return match_strengths(np.array(scores), [_rows_of(shown, index) for shown in images.values()])


def _rows_of(paths: Sequence[Path | str], index: FolderIndex) -> npt.NDArray[np.int64]:
    """Find which images of a folder these files are."""
    number = {path: row for row, path in enumerate(index.paths)}
    rows = []
    for path in paths:
        # Of its folder alone: a file of the folder may itself be a link.
        real = Path(os.path.realpath(Path(path).parent), Path(path).name)
        if real not in number:
            raise DataError(f"{path}: was not ranked in {index.folder}, so that it cannot be judged")
        rows.append(number[real])
    return np.array(rows, np.int64)


def _grouped(order: npt.NDArray[np.int64], index: FolderIndex, top: int) -> list[list[int]]:
    """Group the first images of an order until there are ``top`` groups that no later one of as many could join."""
    taken = top
    while True:
        rows = order[:taken]
        groups = group_results(index.features[index.rows[rows]], [None] * len(rows))
        if len(groups) >= top or taken >= len(order):
            return [[int(rows[place]) for place in group] for group in groups[:top]]
        taken *= 2


def _note_empty(count: int) -> list[str]:
    if not count:
        return []
    return [f"{count:,} {'image seems' if count == 1 else 'images seem'} to show nobody: ranked low"]
