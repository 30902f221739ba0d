"""Losses, masking, the noise table, checkpoints, and the recipe that puts them together."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from textreid.training.losses import cmpm, identity, itc, masked_words, sdm
    from textreid.training.masking import MaskedTokens, mask_tokens, masking_probabilities, noise_levels
    from textreid.training.noise_table import NoiseTable
    from textreid.training.plots import plot_run
    from textreid.training.recipe import finetune, pretrain

_HOME = {
    "MaskedTokens": "masking",
    "NoiseTable": "noise_table",
    "cmpm": "losses",
    "finetune": "recipe",
    "identity": "losses",
    "itc": "losses",
    "mask_tokens": "masking",
    "masked_words": "losses",
    "masking_probabilities": "masking",
    "noise_levels": "masking",
    "plot_run": "plots",
    "pretrain": "recipe",
    "sdm": "losses",
}

__all__ = [
    "MaskedTokens",
    "NoiseTable",
    "cmpm",
    "finetune",
    "identity",
    "itc",
    "mask_tokens",
    "masked_words",
    "masking_probabilities",
    "noise_levels",
    "plot_run",
    "pretrain",
    "sdm",
]


def __getattr__(name: str) -> Any:
    """Import a module when one of its names is used: the noise table needs no torch, the recipe needs everything."""
    if name in _HOME:
        import importlib

        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
