"""Random changes of training images, a whole batch at once on its device.

Shapes: ``B`` images of 3 × ``H`` × ``W``. Each image gets its own draw. Geometry comes first, then resolution,
colour and noise as a camera would add them, and erasing last.
"""

import math

import torch
import torch.nn.functional as F  # noqa: N812 (the usual name)
from torch import Tensor

from textreid.config import AugmentationConfig

_LUMA = (0.299, 0.587, 0.114)
_ERASE_ASPECTS = (0.3, 3.3)  # of random erasing as published (Zhong et al. 2020)
_ERASE_TRIES = 10


def augment(
    pixels: Tensor,
    config: AugmentationConfig,
    generator: torch.Generator,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
) -> Tensor:
    """Randomly changed and normalised images.

    Args:
        pixels: (B, 3, H, W) uint8; not written to.
        config: what may change and how much.
        generator: source of randomness, on the device of ``pixels``.
        mean: of each channel, in [0, 1]; also the colour of erased areas.
        std: of each channel.

    Returns:
        (B, 3, H, W) float32: pixels in [0, 1] less the mean, over the standard deviation.
    """
    images = _move(pixels.float() / 255, config, generator)
    if config.blur:
        images = _lose_resolution(images, config.blur, generator)
    if config.colour:
        images = _recolour(images, config.colour, generator)
    if config.noise:
        strength = config.noise * _uniform(generator, images, 0, 1)
        images = images + strength * torch.randn(images.shape, generator=generator, device=images.device)
    if config.blur or config.colour or config.noise:
        images = images.clamp(0, 1)
    shift, scale = (images.new_tensor(values).view(3, 1, 1) for values in (mean, std))
    images = (images - shift) / scale
    if config.erase:
        images = _erase(images, config, generator)
    return images


def _uniform(generator: torch.Generator, like: Tensor, low: float, high: float, channels: int = 1) -> Tensor:
    """One number an image (or a channel of one), as (B, channels, 1, 1)."""
    draws = torch.rand((len(like), channels, 1, 1), generator=generator, device=like.device)
    return low + (high - low) * draws


def _move(images: Tensor, config: AugmentationConfig, generator: torch.Generator) -> Tensor:
    """Flip, zoom, pad with black and crop, as one product with a matrix on either side."""
    count, _, height, width = images.shape
    draws = torch.rand((4, count), generator=generator, device=images.device)
    zoom = torch.exp((2 * draws[0] - 1) * math.log1p(config.scale))
    shift = (draws[1:3] * (2 * config.pad + 1)).floor() - config.pad
    rows = _resampling(height, zoom, shift[0], torch.ones_like(zoom))
    columns = _resampling(width, zoom, shift[1], torch.where(draws[3] < config.flip, -1.0, 1.0))
    return rows[:, None] @ images @ columns[:, None].transpose(2, 3)


def _resampling(size: int, zoom: Tensor, shift: Tensor, direction: Tensor) -> Tensor:
    """Matrices (B, size, size) that interpolate linearly; whole shifts without zoom copy pixels exactly."""
    positions = torch.arange(size, device=zoom.device)
    centre = (size - 1) / 2
    sources = (positions - centre) * (direction / zoom)[:, None] + centre + shift[:, None]
    return (1 - (sources[:, :, None] - positions).abs()).clamp(min=0)


def _lose_resolution(images: Tensor, probability: float, generator: torch.Generator) -> Tensor:
    """Shrink and enlarge some images, as if seen by a distant camera."""
    draws = torch.rand(len(images) + 1, generator=generator, device=images.device)
    (chosen,) = torch.nonzero(draws[:-1] < probability, as_tuple=True)
    if not len(chosen):
        return images
    height, width = images.shape[2:]
    shrink = 1.5 + 2.5 * float(draws[-1])
    small = (max(1, round(height / shrink)), max(1, round(width / shrink)))
    soft = F.interpolate(F.interpolate(images[chosen], small, mode="area"), (height, width), mode="bilinear")
    return images.index_put((chosen,), soft)


def _recolour(images: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Change light and camera, not what a colour is called: brightness, contrast, saturation, cast, gamma."""
    brightness = _uniform(generator, images, 1 - 0.6 * strength, 1 + 0.6 * strength)
    contrast = _uniform(generator, images, 1 - 0.6 * strength, 1 + 0.6 * strength)
    saturation = _uniform(generator, images, 1 - 0.6 * strength, 1 + 0.6 * strength)
    cast = _uniform(generator, images, 1 - 0.25 * strength, 1 + 0.25 * strength, channels=3)
    gamma = torch.exp(_uniform(generator, images, -0.6 * strength, 0.6 * strength))
    gain = brightness * cast
    grey = (images * images.new_tensor(_LUMA).view(3, 1, 1)).sum(dim=1, keepdim=True)
    middle = grey.mean(dim=(2, 3), keepdim=True)
    images = grey + saturation * (images - grey)
    images = gain * (middle + contrast * (images - middle))
    return images.clamp(1e-4, 1).pow(gamma)


def _erase(images: Tensor, config: AugmentationConfig, generator: torch.Generator) -> Tensor:
    """Cover one rectangle of some images with the mean colour (random erasing, Zhong et al. 2020)."""
    count, _, height, width = images.shape
    draws = torch.rand((5, count, _ERASE_TRIES), generator=generator, device=images.device)
    area = config.erase_area_low + (config.erase_area_high - config.erase_area_low) * draws[0]
    low, high = (math.log(aspect) for aspect in _ERASE_ASPECTS)
    aspect = torch.exp(low + (high - low) * draws[1])
    tall = (area * height * width * aspect).sqrt().round()
    wide = (area * height * width / aspect).sqrt().round()
    fits = (tall < height) & (wide < width)
    first = fits.int().argmax(dim=1, keepdim=True)  # index of the first try that fits, 0 when none does
    tall, wide, top, left = (t.gather(1, first)[:, 0] for t in (tall, wide, draws[2], draws[3]))
    erased = (draws[4, :, 0] < config.erase) & fits.any(dim=1)
    top, left = (top * (height - tall + 1)).floor(), (left * (width - wide + 1)).floor()
    rows = torch.arange(height, device=images.device)
    columns = torch.arange(width, device=images.device)
    in_rows = (rows >= top[:, None]) & (rows < (top + tall)[:, None]) & erased[:, None]
    in_columns = (columns >= left[:, None]) & (columns < (left + wide)[:, None])
    return images.masked_fill((in_rows[:, :, None] & in_columns[:, None, :])[:, None], 0.0)
