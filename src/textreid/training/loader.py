"""From a training set to batches: which images and captions a step draws, their tokens and their pixels.

Captions are tokenised once, into compact arrays; images are read ahead of the step that needs them.
"""

from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import chain
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from textreid.artifacts import fingerprint
from textreid.config import Config, TrainingConfig
from textreid.errors import CaptionError, ConfigError
from textreid.images import map_ahead
from textreid.models.tokenizer import Tokenizer
from textreid.runlog import RunLog
from textreid.training.batch import Batch
from textreid.training.dataset import Indices, TrainingSet
from textreid.training.image_store import ImageStore, Pixels, should_cache
from textreid.training.optimizer import warmup_steps
from textreid.training.processes import Processes, local_processes

_ORDER, _CAPTIONS = 0, 1  # streams of random numbers of the sampler, apart from that of the steps
_CHUNK = 20_000  # captions tokenised at once


class Draw(NamedTuple):
    """Indices that one step draws: ``B`` images and ``T`` of their captions."""

    images: Indices  # (B,) indices of images
    caption_index: Indices  # (T,) indices of captions
    image_index: Indices  # (T,) which of the B images each caption belongs to, ascending
    epoch: int  # from 0


class Sampler:
    """Order of an epoch, in batches whose sizes differ by at most one: a pure function of the seed and the step.

    So a run can go on from any step.
    Under ``pair`` an epoch sees every (image, caption) pair once. Under ``image`` it sees every image once, each with
    ``captions_per_image`` of its captions (all, if it has fewer), drawn anew per epoch without replacement.
    """

    def __init__(self, image_index: Indices, config: TrainingConfig) -> None:
        self._image_index = image_index  # (N,) image of each caption
        # Other kinds of sort order equal values differently on different CPUs, and so would the draws.
        self._by_image = np.argsort(image_index, kind="stable")  # captions, grouped by image
        self._images, self._starts, self._counts = np.unique(
            image_index[self._by_image], return_index=True, return_counts=True
        )
        self._config = config
        self._order: tuple[int, Indices] = (-1, np.empty(0, dtype=np.int64))

    @property
    def units(self) -> int:
        """Pairs or images an epoch sees."""
        return len(self._image_index) if self._config.epoch_unit == "pair" else len(self._images)

    @property
    def steps_per_epoch(self) -> int:
        """Batches an epoch is cut into."""
        return -(-self.units // self._config.batch_size)

    def draw(self, step: int) -> Draw:
        """Draw what step ``step`` (from 0) trains on."""
        epoch, batch = divmod(step, self.steps_per_epoch)
        # Equal parts and no short rest: a small last batch would have few negatives to contrast with.
        low, high = (self.units * edge // self.steps_per_epoch for edge in (batch, batch + 1))
        drawn = self._epoch_order(epoch)[low:high]
        if self._config.epoch_unit == "pair":
            return Draw(self._image_index[drawn], drawn, np.arange(len(drawn)), epoch)
        return self._draw_captions(drawn, epoch, np.random.default_rng((self._config.seed, step, _CAPTIONS)))

    def _epoch_order(self, epoch: int) -> Indices:
        # All steps of an epoch share one permutation, which would take too long to draw for each of them.
        if self._order[0] != epoch:
            rng = np.random.default_rng((self._config.seed, epoch, _ORDER))
            self._order = (epoch, rng.permutation(self.units))
        return self._order[1]

    def _draw_captions(self, drawn: Indices, epoch: int, rng: np.random.Generator) -> Draw:
        """Draw captions of the images at positions ``drawn`` in the list of distinct images."""
        counts = self._counts[drawn]
        image_index = np.repeat(np.arange(len(drawn)), counts)
        rank = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)  # 0, 1, … within each image
        candidates = self._by_image[self._starts[drawn][image_index] + rank]
        # Shuffle the captions within each image, then keep the first few of each.
        shuffled = np.lexsort((rng.random(len(image_index)), image_index))
        kept = shuffled[rank < self._config.captions_per_image]
        return Draw(self._images[drawn], candidates[kept], image_index[kept], epoch)


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

    @classmethod
    def encode(cls, captions: pa.LargeStringArray, tokenizer: Tokenizer) -> Self:
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
        return cls(np.concatenate(parts), offsets, truncated)


def _refuse_unfit(config: Config, sampler: Sampler, identities: int, processes: int) -> None:
    """Raise ConfigError with every setting that does not fit the data."""
    training, found = config.training, []
    steps = training.epochs * sampler.steps_per_epoch
    if training.batch_size > sampler.units:
        found.append(
            f"training.batch_size: {training.batch_size}, but an epoch has only {sampler.units} "
            f"{training.epoch_unit}s; set it to {sampler.units} or less"
        )
    if training.batch_size < processes:
        found.append(f"training.batch_size: {training.batch_size}, but {processes} processes share it")
    if (warmup := warmup_steps(config.optimizer, sampler.steps_per_epoch)) >= steps:
        cause = "min_warmup_steps" if warmup == config.optimizer.min_warmup_steps else "warmup_epochs"
        found.append(
            f"optimizer.{cause}: a warm-up of {warmup} steps leaves nothing of the {steps} of this run; "
            f"raise training.epochs above {warmup // sampler.steps_per_epoch}, or lower it"
        )
    if config.losses.weights().keys() == {"id"} and not identities:
        found.append("losses.id: the only loss, but the data has no identities; set losses.sdm=1")
    if found:
        raise ConfigError("; ".join(found))


@dataclass
class Loader:
    """Source of the batches of a run: a training set, made ready.

    Attributes:
        data: the training set.
        sampler: draws the images and captions of each step.
        images: pixels of its images.
        fingerprint: equal for equal captions, labels and image files.
        captions: tokens of its captions, from `tokenize` on.
        micro_size: as a `Batch` has it.
        processes: of the run.
    """

    data: TrainingSet
    sampler: Sampler
    images: ImageStore
    fingerprint: str
    micro_size: int
    processes: Processes
    captions: TokenizedCaptions = field(init=False)
    _lost: set[int] = field(init=False, default_factory=set)  # images that all processes know to be unreadable

    @classmethod
    def from_data(cls, data: TrainingSet, config: Config, processes: Processes) -> Self:
        """Prepare the order of ``data`` and find its image files.

        Raises:
            ConfigError: settings do not fit the data.
            DataError: more than 1 % of the images are missing.
        """
        sampler = Sampler(data.image_index, config.training)
        _refuse_unfit(config, sampler, data.identities, processes.count)
        images = ImageStore(data.root, data.images, config.model)
        # Names and sizes stand for the contents of image files, which would take long to read.
        whole = fingerprint([data.fingerprint, list(images.names), images.sizes])
        return cls(data, sampler, images, whole, config.training.micro_batch, processes)

    def tokenize(self, tokenizer: Tokenizer) -> None:
        """Encode the captions; raises CaptionError if one has no token."""
        self.captions = TokenizedCaptions.encode(self.data.captions, tokenizer)

    def cache_images(self, config: TrainingConfig, log: RunLog) -> None:
        """Read all images once and keep them, if the memory allows.

        Raises:
            DataError: more than 1 % of the images are unreadable.
        """
        # Each process on this machine keeps a cache of its own.
        if should_cache(config.cache_images, self.images.bytes_decoded * local_processes()):
            with log.progress("read images", len(self.images.names), unit="images"):
                self.images.fill_cache(config.workers, log.advance)

    def batches(self, steps: range, workers: int, device: torch.device) -> Generator[Batch]:
        """Yield the batches of ``steps`` on ``device``; ``workers`` threads read images ahead of their use."""
        draws = map(self.sampler.draw, steps)
        # Closed with this generator, so that no thread reads on after a stop.
        with closing(map_ahead(self._read, draws, workers, workers + 1)) as readings:
            for draw, pixels, readable in readings:
                yield self._assemble(draw, pixels, readable).to(device)

    def _read(self, draw: Draw) -> tuple[Draw, Pixels, npt.NDArray[np.bool_]]:
        return draw, *self.images.read(draw.images[self.processes.slice_of(len(draw.images))], draw.epoch)

    def _assemble(self, draw: Draw, pixels: Pixels, own_readable: npt.NDArray[np.bool_]) -> Batch:
        """Make the batch of a draw, from the pixels of this process' images and whether each could be read."""
        processes = self.processes
        # A process knows of its own share only and votes true on the rest; what all vote for stays.
        readable = np.ones(len(draw.images), dtype=bool)
        readable[processes.slice_of(len(readable))] = own_readable
        readable = processes.all_true(readable)
        if new := set(draw.images[~readable].tolist()) - self._lost:  # the same ones in every process
            own = [(index, reason) for index, reason in list(self.images.quarantined.items()) if index in new]
            for index, reason in chain.from_iterable(processes.all_gather_object(own)):
                self.images.quarantine(index, reason)
            self._lost |= new
        kept = readable[draw.image_index]
        # Where each image stands once the unreadable before it are gone.
        position = np.cumsum(readable) - 1
        image_index, caption_index = position[draw.image_index[kept]], draw.caption_index[kept]
        ids, lengths = self.captions.rows(caption_index)
        columns = np.arange(ids.shape[1])
        shares = np.array([int(readable[part].sum()) for part in processes.slices_of(len(readable))])
        images = draw.images[readable]
        return Batch(
            pixels=torch.from_numpy(pixels),
            first=int(shares[: processes.rank].sum()),
            shares=shares,
            images=images,
            labels=torch.from_numpy(self.data.labels[images]),
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
