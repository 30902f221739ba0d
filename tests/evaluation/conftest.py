"""A split that is encoded by hand: features are counts of words, so that every rank can be reasoned about."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from textreid.datasets.records import Record
from textreid.evaluation.encoding import EncodedSplit

VOCABULARY = ("man", "woman", "red", "blue", "jacket", "hat", "bag")


class WordCounter:
    """Images are described by the words of their file names; a sentence counts those words, ``blind`` ones excepted."""

    fingerprint = "word counter"
    selected_on = None
    training_text = None

    def __init__(self, *blind: str) -> None:
        self._seen = [word for word in VOCABULARY if word not in blind]

    def encode_images(self, images: Sequence[Path], /) -> npt.NDArray[np.float32]:
        return self.encode_texts([image.stem.replace("_", " ") for image in images])

    def encode_texts(self, texts: Sequence[str], /) -> npt.NDArray[np.float32]:
        counts = [[text.lower().split().count(word) for word in self._seen] for text in texts]
        return np.array(counts, dtype=np.float32)


@pytest.fixture
def encode(tmp_path: Path) -> Callable[..., EncodedSplit]:
    """Encode people given as (words of the picture, sentence); identities count from 0."""

    def make(model: WordCounter, people: Sequence[tuple[str, str]]) -> EncodedSplit:
        records = tuple(
            Record(f"{words.replace(' ', '_')}_{i}.png", i, (sentence,), "test")
            for i, (words, sentence) in enumerate(people)
        )
        captions = tuple(record.captions[0] for record in records)
        return EncodedSplit(
            name="drawn", form="generic", root=tmp_path, records=records,
            image_features=model.encode_images([Path(record.image) for record in records]), captions=captions,
            text_features=model.encode_texts(captions), image_index=np.arange(len(records)), left_out=(),
        )  # fmt: skip

    return make
