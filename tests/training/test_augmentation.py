import itertools
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor

from textreid.config import AugmentationConfig
from textreid.presets import paper, tiny
from textreid.training.augmentation import augment, draw_changes

MEAN, STD = (0.5, 0.25, 0.125), (0.2, 0.3, 0.4)
NOTHING = AugmentationConfig(flip=0, pad=0, erase=0)
EVERYTHING = AugmentationConfig(pad=3, scale=0.2, colour=1, blur=0.7, noise=0.1)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(count: int, height: int = 24, width: int = 12, seed: int = 1) -> Tensor:
    return torch.randint(1, 256, (count, 3, height, width), dtype=torch.uint8, generator=generator(seed))


def apply(
    pixels: Tensor,
    config: AugmentationConfig,
    seed: int = 0,
    mean: tuple[float, float, float] = MEAN,
    std: tuple[float, float, float] = STD,
) -> Tensor:
    return augment(pixels, config, draw_changes(len(pixels), config, generator(seed)), mean, std)


def changed(pixels: Tensor, config: AugmentationConfig, seed: int = 0) -> Tensor:
    """The augmented images before normalisation, as bytes."""
    images = apply(pixels, config, seed)
    levels = (images * torch.tensor(STD).view(3, 1, 1) + torch.tensor(MEAN).view(3, 1, 1)) * 255
    assert (levels - levels.round()).abs().max() < 1e-3
    return levels.round().to(torch.uint8)


def test_without_changes_only_normalises() -> None:
    pixels = pictures(3)
    found = apply(pixels, NOTHING)
    expected = (pixels.double() / 255 - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected.float())


def test_flips_the_asked_share() -> None:
    pixels = pictures(400)
    found = changed(pixels, replace(NOTHING, flip=0.3))
    flipped = (found == pixels.flip(3)).all(dim=(1, 2, 3))
    same = (found == pixels).all(dim=(1, 2, 3))
    assert (flipped ^ same).all()
    assert int(flipped.sum()) == pytest.approx(120, abs=36)  # four standard deviations


def test_crops_are_all_windows_of_the_picture_padded_with_black() -> None:
    pixels = pictures(1, 8, 4).expand(600, -1, -1, -1)
    found = changed(pixels, replace(NOTHING, pad=2))
    padded = torch.nn.functional.pad(pixels[0], (2, 2, 2, 2))
    windows = {(y, x): padded[:, y : y + 8, x : x + 4] for y in range(5) for x in range(5)}
    counts = {place: int((found == window).all(dim=3).all(dim=2).all(dim=1).sum()) for place, window in windows.items()}
    assert sum(counts.values()) == 600
    assert min(counts.values()) > 5  # 24 expected of each


def test_erases_a_rectangle_of_the_asked_area_with_the_mean() -> None:
    config = replace(NOTHING, erase=0.6, erase_area_low=0.1, erase_area_high=0.3)
    pixels = torch.full((500, 3, 48, 24), 255, dtype=torch.uint8)
    found = apply(pixels, config)
    covered = (found == 0).all(dim=1)  # the mean is zero after normalisation, white is not
    erased = covered.any(dim=(1, 2))
    assert int(erased.sum()) == pytest.approx(300, abs=45)
    rows, columns = covered.any(dim=2), covered.any(dim=1)
    assert torch.equal(covered, rows[:, :, None] & columns[:, None, :])  # rectangles
    shares = covered[erased].float().mean(dim=(1, 2))
    assert 0.08 < float(shares.min()) < 0.12
    assert 0.27 < float(shares.max()) < 0.33
    aspects = rows[erased].sum(1) / columns[erased].sum(1)
    assert float(aspects.min()) < 0.6
    assert float(aspects.max()) > 2
    assert covered[:, 0].any()  # also at the borders
    assert covered[:, :, -1].any()


def test_zoom_magnifies_about_the_middle() -> None:
    pixels = torch.zeros((64, 3, 33, 33), dtype=torch.uint8)
    pixels[:, :, 8:25, 8:25] = 200
    found = apply(pixels, replace(NOTHING, scale=0.5), mean=(0, 0, 0), std=(1, 1, 1)) * 255
    sides = (found[:, 0].sum(dim=(1, 2)) / 200).sqrt()
    assert float(sides.min()) == pytest.approx(17 / 1.5, abs=0.7)
    assert float(sides.max()) == pytest.approx(17 * 1.5, abs=0.9)
    torch.testing.assert_close(found, found.flip(2), atol=0.01, rtol=0)  # nothing moves the middle


