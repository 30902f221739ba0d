import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor

from textreid.config import LossConfig
from textreid.training.losses import chance_levels, cmpm, id_loss, itc, mlm, sdm

Loss = Callable[..., Tensor]
LOSSES = pytest.mark.parametrize("loss", [sdm, itc])


def features(count: int, dimensions: int, seed: int) -> Tensor:
    return torch.randn(count, dimensions, generator=torch.Generator().manual_seed(seed))


def cosine(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True)) / (math.hypot(*a) * math.hypot(*b))


def slow_loss(
    name: str, images: Tensor, texts: Tensor, labels: list[int], text_labels: list[int], temperature: float
) -> float:
    """The equations, one number at a time."""
    total = 0.0
    pairs = [(images, labels, texts, text_labels), (texts, text_labels, images, labels)]
    for rows, row_labels, columns, column_labels in pairs:
        for row, label in zip(rows.double().tolist(), row_labels, strict=True):
            powers = [math.exp(cosine(row, column) / temperature) for column in columns.double().tolist()]
            positives = column_labels.count(label)
            for power, column_label in zip(powers, column_labels, strict=True):
                p, q = power / sum(powers), (column_label == label) / positives
                term = p * math.log(p / (q + 1e-8)) if name == "sdm" else -q * math.log(p)
                total += term / len(row_labels)
    return total


@LOSSES
@pytest.mark.parametrize("labels", [[0, 1, 2, 3, 4], [0, 0, 1, 2, 1], [7, 7, 7, 7, 7]])
@pytest.mark.parametrize("temperature", [0.05, 1.0])
def test_equals_a_slow_loop(loss: Loss, labels: list[int], temperature: float) -> None:
    images, texts = features(5, 8, 1), features(5, 8, 2)
    expected = slow_loss(loss.__name__, images, texts, labels, labels, temperature)
    found = loss(images, texts, torch.tensor(labels), temperature)
    assert float(found) == pytest.approx(expected, rel=1e-5)


@LOSSES
def test_several_captions_an_image_equal_a_slow_loop(loss: Loss) -> None:
    labels, text_labels = [4, 9, 2], [4, 4, 9, 2, 2, 2]
    images, texts = features(3, 8, 3), features(6, 8, 4)
    expected = slow_loss(loss.__name__, images, texts, labels, text_labels, 0.1)
    found = loss(images, texts, torch.tensor(labels), 0.1, torch.tensor(text_labels))
    assert float(found) == pytest.approx(expected, rel=1e-5)


def slow_weighted_loss(
    name: str, logits: Tensor, labels: list[int], text_labels: list[int], weights: list[float]
) -> float:
    """Both directions, one pair at a time; ``logits`` of images (rows) and texts."""
    total, sides = 0.0, ((logits, False), (logits.T, True))
    for scores, of_texts in sides:
        rows, columns = (text_labels, labels) if of_texts else (labels, text_labels)
        weighted, sum_of_weights = 0.0, 0.0
        for row, (label, values) in enumerate(zip(rows, scores.double().tolist(), strict=True)):
            of_pairs = [
                (weights[row] if of_texts else weights[column]) * (label == other)
                for column, other in enumerate(columns)
            ]
            powers = [math.exp(value) for value in values]
            term = 0.0
            for power, weight in zip(powers, of_pairs, strict=True):
                p, q = power / sum(powers), weight / sum(of_pairs)
                term += -q * math.log(p) if name == "itc" else p * math.log(p / (q + 1e-8))
            weight_of_row = sum(of_pairs) / columns.count(label)
            weighted += weight_of_row * term
            sum_of_weights += weight_of_row
        total += weighted / sum_of_weights
    return total


