"""The scorer and the refinements that `masking.scorer` names."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from textreid.config import RANKING, Config
from textreid.models.tokenizer import Tokenizer
from textreid.training.batch import Batch
from textreid.training.scorers.attention import AttentionScorer
from textreid.training.scorers.centred import Centred
from textreid.training.scorers.discriminant import Discriminant
from textreid.training.scorers.gradient import Gradient
from textreid.training.scorers.leave_one_out import LeaveOneOut
from textreid.training.scorers.patches import PatchScorer
from textreid.training.scorers.posterior import ContentOnly, Posterior
from textreid.training.scorers.scorer import Refinement, Silent, WordScorer
from textreid.training.scorers.votes import Votes
from textreid.training.scorers.words import WordPieces


class Refinements(nn.Module):
    """The refinements of a run, one after the other; what they remember is in their buffers, and so in checkpoints."""

    def __init__(self, pieces: WordPieces, steps: Sequence[nn.Module]) -> None:
        super().__init__()
        self.steps = nn.ModuleList(steps)
        self._pieces = pieces

    def forward(self, noise: Tensor, batch: Batch, images: Tensor) -> Tensor:
        """Refine the noise (T, L) that a scorer gave of the words of a batch with image features (B, D)."""
        words = self._pieces.words(batch.ids, batch.is_word)
        for step in self.steps:
            refinement: Refinement = step  # type: ignore[assignment]
            noise = refinement.refine(noise, batch, words, images)
        return noise


def choose_scorer(
    config: Config, tokenizer: Tokenizer, device: torch.device
) -> tuple[WordScorer | None, Refinements | None]:
    """Make what scores the words of a run, and what refines it; None where words are masked without being scored.

    Args:
        config: whose ``masking`` tells; its dimensions and temperature are the model's and the losses'.
        tokenizer: of the run.
        device: of the network.
    """
    masking = config.masking
    if masking.method != "nam":
        return None, None
    named = masking.scorer_parts
    if named == ["patches"]:  # of the paper: nothing needs to know what the words are
        return PatchScorer(masking.layer), None
    pieces = WordPieces.of(tokenizer).to(device)
    steps: dict[str, nn.Module] = {}
    # First: a right word has evidence for it, and with a mean of 0 that of votes and discriminants would be lost.
    if "centred" in named:
        steps["centred"] = Centred()
    if "votes" in named:
        steps["votes"] = Votes()
    if "discriminant" in named:
        steps["discriminant"] = Discriminant(config.model.embedding_dim)
    if not set(named) & set(RANKING):
        steps["posterior"] = Posterior(masking.probability)
    if "content" in named:
        steps["content"] = ContentOnly()
    return _choose_base(config, named, pieces, tokenizer.mask_id), Refinements(pieces, list(steps.values()))


def _choose_base(config: Config, named: Sequence[str], pieces: WordPieces, mask_id: int) -> WordScorer:
    temperature, content = config.losses.temperature, "content" in named
    if "patches" in named:
        return PatchScorer(config.masking.layer)
    if "attention" in named:
        return AttentionScorer(temperature)
    if "gradient" in named:
        return Gradient(pieces, mask_id, temperature, content)
    if "tokens" in named or "words" in named:
        return LeaveOneOut(pieces, mask_id, temperature, "words" in named, content)
    return Silent()
