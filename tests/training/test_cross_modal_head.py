import pytest
import torch

from textreid.training.cross_modal_head import CrossModalHead

WIDTH, VOCABULARY = 32, 50


@pytest.fixture
def head() -> CrossModalHead:
    torch.manual_seed(0)
    return CrossModalHead(WIDTH, VOCABULARY)


def tokens(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_scores_every_id_at_the_chosen_positions_only(head: CrossModalHead) -> None:
    chosen = torch.zeros(3, 6, dtype=torch.bool)
    chosen[0, 2] = chosen[0, 4] = chosen[2, 1] = True
    texts, images, lengths = tokens(3, 6, WIDTH, seed=1), tokens(3, 9, WIDTH, seed=2), torch.tensor([6, 3, 4])
    scores = head(texts, images, lengths, chosen)
    assert scores.shape == (3, VOCABULARY)
    everywhere = head(texts, images, lengths, torch.ones_like(chosen)).reshape(3, 6, VOCABULARY)
    torch.testing.assert_close(scores, everywhere[chosen])
    assert head(texts, images, lengths, torch.zeros_like(chosen)).shape == (0, VOCABULARY)


def test_nothing_sees_padding_nor_another_caption(head: CrossModalHead) -> None:
    texts, images, lengths = tokens(2, 6, WIDTH, seed=1), tokens(2, 9, WIDTH, seed=2), torch.tensor([4, 6])
    chosen = torch.arange(6) < torch.tensor([[4], [6]])
    before = head(texts, images, lengths, chosen)
    texts[0, 4:] = 100.0
    torch.testing.assert_close(head(texts, images, lengths, chosen), before)
    alone = head(texts[:1, :4], images[:1], lengths[:1], chosen[:1, :4])
    torch.testing.assert_close(alone, before[:4], rtol=1e-4, atol=1e-5)


def test_a_word_is_predicted_from_the_image_and_from_words_on_both_sides(head: CrossModalHead) -> None:
    texts, images, lengths = tokens(1, 5, WIDTH, seed=1), tokens(1, 9, WIDTH, seed=2), torch.tensor([5])
    texts.requires_grad_()
    images.requires_grad_()
    chosen = torch.tensor([[False, False, True, False, False]])
    torch.autograd.backward(head(texts, images, lengths, chosen).square().sum())
    assert texts.grad is not None
    assert images.grad is not None
    assert (texts.grad.abs().sum(dim=2) > 0).all()
    assert (images.grad.abs().sum(dim=2) > 0).all()
    assert all(parameter.grad is not None for parameter in head.parameters())


@pytest.mark.parametrize(("width", "heads"), [(32, 1), (256, 4), (512, 8), (200, 2)])
def test_attention_has_heads_of_about_64_channels(width: int, heads: int) -> None:
    assert CrossModalHead(width, 8).attention.num_heads == heads
