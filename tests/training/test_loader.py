import itertools
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, strategies as st
from PIL import Image

from textreid.captions.table import CaptionTable, read_captions
from textreid.errors import CaptionError, DataError
from textreid.images import read_image, to_pixels
from textreid.models import Tokenizer
from textreid.training import loader
from textreid.training.loader import Batch, ImageStore, TokenizedCaptions, batches, should_cache, tokenize
from textreid.training.processes import Processes
from textreid.training.sampler import Draw, Sampler

if TYPE_CHECKING:
    from tests.training.conftest import Corpus

MakeCorpus = Callable[..., "Corpus"]


@pytest.fixture(scope="module")
def broken(make_corpus: MakeCorpus, tmp_path_factory: pytest.TempPathFactory) -> "Corpus":
    """200 images of which two are cut off: one in a hundred, and no more."""
    return make_corpus(tmp_path_factory.mktemp("broken"), images=200, broken=(130, 131))


def table_and_store(corpus: "Corpus") -> tuple[CaptionTable, ImageStore]:
    table = read_captions(corpus.captions)
    return table, ImageStore(corpus.images, table.images, 32, 16)


def all_batches(corpus: "Corpus", workers: int, cached: bool, start: int = 0, size: int = 32) -> list[Batch]:
    table, store = table_and_store(corpus)
    if cached:
        store.fill_cache(workers, lambda _: None)
    tokens = tokenize(table.captions, Tokenizer.clip())
    sampler = Sampler(table.image_index, size, "image", 2, seed=0)
    return list(batches(sampler, store, tokens, range(start, 2 * sampler.steps_per_epoch), workers, Processes()))


def test_token_rows_equal_the_tokenizer(corpus: "Corpus", monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader, "_CHUNK", 7)
    table, _ = table_and_store(corpus)
    tokenizer = Tokenizer.clip(text_length=10)
    tokens = tokenize(table.captions, tokenizer)
    assert tokens.tokens.dtype == np.uint16
    pairs = np.array([119, 0, 7, 6, 13, 14, 0])
    ids, lengths = tokens.rows(pairs)
    expected = tokenizer.encode([table.caption(int(pair)) for pair in pairs])
    assert (ids == expected.ids).all()
    assert (lengths == expected.lengths).all()
    assert tokens.truncated == tokenizer.encode(table.captions.to_pylist()).truncated > 0


def test_a_caption_without_a_word_is_refused(corpus: "Corpus") -> None:
    table, _ = table_and_store(corpus)
    tokenizer = Tokenizer.clip(text_length=2)
    with pytest.raises(CaptionError, match="has no word to learn from"):
        tokenize(table.captions, tokenizer)


@pytest.mark.parametrize(("workers", "cached"), [(0, False), (1, False), (3, False), (0, True), (2, True)])
def test_threads_and_cache_change_nothing(broken: "Corpus", workers: int, cached: bool) -> None:
    expected = all_batches(broken, 0, False)
    found = all_batches(broken, workers, cached)
    assert len(found) == len(expected) == 14
    for one, other in zip(found, expected, strict=True):
        for name, array in one._asdict().items():
            assert np.array_equal(array, getattr(other, name)), name


def test_a_batch_holds_the_images_of_its_captions(corpus: "Corpus") -> None:
    table, _ = table_and_store(corpus)
    seen = 0
    for batch in all_batches(corpus, 2, False):
        for image, label in zip(batch.pixels, batch.images.tolist(), strict=True):
            expected = to_pixels(read_image(corpus.images / table.images[label]), 32, 16)
            assert (image == expected).all()
            seen += 1
        assert (table.image_index[batch.pairs] == batch.images[batch.owners]).all()
    assert seen == 120


def test_batches_go_on_from_any_step(corpus: "Corpus") -> None:
    whole = all_batches(corpus, 2, False, size=16)
    rest = all_batches(corpus, 2, False, start=3, size=16)
    assert len(whole) == 8
    assert [b.pairs.tolist() for b in rest] == [b.pairs.tolist() for b in whole[3:]]


def test_unreadable_images_leave_with_their_captions_and_are_named(broken: "Corpus") -> None:
    table, store = table_and_store(broken)
    tokens = tokenize(table.captions, Tokenizer.clip())
    sampler = Sampler(table.image_index, 64, "image", 2, seed=0)
    found = list(batches(sampler, store, tokens, range(sampler.steps_per_epoch), 2, Processes()))
    assert sorted(store.quarantined) == [130, 131]
    assert "0130.png: " in store.quarantined[130]
    assert sorted(np.concatenate([b.images for b in found]).tolist()) == sorted(set(range(200)) - {130, 131})
    for batch in found:
        assert np.bincount(batch.owners).tolist() == [2] * len(batch.pixels)


def test_a_batch_of_unreadable_images_is_empty(broken: "Corpus") -> None:
    for cached in (False, True):
        _, store = table_and_store(broken)
        if cached:
            store.fill_cache(2, lambda _: None)
        pixels, readable = store.read(np.array([130, 131]))
        assert pixels.shape == (0, 3, 32, 16)
        assert readable.tolist() == [False, False]


