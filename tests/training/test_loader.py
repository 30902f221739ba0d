import itertools
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from PIL import Image

from textreid.captions.table import read_captions
from textreid.config import ModelConfig, TrainingConfig
from textreid.errors import CaptionError, DataError
from textreid.images import read_image, to_pixels
from textreid.models import Tokenizer
from textreid.training import captioned_images, image_store, loader
from textreid.training.batch import Batch
from textreid.training.dataset import Indices, TrainingSet
from textreid.training.image_store import ImageStore, should_cache
from textreid.training.loader import Draw, Loader, Sampler, TokenizedCaptions
from textreid.training.processes import Processes

if TYPE_CHECKING:
    from tests.training.conftest import Corpus

MakeCorpus = Callable[..., "Corpus"]
CPU = torch.device("cpu")
SMALL = ModelConfig(image_height=32, image_width=16)


@pytest.fixture(scope="module")
def broken(make_corpus: MakeCorpus, tmp_path_factory: pytest.TempPathFactory) -> "Corpus":
    """200 images of which two are cut off: one in a hundred, and no more."""
    return make_corpus(tmp_path_factory.mktemp("broken"), images=200, broken=(130, 131))


def make_sampler(image_index: Indices, size: int, unit: Any, captions_per_image: int, seed: int = 0) -> Sampler:
    config = TrainingConfig(batch_size=size, epoch_unit=unit, captions_per_image=captions_per_image, seed=seed)
    return Sampler(image_index, config)


def data_and_store(corpus: "Corpus") -> tuple[TrainingSet, ImageStore]:
    data = captioned_images(corpus.images, corpus.captions)
    return data, ImageStore(data.root, data.images, SMALL)


def make_loader(data: TrainingSet, store: ImageStore, size: int, captions_per_image: int) -> Loader:
    source = Loader(data, make_sampler(data.image_index, size, "image", captions_per_image), store, "", 0, Processes())
    source.tokenize(Tokenizer.clip())
    return source


def all_batches(corpus: "Corpus", workers: int, cached: bool, start: int = 0, size: int = 32) -> list[Batch]:
    data, store = data_and_store(corpus)
    if cached:
        store.fill_cache(workers, lambda _: None)
    source = make_loader(data, store, size, 2)
    return list(source.batches(range(start, 2 * source.sampler.steps_per_epoch), workers, CPU))


IMAGE_INDEX = np.array([0, 1, 0, 2, 3, 3, 3, 1, 4, 0, 5])


def test_pairs_are_seen_once_an_epoch() -> None:
    sampler = make_sampler(IMAGE_INDEX, 4, "pair", 1)
    draws = [sampler.draw(step) for step in range(sampler.steps_per_epoch)]
    assert sorted(np.concatenate([draw.caption_index for draw in draws]).tolist()) == list(range(11))
    assert [len(draw.caption_index) for draw in draws] == [3, 4, 4]
    for draw in draws:
        assert (IMAGE_INDEX[draw.caption_index] == draw.images[draw.image_index]).all()


@pytest.mark.parametrize("captions", [1, 2, 5])
def test_images_are_seen_once_an_epoch_with_captions_of_their_own(captions: int) -> None:
    sampler = make_sampler(IMAGE_INDEX, 4, "image", captions, seed=1)
    assert (sampler.units, sampler.steps_per_epoch) == (6, 2)
    draws = [sampler.draw(step) for step in range(2)]
    assert sorted(np.concatenate([draw.images for draw in draws]).tolist()) == list(range(6))
    drawn = np.concatenate([draw.caption_index for draw in draws])
    assert len(set(drawn.tolist())) == len(drawn)
    expected = np.minimum(np.bincount(IMAGE_INDEX), captions)
    assert (np.bincount(IMAGE_INDEX[drawn]) == expected).all()
    for draw in draws:
        assert (IMAGE_INDEX[draw.caption_index] == draw.images[draw.image_index]).all()
        assert (np.diff(draw.image_index) >= 0).all()


