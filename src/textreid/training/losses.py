"""Losses over a batch of image and text features, or of scores. They see features and labels, never a model.

Shapes: ``B`` images, ``T`` texts (``T = B`` when every image has one caption in the batch), ``D`` dimensions,
``C`` identities, ``K`` masked words, ``V`` ids of a vocabulary.
"""

import math

import torch
import torch.nn.functional as F  # noqa: N812 (the usual name)
from torch import Tensor

from textreid.config import LossConfig

_EPSILON = 1e-8  # of Eq. 6: keeps the logarithm of a zero target finite
_LEAST_WEIGHT = 1e-6


def contrastive_losses(
    image_features: Tensor,
    text_features: Tensor,
    labels: Tensor,
    text_labels: Tensor,
    config: LossConfig,
    text_weights: Tensor | None = None,
) -> dict[str, Tensor]:
    """Compute those of `sdm`, `itc` and `cmpm` that take part, by name and not weighted; arguments are theirs."""
    features, temperature = (image_features, text_features), config.temperature
    losses = {
        "sdm": lambda: sdm(*features, labels, temperature, text_labels, text_weights),
        "itc": lambda: itc(*features, labels, temperature, text_labels, text_weights),
        "cmpm": lambda: cmpm(*features, labels, text_labels, text_weights),
    }
    return {name: losses[name]() for name in config.weights() if name in losses}


def chance_levels(labels: Tensor, text_labels: Tensor, identities: int, config: LossConfig) -> dict[str, float]:
    """Compute each loss where all images and texts have one and the same vector: the mark a run has to get below.

    A network that collapses to one vector stays there: from there no gradient tells images apart. ``mlm`` is left out:
    the frequency of words alone lowers it.

    Args:
        labels: (B,) of the images of one batch.
        text_labels: (T,) of its texts.
        identities: that the ``id`` loss tells apart.
        config: which losses take part.
    """
    # Equal vectors give equal logits whatever the vector and the temperature, so one of ones will do.
    alike = torch.ones(len(labels), 1), torch.ones(len(text_labels), 1)
    losses = contrastive_losses(*alike, labels, text_labels, config)
    levels = {name: float(loss) for name, loss in losses.items()}
    # Cross-entropy of a uniform guess among the identities.
    return levels | ({"id": math.log(identities)} if config.id else {})


def sdm(
    image_features: Tensor,
    text_features: Tensor,
    labels: Tensor,
    temperature: float = 0.02,
    text_labels: Tensor | None = None,
    text_weights: Tensor | None = None,
) -> Tensor:
    """Compute Similarity Distribution Matching: KL(predicted ‖ true) in both directions (Tan et al. 2024, Eq. 5-7).

    The prediction ``p`` is the softmax of cosine similarities over the other modality; the truth ``q`` spreads
    evenly over everything with the same label. The result can fall below 0 by the epsilon of Eq. 6 only.

    With weights, a text counts as much as its weight: in the mean over texts, in the truth of its images (which spreads
    in proportion) and, by the mean weight of an image's texts, in the mean over images.

    Args:
        image_features: (B, D), of any length; normalised here.
        text_features: (T, D), likewise.
        labels: (B,) identity of each image; equal labels are positives.
        temperature: divides the cosines.
        text_labels: (T,) identity of each text; ``labels`` when None, and then T must equal B.
        text_weights: (T,) from 0 on; all alike when None.

    Returns:
        Scalar, float32.

    Raises:
        ValueError: the shapes do not fit together.
    """
    logits, pairs = _compare(image_features, text_features, labels, text_labels, temperature, text_weights)
    # Eq. 7: rows are images in the first term (image to text) and texts in the second.
    return _kl_to_targets(logits, pairs) + _kl_to_targets(logits.T, pairs.T)


def itc(
    image_features: Tensor,
    text_features: Tensor,
    labels: Tensor,
    temperature: float = 0.05,
    text_labels: Tensor | None = None,
    text_weights: Tensor | None = None,
) -> Tensor:
    """Compute image-text contrast with several positives: cross-entropy against the targets of `sdm`, both directions.

    With distinct labels this is InfoNCE as in CLIP (Radford et al. 2021), summed over the directions.
    Arguments, result and errors are those of `sdm`.
    """
    logits, pairs = _compare(image_features, text_features, labels, text_labels, temperature, text_weights)
    return _cross_entropy_to_targets(logits, pairs) + _cross_entropy_to_targets(logits.T, pairs.T)


def cmpm(
    image_features: Tensor,
    text_features: Tensor,
    labels: Tensor,
    text_labels: Tensor | None = None,
    text_weights: Tensor | None = None,
) -> Tensor:
    """Compute Cross-Modal Projection Matching: KL(predicted ‖ true) in both directions (Zhang & Lu 2018, Eq. 1-4).

    As `sdm`, but the prediction is the softmax of scalar projections: of the features of one modality, in their own
    length, onto the unit features of the other. So there is no temperature, and the length of features matters.
    Arguments, result and errors are those of `sdm`.
    """
    pairs = _pairs(image_features, text_features, labels, text_labels, text_weights)
    with torch.autocast(image_features.device.type, enabled=False):
        images, texts = image_features.float(), text_features.float()
        onto_texts, onto_images = images @ F.normalize(texts, dim=1).T, texts @ F.normalize(images, dim=1).T
    return _kl_to_targets(onto_texts, pairs) + _kl_to_targets(onto_images, pairs.T)


