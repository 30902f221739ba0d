import gzip
import hashlib
import html
import itertools
import json
import os
import subprocess
import sys
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from textreid.errors import CaptionError, ModelError
from textreid.models import Tokenizer
from textreid.models.tokenizer import _clean, _clean_with_spans

NASTY = [
    "a photo of a cat",
    "A Woman, in a RED jacket; blue-jeans & white sneakers!",
    "!",
    "",
    "   \t\n  ",
    "it's he'll they've I'm we'd don't you're",
    "IT'S HE'LL",
    "café naïve Ångström",
    "cafe\u0301 nai\u0308ve",  # composed by both
    "ﬁne ½ ² Ⅷ",
    "穿红色外套的女人",
    "빨간 재킷을 입은 여자",
    "امرأة ترتدي سترة حمراء",
    "महिला लाल जैकेट",
    "😀 👩🏽‍🦰 🧥🎒 ❤️",
    "12345 3.14 1,000 50% $5 #7",
    "...---...!!!???",
    "price < 5 > 3 & more",
    "_under_score_ a/b\\c [clothing] {x} `~^",
    "zero\u200bwidth\ufeffnon\u00a0breaking\u2003em",
    "İstanbul ẞ Σίσυφος",
    "supercalifragilisticexpialidocious" * 12,
    "word " * 500,
    "\x00\x07 control",
    "👨‍👩‍👧‍👦" * 30,
]


