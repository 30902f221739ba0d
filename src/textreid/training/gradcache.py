"""One step of training: a batch in, changed weights out.

The batch is that of all processes, and each may take its share in portions. Losses that compare everything with
everything see the features of the whole batch; then each portion is trained by the gradient at its own features
(Gao et al. 2021, "GradCache"). So neither the number of processes nor the size of portions changes the result.

Shapes: ``B`` images and ``T`` captions of up to ``L`` tokens in the batch, of which this process has ``b`` and ``t``;
``D`` dimensions.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from textreid.models.device import to_device
from textreid.training.augmentation import Changes, augment, draw_changes
from textreid.training.loader import Batch, Part
from textreid.training.losses import cmpm, identity, itc, known_labels, masked_words, sdm
from textreid.training.masking import MaskedTokens, mask_tokens, masking_probabilities, noise_levels
from textreid.training.network import Outputs
from textreid.training.optimizer import update
from textreid.training.preparation import Run
from textreid.training.processes import add_up_at

_DRAWS = 2  # stream of random numbers, apart from those of the sampler


class Inputs(NamedTuple):
    """A batch on the device, with everything that is random about the step."""

    pixels: Tensor  # (b, 3, H, W) uint8
    first: int  # position of the first of the b among the B
    changes: Changes  # of B images
    ids: Tensor  # (T, L)
    masked: MaskedTokens  # (T, L)
    words: Tensor  # (T, L) bool: neither start, end nor padding
    lengths: Tensor  # (T,) on the CPU: sizes follow from them, and nobody waits for the device to tell them
    owners: Tensor  # (T,) position in the batch of each caption's image
    labels: Tensor  # (B,)


class Features(NamedTuple):
    """Features of images and texts, or the gradient at them."""

    images: Tensor
    texts: Tensor


def take_step(run: Run, step: int, batch: Batch, rate: float) -> dict[str, Tensor]:
    """Train on one batch; returns its losses, the share of words masked and, under NAM, their mean noise."""
    inputs = _draw(run, step, batch)
    size = run.config.training.micro_batch
    parts = batch.portions(size)
    whole = _forward(run, inputs, parts[0]) if batch.undivided(size) else None
    seen = [Features(whole.image_features, whole.text_features)] if whole else _preview(run, inputs, parts)
    losses, pull = _compare(run, batch, inputs, seen)
    noise = []
    for part in parts:
        with add_up_at(part is parts[-1], run.joined):
            outputs = whole or _forward(run, inputs, part)
            shares = _predict(run, inputs, part, outputs)
            _backward(run, part, outputs, pull, shares)
        losses = {**losses, **{name: losses.get(name, 0) + share.detach() for name, share in shares.items()}}
        if run.config.masking.method == "nam":  # with the weights of the image pass, so before they change
            noise.append(_score(run, inputs, part, outputs.patch_tokens))
    figures = _sum_up(run, losses) | {"mask_rate": inputs.masked.chosen.sum() / inputs.words.sum()}
    if noise:
        figures["noise"] = _renew_noise(run, batch, inputs, noise)
    update(run.network, run.optimizer, rate, run.config.optimizer.clip_norm)
    return figures


def _draw(run: Run, step: int, batch: Batch) -> Inputs:
    """Bring a batch to the device and draw how its images change and which words are masked."""
    config, device, tokenizer = run.config, run.compute.device, run.model.tokenizer
    arrays = (batch.pixels, batch.ids, batch.images, batch.owners)
    pixels, ids, images, owners = (to_device(torch.from_numpy(array), device) for array in arrays)
    lengths = torch.from_numpy(batch.lengths)
    state = np.random.SeedSequence((config.training.seed, step, _DRAWS)).generate_state(1, np.uint64)
    draws = torch.Generator(device).manual_seed(int(state[0]))
    changes = draw_changes(len(images), config.augmentation, draws)
    positions = torch.arange(ids.shape[1])
    words = to_device((positions > 0) & (positions < lengths[:, None] - 1), device)
    p = to_device(_probabilities(run, batch), device)
    masked = mask_tokens(ids, p, words, draws, tokenizer.mask_id, tokenizer.vocabulary_size)
    return Inputs(pixels, batch.first, changes, ids, masked, words, lengths, owners, run.labels[images])


def _probabilities(run: Run, batch: Batch) -> Tensor:
    """Masking probabilities (T, L) of this step's captions; the first process has the table."""
    masking, shape = run.config.masking, batch.ids.shape
    if masking.method != "nam":
        return torch.full(shape, masking.probability if masking.method == "em" else 0.0)
    p = torch.from_numpy(run.noise.read(batch.pairs, shape[1])) if run.noise else torch.empty(shape)
    return run.processes.copy_first(p)


def _pixels(run: Run, inputs: Inputs, images: slice) -> Tensor:
    """Augmented images of a part (b, 3, H, W)."""
    model = run.config.model
    pixels = inputs.pixels[images.start - inputs.first : images.stop - inputs.first]
    changes = inputs.changes.of(images)
    return augment(pixels, run.config.augmentation, changes, model.pixel_mean, model.pixel_std)


