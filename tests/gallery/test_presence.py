"""Pictures that seem to show nobody lose of their score, from kept vectors too, and a search counts them."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from textreid.artifacts import MANIFEST, read_json, write_json
from textreid.emptiness import shows_nothing
from textreid.errors import ModelError
from textreid.gallery import EmbeddingCache
from textreid.gallery.search import search
from textreid.models import load_model
from textreid.models.folder import BUNDLED, add_presence
from textreid.models.presence import PRESENCE, Presence
from textreid.seeding import Chance
from textreid.synthetic import DOMAINS, write_corpus
from textreid.synthetic.drawing.background import paint_place
from textreid.synthetic.drawing.camera import expose

MakeCrops = Callable[..., Path]
QUERY = "a woman in a red jacket"
STATION = DOMAINS["station"]  # of which the bundled model and its file saw nothing


@pytest.fixture
def own_model(model_folder: Path, tmp_path: Path) -> Path:
    """The small model in a folder that a test may change."""
    return shutil.copytree(model_folder, tmp_path / "model")


def draw_places(folder: Path, count: int) -> None:
    """Draw what cameras see before anybody walks in; pixels alone do not tell."""
    done = 0
    for number in range(10 * count):
        chance = Chance.of("empty", number)
        camera = STATION.cameras[number % len(STATION.cameras)]
        picture = expose(paint_place(camera.place, 120, 280, chance), camera, 140, 60, chance)
        if done < count and not shows_nothing(picture):
            picture.save(folder / f"empty{done}.jpg", quality=80)
            done += 1
    assert done == count


def test_empty_places_rank_below_people(tmp_path: Path) -> None:
    write_corpus(tmp_path / "people", "station", 30, 1, seed=5, first_identity=800_000)
    folder = tmp_path / "people" / "imgs"
    draw_places(folder, 30)
    without = shutil.copytree(BUNDLED["small"], tmp_path / "without")
    manifest = read_json(without / MANIFEST)
    del manifest["files"][PRESENCE]
    write_json(without / MANIFEST, manifest)
    sentences = [
        "a woman in a red jacket", "a man in a grey coat and black trousers", "a person with a dark backpack",
        "a woman in a white shirt and a long skirt", "a man in blue jeans", "somebody in a beige coat",
    ]  # fmt: skip
    with EmbeddingCache() as cache:

        def empty_in_the_first_ten(model: Path) -> int:
            found = [search(sentence, folder, model=model, cache=cache) for sentence in sentences]
            return sum(hit.path.name.startswith("empty") for result in found for hit in result.hits)

        assert empty_in_the_first_ten(without) > 20  # of 60 hits among 30 people and 30 places; it was 43
        assert empty_in_the_first_ten(BUNDLED["small"]) < 6  # it was 5, of the one of 30 that is not told
        everything = search(QUERY, folder, model=BUNDLED["small"], cache=cache, top=60)
        by_default = search(QUERY, folder, cache=cache)
    assert not any(hit.seems_empty for hit in everything.hits[:10])  # the first came at 32
    assert not any(hit.path.name.startswith("empty") for hit in by_default.hits)  # the first came at 19
    told = [hit.path.name for hit in everything.hits if hit.seems_empty]
    assert len(told) >= 20  # most of 30, and hardly anybody: 4 of 500 drawn people of this domain
    assert sum(not name.startswith("empty") for name in told) <= 1
    assert everything.notes == (f"{len(told)} images seem to show nobody: ranked low",)
    assert everything.images == 60


def test_a_score_loses_what_the_file_says(own_model: Path, make_crops: MakeCrops) -> None:
    folder = make_crops(30)
    features = load_model(own_model).encode_images(sorted(folder.iterdir()))
    weights = (8 * (features[4] - features.mean(axis=0))).round(4)
    measure = features @ weights
    bias = -round(float(np.median(measure)), 4)  # half of them lose something
    threshold = round(float(np.sort(measure + bias)[3:5].mean()), 4)  # four seem empty
    fingerprint = load_model(own_model).fingerprint
    with EmbeddingCache() as cache:
        before = search(QUERY, folder, model=own_model, top=30, precision="fp32", cache=cache)
        add_presence(own_model, Presence(fingerprint, weights, bias, threshold, penalty=0.5))
        worked: list[str] = []

        def report(stage: str, done: int, total: int) -> None:
            worked.append(stage)

        after = search(QUERY, folder, model=own_model, top=30, precision="fp32", cache=cache, report=report)
    assert worked == []  # kept vectors serve as they are
    cosines = {hit.path: hit.score for hit in before.hits}
    odds = dict(zip(sorted(folder.iterdir()), measure + bias, strict=True))
    expected = {path: cosine - 0.5 * max(0.0, -float(odds[path])) for path, cosine in cosines.items()}
    assert sum(expected[path] < cosine for path, cosine in cosines.items()) == 15
    assert [hit.path for hit in after.hits] == sorted(expected, key=lambda path: -expected[path])
    assert [hit.score for hit in after.hits] == pytest.approx([expected[hit.path] for hit in after.hits], abs=1e-5)
    assert {hit.path for hit in after.hits if hit.seems_empty} == {path for path in odds if odds[path] < threshold}
    assert (before.notes, after.notes) == ((), ("4 images seem to show nobody: ranked low",))
    assert not any(hit.seems_empty for hit in before.hits)


def test_copies_of_an_empty_picture_are_counted_and_one_is_one(own_model: Path, make_crops: MakeCrops) -> None:
    folder = make_crops(6)
    features = load_model(own_model).encode_images(sorted(folder.iterdir()))
    other = np.delete(features, 2, axis=0).mean(axis=0)
    weights = (100 * (other - features[2])).round(4)
    threshold = round(float(features[2] @ weights) + 1e-2, 4)
    add_presence(own_model, Presence(load_model(own_model).fingerprint, weights, 0.0, threshold, penalty=0.0))

    def notes() -> tuple[str, ...]:
        return search(QUERY, folder, model=own_model, precision="fp32", cache=False).notes

    assert notes() == ("1 image seems to show nobody: ranked low",)
    shutil.copy(folder / "2.png", folder / "copy.png")
    assert notes() == ("2 images seem to show nobody: ranked low",)


def test_a_model_that_changed_since_is_not_judged_by_it(own_model: Path, make_crops: MakeCrops) -> None:
    folder = make_crops(5)
    fingerprint = load_model(own_model).fingerprint
    everything = Presence(fingerprint, np.zeros(16, np.float32), bias=-9.0, threshold=0.0, penalty=1.0)
    add_presence(own_model, everything)
    model = load_model(own_model)
    assert search(QUERY, folder, model=model, cache=False).notes == ("5 images seem to show nobody: ranked low",)
    with torch.no_grad():
        model.encoder.visual_projection.weight[0, 0] += 1
    assert search(QUERY, folder, model=model, cache=False).notes == ()


def test_a_damaged_file_is_one_line(own_model: Path, make_crops: MakeCrops) -> None:
    fingerprint = load_model(own_model).fingerprint
    add_presence(own_model, Presence(fingerprint, np.zeros(3, np.float32), 0.0, 0.0, 0.0))
    with pytest.raises(ModelError, match=r"^\S+presence\.json: weights: damaged: expected 16 numbers$"):
        search(QUERY, make_crops(1), model=own_model, cache=False)
