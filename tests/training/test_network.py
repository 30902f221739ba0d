from collections.abc import Callable

import pytest
import torch

from textreid.config import Config
from textreid.models import DualEncoder
from textreid.models.device import Device
from textreid.models.trunk import TRUNK
from textreid.training.losses import id_loss, mlm
from textreid.training.network import CrossModalHead, Outputs, TrainedNetwork
from textreid.training.optimizer import make_optimizer, optimizer_step

MakeConfig = Callable[..., Config]
WIDTH, VOCABULARY = 32, 50  # of a word head alone
BOTH = ("losses.sdm=1", "losses.id=1", "losses.mlm=1", "masking.method=em")


def build(config: Config, identities: int = 5, dtype: torch.dtype = torch.float32) -> TrainedNetwork:
    compute = Device(torch.device("cpu"), dtype, "")
    return TrainedNetwork(DualEncoder(config.model), config.losses, identities, seed=0, token_layer=2, compute=compute)


def forward(network: TrainedNetwork) -> Outputs:
    """Two images, three captions of five tokens, two masked words."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(2, 3, 32, 16, generator=generator)
    ids = torch.randint(1, 290, (3, 5), generator=generator)
    is_masked = torch.zeros(3, 5, dtype=torch.bool)
    is_masked[0, 1] = is_masked[2, 3] = True
    outputs: Outputs = network(pixels, ids, torch.tensor([5, 4, 5]), torch.tensor([0, 0, 1]), is_masked)
    return outputs


def test_shapes(small_config: MakeConfig) -> None:
    outputs = forward(build(small_config(*BOTH)))
    shapes = {name: tuple(value.shape) for name, value in outputs._asdict().items()}
    assert shapes == {
        "image_features": (2, 32), "text_features": (3, 32), "patch_tokens": (2, 8, 32),
        "image_identities": (2, 5), "text_identities": (3, 5), "words": (2, 300),
    }  # fmt: skip


def test_without_their_losses_there_are_no_heads_and_the_features_are_the_same(small_config: MakeConfig) -> None:
    with_heads = build(small_config(*BOTH))
    without = build(small_config())
    without.encoder.load_state_dict(with_heads.encoder.state_dict())
    assert {name for name, _ in without.named_children()} == {"encoder"}
    full, plain = forward(with_heads), forward(without)
    for name in ("image_features", "text_features", "patch_tokens"):
        torch.testing.assert_close(getattr(plain, name), getattr(full, name))
    assert plain.image_identities.numel() == plain.text_identities.numel() == plain.words.numel() == 0


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("losses", [(), BOTH], ids=["features", "all"])
def test_every_parameter_is_trained(losses: tuple[str, ...], precision: torch.dtype, small_config: MakeConfig) -> None:
    network = build(small_config(*losses), dtype=precision)
    outputs = forward(network)
    assert outputs.image_features.dtype == precision
    learned = [value.float().square().sum() for value in outputs if value.requires_grad]
    torch.autograd.backward(torch.stack(learned).sum())
    assert [name for name, parameter in network.named_parameters() if parameter.grad is None] == []


@pytest.mark.parametrize("loss", ["id", "mlm"])
def test_the_gradient_of_each_head_reaches_both_towers(loss: str, small_config: MakeConfig) -> None:
    network = build(small_config(*BOTH))
    outputs = forward(network)
    if loss == "id":
        labels, of_texts = torch.tensor([0, 3]), torch.tensor([0, 0, 3])
        value = id_loss(outputs.image_identities, outputs.text_identities, labels, of_texts)
    else:
        value = mlm(outputs.words, torch.tensor([7, 8]))
    torch.autograd.backward(value)
    for tower in (network.encoder.vision_model, network.encoder.text_model):
        reached = [
            parameter.grad is not None and bool(parameter.grad.abs().sum() > 0) for parameter in tower.parameters()
        ]
        assert sum(reached) > 0.9 * len(reached)  # a key's bias has no gradient: softmax takes it out
        assert len(reached) > 30


def test_every_parameter_is_in_one_group_with_its_rate_and_decay(small_config: MakeConfig) -> None:
    config = small_config(
        *BOTH, "optimizer.head_lr_multiplier=5", "optimizer.bias_lr_multiplier=2", "optimizer.decay_biases=false",
        "optimizer.weight_decay=0.25",
    )  # fmt: skip
    network = build(config)
    optimizer = make_optimizer(network, config.optimizer)
    seen = [id(parameter) for group in optimizer.param_groups for parameter in group["params"]]
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    assert sorted(seen) == sorted(names)
    checked = 0
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            name = names[id(parameter)]
            head = name.split(".")[0] in ("identity_head", "word_head")
            bias = name.endswith("bias")
            assert group["factor"] == (5 if head else 2 if bias else 1), name
            assert group["weight_decay"] == (0 if bias else 0.25), name
            checked += 1
    assert checked == len(names) > 100


def test_a_step_moves_each_group_at_its_rate(small_config: MakeConfig) -> None:
    config = small_config(
        *BOTH, "optimizer.bias_lr_multiplier=2", "optimizer.decay_biases=false", "optimizer.weight_decay=0"
    )
    network = build(config)
    optimizer = make_optimizer(network, config.optimizer)
    before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    for parameter in network.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer_step(network, optimizer, 0.01, clip_norm=0.0)  # Adam's first step is the rate itself
    moved = {name: (before[name] - value).mean().item() for name, value in network.named_parameters()}
    assert moved["encoder.visual_projection.weight"] == pytest.approx(0.01, rel=1e-3)
    assert moved["encoder.text_model.final_layer_norm.bias"] == pytest.approx(0.02, rel=1e-3)
    assert moved["identity_head.weight"] == pytest.approx(0.05, rel=1e-3)
    assert moved["word_head.attention.in_proj_bias"] == pytest.approx(0.05, rel=1e-3)
    assert all(parameter.grad is None for parameter in network.parameters())


def test_a_step_whose_gradients_overflow_is_skipped_and_the_scale_halved(small_config: MakeConfig) -> None:
    config = small_config()
    network = build(config, dtype=torch.float16)
    optimizer = make_optimizer(network, config.optimizer)
    before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    for clip_norm, gradient, moved in ((0.0, float("inf"), False), (1.0, float("inf"), False), (1.0, 1.0, True)):
        scale = float(network.scaler.scale(torch.ones(())))
        for parameter in network.parameters():
            parameter.grad = torch.full_like(parameter, gradient)
        optimizer_step(network, optimizer, 0.01, clip_norm)
        assert float(network.scaler.scale(torch.ones(()))) == (scale if moved else scale / 2)
        changed = [not torch.equal(before[name], value) for name, value in network.named_parameters()]
        assert all(changed) if moved else not any(changed)


def test_all_parameters_are_one_group_in_pretraining(small_config: MakeConfig) -> None:
    config = small_config()
    groups = make_optimizer(build(config), config.optimizer).param_groups
    assert [group["factor"] for group in groups] == [1.0]


def test_a_trunk_learns_at_a_rate_of_its_own_or_stays(small_config: MakeConfig) -> None:
    size = ("model.image_height=32", "model.image_width=32", "model.patch_size=16", "model.stem=efficientnet-lite0")
    config = small_config(*size, "optimizer.trunk_lr_multiplier=0.1")
    groups = make_optimizer(build(config), config.optimizer).param_groups
    assert sorted(group["factor"] for group in groups) == [0.1, 1.0]

    network = build(config)
    make_optimizer(network, small_config("optimizer.trunk_lr_multiplier=0").optimizer)
    frozen = {name for name, parameter in network.named_parameters() if not parameter.requires_grad}
    assert frozen == {name for name, _ in network.named_parameters() if TRUNK in name} != set()


@pytest.fixture
def head() -> CrossModalHead:
    torch.manual_seed(0)
    return CrossModalHead(WIDTH, VOCABULARY)


def tokens(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_scores_every_id_at_the_chosen_positions_only(head: CrossModalHead) -> None:
    is_masked = torch.zeros(3, 6, dtype=torch.bool)
    is_masked[0, 2] = is_masked[0, 4] = is_masked[2, 1] = True
    texts, images, lengths = tokens(3, 6, WIDTH, seed=1), tokens(3, 9, WIDTH, seed=2), torch.tensor([6, 3, 4])
    scores = head(texts, images, lengths, is_masked)
    assert scores.shape == (3, VOCABULARY)
    everywhere = head(texts, images, lengths, torch.ones_like(is_masked)).reshape(3, 6, VOCABULARY)
    torch.testing.assert_close(scores, everywhere[is_masked])
    assert head(texts, images, lengths, torch.zeros_like(is_masked)).shape == (0, VOCABULARY)


def test_nothing_sees_padding_nor_another_caption(head: CrossModalHead) -> None:
    texts, images, lengths = tokens(2, 6, WIDTH, seed=1), tokens(2, 9, WIDTH, seed=2), torch.tensor([4, 6])
    is_masked = torch.arange(6) < torch.tensor([[4], [6]])
    before = head(texts, images, lengths, is_masked)
    texts[0, 4:] = 100.0
    torch.testing.assert_close(head(texts, images, lengths, is_masked), before)
    alone = head(texts[:1, :4], images[:1], lengths[:1], is_masked[:1, :4])
    torch.testing.assert_close(alone, before[:4], rtol=1e-4, atol=1e-5)


def test_a_word_is_predicted_from_the_image_and_from_words_on_both_sides(head: CrossModalHead) -> None:
    texts, images, lengths = tokens(1, 5, WIDTH, seed=1), tokens(1, 9, WIDTH, seed=2), torch.tensor([5])
    texts.requires_grad_()
    images.requires_grad_()
    is_masked = torch.tensor([[False, False, True, False, False]])
    torch.autograd.backward(head(texts, images, lengths, is_masked).square().sum())
    assert texts.grad is not None
    assert images.grad is not None
    assert (texts.grad.abs().sum(dim=2) > 0).all()
    assert (images.grad.abs().sum(dim=2) > 0).all()
    assert all(parameter.grad is not None for parameter in head.parameters())


@pytest.mark.parametrize(("width", "heads"), [(32, 1), (256, 4), (512, 8), (200, 2)])
def test_attention_has_heads_of_about_64_channels(width: int, heads: int) -> None:
    assert CrossModalHead(width, 8).attention.num_heads == heads