def test_lost_resolution_removes_detail_and_keeps_the_mean() -> None:
    checks = ((torch.arange(24)[:, None] + torch.arange(12)) % 2 * 255).to(torch.uint8).expand(200, 3, 24, 12)
    found = apply(checks, replace(NOTHING, blur=0.5), mean=(0, 0, 0), std=(1, 1, 1))
    contrast = found.std(dim=(1, 2, 3))
    softened = contrast < 0.4
    assert int(softened.sum()) == pytest.approx(100, abs=29)
    assert torch.equal(found[~softened], checks[~softened].float() / 255)
    assert found.mean(dim=(1, 2, 3)).sub(0.5).abs().max() < 0.05


@pytest.mark.parametrize("strength", [0.2, 0.4, 0.6])
def test_colour_keeps_what_a_colour_is_called(strength: float) -> None:
    """A saturated red stays the strongest in its red channel, and a grey keeps three close channels."""
    red = torch.tensor([200, 30, 30], dtype=torch.uint8).view(1, 3, 1, 1).expand(300, 3, 4, 4)
    found = apply(red, replace(NOTHING, colour=strength), mean=(0, 0, 0), std=(1, 1, 1))[:, :, 0, 0]
    assert (found[:, 0] > found[:, 1:].amax(1) + 0.02).all()
    assert float(found.std(dim=0)[0]) > 0.1 * strength  # and yet it changes
    grey = torch.full((300, 3, 4, 4), 120, dtype=torch.uint8)
    cast = apply(grey, replace(NOTHING, colour=strength), mean=(0, 0, 0), std=(1, 1, 1))[:, :, 0, 0]
    assert float((cast.amax(1) / cast.amin(1)).max()) < ((1 + strength / 4) / (1 - strength / 4)) ** 2


def test_noise_is_at_most_as_strong_as_asked() -> None:
    grey = torch.full((100, 3, 32, 32), 128, dtype=torch.uint8)
    found = apply(grey, replace(NOTHING, noise=0.1), mean=(0, 0, 0), std=(1, 1, 1))
    deviations = found.std(dim=(1, 2, 3))
    assert float(deviations.max()) == pytest.approx(0.1, abs=0.01)
    assert float(deviations.min()) < 0.02


@given(
    count=st.integers(1, 5),
    height=st.integers(2, 20),
    width=st.integers(2, 20),
    seed=st.integers(0, 1000),
    config=st.sampled_from([EVERYTHING, NOTHING, paper().augmentation, tiny().augmentation]),
)
@settings(deadline=None, max_examples=40)
def test_properties(count: int, height: int, width: int, seed: int, config: AugmentationConfig) -> None:
    pixels = pictures(count, height, width, seed)
    before = pixels.clone()
    first = apply(pixels, config, seed)
    assert torch.equal(pixels, before)
    assert first.shape == (count, 3, height, width)
    assert torch.isfinite(first).all()
    assert torch.equal(first, apply(pixels, config, seed))
    levels = first * torch.tensor(STD).view(3, 1, 1) + torch.tensor(MEAN).view(3, 1, 1)
    assert float(levels.min()) >= -1e-5
    assert float(levels.max()) <= 1 + 1e-5


def test_images_of_a_batch_change_independently() -> None:
    pixels = pictures(1).expand(8, -1, -1, -1)
    found = apply(pixels, EVERYTHING)
    assert len({tuple(image.flatten().tolist()) for image in found}) == 8


@given(cuts=st.lists(st.integers(0, 8), max_size=3).map(sorted))
def test_parts_of_a_batch_change_as_the_whole(cuts: list[int]) -> None:
    """A process has a slice of the batch, and that in portions; some may be empty."""
    pixels = pictures(8)
    changes = draw_changes(8, EVERYTHING, generator())
    whole = augment(pixels, EVERYTHING, changes, MEAN, STD)
    parts = [slice(low, high) for low, high in itertools.pairwise([0, *cuts, 8])]
    found = torch.cat([augment(pixels[part], EVERYTHING, changes.of(part), MEAN, STD) for part in parts])
    torch.testing.assert_close(found, whole, atol=1e-5, rtol=0)