@pytest.mark.parametrize("name", ["sdm", "itc", "cmpm"])
def test_weighted_texts_equal_a_slow_loop(name: str) -> None:
    labels, text_labels, weights = [4, 9, 2], [4, 4, 9, 2, 2, 2], [1.0, 0.25, 0.7, 0.1, 0.9, 0.5]
    images, texts = features(3, 8, 3), features(6, 8, 4)
    arguments = images, texts, torch.tensor(labels)
    of_texts = {"text_labels": torch.tensor(text_labels)}
    losses: dict[str, Loss] = {"sdm": sdm, "itc": itc, "cmpm": cmpm}
    loss = losses[name]
    found = loss(*arguments, **of_texts, text_weights=torch.tensor(weights))
    if name != "cmpm":
        scale = {"sdm": 0.02, "itc": 0.05}[name]
        cosines = torch.nn.functional.normalize(images, dim=1) @ torch.nn.functional.normalize(texts, dim=1).T
        expected = slow_weighted_loss(name, cosines / scale, labels, text_labels, weights)
        assert float(found) == pytest.approx(expected, rel=1e-4)
    # Only proportions count, and equal weights are none.
    half = loss(*arguments, **of_texts, text_weights=torch.tensor(weights) / 2)
    assert float(half) == pytest.approx(float(found), rel=1e-5)
    plain, alike = loss(*arguments, **of_texts), loss(*arguments, **of_texts, text_weights=torch.full((6,), 0.3))
    assert float(alike) == pytest.approx(float(plain), rel=1e-5)
    assert float(found) != pytest.approx(float(plain), rel=1e-3)


@LOSSES
def test_a_text_without_weight_teaches_its_image_nothing(loss: Loss) -> None:
    images, texts, labels = features(3, 8, 3), features(3, 8, 4).requires_grad_(), torch.arange(3)
    torch.autograd.backward(loss(images, texts, labels, 1.0, None, torch.tensor([1.0, 1.0, 0.0])))
    assert texts.grad is not None
    image = torch.nn.functional.normalize(images[2], dim=0)
    towards = -texts.grad[2] @ (image - (image @ texts[2]) * texts[2] / texts[2].square().sum()).detach()
    without = features(3, 8, 4).requires_grad_()
    torch.autograd.backward(loss(images, without, labels, 1.0))
    assert without.grad is not None
    drawn = -without.grad[2] @ (image - (image @ texts[2]) * texts[2] / texts[2].square().sum()).detach()
    assert towards < 0.2 * drawn
    assert drawn > 0


def test_weights_are_one_a_text() -> None:
    with pytest.raises(ValueError, match=r"a weight per text: \(2,\) for texts \(3, 8\)"):
        sdm(features(3, 8, 3), features(3, 8, 4), torch.arange(3), text_weights=torch.ones(2))


def test_two_by_two_by_hand() -> None:
    # Cosines are the identity; at temperature 1, p = (e, 1) / (e + 1) in each of the four rows.
    p = math.e / (math.e + 1)
    one_row = p * math.log(p) + (1 - p) * math.log((1 - p) / 1e-8)
    images = torch.tensor([[3.0, 0.0], [0.0, 0.5]])
    found = sdm(images, torch.eye(2), torch.tensor([0, 1]), temperature=1.0)
    assert float(found) == pytest.approx(2 * one_row, rel=1e-6)
    assert float(itc(images, torch.eye(2), torch.tensor([0, 1]), temperature=1.0)) == pytest.approx(-2 * math.log(p))


def test_positives_of_one_identity_share_the_target() -> None:
    # Both texts match both images and all cosines are 1, so p = q = 1/2: nothing is left to learn.
    same = torch.ones(2, 4)
    assert abs(float(sdm(same, same, torch.tensor([5, 5])))) < 1e-6
    assert float(itc(same, same, torch.tensor([5, 5]))) == pytest.approx(2 * math.log(2))


