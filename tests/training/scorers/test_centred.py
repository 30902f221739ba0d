"""Centring, and what makes probabilities of evidence."""

import math

import pytest
import torch
from tests.training.scorers.conftest import CAPTIONS, Scene

from textreid.training.scorers.centred import DECAY, Centred
from textreid.training.scorers.posterior import ContentOnly, Posterior


def test_the_mean_of_a_word_equals_a_slow_loop(scene: Scene) -> None:
    centred, words, batch = Centred(), scene.words, scene.batch
    images = scene.outputs.image_features
    steps = [torch.randn(batch.ids.shape).gather(1, words.first) * batch.is_word for _ in range(3)]
    found = [centred.refine(noise, batch, words, images) for noise in steps]
    seen: list[tuple[int, str, float]] = []  # step, word, noise
    checked = 0
    for now, noise in enumerate(steps):
        total = [
            sum(DECAY ** (now - 1 - step) * x for step, _, x in seen),
            sum(DECAY ** (now - 1 - s) for s, _, _ in seen),
        ]
        overall = total[0] / max(1.0, total[1])
        heard = []
        for row in range(len(CAPTIONS)):
            for text, places in scene.text_words(row):
                value = float(noise[row, places[0]])
                if not words.is_content[row, places[0]]:
                    assert float(found[now][row, places[0]]) == value
                    continue
                same = [(DECAY ** (now - 1 - step), x) for step, word, x in seen if word == text]
                mean = (sum(w * x for w, x in same) + 10 * overall) / (sum(w for w, _ in same) + 10)
                for place in places:
                    assert float(found[now][row, place]) == pytest.approx(value - mean, abs=1e-5)
                heard.append((now, text, value))
                checked += 1
        seen += heard
    assert checked > 60


def test_evidence_becomes_the_probability_of_an_error(scene: Scene) -> None:
    posterior, batch, words = Posterior(0.15), scene.batch, scene.words
    images = scene.outputs.image_features
    assert posterior.refine(torch.zeros(batch.ids.shape), batch, words, images)[0, 1] == pytest.approx(0.15)
    # Ten times as probable if wrong: by Bayes' rule, 0.15 · 10 / (0.15 · 10 + 0.85).
    found = posterior.refine(torch.full(batch.ids.shape, math.log(10)), batch, words, images)
    assert found[batch.is_word].tolist() == pytest.approx([1.5 / 2.35] * int(batch.is_word.sum()))
    assert not found[~batch.is_word].any()
    content = ContentOnly().refine(found, batch, words, images)
    assert torch.equal(content > 0, words.is_content)
    for extreme in (0.0, 1.0):
        assert Posterior(extreme).refine(found, batch, words, images).isfinite().all()
