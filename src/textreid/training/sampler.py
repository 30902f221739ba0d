"""Which images and captions a step trains on: a pure function of seed and step, so a run can go on from any step."""

from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int64]

_ORDER, _CAPTIONS = 0, 1  # separate streams of random numbers


class Draw(NamedTuple):
    """What one step trains on: ``B`` images and ``T`` of their captions."""

    images: Indices  # (B,) indices of images
    pairs: Indices  # (T,) indices of (image, caption) pairs
    owners: Indices  # (T,) which of the B images each caption belongs to, ascending


class Sampler:
    """Order of an epoch, in batches whose sizes differ by at most one.

    Under ``pair`` an epoch sees every (image, caption) pair once. Under ``image`` it sees every image once, each with
    ``captions_per_image`` of its captions (all, if it has fewer), drawn anew per epoch without replacement.
    """

    def __init__(
        self,
        image_index: Indices,
        batch_size: int,
        epoch_unit: Literal["pair", "image"],
        captions_per_image: int,
        seed: int,
    ) -> None:
        self._image_index = image_index  # (N,) image of each pair
        self._by_image = np.argsort(image_index, kind="stable")  # pairs, grouped by image
        self._images, self._starts, self._counts = np.unique(
            image_index[self._by_image], return_index=True, return_counts=True
        )
        self._batch_size = batch_size
        self._epoch_unit = epoch_unit
        self._captions_per_image = captions_per_image
        self._seed = seed
        self._order: tuple[int, Indices] = (-1, np.empty(0, dtype=np.int64))

    @property
    def units(self) -> int:
        """Pairs or images an epoch sees."""
        return len(self._image_index) if self._epoch_unit == "pair" else len(self._images)

    @property
    def steps_per_epoch(self) -> int:
        """Batches an epoch is cut into."""
        return -(-self.units // self._batch_size)

    def draw(self, step: int) -> Draw:
        """What step ``step`` (from 0) trains on."""
        epoch, batch = divmod(step, self.steps_per_epoch)
        low, high = (self.units * edge // self.steps_per_epoch for edge in (batch, batch + 1))
        chosen = self._epoch_order(epoch)[low:high]
        if self._epoch_unit == "pair":
            return Draw(self._image_index[chosen], chosen, np.arange(len(chosen)))
        return self._draw_captions(chosen, np.random.default_rng((self._seed, step, _CAPTIONS)))

    def _epoch_order(self, epoch: int) -> Indices:
        if self._order[0] != epoch:
            rng = np.random.default_rng((self._seed, epoch, _ORDER))
            self._order = (epoch, rng.permutation(self.units))
        return self._order[1]

    def _draw_captions(self, chosen: Indices, rng: np.random.Generator) -> Draw:
        """Draw captions of the images at positions ``chosen`` in the list of distinct images."""
        counts = self._counts[chosen]
        owners = np.repeat(np.arange(len(chosen)), counts)
        rank = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)  # 0, 1, … within each owner
        candidates = self._by_image[self._starts[chosen][owners] + rank]
        shuffled = np.lexsort((rng.random(len(owners)), owners))
        kept = shuffled[rank < self._captions_per_image]
        return Draw(self._images[chosen], candidates[kept], owners[kept])
