from pathlib import Path

import numpy as np
import pytest

import textreid
from textreid.datasets.benchmarks import read_benchmark
from textreid.models.folder import BUNDLED, DEFAULT
from textreid.models.query_encoder import QueryEncoder
from textreid.synthetic import write_corpus


def test_they_are_small_and_say_what_they_are() -> None:
    assert sum((folder / "model.safetensors").stat().st_size for folder in BUNDLED.values()) < 20e6
    for name, folder in BUNDLED.items():
        card = (folder / "card.md").read_text(encoding="utf-8")
        assert "What it cannot do" in card
        assert str(textreid.load_model(name).selected_on).startswith("nothing: the last step")
    assert textreid.load_model().fingerprint == textreid.load_model(DEFAULT).fingerprint


@pytest.mark.parametrize("name", [*BUNDLED, DEFAULT])
def test_it_finds_people_it_never_saw(name: str, tmp_path: Path) -> None:
    write_corpus(tmp_path / "unseen", "station", 40, 1, seed=77, first_identity=900_000)
    records = read_benchmark("generic", tmp_path / "unseen").records
    model = textreid.load_model(name)
    scores = (
        model.encode_texts([record.captions[0] for record in records])
        @ model.encode_images([tmp_path / "unseen" / "imgs" / record.image for record in records]).T
    )
    assert scores.shape == (40, 40)
    first = (scores.argmax(axis=1) == np.arange(40)).mean()
    assert first > 0.4  # chance is 0.025; 0.62 of 250 people with four pictures each when it was made


@pytest.mark.parametrize("name", BUNDLED)
def test_the_query_encoder_agrees_with_it(name: str) -> None:
    sentences = ["a woman in a red jacket", "", "He wears a navy puffer jacket, faded jeans and white trainers."]
    expected = textreid.load_model(name).encode_texts(sentences)
    assert QueryEncoder.load(BUNDLED[name]).encode_texts(sentences) == pytest.approx(expected, abs=1e-4)
