"""Byte-pair tokenizers: CLIP's, and one learned from captions. No torch here."""

import gzip
import html
import json
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from importlib import resources
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt
import tokenizers
from tokenizers import Regex, models, normalizers, pre_tokenizers, processors, trainers

from textreid.artifacts import write_text
from textreid.errors import CaptionError, ModelError

TEXT_LENGTH = 77
START, END = "<|startoftext|>", "<|endoftext|>"
SMALLEST = 260  # tokens of a vocabulary: 256 bytes, padding, mask, start, end

_PAD, _MASK = "<|pad|>", "<|mask|>"
# The release reads 48,894 merges. Here one less: 256 bytes, the same at the end of a word, 48,893 merges and 3 special
# tokens make 49,408 ids, and all but the mask's are the release's.
_CLIP_MERGES = 48_894
# The release ignores case in this pattern, and without case "\u017f" (long s) is an "s".
_CLIP_WORDS = r"'[s\u017f]|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
# A word takes the space before it, as in GPT-2: its pieces need no mark for the end of a word.
_OWN_WORDS = r" ?[\p{L}]+| ?[\p{N}]| ?[^\s\p{L}\p{N}]+"
_PLAIN = re.compile("[\t\n\r -%'-~]*")  # printable ASCII but "&": cleaning changes nothing but upper case
_ALIGNED_AT_MOST = 2000  # characters whose places are compared one by one, which takes quadratic time
_IN_WORDS = frozenset("'\N{RIGHT SINGLE QUOTATION MARK}-_")  # besides letters and digits
_SPACE = "\u0120"  # how a byte-level vocabulary writes a space


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


class TextWord(NamedTuple):
    """A word as people read it, in the text that a tokenizer was given.

    Attributes:
        start, stop: its first character, and one past its last.
        positions: of its tokens in the row of ids; the start token is at 0.
    """

    start: int
    stop: int
    positions: tuple[int, ...]


class Tokenizer:
    """Text to token ids, after the cleaning of CLIP's release: ftfy, HTML entities, lower case, single spaces.

    The vocabulary ends with the mask, start and end tokens; ids from 1 up to `mask_id` (excluded) are text, and
    rows are padded with 0. A text that spells out a special token is only text: data cannot inject one.

    Attributes:
        text_length: the most tokens of a text, start and end included.
        vocabulary_size: number of ids.
        mask_id, start_id, end_id: the special tokens.
    """

    def __init__(self, backend: tokenizers.Tokenizer) -> None:
        truncation = backend.truncation
        # Masking draws random tokens from the ids between padding and mask: the special ones have to come last.
        special = [backend.token_to_id(token) for token in (_MASK, START, END)]
        size = backend.get_vocab_size()
        if truncation is None or special != [size - 3, size - 2, size - 1]:
            raise ModelError("not a tokenizer of textreid: its vocabulary does not end with mask, start and end")
        self._backend = backend
        self.text_length: int = truncation["max_length"]
        self.vocabulary_size: int = size
        self.mask_id, self.start_id, self.end_id = size - 3, size - 2, size - 1

    @classmethod
    def clip(cls, text_length: int = TEXT_LENGTH) -> Self:
        """Make CLIP's, of 49,408 tokens; the id of its last merge, 49405, becomes the mask (Tan et al. 2024)."""
        packed = resources.files("textreid.models").joinpath("data", "clip_merges.txt.gz").read_bytes()
        # The first line tells the version of the file.
        lines = gzip.decompress(packed).decode("utf-8").split("\n")[1:_CLIP_MERGES]
        merges = [(first, second) for first, second in (line.split() for line in lines)]
        alphabet = _byte_characters()
        # No token for padding: 0 is "!" here, as in the release, which is why lengths are kept beside the ids.
        names = [*alphabet, *(f"{c}</w>" for c in alphabet), *("".join(pair) for pair in merges), _MASK, START, END]
        vocabulary = {name: index for index, name in enumerate(names)}
        model = models.BPE(vocab=vocabulary, merges=merges, end_of_word_suffix="</w>")
        return cls(_assemble(model, _CLIP_WORDS, text_length, first_space=False))

    @classmethod
    def learn(cls, texts: Iterable[str], size: int, text_length: int = TEXT_LENGTH) -> Self:
        """Learn a byte-level vocabulary from texts; the same texts in any order give the same one.

        Args:
            texts: what the vocabulary shall be good for.
            size: at most so many tokens; fewer only if the texts repeat too few words (see `vocabulary_size`).
            text_length: the most tokens of a text.

        Raises:
            CaptionError: ``size`` is too small for the 256 bytes and the 4 special tokens.
        """
        if size < SMALLEST:
            raise CaptionError(f"a vocabulary needs at least {SMALLEST} tokens (256 bytes and 4 special), not {size}")
        learner = _assemble(models.BPE(), _OWN_WORDS, text_length, first_space=True)
        # With every byte in the alphabet no text is unknown, whatever the vocabulary was learned from.
        trainer = trainers.BpeTrainer(
            vocab_size=size - 4, min_frequency=2, initial_alphabet=_byte_characters(), show_progress=False
        )
        learner.train_from_iterator(map(_clean, texts), trainer)
        learned = json.loads(learner.to_str())["model"]
        names = [_PAD, *sorted(learned["vocab"], key=learned["vocab"].__getitem__), _MASK, START, END]
        model = models.BPE(
            vocab={name: index for index, name in enumerate(names)},
            merges=[(first, second) for first, second in learned["merges"]],
        )
        return cls(_assemble(model, _OWN_WORDS, text_length, first_space=True))

    def shortened(self, text_length: int) -> Self:
        """Return the same, cutting texts to ``text_length`` tokens if it does not cut them shorter yet."""
        # A copy, because the length is a state of the backend, which others may be using.
        backend = tokenizers.Tokenizer.from_str(self.to_json())
        backend.enable_truncation(min(text_length, self.text_length))
        return type(self)(backend)

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
        except Exception as error:  # the library raises no narrower type
            raise ModelError(f"{path}: cannot be read as a tokenizer: {error}") from error

    def save(self, path: Path) -> None:
        """Write a ``tokenizer.json`` in the format of the *tokenizers* library.

        Its ids there are the same for plain text; what ftfy mends and HTML entities are not undone there.
        """
        write_text(path, self.to_json())

    def to_json(self) -> str:
        """Return the contents of ``tokenizer.json``."""
        return self._backend.to_str()

    def encode(self, texts: Sequence[str]) -> TokenBatch:
        """Encode B texts as token ids; a text that is too long keeps its beginning and its end token."""
        encoded = self._backend.encode_batch_fast([_clean(text) for text in texts])
        lengths = np.fromiter((len(encoding.ids) for encoding in encoded), dtype=np.int64, count=len(encoded))
        ids = np.zeros((len(encoded), int(lengths.max(initial=0))), dtype=np.int64)
        for row, length, encoding in zip(ids, lengths, encoded, strict=True):
            row[:length] = encoding.ids
        return TokenBatch(ids, lengths, sum(bool(encoding.overflowing) for encoding in encoded))

    def pieces(self, text: str) -> list[tuple[int, int, int]]:
        """List the tokens between start and end: (id, first character, one past the last character) in ``text``."""
        plain, spans = _clean_with_spans(text)
        # `encode`, because `encode_batch_fast` leaves out the offsets.
        encoding = self._backend.encode(plain)
        found = []
        for token, (first, last) in list(zip(encoding.ids, encoding.offsets, strict=True))[1:-1]:
            begin, end = (spans[first][0], spans[last - 1][1]) if first < last else (0, 0)
            if self._backend.id_to_token(token) == _SPACE:
                end = begin  # the space put before the first word is not in the text
            while begin < end and text[begin].isspace():
                begin += 1
            found.append((token, begin, end))
        return found

    def words(self, text: str) -> list[TextWord]:
        """Put the tokens of `pieces` together where they belong to one word; punctuation stands alone."""
        words: list[TextWord] = []
        for position, (_, start, stop) in enumerate(self.pieces(text), start=1):
            if start == stop:
                continue
            end = words[-1].stop if words else -1
            if start < end or (start == end and _in_word(text[start - 1]) and _in_word(text[start])):
                former = words.pop()
                words.append(TextWord(former.start, max(stop, end), (*former.positions, position)))
            else:
                words.append(TextWord(start, stop, (position,)))
        return words


