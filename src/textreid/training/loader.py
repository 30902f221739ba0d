"""Training data: tokenised captions in compact arrays, and images decoded ahead of the step that needs them."""

import math
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from textreid.errors import CaptionError, DataError, ImageError
from textreid.images import name_on_disk, read_image, to_pixels
from textreid.models.tokenizer import Tokenizer
from textreid.training.processes import Processes
from textreid.training.sampler import Draw, Indices, Sampler

UNREADABLE_SHARE = 0.01  # of the images; above it a run fails
_CHUNK = 20_000  # captions tokenised at once
_CACHE_SHARE = 4  # "auto" caches images that take up to 1 / this of the free memory
_MEMORY, _CONTAINER = Path("/proc/meminfo"), Path("/sys/fs/cgroup")


class Part(NamedTuple):
    """Neighbours in a batch: images and all of their captions."""

    images: slice
    captions: slice


class Batch(NamedTuple):
    """One step's data: ``B`` images, ``T`` captions of up to ``L`` tokens, and the pixels of this process' ``b``."""

    pixels: npt.NDArray[np.uint8]  # (b, 3, H, W)
    first: int  # position of the first of the b among the B
    shares: Indices  # (processes,) images of each; their sum is B
    images: Indices  # (B,) index of each image
    owners: Indices  # (T,) position in the batch of each caption's image
    pairs: Indices  # (T,) index of each caption
    ids: npt.NDArray[np.int64]  # (T, L), padded with 0
    lengths: Indices  # (T,) start and end included

    def part(self, low: int, high: int) -> Part:
        """The images at positions ``low`` to ``high``, and their captions."""
        first, last = np.searchsorted(self.owners, (low, high)).tolist()
        return Part(slice(low, high), slice(first, last))

    def own(self) -> Part:
        """What this process works on."""
        return self.part(self.first, self.first + len(self.pixels))

    def portions(self, size: int) -> list[Part]:
        """What this process works on, in parts of up to ``size`` images, 0 for one part; at least one, maybe empty."""
        last = self.first + len(self.pixels)
        starts = range(self.first, last, size) if size else [self.first]
        return [self.part(start, min(start + size, last) if size else last) for start in starts] or [self.own()]

    def undivided(self, size: int) -> bool:
        """Whether every process has a single portion: what they wait for each other in, all have to do alike."""
        return not size or int(self.shares.max()) <= size

    def captions_by_process(self) -> list[int]:
        """How many captions each process works on."""
        edges = np.concatenate([[0], np.cumsum(self.shares)])
        counts: list[int] = np.diff(np.searchsorted(self.owners, edges)).tolist()
        return counts


@dataclass(frozen=True)
class TokenizedCaptions:
    """Token ids of N captions, one after the other in the smallest integers that hold them."""

    tokens: npt.NDArray[np.unsignedinteger]  # (sum of lengths,)
    offsets: Indices  # (N + 1,)
    truncated: int  # captions that were longer than the tokenizer's text length

    @property
    def lengths(self) -> Indices:
        """(N,) tokens of each caption, start and end included."""
        return np.diff(self.offsets)

    def rows(self, pairs: Indices) -> tuple[npt.NDArray[np.int64], Indices]:
        """Ids (T, L) of captions ``pairs``, padded with 0 to the longest, and their lengths (T,)."""
        lengths = self.offsets[pairs + 1] - self.offsets[pairs]
        columns = np.arange(lengths.max(initial=0))
        inside = columns < lengths[:, None]
        ids = np.zeros(inside.shape, dtype=np.int64)
        ids[inside] = self.tokens[(self.offsets[pairs][:, None] + columns)[inside]]
        return ids, lengths