def test_captions_are_drawn_evenly() -> None:
    sampler = make_sampler(np.repeat(np.arange(10), 4), 10, "image", 1, seed=2)
    counts = np.bincount(np.concatenate([sampler.draw(step).caption_index for step in range(2000)]), minlength=40)
    assert counts.sum() == 20_000
    assert abs(counts / 2000 - 0.25).max() < 0.04  # four standard deviations


@given(
    index=st.lists(st.integers(0, 12), min_size=1, max_size=60),
    batch=st.integers(2, 20),
    seed=st.integers(0, 99),
    unit=st.sampled_from(["pair", "image"]),
)
@settings(deadline=None, max_examples=50)
def test_any_step_can_be_drawn_alone(index: list[int], batch: int, seed: int, unit: str) -> None:
    image_index = np.unique(np.array(index), return_inverse=True)[1]
    captions = 1 if unit == "pair" else 2

    def make() -> Sampler:
        return make_sampler(image_index, batch, unit, captions, seed)

    straight = make()
    draws = [straight.draw(step) for step in range(2 * straight.steps_per_epoch)]
    sizes = {len(draw.images) for draw in draws}
    assert max(sizes) <= batch
    assert max(sizes) - min(sizes) <= 1
    for step in reversed(range(len(draws))):
        for found, expected in zip(make().draw(step), draws[step], strict=True):
            assert np.all(found == expected)


def test_epochs_and_seeds_differ() -> None:
    def order(seed: int, epoch: int) -> list[np.int64]:
        return list(make_sampler(np.arange(50), 50, "pair", 1, seed).draw(epoch).caption_index)

    assert order(0, 0) != order(0, 1)
    assert order(0, 0) != order(1, 0)


def test_token_rows_equal_the_tokenizer(corpus: "Corpus", monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader, "_CHUNK", 7)
    data, _ = data_and_store(corpus)
    tokenizer = Tokenizer.clip(text_length=10)
    tokens = TokenizedCaptions.encode(data.captions, tokenizer)
    assert tokens.tokens.dtype == np.uint16
    pairs = np.array([119, 0, 7, 6, 13, 14, 0])
    ids, lengths = tokens.rows(pairs)
    expected = tokenizer.encode([str(data.captions[pair]) for pair in pairs.tolist()])
    assert (ids == expected.ids).all()
    assert (lengths == expected.lengths).all()
    assert tokens.truncated == tokenizer.encode(data.captions.to_pylist()).truncated > 0


def test_a_caption_without_a_word_is_refused(corpus: "Corpus") -> None:
    data, _ = data_and_store(corpus)
    tokenizer = Tokenizer.clip(text_length=2)
    with pytest.raises(CaptionError, match="has no word to learn from"):
        TokenizedCaptions.encode(data.captions, tokenizer)


@pytest.mark.parametrize(("workers", "cached"), [(0, False), (1, False), (3, False), (0, True), (2, True)])
def test_threads_and_cache_change_nothing(broken: "Corpus", workers: int, cached: bool) -> None:
    expected = all_batches(broken, 0, False)
    found = all_batches(broken, workers, cached)
    assert len(found) == len(expected) == 14
    for one, other in zip(found, expected, strict=True):
        for name, value in vars(one).items():
            if name != "processes":
                assert np.array_equal(value, getattr(other, name)), name


def test_a_batch_holds_the_images_of_its_captions(corpus: "Corpus") -> None:
    data, _ = data_and_store(corpus)
    seen = 0
    for batch in all_batches(corpus, 2, False):
        for image, label in zip(batch.pixels, batch.images.tolist(), strict=True):
            expected = to_pixels(read_image(corpus.images / data.images[label]), 32, 16)
            assert (image.numpy() == expected).all()
            seen += 1
        assert (data.image_index[batch.caption_index] == batch.images[batch.image_index]).all()
        assert (batch.labels.numpy() == batch.images).all()
        ends = batch.lengths - 1
        assert batch.is_word.sum(1).tolist() == (ends - 1).tolist()
        assert not batch.is_word[:, 0].any()
        assert not batch.is_word[torch.arange(len(ends)), ends].any()
    assert seen == 120