def _in_word(character: str) -> bool:
    return character.isalnum() or character in _IN_WORDS or unicodedata.combining(character) > 0


def _assemble(model: models.BPE, words: str, text_length: int, first_space: bool) -> tokenizers.Tokenizer:
    """Assemble a model and its surroundings; start and end are added, and long texts cut, if the model knows them."""
    backend = tokenizers.Tokenizer(model)
    # `_clean` leaves white space, and the capitals of plain text, to these: they are in the file that `save` writes, so
    # that other programs read plain text alike.
    steps = [normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip(), normalizers.Lowercase()]
    if first_space:
        steps.append(normalizers.Prepend(" "))
    backend.normalizer = normalizers.Sequence(steps)
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(words), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    start, end = backend.token_to_id(START), backend.token_to_id(END)
    if start is not None and end is not None:
        backend.post_processor = processors.TemplateProcessing(
            single=f"{START} $A {END}", special_tokens=[(START, start), (END, end)]
        )
        backend.enable_truncation(max_length=text_length)
    return backend


def _byte_characters() -> list[str]:
    """List printable stand-ins for the 256 bytes in the order of CLIP's ids: printable bytes first, then the others."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    return [chr(code) for code in printable] + [chr(256 + index) for index in range(256 - len(printable))]


def _clean(text: str) -> str:
    """Clean a text as CLIP does: ftfy (mojibake, curly quotes, ligatures, ...), HTML entities twice, lower case."""
    if _PLAIN.fullmatch(text):
        return text
    # Here, because it takes 50 ms to import and plain captions never need it.
    import ftfy

    # Lower case comes last: names of entities tell capitals apart, `&Eacute;` from `&eacute;`.
    return html.unescape(html.unescape(ftfy.fix_text(text))).lower()


def _clean_with_spans(text: str) -> tuple[str, list[tuple[int, int]]]:
    """Clean, and tell for each character of the result the (first, one past the last) of ``text`` it stands for.

    What cleaning dropped belongs to the character before it.
    """
    plain = _clean(text)
    # Letter by letter: "\u0130" becomes two characters in lower case, and all places behind it would be off by one.
    lowered = "".join(letter.lower() if len(letter.lower()) == 1 else letter for letter in text)
    shorter = min(len(lowered), len(plain))
    same = next((place for place in range(shorter) if lowered[place] != plain[place]), shorter)
    spans = [(position, position + 1) for position in range(same)]
    if max(len(text), len(plain)) - same > _ALIGNED_AT_MOST:
        return plain, spans + [(same, len(text))] * (len(plain) - same)
    changes = SequenceMatcher(None, lowered[same:], plain[same:], autojunk=False).get_opcodes()
    for _, begin, end, first, last in changes:
        if end - begin == last - first:
            spans += [(same + position, same + position + 1) for position in range(begin, end)]
        elif first < last:
            spans += [(same + begin, same + end)] * (last - first)
        elif spans:
            spans[-1] = (spans[-1][0], same + end)
    return plain, spans
