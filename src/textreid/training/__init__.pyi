from .losses import cmpm as cmpm, identity as identity, itc as itc, masked_words as masked_words, sdm as sdm
from .masking import (
    MaskedTokens as MaskedTokens,
    mask_tokens as mask_tokens,
    masking_probabilities as masking_probabilities,
    noise_levels as noise_levels,
)
from .noise_table import NoiseTable as NoiseTable
from .plots import plot_run as plot_run
from .recipe import finetune as finetune, pretrain as pretrain
