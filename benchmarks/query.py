"""What each part of a query brings: witnesses, rewrites, a picture, what was not seen, right and wrong results, groups.

    python benchmarks/query.py                                # 250 drawn people of a station, rendered here
    python benchmarks/query.py --benchmark cuhk-pedes=FOLDER  # any data that `textreid evaluate` reads

What was not seen is measured for things that some people are said to have: a sentence about somebody who has not is
asked for without it. Who has a thing is read off all sentences about a person (a word counts as seen, its absence as
not seen), which for photographs is a noisy truth. Rewrites are made by rules (words for others that mean the same), and
come over HTTP as those of a language model do: they say what the way brings, not what such a model would.
"""

import argparse
import json
import os
import re
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import numpy.typing as npt

from textreid.captioning.rewriting import read_rewriter
from textreid.datasets import read_benchmark
from textreid.errors import CaptionError
from textreid.gallery.encoder import GalleryEncoder
from textreid.gallery.query.fusion import QueryFeatures, direction_of, refine, without_sentences
from textreid.gallery.query.words import unknown_words
from textreid.synthetic import write_corpus
from textreid.synthetic.vocabulary import reading

_THINGS = {
    "a red top": "red", "a white top": "white", "a green top": "green", "a pink top": "pink", "jeans": "jeans",
    "shorts": "shorts", "a skirt": "skirt", "long hair": r"long (?:\w+ )?hair", "boots": "boots",
    "a backpack": "backpack|rucksack", "a handbag": "handbag|purse|tote", "a hat": "hat|cap|beanie",
    "glasses": "glasses",
}  # fmt: skip
_SHOWN = 10  # results that are judged, and looked at
_AT_MOST = 300  # queries for each thing

Array = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


def main() -> None:
    """Embed, measure, print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--benchmark", metavar="NAME=FOLDER", help="else drawn people")
    parser.add_argument("--model", help="a model folder; else the bundled model")
    options = parser.parse_args()
    encoder = GalleryEncoder(options.model)
    with tempfile.TemporaryDirectory() as scratch:
        name, folder = options.benchmark.split("=", 1) if options.benchmark else ("drawn", f"{scratch}/drawn")
        if not options.benchmark:
            write_corpus(Path(folder), "station", 250, 3, 77, workers=os.cpu_count() or 1, first_identity=600_000)
        data = Data(name, Path(folder), encoder)
    figures = {
        "witnesses": witnesses(data), "rewrites": rewrites(data, encoder), "pictures": pictures(data),
        "without": without(data, encoder), "feedback": feedback(data), "alike": alike(data),
        "unknown_words": unknown(data, encoder),
    }  # fmt: skip
    print(json.dumps(figures, indent=2))


class Data:
    """Features of a benchmark: pictures (N, D), who (N,), sentences (S, D), their pictures (S,) and texts."""

    def __init__(self, name: str, folder: Path, encoder: GalleryEncoder) -> None:
        benchmark = read_benchmark(name, folder)
        said = [(row, text) for row, record in enumerate(benchmark.records) for text in record.captions]
        model = encoder.load()
        self.pictures = model.encode_images([benchmark.image_root / record.image for record in benchmark.records])
        self.people = np.array([record.identity for record in benchmark.records])
        self.sentences = model.encode_texts([text for _, text in said])
        self.rows = np.array([row for row, _ in said])
        self.texts = [text for _, text in said]
        self.said_of = self.people[self.rows]


def witnesses(data: Data) -> dict[str, object]:
    """Ways to fuse the sentences of one person, drawn from all about him."""
    rng, found = np.random.default_rng(0), dict[str, object]()
    scores = data.sentences @ data.pictures.T
    ranks = np.argsort(np.argsort(-scores, axis=1), axis=1)
    for count in (1, 2, 3, 4):
        drawn = [
            (rng.choice(rows, count, replace=False), person)
            for person in np.unique(data.people)
            for rows in [np.flatnonzero(data.said_of == person)]
            for _ in range(20)
            if len(rows) >= count
        ]
        chosen, who = np.stack([rows for rows, _ in drawn]), np.array([person for _, person in drawn])
        ways = {
            "mean of the features": np.stack([QueryFeatures(data.sentences[rows]).vector() for rows in chosen])
            @ data.pictures.T,
            "best of the cosines": scores[chosen].max(axis=1),
            "least of the cosines": scores[chosen].min(axis=1),
            "reciprocal ranks": (1 / (60 + ranks[chosen])).sum(axis=1),
        }
        found[str(count)] = {way: of_ranking(score, who, data.people) for way, score in ways.items()}
    return found


def rewrites(data: Data, encoder: GalleryEncoder) -> dict[str, object]:
    """Sentences alone, and averaged with what rules make of them, for the sentences of which they make anything."""
    found: dict[str, object] = {"sentences": len(data.texts)}
    for way, count in (("words of the vocabulary", 1), ("other words", 4)):
        with rule_based(way) as url:
            rewriter = read_rewriter(f"rules={url}#rules")
            said: dict[int, list[str]] = {}
            for row, text in enumerate(data.texts):
                try:
                    said[row] = rewriter.rewrite(text, count)
                except CaptionError:  # no rule applies
                    continue
        rows = np.array(list(said))
        made = encoder.encode_sentences([text for texts in said.values() for text in texts])
        parts = np.split(made, np.cumsum([len(texts) for texts in said.values()])[:-1])
        both = [
            QueryFeatures(np.concatenate([data.sentences[row][None], part])).vector()
            for row, part in zip(rows, parts, strict=True)
        ]
        found[way] = {
            "rewritten": len(rows),
            "rewrites_a_sentence": round(len(made) / len(rows), 1),
            "alone": of_ranking(data.sentences[rows] @ data.pictures.T, data.said_of[rows], data.people),
            "averaged": of_ranking(np.stack(both) @ data.pictures.T, data.said_of[rows], data.people),
            "the first rewrite alone": of_ranking(
                np.stack([part[0] for part in parts]) @ data.pictures.T, data.said_of[rows], data.people
            ),
        }
    return found


@contextmanager
def rule_based(way: str) -> Iterator[str]:
    """Serve rewrites by rules at the address that is yielded, as an OpenAI-compatible server does."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            query = asked["messages"][-1]["content"].rpartition("\n\n")[2]
            lines = dict.fromkeys(reworded(query, number, way) for number in range(4))
            text = "\n".join(line for line in lines if line != query.lower())
            answer = {"choices": [{"message": {"role": "assistant", "content": text or "-"}, "finish_reason": "stop"}]}
            body = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def reworded(text: str, number: int, way: str) -> str:
    """Say a sentence in words that the vocabulary lists as equal: those that it prefers, or the others in turn."""

    def exchanged(found: re.Match[str]) -> str:
        for preferred, *others in equal_words():
            if way == "words of the vocabulary" and found[0] in others:
                return preferred
            if way != "words of the vocabulary" and found[0] in (preferred, *others):
                return [word for word in (preferred, *others) if word != found[0]][number % len(others)]
        return found[0]

    return re.sub(r"[a-z-]+", exchanged, text.lower())