def id_loss(
    image_scores: Tensor,
    text_scores: Tensor,
    labels: Tensor,
    text_labels: Tensor | None = None,
    counts: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Compute classification by identity: mean of the cross-entropies of both modalities (Jiang & Ye, CVPR 2023, §3.4).

    Args:
        image_scores: (B, C), one a known identity.
        text_scores: (T, C), likewise.
        labels: (B,) identity of each image; one outside ``0 … C - 1`` is unknown and left out.
        text_labels: (T,) likewise; ``labels`` when None, and then T must equal B.
        counts: known images and texts of the batch that these are a part of: the losses of its parts add up to its own.

    Returns:
        Scalar, float32; a modality without a known identity counts 0.

    Raises:
        ValueError: the shapes do not fit together.
    """
    text_labels = labels if text_labels is None else text_labels
    _check(image_scores, text_scores, labels, text_labels)
    images, texts = counts or (None, None)
    return (_classify(image_scores, labels, images) + _classify(text_scores, text_labels, texts)) / 2


def mlm(scores: Tensor, ids: Tensor, count: Tensor | None = None) -> Tensor:
    """Compute masked language modelling: mean cross-entropy of the original ids (Jiang & Ye, CVPR 2023, Eq. 4).

    Args:
        scores: (K, V) of every id at the masked positions.
        ids: (K,) that stood there.
        count: masked words of the batch that these are a part of: the losses of its parts add up to its own.

    Returns:
        Scalar, float32; 0 without a masked word.

    Raises:
        ValueError: the shapes do not fit together.
    """
    if scores.ndim != 2 or ids.shape != scores.shape[:1]:
        raise ValueError(f"an id per row of scores (K, V): {_shape(ids)} for {_shape(scores)}")
    return _classify(scores, ids, count)


def known_labels(labels: Tensor, classes: int) -> Tensor:
    """Tell which of the labels name one of the classes."""
    return (labels >= 0) & (labels < classes)


def _classify(scores: Tensor, labels: Tensor, count: Tensor | None) -> Tensor:
    """Sum the cross-entropies of the rows whose label is a column, over ``count``, else their own; 0 without any."""
    known = known_labels(labels, scores.shape[1])
    # Unknown labels may be any number, and cross_entropy ignores one number only.
    total = F.cross_entropy(scores.float(), torch.where(known, labels, -1), ignore_index=-1, reduction="sum")
    return total / (known.sum() if count is None else count).clamp(min=1)


def _compare(
    image_features: Tensor,
    text_features: Tensor,
    labels: Tensor,
    text_labels: Tensor | None,
    temperature: float,
    text_weights: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Return cosines over temperature (B, T) in float32, and `_pairs`."""
    pairs = _pairs(image_features, text_features, labels, text_labels, text_weights)
    # Autocast would compute the product in bfloat16, whose steps of 0.4 % become 20 % after 1 / temperature.
    with torch.autocast(image_features.device.type, enabled=False):
        images = F.normalize(image_features.float(), dim=1)
        texts = F.normalize(text_features.float(), dim=1)
        return images @ texts.T / temperature, pairs


def _pairs(
    images: Tensor, texts: Tensor, labels: Tensor, text_labels: Tensor | None, text_weights: Tensor | None
) -> Tensor:
    """Return whether labels are equal (B, T), bool; or, with weights, the weight of each pair that are, float32."""
    text_labels = labels if text_labels is None else text_labels
    _check(images, texts, labels, text_labels)
    same = labels[:, None] == text_labels[None, :]
    if text_weights is None:
        return same
    if text_weights.shape != text_labels.shape:
        raise ValueError(f"a weight per text: {_shape(text_weights)} for texts {_shape(texts)}")
    # Above 0, so that a pair that counts nothing can be told from none.
    return torch.where(same, text_weights.float().clamp(min=_LEAST_WEIGHT), 0.0)


def _check(images: Tensor, texts: Tensor, labels: Tensor, text_labels: Tensor) -> None:
    if images.ndim != 2 or texts.ndim != 2 or images.shape[1] != texts.shape[1]:
        raise ValueError(f"features must be (B, D) and (T, D): {_shape(images)}, {_shape(texts)}")
    if labels.shape != images.shape[:1] or text_labels.shape != texts.shape[:1]:
        raise ValueError(
            f"a label per feature: {_shape(labels)} for images {_shape(images)}, "
            f"{_shape(text_labels)} for texts {_shape(texts)}"
        )


def _targets(pairs: Tensor) -> Tensor:
    """Spread a distribution over the positives of each row by their weights (Eq. 5, q); without one it is all zero."""
    return pairs / pairs.sum(dim=1, keepdim=True).clamp(min=_LEAST_WEIGHT)


def _mean(rows: Tensor, pairs: Tensor) -> Tensor:
    """Return the mean over rows, each by the mean weight of its pairs where these have weights."""
    if pairs.dtype == torch.bool:
        return rows.mean()
    weights = pairs.sum(dim=1) / (pairs > 0).sum(dim=1).clamp(min=1)
    return (weights * rows).sum() / weights.sum().clamp(min=_LEAST_WEIGHT)


def _kl_to_targets(logits: Tensor, pairs: Tensor) -> Tensor:
    """Compute one direction: the mean over rows of ``sum_j p_ij log(p_ij / (q_ij + epsilon))`` (Eq. 6)."""
    # At a low temperature p underflows to 0, and the logarithm of a plain softmax to -inf: NaN as a product.
    log_p = F.log_softmax(logits, dim=1)
    return _mean((log_p.exp() * (log_p - (_targets(pairs) + _EPSILON).log())).sum(dim=1), pairs)


def _cross_entropy_to_targets(logits: Tensor, pairs: Tensor) -> Tensor:
    # No epsilon here: only the prediction stands in the logarithm.
    return -_mean((_targets(pairs) * F.log_softmax(logits, dim=1)).sum(dim=1), pairs)


def _shape(tensor: Tensor) -> tuple[int, ...]:
    return tuple(tensor.shape)
