"""Forward and backward passes of one step, for the whole batch at once or for one micro-batch after the other.

Contrastive losses compare every image with every text of the *global* batch, so a batch cannot simply be cut: the
gradient of a micro-batch depends on the features of all others. GradCache (Gao et al. 2021) cuts it nevertheless:

1. Encode all micro-batches without keeping what a backward pass would need, and keep their features only.
2. Compute the losses from the features of the whole batch, and the gradient of the losses at these features.
3. Encode each micro-batch once more, and propagate the gradient at its features back into the network.

A batch that fits skips the first step. Processes fit in as micro-batches do: each computes the losses of the global
batch from the features of all (the products are small beside the towers), and trains its share of the images by the
gradient at their features. So neither the number of processes nor the size of micro-batches changes the result.

Shapes: ``B`` images and ``T`` captions of up to ``L`` tokens in the batch, of which a micro-batch has ``b`` and ``t``;
``D`` dimensions.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from textreid.config import LossConfig
from textreid.training.batch import Batch, MicroBatch
from textreid.training.losses import contrastive_losses, id_loss, known_labels, mlm
from textreid.training.masking import MaskedTokens
from textreid.training.network import Outputs, TrainedNetwork
from textreid.training.processes import synced_if
from textreid.training.scorers.scorer import WordScorer, check_noise

Losses = dict[str, Tensor]


class Features(NamedTuple):
    """Features (B, D) of images and (T, D) of texts, or the gradients at them."""

    images: Tensor
    texts: Tensor


def forward_backward(
    network: nn.Module, batch: Batch, masked: MaskedTokens, config: LossConfig, scorer: WordScorer | None = None
) -> tuple[Losses, Tensor]:
    """Encode a batch with its masked captions, and add the gradient of the losses to the parameters.

    Args:
        network: `TrainedNetwork`, or what `Processes.wrap` made of it.
        batch: with augmented images.
        masked: the captions that the losses see.
        config: weights of the losses.
        scorer: scores the full captions with the weights of this pass, and the network's refinements say what that
            means; without one, all words are equally noisy.

    Returns:
        Each loss of the whole batch and their weighted sum ``loss``, detached; and the noise (T, L) of each word.

    Raises:
        TextReidError: what the scorer gives has another shape, or is not finite.
    """
    passes = _whole_batch if batch.fits else _micro_batches
    losses, noise, images = passes(network, batch, masked, config, scorer)
    losses = _sum_up(batch, losses, config)
    if not scorer:
        return losses, torch.zeros(batch.ids.shape, device=batch.ids.device)
    noise, refinements = batch.gather_captions(noise), _unwrap(network).refinements
    return losses, refinements(noise, batch, images) if refinements else noise


def _whole_batch(
    network: nn.Module, batch: Batch, masked: MaskedTokens, config: LossConfig, scorer: WordScorer | None
) -> tuple[Losses, Tensor, Tensor]:
    """Take this process' share of a batch in one forward and one backward pass; gives all image features too."""
    (own,) = batch.micro_batches()
    outputs = _encode(network, own, masked)
    features = _gather(batch, [Features(outputs.image_features, outputs.text_features)])
    losses, feature_grads = _compare(batch, masked, features, config)
    losses |= _backward(network, batch, own, masked, outputs, feature_grads, config)
    return losses, _score(network, own, outputs, features.images, scorer), features.images


def _micro_batches(
    network: nn.Module, batch: Batch, masked: MaskedTokens, config: LossConfig, scorer: WordScorer | None
) -> tuple[Losses, Tensor, Tensor]:
    """Take this process' share of a batch in micro-batches, by the three steps at the top of this file."""
    micro_batches, noise = batch.micro_batches(), []
    features = _gather(batch, [_encode_features(network, micro, masked) for micro in micro_batches])  # step 1
    losses, feature_grads = _compare(batch, masked, features, config)  # step 2
    for micro in micro_batches:  # step 3
        # The forward pass belongs inside too: there DDP decides whether the backward pass exchanges gradients.
        with synced_if(micro is micro_batches[-1], network):
            outputs = _encode(network, micro, masked)
            shares = _backward(network, batch, micro, masked, outputs, feature_grads, config)
        losses |= {name: losses.get(name, 0) + share for name, share in shares.items()}
        noise.append(_score(network, micro, outputs, features.images, scorer))
    return losses, torch.cat(noise), features.images


def _encode(network: nn.Module, micro: MicroBatch, masked: MaskedTokens) -> Outputs:
    of_micro = masked.of(micro.captions)
    outputs: Outputs = network(micro.pixels, of_micro.ids, micro.lengths, micro.image_index, of_micro.is_predicted)
    return outputs


