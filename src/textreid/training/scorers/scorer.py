"""What a scorer of words is, and the check of what it gives.

Shapes: ``b`` images and ``t`` captions of up to ``L`` tokens in a micro-batch, ``B`` and ``T`` in the batch; ``D``
dimensions.
"""

from typing import Protocol

from torch import Tensor

from textreid.errors import TextReidError
from textreid.training.batch import Batch, MicroBatch
from textreid.training.network import Outputs, TrainedNetwork
from textreid.training.scorers.words import Words


class WordScorer(Protocol):
    """Scorer of the words of captions: how badly each fits its image. Any that has this method can train a model.

    It is asked once for each micro-batch, between its forward pass and the change of the weights.
    """

    def noise(self, network: TrainedNetwork, batch: MicroBatch, outputs: Outputs, images: Tensor) -> Tensor:
        """Return the noise (t, L) of each word of the full captions, float32; 0 where there is no word.

        Args:
            network: as it is before the step changes it; encode what you need with ``network.encoder``, inside
                ``network.autocast()`` and with or without gradients.
            batch: the images and captions, with the position of each caption's image.
            outputs: of the forward pass over these images and their *masked* captions; to keep the gradients of the
                losses apart, take them with `torch.autograd.grad` only, of passes of your own.
            images: (B, D) features of all images of the step, detached; those of the micro-batch are ``batch.images``.
        """


class Refinement(Protocol):
    """Change to the noise of all words of a step; the network keeps those that a run has, and what they remember."""

    def refine(self, noise: Tensor, batch: Batch, words: Words, images: Tensor) -> Tensor:
        """Return the noise (T, L) that takes the place of ``noise`` (T, L).

        Args:
            noise: of a scorer, or of the refinement before; of all processes, which compute alike from here on.
            batch: without the pixels of other processes.
            words: of its captions.
            images: (B, D) features of its images, detached.
        """


class Silent:
    """Scorer that says nothing, for refinements that bring their own evidence."""

    def noise(self, network: TrainedNetwork, batch: MicroBatch, outputs: Outputs, images: Tensor) -> Tensor:
        """Return zeros."""
        return batch.is_word.float().zero_()


def check_noise(scorer: object, noise: Tensor, is_word: Tensor) -> Tensor:
    """Return the noise that ``scorer`` gave of words (t, L).

    Raises:
        TextReidError: it has another shape, or is not finite; names the scorer.
    """
    name = type(scorer).__name__
    if noise.shape != is_word.shape:
        raise TextReidError(
            f"the scorer {name} gave noise of shape {tuple(noise.shape)}; the captions have {tuple(is_word.shape)}"
        )
    # A GPU would have to be waited for: there the noise table finds it, when the values arrive.
    if noise.device.type == "cpu" and not noise.isfinite().all():
        raise TextReidError(
            f"the scorer {name} gave a noise that is not a finite number: the scorer is at fault, or the training "
            "has diverged; lower optimizer.learning_rate"
        )
    return noise
