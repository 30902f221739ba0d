"""A gallery: what comes in is found, exactly as numpy finds it, and nothing else is."""

import threading
from collections.abc import Callable
from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt
import psycopg
import pytest
from psycopg import sql

from textreid.errors import ConfigError
from textreid.gallery.embedding_cache import FileStamp
from textreid.gallery.store import (
    Cursor,
    Database,
    Facts,
    Filters,
    NewCrop,
    NewFile,
    Store,
    StoreError,
    hnsw,
    open_database,
    searching,
)

DIM = 16
STAMP = FileStamp(1, 2, 3)
START = datetime(2026, 5, 1, 8)
Array = npt.NDArray[np.float32]
Fill = Callable[..., tuple[Store, list[NewCrop], list[int]]]


def unit(generator: np.random.Generator, *shape: int) -> Array:
    vectors = generator.normal(size=(*shape, DIM)).astype(np.float32)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True), np.float32)


def new_crops(count: int, seed: int = 0) -> list[NewCrop]:
    generator = np.random.default_rng(seed)
    vectors = unit(generator, count)
    return [
        NewCrop(
            vectors[i],
            digest=i.to_bytes(32, "big"),
            jpeg=b"jpeg %d" % i,
            frame=i,
            seconds=i / 10,
            time=None if i % 7 == 0 else START + timedelta(minutes=37 * i),
            camera=None if i % 5 == 0 else f"camera {i % 4}",
            box=(1, 2, 3, i),
            track=i // 3,
            tags=tuple(word for word, every in (("bag", 2), ("hat", 3)) if i % every == 0),
            presence=1.5,
            loss=0.25 * (i % 11 == 0),
        )
        for i in range(count)
    ]


@pytest.fixture
def fill(database: Database) -> Fill:
    """A function that makes a gallery of ``count`` crops in two videos."""

    def make(count: int = 300, name: str = "demo") -> tuple[Store, list[NewCrop], list[int]]:
        store = database.create(name, "small", "abc", DIM)
        crops = new_crops(count)
        half = count // 2
        ids = store.add("/videos", [NewFile("/videos/a.avi", STAMP, b"a", crops[:half])])
        ids += store.add("/videos", [NewFile("/videos/b.avi", STAMP, b"b", crops[half:])])
        return store, crops, ids

    return make


def stored(crops: list[NewCrop]) -> Array:
    return np.stack([crop.embedding for crop in crops]).astype(np.float16).astype(np.float32)


def expected(crops: list[NewCrop], query: Array, keep: npt.NDArray[np.bool_]) -> list[int]:
    """Rows of the crops that pass, best first, by brute force."""
    scores = stored(crops) @ query.astype(np.float16).astype(np.float32) - [crop.loss for crop in crops]
    return [int(i) for i in np.argsort(-scores, kind="stable") if keep[i]]


def test_what_is_stored_comes_back(fill: Fill) -> None:
    store, crops, ids = fill(20)
    assert ids == sorted(ids)
    for number, crop in zip(ids, crops, strict=True):
        found = store.crop(number)
        assert (found.frame, found.seconds, found.time, found.camera, found.box, found.track, found.tags) == (
            crop.frame, crop.seconds, crop.time, crop.camera, crop.box, crop.track, crop.tags
        )  # fmt: skip
        assert found.digest == crop.digest.hex()
        assert (found.source, str(found.path)) == ("/videos", f"/videos/{'ab'[number >= ids[10]]}.avi")
        assert store.jpeg(number) == crop.jpeg
    np.testing.assert_array_equal(store.vectors(ids[::-1]), stored(crops)[::-1])
    counts = store.counts()
    assert (counts.crops, counts.files, counts.sources, counts.tracks, counts.cameras) == (20, 2, 1, 8, 4)
    assert (counts.first, counts.last) == (crops[1].time, crops[19].time)
    assert store.cameras() == {"camera 0": 3, "camera 1": 4, "camera 2": 4, "camera 3": 4} | {
        "camera 0": sum(c.camera == "camera 0" for c in crops)
    }
    assert store.sources() == {"/videos": 20}


