"""Which tokens are one word, which words have a picture, and a number for each word: from token ids alone.

A step has no time to look at strings, so a tokenizer's vocabulary is looked at once. Shapes: ``T`` captions of ``L``
tokens, ``V`` ids of the vocabulary.
"""

import json
from dataclasses import dataclass
from typing import NamedTuple, Self

import torch
from torch import Tensor

from textreid.captions.language import function_words
from textreid.models.tokenizer import Tokenizer

KEYS = 1 << 16  # of words; CLIP has 49,408 ids
_SPACE = "\u0120"  # how a byte-level vocabulary writes the space before a word
_IN_WORDS = "-'_"  # besides letters, digits and the bytes of other scripts
_PRIME = 31
_MIXING, _MIXED = 0x9E3779B1, 1 << 32


class Words(NamedTuple):
    """The words of captions.

    Attributes:
        first: (T, L) position of the first token of each token's word; of what is no word, its own.
        is_content: (T, L) true for tokens of words that could be wrong about a picture: no function words, no
            punctuation.
        keys: (2, T, L) below `KEYS`. The first is equal for equal words; words of several tokens may share one,
            those of one token not. The second is equal for equal pairs of a content word and the content word after it
            ("red jacket", whatever stands between); pairs may share one.
    """

    first: Tensor
    is_content: Tensor
    keys: Tensor

    @property
    def begins(self) -> Tensor:
        """(T, L) true for the first token of each content word."""
        return self.is_content & (self.first == torch.arange(self.first.shape[1], device=self.first.device))


@dataclass(frozen=True)
class WordPieces:
    """What each id of a vocabulary says about words; all are (V,) bool.

    Attributes:
        opens: never part of the word of the token before it.
        closes: the token after it is another word.
        glues: part of the word of the token before it, even if that closes.
        is_function: alone it is a function word, or punctuation. One that a vocabulary cuts up counts as content.
    """

    opens: Tensor
    closes: Tensor
    glues: Tensor
    is_function: Tensor

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> Self:
        """Look at each token of a vocabulary."""
        model = json.loads(tokenizer.to_json())["model"]
        suffix = model["end_of_word_suffix"] or ""
        flags = torch.zeros((4, tokenizer.vocabulary_size), dtype=torch.bool)
        for token, index in model["vocab"].items():
            text = token.removeprefix(_SPACE)
            ends = bool(suffix) and text.endswith(suffix)
            text = text.removesuffix(suffix) if ends else text
            first, last = (text[0], text[-1]) if text else (" ", " ")
            # A vocabulary with spaces tells them apart by those; CLIP's ends "t", "-" and "shirt" alike.
            if suffix:
                found = False, ends and last not in _IN_WORDS, first in _IN_WORDS
            else:
                found = token.startswith(_SPACE) or not _in_word(first), not _in_word(last), False
            function = text.lower() in function_words() or not any(map(_is_letter, text))
            flags[:, index] = torch.tensor((*found, function))
        return cls(*flags)

    def to(self, device: torch.device) -> Self:
        """Return the same on a device."""
        return type(self)(*(flag.to(device) for flag in (self.opens, self.closes, self.glues, self.is_function)))

    def words(self, ids: Tensor, is_word: Tensor) -> Words:
        """Put the tokens of captions together, given their ids and which are words in the sense of training."""
        before = ids.roll(1, dims=1)
        joins = (~self.opens[ids] & ~self.closes[before]) | self.glues[ids]
        joins &= is_word & is_word.roll(1, dims=1)
        joins[:, :1] = False
        positions = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
        first = torch.where(joins, 0, positions).cummax(dim=1).values
        alone = ~joins & ~torch.cat([joins[:, 1:], joins.new_zeros((len(ids), 1))], dim=1)
        # A number in base 31, of which a word of one token is one digit.
        digit = ids * _PRIME ** (positions - first).clamp(max=8) % KEYS
        key = torch.zeros_like(ids).scatter_add(1, first, digit).gather(1, first) % KEYS
        is_content = is_word & ~(alone & self.is_function[ids])
        begins = is_content & (first == positions)
        # The place where the next content word begins; the last column, where no word is, stands for none.
        places = torch.where(begins, positions, ids.shape[1] - 1).flip(1).cummin(dim=1).values.flip(1).roll(-1, dims=1)
        following = torch.where(begins, key, 0).gather(1, places.gather(1, first))
        pair = _spread(key * KEYS + following)
        return Words(first, is_content, torch.stack([key, pair]))


def _spread(numbers: Tensor) -> Tensor:
    """Map numbers to keys so that those that lie close together lie apart (Knuth, The Art of Programming, 6.4)."""
    return (numbers % _MIXED * _MIXING) % _MIXED * KEYS // _MIXED


def _in_word(character: str) -> bool:
    return _is_letter(character) or character in _IN_WORDS


def _is_letter(character: str) -> bool:
    # What is not ASCII stands for a byte of a letter of another script.
    return character.isalnum() or not character.isascii()
