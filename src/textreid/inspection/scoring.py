"""Asking a run's scorers about captions outside of a run: a batch without augmentation, and the network around a model.

Shapes: ``B`` images and ``T`` captions of up to ``L`` tokens, ``D`` dimensions.
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from textreid.config import Config, LossConfig
from textreid.errors import ImageError
from textreid.models import Model
from textreid.models.device import choose_device
from textreid.training.batch import Batch
from textreid.training.dataset import TrainingSet
from textreid.training.network import TrainedNetwork
from textreid.training.processes import Processes
from textreid.training.scorers.choice import choose_scorer
from textreid.training.scorers.leave_one_out import LeaveOneOut
from textreid.training.scorers.scorer import WordScorer, check_noise
from textreid.training.scorers.words import WordPieces

_OTHERS = 15  # pictures that a picture is told from


def make_batch(
    model: Model, pixels: npt.NDArray[np.uint8], captions: Sequence[str], of_image: Sequence[int],
    images: npt.NDArray[np.int64] | None = None, caption_index: npt.NDArray[np.int64] | None = None,
) -> Batch:  # fmt: skip
    """Make a batch as the loader does, of pixels (B, 3, H, W) uint8 and captions.

    Args:
        model: whose tokenizer is used, and on whose device the batch is.
        pixels: as `Model.decode` gives them.
        captions: T sentences.
        of_image: (T,) position of the image of each, ascending.
        images, caption_index: (B,) and (T,) of each in its data set; numbered when None.
    """
    tokens = model.tokenizer.encode(captions)
    ids, lengths = torch.tensor(tokens.ids, device=model.device), torch.tensor(tokens.lengths)
    places = torch.arange(ids.shape[1])
    is_word = (places > 0) & (places < lengths[:, None] - 1)
    return Batch(
        pixels=model.normalize(pixels),
        first=0,
        shares=np.array([len(pixels)]),
        images=np.arange(len(pixels)) if images is None else images,
        labels=torch.arange(len(pixels), device=model.device),
        image_index=torch.tensor(np.asarray(of_image, dtype=np.int64), device=model.device),
        caption_index=np.arange(len(captions)) if caption_index is None else caption_index,
        caption_edges=np.searchsorted(of_image, np.arange(len(pixels) + 1)),
        ids=ids,
        is_word=is_word.to(model.device),
        lengths=lengths,
        micro_size=0,
        processes=Processes(),
    )


def read_batch(model: Model, data: TrainingSet, chosen: npt.NDArray[np.int64]) -> Batch:
    """Read some images of a data set, by number, with all of their captions, as a batch.

    Raises:
        ImageError: an image cannot be read.
    """
    captions = [np.flatnonzero(data.image_index == image) for image in chosen.tolist()]
    index = np.concatenate(captions)
    pixels = np.stack([model.decode(data.root / data.images[image]) for image in chosen.tolist()])
    of_image = np.repeat(np.arange(len(chosen)), list(map(len, captions)))
    texts = [str(data.captions[row]) for row in index.tolist()]
    return make_batch(model, pixels, texts, of_image.tolist(), chosen, index)


class Answer(NamedTuple):
    """Noise (T, L) of the captions of a batch, features (B, D) of its images, and the seconds of a processor."""

    noise: Tensor
    features: Tensor
    seconds: float


def ask(scorer: WordScorer, model: Model, batch: Batch, layer: int) -> Answer:
    """Ask a scorer about the captions of a batch, unmasked; the seconds are those of the scorer alone.

    Raises:
        TextReidError: the noise is not finite, or of another shape; names the scorer.
    """
    network = TrainedNetwork(model.encoder, LossConfig(), 0, 0, layer, choose_device("fp32", str(model.device)))
    (micro,) = batch.micro_batches()
    with torch.no_grad():
        outputs = network(micro.pixels, micro.ids, micro.lengths, micro.image_index, micro.is_word)
    start = time.process_time()
    noise = scorer.noise(network, micro, outputs, outputs.image_features)
    seconds = time.process_time() - start
    return Answer(check_noise(scorer, noise, batch.is_word), outputs.image_features, seconds)


def leave_words_out(model: Model, batch: Batch, config: Config) -> Tensor:
    """Return the evidence (T, L), in nats, of leaving out each word; see `textreid.training.scorers.leave_one_out`."""
    pieces = WordPieces.of(model.tokenizer).to(model.device)
    scorer = LeaveOneOut(pieces, model.tokenizer.mask_id, config.losses.temperature, True, False)
    return ask(scorer, model, batch, 1).noise


def noise_of_run(model: Model, batch: Batch, config: Config, remembered: Mapping[str, Tensor]) -> Tensor:
    """Return the noise (T, L) as a run scores it, with what its refinements remember."""
    scorer, refinements = choose_scorer(config, model.tokenizer, model.device)
    assert scorer is not None  # noqa: S101 (the caller looks at the method)
    noise, features, _ = ask(scorer, model, batch, config.masking.layer)
    if refinements is None:
        return noise
    refinements.load_state_dict(dict(remembered))
    refined: Tensor = refinements.to(model.device)(noise, batch, features)
    return refined


def decode_with_others(model: Model, image: Path) -> npt.NDArray[np.uint8]:
    """Read a picture and some that lie beside it, with the same ending: (B, 3, H, W), the picture first."""
    beside = sorted(path for path in image.parent.glob(f"*{image.suffix}") if path.name != image.name)
    decoded = [model.decode(image)]
    for path in beside[:: max(1, len(beside) // _OTHERS)]:
        if len(decoded) <= _OTHERS:
            decoded += _readable(model, path)
    return np.stack(decoded)


def _readable(model: Model, path: Path) -> list[npt.NDArray[np.uint8]]:
    try:
        return [model.decode(path)]
    except ImageError:
        return []
