import gzip
import hashlib
import html
import itertools
import json
import os
import re
import subprocess
import sys
import time
import unicodedata
from importlib import resources
from pathlib import Path
from typing import Any

import ftfy
import numpy as np
import pytest
import regex
import tokenizers
from hypothesis import given, settings, strategies as st

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
    "The woman\u2019s “bright” jacket… it\u2019s l\u2019été \u2013 ½ price",
    "schÃ¶n â€œmojibakeâ€\x9d dÃ©jÃ  vu",
    "fish &amp;amp; chips &lt;b&gt; &eacute; &#x41; &notanentity; &#1; &",
    "<p>fish &amp; chips</p>",
    "\uff26\uff35\uff2c\uff2c\u3000\uff57\uff49\uff44\uff54\uff48 ﬀ ﬁ ﬂ",
    "ΣΊΣΥΦΟΣ ΟΔΟΣ",
    "J̌ J\u030c '\u017f don'T",
    "\x1b[31mred\x1b[0m \r\nline\x85next\u2028more\u2029\x1c\x1f",
    "jekyll and hyde",
    "<|mask|> <|startoftext|> <|endoftext|>",
    "half \ud83d pair \ud83d\ude00",
    "\u0301\u200d\ufe0f\u00ad",
    "ꙮ𓀀𠀀 ཨོཾ",
]


