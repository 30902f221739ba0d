"""Which phrases of captions a scorer takes for wrong, for somebody to look at again.

A phrase is a thing that a person wears, carries or is, with what is said of it ("a red jacket"). A frozen model passes
over the captions twice, as in `textreid.inspection.detection`: first the refinements learn what they remember, then
what they say counts.

Shapes: ``T`` captions of up to ``L`` tokens in a step.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from itertools import zip_longest
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from textreid.captions.language import function_words, known_words
from textreid.config import Config, MaskingConfig
from textreid.errors import DataError, ImageError
from textreid.evaluation.words import attribute_words
from textreid.inspection.scoring import ask, read_batch
from textreid.models import Model
from textreid.presets import tiny
from textreid.training.dataset import Indices, TrainingSet
from textreid.training.scorers.choice import choose_scorer

if TYPE_CHECKING:
    from torch import Tensor

    from textreid.training.batch import Batch

Span = tuple[int, int]
_STEP = 100  # images, each with all of its captions
_EPOCHS = 2
_LONGEST = 6  # words of a phrase; what is longer was not understood
_MODIFIERS = ("colour", "looks")  # classes of attribute words that say something of a thing
_TOKEN = re.compile(r"[A-Za-z][\w'-]*")
_VERBS = re.compile(r"(?:wears|wore|dressed|clothed|carries|holds|walks|stands|seen|\w+ing)", re.IGNORECASE)
_ARTICLE = re.compile(r"\b(?:a pair of|an?)\s+$", re.IGNORECASE)


def scorer_settings(model: Model, scorer: str) -> Config:
    """Return the settings of a frozen model whose words a scorer judges.

    Raises:
        ConfigError: there is no such scorer, or it says of no word how probably it is wrong.
    """
    masking = MaskingConfig(scorer=scorer, shift=False, layer=1)
    return replace(tiny(), model=model.config, masking=masking).checked()


def score_phrases(
    model: Model, data: TrainingSet, settings: Config, say: Callable[[str], None] = lambda _: None
) -> dict[int, dict[Span, float]]:
    """Score the phrases of captions: how probably one of their words is wrong.

    Args:
        model: as it is.
        data: captions and their images; the captions of an image that cannot be read have no score.
        settings: as `scorer_settings` gives them.
        say: is told which images cannot be read.

    Returns:
        By index of the caption, the probability of each phrase, in their order.

    Raises:
        DataError: no image can be read.
        TextReidError: a scorer gives noise that is not finite, or of another shape; names it.
    """
    scorer, refinements = choose_scorer(settings, model.tokenizer, model.device)
    assert scorer is not None  # noqa: S101 (the method is nam)
    steps: list[tuple[Batch, Tensor, Tensor]] = []
    order = np.random.default_rng(0).permutation(len(data.images))
    for chosen in np.array_split(order, max(1, round(len(order) / _STEP))):
        if (batch := _read(model, data, chosen, say)) is not None:
            answer = ask(scorer, model, batch, settings.masking.layer)
            steps.append((replace(batch, pixels=batch.pixels[:0]), answer.noise, answer.features))
    if not steps:
        raise DataError(f"{data.root}: none of the images of these captions can be read")
    refined = [noise for _, noise, _ in steps]
    if refinements is not None:
        refinements.to(model.device)
        for _ in range(_EPOCHS):
            refined = [refinements(noise, batch, features) for batch, noise, features in steps]
    return {
        index: dict(_phrase_noise(model, str(data.captions[index]), row))
        for (batch, _, _), noise in zip(steps, refined, strict=True)
        for index, row in zip(batch.caption_index.tolist(), noise.cpu().numpy(), strict=True)
    }


def suspicious(scored: Mapping[int, Mapping[Span, float]], threshold: float) -> dict[int, tuple[Span, ...]]:
    """Return the phrases of captions that are wrong with a probability of ``threshold`` or more."""
    found = {
        index: tuple(span for span, noise in phrases.items() if noise >= threshold) for index, phrases in scored.items()
    }
    return {index: phrases for index, phrases in found.items() if phrases}


def _read(model: Model, data: TrainingSet, chosen: Indices, say: Callable[[str], None]) -> "Batch | None":
    """Read some images with all of their captions, without those that cannot be read; None where that is all."""
    try:
        return read_batch(model, data, chosen)
    except ImageError:
        readable = [image for image in chosen.tolist() if _is_readable(model, data, image, say)]
        return read_batch(model, data, np.array(readable)) if readable else None


def _is_readable(model: Model, data: TrainingSet, image: int, say: Callable[[str], None]) -> bool:
    try:
        model.decode(data.root / data.images[image])
    except ImageError as error:
        say(f"not checked: {error}")
        return False
    return True


def _phrase_noise(model: Model, text: str, noise: npt.NDArray[np.float32]) -> Iterator[tuple[Span, float]]:
    """Yield the phrases of a caption, and the largest noise (L,) of a token of each."""
    tokens = list(zip(model.tokenizer.pieces(text), noise[1:].tolist(), strict=False))
    for low, high in phrases_of(text):
        inside = [value for (_, start, stop), value in tokens if start < high and low < stop]
        # What the model did not read has no score.
        if inside:
            yield (low, high), max(inside)


def phrases_of(text: str) -> Iterator[Span]:
    """Yield where the things that a caption names stand, with their articles and what is said of them.

    >>> text = "A young man wearing a red and white shirt, jeans and a pair of black boots."
    >>> [text[start:end] for start, end in phrases_of(text)]
    ['A young man', 'a red and white shirt', 'jeans', 'a pair of black boots']
    """
    kinds = _kinds(text)
    tokens = list(_TOKEN.finditer(text))
    run: list[re.Match[str]] = []
    for token, following in zip_longest(tokens, tokens[1:]):
        if run and text[run[-1].end() : token.start()].strip():
            run = []
        word = token[0].lower()
        kind = kinds.get(token.start())
        if kind is None and (word in function_words() or word in _people() or _VERBS.fullmatch(word)):
            # "Red and white" is one thing said of a shirt.
            joins = word == "and" and run and following and _is_colour(kinds, run[-1]) and _is_colour(kinds, following)
            run = [*run, token] if joins else []
            continue
        run.append(token)
        if kind is None or kind in _MODIFIERS:
            continue
        # "A baseball cap": the thing is the last of several nouns.
        if following and not text[token.end() : following.start()].strip():
            later = kinds.get(following.start())
            if later is not None and later not in _MODIFIERS:
                continue
        article = _ARTICLE.search(text[: run[0].start()])
        # A bare "top" or "footwear" heads a list, or stands in "on top of".
        if len(run) <= _LONGEST and (article or len(run) > 1 or word.endswith("s")) and text[token.end() :][:1] != ":":
            yield (article.start() if article else run[0].start()), token.end()
        run = []


def _kinds(text: str) -> dict[int, str]:
    """Return the class of each token with an attribute word, by where it begins; of "dark-haired", the last."""
    words = list(attribute_words(text))
    found = {}
    for token in _TOKEN.finditer(text):
        inside = [word.kind for word in words if token.start() <= word.start < token.end()]
        if inside:
            found[token.start()] = inside[-1]
    return found


def _is_colour(kinds: dict[int, str], token: re.Match[str]) -> bool:
    return kinds.get(token.start()) == "colour"


@cache
def _people() -> frozenset[str]:
    return known_words()["people"]
