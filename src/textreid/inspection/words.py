"""What a model makes of a picture and its captions, word by word: how noisy each is, and where its answer lies."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812 (the usual name)
from PIL import Image
from torch import Tensor

from textreid.captions.table import read_captions
from textreid.config import Config, MaskingConfig
from textreid.errors import ArtifactError, CaptionError, ConfigError
from textreid.images import read_image
from textreid.inspection.scoring import decode_with_others, leave_words_out, make_batch, noise_of_run
from textreid.models import Model, load_model
from textreid.runlog import METRICS
from textreid.training.checkpoint import Checkpoint
from textreid.training.masking import masking_probabilities
from textreid.training.runs import whole_checkpoints
from textreid.training.scorers.patches import noise_levels

Scores = npt.NDArray[np.float32]


@dataclass(frozen=True)
class InspectedWord:
    """A word as people read it: its figures are means over its tokens.

    Attributes:
        text: as the caption writes it.
        noise: one minus the cosine with the most similar patch (Tan et al. 2024, Eq. 2).
        probability: of being masked: what Noise-Aware Masking makes of it, or of what else scores the words of the run.
        cosines: (rows, columns) with each patch of the picture.
        evidence: against the word, in nats: how much better the caption tells the picture from others without it; None
            where there are no others.
    """

    text: str
    noise: float
    probability: float
    cosines: Scores
    evidence: float | None = None

    @property
    def patch(self) -> tuple[int, int]:
        """Row and column of the patch that answers it best."""
        row, column = np.unravel_index(int(self.cosines.argmax()), self.cosines.shape)
        return int(row), int(column)


@dataclass(frozen=True)
class InspectedCaption:
    """A caption cut into words and what lies between them; a word that the model did not read is only text."""

    label: str
    parts: Sequence[InspectedWord | str]
    similarity: float  # cosine of the whole caption and the picture

    @property
    def text(self) -> str:
        """The caption."""
        return "".join(part if isinstance(part, str) else part.text for part in self.parts)

    @property
    def words(self) -> list[InspectedWord]:
        """The words that the model read."""
        return [part for part in self.parts if not isinstance(part, str)]


@dataclass(frozen=True)
class Inspection:
    """A picture with its captions, as the model ``source`` sees them with the tokens of ``masking.layer``."""

    picture: Image.Image
    name: str
    source: str
    masking: MaskingConfig
    captions: Sequence[InspectedCaption]
    others: int = 0  # pictures beside it that it was told from, leaving each word out


def inspect_image(
    source: str, image: Path, captions: Sequence[tuple[str, str]], layer: int | None = None
) -> Inspection:
    """Score the words of captions against the patches of a picture, without augmentation, and leave each word out.

    Args:
        source: a run folder (its model, or else its newest checkpoint), or what `load_model` takes.
        image: any picture; those beside it are what it is told from.
        captions: (label, text) of each.
        layer: of both towers, from 1; that of the run when None, or else 10 or the last of a shallower tower.

    Raises:
        ModelError, ArtifactError, ImageError: the model or the picture cannot be read.
        ConfigError: there is no such layer.
        CaptionError: a caption has no word.
    """
    model, config, remembered = _open(source)
    masking = config.masking
    deepest = min(model.config.vision_layers, model.config.text_layers)
    if layer is not None and not 1 <= layer <= deepest:
        raise ConfigError(f"layer {layer}: the shallower tower has the layers 1 to {deepest}")
    masking = replace(masking, layer=layer or min(masking.layer, deepest))
    picture = read_image(image)
    pixels = decode_with_others(model, image)
    config = replace(config, model=model.config, masking=masking)
    inspected = _inspect(model, pixels, captions, config, remembered)
    return Inspection(picture, image.name, source, masking, inspected, len(pixels) - 1)


def captions_of(table: Path, image: Path) -> list[tuple[str, str]]:
    """Return (slot, text) of the captions of a picture: the entry of the table that its path ends with.

    Raises:
        CaptionError, ArtifactError: as `read_captions`, or the table has no caption of it.
    """
    captions = read_captions(table)
    path = image.resolve().as_posix()
    # With the slash: 11.jpg ends with 1.jpg, but is another image.
    entries = [name for name in captions.images if path == name or path.endswith(f"/{name}")]
    if not entries:
        raise CaptionError(f"{table}: has no caption of {image}; its images have paths like {captions.images[0]!r}")
    # The longest: a table may have both 1.jpg and crops/1.jpg, which the path ends with.
    index = captions.images.index(max(entries, key=len))
    return [
        (captions.slots[captions.slot_index[row]], captions.caption(row))
        for row in np.flatnonzero(captions.image_index == index).tolist()
    ]


def _open(source: str) -> tuple[Model, Config, dict[str, Tensor]]:
    """Load the model, the settings of its run, and what its scorer remembers; the defaults where there was no run."""
    run = Path(source)
    if not (run / METRICS).is_file():
        return load_model(source), Config(), {}
    config = Config.load(run / "config.json")
    checkpoints = whole_checkpoints(run)
    if (run / "model").is_dir():
        return load_model(run / "model"), config, Checkpoint(checkpoints[-1], 0).remembered() if checkpoints else {}
    if not checkpoints:
        raise ArtifactError(
            f"{run}: has no checkpoint yet (training.checkpoint_every {config.training.checkpoint_every})"
        )
    # Reading the encoder and the tokenizer needs no step number, so 0 will do.
    newest = Checkpoint(checkpoints[-1], 0)
    return Model(newest.encoder(config.model), newest.tokenizer()), config, newest.remembered()


def _inspect(
    model: Model, pixels: npt.NDArray[np.uint8], captions: Sequence[tuple[str, str]], config: Config,
    remembered: Mapping[str, Tensor],
) -> list[InspectedCaption]:  # fmt: skip
    """Score the words of the captions of the first picture among all."""
    texts, masking = [text for _, text in captions], config.masking
    batch = make_batch(model, pixels, texts, [0] * len(texts))
    for text, count in zip(texts, batch.lengths.tolist(), strict=True):
        # Only the start and the end token.
        if count <= 2:
            raise CaptionError(f"caption {text!r} has no word")
    with torch.no_grad():
        encoded = model.encoder(batch.pixels[:1], batch.ids, batch.lengths, masking.layer)
        inner = model.encoder.text_tokens(batch.ids, batch.lengths, masking.layer)
        # One picture for all captions; expanding copies nothing.
        patches = encoded.patch_tokens.expand(len(texts), -1, -1)
        noise = noise_levels(inner, patches, batch.is_word)
        cosines = F.normalize(inner.float(), dim=2) @ F.normalize(patches.float(), dim=2).transpose(1, 2)
        whole = F.cosine_similarity(encoded.text_features.float(), encoded.image_features.float())
    other = masking.method == "nam" and masking.scorer != "patches"
    own = noise_of_run(model, batch, config, remembered) if other else noise
    p = masking_probabilities(own, batch.is_word, masking.probability, masking.exact_mean)
    evidence = leave_words_out(model, batch, config)
    # Patches come row by row from the top, so that a reshape puts them where they are in the picture.
    grid = (-1, *model.config.grid)
    inspected = []
    for row, (label, text) in enumerate(captions):
        scores = _TokenScores(*(values[row].cpu().numpy() for values in (noise, p, evidence, cosines)))
        parts = _parts(model, text, scores._replace(cosines=scores.cosines.reshape(grid)), len(pixels) > 1)
        inspected.append(InspectedCaption(label, parts, float(whole[row])))
    return inspected


class _TokenScores(NamedTuple):
    """Figures of the tokens of a caption: (L,) each, and cosines (L, rows, columns)."""

    noise: Scores
    probabilities: Scores
    evidence: Scores
    cosines: Scores


def _parts(model: Model, text: str, scores: _TokenScores, has_others: bool) -> list[InspectedWord | str]:
    """Cut the caption into parts, given the figures of its tokens."""
    parts: list[InspectedWord | str] = []
    end = 0
    for start, stop, positions in model.tokenizer.words(text):
        if start > end:
            parts.append(text[end:start])
        noise, probability, evidence, cosines = (values[list(positions)].mean(axis=0) for values in scores)
        parts.append(
            InspectedWord(
                text[start:stop], float(noise), float(probability), cosines, float(evidence) if has_others else None
            )
        )
        end = stop
    return [*parts, text[end:]] if end < len(text) else parts
