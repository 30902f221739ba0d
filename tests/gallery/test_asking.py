"""Questions to a gallery in a database: fused, judged, grouped, paged, and written as evidence."""

import hashlib
import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from tests.people.conftest import numbered, write_video

from textreid.errors import ConfigError, DataError
from textreid.gallery.asking import Answer, ask, crops_named, learn_from_pairs
from textreid.gallery.embedding_cache import FileStamp
from textreid.gallery.encoder import GalleryEncoder
from textreid.gallery.exhibits import case_of, exhibits_of, scene_of
from textreid.gallery.query.evidence import check_evidence, write_evidence
from textreid.gallery.query.question import Question
from textreid.gallery.store import Database, Filters, NewCrop, NewFile, Store, StoreError

QUESTION = Question(("a woman in a red jacket",))
Ask = Callable[..., Answer]


@pytest.fixture(scope="module")
def encoder(model_folder: Path) -> GalleryEncoder:
    return GalleryEncoder(model_folder)


@pytest.fixture
def store(database: Database) -> Store:
    """A gallery of 60 crops: of 15 walks in a video, and 20 photographs of which five hardly differ from one before."""
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(60, 16))
    for copy in range(5):
        vectors[50 + copy] = vectors[40 + copy] + rng.normal(0, 0.01, 16)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    crops = [
        NewCrop(
            vectors[i].astype(np.float32), i.to_bytes(32, "big"), b"jpeg %d" % i, track=i % 15 if i < 40 else None,
            camera=f"c{i % 3}", time=datetime(2026, 5, 1) + timedelta(hours=i),
        )
        for i in range(60)
    ]  # fmt: skip
    made = database.create("demo", "small", "f" * 64, 16)
    made.add("/v", [NewFile("/v/a.avi", FileStamp(1, 2, 3), b"a", crops[:40])])
    made.add("/v", [NewFile("/v/b.avi", FileStamp(1, 2, 3), b"b", crops[40:])])
    return made


@pytest.fixture
def asked(store: Store, encoder: GalleryEncoder) -> Ask:
    def run(question: Question = QUESTION, **options: Any) -> Answer:
        return ask(store, encoder, question, **options)

    return run


def ids(answer: Answer) -> list[int]:
    return [person.best.crop.id for person in answer.found]


def test_every_walk_and_every_likeness_is_one_result(asked: Ask) -> None:
    answer = asked(top=100)
    assert len(answer.found) == 15 + 15
    assert answer.next is None
    scores = [person.best.score for person in answer.found]
    assert scores == sorted(scores, reverse=True)
    tracks = [person.best.crop.track for person in answer.found if person.best.crop.track is not None]
    assert len(tracks) == len(set(tracks)) == 15
    assert sum(len(person.alike) for person in answer.found) == 5
    assert len(asked(top=100, group=False).found) == 60


@pytest.mark.parametrize("top", [1, 4, 7])
def test_pages_together_are_one_long_page(top: int, asked: Ask, store: Store) -> None:
    whole, pages, after = ids(asked(top=100)), list[int](), None
    while True:
        answer = asked(top=top, after=after)
        pages += ids(answer)
        assert len(answer.found) <= top
        after = answer.next
        if after is None:
            break
        if len(pages) < 10:  # who arrives later is on no later page
            late = NewCrop(store.vectors([whole[0]])[0], b"x" * 32, b"late")
            store.add("/v", [NewFile(f"/v/{len(pages)}.avi", FileStamp(1, 2, 3), b"c", [late])])
    # A page knows nothing of the ones before: a picture that hardly differs from one there is a result of its own.
    assert [number for number in pages if number in whole] == whole
    assert len(pages) - len(whole) <= 5


def test_judged_results_move_the_query(asked: Ask, store: Store) -> None:
    before = ids(asked(top=100, group=False))
    right, wrong = before[30], before[0]
    after = ids(asked(top=100, group=False, right=[right], wrong=[wrong]))
    assert after.index(right) < 3
    assert wrong not in after
    assert ids(asked(top=100, group=False, wrong=[wrong])) == before[1:]
    with pytest.raises(StoreError, match="999999"):
        asked(right=[999999])
    filtered = ids(asked(top=100, group=False, filters=Filters(cameras=("c1",)), right=[right], wrong=[wrong]))
    assert filtered == [number for number in after if store.crop(number).camera == "c1"]


def test_a_verdict_is_of_what_passes_the_filters_and_is_kept(asked: Ask, store: Store) -> None:
    assert asked().verdict is None
    first = asked(prior=0.5).verdict
    assert first
    assert 0 < first.probability < 1
    kept = store.fact("calibrations")
    assert list(kept) == ["1"]
    assert kept["1"]["crops"] == 60
    # What is kept is used: even if it is changed.
    changed = {"1": {**kept["1"], "calibration": {**kept["1"]["calibration"], "slope": 0.0, "intercept": 0.0}}}
    store.set_fact("calibrations", changed)
    again = asked(prior=0.5).verdict
    assert again
    assert again.probability == pytest.approx(0.5)
    narrow = asked(prior=0.5, filters=Filters(cameras=("c1",))).verdict
    assert narrow
    assert narrow.probability != pytest.approx(0.5)
    assert asked(prior=0.5, filters=Filters(cameras=("nowhere",))).verdict is None
    store.delete(ids(asked(top=100, group=False))[:10])
    renewed = asked(prior=0.5).verdict
    assert renewed
    assert store.fact("calibrations")["1"]["crops"] == 50
    with pytest.raises(ConfigError, match="is known of sentences alone"):
        asked(Question(like=(Path("docs/images/search.png"),)), prior=0.5)


