import os
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.commands import textreid

from textreid.errors import ModelError
from textreid.gallery.encoder import GalleryEncoder
from textreid.gallery.search import search
from textreid.models import Ensemble, Model, initialize, load_model
from textreid.models.colour_expert import ColourExpert
from textreid.models.folder import DEFAULT
from textreid.models.side_by_side import join_presence, names_of

SENTENCES = ["a woman in a red jacket", "somebody", "a man in blue jeans and white shoes"]


MODELS = "small+tiny+colours+attributes"


@pytest.fixture(scope="module")
def bundled() -> Ensemble:
    model = load_model(MODELS)
    assert isinstance(model, Ensemble)
    return model


def dressed(upper: str, lower: str) -> Image.Image:
    image = Image.new("RGB", (64, 128), (150, 150, 155))
    image.paste(upper, (20, 20, 45, 65))
    image.paste(lower, (22, 64, 43, 113))
    return image


def test_names_are_split_unless_they_are_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert names_of("small+tiny+colours") == ("small", "tiny", "colours")
    assert names_of(Path("runs/a+small")) == ("runs/a", "small")
    monkeypatch.chdir(tmp_path)
    Path("a+b").mkdir()
    assert names_of("a+b") == names_of("small") == names_of(None) == ()
    for wrong in ("colours", "attributes", "small+", "+small", "small+small", "+", "colours+attributes"):
        with pytest.raises(ModelError, match=r"^(colours|attributes): an expert|expected different models"):
            names_of(wrong)
    with pytest.raises(ModelError, match="attributes reads the trunk of small: name it too"):
        names_of("tiny+attributes")


def test_a_cosine_is_the_mean_of_those_of_the_members(bundled: Ensemble, pictures: list[Image.Image]) -> None:
    features, texts = bundled.encode_images(pictures), bundled.encode_texts(SENTENCES)
    assert features.shape == (13, 256 + 256 + 148 + 312)
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, atol=1e-5)
    pixels = np.stack([bundled.decode(picture) for picture in pictures])
    (small, tiny), (colours, attributes) = bundled.networks, bundled.experts
    assert isinstance(colours, ColourExpert)
    halved = np.stack([tiny.decode(Image.fromarray(one.transpose(1, 2, 0))) for one in pixels])
    cosines = [
        small.encode_texts(SENTENCES) @ small.encode_pixels(pixels).T,
        tiny.encode_texts(SENTENCES) @ tiny.encode_pixels(halved).T,
        colours.encode_texts(SENTENCES) @ colours.encode_pixels(pixels).T,
        # Its part of the features, each of which has the root of the share of its weight.
        attributes.encode_texts(SENTENCES) @ features[:, -312:].T / (attributes.weight / 9) ** 0.5,
    ]
    np.testing.assert_allclose(
        texts @ features.T, np.average(cosines, axis=0, weights=[1, 1, 1, attributes.weight]), atol=1e-5
    )
    np.testing.assert_array_equal(bundled.encode_pixels(pixels), features)
    assert bundled.similarity(SENTENCES, pictures).shape == (3, 13)
    assert bundled.encode_images([]).shape == (0, 972)
    assert bundled.encode_texts([]).shape == (0, 972)


def test_the_expert_tells_who_wears_which_colour() -> None:
    expert = ColourExpert.load()
    worn = [("red", "blue"), ("yellow", "black"), ("green", "white"), ("white", "green")]
    pixels = np.stack([np.asarray(dressed(*each)).transpose(2, 0, 1) for each in worn])
    texts = expert.encode_texts([f"a man in a {upper} shirt and {lower} trousers" for upper, lower in worn])
    assert (texts @ expert.encode_pixels(pixels).T).argmax(axis=1).tolist() == [0, 1, 2, 3]
    assert not expert.encode_texts(["somebody with a bag"]).any()
    assert expert.encode_pixels(pixels[:0]).shape == (0, expert.dimension)