def random_filters(generator: np.random.Generator, crops: list[NewCrop]) -> tuple[Filters, npt.NDArray[np.bool_]]:
    """A filter, and which crops pass it by a rule of its own."""
    keep = np.ones(len(crops), np.bool_)
    given: dict[str, object] = {}
    kinds = generator.choice(["cameras", "since", "until", "hours", "tags", "sources", "exclude"], 2, replace=False)
    for kind in kinds:
        if kind == "cameras":
            given[kind] = tuple(f"camera {n}" for n in generator.choice(4, generator.integers(1, 3), replace=False))
            keep &= [crop.camera in given[kind] for crop in crops]  # type: ignore[operator]
        elif kind in {"since", "until"}:
            edge = START + timedelta(minutes=37 * int(generator.integers(1, len(crops) - 1)))
            if "since" in given or "until" in given:
                continue
            given[kind] = edge
            keep &= [crop.time is not None and (crop.time >= edge) == (kind == "since") for crop in crops]
        elif kind == "hours":
            first, last = (int(hour) for hour in generator.choice(24, 2, replace=False))
            given[kind] = (first, last)
            inside = {(first + i) % 24 for i in range((last - first) % 24)}
            keep &= [crop.time is not None and crop.time.hour in inside for crop in crops]
        elif kind == "tags":
            given[kind] = (str(generator.choice(["bag", "hat"])),)
            keep &= [set(given[kind]) <= set(crop.tags) for crop in crops]  # type: ignore[call-overload]
        elif kind == "sources":
            given[kind] = ("/videos/b.avi",)
            keep &= np.arange(len(crops)) >= len(crops) // 2
    return Filters(**given), keep  # type: ignore[arg-type]


def test_a_filtered_search_finds_what_brute_force_finds(fill: Fill) -> None:
    store, crops, ids = fill(300)
    store.build_index(at_least=1)
    generator = np.random.default_rng(1)
    found_some = 0
    for _ in range(200):
        filters, keep = random_filters(generator, crops)
        query = unit(generator)
        page = store.search(query, filters, 10)
        assert page.exact
        assert [hit.crop.id for hit in page.hits] == [ids[i] for i in expected(crops, query, keep)[:10]]
        found_some += bool(page.hits)
    assert found_some > 150


def test_a_crop_that_shows_nobody_loses_of_its_score(fill: Fill) -> None:
    store, crops, ids = fill(40)
    query = crops[11].embedding
    (score,) = store.scores(query, [ids[11]])
    assert score == pytest.approx(0.75, abs=1e-3)
    assert np.isnan(store.scores(query, [10**9])).all()


@pytest.mark.parametrize(("crops", "candidates"), [(300, 480), (400_000, 960), (5_000_000, 1000)])
def test_more_is_kept_in_hand_of_a_larger_gallery(fill: Fill, crops: int, candidates: int) -> None:
    store, _, _ = fill(300)
    store.build_index(at_least=1)
    store.database.maintain(
        lambda c: c.execute("UPDATE pg_class SET reltuples = %s WHERE relname = %s", (crops, f"crop_{store.id}"))
    )
    assert not store.search(unit(np.random.default_rng(2))).exact
    assert store.database.run(lambda c: c.execute("SHOW hnsw.ef_search").fetchone()) == (str(candidates),)


def test_the_index_answers_a_search_without_filters(fill: Fill) -> None:
    store, crops, ids = fill(300)
    query = unit(np.random.default_rng(2))
    exact = store.search(query, top=20)
    assert exact.exact
    # One of another shape, as an earlier textreid built, is not asked, and built anew.
    earlier = sql.SQL("CREATE INDEX {} ON {} USING hnsw ((embedding::halfvec(17)) halfvec_ip_ops)").format(
        sql.Identifier(f"crop_{store.id}_hnsw"), sql.Identifier(f"crop_{store.id}")
    )
    store.database.maintain(lambda c: c.execute(earlier))
    assert store.search(query, top=20) == exact
    assert store.build_index(at_least=1) is not None
    assert store.build_index(at_least=1) is None
    indexed = store.search(query, top=20)
    assert not indexed.exact
    assert len({hit.crop.id for hit in indexed.hits} & {hit.crop.id for hit in exact.hits}) >= 19
    assert store.search(query, top=20, exact=True) == exact
    every = np.ones(len(crops), np.bool_)
    assert [hit.crop.id for hit in exact.hits] == [ids[i] for i in expected(crops, query, every)[:20]]
    # What was deleted is still in the index, and leaves it too few: all are compared.
    store.delete([hit.crop.id for hit in store.search(query, top=150, exact=True).hits])
    assert store.search(query, top=20).hits == store.search(query, top=20, exact=True).hits


