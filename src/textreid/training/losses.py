"""Losses over a batch of image and text features. They see features and labels, never a model.

Shapes: ``B`` images, ``T`` texts (``T = B`` when every image has one caption in the batch), ``D`` dimensions.
"""

import torch
import torch.nn.functional as F  # noqa: N812 (the usual name)
from torch import Tensor

_EPSILON = 1e-8  # of Eq. 6: keeps the logarithm of a zero target finite


def sdm(
    image_features: Tensor,
    text_features: Tensor,
    labels: Tensor,
    temperature: float = 0.02,
    text_labels: Tensor | None = None,
) -> Tensor:
    """Similarity Distribution Matching: KL(predicted ‖ true) in both directions (Tan et al. 2024, Eq. 5-7).

    The prediction ``p`` is the softmax of cosine similarities over the other modality; the truth ``q`` spreads
    evenly over everything with the same label. The result can fall below 0 by the epsilon of Eq. 6 only.

    Args:
        image_features: (B, D), of any length; normalised here.
        text_features: (T, D), likewise.
        labels: (B,) identity of each image; equal labels are positives.
        temperature: divides the cosines.
        text_labels: (T,) identity of each text; ``labels`` when None, and then T must equal B.

    Returns:
        Scalar, float32.

    Raises:
        ValueError: the shapes do not fit together.
    """
    logits, same = _compare(image_features, text_features, labels, text_labels, temperature)
    return _kl_to_targets(logits, same) + _kl_to_targets(logits.T, same.T)


def itc(
    image_features: Tensor,
    text_features: Tensor,
    labels: Tensor,
    temperature: float = 0.05,
    text_labels: Tensor | None = None,
) -> Tensor:
    """Image-text contrast with several positives: cross-entropy against the targets of `sdm`, both directions.

    With distinct labels this is InfoNCE as in CLIP (Radford et al. 2021), summed over the directions.
    Arguments, result and errors are those of `sdm`.
    """
    logits, same = _compare(image_features, text_features, labels, text_labels, temperature)
    return _cross_entropy_to_targets(logits, same) + _cross_entropy_to_targets(logits.T, same.T)


def _compare(
    image_features: Tensor, text_features: Tensor, labels: Tensor, text_labels: Tensor | None, temperature: float
) -> tuple[Tensor, Tensor]:
    """Return cosines over temperature (B, T) in float32, and whether labels are equal (B, T)."""
    text_labels = labels if text_labels is None else text_labels
    if image_features.ndim != 2 or text_features.ndim != 2 or image_features.shape[1] != text_features.shape[1]:
        raise ValueError(f"features must be (B, D) and (T, D): {_shape(image_features)}, {_shape(text_features)}")
    if labels.shape != image_features.shape[:1] or text_labels.shape != text_features.shape[:1]:
        raise ValueError(
            f"a label per feature: {_shape(labels)} for images {_shape(image_features)}, "
            f"{_shape(text_labels)} for texts {_shape(text_features)}"
        )
    # Autocast would compute the product in bfloat16, whose steps of 0.4 % become 20 % after 1 / temperature.
    with torch.autocast(image_features.device.type, enabled=False):
        images = F.normalize(image_features.float(), dim=1)
        texts = F.normalize(text_features.float(), dim=1)
        return images @ texts.T / temperature, labels[:, None] == text_labels[None, :]


def _targets(same: Tensor) -> Tensor:
    """Even distribution over the positives of each row; a row without one is all zero."""
    return same / same.sum(dim=1, keepdim=True).clamp(min=1)


def _kl_to_targets(logits: Tensor, same: Tensor) -> Tensor:
    log_p = F.log_softmax(logits, dim=1)
    return (log_p.exp() * (log_p - (_targets(same) + _EPSILON).log())).sum(dim=1).mean()


def _cross_entropy_to_targets(logits: Tensor, same: Tensor) -> Tensor:
    return -(_targets(same) * F.log_softmax(logits, dim=1)).sum(dim=1).mean()


def _shape(tensor: Tensor) -> tuple[int, ...]:
    return tuple(tensor.shape)
