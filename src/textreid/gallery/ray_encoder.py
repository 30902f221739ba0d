"""The encoder of a gallery whose image side runs in the workers of a Ray cluster; the driver alone sees the files.

Pictures are decoded here and travel as the model wants them, 147 KB each at 384×128, so that other machines need the
model and no folder of images; rows are written by the driver, as without a cluster.
"""

import os
from functools import cached_property
from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from textreid.errors import ConfigError
from textreid.gallery.encoder import GalleryEncoder

if TYPE_CHECKING:
    from pathlib import Path

    from textreid.models.device import Precision

_FEWEST = 16  # pictures that are worth the way to another worker


class RayEncoder(GalleryEncoder):
    """Encoder that embeds images on a Ray cluster, to which this process is connected already.

    A worker that dies is replaced, and what it had in hand is embedded again.

    Attributes:
        workers: processes, each with the model.
    """

    def __init__(
        self, model: "str | Path | None" = None, precision: "Precision" = "auto", *, workers: int | None = None
    ) -> None:
        """Open the text side here and the image side in ``workers`` processes: one a GPU, or else a CPU, when None.

        Raises:
            ModelError, ArtifactError, DownloadError, ConfigError: as `GalleryEncoder`.
        """
        import ray

        super().__init__(model, precision)
        resources = ray.cluster_resources()
        gpus = 1 if resources.get("GPU", 0) >= 1 else 0
        self.workers = workers or max(1, int(resources.get("GPU" if gpus else "CPU", 1)))
        worker = ray.remote(num_cpus=1, num_gpus=gpus, max_restarts=-1, max_task_retries=-1)(_Worker)
        self._actors: list[Any] = [worker.remote(self._source, precision) for _ in range(self.workers)]
        self.batch_size = super().batch_size * self.workers

    @cached_property
    def space(self) -> str:
        """The one of `spaces` that the workers compute in.

        Raises:
            ConfigError: they do not agree, or have another model.
        """
        import ray

        found = set(ray.get([actor.space.remote() for actor in self._actors]))
        if len(found) > 1:
            raise ConfigError("the workers of the Ray cluster compute in different precisions: give --precision fp32")
        if not found <= set(self.spaces):
            raise ConfigError(f"{self.name}: the workers of the Ray cluster have another model under that name")
        return str(found.pop())

    def encode_pixels(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Return the vectors (N, D) of decoded images (N, 3, H, W) uint8."""
        import ray

        parts = np.array_split(pixels, min(self.workers, max(1, ceil(len(pixels) / _FEWEST))))
        asked = [actor.encode.remote(part) for actor, part in zip(self._actors, parts, strict=False)]
        return np.concatenate(ray.get(asked))


class _Worker:
    """Process with the image side of a model."""

    def __init__(self, model: "str | Path | None", precision: "Precision") -> None:
        self._encoder = GalleryEncoder(model, precision)
        self._encoder.load()

    def space(self) -> str:
        return self._encoder.space

    def process(self) -> int:
        return os.getpid()

    def encode(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        return self._encoder.encode_pixels(np.array(pixels))  # what came through Ray's memory cannot be written to
