from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from transformers import CLIPConfig, CLIPModel

from textreid.config import ModelConfig
from textreid.models import DualEncoder, initialize
from textreid.presets import paper

SQUARE = ModelConfig(
    image_height=48,
    image_width=48,
    patch_size=16,
    vision_width=32,
    vision_layers=3,
    vision_heads=2,
    text_width=48,
    text_layers=2,
    text_heads=3,
    text_length=20,
    embedding_dim=24,
    vocabulary_size=300,
)


def transformers_clip(config: ModelConfig) -> Any:
    """The same shape as transformers' own model, with weights that are not near zero."""
    shared = {"hidden_act": config.activation, "projection_dim": config.embedding_dim}
    torch.manual_seed(0)
    clip: Any = CLIPModel(
        CLIPConfig(
            text_config={
                "vocab_size": config.vocabulary_size,
                "hidden_size": config.text_width,
                "intermediate_size": 4 * config.text_width,
                "num_hidden_layers": config.text_layers,
                "num_attention_heads": config.text_heads,
                "max_position_embeddings": config.text_length,
                "bos_token_id": config.vocabulary_size - 2,
                "eos_token_id": config.vocabulary_size - 1,
                **shared,
            },
            vision_config={
                "hidden_size": config.vision_width,
                "intermediate_size": 4 * config.vision_width,
                "num_hidden_layers": config.vision_layers,
                "num_attention_heads": config.vision_heads,
                "image_size": config.image_height,
                "patch_size": config.patch_size,
                **shared,
            },
            projection_dim=config.embedding_dim,
        )
    )
    with torch.no_grad():
        for parameter in clip.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return clip.eval()


def from_transformers(clip: Any, config: ModelConfig) -> DualEncoder:
    state = {name: tensor for name, tensor in clip.state_dict().items() if name != "logit_scale"}
    encoder = DualEncoder(config)
    encoder.load_state_dict(state)  # strict: the names and shapes are the same
    return encoder


