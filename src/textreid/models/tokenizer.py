"""Byte-pair tokenizers: CLIP's, and one learned from captions. No torch here."""

import gzip
import html
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import tokenizers
from tokenizers import Regex, models, normalizers, pre_tokenizers, processors, trainers

from textreid.artifacts import write_text
from textreid.errors import CaptionError, ModelError

TEXT_LENGTH = 77
MASK, START, END = "<|mask|>", "<|startoftext|>", "<|endoftext|>"
_PAD = "<|pad|>"
_CLIP_MERGES = 48_894
_CLIP_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
_OWN_WORDS = r" ?[\p{L}]+| ?[\p{N}]| ?[^\s\p{L}\p{N}]+"
_ENTITY = re.compile(r"&(?:#[0-9]+;?|#[xX][0-9a-fA-F]+;?|[^\t\n\f <&#;]{1,32};?)")


@dataclass(frozen=True)
class TokenBatch:
    """Token ids of B texts.

    Attributes:
        ids: (B, T) int64; each row is start, words, end, then 0 up to the longest row of the batch.
        lengths: (B,) int64, start and end included.
        truncated: how many of the texts were longer than the tokenizer's `text_length` and were cut.
    """

    ids: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]
    truncated: int


class Tokenizer:
    """Text to token ids. Lower-cases, undoes HTML entities, collapses white space.

    The vocabulary ends with the mask, start and end tokens; ids from 1 up to `mask_id` (excluded) are text, and
    rows are padded with 0. A text that spells a special token is text: data cannot inject one.
    """

    def __init__(self, backend: tokenizers.Tokenizer) -> None:
        truncation = backend.truncation
        ids = [backend.token_to_id(token) for token in (MASK, START, END)]
        size = backend.get_vocab_size()
        if truncation is None or ids != [size - 3, size - 2, size - 1]:
            raise ModelError("not a textreid tokenizer: no text length, or no mask, start and end tokens at its end")
        self._backend = backend
        self.text_length: int = truncation["max_length"]
        self.vocabulary_size: int = size
        self.mask_id: int = ids[0]
        self.start_id: int = ids[1]
        self.end_id: int = ids[2]

    @classmethod
    def clip(cls, text_length: int = TEXT_LENGTH) -> Self:
        """CLIP's vocabulary of 49,408; its last merge gives way to the mask token, id 49405 (as in Tan et al. 2024)."""
        packed = resources.files("textreid.models").joinpath("data", "clip_merges.txt.gz").read_bytes()
        lines = gzip.decompress(packed).decode("utf-8").split("\n")[1 : 1 + _CLIP_MERGES - 1]
        merges = [(first, second) for first, second in (line.split() for line in lines)]
        alphabet = _byte_characters()
        names = [*alphabet, *(f"{c}</w>" for c in alphabet), *("".join(pair) for pair in merges), MASK, START, END]
        vocabulary = {name: index for index, name in enumerate(names)}
        model = models.BPE(vocab=vocabulary, merges=merges, end_of_word_suffix="</w>")
        return cls(_assemble(model, _CLIP_WORDS, text_length, first_space=False))

    @classmethod
    def learn(cls, texts: Iterable[str], size: int, text_length: int = TEXT_LENGTH) -> Self:
        """Learn a byte-level vocabulary of at most ``size`` tokens; the same texts give the same vocabulary.

        It is smaller than ``size`` only if the texts hold too few different words: read `vocabulary_size`.

        Raises:
            CaptionError: ``size`` is below 260 (256 bytes and 4 special tokens).
        """
        if size < 260:
            raise CaptionError(f"a vocabulary needs at least 260 tokens (256 bytes and 4 special ones), not {size}")
        alphabet = _byte_characters()
        learner = _assemble(models.BPE(), _OWN_WORDS, text_length, first_space=True)
        learner.no_truncation()
        trainer = trainers.BpeTrainer(
            vocab_size=size - 4, min_frequency=2, initial_alphabet=alphabet, show_progress=False
        )
        learner.train_from_iterator(map(_unescape, texts), trainer)
        learned = sorted(learner.get_vocab().items(), key=lambda item: item[1])
        names = [_PAD, *(name for name, _ in learned), MASK, START, END]
        import json

        merges = [tuple(pair) for pair in json.loads(learner.to_str())["model"]["merges"]]
        model = models.BPE(vocab={name: index for index, name in enumerate(names)}, merges=merges)
        return cls(_assemble(model, _OWN_WORDS, text_length, first_space=True))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a ``tokenizer.json`` written by `save`.

        Raises:
            ModelError: the file is missing, damaged, or not written by textreid.
        """
        try:
            return cls(tokenizers.Tokenizer.from_str(path.read_text(encoding="utf-8")))
        except ModelError as error:
            raise ModelError(f"{path}: {error}") from error
        except Exception as error:  # the library raises plain Exception
            raise ModelError(f"{path}: cannot be read as a tokenizer: {error}") from error

    def save(self, path: Path) -> None:
        """Write a ``tokenizer.json`` in the format of the *tokenizers* library, text length included."""
        write_text(path, self.to_json())

    def to_json(self) -> str:
        """The tokenizer as the text of its ``tokenizer.json``."""
        return self._backend.to_str(pretty=False)

    def encode(self, texts: Sequence[str]) -> TokenBatch:
        """Token ids of the texts; one that is too long keeps its beginning, and its end token."""
        encoded = self._backend.encode_batch_fast([_unescape(text) for text in texts])
        lengths = np.fromiter((len(e.ids) for e in encoded), dtype=np.int64, count=len(encoded))
        ids = np.zeros((len(encoded), int(lengths.max(initial=0))), dtype=np.int64)
        for row, encoding in zip(ids, encoded, strict=True):
            row[: len(encoding.ids)] = encoding.ids
        return TokenBatch(ids, lengths, sum(1 for e in encoded if e.overflowing))

    def pieces(self, text: str) -> list[tuple[int, int, int]]:
        """The word tokens of ``text``: (token id, first character, character after the last), in ``text`` itself."""
        encoding = self._backend.encode(_unescape(text))
        return [(token, *span) for token, span in zip(encoding.ids[1:-1], encoding.offsets[1:-1], strict=True)]


def _assemble(model: models.BPE, words: str, text_length: int, first_space: bool) -> tokenizers.Tokenizer:
    backend = tokenizers.Tokenizer(model)
    steps = [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip(), normalizers.Lowercase()]
    if first_space:
        steps.append(normalizers.Prepend(" "))
    backend.normalizer = normalizers.Sequence(steps)  # type: ignore[assignment]
    backend.pre_tokenizer = pre_tokenizers.Sequence(  # type: ignore[assignment]
        [
            pre_tokenizers.Split(Regex(words), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    start, end = backend.token_to_id(START), backend.token_to_id(END)
    if start is not None:
        backend.post_processor = processors.TemplateProcessing(  # type: ignore[assignment]
            single=f"{START} $A {END}", special_tokens=[(START, start), (END, end)]
        )
    backend.enable_truncation(max_length=text_length)
    return backend


def _byte_characters() -> list[str]:
    """The printable stand-ins for the 256 bytes (GPT-2's table), in the order of CLIP's ids."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    return [chr(code) for code in printable] + [chr(256 + index) for index in range(256 - len(printable))]


def _unescape(text: str) -> str:
    return html.unescape(html.unescape(text)) if "&" in text else text
