"""How well scorers find the wrong words of captions whose errors are known, as those of a simulated captioner are.

A frozen model passes over the captions as a run does, step by step, without augmentation. In the first of two epochs
the refinements learn what they remember, and in the second what they say is judged. Here a *word* is what people read,
with all its tokens and the mean of their noise; it is wrong if it lies in a known error.

Shapes: ``B`` images and ``T`` captions of up to ``L`` tokens in a step, ``D`` dimensions; ``N`` words in all.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import Tensor

from textreid.config import Config
from textreid.errors import DataError
from textreid.evaluation.words import attribute_words
from textreid.inspection.ranking import auroc, average_precision, mean_auroc, reliability
from textreid.inspection.scoring import ask, read_batch
from textreid.models import Model
from textreid.training.batch import Batch
from textreid.training.dataset import TrainingSet
from textreid.training.known_errors import wrong_tokens
from textreid.training.masking import masking_probabilities
from textreid.training.scorers.choice import Refinements, choose_scorer
from textreid.training.scorers.leave_one_out import log_shares
from textreid.training.scorers.scorer import WordScorer
from textreid.training.scorers.words import WordPieces, Words

SKIPPED = "detection is skipped: no error of these captions is known (no errors.jsonl); only simulated MLLMs tell them"
OTHER = "other"  # kind of a wrong word that is no attribute word
_EPOCHS = 2
_PASSES = (
    "patches",
    "attention",
    "tokens",
    "words",
    "gradient",
    "content",
)  # parts of a name that decide what the network is asked


@dataclass(frozen=True)
class Detection:
    """How well one scorer tells wrong words from right ones.

    Attributes:
        scorer: as `masking.scorer` names it.
        layer: of the tokens that patches are compared with; None where none are.
        words, content, wrong: how many words there are, content words, and wrong words.
        auroc: over ``all`` words and over ``content`` words; and the means over captions of that within a caption,
            ``caption`` and ``caption content``.
        precision: average precision over ``all`` and over ``content`` words; by chance, the share of wrong ones.
        kinds: of the wrong words of each kind, how many, and their AUROC against all right content words.
        masked: mean probability by Eq. 3-4 of ``wrong`` words, of ``right`` ones, and of ``right content`` words, which
            is the share of them that a run loses.
        calibration: expected error of that probability as one of being wrong, over content words; see `reliability`.
        bins: what it is the mean of.
        milliseconds: of a processor, to score one caption.
    """

    scorer: str
    layer: int | None
    words: int
    content: int
    wrong: int
    auroc: Mapping[str, float]
    precision: Mapping[str, float]
    kinds: Mapping[str, tuple[int, float]]
    masked: Mapping[str, float]
    calibration: float
    bins: Sequence[tuple[float, float, int]]
    milliseconds: float

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self)


def measure_detection(
    model: Model, data: TrainingSet, scorers: Sequence[str], settings: Config, *, images: int = 100,
    say: Callable[[str], None] = lambda _: None,
) -> list[Detection]:  # fmt: skip
    """Let a frozen model score the words of captions whose errors are known.

    Args:
        model: as it is.
        data: captions with known errors, and their images.
        scorers: values of `masking.scorer`; ``patches`` are compared at each layer of the shallower tower.
        settings: of masking, and of the losses, whose temperature counts.
        images: of a step, each with all of its captions.
        say: is told which scorer is asked.

    Raises:
        ConfigError: there is no such scorer; names the nearest.
        DataError: no error of the captions is known (`SKIPPED`).
        ImageError: an image cannot be read.
        TextReidError: a scorer gives noise that is not finite, or of another shape; names it.
    """
    if not data.errors:
        raise DataError(f"{data.root}: {SKIPPED}")
    rows = _rows(model, scorers, settings)
    corpus = _Corpus.of(model, data, images)
    asked: dict[tuple[object, ...], tuple[list[Tensor], float]] = {}
    found = []
    for config in rows:
        name, masking = config.masking.scorer, config.masking
        layer = masking.layer if "patches" in masking.scorer_parts else None
        say(name if layer is None else f"{name}, layer {layer}")
        scorer, refinements = choose_scorer(config, model.tokenizer, model.device)
        assert scorer is not None  # noqa: S101 (the method is nam)
        what = (layer, *(part for part in _PASSES if part in masking.scorer_parts))
        if what not in asked:
            asked[what] = corpus.score(scorer, layer or 1)
        noise, seconds = corpus.refine(asked[what][0], refinements)
        milliseconds = 1000 * (asked[what][1] + seconds) / len(data)
        found.append(corpus.judge(noise, config, layer, milliseconds))
    return found


def measure_wrong_people(
    model: Model, data: TrainingSet, scorers: Sequence[str], settings: Config, *, images: int = 100, share: float = 0.1
) -> dict[str, float]:
    """Exchange captions for those of other people, and measure how well a frozen model tells them: AUROC, by score.

    A caption's scores are its loss among the images of the step (``pair loss``), and for each scorer the mean noise of
    its content words.

    Args:
        model, scorers, settings, images: as `measure_detection` takes them; ``patches`` are compared at layer 1.
        data: images and captions, those of a person one after the other.
        share: of the captions that are exchanged.

    Raises:
        ConfigError: there is no such scorer; names the nearest.
        ImageError: an image cannot be read.
    """
    texts = data.captions.to_pylist()
    exchanged = np.random.default_rng(0).choice(len(texts), round(share * len(texts)), replace=False)
    # Half of the corpus away is somebody else.
    moved = {row: texts[(row + len(texts) // 2) % len(texts)] for row in exchanged.tolist()}
    captions = [moved.get(row, text) for row, text in enumerate(texts)]
    corpus = _Corpus.of(model, replace(data, captions=pa.array(captions, data.captions.type), errors={}), images)
    is_wrong = np.concatenate([np.isin(batch.caption_index, exchanged) for batch, _, _ in corpus.steps])
    with torch.no_grad():
        losses = [
            -log_shares(
                model.encoder.encode_packed(batch.ids, batch.lengths),
                features,
                batch.image_index,
                settings.losses.temperature,
            )
            for batch, _, features in corpus.steps
        ]
    found = {"pair loss": auroc(torch.cat(losses).double().cpu().numpy(), is_wrong)}
    for name in scorers:
        config = _rows(model, [name], settings)[0]
        scorer, refinements = choose_scorer(config, model.tokenizer, model.device)
        assert scorer is not None  # noqa: S101 (the method is nam)
        noise, _ = corpus.refine(corpus.score(scorer, 1)[0], refinements)
        means = [
            torch.where(words.is_content, rows.double(), 0.0).sum(dim=1) / words.is_content.sum(dim=1).clamp(min=1)
            for rows, (_, words, _) in zip(noise, corpus.steps, strict=True)
        ]
        found[name] = auroc(torch.cat(means).cpu().numpy(), is_wrong)
    return found


def _rows(model: Model, scorers: Sequence[str], settings: Config) -> list[Config]:
    """Set up one configuration for each scorer, and for each layer of one that compares patches."""
    deepest = min(model.config.vision_layers, model.config.text_layers)
    rows = []
    for name in scorers:
        masking = replace(settings.masking, method="nam", scorer=name, layer=1)
        checked = replace(settings, model=model.config, masking=masking).checked()
        layers = range(1, deepest + 1) if "patches" in masking.scorer_parts else (1,)
        rows += [replace(checked, masking=replace(masking, layer=layer)) for layer in layers]
    return rows


class _Truth(NamedTuple):
    """What is known of each of the N words."""

    caption: npt.NDArray[np.int64]
    is_content: npt.NDArray[np.bool_]
    is_wrong: npt.NDArray[np.bool_]
    kind: npt.NDArray[np.str_]


@dataclass(frozen=True)
class _Corpus:
    """The steps of an epoch, with the image features of each, and what is known of their words."""

    model: Model
    steps: Sequence[tuple[Batch, Words, Tensor]]
    truth: _Truth

    @classmethod
    def of(cls, model: Model, data: TrainingSet, images: int) -> "_Corpus":
        order = np.random.default_rng(0).permutation(len(data.images))
        pieces = WordPieces.of(model.tokenizer).to(model.device)
        steps, truths = [], []
        for chosen in np.array_split(order, max(1, round(len(order) / images))):
            batch = read_batch(model, data, chosen)
            words = pieces.words(batch.ids, batch.is_word)
            with torch.no_grad():
                steps.append((batch, words, model.encoder.encode_image(batch.pixels)))
            truths.append(_truth(model, data, batch, words))
        return cls(model, steps, _Truth(*(np.concatenate(parts) for parts in zip(*truths, strict=True))))

    def score(self, scorer: WordScorer, layer: int) -> tuple[list[Tensor], float]:
        """Ask a scorer for the noise (T, L) of each step; returns the seconds that it took too."""
        noise, seconds = [], 0.0
        for batch, _, _ in self.steps:
            answer = ask(scorer, self.model, batch, layer)
            noise.append(answer.noise)
            seconds += answer.seconds
        return noise, seconds

    def refine(self, noise: Sequence[Tensor], refinements: Refinements | None) -> tuple[list[Tensor], float]:
        """Refine the noise of each step over two epochs; returns that of the second, and its seconds."""
        if refinements is None:
            return list(noise), 0.0
        refinements.to(self.model.device)
        for _ in range(_EPOCHS):
            start = time.process_time()
            refined = [
                refinements(before, batch, features)
                for before, (batch, _, features) in zip(noise, self.steps, strict=True)
            ]
        return refined, time.process_time() - start

    def judge(self, noise: Sequence[Tensor], config: Config, layer: int | None, milliseconds: float) -> Detection:
        """Compare the noise of all words with what is known of them."""
        masking, truth = config.masking, self.truth
        p = [
            masking_probabilities(rows, batch.is_word, masking.probability, masking.exact_mean)
            for rows, (batch, _, _) in zip(noise, self.steps, strict=True)
        ]
        scores, masked = self._of_words(noise), self._of_words(p)
        content, wrong = truth.is_content, truth.is_wrong
        right = content & ~wrong
        calibration, bins = reliability(masked[content], wrong[content])
        return Detection(
            scorer=masking.scorer,
            layer=layer,
            words=len(wrong),
            content=int(content.sum()),
            wrong=int(wrong.sum()),
            auroc={
                "all": auroc(scores, wrong),
                "content": auroc(scores[content], wrong[content]),
                "caption": mean_auroc(scores, wrong, truth.caption),
                "caption content": mean_auroc(scores[content], wrong[content], truth.caption[content]),
            },
            precision={
                "all": average_precision(scores, wrong),
                "content": average_precision(scores[content], wrong[content]),
            },
            kinds={
                kind: (int(among.sum()), auroc(scores[among | right], wrong[among | right]))
                for kind in sorted(set(truth.kind[wrong & content].tolist()))
                for among in [wrong & content & (truth.kind == kind)]
            },
            masked={
                "wrong": float(masked[wrong].mean()),
                "right": float(masked[~wrong].mean()),
                "right content": float(masked[right].mean()),
            },
            calibration=calibration,
            bins=bins,
            milliseconds=milliseconds,
        )

    def _of_words(self, rows: Sequence[Tensor]) -> npt.NDArray[np.float64]:
        """Take the mean over the tokens of each word, of values (T, L) of each step: (N,)."""
        found = []
        for values, (batch, words, _) in zip(rows, self.steps, strict=True):
            weights = batch.is_word.double()
            sums, counts = (
                torch.zeros_like(weights).scatter_add(1, words.first, part) for part in (values * weights, weights)
            )
            found.append((sums / counts.clamp(min=1))[_starts(batch, words)].cpu().numpy())
        return np.concatenate(found)


def _starts(batch: Batch, words: Words) -> Tensor:
    """Tell where words begin, content or not: (T, L)."""
    return batch.is_word & (words.first == torch.arange(words.first.shape[1], device=words.first.device))


def _truth(model: Model, data: TrainingSet, batch: Batch, words: Words) -> _Truth:
    """Find what is known of each word of a step, in the order of `_Corpus._of_words`."""
    starts, first, content = (flags.cpu().numpy() for flags in (_starts(batch, words), words.first, words.is_content))
    wrong, kinds = np.zeros(starts.shape, dtype=np.bool_), np.full(starts.shape, "", dtype="U16")
    for row, index in enumerate(batch.caption_index.tolist()):
        spans = data.errors.get(index)
        if not spans:
            continue
        text = str(data.captions[index])
        is_wrong = wrong_tokens(model.tokenizer, text, spans)[: starts.shape[1]]
        attributes = list(attribute_words(text))
        for place in np.flatnonzero(is_wrong).tolist():
            _, start, stop = model.tokenizer.pieces(text)[place - 1]
            said = [word.kind for word in attributes if start < word.end and word.start < stop]
            wrong[row, first[row, place]] = True
            kinds[row, first[row, place]] = said[0] if said else kinds[row, first[row, place]] or OTHER
    captions = np.repeat(batch.caption_index, starts.sum(axis=1))
    return _Truth(captions, content[starts], wrong[starts], kinds[starts])
