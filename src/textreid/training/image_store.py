"""The pixels of training images: read where needed, or kept in memory, or what a frozen trunk makes of them."""

import math
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from textreid.config import ModelConfig
from textreid.errors import DataError, ImageError
from textreid.images import map_ahead, read_pixels
from textreid.listing import name_on_disk
from textreid.models.device import map_on_cores
from textreid.training.dataset import Indices

Pixels = npt.NDArray[np.uint8] | npt.NDArray[np.float16]  # float16: maps of a trunk
UNREADABLE_SHARE = 0.01  # of the images; above it a run fails
_CACHE_SHARE = 4  # "auto" caches images that take up to 1 / this of the free memory
_MAPPED_AT_ONCE = 16  # images: of more a core's cache does not hold the maps
_BETWEEN_STOPS = 512  # images after which the mapping can be interrupted
_MEMORY, _CONTAINER = Path("/proc/meminfo"), Path("/sys/fs/cgroup")


class ImageStore:
    """Pixels of the training images, by index; the unreadable are quarantined, and fail a run above 1 %.

    Attributes:
        names: image paths relative to the root.
        sizes: file size of each in bytes, -1 for one that cannot be looked at.
        quarantined: what is wrong, by index of the image; grows as images are read.
    """

    def __init__(self, root: Path, names: Sequence[str], config: ModelConfig) -> None:
        found = [_find(root, name) for name in names]
        self.names, self.sizes = tuple(name for name, _ in found), [size for _, size in found]
        self.quarantined: dict[int, str] = {}
        self._logged: set[int] = set()
        self._root = root
        self._config = config
        self._shape = (3, config.image_height, config.image_width)
        self._cache: npt.NDArray[np.uint8] | None = None
        self._mapped: npt.NDArray[np.float16] | None = None  # (views, I, C, h, w)
        for index in np.flatnonzero(np.array(self.sizes) < 0).tolist():
            self._decode(index)  # which says why it cannot be read

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

    def map_cache(
        self, maps: Callable[[torch.Tensor, int, int], torch.Tensor], views: int, advance: Callable[[int], None]
    ) -> None:
        """Keep ``maps`` of the cached pixels in place of these, in float16, for each of the views.

        Args:
            maps: computes (B, C, h, w) of pixels (B, 3, H, W) uint8; told the view and the index of the first image,
                and called from several threads.
            views: different maps that each image gets.
            advance: told now and then how many images are done.
        """
        if self._cache is None:
            raise RuntimeError("there is no cache to map")
        pixels = self._cache
        one = maps(torch.from_numpy(pixels[:1]), 0, 0)
        mapped = np.zeros((views, len(pixels), *one.shape[1:]), np.float16)

        def compute(first: int) -> None:
            part = torch.from_numpy(pixels[first : first + _MAPPED_AT_ONCE])
            for view in range(views):
                mapped[view, first : first + len(part)] = maps(part, view, first).half().cpu().numpy()

        for start in range(0, len(pixels), _BETWEEN_STOPS):
            end = min(start + _BETWEEN_STOPS, len(pixels))
            map_on_cores(compute, range(start, end, _MAPPED_AT_ONCE))
            advance(end)
        self._cache, self._mapped = None, mapped

    def read(self, indices: Indices, epoch: int) -> tuple[Pixels, npt.NDArray[np.bool_]]:
        """Read the pixels (n, 3, H, W) of the readable images among ``indices``, and tell which of them are readable.

        Where `map_cache` has mapped them, these are the maps, of the view whose turn it is in ``epoch``.

        Raises:
            DataError: more than 1 % of all images are unreadable.
        """
        kept = self._cache if self._mapped is None else self._mapped[epoch % len(self._mapped)]
        if kept is not None:
            readable = np.array([index not in self.quarantined for index in indices.tolist()], dtype=bool)
            return kept[indices[readable]], readable
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
            return read_pixels(
                self._root / self.names[index], *self._shape[1:], self._config.interpolation,
                reduced_decoding=self._config.reduced_decoding,
            )  # fmt: skip
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
        found = {index: reason for index, reason in list(self.quarantined.items()) if index not in self._logged}
        self._logged.update(found)
        return {self.names[index]: reason for index, reason in found.items()}

    def restore_quarantine(self, reasons: dict[str, str]) -> None:
        """Leave out the images that the run had left out before it was interrupted; that has been told."""
        for index, name in enumerate(self.names if reasons else ()):
            if name in reasons:
                self.quarantine(index, reasons[name])
                self._logged.add(index)


def _find(root: Path, name: str) -> tuple[str, int]:
    """Return the name that an image has on disk, and the size of its file in bytes; -1 where it has none to see."""
    try:
        return name, (root / name).stat().st_size
    except OSError:
        # Only now: nearly all names are as given, and another look at a million files takes seconds.
        found = name_on_disk(root, name)
        return found, (root / found).stat().st_size if found != name else -1


def should_cache(choice: Literal["auto", "on", "off", "maps"], needed: int) -> bool:
    """Decide whether to keep ``needed`` bytes of decoded images; ``auto``: if a quarter of the free memory will do."""
    return choice in {"on", "maps"} or (choice == "auto" and needed * _CACHE_SHARE <= _free_memory())


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
