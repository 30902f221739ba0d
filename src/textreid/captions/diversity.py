"""How diverse captions are: figures that put several corpora side by side."""

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from textreid.captions.text import SLOTS, sentence_pattern, tokens_of
from textreid.errors import CaptionError
from textreid.seeding import generator

SAMPLE = 20_000
BLEU_SAMPLE = 1_000
ATTRIBUTES = (*SLOTS, "colour")
_ORDERS = (1, 2, 3, 4)
_OPENING_WORDS = 3
_OPENINGS = 10
_PATTERNS_KEPT = 200  # the commonest ones, for the plot and for reading
_LONGEST_BIN = 100  # words; longer captions are counted here

Tokens = Sequence[str]


@dataclass(frozen=True)
class Diversity:
    """The figures of one corpus.

    Distinct-n, self-BLEU, the number of patterns and their entropy all depend on how many captions they are taken
    from, so only figures of equally many captions compare; `compare_corpora` sees to that.

    Attributes:
        name: of the corpus.
        available: captions in the corpus.
        captions: captions that were drawn from it and measured.
        different: different texts among them; annotators may have given several pictures of a person the same one.
        distinct: for n from 1 to 4, distinct n-grams of words / all n-grams (Li et al. 2016).
        self_bleu: mean BLEU-4 of a caption against all others of a sample (Zhu et al. 2018); high is monotonous.
        self_bleu_captions: size of that sample.
        patterns: number of distinct sentence patterns.
        pattern_entropy: of the patterns, in bits; 2 to its power is the number of equally common patterns that
            would be as diverse.
        common_patterns: the commonest patterns and their shares.
        openings_share: share of the captions that begin with one of the ten commonest openings, which are the first
            three words of a pattern.
        openings: those openings and their shares.
        coverage: share of the captions that mention each of `ATTRIBUTES`.
        words: mean, standard deviation, and the 5th, 50th and 95th percentile of the number of words.
        lengths: number of captions with 0, 1, ... words; the last entry counts the longer ones too.
    """

    name: str
    available: int
    captions: int
    different: int
    distinct: Mapping[str, float]
    self_bleu: float
    self_bleu_captions: int
    patterns: int
    pattern_entropy: float
    common_patterns: Sequence[tuple[str, float]]
    openings_share: float
    openings: Sequence[tuple[str, float]]
    coverage: Mapping[str, float]
    words: Mapping[str, float]
    lengths: Sequence[int]

    def to_dict(self) -> dict[str, Any]:
        """The figures as JSON values."""
        return asdict(self)


def compare_corpora(
    corpora: Mapping[str, Sequence[str]],
    sample: int = SAMPLE,
    bleu_sample: int = BLEU_SAMPLE,
    seed: int = 0,
    equal_sizes: bool = True,
) -> list[Diversity]:
    """Measure corpora on equally many captions each: ``sample``, or as many as the smallest corpus has.

    Args:
        corpora: captions by the corpus' name.
        sample: largest number of captions to draw from a corpus, without replacement.
        bleu_sample: largest number of them that self-BLEU is taken on.
        seed: equal seeds draw equal captions.
        equal_sizes: whether the smallest corpus limits the others; without, each figure describes its own corpus, but
            only entropy, coverage, lengths and openings of large corpora still compare.

    Raises:
        CaptionError: no corpus, a corpus without captions, or a sample of fewer than two.
    """
    if not corpora:
        raise CaptionError("no captions to measure")
    if min(sample, bleu_sample) < 2:
        raise CaptionError("diversity is measured on two captions or more")
    for name, captions in corpora.items():
        if len(captions) < 2:
            raise CaptionError(f"{name}: {len(captions)} captions; diversity needs two or more")
    smallest = min(len(captions) for captions in corpora.values())
    size = min(sample, smallest) if equal_sizes else sample
    measured = []
    for name, captions in corpora.items():
        chosen = generator(seed, "diversity").permutation(len(captions))[:size]
        drawn = [captions[index] for index in chosen.tolist()]
        measured.append(_measure(name, len(captions), drawn, bleu_sample))
    return measured


