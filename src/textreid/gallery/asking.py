"""A question about a person against a gallery in a database."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from textreid.errors import DataError
from textreid.gallery.query.fusion import refine
from textreid.gallery.query.grouping import group_results
from textreid.gallery.query.nobody import MATCH_STRENGTHS, Calibration, Verdict, calibrate, match_strengths
from textreid.gallery.query.pairs import FEWEST
from textreid.gallery.query.question import EncodedQuestion, Question, encode_question
from textreid.gallery.store.rows import Cursor, Filters, Hit

if TYPE_CHECKING:
    from textreid.gallery.encoder import GalleryEncoder
    from textreid.gallery.store import Store

STRENGTHS = "match_strengths"  # fact of a gallery: how high the pictures of labelled pairs scored
_CALIBRATIONS = "calibrations"  # by how many sentences a query has
_SAMPLE = 5_000  # crops whose scores are read for a calibration: all of a gallery that has no more
_OUTGROWN = 1.1  # times as many crops as when it was calibrated, or as many fewer

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class FoundPerson:
    """One result: the best crop of a walk, and crops of others that hardly differ from it."""

    best: Hit
    alike: tuple[Hit, ...] = ()


@dataclass(frozen=True)
class Answer:
    """The answer of a gallery.

    Attributes:
        found: best first.
        next: where the next page begins; None after the last.
        unread: the ends of sentences that the model did not read, or nothing.
        notes: lines for the user on the query.
        verdict: how likely it is that anybody there fits; None where that was not asked.
        exact: whether every crop was compared; else the HNSW index answered.
    """

    found: tuple[FoundPerson, ...]
    next: Cursor | None
    unread: str
    notes: tuple[str, ...]
    verdict: Verdict | None
    exact: bool


def ask(
    store: "Store",
    encoder: "GalleryEncoder",
    question: Question,
    filters: Filters | None = None,
    *,
    top: int = 10,
    after: Cursor | None = None,
    right: Sequence[int] = (),
    wrong: Sequence[int] = (),
    group: bool = True,
    prior: float | None = None,
) -> Answer:
    """Rank the people of a gallery by how well they fit a question.

    Args:
        store: the gallery.
        encoder: its model.
        question: who is looked for.
        filters: which crops are ranked.
        top: how many results at most.
        after: the next page of an earlier answer to the same question.
        right, wrong: numbers of crops that an earlier answer had and somebody judged. The query moves towards the right
            ones; the wrong ones are left out.
        group: give one result a track, and one for crops that hardly differ; else every crop is one.
        prior: how likely it is that the person is there, before the search; None for no verdict.

    Raises:
        ConfigError: the question asks for nobody, or a verdict is asked on pictures.
        CaptionError: a sentence has no words.
        ImageError: a picture cannot be read.
        StoreError: the database refuses, or a crop that was judged is gone.
    """
    question.check()
    filters = filters or Filters()
    encoded = encode_question(question, encoder, store.vectors)
    vector = encoded.features.vector()
    verdict = None
    if prior is not None:
        top_score = store.search(vector, filters, 1).hits
        if top_score:
            verdict = calibration_of(store, encoder, encoded, filters).judge(top_score[0].score, prior)
    if right:
        vector = refine(vector, store.vectors(right), store.vectors(wrong) if wrong else vector[None][:0])
    filters = replace(filters, exclude=(*filters.exclude, *wrong))
    if not group:
        page = store.search(vector, filters, top, after=after)
        found = tuple(map(FoundPerson, page.hits))
        return Answer(found, page.next, encoded.unread, encoded.notes, verdict, page.exact)
    found, following, exact = _grouped(store, vector, filters, top, after)
    return Answer(found, following, encoded.unread, encoded.notes, verdict, exact)


def _grouped(
    store: "Store", vector: Array, filters: Filters, top: int, after: Cursor | None
) -> tuple[tuple[FoundPerson, ...], Cursor | None, bool]:
    """Read pages of one crop a track until ``top`` groups are complete up to the first crop of the next group."""
    hits: list[Hit] = []
    exact, start = True, after
    as_of = after.as_of if after else store.as_of()
    while True:
        page = store.search(vector, filters, top, after=start, one_per_track=True)
        hits += page.hits
        exact = exact and page.exact
        tracks = [None if hit.crop.track is None else (hit.crop.file_id, hit.crop.track) for hit in hits]
        groups = group_results(store.vectors([hit.crop.id for hit in hits]), tracks) if hits else []
        start = page.next
        if len(groups) > top or start is None:
            break
    following = None
    if len(groups) > top:
        cut = groups[top][0]
        groups = [[row for row in group if row < cut] for group in groups[:top]]
        following = Cursor(hits[cut - 1].score, hits[cut - 1].crop.id, as_of)
    found = tuple(FoundPerson(hits[best], tuple(hits[row] for row in alike)) for best, *alike in groups)
    return found, following, exact


def calibration_of(
    store: "Store", encoder: "GalleryEncoder", encoded: EncodedQuestion, filters: Filters
) -> Calibration:
    """Calibrate the best scores of a gallery, or of what passes the filters, for a kind of question.

    That of plain sentences and all crops is kept with the gallery until a tenth of it is new or gone; others take a
    second or more each time.

    Raises:
        ConfigError: pictures are part of the question.
    """
    plain = not filters and not len(encoded.features.without)
    kind, crops = str(len(encoded.features.sentences)), store.counts().crops
    strengths = store.fact(STRENGTHS)
    kept = (store.fact(_CALIBRATIONS) or {}) if plain else {}
    entry = kept.get(kind)
    if entry and crops / _OUTGROWN <= entry["crops"] <= crops * _OUTGROWN and entry["strengths"] == strengths:
        return Calibration.from_json(entry["calibration"], f"gallery {store.name!r}")
    references = encoded.references(encoder)
    _, scores = store.all_scores(references, filters, sample=_SAMPLE)
    best = scores.max(axis=1)
    if scores.shape[1] == _SAMPLE:
        best = np.array([store.search(reference, filters, 1).hits[0].score for reference in references])
    pairs = len(strengths or ())
    made = calibrate(best, scores.mean(axis=1), scores.std(axis=1), strengths or MATCH_STRENGTHS, pairs)
    if plain:
        entry = {"crops": crops, "strengths": strengths, "calibration": made.to_json()}
        store.set_fact(_CALIBRATIONS, {**kept, kind: entry})
    return made


def learn_from_pairs(store: "Store", encoder: "GalleryEncoder", pairs: Sequence[tuple[str, int]]) -> list[float]:
    """Measure how high the right people of a gallery score on labelled pairs, and keep it for verdicts.

    Args:
        store: the gallery.
        encoder: its model.
        pairs: sentences and numbers of crops of whom they describe; several crops of a sentence are several pairs.

    Returns:
        Strengths of the matches, one a sentence.

    Raises:
        DataError: there are fewer than ten sentences, or a crop is not in the gallery.
    """
    crops: dict[str, list[int]] = {}
    for sentence, number in pairs:
        crops.setdefault(sentence, []).append(number)
    if len(crops) < FEWEST:
        raise DataError(f"{len(crops)} labelled sentences: to tell how high a match scores takes at least {FEWEST}")
    vectors = np.stack([encoder.encode_query(sentence)[0] for sentence in crops])
    _, sample = store.all_scores(vectors, sample=_SAMPLE)
    rows, columns = [], []
    for vector, numbers, others in zip(vectors, crops.values(), sample, strict=True):
        scores = store.scores(vector, numbers)
        if np.isnan(scores).any():
            raise DataError(f"gallery {store.name!r} has no crop {numbers[int(np.isnan(scores).argmax())]}")
        rows.append(np.concatenate([others, scores]))
        columns.append(np.arange(len(others), len(others) + len(scores)))
    strengths = [match_strengths(row[None], [matches])[0] for row, matches in zip(rows, columns, strict=True)]
    store.set_fact(STRENGTHS, [round(strength, 4) for strength in strengths])
    return strengths


def crops_named(store: "Store", names: Sequence[str]) -> list[int]:
    """Find the numbers of crops that people name: by that number, or by the path of the file that is the crop.

    Raises:
        DataError: a file is not in the gallery, or several crops are of it.
    """
    numbers = []
    for name in names:
        if name.isdecimal():
            numbers.append(int(name))
            continue
        path = Path(name).resolve()
        hits = store.search(np.eye(1, store.dim, dtype=np.float32)[0], Filters(sources=(str(path),)), 2).hits
        if not hits:
            raise DataError(f"{name}: is no file of gallery {store.name!r}; give its path, or the number of a crop")
        if len(hits) > 1:
            raise DataError(f"{name}: several crops of gallery {store.name!r} are of it; give the number of one")
        numbers.append(hits[0].crop.id)
    return numbers
