import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from textreid.training.sampler import Sampler

IMAGE_INDEX = np.array([0, 1, 0, 2, 3, 3, 3, 1, 4, 0, 5])


def test_pairs_are_seen_once_an_epoch() -> None:
    sampler = Sampler(IMAGE_INDEX, batch_size=4, epoch_unit="pair", captions_per_image=1, seed=0)
    draws = [sampler.draw(step) for step in range(sampler.steps_per_epoch)]
    assert sorted(np.concatenate([draw.pairs for draw in draws]).tolist()) == list(range(11))
    assert [len(draw.pairs) for draw in draws] == [3, 4, 4]
    for draw in draws:
        assert (IMAGE_INDEX[draw.pairs] == draw.images[draw.owners]).all()


@pytest.mark.parametrize("captions", [1, 2, 5])
def test_images_are_seen_once_an_epoch_with_captions_of_their_own(captions: int) -> None:
    sampler = Sampler(IMAGE_INDEX, 4, "image", captions, seed=1)
    assert (sampler.units, sampler.steps_per_epoch) == (6, 2)
    draws = [sampler.draw(step) for step in range(2)]
    assert sorted(np.concatenate([draw.images for draw in draws]).tolist()) == list(range(6))
    pairs = np.concatenate([draw.pairs for draw in draws])
    assert len(set(pairs.tolist())) == len(pairs)
    expected = np.minimum(np.bincount(IMAGE_INDEX), captions)
    assert (np.bincount(IMAGE_INDEX[pairs]) == expected).all()
    for draw in draws:
        assert (IMAGE_INDEX[draw.pairs] == draw.images[draw.owners]).all()
        assert (np.diff(draw.owners) >= 0).all()


def test_captions_are_drawn_evenly() -> None:
    sampler = Sampler(np.repeat(np.arange(10), 4), 10, "image", 1, seed=2)
    counts = np.bincount(np.concatenate([sampler.draw(step).pairs for step in range(2000)]), minlength=40)
    assert counts.sum() == 20_000
    assert abs(counts / 2000 - 0.25).max() < 0.04  # four standard deviations


@given(
    index=st.lists(st.integers(0, 12), min_size=1, max_size=60),
    batch=st.integers(2, 20),
    seed=st.integers(0, 99),
    unit=st.sampled_from(["pair", "image"]),
)
@settings(deadline=None, max_examples=50)
def test_any_step_can_be_drawn_alone(index: list[int], batch: int, seed: int, unit: str) -> None:
    image_index = np.unique(np.array(index), return_inverse=True)[1]
    captions = 1 if unit == "pair" else 2

    def make() -> Sampler:
        return Sampler(image_index, batch, "pair" if unit == "pair" else "image", captions, seed)

    straight = make()
    draws = [straight.draw(step) for step in range(2 * straight.steps_per_epoch)]
    sizes = {len(draw.images) for draw in draws}
    assert max(sizes) <= batch
    assert max(sizes) - min(sizes) <= 1
    for step in reversed(range(len(draws))):
        for found, expected in zip(make().draw(step), draws[step], strict=True):
            assert (found == expected).all()


def test_epochs_and_seeds_differ() -> None:
    def order(seed: int, epoch: int) -> list[np.int64]:
        return list(Sampler(np.arange(50), 50, "pair", 1, seed).draw(epoch).pairs)

    assert order(0, 0) != order(0, 1)
    assert order(0, 0) != order(1, 0)
