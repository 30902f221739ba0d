import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor

from textreid.training.masking import caption_weights, mask_tokens, masking_probabilities, trusted_words

MASK, VOCABULARY = 97, 100  # then start 98 and end 99


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def is_word(lengths: list[int], columns: int) -> Tensor:
    return torch.tensor([[0 < column < length - 1 for column in range(columns)] for length in lengths])


def test_probabilities_by_hand() -> None:
    noise = torch.tensor([[0.0, 0.2, 0.4, 0.6, 0.0, 9.0]])
    found = masking_probabilities(noise, is_word([5], 6), p=0.25)
    assert found[0].tolist() == pytest.approx([0, 0.05, 0.25, 0.45, 0, 0], abs=1e-6)


def test_without_the_shift_noise_is_the_probability() -> None:
    noise, words = torch.tensor([[0.0, 0.9, 0.02, 1.2, 0.7]]), torch.tensor([[False, True, True, True, False]])
    found = masking_probabilities(noise, words, p=0.15, shift=False)
    assert torch.equal(found, torch.tensor([[0.0, 0.9, 0.02, 1.0, 0.0]]))


def test_clamping_raises_the_mean_and_exact_mean_restores_it() -> None:
    noise, words = torch.tensor([[0.0, 0.0, 1.0, 0.0, 0.0]]), is_word([5], 5)
    plain = masking_probabilities(noise, words, p=0.1)
    # Shifted by 0.1 - 1/3: (-0.233, 0.767, -0.233), clamped to (0, 0.767, 0).
    assert plain[0, 1:4].tolist() == pytest.approx([0, 1 - 1 / 3 + 0.1, 0], abs=1e-6)
    exact = masking_probabilities(noise, words, p=0.1, exact_mean=True)
    assert exact[0, 1:4].tolist() == pytest.approx([0, 0.3, 0], abs=1e-5)


@given(
    lengths=st.lists(st.integers(3, 20), min_size=1, max_size=5),
    seed=st.integers(0, 1000),
    spread=st.floats(0, 1.5),
    p=st.floats(0, 1),
)
@settings(deadline=None, max_examples=60)
def test_properties_of_probabilities(lengths: list[int], seed: int, spread: float, p: float) -> None:
    words = is_word(lengths, max(lengths))
    noise = torch.rand(words.shape, generator=generator(seed)) * spread
    for exact in (False, True):
        found = masking_probabilities(noise, words, p, exact)
        assert ((found >= 0) & (found <= 1)).all()
        assert (found[~words] == 0).all()
        other = masking_probabilities(noise + 0.3, words, p, exact)
        torch.testing.assert_close(found, other, atol=1e-5, rtol=0)  # only differences of noise count
        for row, mask, values in zip(found, words, noise, strict=True):
            assert (row[mask].sort().values == row[mask][values[mask].argsort()]).all()  # more noise, not less masked
            if exact:
                assert float(row[mask].mean()) == pytest.approx(p, abs=2e-5)
    inside = masking_probabilities(noise * 0.1 / max(spread, 0.1), words, 0.5)
    for row, mask in zip(inside, words, strict=True):
        assert float(row[mask].mean()) == pytest.approx(0.5, abs=1e-5)  # without clamping both are exact


def tokens(rows: int, length: int, columns: int) -> tuple[Tensor, Tensor]:
    ids = torch.randint(1, MASK, (rows, columns), generator=generator(3))
    ids[:, 0], ids[:, length - 1], ids[:, length:] = 98, 99, 0
    return ids, is_word([length] * rows, columns)


