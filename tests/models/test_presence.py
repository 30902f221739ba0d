"""The file by which a model tells empty places from people: how it is fitted, kept, checked and dropped."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from textreid.artifacts import MANIFEST, read_json, write_json
from textreid.errors import ArtifactError, ModelError
from textreid.models import Model, load_model
from textreid.models.folder import BUNDLED, add_presence, open_folder
from textreid.models.presence import PRESENCE, Presence, fit_log_odds
from textreid.models.query_encoder import QueryEncoder


def presence_of(folder: Path, seed: int = 0) -> Presence:
    opened = open_folder(folder)
    weights = np.random.default_rng(seed).normal(size=opened.config.embedding_dim).round(4).astype(np.float32)
    return Presence(opened.fingerprint, weights, bias=0.5, threshold=-2.0, penalty=0.1, made={"seed": seed})


def unit(vectors: np.ndarray) -> np.ndarray:
    lengths: np.ndarray = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / lengths, np.float32)


def test_the_log_odds_and_the_losses_of_a_case_worked_by_hand() -> None:
    presence = Presence("", np.array([3, 4], np.float32), bias=-1.0, threshold=-3.0, penalty=0.5)
    features = np.array([[1, 0], [0, 1], [-0.6, -0.8], [0.6, -0.8]], np.float32)
    log_odds = presence.log_odds(features)
    assert log_odds.tolist() == pytest.approx([2, 3, -6, -2.4])
    assert presence.losses(log_odds).tolist() == pytest.approx([0, 0, 3, 1.2])


def test_the_fit_is_the_minimum_of_the_loss_written_out() -> None:
    generator = np.random.default_rng(3)
    apart = np.array([0.7, 0, 0, 0, 0])
    people, empty = unit(generator.normal(size=(60, 5)) + apart), unit(generator.normal(size=(25, 5)) - apart)
    weights, bias = fit_log_odds(people, empty)

    def loss(weights: np.ndarray, bias: float) -> float:
        of_people = [np.log1p(np.exp(-(weights @ feature + bias))) for feature in people.astype(float)]
        of_empty = [np.log1p(np.exp(weights @ feature + bias)) for feature in empty.astype(float)]
        return float(np.mean(of_people) / 2 + np.mean(of_empty) / 2 + 1e-6 * (weights @ weights) / 2)

    least = loss(weights.astype(float), bias)
    for number in range(5):
        for step in (0.05, -0.05):
            assert loss(weights + step * np.eye(5)[number], bias) > least
    assert loss(weights.astype(float), bias + 0.05) > least
    assert loss(weights.astype(float), bias - 0.05) > least
    assert weights[0] > 2


def test_the_fit_ends_where_a_line_parts_everything() -> None:
    weights, bias = fit_log_odds(np.eye(4, dtype=np.float32)[:2], np.eye(4, dtype=np.float32)[2:])
    assert np.isfinite(weights).all()
    assert (np.eye(4) @ weights + bias > 0).tolist() == [True, True, False, False]


def test_both_sides_of_a_model_read_it(folder: Path) -> None:
    assert QueryEncoder.load(folder).presence is None
    assert load_model(folder).presence is None
    before = read_json(folder / MANIFEST)
    for seed in (1, 2):  # the second takes the place of the first
        expected = presence_of(folder, seed)
        add_presence(folder, expected)
        for found in (QueryEncoder.load(folder).presence, load_model(folder).presence):
            assert found is not None
            assert found.weights.tolist() == expected.weights.tolist()
            assert (found.bias, found.threshold, found.penalty) == (0.5, -2.0, 0.1)
            assert found.made == {"seed": seed}
    after = read_json(folder / MANIFEST)
    assert after["files"].pop(PRESENCE) == (folder / PRESENCE).stat().st_size
    assert after == before


def test_a_file_that_was_not_finished_is_not_read(folder: Path) -> None:
    (folder / PRESENCE).write_text("{", encoding="utf-8")
    assert load_model(folder).presence is None


def test_a_copy_keeps_it_and_another_model_does_not(folder: Path, tmp_path: Path) -> None:
    add_presence(folder, presence_of(folder))
    model = load_model(folder)
    model.save(tmp_path / "copy", "# A copy\n")
    assert (tmp_path / "copy" / PRESENCE).read_bytes() == (folder / PRESENCE).read_bytes()
    assert load_model(tmp_path / "copy").presence is not None
    with torch.no_grad():
        model.encoder.visual_projection.weight[0, 0] += 1
    model.save(tmp_path / "changed", "# Another\n")
    assert not (tmp_path / "changed" / PRESENCE).exists()
    Model(model.encoder, model.tokenizer).save(tmp_path / "without", "# Without\n")
    assert load_model(tmp_path / "without").presence is None


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"weights": [1.0, 2.0]}, "weights: damaged: expected 20 numbers"),
        ({"weights": [1.0] * 19 + ["x"]}, "weights: damaged: expected 20 numbers"),
        ({"weights": [1.0] * 19 + [float("nan")]}, "weights: damaged: expected 20 numbers"),
        ({"weights": None}, "weights: damaged: expected 20 numbers"),
        ({"bias": None}, "bias: damaged: expected a number, not None"),
        ({"threshold": "low"}, "threshold: damaged: expected a number, not 'low'"),
        ({"penalty": float("inf")}, "penalty: damaged: expected a number, not inf"),
        ({"fingerprint": "other"}, "fingerprint: made for another model than "),
    ],
)
def test_a_damaged_file_is_named_in_one_line(changed: dict[str, object], message: str, folder: Path) -> None:
    add_presence(folder, presence_of(folder))
    content = {**read_json(folder / PRESENCE), **changed}
    (folder / PRESENCE).write_text(json.dumps(content), encoding="utf-8")
    declare(folder)
    for load in (load_model, QueryEncoder.load):
        with pytest.raises(ModelError) as caught:
            load(folder)
        assert str(caught.value).startswith(f"{folder / PRESENCE}: {message}")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [("{", ArtifactError, "not valid JSON"), ("[]", ModelError, "damaged: expected an object")],
)
def test_a_file_that_is_something_else(content: str, error: type[Exception], message: str, folder: Path) -> None:
    add_presence(folder, presence_of(folder))
    (folder / PRESENCE).write_text(content, encoding="utf-8")
    with pytest.raises(ArtifactError, match=r"presence\.json: .* truncated or edited"):
        load_model(folder)
    declare(folder)
    with pytest.raises(error, match=rf"presence\.json: {message}"):
        load_model(folder)


def declare(folder: Path) -> None:
    """List the file in the manifest as it is now."""
    manifest = read_json(folder / MANIFEST)
    manifest["files"][PRESENCE] = (folder / PRESENCE).stat().st_size
    write_json(folder / MANIFEST, manifest)


@pytest.mark.parametrize("name", BUNDLED)
def test_the_bundled_models_have_a_small_one(name: str) -> None:
    presence = load_model(name).presence
    assert presence is not None
    assert presence.fingerprint == load_model(name).fingerprint
    assert (BUNDLED[name] / PRESENCE).stat().st_size < 10_000
    assert 0 < presence.penalty < 1
    assert presence.threshold <= 0
