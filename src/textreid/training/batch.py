"""What one step trains on, from the loader to the losses: the batch of all processes, and its cuts."""

from dataclasses import dataclass, replace
from typing import NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from textreid.models.device import to_device
from textreid.training.dataset import Indices
from textreid.training.processes import Processes


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
        pixels: (b, 3, H, W) of this process' b images: uint8 as they are read, float32 once they are augmented. Where
            a frozen trunk's maps are kept, these: float16, then float32.
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