def test_every_processor_helps_to_build_an_index(fill: Fill, monkeypatch: pytest.MonkeyPatch) -> None:
    store, _, _ = fill(20)
    monkeypatch.setattr("os.cpu_count", lambda: 6)
    table, name, memory = searching.table(store.id), hnsw.index_name(store.id), hnsw.memory_for(store.database)

    def build(connection: psycopg.Connection) -> tuple[str, ...] | None:
        assert hnsw.build(connection, table, name, store.dim + 1, 1, memory) is not None
        return connection.execute("SHOW max_parallel_maintenance_workers").fetchone()

    assert store.database.run(build) == ("5",)


@pytest.mark.parametrize("one_per_track", [False, True])
def test_pages_stay_as_they_were_while_crops_arrive(fill: Fill, one_per_track: bool) -> None:
    store, _, _ = fill(100)
    query = unit(np.random.default_rng(3))
    whole = [hit.crop.id for hit in store.search(query, top=100, one_per_track=one_per_track).hits]
    assert len(whole) == (35 if one_per_track else 100)
    seen: list[int] = []
    after = None
    for _ in range(50):
        page = store.search(query, top=7, after=after, one_per_track=one_per_track)
        seen += [hit.crop.id for hit in page.hits]
        if page.next is None:
            break
        after = Cursor.parse(str(page.next))
        assert after == page.next
        best = NewCrop(query, bytes(32), track=len(seen))  # would come first
        store.add("/videos", [NewFile(f"/videos/{len(seen)}.avi", STAMP, b"c", [best])])
    assert seen == whole
    assert store.search(query, top=1).hits[0].score == pytest.approx(1, abs=1e-2)
    with pytest.raises(ConfigError, match="cursor"):
        Cursor.parse("7,8")


def test_one_of_each_track_is_its_best(fill: Fill) -> None:
    store, crops, ids = fill(90)
    query = unit(np.random.default_rng(4))
    hits = store.search(query, Filters(tags=("bag",)), 100, one_per_track=True).hits
    wanted, tracks = [], set()
    for row in expected(crops, query, np.array(["bag" in crop.tags for crop in crops])):
        track = (row >= 45, crops[row].track)
        wanted += [] if track in tracks else [ids[row]]
        tracks.add(track)
    assert [hit.crop.id for hit in hits] == wanted
    assert 20 < len(wanted) < 45


def test_scores_of_all_are_those_of_a_search(fill: Fill) -> None:
    store, _, ids = fill(50)
    queries = unit(np.random.default_rng(5), 2)
    numbers, scores = store.all_scores(queries)
    assert numbers.tolist() == ids
    for query, row in zip(queries, scores, strict=True):
        np.testing.assert_allclose(row, store.scores(query, ids), rtol=1e-6)
    drawn, some = store.all_scores(queries, Filters(tags=("hat",)), sample=5)
    assert (len(drawn), some.shape) == (5, (2, 5))
    np.testing.assert_array_equal(drawn, store.all_scores(queries, Filters(tags=("hat",)), sample=5)[0])


def test_a_file_that_comes_again_takes_the_place_of_what_it_was(fill: Fill) -> None:
    store, crops, ids = fill(20)
    again = store.add("/videos", [NewFile("/videos/a.avi", STAMP, b"z", crops[:3])])
    assert store.counts().crops == 13
    assert min(again) > max(ids)
    # A video that goes on: what it had stays, and telling it twice changes nothing.
    more = NewFile("/videos/a.avi", STAMP, None, crops[3:5], position=50, finished=False, append=True)
    assert len(store.add("/videos", [more])) == 2
    assert store.add("/videos", [more]) == []
    assert store.counts().crops == 15
    assert store.known_files(["/videos/a.avi"])["/videos/a.avi"].position == 50


