"""Figures of diversity equal slow, obvious counts, and tell monotonous corpora from diverse ones."""

import asyncio
import math
from collections import Counter
from collections.abc import Sequence
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, strategies as st

from textreid.captioning.backends.simulated import SimulatedMLLM
from textreid.captioning.instructions import dynamic_instructions, static_instruction
from textreid.captioning.requests import Caption, Request
from textreid.captions.diversity import (
    ATTRIBUTES,
    Diversity,
    compare_corpora,
    distinct_share,
    entropy,
    plot,
    render,
    self_bleu,
    to_report,
)
from textreid.errors import ArtifactError, CaptionError
from textreid.seeding import Chance
from textreid.synthetic import DOMAINS, sample_person
from textreid.synthetic.attributes import View

CAPTION = st.lists(st.sampled_from("abcd"), max_size=9)
IMAGES = 300


def slow_self_bleu(captions: Sequence[Sequence[str]]) -> float:
    """BLEU-4 of each caption with the others as references, written out."""
    scores = []
    for index, caption in enumerate(captions):
        others = [other for place, other in enumerate(captions) if place != index]
        precisions = []
        for n in range(1, 5):
            grams = Counter(tuple(caption[i : i + n]) for i in range(len(caption) - n + 1))
            matches = 0
            for gram, count in grams.items():
                best = max(sum(tuple(other[i : i + n]) == gram for i in range(len(other) - n + 1)) for other in others)
                matches += min(count, best)
            precisions.append((matches, max(1, len(caption) - n + 1)))
        if not caption or not precisions[0][0]:
            scores.append(0.0)
            continue
        reference = min((len(other) for other in others), key=lambda size: (abs(size - len(caption)), size))
        brevity = 1.0 if len(caption) > reference else math.exp(1 - reference / len(caption))
        scores.append(brevity * math.prod((matches or 0.1) / total for matches, total in precisions) ** 0.25)
    return sum(scores) / len(scores)


@given(st.lists(CAPTION, min_size=2, max_size=8))
def test_self_bleu_equals_the_obvious_loop(captions: list[list[str]]) -> None:
    assert self_bleu(captions) == pytest.approx(slow_self_bleu(captions))


def test_self_bleu_by_hand() -> None:
    same = [list("abcdef")] * 3
    assert self_bleu(same) == pytest.approx(1.0)
    assert self_bleu(["abcd", "efgh"]) == 0.0
    # Of abcd against abce: 3/4 words, 2/3 pairs, 1/2 triples, 0.1/1 fours; both ways alike.
    assert self_bleu(["abcd", "abce"]) == pytest.approx((3 / 4 * 2 / 3 * 1 / 2 * 0.1) ** 0.25)


def test_distinct_n_by_hand() -> None:
    captions = [["a", "b", "a", "b"], ["a", "b"], ["c"]]
    assert distinct_share(captions, 1) == 3 / 7
    assert distinct_share(captions, 2) == 2 / 4
    assert distinct_share(captions, 4) == 1.0
    assert distinct_share(captions, 5) == 0.0


def test_entropy_by_hand() -> None:
    assert entropy([5, 5, 5, 5]) == 2.0
    assert entropy([7]) == entropy([]) == 0.0
    assert entropy([2, 1, 1, 0]) == 1.5


@given(st.lists(st.integers(1, 50), min_size=1, max_size=20))
def test_entropy_lies_between_one_pattern_and_all_alike(counts: list[int]) -> None:
    assert -1e-9 <= entropy(counts) <= math.log2(len(counts)) + 1e-9


@pytest.fixture(scope="module")
def simulated() -> dict[str, list[str]]:
    """Captions of the same pictures under the static and the dynamic instruction, by two simulated MLLMs."""
    chance = Chance.of(0, "diversity test")
    truth = {}
    for index in range(IMAGES):
        view = View(
            chance.pick(["front", "back", "left", "right"]), chance.happens(0.8), chance.happens(0.8),
            chance.happens(0.95), chance.happens(0.9),
        )  # fmt: skip
        truth[f"{index}.jpg"] = (sample_person(DOMAINS["street"], np.random.default_rng(index)), view)
    captioners = [SimulatedMLLM(name, truth, 0.15) for name in ("qwen", "shikra")]
    templates = dynamic_instructions()

    async def answers() -> dict[str, list[str]]:
        texts: dict[str, list[str]] = {"static": [], "dynamic": []}
        for image in truth:
            for captioner in captioners:
                asked = (static_instruction(), chance.pick(templates))
                requests = [Request(instruction, chance.whole(0, 1 << 31)) for instruction in asked]
                for kind, caption in zip(texts, await captioner.caption(Path(image), requests), strict=True):
                    assert isinstance(caption, Caption)
                    texts[kind].append(caption.text)
        return texts

    texts = asyncio.run(answers())
    return {**texts, "both": [*texts["static"], *texts["dynamic"]]}


