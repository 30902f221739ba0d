"""Words from ids alone are the words that the tokenizer finds in the text."""

import pytest
import torch
from tests.training.scorers.conftest import CAPTIONS, Scene, batch_of

from textreid.models import Tokenizer
from textreid.training.scorers.words import KEYS, WordPieces

TEXTS = (
    "A woman in a dark-blue t-shirt holds a greyish backpack, and socks.",
    "She's in ultramarine trousers; a top over the top!",
    "a man (old) with a man-bag",
)
FUNCTION = frozenset(["a", "in", "and", "with", "the", "over"])


@pytest.mark.parametrize("tokenizer", [Tokenizer.clip(), Tokenizer.learn((*CAPTIONS, *TEXTS) * 2, 500)])
def test_words_of_ids_are_the_words_of_the_text(tokenizer: Tokenizer) -> None:
    pieces = WordPieces.of(tokenizer)
    batch = batch_of(tokenizer, TEXTS, (0, 1, 2), torch.zeros(3, 3, 8, 8))
    words = pieces.words(batch.ids, batch.is_word)
    keys: dict[str, int] = {}
    checked = 0
    for row, text in enumerate(TEXTS):
        for word in tokenizer.words(text):
            written, places = text[word.start : word.stop].lower(), list(word.positions)
            assert set(words.first[row, places].tolist()) == {places[0]}, written
            content = written not in FUNCTION and written.strip(",.;!()") != ""
            assert set(words.is_content[row, places].tolist()) == {content}, written
            assert words.begins[row, places].tolist() == [content, *[False] * (len(places) - 1)]
            key = int(words.keys[0, row, places[0]])
            assert set(words.keys[0, row, places].tolist()) == {key}
            assert keys.setdefault(written, key) == key
            assert 0 <= key < KEYS
            checked += 1
    assert checked > 30
    assert len(set(keys.values())) == len(keys)
    assert not words.is_content[~batch.is_word].any()


def test_a_pair_is_a_content_word_with_the_next(scene: Scene) -> None:
    words = scene.words
    found: dict[tuple[str, str | None], set[int]] = {}
    for row in range(len(CAPTIONS)):
        content = [(text, places[0]) for text, places in scene.text_words(row) if words.is_content[row, places[0]]]
        for (text, place), following in zip(content, [*(text for text, _ in content[1:]), None], strict=True):
            found.setdefault((text, following), set()).add(int(words.keys[1, row, place]))
    assert ("red", "jacket") in found
    assert ("blue", "jeans") in found
    assert all(len(keys) == 1 for keys in found.values())
    assert len({key for keys in found.values() for key in keys}) == len(found)
