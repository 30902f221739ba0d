"""How well a search tells that nobody in a gallery fits: ROC AUC, calibration error, and what it answers.

Galleries of 5, 10, 30 and 100 people are drawn from a data set by chance; of each, 30 queries about people in it and 30
about people left out of it are judged by `textreid.gallery.query.nobody`, at even odds before the search. Twice: with
the strengths of matches that are assumed of every model, and with those measured on labelled pairs of the other half
of the people, who are never asked for. Queries are one sentence, and three sentences of one person fused.

    python benchmarks/nobody.py                                # 250 drawn people of a station, rendered here
    python benchmarks/nobody.py --benchmark cuhk-pedes=FOLDER  # any data that `textreid evaluate` reads
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from textreid.datasets import read_benchmark
from textreid.gallery.encoder import GalleryEncoder
from textreid.gallery.query.fusion import QueryFeatures
from textreid.gallery.query.nobody import Calibration, Verdict, calibrate, match_strengths
from textreid.gallery.query.references import reference_features
from textreid.synthetic import write_corpus

_SIZES = (5, 10, 30, 100)
_SENTENCES = (1, 3)
_GALLERIES, _QUERIES = 25, 30
_BINS = 10

Array = npt.NDArray[np.float32]


def main() -> None:
    """Embed, draw galleries, judge, print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--benchmark", metavar="NAME=FOLDER", help="else drawn people")
    parser.add_argument("--identities", type=int, default=250, help="of the drawn people")
    parser.add_argument("--model", help="a model folder; else the bundled model")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    begin = time.perf_counter()
    encoder = GalleryEncoder(options.model)
    with tempfile.TemporaryDirectory() as scratch:
        name, folder = options.benchmark.split("=", 1) if options.benchmark else ("drawn", f"{scratch}/drawn")
        if not options.benchmark:
            workers = os.cpu_count() or 1
            write_corpus(Path(folder), "station", options.identities, 3, 77, workers=workers, first_identity=600_000)
        pictures, people, sentences, said_of = _embed(name, Path(folder), encoder)
    figures = {}
    for count in _SENTENCES:
        references = reference_features(encoder.encode_sentences, encoder.fingerprint, count)
        vectors = np.stack([QueryFeatures(person).vector() for person in references])
        for size in _SIZES:
            if 2 * size <= len(np.unique(people)):
                rng = np.random.default_rng([options.seed, count, size])
                drawn = Galleries(pictures, people, sentences, said_of, vectors, count, rng)
                figures[f"{count} sentences, {size} people"] = drawn.measure(size)
    facts = {"pictures": len(pictures), "people": len(np.unique(people)), "sentences": len(sentences)}
    print(json.dumps({**facts, "seconds": round(time.perf_counter() - begin), **figures}, indent=2))


def _embed(name: str, folder: Path, encoder: GalleryEncoder) -> tuple[Array, Array, Array, Array]:
    """Return features of the pictures (N, D), who is on them (N,), of the sentences (S, D), of whom they are (S,)."""
    benchmark = read_benchmark(name, folder)
    records = benchmark.records
    model = encoder.load()
    pictures = model.encode_images([benchmark.image_root / record.image for record in records])
    said = [(caption, record.identity) for record in records for caption in record.captions]
    people = np.array([record.identity for record in records])
    return pictures, people, model.encode_texts([one for one, _ in said]), np.array([who for _, who in said])


class Galleries:
    """Galleries drawn from one data set, each searched for people in it and for others.

    Args:
        pictures, people: (N, D) and who is on them (N,).
        sentences, said_of: (S, D) and of whom they are (S,).
        references: (M, D) vectors of queries about people who do not exist.
        count: sentences of a query.
        rng: of every draw.
    """

    def __init__(
        self,
        pictures: Array,
        people: Array,
        sentences: Array,
        said_of: Array,
        references: Array,
        count: int,
        rng: np.random.Generator,
    ) -> None:
        self._pictures, self._people = pictures, people
        self._sentences, self._said_of = sentences, said_of
        self._references, self._count, self._rng = references, count, rng

    def measure(self, size: int) -> dict[str, object]:
        """Judge the queries of all galleries of ``size`` people, and count."""
        assumed: list[tuple[bool, Verdict]] = []
        labelled: list[tuple[bool, Verdict]] = []
        for _ in range(_GALLERIES):
            # Those who are asked for, here or not; the others lend their labels.
            order = self._rng.permutation(np.unique(self._people))
            asked = order[: max(2 * size, len(order) // 2)]
            there, absent, others = asked[:size], asked[size : 2 * size], order[len(asked) :]
            inside = np.isin(self._people, there)
            gallery = self._pictures[inside]
            scores = self._references @ gallery.T
            moments = scores.max(axis=1), scores.mean(axis=1), scores.std(axis=1)
            ways: list[tuple[list[tuple[bool, Verdict]], Calibration]] = [(assumed, calibrate(*moments))]
            if len(others) >= 10:
                strengths = self._strengths(others)
                ways.append((labelled, calibrate(*moments, strengths, len(strengths))))
            for present, who in ((True, there), (False, absent)):
                for _ in range(_QUERIES):
                    query = self._query(self._rng.choice(who))
                    if query is not None:
                        best = float((gallery @ query).max())
                        for verdicts, calibration in ways:
                            verdicts.append((present, calibration.judge(best)))
        return {
            "queries": len(assumed),
            "chance_at_most_0.05_when_absent": _share(v.chance <= 0.05 for there, v in assumed if not there),
            "assumed": quality(assumed),
            **({"labelled": quality(labelled)} if labelled else {}),
        }

    def _query(self, person: object) -> Array | None:
        rows = np.flatnonzero(self._said_of == person)
        if len(rows) < self._count:
            return None
        return QueryFeatures(self._sentences[self._rng.choice(rows, self._count, replace=False)]).vector()

    def _strengths(self, others: Array) -> list[float]:
        mask = np.isin(self._people, others)
        gallery, shown = self._pictures[mask], self._people[mask]
        found = [(query, who) for who in others for query in [self._query(who)] if query is not None]
        scores = np.stack([query for query, _ in found]) @ gallery.T
        return match_strengths(scores, [np.flatnonzero(shown == who) for _, who in found])


def quality(verdicts: list[tuple[bool, Verdict]]) -> dict[str, object]:
    """ROC AUC and expected calibration error of the probabilities, and how often each answer was right."""
    there = np.array([present for present, _ in verdicts])
    said = np.array([verdict.probability for _, verdict in verdicts])
    bins = np.minimum((said * _BINS).astype(int), _BINS - 1)
    error = sum(
        float(np.mean(bins == number)) * abs(float(said[bins == number].mean() - there[bins == number].mean()))
        for number in np.unique(bins)
    )
    pairs = np.subtract.outer(said[there], said[~there])
    answers = {
        name: {
            "given": _share(verdict.answer == name for _, verdict in verdicts),
            "right": _share(present == (name == "somebody") for present, v in verdicts if v.answer == name),
        }
        for name in ("somebody", "nobody")
    }
    auc = float(np.mean(pairs > 0) + np.mean(pairs == 0) / 2)
    return {"auc": round(auc, 3), "calibration_error": round(error, 3), **answers}


def _share(hits: Iterable[bool]) -> float | None:
    values = list(hits)
    return round(sum(values) / len(values), 3) if values else None


if __name__ == "__main__":
    main()
