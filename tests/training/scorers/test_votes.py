import math
from collections import Counter

import pytest
import torch
from tests.training.scorers.conftest import CAPTIONS, OF_IMAGE, Scene

from textreid.training.scorers.centred import DECAY
from textreid.training.scorers.votes import Votes


def said_by(scene: Scene, row: int, kind: int) -> list[tuple[str, tuple[int, ...]]]:
    """The content words of a caption, or its pairs, with the positions of the word."""
    content = [word for word in scene.text_words(row) if scene.words.is_content[row, word[1][0]]]
    following = [text for text, _ in content[1:]] + [""]
    return [
        (f"{text} {after}" if kind else text, places) for (text, places), after in zip(content, following, strict=True)
    ]


def test_evidence_equals_a_slow_loop(scene: Scene) -> None:
    votes, batch = Votes(), scene.batch
    noise = torch.randn(batch.ids.shape)
    found = [votes.refine(noise, batch, scene.words, scene.outputs.image_features) - noise for _ in range(3)]
    rows = range(len(CAPTIONS))
    checked = 0
    for now in range(3):
        weight = sum(DECAY**age for age in range(now))  # of every step before, which were all alike
        expected: dict[tuple[int, int], float] = dict.fromkeys(
            ((r, p[0]) for r in rows for _, p in said_by(scene, r, 0)), 0.0
        )
        for kind in (0, 1):
            words = {row: {word for word, _ in said_by(scene, row, kind)} for row in rows}
            siblings = {row: [o for o in rows if o != row and OF_IMAGE[o] == OF_IMAGE[row]] for row in rows}
            said, others, agreed = (Counter[str]() for _ in range(3))
            for row in rows:
                for word in words[row]:
                    said[word] += 1
                    others[word] += len(siblings[row])
                    agreed[word] += sum(word in words[other] for other in siblings[row])
            for row in rows:
                for word, places in said_by(scene, row, kind):
                    f = min(max(weight * said[word] / max(1, weight * len(CAPTIONS)), 1e-3), 1 - 1e-3)
                    g = (weight * agreed[word] + 5 * f) / (weight * others[word] + 5)
                    g = min(max(g, 1e-3), 1 - 1e-3)
                    yes = sum(word in words[other] for other in siblings[row])
                    no = len(siblings[row]) - yes
                    expected[row, places[0]] += yes * math.log(f / g) + no * math.log((1 - f) / (1 - g))
        for row in rows:
            for _, places in said_by(scene, row, 0):
                for place in places:
                    assert float(found[now][row, place]) == pytest.approx(expected[row, places[0]], abs=1e-4)
                    checked += 1
    assert checked > 90
    assert not found[2][4].any()  # the only caption of its image
    assert not found[2][~scene.words.is_content].any()
    jacket, skirt = (dict(said_by(scene, 0, 0))[word][0] for word in ("jacket", "knee-length"))
    assert float(found[2][0, jacket]) < 0  # the other caption says it too
    assert float(found[2][0, skirt]) == pytest.approx(0, abs=0.5)  # nobody ever agrees on it
