"""Which words a model is blind to: how sentences with an attribute word do, and what they lose without it.

Sentences with a word differ from those without it in other ways too (length, who is described), so the difference
between the two is a symptom. The test is the second figure: the same sentences with the word taken out. A model
that loses nothing does not use the word.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from textreid.evaluation.chance_level import bootstrap_means, interval, verdict
from textreid.evaluation.encoding import EncodedSplit, Encoder
from textreid.evaluation.metrics import QueryMetrics, retrieval_metrics
from textreid.reporting.tables import Table
from textreid.synthetic.vocabulary import reading, same_words

MIN_IDENTITIES = 5  # that a word must be said of, and as many that it is not said of
SHORTENED = 300  # sentences a word is taken out of, at most
_SEED = 0
_MEASURED = ("R1", "mAP")
_TOKEN = re.compile(r"[^\W\d_]+(?:[-'][^\W\d_]+)*")
_PART = re.compile(r"[^-']+")  # of a token

_NOTES = (
    "with / others: R1 of the sentences that say the word, and of all others; gap: 95 % interval of the difference, in "
    "points. Such sentences differ in other ways too: a gap is a symptom.",
    "without it: points of R1 and mAP that sentences lose when the word is taken out of them (up to 300 a word), with "
    "95 % intervals.",
    "used: yes, where the interval of the lost mAP is above 0; misleads, where it is below; unclear, where it holds "
    "0: the model is blind to the word, or the sentences are too few to tell.",
)


class AttributeWord(NamedTuple):
    """An attribute word in a sentence: its class, its usual form, and where it stands."""

    kind: str
    word: str
    start: int
    end: int


@dataclass(frozen=True)
class WordRecall:
    """How the sentences with one word do; every pair of ends is a 95 % bootstrap interval over identities.

    Attributes:
        kind, word: such as ("colour", "red"); the word is "any" for all of its class.
        queries, identities: with the word.
        scores: R1 and mAP of the sentences with the word.
        other_scores: of the sentences without it.
        difference: ends of the interval of ``scores - other_scores``.
        shortened: number of sentences that the word was taken out of.
        loss: what these lose without it, in R1 and mAP; negative where they gain. None for "any".
        loss_interval: ends of its interval.
    """

    kind: str
    word: str
    queries: int
    identities: int
    scores: dict[str, float]
    other_scores: dict[str, float]
    difference: dict[str, tuple[float, float]]
    shortened: int = 0
    loss: dict[str, float] | None = None
    loss_interval: dict[str, tuple[float, float]] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        values = asdict(self)
        for name in ("difference", "loss_interval"):
            values[name] = values[name] and {score: list(ends) for score, ends in values[name].items()}
        return values


def attribute_words(text: str) -> Iterator[AttributeWord]:
    """Yield the words of a sentence that say what a person looks like, in its order.

    British and American spelling fall together, and so do singular and plural. A shade and its colour are two words.
    """
    kinds = _kinds()
    for match in _TOKEN.finditer(text):
        token = match.group().lower()
        # "dark-haired", "long-sleeved": each half may be a word of its own
        pieces = [(0, token)] if token in kinds else [(part.start(), part[0]) for part in _PART.finditer(token)]
        for before, piece in pieces:
            word = _usual(piece)
            if word in kinds:
                start = match.start() + before
                yield AttributeWord(kinds[word], word, start, start + len(piece))


def without(text: str, word: str) -> str:
    """Take every occurrence of an attribute word out of ``text``."""
    # From the end, so that the places before stay right.
    for said in reversed(list(attribute_words(text))):
        if said.word == word:
            text = text[: said.start] + text[said.end :]
    # A half that was taken out of "dark-haired" leaves its hyphen.
    return " ".join(text.replace("- ", " ").replace(" -", " ").split())


def word_recall(model: Encoder, encoded: EncodedSplit, each: QueryMetrics) -> tuple[WordRecall, ...]:
    """Measure every attribute word that enough people are described with, by class and then by frequency.

    Args:
        model: that encoded the split; it encodes the shortened sentences.
        encoded: the split.
        each: text-to-image values of its sentences.
    """
    people = encoded.caption_ids[each.query]
    sentences = [encoded.captions[query] for query in each.query]
    keys, said = _occurrences(sentences, people)
    values = np.stack([each.scores()[score] for score in _MEASURED], axis=1)
    found = _compare(keys, values, people, said)
    return tuple(
        recall if recall.word == "any" else _take_out(model, encoded, each, recall, np.flatnonzero(having))
        for recall, having in zip(found, said.T, strict=True)
    )


def _compare(
    keys: list[tuple[str, str]],
    values: npt.NDArray[np.float64],
    people: npt.NDArray[np.int64],
    said: npt.NDArray[np.bool_],
) -> list[WordRecall]:
    count = values.shape[1]
    # Sentences with a word and those without share their draws, so their difference has an interval of its own.
    where = np.repeat(np.concatenate([said, ~said], axis=1), count, axis=1)
    means = bootstrap_means(np.tile(values, 2 * len(keys)), people, where)
    ends = interval(means[:, : count * len(keys)] - means[:, count * len(keys) :]).reshape(-1, count, 2)
    return [
        WordRecall(
            kind=kind,
            word=word,
            queries=int(having.sum()),
            identities=len(np.unique(people[having])),
            scores=_by_name(values[having].mean(axis=0)),
            other_scores=_by_name(values[~having].mean(axis=0)),
            difference=_ends_by_name(ends[column]),
        )
        for column, ((kind, word), having) in enumerate(zip(keys, said.T, strict=True))
    ]


def _take_out(
    model: Encoder, encoded: EncodedSplit, each: QueryMetrics, recall: WordRecall, rows: npt.NDArray[np.int64]
) -> WordRecall:
    # By a fixed seed: of two models on the same data, the same sentences are shortened.
    chosen = np.sort(np.random.default_rng(_SEED).permutation(rows)[:SHORTENED])
    queries = each.query[chosen]
    people = encoded.caption_ids[queries]
    texts = model.encode_texts([without(encoded.captions[query], recall.word) for query in queries])
    after = retrieval_metrics(texts, encoded.image_features, people, encoded.image_ids).per_query
    lost = np.stack([each.scores()[score][chosen] - after.scores()[score] for score in _MEASURED], axis=1)
    values = asdict(recall) | {
        "shortened": len(chosen),
        "loss": _by_name(lost.mean(axis=0)),
        "loss_interval": _ends_by_name(interval(bootstrap_means(lost, people))),
    }
    return WordRecall(**values)


def _occurrences(
    sentences: list[str], people: npt.NDArray[np.int64]
) -> tuple[list[tuple[str, str]], npt.NDArray[np.bool_]]:
    """Find the (class, word) pairs that are frequent enough, and which sentence has which: (Q, K)."""
    rows: dict[tuple[str, str], set[int]] = {}
    for row, sentence in enumerate(sentences):
        for said in attribute_words(sentence):
            rows.setdefault((said.kind, said.word), set()).add(row)
            rows.setdefault((said.kind, "any"), set()).add(row)
    everyone = np.arange(len(sentences))
    kept: dict[tuple[str, str], npt.NDArray[np.bool_]] = {}
    for key, members in rows.items():
        said_here = np.isin(everyone, list(members))
        # Resamples draw people: with fewer on either side, an interval would rest on very few of them.
        if min(len(np.unique(people[said_here])), len(np.unique(people[~said_here]))) >= MIN_IDENTITIES:
            kept[key] = said_here
    order = list(dict.fromkeys(_kinds().values()))
    keys = sorted(kept, key=lambda key: (order.index(key[0]), key[1] != "any", -kept[key].sum(), key[1]))
    columns = [kept[key] for key in keys]
    return keys, np.stack(columns, axis=1) if columns else np.zeros((len(sentences), 0), dtype=np.bool_)


@cache
def _kinds() -> dict[str, str]:
    """Map every attribute word to its class."""
    things = reading("things")
    classes = {
        "gender": " ".join(reading("gender")),
        "colour": " ".join(word for word in reading("colours") if " " not in word),
        **{kind: things[kind] for kind in ("hair", "headwear", "upper body", "whole body", "lower body", "footwear")},
        "belongings": f"{things['bags']} {things['held']}",
        "accessories": things["accessories"],
        "looks": reading("looks")["words"],
    }
    return {_usual(word): kind for kind, words in classes.items() for word in words.split()}


def _usual(token: str) -> str:
    """Return the form that stands for a word in all its spellings."""
    word = same_words("gender").get(token) or same_words("same_thing").get(token)
    return word or same_words("same_colour").get(token, token).split()[-1]


def _by_name(values: npt.NDArray[np.float64]) -> dict[str, float]:
    return {name: float(value) for name, value in zip(_MEASURED, values, strict=True)}


def _ends_by_name(ends: npt.NDArray[np.float64]) -> dict[str, tuple[float, float]]:
    return {name: (float(low), float(high)) for name, (low, high) in zip(_MEASURED, ends, strict=True)}


def word_table(evaluation: Mapping[str, Any]) -> Table:
    """Lay out one row an attribute word and one for all of its class, from the values of `Evaluation.to_dict`."""
    words = evaluation["words"]
    kinds = list(dict.fromkeys(word["kind"] for word in words))
    return Table(
        title=f"{evaluation['model']} on {evaluation['benchmark']} / {evaluation['split']}: words, text to image, %",
        columns=(
            "word", "sentences", "people", "R1 with", "R1 others", "gap", "mAP with", "mAP others",
            "R1 lost without it", "mAP lost without it", "used",
        ),
        groups=[[_row(word) for word in words if word["kind"] == kind] for kind in kinds],
        notes=_NOTES if words else ("no attribute word is said of enough people",),
        texts=frozenset({0, 10}),
    )  # fmt: skip


def _row(word: Mapping[str, Any]) -> list[str]:
    loss, ends = word["loss"], word["loss_interval"]
    return [
        f"{word['kind']}: {word['word']}",
        f"{word['queries']:,}",
        f"{word['identities']:,}",
        *(f"{100 * word[side]['R1']:.1f}" for side in ("scores", "other_scores")),
        _range(word["difference"]["R1"]),
        *(f"{100 * word[side]['mAP']:.1f}" for side in ("scores", "other_scores")),
        *(f"{_points(loss[name])} {_range(ends[name])}" if loss else "" for name in ("R1", "mAP")),
        verdict(ends["mAP"]) if loss else "",
    ]


def _range(ends: Sequence[float]) -> str:
    return f"[{_points(ends[0])}, {_points(ends[1])}]"


def _points(value: float) -> str:
    return f"{100 * value:+z.1f}"
