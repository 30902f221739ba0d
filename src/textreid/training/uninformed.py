"""What each loss is for a network that knows nothing: the mark that a run has to get below."""

import math

import torch
from torch import Tensor

from textreid.config import LossConfig
from textreid.training.losses import cmpm, itc, sdm


def uninformed_losses(config: LossConfig, labels: Tensor, text_labels: Tensor, identities: int) -> dict[str, float]:
    """Each loss of ``config``, not weighted, where all images and texts have one and the same vector.

    A network that collapses to one vector stays there: from there no gradient tells images apart. ``mlm`` is left out:
    the frequency of words alone lowers it.

    Args:
        config: which losses take part.
        labels: (B,) of the images of one batch.
        text_labels: (T,) of its texts.
        identities: that the ``id`` loss tells apart.
    """
    images, texts = torch.ones(len(labels), 1), torch.ones(len(text_labels), 1)
    losses = {
        "sdm": lambda: float(sdm(images, texts, labels, config.temperature, text_labels)),
        "itc": lambda: float(itc(images, texts, labels, config.temperature, text_labels)),
        "cmpm": lambda: float(cmpm(images, texts, labels, text_labels)),
        "id": lambda: math.log(identities),
    }
    return {name: losses[name]() for name in config.weights() if name in losses}
