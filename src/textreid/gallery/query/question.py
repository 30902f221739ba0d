"""A question to a gallery, and what a model makes of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from textreid.captions.language import reads_as_english
from textreid.errors import ConfigError, check_list, check_type
from textreid.gallery.query.fusion import QueryFeatures, direction_of, without_sentences
from textreid.gallery.query.references import reference_features
from textreid.gallery.query.words import negation_note, unknown_note, without_notes

if TYPE_CHECKING:
    from textreid.gallery.encoder import GalleryEncoder

NOT_ENGLISH = "the query does not read as English, and the model reads English: scores may mean nothing"

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Question:
    """Who is looked for.

    Attributes:
        sentences: what witnesses said, in English.
        like: files of pictures of the person, or numbers of crops of the gallery that is asked.
        without: what was not seen, as in "a red hat".
        rewrites: the sentences in other words; they count as much as those.
    """

    sentences: tuple[str, ...] = ()
    like: tuple[Path | int, ...] = ()
    without: tuple[str, ...] = ()
    rewrites: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """The question in one line."""
        names = [like.name if isinstance(like, Path) else f"crop {like}" for like in self.like]
        asked = [*self.sentences, *(f"like {name}" for name in names)]
        return " · ".join([*asked, *(f"without {thing}" for thing in self.without)])

    def check(self) -> None:
        """Refuse a question that asks for nobody.

        Raises:
            ArgumentError: a part has a wrong type.
            ConfigError: there is neither a sentence nor a picture.
        """
        for name in ("sentences", "without", "rewrites"):
            check_list(name, getattr(self, name), str, "sentences")
        check_list("like", self.like, (Path, int), "paths of pictures")
        if not self.sentences and not self.like:
            raise ConfigError("nothing to look for: give a sentence, or a picture with --like")


def question_of(query: str | Sequence[str] | Question) -> Question:
    """Make a question of a sentence, or of several witnesses' sentences about one person.

    Raises:
        ArgumentError: it is none of these.
        ConfigError: it asks for nobody.
    """
    if isinstance(query, str):
        query = Question((query,))
    elif not isinstance(query, Question):
        check_type("query", query, (list, tuple), "a sentence")
        query = Question(tuple(query))
    query.check()
    return query


@dataclass(frozen=True, eq=False)
class EncodedQuestion:
    """A question as features.

    Attributes:
        features: of its parts.
        unread: the ends of sentences that the model did not read because they were too long, or nothing.
        notes: lines for the user on words, language, and what hardly has an effect.
    """

    features: QueryFeatures
    unread: str
    notes: tuple[str, ...]

    def references(self, encoder: "GalleryEncoder", keep: bool = True) -> Array:
        """Return vectors (M, D) of the same question about people who are in no gallery, each of length 1.

        They are described in as many sentences, and the same was not seen of them. ``keep``: see `reference_features`.

        Raises:
            ConfigError: pictures are part of the question; nobody has pictures of people who do not exist.
        """
        if len(self.features.pictures) or not len(self.features.sentences):
            raise ConfigError("how likely it is that nobody matches is known of sentences alone, without --like")
        count = len(self.features.sentences)
        people = reference_features(encoder.encode_sentences, encoder.fingerprint, count, keep)
        return np.stack([QueryFeatures(person, without=self.features.without).vector() for person in people])


def encode_question(
    question: Question, encoder: "GalleryEncoder", vectors_of: Callable[[list[int]], Array] | None = None
) -> EncodedQuestion:
    """Encode every part of a question; files of pictures load the image side of the model.

    Args:
        question: what is asked.
        encoder: the model.
        vectors_of: reads vectors (N, D) of crops by number; None where what is asked has no numbers.

    Raises:
        ConfigError: a number of a crop is part of the question, and nobody can read it.
        CaptionError: a sentence has no words.
        ImageError: a picture cannot be read.
    """
    sentences, cut = [], []
    for sentence in (*question.sentences, *question.rewrites):
        vector, unread = encoder.encode_query(sentence)
        sentences.append(vector)
        cut += [unread] if unread else []
    numbers = [like for like in question.like if isinstance(like, int)]
    if numbers and vectors_of is None:
        raise ConfigError(f"like {numbers[0]}: the number of a crop; only a gallery has such")
    pixels = [encoder.decode(like)[0] for like in question.like if isinstance(like, Path)]
    pictures = [*(vectors_of(numbers) if vectors_of and numbers else ())]
    pictures += [*(encoder.encode_pixels(np.stack(pixels)) if pixels else ())]
    directions = [direction_of(*encoder.encode_sentences(without_sentences(thing))) for thing in question.without]
    notes = [NOT_ENGLISH]
    if all(map(reads_as_english, question.sentences)):
        told = [(unknown_note(said, encoder.tokenizer), negation_note(said)) for said in question.sentences]
        notes = [note for of_one in told for found in of_one for note in found]
    features = QueryFeatures(_stacked(sentences), _stacked(pictures), _stacked(directions))
    return EncodedQuestion(features, " … ".join(cut), (*notes, *without_notes(question.without)))


def _stacked(vectors: Sequence[Array]) -> Array:
    return np.stack(vectors) if vectors else np.zeros((0, 0), np.float32)
