"""Phrases of captions, and that those with wrong words are more suspicious."""

from pathlib import Path

import numpy as np
import pytest
from tests.training.conftest import Corpus

from textreid.captioning import caption
from textreid.captions.sidecars import error_spans
from textreid.captions.table import read_captions
from textreid.errors import ConfigError, DataError
from textreid.inspection.ranking import auroc
from textreid.inspection.suspicion import phrases_of, score_phrases, scorer_settings, suspicious
from textreid.models import Model, load_model
from textreid.synthetic import write_corpus
from textreid.training import captioned_images


@pytest.mark.parametrize(
    ("text", "phrases"),
    [
        ("A woman in a red coat and blue jeans.", ["A woman", "a red coat", "blue jeans"]),
        ("The person wearing black shoes", ["black shoes"]),
        ("She wears a black and white striped shirt", ["a black and white striped shirt"]),
        ("a baseball cap, a pair of dark grey trousers", ["a baseball cap", "a pair of dark grey trousers"]),
        ("a man with short black hair carrying his brown bag", ["a man", "short black hair", "brown bag"]),
        ("Footwear: white trainers. Top: a green top", ["white trainers", "a green top"]),
        ("a coat on top of a shirt", ["a coat", "a shirt"]),
        ("The street is empty and grey.", []),
        ("", []),
    ],
)  # fmt: skip
def test_phrases_are_things_with_what_is_said_of_them(text: str, phrases: list[str]) -> None:
    assert [text[low:high] for low, high in phrases_of(text)] == phrases


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model("tiny")


def test_wrong_phrases_are_more_suspicious(model: Model, tmp_path: Path) -> None:
    write_corpus(tmp_path / "people", "station", 30, 2, seed=3)
    writers = ["qwen=simulated:0.3", "shikra=simulated:0.3"]
    caption(tmp_path / "people", tmp_path / "captions", writers, show=False)
    broken = sorted((tmp_path / "people" / "imgs").iterdir())[0]
    broken.write_bytes(broken.read_bytes()[:200])
    data, said = captioned_images(tmp_path / "people", tmp_path / "captions"), list[str]()
    scored = score_phrases(model, data, scorer_settings(model, "votes+discriminant+content"), said.append)
    assert [line.partition(": ")[0] for line in said] == ["not checked"]
    assert broken.name in said[0]
    assert len(scored) == len(data) - 4
    table, spans = read_captions(tmp_path / "captions"), error_spans(tmp_path / "captions")
    values, wrong = [], []
    for index, phrases in scored.items():
        key = table.images[table.image_index[index]], table.slots[table.slot_index[index]]
        for (low, high), probability in phrases.items():
            values.append(probability)
            wrong.append(any(low < end and start < high for start, end in spans.get(key, [])))
    assert 100 < sum(wrong) < len(wrong) / 2
    assert min(values) >= 0
    assert max(values) <= 1
    assert auroc(np.array(values), np.array(wrong)) > 0.7
    few, many = suspicious(scored, 0.8), suspicious(scored, 0.2)
    assert 0 < sum(map(len, few.values())) < sum(map(len, many.values()))
    assert all(set(phrases) <= set(many[index]) for index, phrases in few.items())


def test_what_cannot_be_scored_is_told(model: Model, corpus: Corpus, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"masking\.shift: false needs a scorer that says how probably"):
        scorer_settings(model, "patches")
    with pytest.raises(ConfigError, match="no such part 'vote'; did you mean votes"):
        scorer_settings(model, "vote")
    data = captioned_images(corpus.images, corpus.captions)
    moved = type(data)(**{**vars(data), "root": tmp_path})
    with pytest.raises(DataError, match="none of the images of these captions can be read"):
        score_phrases(model, moved, scorer_settings(model, "discriminant"))