def texts(config: ModelConfig) -> tuple[torch.Tensor, torch.Tensor]:
    lengths = torch.tensor([9, 2, 14])
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(1, config.vocabulary_size - 3, (3, 14), generator=generator)
    ids[:, 0] = config.vocabulary_size - 2
    for row, length in zip(ids, lengths, strict=True):
        row[length - 1] = config.vocabulary_size - 1
        row[length:] = 0
    return ids, lengths


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
@torch.no_grad()
def test_features_and_tokens_equal_transformers(activation: Any) -> None:
    config = replace(SQUARE, activation=activation)
    clip = transformers_clip(config)
    encoder = from_transformers(clip, config)
    pixels = torch.randn(4, 3, 48, 48)
    ids, lengths = texts(config)

    vision = clip.vision_model(pixel_values=pixels, output_hidden_states=True)
    text = clip.text_model(input_ids=ids, output_hidden_states=True)
    torch.testing.assert_close(
        encoder.encode_image(pixels), clip.visual_projection(vision.pooler_output), rtol=1e-5, atol=1e-5
    )
    torch.testing.assert_close(
        encoder.encode_text(ids, lengths), clip.text_projection(text.pooler_output), rtol=1e-5, atol=1e-5
    )
    for layer in range(1, config.vision_layers + 1):
        inner = vision.hidden_states[layer][:, 1:]
        expected = clip.visual_projection(clip.vision_model.post_layernorm(inner))
        found = encoder(pixels, ids, lengths, layer)
        torch.testing.assert_close(found.patch_tokens, expected, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(
            found.image_features, clip.visual_projection(vision.pooler_output), rtol=1e-5, atol=1e-5
        )
        torch.testing.assert_close(found.text_features, clip.text_projection(text.pooler_output), rtol=1e-5, atol=1e-5)
    for layer in range(1, config.text_layers + 1):
        expected = clip.text_projection(clip.text_model.final_layer_norm(text.hidden_states[layer]))
        found_tokens = encoder.text_tokens(ids, lengths, layer)
        for row, length in enumerate(lengths.tolist()):
            torch.testing.assert_close(found_tokens[row, :length], expected[row, :length], rtol=1e-5, atol=1e-5)
            assert not found_tokens[row, length:].any()


def test_gradients_equal_those_of_transformers() -> None:
    clip = transformers_clip(SQUARE).double()
    encoder = from_transformers(clip, SQUARE).double()
    pixels, (ids, lengths) = torch.randn(3, 3, 48, 48, dtype=torch.float64), texts(SQUARE)
    pull = torch.randn(3, SQUARE.embedding_dim, dtype=torch.float64)
    found = encoder(pixels, ids, lengths, 2)
    torch.autograd.backward([found.image_features, found.text_features], [pull, pull])
    expected = clip.get_image_features(pixels).pooler_output, clip.get_text_features(ids).pooler_output
    torch.autograd.backward(expected, [pull, pull])
    reference = dict(clip.named_parameters())
    compared = 0
    for name, parameter in encoder.named_parameters():
        torch.testing.assert_close(parameter.grad, reference[name].grad, rtol=1e-9, atol=1e-10)
        compared += 1
    assert compared == 13 + 16 * 5


def test_a_seed_gives_the_weights_that_it_always_gave() -> None:
    encoder = initialize(SQUARE, seed=5)
    found = {
        name: float(parameter.detach().flatten()[7])
        for name, parameter in encoder.named_parameters()
        if "weight" in name
    }
    expected = {
        "vision_model.encoder.layers.1.self_attn.q_proj.weight": 0.0509163,
        "vision_model.encoder.layers.2.mlp.fc2.weight": 0.0922209,
        "text_model.encoder.layers.0.self_attn.out_proj.weight": 0.037561,
        "text_model.encoder.layers.1.mlp.fc1.weight": 0.1628856,
        "text_projection.weight": 0.0840225,
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("stem", ["patch", "convolutional"])
@pytest.mark.parametrize(("height", "width", "patch"), [(64, 32, 16), (64, 32, 8), (24, 40, 4), (16, 16, 1)])
def test_any_image_shape_and_patch_size(stem: Any, height: int, width: int, patch: int) -> None:
    config = replace(SQUARE, stem=stem, image_height=height, image_width=width, patch_size=patch)
    encoder = DualEncoder(config)
    ids, lengths = texts(config)
    found = encoder(torch.randn(3, 3, height, width), ids, lengths, 2)
    assert found.image_features.shape == found.text_features.shape == (3, 24)
    assert found.patch_tokens.shape == (3, (height // patch) * (width // patch), 24)
    assert encoder.text_tokens(ids, lengths, 1).shape == (3, 14, 24)


def test_the_paper_model_has_the_published_shape() -> None:
    with torch.device("meta"):
        encoder = DualEncoder(paper().model)
        pixels, ids = torch.empty(2, 3, 384, 128), torch.zeros(2, 77, dtype=torch.long)
        found = encoder(pixels, ids, torch.tensor([77, 5], device="cpu"), 10)
    assert found.patch_tokens.shape == (2, 192, 512)
    # ViT-B/16 has 149,620,737 parameters; 14x14 positions become 24x8, and the temperature is the loss's.
    assert sum(parameter.numel() for parameter in encoder.parameters()) == 149_620_737 - 1 - (196 - 192) * 768


def test_patches_are_in_reading_order(config: ModelConfig) -> None:
    for stem in ("patch", "convolutional"):  # a trunk sees far beyond a patch
        embeddings = DualEncoder(replace(config, stem=stem)).vision_model.embeddings
        pixels = torch.rand(1, 3, 64, 32)
        changed = pixels.clone()
        changed[:, :, 32:38, 16:22] += 3  # inside the patch of row 2, column 1 of 4 x 2
        with torch.no_grad():
            difference = (embeddings(changed) - embeddings(pixels)).norm(dim=2)[0]
        assert int(difference.argmax()) == 1 + 2 * 2 + 1


@torch.no_grad()
def test_padding_and_company_do_not_change_a_text(config: ModelConfig) -> None:
    encoder = initialize(config, seed=1)
    ids, lengths = texts(config)
    together, tokens = encoder.encode_text(ids, lengths), encoder.text_tokens(ids, lengths, 1)
    padded = torch.nn.functional.pad(ids, (0, 10), value=7)
    torch.testing.assert_close(encoder.encode_text(padded, lengths), together, rtol=1e-4, atol=1e-5)
    assert encoder.text_tokens(padded, lengths, 1).shape == (3, 24, 20)
    for row, length in enumerate(lengths.tolist()):
        alone = ids[row : row + 1, :length]
        torch.testing.assert_close(
            encoder.encode_text(alone, lengths[row : row + 1])[0], together[row], rtol=1e-4, atol=1e-5
        )
        torch.testing.assert_close(
            encoder.text_tokens(alone, lengths[row : row + 1], 1)[0], tokens[row, :length], rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize("all_tokens", [False, True])
def test_texts_without_padding_have_the_features_and_gradients_of_padded_ones(
    config: ModelConfig, all_tokens: bool
) -> None:
    encoder = initialize(config, seed=1).double()
    ids, lengths = texts(config)
    pull = torch.randn(3, config.embedding_dim, dtype=torch.float64)
    pixels = torch.randn(3, 3, config.image_height, config.image_width, dtype=torch.float64)

    def gradients(features: torch.Tensor) -> dict[str, torch.Tensor]:
        encoder.zero_grad()
        torch.autograd.backward(features, pull)
        return {name: p.grad for name, p in encoder.named_parameters() if p.grad is not None and "text" in name}

    packed = encoder(pixels, ids, lengths, 2, all_tokens)
    padded = encoder.encode_text(ids, lengths)
    torch.testing.assert_close(packed.text_features, padded, rtol=1e-9, atol=1e-12)
    found, expected = gradients(packed.text_features), gradients(padded)
    assert len(found) == len(expected) == 3 + 2 * 1 + 16 * config.text_layers
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-9, atol=1e-12)
    if all_tokens:
        assert packed.text_tokens.shape == (3, 14, config.embedding_dim)
        inside = torch.arange(14) < lengths[:, None]
        torch.testing.assert_close(packed.text_tokens, encoder.text_tokens(ids, lengths, config.text_layers))
        assert not packed.text_tokens[~inside].any()


@pytest.mark.parametrize("layer", [1, 3])
def test_the_last_layer_may_be_run_for_the_class_token_alone(config: ModelConfig, layer: int) -> None:
    encoder = initialize(config, seed=1).double()
    ids, lengths = texts(config)
    pixels = torch.randn(3, 3, config.image_height, config.image_width, dtype=torch.float64)
    pull = torch.randn(3, config.embedding_dim, dtype=torch.float64)
    found = []
    for all_tokens in (False, True):
        encoded = encoder(pixels, ids, lengths, layer, all_tokens)
        encoder.zero_grad()
        torch.autograd.backward(encoded.image_features, pull)
        gradients = {
            name: p.grad for name, p in encoder.named_parameters() if name.startswith("vis") and p.grad is not None
        }
        found.append((encoded.image_features, encoded.patch_tokens, gradients))
    alone, whole = found
    assert len(whole[2]) == len([name for name, _ in encoder.named_parameters() if name.startswith("vis")])
    torch.testing.assert_close(alone, whole, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 0.04)]
)
def test_quick_gelu_and_its_derivative(dtype: torch.dtype, tolerance: float) -> None:
    mlp: Any = DualEncoder(SQUARE).vision_model.encoder.layers[0].mlp
    x = torch.linspace(-12, 12, 1001, dtype=torch.float64).to(dtype).requires_grad_()
    activated = mlp.activation(x)
    torch.autograd.backward(activated.sum())
    exact = x.detach().double().requires_grad_()
    expected = exact * torch.sigmoid(1.702 * exact)
    torch.autograd.backward(expected.sum())
    torch.testing.assert_close(activated.double(), expected, rtol=tolerance, atol=tolerance)
    assert x.grad is not None
    torch.testing.assert_close(x.grad.double(), exact.grad, rtol=tolerance, atol=tolerance)


@pytest.mark.filterwarnings("ignore")  # torch's compiler warns of its own doings
@pytest.mark.slow
def test_translated_layers_compute_the_same_for_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    # Traced and differentiated as always; C++ out of the traces takes half a minute, and GPUs run other code
    # (test_gpu.py).
    monkeypatch.setattr("torch.compile", partial(torch.compile, backend="aot_eager"))
    config = replace(SQUARE, vision_layers=1, text_layers=1)
    plain, translated = initialize(config, seed=1), initialize(config, seed=1)
    translated.compile_layers()
    ids, lengths = texts(config)
    for count in (3, 2):
        pixels = torch.randn(count, 3, 48, 48)
        found = [encoder(pixels, ids[:count], lengths[:count], 1) for encoder in (plain, translated)]
        torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-5)
        for encoded in found:
            torch.autograd.backward(encoded.image_features.square().sum() + encoded.text_features.square().sum())
    pairs = list(zip(plain.named_parameters(), translated.named_parameters(), strict=True))
    assert len(pairs) == 13 + 2 * 16
    for (name, one), (same_name, other) in pairs:
        assert name == same_name
        torch.testing.assert_close(other.grad, one.grad, rtol=1e-3, atol=1e-4)


def test_attention_to_text_is_causal(config: ModelConfig) -> None:
    encoder = initialize(config, seed=1)
    ids, lengths = texts(config)
    changed = ids.clone()
    changed[2, 6] = 5
    with torch.no_grad():
        difference = encoder.text_tokens(changed, lengths, 2)[2] - encoder.text_tokens(ids, lengths, 2)[2]
    moved = difference.norm(dim=1) > 1e-6
    assert moved.tolist() == [False] * 6 + [True] * 8


def test_one_image_pass_serves_features_and_detached_patch_tokens(config: ModelConfig) -> None:
    encoder = initialize(config, seed=1)
    passes = []
    encoder.vision_model.register_forward_hook(lambda *_: passes.append(1))
    ids, lengths = texts(config)
    pixels = torch.randn(3, 3, 64, 32)
    found = encoder(pixels, ids, lengths, 2)
    assert passes == [1]
    assert not found.patch_tokens.requires_grad
    assert found.image_features.requires_grad
    assert found.text_features.requires_grad
    torch.testing.assert_close(found.image_features, encoder.encode_image(pixels))
    torch.testing.assert_close(found.text_features, encoder.encode_text(ids, lengths))


def test_text_tokens_stop_at_the_layer(config: ModelConfig) -> None:
    encoder = initialize(config, seed=1)
    ran = []
    for number, block in enumerate(encoder.text_model.encoder.layers, start=1):
        block.register_forward_hook(lambda *_, number=number: ran.append(number))
    encoder.text_tokens(*texts(config), 1)
    assert ran == [1]


@pytest.mark.parametrize("stem", ["patch", "convolutional", "efficientnet-lite0", "efficientnet-lite1"])
def test_every_parameter_gets_a_gradient(config: ModelConfig, stem: Any) -> None:
    encoder = initialize(replace(config, stem=stem), seed=1)
    ids, lengths = texts(config)
    found = encoder(torch.randn(3, 3, 64, 32), ids, lengths, 2)
    torch.autograd.backward((found.image_features @ found.text_features.T).square().sum())
    still = [name for name, p in encoder.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    # Softmax does not see what is added to all scores alike, so keys learn no bias.
    assert [name for name in still if not name.endswith("k_proj.bias")] == []


def test_random_weights_depend_on_the_seed_alone(config: ModelConfig) -> None:
    torch.manual_seed(99)
    before = torch.get_rng_state()
    first = initialize(config, seed=5).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(98)
    again, other = initialize(config, seed=5).state_dict(), initialize(config, seed=6).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["text_projection.weight"], other["text_projection.weight"])


def test_a_small_step_learns_in_bfloat16_too(config: ModelConfig) -> None:
    encoder = initialize(config, seed=2)
    optimizer = torch.optim.Adam(encoder.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(8, 3, 64, 32, generator=generator)
    ids = torch.randint(1, 300, (8, 9), generator=generator)
    lengths = torch.full((8,), 9)
    losses = []
    for _ in range(25):
        with torch.autocast("cpu", torch.bfloat16):
            found = encoder(pixels, ids, lengths, 1)
        images, words = (torch.nn.functional.normalize(f.float(), dim=1) for f in found[:2])
        loss = torch.nn.functional.cross_entropy(images @ words.T / 0.1, torch.arange(8))
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > 1.5
    assert losses[-1] < 0.2