def test_labelled_pairs_tell_how_high_a_match_scores(asked: Ask, store: Store, encoder: GalleryEncoder) -> None:
    sentences = [f"a woman in a red jacket and {number} blue trousers" for number in range(12)]
    best = [ids(asked(Question((sentence,))))[0] for sentence in sentences]
    strengths = learn_from_pairs(store, encoder, list(zip(sentences, best, strict=True)))
    assert len(strengths) == 12
    assert min(strengths) > 1
    assert store.fact("match_strengths") == pytest.approx(strengths, abs=1e-3)
    assert asked(prior=0.5).verdict
    with pytest.raises(DataError, match="1 labelled sentences: to tell"):
        learn_from_pairs(store, encoder, [("a man", best[0])] * 20)
    with pytest.raises(DataError, match="has no crop 999999"):
        learn_from_pairs(store, encoder, [(sentence, 999999) for sentence in sentences])


def test_crops_are_named_by_number_or_by_file(store: Store) -> None:
    (number,) = store.add("/v", [NewFile("/v/one.png", FileStamp(1, 2, 3), b"d", [NewCrop(unit(), b"y" * 32)])])
    assert crops_named(store, ["7", "/v/../v/one.png"]) == [7, number]
    with pytest.raises(DataError, match=r"/v/two\.png: is no file of gallery 'demo'"):
        crops_named(store, ["/v/two.png"])
    with pytest.raises(DataError, match=r"/v/a\.avi: several crops of gallery 'demo' are of it"):
        crops_named(store, ["/v/a.avi"])


def test_evidence_shows_the_photograph_and_the_frame(
    database: Database, encoder: GalleryEncoder, tmp_path: Path
) -> None:
    video, photograph = write_video(tmp_path / "walk.mp4", numbered(30)), tmp_path / "crowd.png"
    Image.new("RGB", (300, 200), "grey").save(photograph)
    picture = io.BytesIO()
    Image.new("RGB", (20, 40), "red").save(picture, "JPEG")
    vector = np.eye(16, dtype=np.float32)[0]
    digest = hashlib.sha256(picture.getvalue()).digest()
    crop = NewCrop(vector, digest, picture.getvalue(), box=(10.0, 10.0, 20.0, 30.0), camera="gate")
    store = database.create("seen", "small", "f" * 64, 16)
    store.add("/", [NewFile(str(photograph), FileStamp(1, 2, 3), b"a", [crop])])
    store.add("/", [NewFile(str(video), FileStamp(1, 2, 3), b"b", [replace(crop, frame=7, seconds=0.7, track=0)])])
    store.add("/", [NewFile(str(tmp_path / "gone.mp4"), FileStamp(1, 2, 3), b"c", [replace(crop, seconds=0.5)])])
    answer = ask(store, encoder, QUESTION, group=False, prior=0.5)
    case = case_of(store, QUESTION, answer, Filters(cameras=("gate",)), datetime(2026, 5, 1, tzinfo=UTC))
    write_evidence(tmp_path / "out.zip", case, exhibits_of(store, answer.found))
    assert check_evidence(tmp_path / "out.zip") == 3 + 2 + 2
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        content = json.loads(archive.read("results.json"))
    assert content["filters"] == "cameras ('gate',)"
    assert content["searched"] == "gallery seen: 3 crops"
    assert content["whether anybody fits"].startswith(("some", "prob", "whether"))
    by_file = {Path(result["facts"]["file"]).name: result for result in content["results"]}
    assert by_file["crowd.png"]["frame"]
    assert by_file["walk.mp4"]["frame"]
    assert by_file["walk.mp4"]["facts"]["SHA-256 when indexed"] == by_file["walk.mp4"]["crop_sha256"]
    assert "gone.mp4" in by_file["gone.mp4"]["problem"]


def test_the_frame_is_the_one_of_the_crop(tmp_path: Path, store: Store) -> None:
    pictures = numbered(30)
    video = write_video(tmp_path / "walk.mp4", pictures)
    some = store.crop(ids_of_all(store)[0])
    for number in (0, 7, 28):
        shown = np.asarray(scene_of(replace(some, path=video, seconds=number / 10)), np.int16)
        errors = [float(np.abs(shown - picture).mean()) for picture in pictures]
        assert int(np.argmin(errors)) == number
    with pytest.raises(DataError):
        scene_of(replace(some, path=video, seconds=99.0))


def ids_of_all(store: Store) -> list[int]:
    return [hit.crop.id for hit in store.search(unit(), top=60).hits]


def unit() -> npt.NDArray[np.float32]:
    return np.asarray(np.eye(16)[0], np.float32)
