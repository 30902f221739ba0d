import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from textreid.errors import ModelError
from textreid.models import Ensemble, load_model
from textreid.models.attribute_expert import FOLDER, NETWORK, SHARES, AttributeExpert
from textreid.models.attribute_network import PARTS, AttributeNetwork, load_network
from textreid.models.attribute_reading import ATTRIBUTES, all_told, best_value, read_sentence
from textreid.models.trunk import MAP_CHANNELS
from textreid.seeding import generator
from textreid.synthetic import DOMAINS, render, sample_person
from textreid.synthetic.describer import describe


def likeliest(sentence: str) -> list[tuple[str, str]]:
    """Return what a sentence tells of, each with the value that fits best."""
    return [(told.attribute, best_value(*told)) for told in read_sentence(sentence)]


@pytest.mark.parametrize(
    ("sentence", "told"),
    [
        ("a woman", [("gender", "woman")]),
        ("He is bald.", [("hair_length", "bald"), ("gender", "man")]),
        ("long blonde hair", [("hair_length", "long"), ("hair_colour", "blonde")]),
        ("she has a ponytail", [("gender", "woman"), ("hair_length", "ponytail")]),
        ("a dark blue coat", [("upper", "coat"), ("upper_colour", "navy")]),
        ("Her coat is red, her pants are gray.", [
            ("gender", "woman"), ("upper", "coat"), ("upper_colour", "red"), ("lower", "trousers"),
            ("lower_colour", "grey"),
        ]),
        ("a blue pullover jacket", [("upper", "jacket"), ("upper_colour", "blue")]),
        ("a white tshirt under a black jacket", [
            ("inner_colour", "white"), ("upper", "jacket"), ("upper_colour", "black"),
        ]),
        ("a striped shirt with short sleeves", [
            ("upper_pattern", "stripes"), ("sleeve", "short"), ("upper", "shirt"),
        ]),
        ("black and white sneakers", [
            ("shoes", "trainers"), ("shoes_colour", "black"), ("shoes_colour", "white"),
        ]),
        ("a red back pack and a beanie", [("bag", "backpack"), ("bag_colour", "red"), ("headwear", "beanie")]),
        ("a yellow dress", [
            ("upper", "dress"), ("upper_colour", "yellow"), ("lower", "dress"), ("lower_colour", "yellow"),
        ]),
        ("wearing glasses", [("glasses", "yes")]),
        ("a man beside a lady", []),
        ("a man with his arm around a woman", [("gender", "man")]),
        ("somebody near a red car", []),
        ("", []),
        ("?!", []),
    ],
)  # fmt: skip
def test_a_sentence_is_read(sentence: str, told: list[tuple[str, str]]) -> None:
    assert sorted(likeliest(sentence)) == sorted(told)


def test_a_word_fits_what_describers_use_it_for() -> None:
    (told,) = (told for told in read_sentence("a jacket") if told.attribute == "upper")
    fits = dict(zip(ATTRIBUTES["upper"], told.fits, strict=True))
    assert fits["jacket"] == 1
    assert fits["jacket"] > fits["blazer"] > fits["t-shirt"] > 0


def test_all_that_is_told_is_listed_once() -> None:
    known = all_told()
    assert len(set(known)) == len(known)
    for told in known:
        assert len(told.fits) == len(ATTRIBUTES[told.attribute])
        assert max(told.fits) == 1
        assert min(told.fits) > 0
    place, said = DOMAINS["station"], set()
    for number in range(200):
        person = sample_person(place, generator("told", 0, number))
        said |= set(read_sentence(describe(person, render(person, number, place, 0, 0).view, number)))
    assert said <= set(known)
    assert len(said) > 100


def test_what_is_said_twice_counts_once() -> None:
    expert = AttributeExpert.load()
    once, twice = expert.encode_texts(["a red coat", "A red coat. A coat that is red, a red coat"])
    np.testing.assert_allclose(once, twice, atol=1e-6)


def test_the_network_takes_maps_of_any_size() -> None:
    parts, found = AttributeNetwork()(torch.randn(2, MAP_CHANNELS, 8, 4))
    assert parts.shape == (2, len(PARTS), 32, 16)
    assert {name: tensor.shape[1] for name, tensor in found.items()} == {k: len(v) for k, v in ATTRIBUTES.items()}


