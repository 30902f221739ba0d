from pathlib import Path

import numpy as np
import pytest

import textreid
from textreid.datasets.benchmarks import read_benchmark
from textreid.models.folder import BUNDLED
from textreid.models.query_encoder import QueryEncoder
from textreid.synthetic import write_corpus


def test_it_is_small_and_says_what_it_is() -> None:
    assert (BUNDLED / "model.safetensors").stat().st_size < 15e6
    card = (BUNDLED / "card.md").read_text(encoding="utf-8")
    assert "What it cannot do" in card
    assert textreid.load_model().selected_on == "nothing: the last step"


def test_it_finds_people_it_never_saw(tmp_path: Path) -> None:
    write_corpus(tmp_path / "unseen", "station", 40, 1, seed=77, first_identity=900_000)
    records = read_benchmark("generic", tmp_path / "unseen").records
    model = textreid.load_model()
    scores = (
        model.encode_texts([record.captions[0] for record in records])
        @ model.encode_images([tmp_path / "unseen" / "imgs" / record.image for record in records]).T
    )
    assert scores.shape == (40, 40)
    first = (scores.argmax(axis=1) == np.arange(40)).mean()
    assert first > 0.4  # chance is 0.025; 0.62 of 250 people with four pictures each when it was made


def test_the_query_encoder_agrees_with_it() -> None:
    sentences = ["a woman in a red jacket", "", "He wears a navy puffer jacket, faded jeans and white trainers."]
    expected = textreid.load_model().encode_texts(sentences)
    assert QueryEncoder.load(BUNDLED).encode_texts(sentences) == pytest.approx(expected, abs=1e-4)
