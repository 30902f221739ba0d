"""Whether anybody in a gallery fits: checked on galleries whose scores are drawn, with and without the person."""

import json
import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, strategies as st

from textreid.errors import ArtifactError, ConfigError
from textreid.gallery.query.nobody import Calibration, calibrate, match_strengths

Floats = npt.NDArray[np.float64]


def drawn_scores(rng: np.random.Generator, queries: int, pictures: int) -> Floats:
    return rng.normal(0.2, 0.05, (queries, pictures))


def calibrated(rng: np.random.Generator, pictures: int, strength: float) -> Calibration:
    scores = drawn_scores(rng, 300, pictures)
    return calibrate(scores.max(1), scores.mean(1), scores.std(1), list(rng.normal(strength, 0.5, 40)))


def auc(present: list[float], absent: list[float]) -> float:
    pairs = np.subtract.outer(np.array(present), np.array(absent))
    return float(np.mean(pairs > 0) + np.mean(pairs == 0) / 2)


@pytest.mark.parametrize(("pictures", "strength", "least", "most"), [(30, 5.0, 0.97, 1.0), (3000, 1.0, 0.49, 0.55)])
def test_probabilities_are_those_that_come_true(pictures: int, strength: float, least: float, most: float) -> None:
    rng = np.random.default_rng(0)
    calibration = calibrated(rng, pictures, strength)
    absent = drawn_scores(rng, 600, pictures).max(axis=1)
    match = 0.2 + 0.05 * rng.normal(strength, 0.5, 600)
    present = np.maximum(drawn_scores(rng, 600, pictures).max(axis=1), match)
    said = [[calibration.judge(float(score)).probability for score in scores] for scores in (present, absent)]
    assert least <= auc(said[0], said[1]) <= most
    flat, true = np.array(said).ravel(), np.repeat([1.0, 0.0], 600)
    error = sum(
        np.mean(inside) * abs(flat[inside].mean() - true[inside].mean())
        for begin in np.arange(0, 1, 0.1)
        if (inside := (flat >= begin) & (flat < begin + 0.1)).any()
    )
    assert error < 0.06
    # The p-value of absent people is uniform.
    chances = [calibration.judge(float(score)).chance for score in absent]
    assert np.mean(np.array(chances) <= 0.1) == pytest.approx(0.1, abs=0.05)


def test_a_large_gallery_answers_less() -> None:
    rng = np.random.default_rng(1)
    spread = {}
    for pictures in (10, 100, 1000):
        calibration = calibrated(rng, pictures, 2.0)
        said = [calibration.judge(score).probability for score in (0.1, 0.6)]
        spread[pictures] = said[1] - said[0]
    assert spread[10] > spread[100] > spread[1000] > 0


def test_answers_are_explicit() -> None:
    calibration = calibrated(np.random.default_rng(2), 20, 6.0)
    somebody, nobody = calibration.judge(0.55), calibration.judge(0.2)
    assert (somebody.answer, nobody.answer) == ("somebody", "nobody")
    assert str(somebody).startswith("somebody here probably matches: probability 1.00; less than 1%")
    assert somebody.probability == pytest.approx(301 / 302)
    assert str(nobody).startswith("probably nobody here matches: probability 0.")
    assert calibration.judge(0.2, prior=0.999999).answer != "nobody"
    sure = [score for score in np.linspace(0.2, 0.55, 200) if calibration.judge(float(score)).answer == "unclear"]
    assert sure
    assert "cannot be told" in str(calibration.judge(float(sure[0])))


@given(st.floats(-1, 1), st.floats(-1, 1), st.floats(0.01, 0.99))
def test_higher_scores_are_never_less_likely(first: float, second: float, prior: float) -> None:
    calibration = calibrated(np.random.default_rng(3), 50, 2.0)
    low, high = (calibration.judge(score, prior) for score in sorted((first, second)))
    assert low.probability <= high.probability
    assert low.chance >= high.chance
    assert 0 < high.chance <= 1
    even = calibration.judge(first).probability
    odds = even / (1 - even) * prior / (1 - prior)
    assert calibration.judge(first, prior).probability == pytest.approx(odds / (1 + odds))


def test_scores_beyond_what_was_seen_say_no_more_than_the_nearest() -> None:
    calibration = calibrated(np.random.default_rng(4), 50, 2.0)
    assert calibration.judge(1e9).probability == calibration.judge(calibration.highest).probability


def test_strengths_are_those_of_the_best_match() -> None:
    scores = np.array([[1.0, 2.0, 3.0, 6.0], [0.0, 0.0, 1.0, 1.0], [1.0, 2.0, 3.0, 4.0]])
    rows = [np.array([1, 2]), np.array([], np.int64), np.array([3])]
    found = match_strengths(scores, rows)
    assert found == pytest.approx([0.0, 1.5 / math.sqrt(1.25)])


def test_a_calibration_survives_json_and_refuses_damage() -> None:
    calibration = calibrated(np.random.default_rng(5), 50, 2.0)
    again = Calibration.from_json(json.loads(json.dumps(calibration.to_json())), "gallery demo")
    assert again.judge(0.33).probability == pytest.approx(calibration.judge(0.33).probability, abs=1e-9)
    damaged: object
    for damaged in ({}, [], None, {**calibration.to_json(), "reference": ["x"]}):
        with pytest.raises(ArtifactError, match="gallery demo: the calibration is damaged"):
            Calibration.from_json(damaged, "gallery demo")


@pytest.mark.parametrize("prior", [0.0, 1.0, -1.0, 2.0, math.nan])
def test_a_prior_is_a_probability(prior: float) -> None:
    calibration = calibrated(np.random.default_rng(6), 5, 2.0)
    with pytest.raises(ConfigError, match="prior: expected a probability"):
        calibration.judge(0.3, prior)


def test_scores_must_be_numbers_and_some() -> None:
    some, none = np.ones(3), np.ones(0)
    for best, mean, strengths in ((none, none, [1.0]), (some, some, []), (some * np.nan, some, [1.0])):
        with pytest.raises(ConfigError, match="a calibration needs"):
            calibrate(best, mean, mean, strengths)


def test_equal_scores_tell_nothing() -> None:
    same = np.full(4, 0.5)
    assert calibrate(same, same, same * 0).judge(0.5).probability == pytest.approx(0.5)