def test_a_damaged_file_of_the_expert_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for content in ("{}", '{"mean": [1, 2], "deviation": [1, 2]}', '{"mean": "a", "deviation": 3}'):
        (tmp_path / "colours.json").write_text(content)
        monkeypatch.setattr("textreid.models.colour_expert.USUAL", tmp_path / "colours.json")
        with pytest.raises(ModelError, match=r"colours\.json: damaged: expected"):
            ColourExpert.load.__wrapped__(ColourExpert)


def test_a_search_asks_what_the_networks_answer(bundled: Ensemble) -> None:
    encoder = GalleryEncoder(MODELS, "fp32")
    assert encoder.spaces == (bundled.fingerprint,)
    np.testing.assert_allclose(encoder.encode_sentences(SENTENCES), bundled.encode_texts(SENTENCES), atol=1e-4)
    assert encoder.presence is not None
    assert encoder.presence.fingerprint == bundled.fingerprint


def test_any_models_go_together(folder: Path, model: Model, pictures: list[Image.Image], tmp_path: Path) -> None:
    other = Model(initialize(model.config, seed=8), model.tokenizer, selected_on="a coin", training_text=("b", "a"))
    other.save(tmp_path / "other", "card")
    both = load_model(f"{folder}+{tmp_path / 'other'}")
    assert isinstance(both, Ensemble)
    assert both.encode_texts(SENTENCES).shape == (3, 40)
    assert (both.selected_on, both.training_text, both.presence) == (None, None, None)
    swapped = load_model(f"{tmp_path / 'other'}+{folder}")
    assert len({both.fingerprint, swapped.fingerprint, model.fingerprint, other.fingerprint}) == 4
    crops = tmp_path / "crops"
    crops.mkdir()
    for number, picture in enumerate(pictures[:3]):
        picture.save(crops / f"{number}.png")
    found = search("a red coat", crops, model=f"{folder}+{tmp_path / 'other'}", cache=False, precision="fp32")
    expected = both.similarity(["a red coat"], [hit.path for hit in found.hits])[0]
    np.testing.assert_allclose([hit.score for hit in found.hits], expected, atol=1e-5)


def test_the_default_says_what_chose_it(bundled: Ensemble) -> None:
    assert "CUHK-PEDES' validation split" in str(load_model().selected_on)
    assert "CUHK-PEDES" not in str(bundled.selected_on)


def test_presence_averages_the_log_odds(bundled: Ensemble, pictures: list[Image.Image]) -> None:
    assert bundled.presence is not None
    pixels = np.stack([bundled.decode(picture) for picture in pictures])
    found = bundled.presence.log_odds(bundled.encode_pixels(pixels))
    small, tiny = bundled.networks
    halved = np.stack([tiny.decode(Image.fromarray(one.transpose(1, 2, 0))) for one in pixels])
    parts = []
    for network, given in ((small, pixels), (tiny, halved)):
        assert network.presence is not None
        parts.append(network.presence.log_odds(network.encode_pixels(given)))
    np.testing.assert_allclose(found, np.mean(parts, axis=0), atol=1e-3)
    penalties = [network.presence.penalty for network in (small, tiny) if network.presence]
    assert bundled.presence.penalty == pytest.approx(np.mean(penalties))
    without = Model(small.encoder, small.tokenizer)
    assert join_presence([without, tiny], ()) is None


@pytest.mark.slow
def test_what_needs_one_network_says_so(tmp_path: Path) -> None:
    for arguments in (
        ["convert", DEFAULT, "out"],
        ["convert", DEFAULT, "out", "--to", "onnx"],
        ["inspect", DEFAULT, "--image", "a.png", "--caption", "a man"],
    ):
        Image.new("RGB", (20, 50)).save(tmp_path / "a.png")
        done = textreid(*arguments, before=partial(os.chdir, tmp_path))
        assert done.returncode == 1
        assert "name one of them alone" in done.stderr.splitlines()[-1]
        assert not (tmp_path / "out").exists()
    with pytest.raises(ModelError, match="several models side by side"):
        initialize(load_model("tiny").config.__class__(weights="small+tiny"))