def tokenize(captions: pa.LargeStringArray, tokenizer: Tokenizer) -> TokenizedCaptions:
    """Encode Arrow strings, in bounded memory.

    Raises:
        CaptionError: a caption has no token.
    """
    small = np.uint16 if tokenizer.vocabulary_size <= 1 << 16 else np.uint32
    parts: list[npt.NDArray[np.unsignedinteger]] = []
    lengths: list[Indices] = []
    truncated = 0
    for start in range(0, len(captions), _CHUNK):
        batch = tokenizer.encode(captions.slice(start, _CHUNK).to_pylist())
        wordless = np.flatnonzero(batch.lengths <= 2)  # only start and end
        if wordless.size:
            raise CaptionError(f"caption {str(captions[start + int(wordless[0])])!r} has no word to learn from")
        parts.append(batch.ids[np.arange(batch.ids.shape[1]) < batch.lengths[:, None]].astype(small))
        lengths.append(batch.lengths)
        truncated += batch.truncated
    offsets = np.concatenate([[0], np.cumsum(np.concatenate(lengths))])
    return TokenizedCaptions(np.concatenate(parts), offsets, truncated)


class ImageStore:
    """Pixels of the training images, by index; the unreadable are quarantined, and fail a run above 1 %.

    Attributes:
        names: image paths relative to the root.
        sizes: file size of each in bytes, -1 for one that is missing.
        quarantined: what is wrong, by index of the image; grows as images are read.

    Raises:
        DataError: more than 1 % of the images are missing.
    """

    def __init__(self, root: Path, names: Sequence[str], height: int, width: int) -> None:
        self.sizes = [_file_size(root / name) for name in names]
        self.names = tuple(
            name if size >= 0 else name_on_disk(root, name) for name, size in zip(names, self.sizes, strict=True)
        )
        self.quarantined: dict[int, str] = {}
        self._root = root
        self._shape = (3, height, width)
        self._cache: npt.NDArray[np.uint8] | None = None
        for index, (given, found) in enumerate(zip(names, self.names, strict=True)):
            if found != given:
                self.sizes[index] = _file_size(root / found)
            if self.sizes[index] < 0:
                self.quarantine(index, f"{root / self.names[index]}: no such file")

    @property
    def bytes_decoded(self) -> int:
        """Memory that all images take once decoded."""
        return len(self.names) * math.prod(self._shape)

    def fill_cache(self, workers: int, advance: Callable[[int], None]) -> None:
        """Decode every image once and keep it; ``advance`` is called with the number done.

        Raises:
            DataError: more than 1 % of the images are unreadable.
        """
        cache = np.zeros((len(self.names), *self._shape), dtype=np.uint8)
        with ThreadPoolExecutor(max(1, workers)) as pool:
            for index, pixels in enumerate(pool.map(self._decode, range(len(self.names)))):
                if pixels is not None:
                    cache[index] = pixels
                advance(index + 1)
        self._cache = cache

    def read(self, indices: Indices) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
        """Pixels (n, 3, H, W) of the readable images among ``indices``, and which of the indices are readable.

        Raises:
            DataError: more than 1 % of all images are unreadable.
        """
        if self._cache is not None:
            readable = np.array([index not in self.quarantined for index in indices.tolist()], dtype=bool)
            return self._cache[indices[readable]], readable
        decoded = [self._decode(index) for index in indices.tolist()]
        readable = np.array([pixels is not None for pixels in decoded], dtype=bool)
        pixels = np.zeros((int(readable.sum()), *self._shape), dtype=np.uint8)
        for row, image in zip(pixels, (image for image in decoded if image is not None), strict=True):
            row[:] = image
        return pixels, readable

    def _decode(self, index: int) -> npt.NDArray[np.uint8] | None:
        if index in self.quarantined:
            return None
        _, height, width = self._shape
        try:
            return to_pixels(read_image(self._root / self.names[index], at_least=(height, width)), height, width)
        except ImageError as error:
            self.quarantine(index, str(error))
            return None

    def quarantine(self, index: int, reason: str) -> None:
        """Leave an image out from now on; what is wrong with one that is left out already stays.

        Raises:
            DataError: more than 1 % of all images are unreadable.
        """
        self.quarantined.setdefault(index, reason)
        if len(self.quarantined) > UNREADABLE_SHARE * len(self.names):
            first = next(iter(self.quarantined.values()))
            raise DataError(
                f"{self._root}: at least {len(self.quarantined)} of {len(self.names)} images cannot be read, more than "
                f"{UNREADABLE_SHARE:.0%}; the first: {first}; check the image folder, or caption the images again"
            )