def by_name(measured: list[Diversity]) -> dict[str, Diversity]:
    return {corpus.name: corpus for corpus in measured}


def test_templates_make_simulated_captions_more_diverse(simulated: dict[str, list[str]]) -> None:
    measured = by_name(compare_corpora(simulated))
    static, dynamic, both = (measured[name] for name in ("static", "dynamic", "both"))
    assert static.captions == dynamic.captions == both.captions == 2 * IMAGES
    assert static.pattern_entropy + 1.5 < dynamic.pattern_entropy
    assert static.pattern_entropy + 1 < both.pattern_entropy
    assert static.self_bleu > both.self_bleu > dynamic.self_bleu
    assert static.openings_share > 0.95
    assert dynamic.openings_share < 0.45
    for n in ("2", "3", "4"):
        assert static.distinct[n] < dynamic.distinct[n]


def test_both_instructions_together_have_the_most_patterns(simulated: dict[str, list[str]]) -> None:
    """Each picture has twice the captions then; per caption they are as diverse as a mixture can be.

    A mixture of two halves has the mean of their entropies and up to one bit: less than the more diverse half alone,
    where that is ahead by more than two bits.
    """
    measured = by_name(compare_corpora(simulated, equal_sizes=False))
    static, dynamic, both = (measured[name] for name in ("static", "dynamic", "both"))
    assert both.captions == 2 * dynamic.captions
    assert static.patterns < dynamic.patterns < both.patterns
    mean = (static.pattern_entropy + dynamic.pattern_entropy) / 2
    assert mean + 0.8 < both.pattern_entropy <= mean + 1 + 1e-9


def test_equal_sizes_seeds_and_coverage(simulated: dict[str, list[str]]) -> None:
    few = {"static": simulated["static"][:50], "dynamic": simulated["dynamic"]}
    first, again = compare_corpora(few, seed=1), compare_corpora(few, seed=1)
    assert first == again != compare_corpora(few, seed=2)
    assert [(corpus.available, corpus.captions) for corpus in first] == [(50, 50), (2 * IMAGES, 50)]
    for corpus in first:
        assert tuple(corpus.coverage) == ATTRIBUTES
        assert corpus.coverage["gender"] == 1.0
        assert 0 < corpus.coverage["accessory"] < corpus.coverage["clothing"] == 1.0
        assert sum(corpus.lengths) == 50
        assert corpus.words["p5"] <= corpus.words["p50"] <= corpus.words["p95"]


def test_what_cannot_be_measured() -> None:
    with pytest.raises(CaptionError, match="no captions to measure"):
        compare_corpora({})
    with pytest.raises(CaptionError, match="mine: 1 captions; diversity needs two"):
        compare_corpora({"mine": ["A man."]})
    with pytest.raises(CaptionError, match="two captions or more"):
        compare_corpora({"mine": ["A man."] * 3}, sample=1)


def test_odd_captions_are_measured_all_the_same() -> None:
    (corpus,) = compare_corpora({"odd": ["", "...", "Ein Mann in Schwarz", "人物", "a " * 300]})
    assert corpus.lengths[0] == 2
    assert corpus.lengths[-1] == 1
    assert len(corpus.lengths) == 101


def test_the_report_stands_side_by_side(simulated: dict[str, list[str]]) -> None:
    from rich.console import Console

    report = to_report(compare_corpora(simulated), seed=0)
    console = Console(width=120, record=True, file=StringIO())
    console.print(render(report))
    text = console.export_text()
    assert all(name in text for name in ("static", "dynamic", "both", "self-BLEU", "mentions hair"))
    assert plot(report).startswith(b"\x89PNG")
    for foreign in ({}, {**report, "format_version": 0}, {**report, "corpora": []}):
        with pytest.raises(ArtifactError, match="not a report"):
            render(foreign)