def _forward(run: Run, inputs: Inputs, part: Part) -> Outputs:
    images, captions = part
    with run.compute.autocast():
        outputs: Outputs = run.joined(
            _pixels(run, inputs, images),
            inputs.masked.ids[captions],
            inputs.lengths[captions],
            inputs.owners[captions] - images.start,
            inputs.masked.chosen[captions],
            run.config.masking.layer,
        )
    return outputs


@torch.no_grad()
def _preview(run: Run, inputs: Inputs, parts: Sequence[Part]) -> list[Features]:
    """The features of each part, without what a backward pass would need."""
    encoder, features = run.network.encoder, []
    for images, captions in parts:
        with run.compute.autocast():
            texts = encoder.encode_text(inputs.masked.ids[captions], inputs.lengths[captions])
            features.append(Features(encoder.encode_image(_pixels(run, inputs, images)), texts))
    return features


def _compare(
    run: Run, batch: Batch, inputs: Inputs, features: Sequence[Features]
) -> tuple[dict[str, Tensor], Features | None]:
    """Losses that compare images and texts of the whole batch, and the gradient of their sum at its features.

    Every process computes all of it: the products are small beside the towers, and no gradient has to travel.
    """
    config, labels, of_texts = run.config.losses, inputs.labels, inputs.labels[inputs.owners]
    own = [torch.cat(rows).detach().float() for rows in zip(*features, strict=True)]
    counts = (batch.shares.tolist(), batch.captions_by_process())
    images, texts = (
        run.processes.gather(rows, count).requires_grad_() for rows, count in zip(own, counts, strict=True)
    )
    known = {
        "sdm": lambda: sdm(images, texts, labels, config.temperature, of_texts),
        "itc": lambda: itc(images, texts, labels, config.temperature, of_texts),
        "cmpm": lambda: cmpm(images, texts, labels, of_texts),
    }
    weights = {name: weight for name, weight in config.weights().items() if name in known}
    losses = {name: known[name]() for name in weights}
    if not losses:
        return {}, None
    total = torch.stack([weight * losses[name] for name, weight in weights.items()]).sum()
    pull = Features(*torch.autograd.grad(total, (images, texts)))
    return {name: loss.detach() for name, loss in losses.items()}, pull


def _predict(run: Run, inputs: Inputs, part: Part, outputs: Outputs) -> dict[str, Tensor]:
    """Losses of what is predicted of each row by itself: this part's share of those of the whole batch."""
    weights, shares = run.config.losses.weights(), {}
    images, captions = part
    if "id" in weights:
        labels, classes = inputs.labels, outputs.image_identities.shape[1]
        of_texts = labels[inputs.owners]
        counts = (known_labels(labels, classes).sum(), known_labels(of_texts, classes).sum())
        shares["id"] = identity(
            outputs.image_identities, outputs.text_identities, labels[images], of_texts[captions], counts
        )
    if "mlm" in weights:
        chosen = inputs.masked.chosen
        shares["mlm"] = masked_words(outputs.words, inputs.ids[captions][chosen[captions]], chosen.sum())
    return shares


def _backward(run: Run, part: Part, outputs: Outputs, pull: Features | None, shares: dict[str, Tensor]) -> None:
    """Add the gradients of a part's share of all losses."""
    weights = run.config.losses.weights()
    goals = [(share, share.new_tensor(weights[name])) for name, share in shares.items()]
    if pull:
        goals.append((outputs.image_features, pull.images[part.images]))
        goals.append((outputs.text_features, pull.texts[part.captions]))
    # The gradients of the processes are averaged, but what they have are shares of a sum.
    gradients = [run.processes.count * gradient.to(of.dtype) for of, gradient in goals]
    torch.autograd.backward([of for of, _ in goals], gradients)


def _sum_up(run: Run, losses: dict[str, Tensor]) -> dict[str, Tensor]:
    """Every loss of the whole batch, and their weighted sum."""
    weights = run.config.losses.weights()
    shared = [name for name in ("id", "mlm") if name in weights]
    if shared:
        sums = run.processes.add(torch.stack([losses[name] for name in shared]))
        losses = losses | dict(zip(shared, sums, strict=True))
    return {"loss": torch.stack([weight * losses[name] for name, weight in weights.items()]).sum(), **losses}


@torch.no_grad()
def _score(run: Run, inputs: Inputs, part: Part, patches: Tensor) -> Tensor:
    """Noise (t, L) of the words of a part's full captions."""
    images, captions = part
    words, lengths = inputs.words[captions], inputs.lengths[captions]
    if not len(words):
        return words.float()
    with run.compute.autocast():
        tokens = run.network.encoder.text_tokens(inputs.ids[captions], lengths, run.config.masking.layer)
    return noise_levels(tokens, patches[inputs.owners[captions] - images.start], words)


def _renew_noise(run: Run, batch: Batch, inputs: Inputs, noise: Sequence[Tensor]) -> Tensor:
    """Set the words' probabilities for the next epoch by the noise of this process' parts; returns the mean noise."""
    masking = run.config.masking
    everywhere = run.processes.gather(torch.cat(list(noise)), batch.captions_by_process())
    if run.noise:
        p = masking_probabilities(everywhere, inputs.words, masking.probability, masking.exact_mean)
        run.noise.write(batch.pairs, p)
    return everywhere.sum() / inputs.words.sum()
