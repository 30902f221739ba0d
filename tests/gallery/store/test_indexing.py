"""Folders of crops come into a gallery: new, changed, renamed, deleted and bad ones, each as what it is."""

import os
import shutil
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from textreid.errors import ConfigError, DataError
from textreid.gallery.encoder import GalleryEncoder
from textreid.gallery.search import search as search_folder
from textreid.gallery.store import Database, Facts, PassingError, Store, StoreError, open_database
from textreid.gallery.store.indexing import IndexReport, Knowledge, encoder_of, exclusively, index_crops, open_gallery
from textreid.gallery.store.provenance import PathPattern

MakeCrops = Callable[..., Path]
QUERY = "a woman in a red jacket"


@pytest.fixture
def opened(database: Database, model_folder: Path) -> tuple[Store, GalleryEncoder]:
    return open_gallery(database, "demo", str(model_folder), "fp32")


def counts(done: IndexReport) -> tuple[int, int, int, int, int]:
    return done.embedded, done.copied, done.unchanged, done.deleted, len(done.quarantined)


def test_a_gallery_ranks_as_a_search_of_the_folder_does(
    opened: tuple[Store, GalleryEncoder], make_crops: MakeCrops, model_folder: Path
) -> None:
    store, encoder = opened
    crops = make_crops(70)
    seen: list[tuple[int, int]] = []
    done = index_crops(crops, store, encoder, report=lambda *progress: seen.append(progress))
    assert counts(done) == (70, 0, 0, 0, 0)
    assert seen == [(0, 70), (64, 70), (70, 70)]
    folder = search_folder(QUERY, crops, model=model_folder, top=70, precision="fp32", cache=False)
    gallery = store.search(encoder.encode_query(QUERY)[0], top=70)
    scores = {hit.path: hit.score for hit in folder.hits}
    assert {hit.crop.path for hit in gallery.hits} == scores.keys()
    for hit in gallery.hits:
        assert hit.score == pytest.approx(scores[hit.crop.path], abs=1e-3)
        assert hit.crop.is_file
    assert store.picture(gallery.hits[0].crop.id).size == (24, 56)


def test_the_same_again_embeds_only_what_is_new(opened: tuple[Store, GalleryEncoder], make_crops: MakeCrops) -> None:
    store, encoder = opened
    crops = make_crops(6)
    index_crops(crops, store, encoder)
    before = {hit.crop.path.name: hit.crop.id for hit in store.search(encoder.encode_query(QUERY)[0]).hits}
    assert counts(index_crops(crops, store, encoder)) == (0, 0, 6, 0, 0)
    (crops / "0.png").rename(crops / "renamed.png")
    (crops / "1.png").unlink()
    (crops / "2.png").touch()
    shutil.copy(crops / "4.png", crops / "3.png")
    shutil.copy(make_crops(1, "others", seed=1) / "0.png", crops / "new.png")
    done = index_crops(crops, store, encoder)
    # renamed.png and 3.png have contents that the gallery had; 0.png and 1.png are gone.
    assert counts(done) == (1, 2, 3, 2, 0)
    after = {hit.crop.path.name: hit.crop.id for hit in store.search(encoder.encode_query(QUERY)[0]).hits}
    assert after.keys() == {"renamed.png", "2.png", "3.png", "4.png", "5.png", "new.png"}
    assert (after["2.png"], after["5.png"]) == (before["2.png"], before["5.png"])
    np.testing.assert_array_equal(*store.vectors([after["3.png"], after["4.png"]]))
    assert counts(index_crops(crops, store, encoder)) == (0, 0, 6, 0, 0)


def test_what_cannot_be_used_is_quarantined_and_the_rest_goes_on(
    opened: tuple[Store, GalleryEncoder], make_crops: MakeCrops
) -> None:
    store, encoder = opened
    crops = make_crops(3)
    (crops / "bad.png").write_bytes(b"no picture")
    (crops / "empty.jpg").touch()
    (crops / "photo.nef").touch()
    (crops / "walk.mp4").touch()  # is indexed as a video
    Image.new("RGB", (64, 128), "grey").save(crops / "grey.png")
    shutil.copy(crops / "0.png", crops / os.fsdecode(b"\xff.png"))
    for run in range(2):  # and the second time they are not tried again
        done = index_crops(crops, store, encoder)
        assert counts(done) == (0 if run else 3, 0, 3 if run else 0, 0, 4)
        assert done.notes == ["not read: 1 .nef"]
        reasons = {path.name: reason for path, reason in done.quarantined}
        assert reasons["bad.png"].startswith("not an image")
        assert reasons["empty.jpg"] == "the file is empty"
        assert reasons["grey.png"].startswith("shows nothing")
        assert "not UTF-8" in reasons["\udcff.png"]
    assert [path.name for path, _ in store.quarantine()] == ["bad.png", "empty.jpg", "grey.png"]
    assert store.counts().quarantined == 3
    shutil.copy(crops / "1.png", crops / "bad.png")
    done = index_crops(crops, store, encoder)
    assert (done.copied, store.counts().quarantined) == (1, 2)


