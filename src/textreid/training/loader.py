"""Batches: tokenised captions in compact arrays, and images decoded ahead of the step that needs them."""

import math
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import Tensor

from textreid.errors import CaptionError, DataError, ImageError
from textreid.images import Interpolation, map_ahead, read_pixels
from textreid.listing import name_on_disk
from textreid.models.device import to_device
from textreid.models.tokenizer import Tokenizer
from textreid.training.dataset import Draw, Indices, Sampler
from textreid.training.processes import Processes

UNREADABLE_SHARE = 0.01  # of the images; above it a run fails
_CHUNK = 20_000  # captions tokenised at once
_CACHE_SHARE = 4  # "auto" caches images that take up to 1 / this of the free memory
_MEMORY, _CONTAINER = Path("/proc/meminfo"), Path("/sys/fs/cgroup")


class MicroBatch(NamedTuple):
    """Neighbours in a batch: ``b`` images and all of their ``t`` captions.

    Attributes:
        images, captions: where they stand among the B images and the T captions of the batch.
        pixels: (b, 3, H, W).
        ids: (t, L) of the captions as they are written, unmasked.
        lengths: (t,) on the CPU.
        image_index: (t,) position of each caption's image among these b.
        is_word: (t, L).
    """

    images: slice
    captions: slice
    pixels: Tensor
    ids: Tensor
    lengths: Tensor
    image_index: Tensor
    is_word: Tensor


@dataclass(frozen=True)
class Batch:
    """What one step trains on, from the loader to the losses: ``B`` images and ``T`` captions of up to ``L`` tokens.

    Every process knows the captions of the whole batch, and has the pixels of its own share of the images.

    Attributes:
        pixels: (b, 3, H, W) of this process' b images: uint8 as they are read, float32 once they are augmented.
        first: position of the first of these b among the B.
        shares: (processes,) how many images each process has; their sum is B.
        images: (B,) index of each image in the training set.
        labels: (B,) images with equal labels show the same.
        image_index: (T,) position in the batch of each caption's image, ascending.
        caption_index: (T,) index of each caption in the training set.
        caption_edges: (B + 1,) the captions of image ``i`` are those from ``caption_edges[i]`` up to the next edge.
        ids: (T, L) token ids, padded with 0.
        is_word: (T, L) true for tokens other than start, end and padding.
        lengths: (T,) tokens, start and end included; on the CPU, so that sizes never wait for a device.
        micro_size: images that a process takes in one pass; 0 for its whole share.
        processes: of the run.
    """

    pixels: Tensor
    first: int
    shares: Indices
    images: Indices
    labels: Tensor
    image_index: Tensor
    caption_index: Indices
    caption_edges: Indices
    ids: Tensor
    is_word: Tensor
    lengths: Tensor
    micro_size: int
    processes: Processes

    def to(self, device: torch.device) -> Self:
        """Return the batch with its tensors on ``device``, all but ``lengths``."""
        return replace(
            self,
            pixels=to_device(self.pixels, device),
            labels=to_device(self.labels, device),
            image_index=to_device(self.image_index, device),
            ids=to_device(self.ids, device),
            is_word=to_device(self.is_word, device),
        )

    @property
    def own_images(self) -> slice:
        """The images of this process, among the B."""
        return slice(self.first, self.first + len(self.pixels))

    @property
    def fits(self) -> bool:
        """Tell whether every process takes its share in one pass: processes that wait for each other must agree."""
        return not self.micro_size or int(self.shares.max()) <= self.micro_size

    def micro_batches(self) -> list[MicroBatch]:
        """Cut this process' share into what it takes in one pass each; at least one, maybe of nothing."""
        own = self.own_images
        size = self.micro_size or max(1, len(self.pixels))
        # A process without images takes part all the same: the others wait for its gradients.
        starts = range(own.start, own.stop, size) or [own.start]
        return [self._micro_batch(start, min(start + size, own.stop)) for start in starts]

    def _micro_batch(self, low: int, high: int) -> MicroBatch:
        images, captions = slice(low, high), slice(*self.caption_edges[[low, high]].tolist())
        return MicroBatch(
            images, captions, self.pixels[low - self.first : high - self.first], self.ids[captions],
            self.lengths[captions], self.image_index[captions] - low, self.is_word[captions],
        )  # fmt: skip

    def gather_images(self, rows: Tensor) -> Tensor:
        """Return the rows (B, ...) of all processes' images, of the ``rows`` (b, ...) of this process."""
        return self.processes.all_gather(rows, self.shares.tolist())

    def gather_captions(self, rows: Tensor) -> Tensor:
        """Return the rows (T, ...) of all processes' captions, of the ``rows`` (t, ...) of this process."""
        ends = self.caption_edges[np.cumsum(self.shares)]
        return self.processes.all_gather(rows, np.diff(ends, prepend=0).tolist())


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

    def rows(self, captions: Indices) -> tuple[npt.NDArray[np.int64], Indices]:
        """Return the ids (T, L) of ``captions``, padded with 0 to the longest, and their lengths (T,)."""
        lengths = self.offsets[captions + 1] - self.offsets[captions]
        columns = np.arange(lengths.max(initial=0))
        not_padding = columns < lengths[:, None]
        ids = np.zeros(not_padding.shape, dtype=np.int64)
        # Padding goes before the look-up: behind the last caption there is nothing to look up.
        ids[not_padding] = self.tokens[(self.offsets[captions][:, None] + columns)[not_padding]]
        return ids, lengths


