"""What was read from a model's files, and what became of each tensor in them."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Self

import torch

from textreid.config import ModelConfig
from textreid.models.presence import Presence
from textreid.models.tokenizer import Tokenizer

_NAMED_AT_MOST = 4  # ignored tensors in the summary


@dataclass(frozen=True)
class KeyReport:
    """What became of each tensor of a file: every name is either in `loaded` or in `ignored`.

    Attributes:
        source: the file or folder.
        layout: whose layout it has, in words.
        loaded: name in the file -> the names in `DualEncoder` that it fills.
        resized: of those loaded, the ones that were fitted -> how, as in ``"14x14 to 24x8 patches"``.
        ignored: name in the file -> why it is not used.
        notes: what the tensors do not say by themselves, and where it was taken from.
    """

    source: str
    layout: str
    loaded: Mapping[str, tuple[str, ...]]
    resized: Mapping[str, str] = field(default_factory=dict)
    ignored: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def with_resized(self, ours: str, how: str) -> Self:
        """Return the report after the tensor of that name in `DualEncoder` was fitted."""
        theirs = next(name for name, names in self.loaded.items() if ours in names)
        return replace(self, resized={**self.resized, theirs: how})

    @property
    def summary(self) -> str:
        """One line."""
        parts = [f"{len(self.loaded)} tensors loaded"]
        parts += [f"{name} resized from {how}" for name, how in self.resized.items()]
        if self.ignored:
            names = list(self.ignored)
            more = ", …" if len(names) > _NAMED_AT_MOST else ""
            parts.append(f"{len(names)} ignored ({', '.join(names[:_NAMED_AT_MOST])}{more})")
        return f"{self.source}: {self.layout}: {', '.join(parts)}"

    def __str__(self) -> str:
        """Show the summary, the notes, and a line for each tensor."""
        lines = [self.summary, *(f"note     {note}" for note in self.notes)]
        for name, ours in self.loaded.items():
            how = f" (from {self.resized[name]})" if name in self.resized else ""
            lines.append(f"{'resized' if how else 'loaded '}  {name} -> {', '.join(ours)}{how}")
        lines += [f"ignored  {name}: {reason}" for name, reason in self.ignored.items()]
        return "\n".join(lines)


class Source(NamedTuple):
    """A model as it was read: float32 weights under the names of `DualEncoder`."""

    config: ModelConfig
    tokenizer: Tokenizer
    weights: dict[str, torch.Tensor]
    report: KeyReport
    selected_on: str | None = None
    presence: Presence | None = None


def resize_note(config: ModelConfig) -> str:
    """Say how pictures are resized: the features of a checkpoint are its own only with its own resize."""
    decoding = (
        "large JPEGs are decoded at a part of their size" if config.reduced_decoding else "JPEGs are decoded in full"
    )
    return f"pictures are resized by {config.interpolation} interpolation, {decoding}"