def test_crops_are_deleted_and_tagged(fill: Fill) -> None:
    store, _, ids = fill(20)
    assert store.tag(ids[:2], add=("seen", "bag"), remove=("hat",)) == 2
    assert store.crop(ids[0]).tags == ("bag", "seen")
    assert store.delete(ids[:2]) == 2
    with pytest.raises(StoreError, match=f"no crop {ids[0]}"):
        store.crop(ids[0])
    with pytest.raises(StoreError, match=f"no crop {ids[0]}"):
        store.vectors(ids)
    assert store.crops(ids)[0].id == ids[2]


def test_galleries_are_apart(database: Database, fill: Fill) -> None:
    store, crops, _ = fill(20)
    other, _, _ = fill(10, "other")
    assert [info.name for info in database.galleries()] == ["demo", "other"]
    other.set_fact("calibration", {"a": 1})
    other.set_fact("b", [2])
    assert (other.fact("calibration"), other.fact("b"), store.fact("b")) == ({"a": 1}, [2], None)
    database.delete("other")
    assert [info.name for info in database.galleries()] == ["demo"]
    assert store.search(crops[0].embedding, top=1).hits


def test_wrong_requests_say_what_is_wrong(database: Database, fill: Fill) -> None:
    store, crops, _ = fill(4)
    with pytest.raises(StoreError, match="'demmo'; did you mean demo"):
        database.store("demmo")
    with pytest.raises(
        StoreError, match=r"embedded by model small \(abc\), not by other \(xyz\); .* reindex demo --model other"
    ):
        database.create("demo", "other", "xyz", DIM)
    with pytest.raises(StoreError, match="no name of a gallery"):
        database.create("a\nb", "small", "abc", DIM)
    with pytest.raises(StoreError, match="a vector of 16 numbers"):
        store.search(crops[0].embedding[:5])
    with pytest.raises(ConfigError, match="top"):
        store.search(crops[0].embedding, top=0)
    with pytest.raises(ConfigError, match="hours"):
        Filters(hours=(3, 3))
    with pytest.raises(ConfigError, match="without a zone"):
        Filters(since=START.astimezone())
    with pytest.raises(ConfigError, match="is not before"):
        Filters(since=START, until=START)


def test_a_batch_comes_in_whole_or_not_at_all(fill: Fill) -> None:
    store, crops, _ = fill(4)
    wrong = NewCrop(np.zeros(3, np.float32), bytes(32))
    with pytest.raises(StoreError, match="refused"):
        store.add("/videos", [NewFile("/videos/c.avi", STAMP, b"c", [*crops, wrong])])
    assert store.counts().crops == 4
    assert store.known_files(["/videos/c.avi"]) == {}


def test_writers_at_once_number_crops_in_the_order_of_their_arrival(fill: Fill) -> None:
    store, crops, _ = fill(4)
    seen: list[int] = []
    failed: list[BaseException] = []

    def write(worker: int) -> None:
        try:
            with open_database() as own:
                for i in range(10):
                    file = NewFile(f"/videos/{worker}-{i}.avi", STAMP, b"c", crops)
                    own.store("demo").add("/videos", [file])
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=write, args=(worker,)) for worker in range(3)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        limit = store.as_of()
        numbers = [int(number) for number in store.all_scores(crops[0].embedding[None])[0] if number <= limit]
        assert numbers[: len(seen)] == seen
        seen = numbers
    assert not failed
    assert store.counts().crops == 4 + 3 * 10 * 4


def test_facts_of_a_file_change_those_of_its_crops(fill: Fill) -> None:
    store, crops, ids = fill(20)
    store.tag(ids[:10], add=("by hand",))
    file = store.known_files(["/videos/a.avi"])["/videos/a.avi"]
    now = Facts("gate", START, ("night",))
    store.change_facts({file.id: (Facts(tags=("bag",)), now)}, {file.id: FileStamp(7, 8, 9)})
    first, other = store.crop(ids[6]), store.crop(ids[10])
    assert (first.camera, first.tags) == ("gate", ("by hand", "hat", "night"))
    assert first.time == START + timedelta(seconds=0.6)
    assert (other.camera, other.tags) == (crops[10].camera, crops[10].tags)
    file = store.known_files(["/videos/a.avi"])["/videos/a.avi"]
    assert (file.facts, file.stamp) == (now, FileStamp(7, 8, 9))