def test_camera_and_time_come_from_sidecar_pattern_and_exif(
    opened: tuple[Store, GalleryEncoder], make_crops: MakeCrops
) -> None:
    store, encoder = opened
    crops = make_crops(3)
    (crops / "gate" / "2026-05-31").mkdir(parents=True)
    (crops / "0.png").rename(crops / "gate" / "2026-05-31" / "14-05-09_0.png")
    exif = Image.Exif()
    exif[0x0132] = "2026:01:02 03:04:05"
    Image.open(crops / "1.png").save(crops / "1.jpg", exif=exif, quality=95)
    (crops / "1.png").unlink()
    knowledge = Knowledge(
        PathPattern.parse("{camera}/{date}/{time}_*.png"), {"2.png": Facts("yard", None, ("bag",))}, "other", ("may",)
    )
    done = index_crops(crops, store, encoder, knowledge)
    assert [line.split(":")[0] for line in done.unmatched] == ["1.jpg", "2.png"]

    def known() -> dict[str, tuple[str | None, datetime | None, tuple[str, ...]]]:
        found = store.crops(store.all_scores(encoder.encode_query(QUERY)[0][None])[0].tolist())
        return {crop.path.name: (crop.camera, crop.time, crop.tags) for crop in found}

    assert known() == {
        "14-05-09_0.png": ("gate", datetime(2026, 5, 31, 14, 5, 9), ("may",)),
        "1.jpg": ("other", datetime(2026, 1, 2, 3, 4, 5), ("may",)),
        "2.png": ("yard", None, ("bag", "may")),
    }
    # Told otherwise later: nothing is embedded again.
    done = index_crops(crops, store, encoder, Knowledge(table={"2.png": Facts("roof", None, ("hat",))}))
    assert (done.embedded, done.unchanged, done.updated) == (0, 3, 3)
    assert known()["2.png"] == ("roof", None, ("hat",))
    assert known()["1.jpg"] == ("other", datetime(2026, 1, 2, 3, 4, 5), ())
    with pytest.raises(ConfigError, match=r"--pattern fits none of 3 files; .*: has 1 parts"):
        index_crops(crops, store, encoder, Knowledge(PathPattern.parse("{camera}/a/b/c/*")))


def test_one_gallery_has_one_model(
    opened: tuple[Store, GalleryEncoder], database: Database, model_folder: Path, other_model_folder: Path
) -> None:
    store, _ = opened
    assert store.model == str(model_folder)
    assert encoder_of(store).spaces == (store.fingerprint,)
    assert open_gallery(database, "demo")[0].id == store.id
    with pytest.raises(StoreError, match="one gallery has one model"):
        open_gallery(database, "demo", str(other_model_folder))


def test_two_indexers_of_one_folder_do_not_meet(opened: tuple[Store, GalleryEncoder], make_crops: MakeCrops) -> None:
    store, encoder = opened
    crops, others = make_crops(2), make_crops(2, "others", seed=1)
    with open_database() as second, exclusively(second.store("demo"), str(crops), "busy"):
        with pytest.raises(PassingError, match=r"another process indexes it into gallery 'demo'"):
            index_crops(crops, store, encoder)
        index_crops(others, store, encoder)
    index_crops(crops, store, encoder)
    assert store.sources() == {str(crops): 2, str(others): 2}


def test_a_folder_without_images_says_so_but_one_that_was_emptied_is_followed(
    opened: tuple[Store, GalleryEncoder], make_crops: MakeCrops, tmp_path: Path
) -> None:
    store, encoder = opened
    with pytest.raises(DataError, match="no images below this folder"):
        index_crops(tmp_path, store, encoder)
    crops = make_crops(2)
    index_crops(crops / "0.png", store, encoder)
    index_crops(crops, store, encoder)
    assert store.counts().crops == 2
    for path in crops.iterdir():
        path.unlink()
    assert index_crops(crops, store, encoder).deleted == 2
    assert store.counts().crops == 0
