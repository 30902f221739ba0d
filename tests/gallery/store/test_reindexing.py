"""Another model for a gallery: it answers by the old one until every crop is there, and loses nothing to a kill."""

import hashlib
import io
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from tests.gallery.store.test_faults import KILLS

from textreid.gallery.embedding_cache import FileStamp
from textreid.gallery.encoder import GalleryEncoder
from textreid.gallery.search import search as search_folder
from textreid.gallery.store import Database, Filters, NewCrop, NewFile, Store, StoreError, open_database
from textreid.gallery.store.indexing import encoder_of, index_crops, open_gallery
from textreid.gallery.store.reindexing import progress_of, reindex
from textreid.images import read_image

if TYPE_CHECKING:
    from textreid.gallery.encoder import GalleryEncoder as Encoder

MakeCrops = Callable[..., Path]
QUERY = "a woman in a red jacket"
STAMP = FileStamp(1, 2, 3)
CROPS = 200
# Embeds the gallery again, and says how far it is.
REINDEXER = """
import sys
from tests.gallery.store.test_reindexing import Projection
from textreid.gallery.store import open_database
from textreid.gallery.store.reindexing import reindex
with open_database() as database:
    encoder = Projection(int(sys.argv[1]))
    print("begun", flush=True)
    reindex(database.store("demo"), encoder, encoder.name)
    print("done", flush=True)
"""