def test_features_have_length_one_and_sentences_of_nothing_none() -> None:
    expert = AttributeExpert.load()
    random = np.random.default_rng(0)
    found = np.concatenate([random.dirichlet([0.1] * len(values), 5) for values in ATTRIBUTES.values()], axis=1)
    features = expert.encode_probabilities(found.astype(np.float32))
    assert features.shape == (5, expert.dimension)
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, atol=1e-5)
    texts = expert.encode_texts(["a man", "somebody"])
    np.testing.assert_allclose(np.linalg.norm(texts, axis=1), [1, 0], atol=1e-6)
    assert expert.encode_texts([]).shape == (0, expert.dimension)


def test_the_likelier_picture_scores_higher() -> None:
    expert = AttributeExpert.load()
    even = {name: np.full(len(values), 1 / len(values)) for name, values in ATTRIBUTES.items()}

    def seen(**sure: str) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
        found = dict(even)
        for name, value in sure.items():
            found[name] = np.full(len(found[name]), 0.01)
            found[name][ATTRIBUTES[name].index(value)] = 0.9
        return np.concatenate(list(found.values())).astype(np.float32)

    pictures = np.stack([seen(), seen(upper="coat", upper_colour="red"), seen(upper="coat", upper_colour="green")])
    scores = expert.encode_texts(["a red coat", "a green coat"]) @ expert.encode_probabilities(pictures).T
    assert scores.argmax(axis=1).tolist() == [1, 2]
    assert scores[0, 1] - scores[0, 2] > 0.1


def test_a_word_of_several_kinds_fits_a_picture_of_any() -> None:
    expert = AttributeExpert.load()
    found = {name: np.full((4, len(values)), 1 / len(values)) for name, values in ATTRIBUTES.items()}
    for row, kind in enumerate(("shirt", "t-shirt", "polo shirt", "coat")):
        found["upper"][row] = 0.001
        found["upper"][row, ATTRIBUTES["upper"].index(kind)] = 0.99
    pictures = expert.encode_probabilities(np.concatenate(list(found.values()), axis=1).astype(np.float32))
    shirt, coat = expert.encode_texts(["a shirt", "a coat"]) @ pictures.T
    assert shirt[:3].min() > shirt[3]
    assert coat[3] > coat[:3].max()


@pytest.mark.slow
def test_it_tells_drawn_people_apart_that_it_never_saw() -> None:
    model = load_model("small+attributes")
    assert isinstance(model, Ensemble)
    place = DOMAINS["station"]
    images, sentences = [], []
    for number in range(40):
        person = sample_person(place, generator("attributes", 0, number))
        shot = render(person, number, place, 0, 0)
        images.append(shot.image)
        sentences.append(describe(person, shot.view, number))
    expert = AttributeExpert.load()
    features = model.encode_images(images)[:, -expert.dimension :]
    ranks = (-(expert.encode_texts(sentences) @ features.T)).argsort(axis=1)
    first_five = np.mean([number in row[:5] for number, row in enumerate(ranks)])
    assert first_five > 0.4  # by chance 0.125


def test_it_reads_the_maps_of_its_host(pictures: list[Image.Image]) -> None:
    model = load_model("small+attributes")
    assert isinstance(model, Ensemble)
    small, expert = model.networks[0], AttributeExpert.load()
    pixels = np.stack([small.decode(picture) for picture in pictures])
    with torch.inference_mode():
        trunk = small.encoder.vision_model.embeddings.patch_embedding
        found = load_network(FOLDER / NETWORK).probabilities(trunk.maps(small.normalize(pixels)))  # type: ignore[operator]
    shares = np.array([1, expert.weight]) / (1 + expert.weight)
    expected = np.concatenate(
        [small.encode_pixels(pixels) * shares[0] ** 0.5, expert.encode_probabilities(found.numpy()) * shares[1] ** 0.5],
        axis=1,
    )
    np.testing.assert_allclose(model.encode_images(pictures), expected, atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(expected, axis=1), 1, atol=1e-4)


def test_damaged_files_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("textreid.models.attribute_expert.FOLDER", tmp_path)
    good = json.loads((FOLDER / SHARES).read_text())
    for content in ({}, {**good, "shares": {"gender": [1]}}, {**good, "shares": {**good["shares"], "gender": [1, 0]}}):
        (tmp_path / SHARES).write_text(json.dumps(content))
        with pytest.raises(ModelError, match=rf"{SHARES}: damaged: .*expected"):
            AttributeExpert.load.__wrapped__(AttributeExpert)
    (tmp_path / "broken.safetensors").write_bytes(b"no")
    save_file({"parts.weight": torch.zeros(3)}, tmp_path / "other.safetensors")
    for name in ("broken", "other", "missing"):
        with pytest.raises(ModelError, match=rf"{name}\.safetensors: no weights of the network for attributes"):
            load_network(tmp_path / f"{name}.safetensors")