@cache
def equal_words() -> list[list[str]]:
    """List the words that the vocabulary counts as equal, the one that it prefers first."""
    sections = ("same_thing", "same_colour", "gender")
    return [[word, *forms.split()] for section in sections for word, forms in reading(section).items()]


def pictures(data: Data) -> dict[str, object]:
    """A picture of the person, left out of the gallery, and a sentence about another one, by the picture's share."""
    rng, found = np.random.default_rng(0), dict[str, object]()
    both = [
        (row, int(rng.choice(others)))
        for row, person in enumerate(data.people)
        for others in [np.flatnonzero((data.said_of == person) & (data.rows != row))]
        if len(others)
    ]
    for share in (0.0, 0.5, 0.7, 0.8, 0.9, 1.0):
        vectors = np.stack([share * data.pictures[row] + (1 - share) * data.sentences[said] for row, said in both])
        scores = vectors @ data.pictures.T
        scores[np.arange(len(both)), [row for row, _ in both]] = -np.inf
        found[str(share)] = of_ranking(scores, data.people[[row for row, _ in both]], data.people)
    return found


def without(data: Data, encoder: GalleryEncoder) -> dict[str, object]:
    """Ways to subtract: share of the first ten that have the thing, and mAP of who has not, before and after."""
    rng, found = np.random.default_rng(0), dict[str, object]()
    texts = {
        person: " ".join(np.array(data.texts, object)[data.said_of == person]) for person in np.unique(data.people)
    }
    for thing, pattern in _THINGS.items():
        seen = {person: bool(re.search(rf"\b(?:{pattern})\b", text, re.IGNORECASE)) for person, text in texts.items()}
        has = np.array([seen[person] for person in data.people])
        if min(has.sum(), (~has).sum()) < 8:
            continue
        bare = encoder.encode_query(thing)[0]
        with_it, plain = encoder.encode_sentences(without_sentences(thing))
        direction = direction_of(with_it, plain)
        rows = np.flatnonzero(~np.isin(data.said_of, [person for person, has_it in seen.items() if has_it]))
        rows = rng.permutation(rows)[:_AT_MOST]
        queries, who = data.sentences[rows], data.said_of[rows]
        said = [data.texts[row].rstrip(". ") + f", without {thing}" for row in rows[:60]]
        ways = {
            "nothing": queries,
            "chosen": np.stack([QueryFeatures(one[None], without=direction[None]).vector() for one in queries]),
            "half of it": queries - 0.1 * direction,
            "the thing's own features": queries - 0.2 * bare,
            "in words": np.stack([encoder.encode_query(text)[0] for text in said]),
        }
        told = {"told_apart": round(auc(data.pictures[has] @ direction, data.pictures[~has] @ direction), 2)}
        told |= {"by_its_own_features": round(auc(data.pictures[has] @ bare, data.pictures[~has] @ bare), 2)}
        for way, vectors in ways.items():
            scores = vectors @ data.pictures.T
            first = np.argsort(-scores, axis=1, kind="stable")[:, :_SHOWN]
            least = of_ranking(scores, who[: len(scores)], data.people)["mAP"]
            told[way] = {"have_it": round(100 * float(has[first].mean()), 1), "mAP": least}  # type: ignore[assignment]
        found[thing] = told
    return found


