import math

import pytest
import torch
from hypothesis import given, strategies as st

from textreid.config import LossConfig
from textreid.training.uninformed import uninformed_losses


def test_with_distinct_labels_it_is_the_logarithm_of_the_choices() -> None:
    images, owners = torch.arange(5), torch.arange(5).repeat_interleave(2)
    found = uninformed_losses(LossConfig(sdm=0, itc=0.5, id=2, mlm=1), images, images[owners], identities=7)
    assert found == {"itc": pytest.approx(math.log(10) + math.log(5)), "id": pytest.approx(math.log(7))}


@given(labels=st.lists(st.integers(0, 3), min_size=2, max_size=8), temperature=st.floats(0.01, 1))
def test_sdm_and_cmpm_spread_evenly_over_all_texts(labels: list[int], temperature: float) -> None:
    config = LossConfig(sdm=1, cmpm=1, temperature=temperature)
    count = len(labels)
    expected = (
        sum(
            1 / count * math.log(1 / count / ((row == column) / labels.count(row) + 1e-8))
            for row in labels
            for column in labels
        )
        / count
    )
    found = uninformed_losses(config, torch.tensor(labels), torch.tensor(labels), identities=0)
    assert found.keys() == {"sdm", "cmpm"}
    assert all(value == pytest.approx(2 * expected, abs=1e-4) for value in found.values())