def test_batches_go_on_from_any_step(corpus: "Corpus") -> None:
    whole = all_batches(corpus, 2, False, size=16)
    rest = all_batches(corpus, 2, False, start=3, size=16)
    assert len(whole) == 8
    assert [b.caption_index.tolist() for b in rest] == [b.caption_index.tolist() for b in whole[3:]]


def test_unreadable_images_leave_with_their_captions_and_are_named(broken: "Corpus") -> None:
    data, store = data_and_store(broken)
    source = make_loader(data, store, 64, 2)
    found = list(source.batches(range(source.sampler.steps_per_epoch), 2, CPU))
    assert sorted(store.quarantined) == [130, 131]
    assert "0130.png: " in store.quarantined[130]
    assert sorted(np.concatenate([b.images for b in found]).tolist()) == sorted(set(range(200)) - {130, 131})
    for batch in found:
        assert np.bincount(batch.image_index).tolist() == [2] * len(batch.pixels)


def test_a_batch_of_unreadable_images_is_empty(broken: "Corpus") -> None:
    for cached in (False, True):
        _, store = data_and_store(broken)
        if cached:
            store.fill_cache(2, lambda _: None)
        pixels, readable = store.read(np.array([130, 131]), 0)
        assert pixels.shape == (0, 3, 32, 16)
        assert readable.tolist() == [False, False]


@pytest.mark.parametrize("cached", [False, True])
def test_more_than_one_in_a_hundred_fails(make_corpus: MakeCorpus, tmp_path: Path, cached: bool) -> None:
    corpus = make_corpus(tmp_path, images=100, broken=(50, 51))
    with pytest.raises(DataError, match=r"2 of 100 images cannot be read, more than 1%; the first: .*005[01]\.png"):
        all_batches(corpus, 2, cached)


def test_a_wrong_image_folder_fails_at_once(corpus: "Corpus", tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"0000\.png: cannot be read: No such file or directory; check the image folder"
    ):
        ImageStore(tmp_path, read_captions(corpus.captions).images, SMALL)


def test_images_are_read_ahead_of_the_step_that_needs_them(corpus: "Corpus", monkeypatch: pytest.MonkeyPatch) -> None:
    data, store = data_and_store(corpus)
    source = make_loader(data, store, 10, 1)
    third_read = threading.Event()
    reads = itertools.count(1)
    reading = store.read

    def noted_read(indices: np.ndarray[tuple[int], np.dtype[np.int64]], epoch: int) -> object:
        if next(reads) == 3:
            third_read.set()
        return reading(indices, epoch)

    monkeypatch.setattr(store, "read", noted_read)
    with closing(source.batches(range(12), 2, CPU)) as stream:
        next(stream)
        assert third_read.wait(timeout=30)  # while the first batch is still in use


def test_stopping_early_leaves_no_work_behind(corpus: "Corpus", monkeypatch: pytest.MonkeyPatch) -> None:
    data, store = data_and_store(corpus)
    source = make_loader(data, store, 4, 1)
    reads = 0
    reading = store.read

    def counted_read(indices: np.ndarray[tuple[int], np.dtype[np.int64]], epoch: int) -> object:
        nonlocal reads
        reads += 1
        return reading(indices, epoch)

    monkeypatch.setattr(store, "read", counted_read)
    stream = source.batches(range(15), 2, CPU)
    next(stream)
    stream.close()
    assert reads <= 4


def test_the_cache_is_used_where_memory_allows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 9000 kB\nMemAvailable: 4000 kB\n")
    monkeypatch.setattr(image_store, "_MEMORY", tmp_path / "meminfo")
    monkeypatch.setattr(image_store, "_CONTAINER", tmp_path)
    assert should_cache("auto", 1000 * 1024)
    assert not should_cache("auto", 1001 * 1024)
    assert should_cache("on", 1 << 60)
    assert not should_cache("off", 1)
    (tmp_path / "memory.max").write_text("2048000\n")
    (tmp_path / "memory.current").write_text("1024000\n")
    assert should_cache("auto", 256_000)
    assert not should_cache("auto", 256_001)  # the container has less than the machine
    monkeypatch.setattr(image_store, "_MEMORY", tmp_path / "none")
    assert not should_cache("auto", 1)


