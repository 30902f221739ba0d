"""Oracle masking: exactly the words that a captioner knows to be wrong."""

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from textreid.errors import ConfigError
from textreid.models import Tokenizer
from textreid.runlog import read_records
from textreid.training import captioned_images, train
from textreid.training.known_errors import KnownErrors, wrong_tokens

if TYPE_CHECKING:
    from tests.training.conftest import ConfigMaker, Corpus


@pytest.fixture
def erring(corpus: "Corpus", tmp_path: Path) -> Path:
    """The caption table, with a first word that is known to be wrong in every caption of the first slot."""
    table = tmp_path / "captions"
    shutil.copytree(corpus.captions, table)
    data = captioned_images(corpus.images, table)
    lines = [
        {"image": data.images[image], "slot": "m/0", "spans": [[0, str(data.captions[caption]).index(" ")]]}
        for caption, image in enumerate(data.image_index)
        if caption % 2 == 0
    ]
    (table / "errors.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return table


def test_a_token_is_wrong_where_it_overlaps_with_an_error() -> None:
    tokenizer = Tokenizer.learn(["a red coat and a blue bag"] * 20, 300, text_length=8)
    text = "a red coat and a blue bag"
    start = text.index("red")
    wrong = wrong_tokens(tokenizer, text, ((start, start + 3),))
    pieces = tokenizer.pieces(text)
    assert [text[low:high] for (_, low, high), is_wrong in zip(pieces, wrong[1:], strict=False) if is_wrong] == ["red"]
    assert not wrong[0]  # the start
    # What a text has beyond the places of a caption is cut, and the last place is the end's.
    assert not wrong_tokens(tokenizer, text, ((len(text) - 3, len(text)),)).any()


def test_the_wrong_words_and_no_others_are_masked(
    corpus: "Corpus", erring: Path, small_config: "ConfigMaker", tmp_path: Path
) -> None:
    data = captioned_images(corpus.images, erring)
    assert len(data.errors) == len(data) / 2
    tokenizer = Tokenizer.learn(map(str, data.captions), 300, text_length=24)
    known = KnownErrors.of(data, tokenizer)
    assert known.is_wrong.any(axis=1).tolist() == [caption in data.errors for caption in range(len(data))]
    config = small_config("masking.method=oracle", "training.epochs=1")
    train(config, data, tmp_path / "run")
    records = [one for one in read_records(tmp_path / "run" / "metrics.jsonl") if one["event"] == "train"]
    words = sum(len(tokenizer.pieces(str(caption))) for caption in data.captions)
    # One of the two captions of an image is drawn at each step, so that the share differs from step to step.
    assert np.mean([one["mask_rate"] for one in records]) == pytest.approx(known.is_wrong.sum() / words, rel=0.3)


def test_with_weights_no_word_is_masked_and_wrong_captions_count_less(
    corpus: "Corpus", erring: Path, small_config: "ConfigMaker", tmp_path: Path
) -> None:
    data = captioned_images(corpus.images, erring)
    config = small_config("masking.method=oracle", "masking.weigh=true", "training.epochs=1")
    train(config, data, tmp_path / "run")
    records = [one for one in read_records(tmp_path / "run" / "metrics.jsonl") if one["event"] == "train"]
    assert [one["mask_rate"] for one in records] == [0] * len(records)
    tokenizer = Tokenizer.learn(map(str, data.captions), 300, text_length=24)
    words = [len(tokenizer.pieces(str(caption))) for caption in data.captions]
    expected = 1 - (KnownErrors.of(data, tokenizer).is_wrong.sum(axis=1) / words).mean()
    assert 0.8 < expected < 1
    assert np.mean([one["weight"] for one in records]) == pytest.approx(expected, abs=0.05)


def test_it_needs_captions_whose_errors_are_known(
    corpus: "Corpus", small_config: "ConfigMaker", tmp_path: Path
) -> None:
    data = captioned_images(corpus.images, corpus.captions)
    assert data.errors == {}
    with pytest.raises(ConfigError, match=r"masking.method: oracle masks the errors .* only simulated MLLMs tell them"):
        train(small_config("masking.method=oracle"), data, tmp_path / "run")
    with pytest.raises(ConfigError, match=r"losses.mlm: .* masking.method is oracle"):
        small_config("masking.method=oracle", "losses.mlm=1")