def _file_size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


def should_cache(choice: Literal["auto", "on", "off"], needed: int) -> bool:
    """Whether to keep ``needed`` bytes of decoded images; ``auto``: if a quarter of the free memory holds them."""
    return choice == "on" or (choice == "auto" and needed * _CACHE_SHARE <= _free_memory())


def _free_memory() -> int:
    """Bytes this process may still take: of the machine and of its container; 0 where Linux does not tell."""
    try:
        lines = _MEMORY.read_text().splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
        limit = (_CONTAINER / "memory.max").read_text().strip() if (_CONTAINER / "memory.max").is_file() else "max"
        if limit == "max":
            return free
        return min(free, int(limit) - int((_CONTAINER / "memory.current").read_text()))
    except (OSError, ValueError, StopIteration):
        return 0


def batches(
    sampler: Sampler,
    images: ImageStore,
    captions: TokenizedCaptions,
    steps: range,
    workers: int,
    processes: Processes,
) -> Generator[Batch]:
    """Yield the batches of ``steps``; ``workers`` threads read this process' images ahead of their use."""
    with closing(_read_ahead(sampler, images, steps, workers, processes)) as readings:
        for draw, pixels, own_readable in readings:
            readable = np.ones(len(draw.images), dtype=bool)
            readable[processes.slice_of(len(readable))] = own_readable
            readable = processes.in_all(readable)
            for index in draw.images[~readable].tolist():
                images.quarantine(index, f"{images.names[index]}: another process could not read it")
            yield _assemble(draw, readable, pixels, captions, processes)


class _Reading(NamedTuple):
    draw: Draw
    pixels: npt.NDArray[np.uint8]  # of this process' images that are readable
    readable: npt.NDArray[np.bool_]  # which of this process' images are


def _read_ahead(
    sampler: Sampler, images: ImageStore, steps: range, workers: int, processes: Processes
) -> Generator[_Reading]:
    def read(draw: Draw) -> _Reading:
        return _Reading(draw, *images.read(draw.images[processes.slice_of(len(draw.images))]))

    if workers == 0:
        for step in steps:
            yield read(sampler.draw(step))
        return
    with ThreadPoolExecutor(workers) as pool:
        ahead = workers + 1
        waiting = deque(pool.submit(read, sampler.draw(step)) for step in steps[:ahead])
        try:
            for step in range(steps.start + ahead, steps.stop + ahead):
                ready = waiting.popleft().result()
                if step in steps:
                    waiting.append(pool.submit(read, sampler.draw(step)))
                yield ready
        finally:
            for future in waiting:
                future.cancel()


def _assemble(
    draw: Draw,
    readable: npt.NDArray[np.bool_],
    pixels: npt.NDArray[np.uint8],
    captions: TokenizedCaptions,
    processes: Processes,
) -> Batch:
    kept = readable[draw.owners]
    position = np.cumsum(readable) - 1
    pairs = draw.pairs[kept]
    ids, lengths = captions.rows(pairs)
    shares = np.array([int(readable[part].sum()) for part in processes.slices_of(len(readable))])
    return Batch(
        pixels=pixels,
        first=int(shares[: processes.rank].sum()),
        shares=shares,
        images=draw.images[readable],
        owners=position[draw.owners[kept]],
        pairs=pairs,
        ids=ids,
        lengths=lengths,
    )