@given(
    images=st.integers(1, 9), processes=st.integers(1, 4), size=st.integers(0, 4), unreadable=st.sets(st.integers(0, 8))
)
def test_the_micro_batches_of_all_processes_are_the_batch(
    images: int, processes: int, size: int, unreadable: set[int]
) -> None:
    draw = Draw(np.arange(images), np.arange(2 * images), np.repeat(np.arange(images), 2), 0)
    readable = np.array([index not in unreadable for index in range(images)])
    tokens = TokenizedCaptions(np.ones(6 * images, np.uint16), np.arange(0, 6 * images + 1, 3), 0)
    seen: list[int] = []
    captions: list[int] = []
    fits = set()
    for rank in range(processes):
        one = _Others(rank, processes, readable)
        own = one.slice_of(images)
        store = _NoImages(readable)
        pixels = np.zeros((int(readable[own].sum()), 3, 2, 2), np.uint8)
        data: Any = SimpleNamespace(labels=np.arange(images))
        sampler: Any = None
        source = Loader(data, sampler, store, "", size, one)
        source.captions = tokens
        batch = source._assemble(draw, pixels, readable[own])
        parts = batch.micro_batches()
        assert all(len(part.pixels) <= size for part in parts if size)
        fits.add(batch.fits)
        assert len(parts) == 1 or not batch.fits
        seen += [index for part in parts for index in range(part.images.start, part.images.stop)]
        captions += [index for part in parts for index in range(part.captions.start, part.captions.stop)]
        for part in parts:
            assert part.image_index.tolist() == np.repeat(np.arange(len(part.pixels)), 2).tolist()
            assert len(part.ids) == len(part.lengths) == len(part.is_word) == 2 * len(part.pixels)
        assert batch.gather_captions(torch.zeros(2 * len(pixels))).shape == (2 * int(readable.sum()),)
    assert seen == list(range(int(readable.sum())))
    assert captions == list(range(2 * int(readable.sum())))
    assert len(fits) == 1  # processes that wait for each other must agree


class _Others(Processes):
    """One of several processes, of which the others are not there."""

    def __init__(self, rank: int, count: int, readable: "np.ndarray[tuple[int], np.dtype[np.bool_]]") -> None:
        super().__init__(rank, count)
        self._readable = readable

    def all_true(self, flags: "np.ndarray[tuple[int], np.dtype[np.bool_]]") -> Any:
        return self._readable

    def all_gather(self, rows: torch.Tensor, counts: Any) -> torch.Tensor:
        assert counts[self.rank] == len(rows)
        return torch.zeros(sum(counts))


class _NoImages(ImageStore):
    """Names of images that are not read."""

    def __init__(self, readable: "np.ndarray[tuple[int], np.dtype[np.bool_]]") -> None:
        self.names = tuple(map(str, range(len(readable))))
        self.quarantined = {}

    def quarantine(self, index: int, reason: str) -> None:
        pass


def test_names_that_cannot_be_looked_at_cost_one_image(make_corpus: MakeCorpus, tmp_path: Path) -> None:
    corpus = make_corpus(tmp_path, images=300)
    (corpus.images / "loop.png").symlink_to("loop.png")
    names = [f"{number:04}.png" for number in range(297)]
    reasons = {"x" * 300: "File name too long", "0297.png/in.png": "Not a directory", "loop.png": "levels of symbolic"}
    store = ImageStore(corpus.images, [*names, *reasons], SMALL)
    assert sorted(store.quarantined) == [297, 298, 299]
    for found, expected in zip(store.newly_quarantined().values(), reasons.values(), strict=True):
        assert "cannot be read: " in found
        assert expected in found


@pytest.mark.parametrize(("named", "there"), [("n\u00fc.png", "nu\u0308.png"), ("nu\u0308.png", "n\u00fc.png")])
def test_composed_and_decomposed_names_are_the_same_image(tmp_path: Path, named: str, there: str) -> None:
    # A table made on one system, images unpacked on another.
    Image.new("RGB", (40, 80), (200, 30, 30)).save(tmp_path / there)
    store = ImageStore(tmp_path, [named], SMALL)
    assert store.names == (there,)
    assert store.sizes[0] > 0
    assert store.quarantined == {}