def _measure(name: str, available: int, captions: Sequence[str], bleu_sample: int) -> Diversity:
    words = [[token for token in tokens_of(caption) if token[0].isalnum()] for caption in captions]
    patterns: Counter[str] = Counter()
    mentions: Counter[str] = Counter()
    for caption in captions:
        pattern = sentence_pattern(caption)
        patterns[pattern.text] += 1
        mentions.update(pattern.mentions)
    openings: Counter[str] = Counter()
    for text, count in patterns.items():
        openings[" ".join(text.split()[:_OPENING_WORDS])] += count
    total = len(captions)
    commonest = _shares(openings, _OPENINGS, total)
    lengths = np.array([len(caption) for caption in words])
    low, median, high = np.percentile(lengths, (5, 50, 95)).tolist()
    return Diversity(
        name=name,
        available=available,
        captions=total,
        different=len(set(captions)),
        distinct={str(n): distinct_share(words, n) for n in _ORDERS},
        self_bleu=self_bleu(words[:bleu_sample]),
        self_bleu_captions=len(words[:bleu_sample]),
        patterns=len(patterns),
        pattern_entropy=entropy(patterns.values()),
        common_patterns=_shares(patterns, _PATTERNS_KEPT, total),
        openings_share=sum(share for _, share in commonest),
        openings=commonest,
        coverage={attribute: mentions[attribute] / total for attribute in ATTRIBUTES},
        words={"mean": float(lengths.mean()), "sd": float(lengths.std()), "p5": low, "p50": median, "p95": high},
        lengths=np.bincount(np.minimum(lengths, _LONGEST_BIN)).tolist(),
    )


def _shares(counts: Counter[str], most: int, total: int) -> list[tuple[str, float]]:
    """The commonest keys and their shares; keys that are equally common in alphabetical order."""
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [(text, count / total) for text, count in ranked[:most]]


def entropy(counts: Iterable[int]) -> float:
    """Shannon entropy in bits of a distribution given by counts, without bias correction."""
    present = [count for count in counts if count]
    total = sum(present)
    return -sum(count / total * math.log2(count / total) for count in present) + 0.0


def distinct_share(captions: Iterable[Tokens], n: int) -> float:
    """Distinct n-grams over all n-grams of the captions; 0 where none is long enough (Li et al. 2016)."""
    seen: set[tuple[str, ...]] = set()
    total = 0
    for caption in captions:
        grams = _grams(caption, n)
        seen.update(grams)
        total += len(grams)
    return len(seen) / total if total else 0.0


def self_bleu(captions: Sequence[Tokens]) -> float:
    """Mean BLEU-4 of each caption against all the others (Zhu et al. 2018).

    BLEU of Papineni et al. 2002 with the closest reference length (the shorter of two) and a count of 0.1 in place of
    no matches (Chen & Cherry 2014, method 1). Takes time linear in the number of words: clipping needs, of each
    n-gram, only its highest count in a caption and the highest in any other one.
    """
    peaks = [_peaks(captions, n) for n in _ORDERS]
    lengths = sorted(len(caption) for caption in captions)
    return sum(_bleu(index, caption, peaks, lengths) for index, caption in enumerate(captions)) / len(captions)


def _bleu(
    index: int, caption: Tokens, peaks: Sequence[Mapping[Any, tuple[int, int, int]]], lengths: list[int]
) -> float:
    if not caption:
        return 0.0
    logarithms = 0.0
    for n, peak in zip(_ORDERS, peaks, strict=True):
        matches = 0
        for gram, count in Counter(_grams(caption, n)).items():
            first, holder, second = peak[gram]
            matches += min(count, second if holder == index else first)
        if n == 1 and not matches:
            return 0.0
        logarithms += math.log((matches or 0.1) / max(1, len(caption) - n + 1))
    reference = _closest_other(len(caption), lengths)
    brevity = min(0.0, 1 - reference / len(caption))
    return math.exp(brevity + logarithms / len(_ORDERS))


def _peaks(captions: Sequence[Tokens], n: int) -> dict[tuple[str, ...], tuple[int, int, int]]:
    """For each n-gram its highest count in a caption, that caption's index, and its highest count in another."""
    peaks: dict[tuple[str, ...], tuple[int, int, int]] = {}
    for index, caption in enumerate(captions):
        for gram, count in Counter(_grams(caption, n)).items():
            first, holder, second = peaks.get(gram, (0, -1, 0))
            if count > first:
                peaks[gram] = (count, index, first)
            elif count > second:
                peaks[gram] = (first, holder, count)
    return peaks


def _closest_other(length: int, lengths: Sequence[int]) -> int:
    """Of the sorted ``lengths``, with one that equals ``length`` taken out, the closest; the smaller of two."""
    place = bisect_left(lengths, length)
    others = [*lengths[max(0, place - 1) : place], *lengths[place + 1 : place + 2]]
    return min(others, key=lambda other: (abs(other - length), other))


def _grams(caption: Tokens, n: int) -> list[tuple[str, ...]]:
    return list(zip(*(caption[start:] for start in range(n)), strict=False))
