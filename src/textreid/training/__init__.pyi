from .dataset import annotated_people as annotated_people, captioned_images as captioned_images
from .losses import cmpm as cmpm, id_loss as id_loss, itc as itc, mlm as mlm, sdm as sdm
from .masking import (
    MaskedTokens as MaskedTokens,
    mask_tokens as mask_tokens,
    masking_probabilities as masking_probabilities,
)
from .noise_table import NoiseTable as NoiseTable
from .plots import plot_run as plot_run
from .recipe import train as train
from .scorers.patches import noise_levels as noise_levels
from .scorers.scorer import WordScorer as WordScorer