def feedback(data: Data) -> dict[str, object]:
    """Judge the first ten results by the truth, and rank the rest again."""
    found: dict[str, object] = {}
    ways = {"nothing": (0.0, 0.0), "chosen": None, "right ones alone": (2.0, 0.0), "less": (0.5, 0.25)}
    measured: dict[str, list[list[float]]] = {way: [] for way in ways}
    none_right = 0
    for query, person in zip(data.sentences, data.said_of, strict=True):
        first = np.argsort(-(data.pictures @ query), kind="stable")[:_SHOWN]
        is_right, rest = data.people[first] == person, np.delete(np.arange(len(data.pictures)), first)
        if not (data.people[rest] == person).any():
            continue
        if not is_right.any():
            none_right += 1
            continue
        right, wrong = data.pictures[first[is_right]], data.pictures[first[~is_right]]
        for way, weights in ways.items():
            moved = refine(query, right, wrong) if weights is None else query + weights[0] * right.mean(axis=0)
            if weights and len(wrong):
                moved = moved - weights[1] * wrong.mean(axis=0)
            figures = of_ranking((data.pictures[rest] @ moved)[None], np.array([person]), data.people[rest])
            measured[way].append(list(figures.values()))
    for way, rows in measured.items():
        found[way] = dict(zip(("R1", "R10", "mAP"), np.mean(rows, axis=0).round(1).tolist(), strict=True))
    return {"queries": len(measured["nothing"]), "none_of_the_first_right": none_right, **found}


def alike(data: Data) -> dict[str, object]:
    """Pairs of pictures that are at least so alike: how many of one person, of two people."""
    upper = np.triu_indices(len(data.pictures), 1)
    cosines = (data.pictures @ data.pictures.T)[upper]
    same = (data.people[:, None] == data.people)[upper]
    found: dict[str, object] = {"pairs": {"one person": int(same.sum()), "two": int((~same).sum())}}
    for bound in (0.9, 0.94, 0.96, 0.98):
        joined = cosines >= bound
        found[str(bound)] = {"one person": int((same & joined).sum()), "two": int((~same & joined).sum())}
    return found


def unknown(data: Data, encoder: GalleryEncoder) -> dict[str, object]:
    """R1 of sentences by how many words they have that the model has not learned."""
    counts = np.array([len(unknown_words(text, encoder.tokenizer)) for text in data.texts])
    hits = data.people[np.argmax(data.sentences @ data.pictures.T, axis=1)] == data.said_of
    groups = {"0": counts == 0, "1 or 2": (counts == 1) | (counts == 2), "3 and more": counts >= 3}
    return {
        name: {"sentences": int(group.sum()), "R1": round(100 * float(hits[group].mean()), 1)}
        for name, group in groups.items()
        if group.any()
    }


def of_ranking(scores: Array, who: Ints, people: Ints) -> dict[str, float]:
    """R1, R10 and mAP in percent of scores (Q, N)."""
    right = people[np.argsort(-scores, axis=1, kind="stable")] == who[:, None]
    precision = np.cumsum(right, axis=1) / np.arange(1, right.shape[1] + 1)
    average = (precision * right).sum(axis=1) / right.sum(axis=1)
    found = {"R1": right[:, 0], "R10": right[:, :10].any(axis=1), "mAP": average}
    return {name: round(100 * float(values.mean()), 1) for name, values in found.items()}


def auc(higher: Array, lower: Array) -> float:
    """Area under the ROC curve."""
    pairs = np.subtract.outer(higher, lower)
    return float(np.mean(pairs > 0) + np.mean(pairs == 0) / 2)


if __name__ == "__main__":
    main()
