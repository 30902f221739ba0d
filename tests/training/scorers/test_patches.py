import math

import pytest
import torch
from torch import Tensor

from textreid.training.scorers.patches import noise_levels


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def is_word(lengths: list[int], columns: int) -> Tensor:
    return torch.tensor([[0 < column < length - 1 for column in range(columns)] for length in lengths])


def test_noise_equals_a_slow_loop() -> None:
    texts = torch.randn(3, 6, 5, generator=generator(1))
    patches = torch.randn(3, 4, 5, generator=generator(2))
    words = is_word([6, 4, 3], 6)
    found = noise_levels(texts, patches, words)
    checked = 0
    for b in range(3):
        for i in range(6):
            t = texts[b, i].tolist()
            cosines = [
                sum(x * y for x, y in zip(t, v, strict=True)) / (math.hypot(*t) * math.hypot(*v))
                for v in patches[b].tolist()
            ]
            assert float(found[b, i]) == pytest.approx((1 - max(cosines)) if words[b, i] else 0, abs=1e-5)
            checked += 1
    assert checked == 18


def test_noise_by_hand() -> None:
    patches = torch.tensor([[[1.0, 0.0], [0.0, 2.0]]])
    texts = torch.tensor([[[9.0, 9.0], [5.0, 0.0], [1.0, 1.0], [-1.0, 0.0], [-1.0, -1.0], [0.0, 0.0]]])
    found = noise_levels(texts, patches, is_word([6], 6))
    expected = [0.0, 0.0, 1 - math.sqrt(0.5), 1.0, 1 + math.sqrt(0.5), 0.0]
    assert found[0].tolist() == pytest.approx(expected, abs=1e-6)


def test_noise_is_in_full_precision_under_autocast() -> None:
    texts, patches, words = torch.randn(2, 6, 64), torch.randn(2, 8, 64), is_word([6, 6], 6)
    with torch.autocast("cpu", torch.bfloat16):
        found = noise_levels(texts, patches, words)
    assert torch.equal(found, noise_levels(texts, patches, words))
