"""Oracle masking: the words that a captioner knows to be wrong are hidden, all of them and no others.

It is no method of training, but a bound in experiments: only a captioner that was told the truth knows its errors
(`textreid.captioning.backends.simulated`). What it gains over no masking is all that finding wrong words can gain.
"""

from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from textreid.errors import ConfigError
from textreid.models import Tokenizer
from textreid.models.device import to_device
from textreid.training.batch import Batch
from textreid.training.dataset import TrainingSet


class KnownErrors:
    """Stand-in for a `NoiseTable` that masks a word if it is wrong; ``is_wrong`` is (captions, text_length) bool."""

    def __init__(self, is_wrong: npt.NDArray[np.bool_]) -> None:
        self.is_wrong = is_wrong

    @classmethod
    def of(cls, data: TrainingSet, tokenizer: Tokenizer) -> Self:
        """Find the tokens of every caption that overlap with a known error.

        Raises:
            ConfigError: no error of these captions is known.
        """
        if not data.errors:
            raise ConfigError(
                f"masking.method: oracle masks the errors that a captioner knows, but none are known of the captions "
                f"of {data.root} (no errors.jsonl); only simulated MLLMs tell them"
            )
        is_wrong = np.zeros((len(data), tokenizer.text_length), dtype=bool)
        for caption, spans in data.errors.items():
            is_wrong[caption] = wrong_tokens(tokenizer, str(data.captions[caption]), spans)
        return cls(is_wrong)

    def probabilities(self, batch: Batch) -> Tensor:
        """Return 1 for the wrong words of a batch and 0 for all else, (T, L)."""
        wrong = torch.from_numpy(self.is_wrong[batch.caption_index, : batch.ids.shape[1]]).float()
        return to_device(wrong, batch.ids.device)

    def update(self, batch: Batch, probabilities: Tensor) -> None:
        """Do nothing: what is wrong is known from the first epoch on."""


def wrong_tokens(tokenizer: Tokenizer, text: str, spans: tuple[tuple[int, int], ...]) -> npt.NDArray[np.bool_]:
    """Tell which of a text's tokens overlap with half-open character spans: (text_length,) bool, the start first."""
    is_wrong = np.zeros(tokenizer.text_length, dtype=bool)
    # The last place is the end's, where a text fills them all.
    for position, (_, start, stop) in enumerate(tokenizer.pieces(text)[: tokenizer.text_length - 2], start=1):
        is_wrong[position] = any(start < high and low < stop for low, high in spans)
    return is_wrong
