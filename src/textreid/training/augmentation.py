"""Random changes of training images, a whole batch at once on its device.

Shapes: ``B`` images of 3 × ``H`` × ``W``. Each image gets its own draw. Geometry comes first, then resolution,
colour and noise as a camera would add them, and erasing last.
"""

import math
from dataclasses import replace
from typing import NamedTuple, Self

import torch
import torch.nn.functional as F  # noqa: N812 (the usual name)
from torch import Tensor

from textreid.config import AugmentationConfig, ModelConfig
from textreid.training.batch import Batch

_LUMA = (0.299, 0.587, 0.114)
_ERASE_ASPECTS = (0.3, 3.3)  # of random erasing as published (Zhong et al. 2020)
_ERASE_TRIES = 10


class Changes(NamedTuple):
    """Changes of each of ``B`` images: random numbers in [0, 1), drawn once and used as often as needed.

    A change that the settings leave out has no columns.
    """

    move: Tensor  # (B, 4): zoom, shift down, shift right, flip
    blur: Tensor  # (B, 2): whether, and how much (the same for all)
    colour: Tensor  # (B, 7): brightness, contrast, saturation, cast of three channels, gamma
    noise: Tensor  # (B, 1): strength
    grain: Tensor  # (B,) int64: seed of the noise itself, which takes as much memory as the images
    erase: Tensor  # (B, tries, 5): area, aspect, top, left, whether

    def of(self, images: slice) -> Self:
        """Return the changes of some of the images."""
        return type(self)(*(draws[images] for draws in self))


def augment_batch(batch: Batch, config: AugmentationConfig, model: ModelConfig, generator: torch.Generator) -> Batch:
    """Change the images of a batch at random, and normalise them for a model; other processes draw the same changes.

    Maps of a trunk, which were made of unchanged images, stay as they are.
    """
    # Drawn in any case: words are masked by what is drawn next, and masks shall not depend on what is kept in memory.
    changes = draw_changes(len(batch.images), config, generator).of(batch.own_images)
    if batch.pixels.dtype == torch.float16:
        return replace(batch, pixels=batch.pixels.float())
    return replace(batch, pixels=augment(batch.pixels, config, changes, model.pixel_mean, model.pixel_std))


def draw_changes(count: int, config: AugmentationConfig, generator: torch.Generator) -> Changes:
    """Draw the changes of ``count`` images, on the device of ``generator``."""

    def draw(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, device=generator.device)

    none = torch.zeros((count, 0), device=generator.device)
    move = draw(4, count).T
    blur = draw(count + 1) if config.blur else none
    return Changes(
        move=move,
        blur=torch.stack([blur[:-1], blur[-1].expand(count)], dim=1) if config.blur else none,
        colour=torch.cat([draw(count, channels) for channels in (1, 1, 1, 3, 1)], dim=1) if config.colour else none,
        noise=draw(count, 1) if config.noise else none,
        grain=torch.randint(1 << 62, (count,), generator=generator, device=generator.device) if config.noise else none,
        erase=draw(5, count, _ERASE_TRIES).permute(1, 2, 0) if config.erase else none,
    )


def augment(
    pixels: Tensor,
    config: AugmentationConfig,
    changes: Changes,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
) -> Tensor:
    """Change images at random and normalise them.

    Args:
        pixels: (B, 3, H, W) uint8; not written to.
        config: what may change and how much.
        changes: of these images, drawn with the same settings.
        mean: of each channel, in [0, 1]; also the colour of erased areas.
        std: of each channel.

    Returns:
        (B, 3, H, W) float32: pixels in [0, 1] less the mean, over the standard deviation.
    """
    images = _move(pixels.float() / 255, config, changes.move)
    if config.blur and len(images):
        images = _lose_resolution(images, config.blur, changes.blur)
    if config.colour:
        images = _recolour(images, config.colour, changes.colour)
    if config.noise:
        images = images + config.noise * changes.noise[:, :, None, None] * _grain(images, changes.grain)
    if config.blur or config.colour or config.noise:
        images = images.clamp(0, 1)
    images = (images - _per_channel(mean, images)) / _per_channel(std, images)
    if config.erase:
        images = _erase(images, config, changes.erase)
    return images


def _per_channel(values: tuple[float, float, float], images: Tensor) -> Tensor:
    """Shape three numbers as (3, 1, 1) on the device of the images, which a copy from the CPU would wait for."""
    return torch.stack([images.new_full((1, 1), value) for value in values])