@pytest.mark.parametrize("cached", [False, True])
def test_more_than_one_in_a_hundred_fails(make_corpus: MakeCorpus, tmp_path: Path, cached: bool) -> None:
    corpus = make_corpus(tmp_path, images=100, broken=(50, 51))
    with pytest.raises(DataError, match=r"2 of 100 images cannot be read, more than 1%; the first: .*005[01]\.png"):
        all_batches(corpus, 2, cached)


def test_a_wrong_image_folder_fails_at_once(corpus: "Corpus", tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"0000\.png: no such file; check the image folder"):
        ImageStore(tmp_path, read_captions(corpus.captions).images, 32, 16)


def test_images_are_read_ahead_of_the_step_that_needs_them(corpus: "Corpus", monkeypatch: pytest.MonkeyPatch) -> None:
    table, store = table_and_store(corpus)
    sampler = Sampler(table.image_index, 10, "image", 1, seed=0)
    third_read = threading.Event()
    reads = itertools.count(1)
    reading = store.read

    def noted_read(indices: np.ndarray[tuple[int], np.dtype[np.int64]]) -> object:
        if next(reads) == 3:
            third_read.set()
        return reading(indices)

    monkeypatch.setattr(store, "read", noted_read)
    tokens = tokenize(table.captions, Tokenizer.clip())
    with closing(batches(sampler, store, tokens, range(12), 2, Processes())) as stream:
        next(stream)
        assert third_read.wait(timeout=30)  # while the first batch is still in use


def test_stopping_early_leaves_no_work_behind(corpus: "Corpus", monkeypatch: pytest.MonkeyPatch) -> None:
    table, store = table_and_store(corpus)
    tokens = tokenize(table.captions, Tokenizer.clip())
    sampler = Sampler(table.image_index, 4, "image", 1, seed=0)
    reads = 0
    reading = store.read

    def counted_read(indices: np.ndarray[tuple[int], np.dtype[np.int64]]) -> object:
        nonlocal reads
        reads += 1
        return reading(indices)

    monkeypatch.setattr(store, "read", counted_read)
    stream = batches(sampler, store, tokens, range(15), 2, Processes())
    next(stream)
    stream.close()
    assert reads <= 4


def test_the_cache_is_used_where_memory_allows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 9000 kB\nMemAvailable: 4000 kB\n")
    monkeypatch.setattr(loader, "_MEMORY", tmp_path / "meminfo")
    monkeypatch.setattr(loader, "_CONTAINER", tmp_path)
    assert should_cache("auto", 1000 * 1024)
    assert not should_cache("auto", 1001 * 1024)
    assert should_cache("on", 1 << 60)
    assert not should_cache("off", 1)
    (tmp_path / "memory.max").write_text("2048000\n")
    (tmp_path / "memory.current").write_text("1024000\n")
    assert should_cache("auto", 256_000)
    assert not should_cache("auto", 256_001)  # the container has less than the machine
    monkeypatch.setattr(loader, "_MEMORY", tmp_path / "none")
    assert not should_cache("auto", 1)


@given(
    images=st.integers(1, 9), processes=st.integers(1, 4), size=st.integers(0, 4), unreadable=st.sets(st.integers(0, 8))
)
def test_the_portions_of_all_processes_are_the_batch(
    images: int, processes: int, size: int, unreadable: set[int]
) -> None:
    draw = Draw(np.arange(images), np.arange(2 * images), np.repeat(np.arange(images), 2))
    readable = np.array([index not in unreadable for index in range(images)])
    tokens = TokenizedCaptions(np.ones(6 * images, np.uint16), np.arange(0, 6 * images + 1, 3), 0)
    seen: list[int] = []
    captions: list[int] = []
    for rank in range(processes):
        one = Processes(rank, processes)
        own = int(readable[one.slice_of(images)].sum())
        batch = loader._assemble(draw, readable, np.zeros((own, 3, 2, 2), np.uint8), tokens, one)
        parts = batch.portions(size)
        assert all(part.images.stop - part.images.start <= size for part in parts if size)
        seen += [index for part in parts for index in range(part.images.start, part.images.stop)]
        captions += [index for part in parts for index in range(part.captions.start, part.captions.stop)]
        for part in parts:
            assert set(batch.owners[part.captions]) == set(range(part.images.start, part.images.stop))
        assert batch.captions_by_process()[rank] == 2 * own
    assert seen == list(range(int(readable.sum())))
    assert captions == list(range(2 * int(readable.sum())))


@pytest.mark.parametrize(("named", "there"), [("n\u00fc.png", "nu\u0308.png"), ("nu\u0308.png", "n\u00fc.png")])
def test_composed_and_decomposed_names_are_the_same_image(tmp_path: Path, named: str, there: str) -> None:
    # A table made on one system, images unpacked on another.
    Image.new("RGB", (40, 80), (200, 30, 30)).save(tmp_path / there)
    store = ImageStore(tmp_path, [named], 32, 16)
    assert store.names == (there,)
    assert store.sizes[0] > 0
    assert store.quarantined == {}