@given(count=st.integers(2, 8), seed=st.integers(0, 1000), classes=st.integers(1, 4), temperature=st.floats(0.01, 2))
@settings(deadline=None, max_examples=40)
def test_properties(count: int, seed: int, classes: int, temperature: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    images, texts = torch.randn(2, count, 6, generator=generator)
    labels = torch.randint(0, classes, (count,), generator=generator)
    order = torch.randperm(count, generator=generator)
    for loss in (sdm, itc):
        value = float(loss(images, texts, labels, temperature))
        assert value >= -1e-6
        assert float(loss(texts, images, labels, temperature)) == pytest.approx(value, rel=1e-4, abs=1e-5)
        permuted = loss(images[order], texts[order], labels[order], temperature)
        assert float(permuted) == pytest.approx(value, rel=1e-4, abs=1e-5)
        assert float(loss(images * 7, texts * 0.1, labels, temperature)) == pytest.approx(value, rel=1e-4, abs=1e-5)


@LOSSES
def test_finite_with_opposite_features_at_the_lowest_temperature(loss: Loss) -> None:
    images = features(4, 8, 5).requires_grad_()
    value = loss(images, -images.detach(), torch.arange(4), 1e-4)
    torch.autograd.backward(value)
    assert torch.isfinite(value)
    assert images.grad is not None
    assert torch.isfinite(images.grad).all()


@LOSSES
def test_precision_does_not_drop_under_autocast(loss: Loss) -> None:
    images, texts, labels = features(16, 32, 6), features(16, 32, 7), torch.arange(16)
    with torch.autocast("cpu", torch.bfloat16):
        found = loss(images, texts, labels)
    assert found.dtype == torch.float32
    assert float(found) == float(loss(images, texts, labels))


@LOSSES
def test_a_step_down_the_gradient_lowers_it(loss: Loss) -> None:
    images, texts = features(6, 8, 8).requires_grad_(), features(6, 8, 9)
    before = loss(images, texts, torch.arange(6), 0.1)
    torch.autograd.backward(before)
    assert images.grad is not None
    after = loss(images.detach() - 0.01 * images.grad, texts, torch.arange(6), 0.1)
    assert after.item() < before.item()


@LOSSES
@pytest.mark.parametrize(
    ("image_shape", "text_shape", "labels"), [((3, 4), (3, 5), 3), ((3, 4), (2, 4), 3), ((3, 4), (3, 4), 2)]
)
def test_refuses_shapes_that_do_not_fit(
    loss: Loss, image_shape: tuple[int, int], text_shape: tuple[int, int], labels: int
) -> None:
    with pytest.raises(ValueError, match=r"features must be|a label per feature"):
        loss(torch.ones(image_shape), torch.ones(text_shape), torch.arange(labels))


def slow_projection_loss(images: Tensor, texts: Tensor, labels: list[int], text_labels: list[int]) -> float:
    """The equations of cross-modal projection matching, one number at a time."""
    total = 0.0
    for rows, row_labels, columns, column_labels in (
        (images, labels, texts, text_labels),
        (texts, text_labels, images, labels),
    ):
        for row, label in zip(rows.double().tolist(), row_labels, strict=True):
            powers = [math.exp(math.hypot(*row) * cosine(row, column)) for column in columns.double().tolist()]
            for power, column_label in zip(powers, column_labels, strict=True):
                p, q = power / sum(powers), (column_label == label) / column_labels.count(label)
                total += p * math.log(p / (q + 1e-8)) / len(row_labels)
    return total


@pytest.mark.parametrize("labels", [[0, 1, 2, 3, 4], [0, 0, 1, 2, 1], [7, 7, 7, 7, 7]])
def test_projection_matching_equals_a_slow_loop(labels: list[int]) -> None:
    images, texts = features(5, 8, 1), 3 * features(5, 8, 2)
    expected = slow_projection_loss(images, texts, labels, labels)
    assert float(cmpm(images, texts, torch.tensor(labels))) == pytest.approx(expected, rel=1e-5)
    owners = [0, 0, 1, 2, 3, 4, 4]
    of_texts = [labels[owner] for owner in owners]
    more = features(7, 8, 3)
    expected = slow_projection_loss(images, more, labels, of_texts)
    found = cmpm(images, more, torch.tensor(labels), torch.tensor(of_texts))
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_projection_matching_by_hand_needs_the_length_of_features() -> None:
    # Images of length 2 project onto their own text at 2, texts of length 1 onto their own image at 1.
    def one_row(length: float) -> float:
        p = math.exp(length) / (math.exp(length) + 1)
        return p * math.log(p) + (1 - p) * math.log((1 - p) / 1e-8)

    found = cmpm(2 * torch.eye(2), torch.eye(2), torch.tensor([0, 1]))
    assert float(found) == pytest.approx(one_row(2.0) + one_row(1.0), rel=1e-6)
    with torch.autocast("cpu", torch.bfloat16):
        assert float(cmpm(2 * torch.eye(2), torch.eye(2), torch.tensor([0, 1]))) == float(found)
    with pytest.raises(ValueError, match="a label per feature"):
        cmpm(torch.eye(2), torch.eye(2), torch.tensor([0]))


def slow_cross_entropy(scores: Tensor, labels: list[int]) -> float:
    """Mean over the rows whose label is a column; 0 without one."""
    values = [
        math.log(sum(math.exp(value) for value in row)) - row[label]
        for row, label in zip(scores.double().tolist(), labels, strict=True)
        if 0 <= label < len(row)
    ]
    return sum(values) / len(values) if values else 0.0


@pytest.mark.parametrize("labels", [[0, 3, 2, 0], [0, 4, 17, 1], [4, -1, 5, 9]])
def test_identity_is_the_mean_over_both_modalities_of_known_people(labels: list[int]) -> None:
    images, texts, owners = features(4, 4, 1), features(6, 4, 2), [0, 0, 1, 2, 3, 3]
    of_texts = [labels[owner] for owner in owners]
    images.requires_grad_()
    found = id_loss(images, texts, torch.tensor(labels), torch.tensor(of_texts))
    expected = (slow_cross_entropy(images.detach(), labels) + slow_cross_entropy(texts, of_texts)) / 2
    assert found.item() == pytest.approx(expected, rel=1e-5, abs=1e-12)
    torch.autograd.backward(found)
    assert images.grad is not None
    learned = (images.grad.abs().sum(dim=1) > 0).tolist()
    assert learned == [0 <= label < 4 for label in labels]


def test_identity_by_hand() -> None:
    # The image gives its person 3/4, the text 1/2.
    images, texts = torch.tensor([[math.log(3), 0.0]]), torch.zeros(1, 2)
    assert float(id_loss(images, texts, torch.tensor([0]))) == pytest.approx((math.log(4 / 3) + math.log(2)) / 2)
    with pytest.raises(ValueError, match="a label per feature"):
        id_loss(images, texts, torch.tensor([0, 1]))


def test_masked_words_equal_a_slow_loop_and_need_none() -> None:
    scores, ids = features(6, 11, 4), [0, 10, 3, 3, 7, 1]
    assert float(mlm(scores, torch.tensor(ids))) == pytest.approx(slow_cross_entropy(scores, ids), rel=1e-5)
    nothing = torch.zeros(0, 11, requires_grad=True)
    loss = mlm(nothing, torch.zeros(0, dtype=torch.long))
    torch.autograd.backward(loss)
    assert loss.item() == 0
    assert mlm(scores.bfloat16(), torch.tensor(ids)).dtype == torch.float32
    with pytest.raises(ValueError, match="an id per row"):
        mlm(scores, torch.tensor([1]))


def test_the_chance_level_of_distinct_labels_is_the_logarithm_of_the_choices() -> None:
    images, image_index = torch.arange(5), torch.arange(5).repeat_interleave(2)
    found = chance_levels(images, images[image_index], 7, LossConfig(sdm=0, itc=0.5, id=2, mlm=1))
    assert found == {"itc": pytest.approx(math.log(10) + math.log(5)), "id": pytest.approx(math.log(7))}


@given(labels=st.lists(st.integers(0, 3), min_size=2, max_size=8), temperature=st.floats(0.01, 1))
def test_at_chance_sdm_and_cmpm_spread_evenly_over_all_texts(labels: list[int], temperature: float) -> None:
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
    found = chance_levels(torch.tensor(labels), torch.tensor(labels), 0, config)
    assert found.keys() == {"sdm", "cmpm"}
    assert all(value == pytest.approx(2 * expected, abs=1e-4) for value in found.values())