class Projection:
    """Model without a network, so that a process that embeds by it starts quickly: pixels times a random matrix."""

    presence = None

    def __init__(self, number: int) -> None:
        self.name = self.space = f"projection {number}"
        self.dim = 16 + number
        self._matrix = np.random.default_rng(number).normal(size=(8 * 4 * 3, self.dim)).astype(np.float32)

    def decode(self, source: Path | Image.Image) -> tuple[npt.NDArray[np.uint8], Image.Image]:
        """Read a picture in 4×8 pixels."""
        picture = read_image(source)
        return np.asarray(picture.resize((4, 8), Image.Resampling.BOX)), picture

    def encode_pixels(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Return the vectors (N, D) of pictures (N, 8, 4, 3)."""
        vectors = (pixels.reshape(len(pixels), -1) - np.float32(128)) @ self._matrix
        return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def projection(number: int) -> "Encoder":
    return cast("GalleryEncoder", Projection(number))


def fill(database: Database, count: int = CROPS) -> tuple[Store, npt.NDArray[np.uint8]]:
    """A gallery of a video by projection 0, and what its crops show."""
    generator = np.random.default_rng(3)
    shown = generator.integers(0, 256, (count, 8, 4, 3), np.uint8)
    encoder = projection(0)
    store = database.create("demo", encoder.name, encoder.space, encoder.dim)
    crops = []
    for number, (picture, vector) in enumerate(zip(shown, encoder.encode_pixels(shown), strict=True)):
        stream = io.BytesIO()
        Image.fromarray(picture).save(stream, "PNG")
        png = stream.getvalue()
        crops.append(
            NewCrop(
                vector, hashlib.sha256(png).digest(), png, number, number / 10, camera=f"{number % 3}",
                box=(0, 0, 4, 8), track=number // 4, tags=("bag",),
            )
        )  # fmt: skip
    store.add("/v.avi", [NewFile("/v.avi", STAMP, b"v", crops, kind="video")])
    return store, shown


def frames(store: Store, encoder: "Encoder", shown: npt.NDArray[np.uint8]) -> list[int | None]:
    """What the gallery says is nearest to each picture, by the number of its frame."""
    return [store.search(vector, top=1).hits[0].crop.frame for vector in encoder.encode_pixels(shown)]


@pytest.mark.slow
def test_a_gallery_answers_by_the_old_model_until_the_new_one_is_whole(
    database: Database, make_crops: MakeCrops, model_folder: Path, other_model_folder: Path
) -> None:
    store, encoder = open_gallery(database, "demo", str(model_folder), "fp32")
    crops = make_crops(70)
    index_crops(crops, store, encoder)
    store.set_fact("calibrations", {"of": "the old model"})
    query = encoder.encode_query(QUERY)[0]
    before = store.search(query, top=70)
    with pytest.raises(StoreError, match=f"gallery reindex demo --model {other_model_folder} embeds its crops again"):
        encoder_of(store, other_model_folder)
    seen = []

    def look(done: int, total: int) -> None:
        with open_database() as second:
            old = second.store("demo")
            seen.append((done, total, progress_of(old)))
            assert old.search(query, top=70) == before

    other = GalleryEncoder(other_model_folder, "fp32")
    again, done = reindex(store, other, str(other_model_folder), look)
    name = str(other_model_folder)
    assert seen == [(64, 70, (name, 64)), (70, 70, (name, 70))]
    assert (done.embedded, done.kept, done.unreadable, progress_of(again)) == (70, 0, [], None)
    # Who opened it before is told.
    for use in (lambda: store.search(query), lambda: store.vectors([1]), lambda: store.add("/v", [])):
        with pytest.raises(StoreError, match=r"gallery 'demo' is embedded by model .*second since a moment ago"):
            use()
    opened = database.store("demo")
    assert (opened.info, opened.model, opened.fact("calibrations")) == (again.info, name, None)
    assert encoder_of(opened).spaces == (opened.fingerprint,)
    folder = search_folder(QUERY, crops, model=other_model_folder, top=70, precision="fp32", cache=False)
    scores = {hit.path: hit.score for hit in folder.hits}
    found = opened.search(other.encode_query(QUERY)[0], top=70).hits
    assert [hit.score for hit in found] == pytest.approx([scores[hit.crop.path] for hit in found], abs=1e-3)
    assert {hit.crop.id: hit.crop.path for hit in found} == {hit.crop.id: hit.crop.path for hit in before.hits}
    # And the gallery goes on growing, by the new model.
    assert index_crops(crops, opened, other).unchanged == 70
    assert index_crops(make_crops(2, "others", seed=1), opened, other).embedded == 2


def test_what_changes_meanwhile_is_in_the_new_gallery_too(database: Database) -> None:
    store, shown = fill(database)
    ids = sorted(hit.crop.id for hit in store.search(projection(0).encode_pixels(shown[:1])[0], top=CROPS).hits)
    store.build_index(at_least=1)

    def change(done: int, total: int) -> None:
        if done != 64:
            return
        with open_database() as second:
            other = second.store("demo")
            other.tag(ids[:2], add=("seen",))
            assert other.delete([ids[3], ids[100]]) == 2
            png = other.jpeg(ids[5])
            crop = NewCrop(
                projection(0).encode_pixels(shown[5:6])[0], hashlib.sha256(png).digest(), png, 999, box=(0, 0, 4, 8)
            )
            other.add("/w.avi", [NewFile("/w.avi", STAMP, b"w", [crop], kind="video")])

    target = projection(1)
    store, done = reindex(store, target, target.name, change)
    assert (done.embedded, store.counts().crops) == (CROPS, CROPS - 1)  # one of the deleted was embedded before
    assert store.crop(ids[0]).tags == ("bag", "seen")
    assert [hit.crop.frame for hit in store.search(target.encode_pixels(shown[5:6])[0], top=2).hits] == [5, 999]
    assert [frame for frame in frames(store, target, shown) if frame is None] == []
    narrow = store.search(target.encode_pixels(shown[:1])[0], Filters(cameras=("1",)), 100)
    assert {hit.crop.camera for hit in narrow.hits} == {"1"}
    assert store.jpeg(ids[5])
    store.delete(ids)  # the pictures follow the crops of the new table
    assert database.run(lambda c: c.execute("SELECT count(*) FROM image").fetchone()) == (1,)


def test_a_second_run_goes_on_and_another_model_begins_anew(database: Database) -> None:
    store, shown = fill(database)

    class StoppedError(Exception):
        """As Ctrl-C would."""

    def stop(done: int, total: int) -> None:
        if done == 128:
            raise StoppedError

    first, second = projection(1), projection(2)
    with pytest.raises(StoppedError):
        reindex(store, first, first.name, stop)
    assert progress_of(store) == (first.name, 128)
    with pytest.raises(StoppedError):
        reindex(store, second, second.name, stop)
    assert progress_of(store) == (second.name, 128)
    # By the model that it has: what was begun is given up.
    same, done = reindex(store, projection(0), "projection 0")
    assert (same, done.embedded, progress_of(store)) == (store, 0, None)
    with pytest.raises(StoppedError):
        reindex(store, first, first.name, stop)
    store, done = reindex(store, first, first.name)
    assert (done.embedded, done.kept) == (CROPS - 128, 128)
    assert frames(store, first, shown) == list(range(CROPS))
    # There and back: the names of tables and indexes do not meet.
    for target in (second, projection(0)):
        store, _ = reindex(store, target, target.name)
        assert frames(store, target, shown) == list(range(CROPS))
    with pytest.raises(StoppedError):
        reindex(store, first, first.name, stop)
    database.delete("demo")
    assert database.galleries() == []


def test_a_picture_that_is_gone_keeps_the_old_model_unless_it_may_be_lost(
    database: Database, make_crops: MakeCrops
) -> None:
    crops = make_crops(4)
    old, new = projection(0), projection(1)
    store = database.create("demo", old.name, old.space, old.dim)
    for path in sorted(crops.iterdir()):
        digest = hashlib.sha256(path.read_bytes()).digest()
        crop = NewCrop(old.encode_pixels(old.decode(path)[0][None])[0], digest)
        store.add(str(crops), [NewFile(str(path), FileStamp.of(path), digest, [crop])])
    (crops / "1.png").rename(crops / "away")
    (crops / "2.png").write_bytes((crops / "3.png").read_bytes())
    with pytest.raises(StoreError, match=r"stays with model projection 0: crop \d+ of .*1.png .* and 1 more"):
        reindex(store, new, new.name)
    assert progress_of(store) == (new.name, 2)
    assert store.counts().crops == 4
    (crops / "away").rename(crops / "1.png")
    store, done = reindex(store, new, new.name, leave_out=True)
    assert (done.embedded, done.kept) == (1, 2)
    ((_, path, why),) = done.unreadable
    assert (path.name, why) == ("2.png", "the file was changed since it was indexed")
    counts = store.counts()
    assert (counts.crops, counts.files) == (3, 3)  # and the next indexing takes the file for a new one


@pytest.mark.slow
def test_a_kill_at_any_moment_leaves_the_gallery_whole_by_one_model_or_the_other(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in (str(Path.cwd()), *sys.path) if path))
    _, shown = fill(database)
    chance = random.Random(5)  # noqa: S311
    asked = shown[::20]
    target, exchanges = 1, 0
    for kill in range(KILLS + 1):
        process = subprocess.Popen(
            [sys.executable, "-c", REINDEXER, str(target)], stdout=subprocess.PIPE, text=True
        )  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        if kill < KILLS:
            time.sleep(chance.uniform(0, 0.4))
            process.kill()
        process.communicate()
        store = database.store("demo")
        assert store.counts().crops == CROPS
        now = int(store.fingerprint.split()[-1])
        assert frames(store, projection(now), asked) == list(range(0, CROPS, 20))
        assert store.fingerprint == store.model
        if now == target:
            exchanges += 1
            target = 1 - target
    assert exchanges >= 1
    assert progress_of(store) is None