def test_rates_of_masking() -> None:
    ids, words = tokens(rows=2000, length=42, columns=45)
    probability = torch.where(words, 0.15, 0.9)  # what is not a word would be chosen often
    found, is_masked, *_ = mask_tokens(ids, probability, words, generator(4), MASK, VOCABULARY)
    count = int(words.sum())
    assert count == 80_000
    assert float(is_masked[words].float().mean()) == pytest.approx(0.15, abs=0.004)
    assert torch.equal(found[~is_masked], ids[~is_masked])
    hidden = found[is_masked] == MASK
    changed = ~hidden & (found[is_masked] != ids[is_masked])
    assert float(hidden.float().mean()) == pytest.approx(0.8, abs=0.012)
    assert float(changed.float().mean()) == pytest.approx(0.1 * 95 / 96, abs=0.009)  # 1 draw in 96 is the same id
    drawn = found[is_masked][changed]
    assert set(drawn.tolist()) == set(range(1, MASK))  # every ordinary id comes up, no other


def test_each_word_has_its_own_rate() -> None:
    ids, words = tokens(rows=4000, length=7, columns=8)
    probability = torch.tensor([0.5, 0.0, 0.1, 0.5, 0.9, 1.0, 0.5, 0.5]).expand(4000, 8)
    _, is_masked, *_ = mask_tokens(ids, probability, words, generator(5), MASK, VOCABULARY)
    assert is_masked.float().mean(0).tolist() == pytest.approx([0, 0, 0.1, 0.5, 0.9, 1, 0, 0], abs=0.025)


@given(seed=st.integers(0, 10_000), length=st.integers(2, 12), p=st.floats(0, 1))
@settings(deadline=None, max_examples=40)
def test_properties_of_masking(seed: int, length: int, p: float) -> None:
    ids, words = tokens(rows=3, length=length, columns=12)
    before = ids.clone()
    probability = torch.full(ids.shape, p)
    first = mask_tokens(ids, probability, words, generator(seed), MASK, VOCABULARY)
    again = mask_tokens(ids, probability, words, generator(seed), MASK, VOCABULARY)
    assert torch.equal(ids, before)
    assert first.ids.data_ptr() != ids.data_ptr()
    assert torch.equal(first.ids, again.ids)
    assert torch.equal(first.ids[~words], ids[~words])  # start, end and padding stay
    assert not first.is_masked[~words].any()
    assert ((first.ids[words] >= 1) & (first.ids[words] <= MASK)).all()


def test_probability_zero_masks_nothing_and_one_everything() -> None:
    ids, words = tokens(rows=50, length=20, columns=20)
    none = mask_tokens(ids, torch.zeros(ids.shape), words, generator(), MASK, VOCABULARY)
    every = mask_tokens(ids, torch.ones(ids.shape), words, generator(), MASK, VOCABULARY)
    assert torch.equal(none.ids, ids)
    assert torch.equal(every.is_masked, words)


def test_a_caption_weighs_what_its_words_leave() -> None:
    probabilities = torch.tensor([[0.9, 0.5, 0.1, 0.0, 0.9], [0.0, 1.0, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0, 0.0]])
    words = torch.tensor([[False, True, True, True, False], [False, True, False, False, False], [False] * 5])
    assert caption_weights(probabilities, words).tolist() == pytest.approx([0.8, 0.0, 1.0])


@pytest.mark.parametrize("p", [0.1, 0.15, 0.2, 0.3])
def test_words_are_trusted_that_are_no_noisier_than_at_first(p: float) -> None:
    # As they are kept, in half precision, which rounds some of these up.
    first = torch.full((1, 3), p).half().float()
    assert trusted_words(first, p).all()
    assert trusted_words(first + torch.tensor([-0.05, 0.0, 0.01]), p).tolist() == [[True, True, False]]
    found = mask_tokens(torch.ones(1, 3, dtype=torch.long), first, first > 0, generator(), MASK, VOCABULARY)
    assert torch.equal(found.is_predicted, found.is_masked)
    assert found.weights is None


def test_refuses_what_does_not_fit() -> None:
    ids, words = tokens(rows=2, length=5, columns=6)
    with pytest.raises(ValueError, match="shapes differ"):
        mask_tokens(ids, torch.zeros(2, 5), words, generator(), MASK, VOCABULARY)
    with pytest.raises(ValueError, match="mask_id 100"):
        mask_tokens(ids, torch.zeros(2, 6), words, generator(), 100, VOCABULARY)