@torch.no_grad()
def _encode_features(network: nn.Module, micro: MicroBatch, masked: MaskedTokens) -> Features:
    # The towers alone, not `forward`: the losses of the heads compare no rows, so step 2 does without them.
    trained = _unwrap(network)
    with trained.autocast():
        texts = trained.encoder.encode_text(masked.ids[micro.captions], micro.lengths)
        return Features(trained.encoder.encode_image(micro.pixels), texts)


def _gather(batch: Batch, own: Sequence[Features]) -> Features:
    """Gather the features of the global batch, detached."""
    images, texts = (torch.cat(rows).detach().float() for rows in zip(*own, strict=True))
    return Features(batch.gather_images(images), batch.gather_captions(texts))


def _compare(batch: Batch, masked: MaskedTokens, found: Features, config: LossConfig) -> tuple[Losses, Features | None]:
    """Compute the losses of the global batch that compare its features, and the gradient of their sum at these."""
    # Leaves of a graph that ends here; `_backward` takes the gradient at them on into the towers.
    features = Features(*(rows.detach().requires_grad_() for rows in found))
    losses = contrastive_losses(*features, batch.labels, batch.labels[batch.image_index], config, masked.weights)
    if not losses:
        return {}, None
    total = torch.stack([getattr(config, name) * loss for name, loss in losses.items()]).sum()
    return _detach(losses), Features(*torch.autograd.grad(total, features))


def _backward(
    network: nn.Module, batch: Batch, micro: MicroBatch, masked: MaskedTokens, outputs: Outputs,
    feature_grads: Features | None, config: LossConfig,
) -> Losses:  # fmt: skip
    """Add the gradient of a micro-batch; returns its shares of the losses that predict something of each row."""
    shares = _predict(batch, micro, masked, outputs, config)
    roots = [(share, share.new_full((), getattr(config, name))) for name, share in shares.items()]
    if feature_grads:
        roots.append((outputs.image_features, feature_grads.images[micro.images]))
        roots.append((outputs.text_features, feature_grads.texts[micro.captions]))
    # DDP averages the gradients of the processes, but what they have are shares of a sum.
    scaler, count = _unwrap(network).scaler, batch.processes.count
    # Scaled before the cast: under fp16 the features are float16, in which small gradients would be 0.
    gradients = [scaler.scale(count * gradient).to(root.dtype) for root, gradient in roots]
    # All roots in one backward pass: DDP expects one for each forward pass.
    torch.autograd.backward([root for root, _ in roots], gradients)
    return _detach(shares)


def _predict(batch: Batch, micro: MicroBatch, masked: MaskedTokens, outputs: Outputs, config: LossConfig) -> Losses:
    """Compute a micro-batch's shares of the losses ``id`` and ``mlm``: over the counts of the whole batch."""
    shares = {}
    if config.id:
        labels, classes = batch.labels, outputs.image_identities.shape[1]
        of_texts = labels[batch.image_index]
        counts = (known_labels(labels, classes).sum(), known_labels(of_texts, classes).sum())
        of_micro = labels[micro.images], of_texts[micro.captions]
        shares["id"] = id_loss(outputs.image_identities, outputs.text_identities, *of_micro, counts)
    if config.mlm:
        is_predicted = masked.is_predicted
        shares["mlm"] = mlm(outputs.words, micro.ids[is_predicted[micro.captions]], is_predicted.sum())
    return shares


def _score(
    network: nn.Module, micro: MicroBatch, outputs: Outputs, images: Tensor, scorer: WordScorer | None
) -> Tensor:
    # Without a scorer the zeros only fill a place: `forward_backward` makes those that count.
    if not scorer:
        return torch.zeros(micro.ids.shape)
    return check_noise(scorer, scorer.noise(_unwrap(network), micro, outputs, images), micro.is_word)


def _sum_up(batch: Batch, losses: Losses, config: LossConfig) -> Losses:
    """Add up the shares of the processes, and the losses by their weights."""
    weights = config.weights()
    shared = [name for name in ("id", "mlm") if name in weights]
    if shared:
        sums = batch.processes.all_reduce(torch.stack([losses[name] for name in shared]))
        losses = losses | dict(zip(shared, sums, strict=True))
    return {"loss": torch.stack([weight * losses[name] for name, weight in weights.items()]).sum(), **losses}


def _detach(losses: Losses) -> Losses:
    return {name: loss.detach() for name, loss in losses.items()}


def _unwrap(network: nn.Module) -> TrainedNetwork:
    module: TrainedNetwork = network.module if isinstance(network, DistributedDataParallel) else network  # type: ignore[assignment]
    return module
