"""The pretrained trunk: what it computes, the reading of its published file, and models that have it."""

from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.models.reference_efficientnet import Reference, repeats_of

from textreid.config import ModelConfig
from textreid.errors import ConfigError, ModelError
from textreid.models import Model, Tokenizer, initialize, load_model
from textreid.models.trunk import MAP_CHANNELS, TRUNK, TrunkEmbedding, read_trunk


@pytest.fixture
def with_trunk(config: ModelConfig) -> ModelConfig:
    return replace(config, stem="efficientnet-lite0")


@torch.no_grad()
@pytest.mark.parametrize("stem", ["efficientnet-lite0", "efficientnet-lite1"])
@pytest.mark.parametrize(("height", "width"), [(64, 32), (192, 96)])
def test_it_computes_what_the_published_network_computes(stem: str, height: int, width: int, tmp_path: Path) -> None:
    torch.manual_seed(4)
    reference = Reference(stem).eval()
    torch.save(reference.state_dict(), tmp_path / "published.pth")
    embedding, published = TrunkEmbedding(24, stem), read_trunk(tmp_path / "published.pth", stem)
    embedding.load_state_dict(
        embedding.state_dict() | {f"trunk.{name.removeprefix(TRUNK)}": tensor for name, tensor in published.items()}
    )
    pixels = torch.randn(2, 3, height, width)
    expected, ends = reference.maps(pixels), list(accumulate(repeats_of(stem)))
    for found, row in zip(embedding.trunk(pixels), (2, 4, 6), strict=True):  # the last at the strides 8, 16 and 32
        torch.testing.assert_close(found, expected[ends[row] - 1], rtol=1e-4, atol=1e-4)
    assert embedding(pixels).shape == (2, 24, height // 16, width // 16)


@pytest.mark.parametrize("stem", ["efficientnet-lite0", "efficientnet-lite1"])
def test_the_weights_of_the_other_depth_are_refused(stem: str, with_trunk: ModelConfig, tmp_path: Path) -> None:
    torch.save(Reference(stem).state_dict(), tmp_path / "published.pth")
    other = {"efficientnet-lite0": "efficientnet-lite1", "efficientnet-lite1": "efficientnet-lite0"}[stem]
    with pytest.raises(ModelError, match=rf"published.pth: not {other}, "):
        read_trunk(tmp_path / "published.pth", other)
    with pytest.raises(ModelError, match="small: the trunk of this model is efficientnet-lite0, not"):
        initialize(replace(with_trunk, stem="efficientnet-lite1", trunk_weights="small"))


def test_training_starts_from_the_published_trunk(with_trunk: ModelConfig, published_trunk: Path) -> None:
    encoder = initialize(replace(with_trunk, trunk_weights=str(published_trunk)), seed=1)
    other = initialize(with_trunk, seed=1)
    trunk = read_trunk(published_trunk)
    for name, tensor in encoder.state_dict().items():
        assert torch.equal(tensor, trunk.get(name, other.state_dict()[name])), name
    assert set(trunk) == {name for name in other.state_dict() if name.startswith(TRUNK)}


@torch.no_grad()
def test_maps_are_embedded_as_their_pixels_are() -> None:
    torch.manual_seed(0)
    embedding, pixels = TrunkEmbedding(24), torch.randn(3, 3, 64, 32)
    maps = embedding.maps(pixels)
    assert maps.shape == (3, MAP_CHANNELS, 4, 2)
    torch.testing.assert_close(embedding(maps), embedding(pixels))


def test_a_trunk_may_come_from_a_model_that_has_one(with_trunk: ModelConfig) -> None:
    encoder = initialize(replace(with_trunk, trunk_weights="small"), seed=1)
    bundled, other = load_model("small").encoder.state_dict(), initialize(with_trunk, seed=1).state_dict()
    for name, tensor in encoder.state_dict().items():
        assert torch.equal(tensor, (bundled if name.startswith(TRUNK) else other)[name]), name
    with pytest.raises(ModelError, match="tiny: this model has no trunk to begin with"):
        initialize(replace(with_trunk, trunk_weights="tiny"))


def test_a_random_trunk_neither_dies_nor_explodes() -> None:
    torch.manual_seed(0)
    for found in TrunkEmbedding(24).trunk(torch.randn(4, 3, 64, 32)):
        assert 0.05 < found.std() < 20


def test_a_model_with_a_trunk_is_saved_and_read(
    with_trunk: ModelConfig, published_trunk: Path, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    encoder = initialize(replace(with_trunk, trunk_weights=str(published_trunk)), seed=3)
    encoder.config = replace(encoder.config, weights=str(tmp_path / "before"))
    model = Model(encoder, tokenizer)
    model.save(tmp_path / "model", "# A model for tests\n")
    again = load_model(tmp_path / "model")
    assert again.fingerprint == model.fingerprint
    assert again.config == with_trunk  # which names no file of the machine that made it


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({}, "_blocks.3._bn1.bias is missing"),
        ({"_blocks.3._depthwise_conv.weight": torch.zeros(2, 1, 3, 3)}, "_blocks.3._depthwise_conv.weight is"),
    ],
)
def test_other_weights_are_refused(
    reference_trunk: Reference, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    state = reference_trunk.state_dict() | change
    if not change:
        del state["_blocks.3._bn1.bias"]
    else:
        state["_blocks.3._bn1.weight"] = torch.ones(2)
        state["_blocks.3._bn1.running_var"] = torch.ones(2)
        state["_blocks.3._bn1.running_mean"] = torch.ones(2)
        state["_blocks.3._bn1.bias"] = torch.ones(2)
    torch.save(state, tmp_path / "other.pth")
    with pytest.raises(ModelError, match=message):
        read_trunk(tmp_path / "other.pth")


@pytest.mark.parametrize("content", [b"", b"no pickle", b"PK\x03\x04 cut off"])
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "damaged.pth").write_bytes(content)
    with pytest.raises(ModelError, match=r"damaged\.pth"):
        read_trunk(tmp_path / "damaged.pth")
    with pytest.raises(ModelError, match=r"missing\.pth"):
        read_trunk(tmp_path / "missing.pth")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"patch_size": 8}, "model.patch_size: 8"),
        ({"image_height": 80}, "model.image_height: 80 is not a multiple of 32"),
        ({"stem": "patch", "trunk_weights": "x.pth"}, "model.trunk_weights: the stem patch has no trunk"),
    ],
)
def test_settings_that_do_not_fit(with_trunk: ModelConfig, change: dict[str, Any], message: str) -> None:
    values = {
        name: getattr(replace(with_trunk, **change), name)
        for name in ("stem", "patch_size", "image_height", "image_width", "trunk_weights")
    }
    with pytest.raises(ConfigError, match=message):
        ModelConfig.from_dict(values)