def transformers_clip() -> Any:
    """CLIP's tokenizer by transformers, from the merges alone, as vocab.json and merges.txt of the release are."""
    from transformers import CLIPTokenizer

    packed = resources.files("textreid.models").joinpath("data", "clip_merges.txt.gz").read_bytes()
    merges: Any = [
        tuple(line.split()) for line in gzip.decompress(packed).decode().split("\n")[1 : 49152 - 256 - 2 + 1]
    ]
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    characters = [chr(c) for c in printable] + [chr(256 + n) for n in range(256 - len(printable))]
    names = characters + [c + "</w>" for c in characters] + ["".join(pair) for pair in merges]
    names += ["<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={name: index for index, name in enumerate(names)}, merges=merges)


CLIP, REFERENCE = Tokenizer.clip(), transformers_clip()


def test_clip_ids_are_those_of_transformers() -> None:
    assert CLIP.vocabulary_size == len(REFERENCE) == 49_408
    batch = CLIP.encode(NASTY)
    compared = 0
    for text, ids, length in zip(NASTY, batch.ids, batch.lengths, strict=True):
        expected = REFERENCE(text, truncation=True, max_length=77)["input_ids"]
        assert ids[:length].tolist() == expected, text
        assert not ids[length:].any()
        compared += length
    assert compared > 500


@given(st.text(max_size=60).filter(lambda text: "&" not in text and "<|" not in text and "jekyll" not in text.lower()))
@settings(deadline=None, max_examples=300)
def test_clip_ids_are_those_of_transformers_for_any_text(text: str) -> None:
    batch = CLIP.encode([text])
    assert batch.ids[0].tolist() == REFERENCE(text, truncation=True, max_length=77)["input_ids"]


def test_known_ids_of_clip() -> None:
    batch = CLIP.encode(["a photo of a cat"])
    assert batch.ids.tolist() == [[49406, 320, 1125, 539, 320, 2368, 49407]]  # as OpenAI's release gives them
    assert (CLIP.mask_id, CLIP.start_id, CLIP.end_id, CLIP.text_length) == (49405, 49406, 49407, 77)


def test_known_differences_from_transformers() -> None:
    # OpenAI's release undoes HTML entities, transformers does not.
    assert CLIP.encode(["black &amp;amp; white"]).ids.tolist() == CLIP.encode(["black & white"]).ids.tolist()
    assert CLIP.encode(["&#x72;ed"]).ids.tolist() == CLIP.encode(["red"]).ids.tolist()
    # The id of the last merge is the mask, so that its word is written with the merges before it.
    assert REFERENCE("jekyll")["input_ids"] == [49406, 49405, 49407]
    assert 49405 not in CLIP.encode(["jekyll"]).ids
    # A special token that is spelt out is text.
    for text in ("<|endoftext|>", "<|mask|>", "<|startoftext|> x <|pad|>"):
        assert not np.isin(CLIP.encode([text]).ids[0, 1:-1], [49405, 49406, 49407]).any()


def test_a_long_text_keeps_its_start_and_end_tokens_and_is_counted() -> None:
    batch = CLIP.encode(["word " * 75, "word " * 76, "a" * 10_000, "short"])
    assert batch.lengths.tolist() == [77, 77, 77, 3]
    assert batch.truncated == 2
    assert (batch.ids[:, 0] == CLIP.start_id).all()
    assert (batch.ids[np.arange(4), batch.lengths - 1] == CLIP.end_id).all()
    short = Tokenizer.clip(text_length=5).encode(["one two three four", "one two three"])
    assert (short.lengths.tolist(), short.truncated) == ([5, 5], 1)


def test_rows_are_trimmed_to_the_longest() -> None:
    batch = CLIP.encode(["one", "one two three", ""])
    assert batch.ids.shape == (3, 5)
    assert batch.ids.dtype == batch.lengths.dtype == np.int64
    assert batch.lengths.tolist() == [3, 5, 2]
    assert CLIP.encode([]).ids.shape == (0, 0)


def test_half_characters_are_replaced() -> None:
    batch = CLIP.encode(["a \ud83d b"])
    assert batch.ids.tolist() == CLIP.encode(["a \ufffd b"]).ids.tolist()
    assert CLIP.pieces("a \ud83d b")[0][1:] == (0, 1)


def test_pieces_point_into_the_text() -> None:
    text = "  A RED&amp;blue  jacket, 日 cafe\u0301 &#x41;bc"
    pieces = CLIP.pieces(text)
    assert [token for token, _, _ in pieces] == CLIP.encode([text]).ids[0, 1:-1].tolist()
    words = [text[begin:end] for _, begin, end in pieces]
    assert words[:6] == ["A", "RED", "&amp;", "blue", "jacket", ","]
    assert words[-1] == "&#x41;bc"
    assert "cafe\u0301" in words


@pytest.mark.parametrize("kind", ["clip", "own"])
@given(text=st.text(max_size=40))
@settings(deadline=None, max_examples=150)
def test_pieces_are_the_tokens_and_their_places_are_in_order(kind: str, text: str) -> None:
    tokenizer = CLIP if kind == "clip" else OWN
    pieces = tokenizer.pieces(text)
    assert [token for token, _, _ in pieces] == tokenizer.encode([text]).ids[0, 1:-1].tolist()
    assert all(0 <= begin <= end <= len(text) for _, begin, end in pieces)
    begins = [begin for _, begin, end in pieces if begin < end]
    assert begins == sorted(begins)
    if len(pieces) < tokenizer.text_length - 2 and "&" not in text:
        covered = {place for _, begin, end in pieces for place in range(begin, end)}
        assert all(place in covered for place, letter in enumerate(text) if letter.isalnum())


@pytest.mark.parametrize("kind", ["clip", "own"])
def test_words_are_those_that_people_read(kind: str) -> None:
    tokenizer = CLIP if kind == "clip" else OWN
    for text, expected in {
        "A man's (navy-blue) T-shirt,": ["A", "man's", "(", "navy-blue", ")", "T-shirt", ","],
        "2000 €: cafe\u0301 日": ["2000", "€", ":", "cafe\u0301", "日"],
        "unbelievably": ["unbelievably"],
    }.items():
        assert [text[start:stop] for start, stop, _ in tokenizer.words(text)] == expected


@pytest.mark.parametrize("kind", ["clip", "own"])
@given(text=st.text(max_size=40))
@settings(deadline=None, max_examples=100)
def test_words_hold_every_token_that_is_in_the_text_once_and_in_order(kind: str, text: str) -> None:
    tokenizer = CLIP if kind == "clip" else OWN
    words, pieces = tokenizer.words(text), tokenizer.pieces(text)
    places = [position for position, (_, start, stop) in enumerate(pieces, start=1) if start < stop]
    assert [position for word in words for position in word.positions] == places
    assert all(word.start < word.stop <= len(text) for word in words)
    assert all(former.stop <= word.start for former, word in itertools.pairwise(words))
    assert not any(letter.isspace() for start, stop, _ in words for letter in text[start] + text[stop - 1])


@given(st.text(alphabet="&#x;ampltgq0123456789 aé", max_size=40))
@settings(deadline=None, max_examples=300)
def test_entities_are_undone_as_the_standard_library_does(text: str) -> None:
    plain, spans = _clean_with_spans(text)
    assert plain == _clean(text) == html.unescape(html.unescape(text))
    assert len(spans) == len(plain)


CORPUS = [f"The {colour} {thing} of {who}, {n}" for n, (colour, thing, who) in enumerate(
    (c, t, w)
    for c in ("red", "blue", "dark green")
    for t in ("jacket", "backpack", "trousers")
    for w in ("a woman", "a man", "someone")
)]  # fmt: skip
OWN = Tokenizer.learn(CORPUS, 310, text_length=30)


def test_a_learned_vocabulary_has_the_asked_size_and_learns_words() -> None:
    assert OWN.vocabulary_size == 310
    assert (OWN.mask_id, OWN.start_id, OWN.end_id) == (307, 308, 309)
    batch = OWN.encode(["The RED jacket", "", "日本 é 😀 xylophone"])
    assert batch.lengths[0] < 8
    assert batch.ids[1, :3].tolist() == [308, 309, 0]
    assert batch.ids.max() == 309
    assert (batch.ids[2, : batch.lengths[2]] > 0).all()  # 0 pads and is never text
    assert [(begin, end) for _, begin, end in OWN.pieces("The red jacket")] == [(0, 3), (4, 7), (8, 14)]
    xylo = OWN.pieces("xylo")  # no token starts with " x", so the space before the first word stands alone
    assert [(begin, end) for _, begin, end in xylo][:2] == [(0, 0), (0, 1)]


def test_a_small_corpus_gives_a_smaller_vocabulary_that_still_encodes_everything() -> None:
    small = Tokenizer.learn(["red red"], 4096)
    assert 260 < small.vocabulary_size < 300
    assert small.encode(["blue é"]).lengths[0] == 2 + 5 + 3
    empty = Tokenizer.learn([], 260)
    assert empty.vocabulary_size == 260


def test_a_vocabulary_below_the_bytes_is_refused() -> None:
    with pytest.raises(CaptionError, match="at least 260 tokens"):
        Tokenizer.learn(["a"], 259)


def test_learning_is_deterministic_whatever_the_order_or_the_threads() -> None:
    assert Tokenizer.learn(CORPUS[::-1], 310, text_length=30).to_json() == OWN.to_json()
    program = (
        "import sys, json, hashlib; from textreid.models.tokenizer import Tokenizer;"
        "texts = json.load(sys.stdin);"
        "print(hashlib.sha256(Tokenizer.learn(texts, 310, text_length=30).to_json().encode()).hexdigest());"
        "assert 'torch' not in sys.modules"
    )
    expected = hashlib.sha256(OWN.to_json().encode()).hexdigest()
    for threads, seed in (("1", "1"), ("3", "2")):
        environment = os.environ | {"RAYON_NUM_THREADS": threads, "PYTHONHASHSEED": seed}
        done = subprocess.run(
            [sys.executable, "-c", program],
            input=json.dumps(CORPUS), env=environment, capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert done.stdout.strip() == expected


@pytest.mark.parametrize("tokenizer", [CLIP, OWN], ids=["clip", "own"])
def test_a_saved_tokenizer_gives_the_same_ids(tokenizer: Tokenizer, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    tokenizer.save(path)
    loaded = Tokenizer.load(path)
    before, after = tokenizer.encode(NASTY), loaded.encode(NASTY)
    assert np.array_equal(before.ids, after.ids)
    assert before.truncated == after.truncated > 0
    assert loaded.to_json() == tokenizer.to_json()
    assert (loaded.text_length, loaded.mask_id) == (tokenizer.text_length, tokenizer.mask_id)


def test_the_file_is_a_plain_one_of_the_tokenizers_library(tmp_path: Path) -> None:
    OWN.save(tmp_path / "tokenizer.json")
    plain = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    text = "a red backpack " * 20
    assert plain.encode(text).ids == OWN.encode([text]).ids[0].tolist()


def test_damaged_or_foreign_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    with pytest.raises(ModelError, match=r"tokenizer\.json: cannot be read"):
        Tokenizer.load(path)
    path.write_text("{", encoding="utf-8")
    with pytest.raises(ModelError, match=r"tokenizer\.json: cannot be read"):
        Tokenizer.load(path)
    REFERENCE.backend_tokenizer.save(str(path))
    with pytest.raises(ModelError, match="not a tokenizer of textreid"):
        Tokenizer.load(path)