LONG_S = "\u017f"  # its upper case is S, so that "ignoring case" takes it for one
PRINTABLE = [*range(33, 127), *range(161, 173), *range(174, 256)]
LETTERS = {code: chr(code) for code in PRINTABLE}
LETTERS |= {code: chr(256 + n) for n, code in enumerate(code for code in range(256) if code not in LETTERS)}
WORDS = regex.compile(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+", regex.IGNORECASE)


UNTIDY = (
    "aAsStTrReEvVmMlLdDxX0123456789 '\"&;#<>|[_-\r\n\t\x1b\x85"
    "\u00e3\u00a9\u00c5\u0301\u030c\u0130\u017f\u03a3\u03c3\u200b\u2019\u201c\u2028\u212a\ufb01\ufeff\uff21"
)


def merges_of_clip() -> list[tuple[str, str]]:
    packed = resources.files("textreid.models").joinpath("data", "clip_merges.txt.gz").read_bytes()
    lines = gzip.decompress(packed).decode().split("\n")[1 : 49152 - 256 - 2 + 1]
    return [(first, second) for first, second in (line.split() for line in lines)]


def vocabulary_of_clip() -> list[str]:
    joined = ["".join(pair) for pair in merges_of_clip()]
    names = [*LETTERS.values(), *(letter + "</w>" for letter in LETTERS.values()), *joined]
    return [*names, "<|startoftext|>", "<|endoftext|>"]


class ReferenceBPE:
    """CLIP's tokenizer as its paper and Sennrich et al. 2016 describe it: join the pair learned first, and again."""

    def __init__(self) -> None:
        # The last merge gives its id to the mask token (Tan et al. 2024), here as there.
        self.rank = {pair: number for number, pair in enumerate(merges_of_clip()[:-1])}
        self.ids = {name: number for number, name in enumerate(vocabulary_of_clip())}

    def encode(self, text: str, length: int = 77) -> list[int]:
        text = html.unescape(html.unescape(ftfy.fix_text(text))).strip()
        text = regex.sub(r"\s+", " ", text).strip().lower()
        pieces = [piece for word in WORDS.findall(text) for piece in self.split(word)]
        ids = [49406, *(self.ids[piece] for piece in pieces), 49407]
        return ids if len(ids) <= length else [*ids[: length - 1], 49407]

    def split(self, word: str) -> list[str]:
        pieces = [LETTERS[byte] for byte in word.encode()]
        pieces[-1] += "</w>"
        while len(pieces) > 1:
            pairs = list(itertools.pairwise(pieces))
            best = min(pairs, key=lambda pair: self.rank.get(pair, len(self.rank)))
            if best not in self.rank:
                break
            joined: list[str] = []
            while pieces:
                taken = 2 if tuple(pieces[:2]) == best else 1
                joined.append("".join(pieces[:taken]))
                pieces = pieces[taken:]
            pieces = joined
        return pieces


def transformers_clip() -> Any:
    """CLIP's tokenizer by transformers, from the merges alone, as vocab.json and merges.txt of the release are."""
    from transformers import CLIPTokenizer

    merges: Any = merges_of_clip()
    return CLIPTokenizer(vocab={name: index for index, name in enumerate(vocabulary_of_clip())}, merges=merges)


CLIP, REFERENCE, TRANSFORMERS = Tokenizer.clip(), ReferenceBPE(), transformers_clip()


def is_plain(text: str) -> bool:
    """Whether transformers, which mends nothing and treats letters one by one, is expected to give CLIP's ids."""
    lower = "".join(letter.lower() for letter in text)
    mended = ftfy.fix_text(text) == text and html.unescape(text) == text
    return (
        mended
        and text.lower() == lower == unicodedata.normalize("NFC", lower)
        and not re.search(f"{LONG_S}|jekyll|<\\|", lower)
    )


def test_clip_ids_are_those_of_the_reference() -> None:
    assert CLIP.vocabulary_size == len(TRANSFORMERS) == len(REFERENCE.ids) == 49_408
    batch = CLIP.encode(NASTY)
    compared = plain = 0
    for text, ids, length in zip(NASTY, batch.ids, batch.lengths, strict=True):
        expected = REFERENCE.encode(text)
        assert ids[:length].tolist() == expected, text
        assert not ids[length:].any()
        compared += length
        if is_plain(text):
            assert TRANSFORMERS(text, truncation=True, max_length=77)["input_ids"] == expected, text
            plain += 1
    assert compared > 600
    assert plain > 15


# Characters that Python's Unicode does not know are left out: whether they are letters depends on each library's age.
@given(st.text(st.characters(exclude_categories=["Cn"]), max_size=60))
@settings(deadline=None, max_examples=300)
def test_clip_ids_are_those_of_the_reference_for_any_text(text: str) -> None:
    ids = CLIP.encode([text]).ids[0].tolist()
    assert ids == REFERENCE.encode(text)
    if is_plain(text):
        assert ids == TRANSFORMERS(text, truncation=True, max_length=77)["input_ids"]


@given(st.text(UNTIDY, max_size=40))
@settings(deadline=None, max_examples=600)
def test_clip_ids_are_those_of_the_reference_where_cleaning_has_work(text: str) -> None:
    assert CLIP.encode([text]).ids[0].tolist() == REFERENCE.encode(text)


def test_known_ids_of_clip() -> None:
    batch = CLIP.encode(["a photo of a cat"])
    assert batch.ids.tolist() == [[49406, 320, 1125, 539, 320, 2368, 49407]]  # as OpenAI's release gives them
    assert (CLIP.mask_id, CLIP.start_id, CLIP.end_id, CLIP.text_length) == (49405, 49406, 49407, 77)


def test_known_differences_from_transformers() -> None:
    # OpenAI's release undoes HTML entities and mends text, transformers does neither.
    assert (
        CLIP.encode(["the woman\u2019s “red” jacket"]).ids.tolist()
        == CLIP.encode(['the woman\'s "red" jacket']).ids.tolist()
    )
    assert CLIP.encode(["black &amp;amp; white"]).ids.tolist() == CLIP.encode(["black & white"]).ids.tolist()
    assert CLIP.encode(["&#x72;ed"]).ids.tolist() == CLIP.encode(["red"]).ids.tolist()
    # The id of the last merge is the mask, so that its word is written with the merges before it.
    assert TRANSFORMERS("jekyll")["input_ids"] == [49406, 49405, 49407]
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
    assert not any(text[start].isspace() for start, _, _ in words)


@given(st.text(alphabet="&#x;ampltgq0123456789 aé\u2019ﬁİÃ©", max_size=40))
@settings(deadline=None, max_examples=300)
def test_what_was_cleaned_keeps_its_place(text: str) -> None:
    plain, spans = _clean_with_spans(text)
    assert plain.lower() == _clean(text).lower()
    assert len(spans) == len(plain)
    assert all(0 <= first < last <= len(text) for first, last in spans)
    assert spans == sorted(spans)


def test_the_place_of_a_long_text_is_found_soon() -> None:
    text = "é" * 9_000 + "“" + "é" * 9_000 + "”"
    begin = time.monotonic()
    pieces = CLIP.pieces(text)
    assert time.monotonic() - begin < 3
    assert len(pieces) == 75
    assert pieces[0][1:] == (0, 1)


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


@pytest.mark.parametrize("tokenizer", [CLIP, OWN], ids=["clip", "own"])
def test_a_shortened_tokenizer_only_cuts_earlier(tokenizer: Tokenizer) -> None:
    whole, cut = tokenizer.encode(NASTY), tokenizer.shortened(9).encode(NASTY)
    assert cut.ids.shape[1] == cut.lengths.max() == 9
    for before, after, length in zip(whole.ids, cut.ids, cut.lengths, strict=True):
        assert after[: length - 1].tolist() == before[: length - 1].tolist()
        assert after[length - 1] == tokenizer.end_id
    assert tokenizer.shortened(1000).to_json() == tokenizer.to_json()


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
    TRANSFORMERS.backend_tokenizer.save(str(path))
    with pytest.raises(ModelError, match="not a tokenizer of textreid"):
        Tokenizer.load(path)