def tokenize(captions: pa.LargeStringArray, tokenizer: Tokenizer) -> TokenizedCaptions:
    """Encode Arrow strings, in bounded memory.

    Raises:
        CaptionError: a caption has no token.
    """
    # The 49,408 ids of CLIP fit into 16 bits, a quarter of what int64 takes for millions of captions.
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

    def __init__(
        self,
        root: Path,
        names: Sequence[str],
        height: int,
        width: int,
        interpolation: Interpolation = "bicubic",
        reduced_decoding: bool = True,
    ) -> None:
        self.sizes = [_file_size(root / name) for name in names]
        self.names = tuple(
            name if size >= 0 else name_on_disk(root, name) for name, size in zip(names, self.sizes, strict=True)
        )
        self.quarantined: dict[int, str] = {}
        self._told: set[int] = set()
        self._root = root
        self._shape = (3, height, width)
        self._read_pixels = partial(
            read_pixels, height=height, width=width, interpolation=interpolation, reduced_decoding=reduced_decoding
        )
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
        workers = max(1, workers)
        with closing(map_ahead(self._decode, range(len(self.names)), workers, 8 * workers)) as decoded:
            for index, pixels in enumerate(decoded):
                if pixels is not None:
                    cache[index] = pixels
                advance(index + 1)
        self._cache = cache

    def read(self, indices: Indices) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
        """Read the pixels (n, 3, H, W) of the readable images among ``indices``, and tell which of them are readable.

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
        try:
            return self._read_pixels(self._root / self.names[index])
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

    def newly_quarantined(self) -> dict[str, str]:
        """Return what is wrong, by name, with the images that were quarantined since this was asked last."""
        # A copy, because threads that read ahead may add to it meanwhile.
        found = {index: reason for index, reason in list(self.quarantined.items()) if index not in self._told}
        self._told.update(found)
        return {self.names[index]: reason for index, reason in found.items()}

    def restore_quarantine(self, reasons: dict[str, str]) -> None:
        """Leave out the images that the run had left out before it was interrupted; that has been told."""
        for index, name in enumerate(self.names if reasons else ()):
            if name in reasons:
                self.quarantine(index, reasons[name])
                self._told.add(index)


def _file_size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


def should_cache(choice: Literal["auto", "on", "off"], needed: int) -> bool:
    """Decide whether to keep ``needed`` bytes of decoded images; ``auto``: if a quarter of the free memory will do."""
    return choice == "on" or (choice == "auto" and needed * _CACHE_SHARE <= _free_memory())


def _free_memory() -> int:
    """Return the bytes this process may still take, of the machine and its container; 0 where Linux does not tell."""
    try:
        lines = _MEMORY.read_text().splitlines()
        # /proc/meminfo counts in KiB; a container (cgroup v2) may have a limit of its own, in bytes.
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
        limit = (_CONTAINER / "memory.max").read_text().strip() if (_CONTAINER / "memory.max").is_file() else "max"
        if limit == "max":
            return free
        return min(free, int(limit) - int((_CONTAINER / "memory.current").read_text()))
    except (OSError, ValueError, StopIteration):
        return 0


class _Reading(NamedTuple):
    draw: Draw
    pixels: npt.NDArray[np.uint8]  # of this process' images that are readable
    readable: npt.NDArray[np.bool_]  # which of this process' images are


@dataclass(frozen=True)
class Loader:
    """Source of the batches of a run.

    Attributes:
        sampler: draws the images and captions of each step.
        images: their pixels.
        captions: their tokens.
        labels: (I,) of all images of the training set.
        micro_size: as a `Batch` has it.
        processes: of the run.
    """

    sampler: Sampler
    images: ImageStore
    captions: TokenizedCaptions
    labels: Indices
    micro_size: int
    processes: Processes

    def batches(self, steps: range, workers: int, device: torch.device) -> Generator[Batch]:
        """Yield the batches of ``steps`` on ``device``; ``workers`` threads read images ahead of their use."""
        draws = map(self.sampler.draw, steps)
        # Closed with this generator, so that no thread reads on after a stop.
        with closing(map_ahead(self._read, draws, workers, workers + 1)) as readings:
            for reading in readings:
                yield self._assemble(reading).to(device)

    def _read(self, draw: Draw) -> _Reading:
        return _Reading(draw, *self.images.read(draw.images[self.processes.slice_of(len(draw.images))]))

    def _assemble(self, reading: _Reading) -> Batch:
        draw, processes = reading.draw, self.processes
        # A process knows of its own share only and votes true on the rest; what all vote for stays.
        readable = np.ones(len(draw.images), dtype=bool)
        readable[processes.slice_of(len(readable))] = reading.readable
        readable = processes.all_true(readable)
        for index in draw.images[~readable].tolist():
            self.images.quarantine(index, f"{self.images.names[index]}: another process could not read it")
        kept = readable[draw.image_index]
        # Where each image stands once the unreadable before it are gone.
        position = np.cumsum(readable) - 1
        image_index, caption_index = position[draw.image_index[kept]], draw.caption_index[kept]
        ids, lengths = self.captions.rows(caption_index)
        columns = np.arange(ids.shape[1])
        shares = np.array([int(readable[part].sum()) for part in processes.slices_of(len(readable))])
        images = draw.images[readable]
        return Batch(
            pixels=torch.from_numpy(reading.pixels),
            first=int(shares[: processes.rank].sum()),
            shares=shares,
            images=images,
            labels=torch.from_numpy(self.labels[images]),
            image_index=torch.from_numpy(image_index),
            caption_index=caption_index,
            # searchsorted needs `image_index` to ascend, as `Draw` has it.
            caption_edges=np.searchsorted(image_index, np.arange(len(images) + 1)),
            ids=torch.from_numpy(ids),
            # The first token of a caption is the start, the last one the end.
            is_word=torch.from_numpy((columns > 0) & (columns < lengths[:, None] - 1)),
            lengths=torch.from_numpy(lengths),
            micro_size=self.micro_size,
            processes=processes,
        )
