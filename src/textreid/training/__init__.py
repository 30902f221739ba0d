"""Losses, masking, the noise table, checkpoints, and the recipe that puts them together."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from textreid.training.interrupt import RunStoppedError
    from textreid.training.losses import itc, sdm
    from textreid.training.masking import MaskedTokens, mask_tokens, masking_probabilities, noise_levels
    from textreid.training.noise_table import NoiseTable
    from textreid.training.plots import plot_run
    from textreid.training.recipe import pretrain

_HOME = {
    "MaskedTokens": "masking",
    "NoiseTable": "noise_table",
    "RunStoppedError": "interrupt",
    "itc": "losses",
    "mask_tokens": "masking",
    "masking_probabilities": "masking",
    "noise_levels": "masking",
    "plot_run": "plots",
    "pretrain": "recipe",
    "sdm": "losses",
}

__all__ = [
    "MaskedTokens",
    "NoiseTable",
    "RunStoppedError",
    "itc",
    "mask_tokens",
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