def _move(images: Tensor, config: AugmentationConfig, draws: Tensor) -> Tensor:
    """Flip, zoom, pad with black and crop, as one product with a matrix on either side."""
    height, width = images.shape[2:]
    zoom = torch.exp((2 * draws[:, 0] - 1) * math.log1p(config.scale))
    shift = (draws[:, 1:3] * (2 * config.pad + 1)).floor() - config.pad
    rows = _resampling(height, zoom, shift[:, 0], torch.ones_like(zoom))
    columns = _resampling(width, zoom, shift[:, 1], torch.where(draws[:, 3] < config.flip, -1.0, 1.0))
    return rows[:, None] @ images @ columns[:, None].transpose(2, 3)


def _resampling(size: int, zoom: Tensor, shift: Tensor, direction: Tensor) -> Tensor:
    """Make matrices (B, size, size) that interpolate linearly; whole shifts without zoom copy pixels exactly."""
    positions = torch.arange(size, device=zoom.device)
    centre = (size - 1) / 2
    sources = (positions - centre) * (direction / zoom)[:, None] + centre + shift[:, None]
    # Beyond the edges no pixel is nearer than 1, so the row is zero: that is the black padding.
    return (1 - (sources[:, :, None] - positions).abs()).clamp(min=0)


def _lose_resolution(images: Tensor, probability: float, draws: Tensor) -> Tensor:
    """Shrink and enlarge some images, as if seen by a distant camera."""
    (chosen,) = torch.nonzero(draws[:, 0] < probability, as_tuple=True)
    if not len(chosen):
        return images
    height, width = images.shape[2:]
    # One factor, from 1.5 to 4, for the batch: all chosen images then shrink to one size in one call.
    shrink = 1.5 + 2.5 * float(draws[0, 1])
    small = (max(1, round(height / shrink)), max(1, round(width / shrink)))
    soft = F.interpolate(F.interpolate(images[chosen], small, mode="area"), (height, width), mode="bilinear")
    return images.index_put((chosen,), soft)


def _recolour(images: Tensor, strength: float, draws: Tensor) -> Tensor:
    """Change light and camera, not what a colour is called: brightness, contrast, saturation, cast, gamma."""
    around_zero = strength * (2 * draws[:, :, None, None] - 1)  # (B, 7, 1, 1)
    brightness, contrast, saturation = (1 + 0.6 * around_zero[:, [column]] for column in range(3))
    cast, gamma = 1 + 0.25 * around_zero[:, 3:6], torch.exp(0.6 * around_zero[:, 6:])
    gain = brightness * cast
    grey = (images * _per_channel(_LUMA, images)).sum(dim=1, keepdim=True)
    middle = grey.mean(dim=(2, 3), keepdim=True)
    images = grey + saturation * (images - grey)
    images = gain * (middle + contrast * (images - middle))
    # Contrast can go below 0, and a power of a negative number is NaN.
    return images.clamp(1e-4, 1).pow(gamma)


def _grain(images: Tensor, seeds: Tensor) -> Tensor:
    """Draw normal noise for every value of images (B, 3, H, W), by the seed of each."""
    generator = torch.Generator(images.device)
    noise = torch.empty_like(images)
    for row, seed in zip(noise, seeds.tolist(), strict=True):
        row.normal_(generator=generator.manual_seed(seed))
    return noise


def _erase(images: Tensor, config: AugmentationConfig, draws: Tensor) -> Tensor:
    """Cover one rectangle of some images with the mean colour (random erasing, Zhong et al. 2020)."""
    height, width = images.shape[2:]
    area = config.erase_area_low + (config.erase_area_high - config.erase_area_low) * draws[..., 0]
    low, high = (math.log(aspect) for aspect in _ERASE_ASPECTS)
    aspect = torch.exp(low + (high - low) * draws[..., 1])
    tall = (area * height * width * aspect).sqrt().round()
    wide = (area * height * width / aspect).sqrt().round()
    fits = (tall < height) & (wide < width)
    first = fits.int().argmax(dim=1, keepdim=True)  # index of the first try that fits, 0 when none does
    tall, wide, top, left = (t.gather(1, first)[:, 0] for t in (tall, wide, draws[..., 2], draws[..., 3]))
    erased = (draws[:, 0, 4] < config.erase) & fits.any(dim=1)
    top, left = (top * (height - tall + 1)).floor(), (left * (width - wide + 1)).floor()
    rows = torch.arange(height, device=images.device)
    columns = torch.arange(width, device=images.device)
    in_rows = (rows >= top[:, None]) & (rows < (top + tall)[:, None]) & erased[:, None]
    in_columns = (columns >= left[:, None]) & (columns < (left + wide)[:, None])
    return images.masked_fill((in_rows[:, :, None] & in_columns[:, None, :])[:, None], 0.0)
