"""Erased is erased: no byte of a crop is left in the database's folder."""

import subprocess
from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import numpy.typing as npt
import psycopg
import pytest
from PIL import Image
from psycopg import sql
from tests.service.conftest import COMMAND, START, Demo, MakeGallery, serving

from textreid import Client
from textreid.gallery.store import Database, Filters, StoreError
from textreid.gallery.store.reindexing import progress_of, reindex
from textreid.service.audit import newest
from textreid.service.erasure import older_than

if TYPE_CHECKING:
    from textreid.gallery.encoder import GalleryEncoder

pytestmark = pytest.mark.slow


@pytest.fixture
def demo(make_gallery: MakeGallery, request: pytest.FixtureRequest) -> Demo:
    return make_gallery(request.node.name[-40:], 20, seed=len(request.node.name), grain=(120, 240))


@pytest.fixture
def database(demo: Demo) -> Iterator[Database]:
    yield from demo.opened()


def traces(demo: Demo, number: int) -> list[bytes]:
    """Bytes that nothing but this crop has: of its picture and of its vector."""
    crop = demo.crops[number]
    assert crop.jpeg is not None
    middle = len(crop.jpeg) // 2
    # The picture is kept in pieces of some 2,000 bytes: of these neighbours, most are in one.
    parts = [crop.jpeg[at : at + 24] for at in range(middle, middle + 120, 24)]
    return [*parts, crop.embedding.astype(np.float16).tobytes()[:64]]


def found(demo: Demo, numbers: list[int]) -> set[tuple[int, Path]]:
    wanted = [(number, trace) for number in numbers for trace in traces(demo, number)]
    hits = set()
    for path in sorted(demo.data.rglob("*")):
        if path.is_file():
            content = path.read_bytes()
            hits |= {(number, path) for number, trace in wanted if trace in content}
    return hits


def settle(database: Database, demo: Demo) -> None:
    """Bring everything to where a server that runs for long has it: on disk, in the statistics, in dead rows."""
    number = database.store(demo.name).id
    changed = sql.SQL("UPDATE {} SET tags = tags").format(sql.Identifier(f"crop_{number}"))
    for statement in (changed, sql.SQL("ANALYZE"), sql.SQL("CHECKPOINT")):
        database.maintain(partial(psycopg.Connection.execute, query=statement))


class Again:
    """Model that gives the crops the vectors that they have, under another name."""

    presence, space = None, "another"

    def __init__(self, demo: Demo) -> None:
        self._vectors = np.stack([crop.embedding for crop in demo.crops.values()])
        self.dim = self._vectors.shape[1]

    def decode(self, picture: Image.Image) -> tuple[npt.NDArray[np.uint8], Image.Image]:
        """Read nothing."""
        return np.zeros((3, 1, 1), np.uint8), picture

    def encode_pixels(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Return the vectors (N, D) of all crops."""
        return self._vectors


def begin_to_reindex(database: Database, demo: Demo) -> None:
    """Embed every crop again, and stop before the new vectors take the place of the old ones."""

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        reindex(database.store(demo.name), cast("GalleryEncoder", Again(demo)), "again", stop)


def test_no_byte_of_an_erased_crop_is_left(demo: Demo, database: Database) -> None:
    begin_to_reindex(database, demo)
    assert progress_of(database.store(demo.name)) == ("again", 20)
    settle(database, demo)
    gone, kept = list(demo.crops)[3:6], list(demo.crops)[10:11]
    before = found(demo, gone + kept)
    assert {number for number, _ in before} == {*gone, *kept}
    assert any("pg_wal" in str(path) for _, path in before)
    result = subprocess.run(
        [*COMMAND, "erase", *map(str, gone), "--gallery", demo.name],
        env=demo.environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (result.returncode, result.stdout) == (0, "/videos/a.avi\n")
    assert result.stderr == "erased 3 crops; 1 files still show who was in them\n"
    after = found(demo, gone + kept)
    assert {path for number, path in after if number in gone} == set()
    assert {number for number, _ in after} == set(kept)
    store = database.store(demo.name)
    assert store.counts().crops == 17
    for number in gone:
        with pytest.raises(StoreError, match="no crop"):
            store.jpeg(number)
    assert newest(database, 1)[0].facts["erased"] == gone


def test_a_service_erases_while_it_is_asked(demo: Demo, database: Database) -> None:
    number = next(iter(demo.crops))
    with serving(demo) as (url, _), Client(url) as client:
        assert client.thumbnail(number)
        kept = client.save_search("refined", "a man", right=[number, number + 1], wrong=[number + 2], exclude=[number])
        assert client.erase([number, 999_999]) == (1, ["/videos/a.avi"])
        # It would else fail for ever on a crop that is gone.
        assert client.saved_searches()[0].search["right"] == [number + 1]
        assert client.saved_searches()[0].search["filters"]["exclude"] == []
        assert client.run_search(kept.id).hits
        client.delete_search(kept.id)
        assert number not in [hit.crop.id for hit in client.search("a man", top=200).hits]
        assert client.erase([number]) == (0, [])
    assert found(demo, [number]) == set()


def test_old_crops_leave_by_themselves(demo: Demo, database: Database) -> None:
    store = database.store(demo.name)
    last = START + timedelta(minutes=37 * 19)
    middle = START + timedelta(minutes=37 * 10)
    old = [number for number, crop in demo.crops.items() if crop.time and crop.time < middle]
    assert older_than(store, 3, middle + timedelta(days=3)) == old
    assert len(old) == 10
    assert older_than(store, 3, last) == []
    # All were seen in May 2026: whether that is longer ago is told by the clock of whoever runs this.
    expected = 20 - len(older_than(store, 30, datetime.now()))
    with serving(demo, "--keep-days", "30") as (url, _), Client(url) as client:
        for _ in range(200):
            if len(client.search("a man", top=200).hits) == expected:
                break
        assert len(client.search("a man", top=200).hits) == expected
    ids, _ = store.all_scores(np.zeros((1, store.dim), np.float32), Filters())
    assert len(ids) == expected
