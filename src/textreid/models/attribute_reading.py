"""What a sentence says of somebody's looks, as how well each value of an attribute fits its words.

A word fits a value as well as describers use it for that (``vocabulary.toml``): "jacket" is said of jackets, often of
blazers, and of padded jackets too. No torch: a search reads its sentence with this.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple, get_args

import numpy as np
import numpy.typing as npt

from textreid.synthetic import attributes as drawn
from textreid.synthetic.phrases import to_american
from textreid.synthetic.vocabulary import all_words, reading

Fits = tuple[float, ...]  # of a word: one number for each value of an attribute, that of the best 1

# By the names of `Person`. A garment that is not there has a value too, so that its absence can be seen.
ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "gender": get_args(drawn.Gender),
    "hair_length": get_args(drawn.HairLength),
    "hair_colour": get_args(drawn.HairColour),
    "headwear": get_args(drawn.Headwear),
    "headwear_colour": drawn.COLOURS,
    "glasses": ("no", "yes"),
    "upper": get_args(drawn.UpperKind),
    "upper_colour": drawn.COLOURS,
    "upper_pattern": get_args(drawn.Pattern),
    "upper_second_colour": drawn.COLOURS,
    "sleeve": get_args(drawn.Sleeve),
    "inner_colour": ("no", *drawn.COLOURS),
    "lower": get_args(drawn.LowerKind),
    "lower_colour": drawn.COLOURS,
    "shoes": get_args(drawn.ShoesKind),
    "shoes_colour": drawn.COLOURS,
    "bag": get_args(drawn.BagKind),
    "bag_colour": drawn.COLOURS,
}

_TOKEN = re.compile(r"[a-z]+(?:-[a-z]+)*|[.,;:!?]")
_SENTENCE_ENDS = frozenset(".;!?")
_GOES_ON = frozenset([","])  # a list of colours
_PHRASE_ENDS = _SENTENCE_ENDS | _GOES_ON | set(reading("phrase ends")["words"].split())
_LONGEST = 4  # words of a phrase of the vocabulary
_FLOOR = 0.02  # how well a word fits a value that nobody uses it for, beside the best
_OUTER = frozenset({"jacket", "padded jacket", "blazer", "coat", "vest"})
_ADJECTIVES_OF = {"hair": "hair_length", "sleeve": "sleeve"}
_COLOURED = tuple(name for name in ATTRIBUTES if name.endswith("_colour") and name != "hair_colour")
_KINDS = ("upper", "lower", "shoes", "bag", "headwear")  # attributes that a noun tells


class Told(NamedTuple):
    """Attribute that a sentence tells of, and how well each of its values fits what is said."""

    attribute: str
    fits: Fits


@dataclass(frozen=True, eq=False)
class _Thing:
    """Garment or other thing in a sentence; what its noun tells, if anything, and what was said of its colours."""

    attribute: str
    fits: Fits | None
    colours: tuple[str, ...]

    @property
    def is_outer(self) -> bool:
        """Whether it is a garment that is worn over others."""
        return self.fits is not None and best_value(self.attribute, self.fits) in _OUTER


def read_sentence(sentence: str) -> list[Told]:
    """Read what a sentence says of `ATTRIBUTES`; one may be told of twice, as the colour of black and white shoes is.

    Of several garments above the waist, the first that is worn over others is `upper`, and the colours of the next are
    those of what shows under it.
    """
    text = sentence.lower()
    for phrase, word in reading("attribute phrases").items():
        text = text.replace(phrase, word)
    tokens = _TOKEN.findall(text)
    things, told = [], _gender(tokens)
    for found in _walk(tokens):
        if isinstance(found, Told):
            told.append(found)
        else:
            things.append(found)
    return list(dict.fromkeys([*told, *_dress(things)]))


@cache
def all_told() -> tuple[Told, ...]:
    """List everything that `read_sentence` can tell, each once: what the words of the vocabulary mean."""
    lexicon = _lexicon()
    kinds = [Told(name, fits) for meant in lexicon.things.values() for name, fits in meant if fits is not None]
    adjectives = [Told(*one) for meant in lexicon.adjectives.values() for one in meant.items()]
    hair = [Told("hair_colour", fits) for fits in lexicon.hair_colours.values()]
    colours = [_of_colour(name, fits) for name in _COLOURED for fits in lexicon.colours.values()]
    return tuple(
        dict.fromkeys([*lexicon.gender.values(), *kinds, *lexicon.looks.values(), *adjectives, *hair, *colours])
    )


def best_value(attribute: str, fits: Fits) -> str:
    """Return the value of an attribute that fits best."""
    return ATTRIBUTES[attribute][fits.index(max(fits))]


def _gender(tokens: Sequence[str]) -> list[Told]:
    """Tell the gender that most words are of; nothing where as many are of the other."""
    said = Counter(_lexicon().gender[token] for token in tokens if token in _lexicon().gender).most_common()
    return [told for told, count in said[:1] if count > said[-1][1] or len(said) == 1]


def _walk(tokens: Sequence[str]) -> Iterator[Told | _Thing]:
    """Find things with their colours, and what is told without a thing, from the left to the right."""
    lexicon, waiting = _lexicon(), _Waiting()
    for phrase, word in _phrases(tokens):
        if phrase in lexicon.colours or phrase in lexicon.hair_colours:
            waiting.colours.append(phrase)
        elif phrase in lexicon.looks:
            yield lexicon.looks[phrase]
        elif phrase in lexicon.things:
            yield from waiting.taken_by(phrase)
        elif word in lexicon.adjectives:
            waiting.adjectives.append(word)
        elif word in _PHRASE_ENDS:
            yield from waiting.ended_by(word)
    yield from waiting.ended_by(".")


class _Waiting:
    """What was said, and what no thing has taken yet."""

    def __init__(self) -> None:
        self.colours: list[str] = []
        self.adjectives: list[str] = []
        self._bare = ""  # the latest thing, while it has no colour

    def taken_by(self, thing: str) -> Iterator[Told | _Thing]:
        """Give what waits to a thing."""
        for attribute, fits in _lexicon().things[thing]:
            yield _Thing(attribute, fits, tuple(self.colours))
            for adjective in self.adjectives:
                of = _ADJECTIVES_OF.get(attribute, "")
                if of in _lexicon().adjectives[adjective]:
                    yield Told(of, _lexicon().adjectives[adjective][of])
        self._bare = "" if self.colours else thing
        self.colours, self.adjectives = [], []

    def ended_by(self, word: str) -> Iterator[_Thing]:
        """Give the colours that wait when a phrase ends to the thing before, as in "her jacket is red"."""
        taken = bool(self._bare and self.colours)
        if taken:
            for attribute, _ in _lexicon().things[self._bare]:
                yield _Thing(attribute, None, tuple(self.colours))
        if self.colours or word in _SENTENCE_ENDS:
            self._bare = ""
        if taken or word not in _GOES_ON:
            self.colours, self.adjectives = [], []


def _phrases(tokens: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Cut a sentence into phrases of the vocabulary, "" for words that are none, each with its first word.

    Of two things in a row, the first only says of which kind the second is, as in a pullover jacket.
    """
    place = 0
    while place < len(tokens):
        phrase, length = _longest(tokens, place)
        after, _ = _longest(tokens, place + length)
        if not (phrase in _lexicon().things and after in _lexicon().things):
            yield phrase, tokens[place]
        place += length


def _longest(tokens: Sequence[str], place: int) -> tuple[str, int]:
    """Find the longest phrase of the vocabulary that begins at ``place``, and how many words it has; "" for none."""
    lexicon = _lexicon()
    for length in range(min(_LONGEST, len(tokens) - place), 0, -1):
        said = " ".join(tokens[place : place + length])
        for form in (said, said.replace("-", " "), said.removesuffix("s")):
            if any(form in known for known in (lexicon.things, lexicon.colours, lexicon.hair_colours, lexicon.looks)):
                return form, length
    return "", 1


def _dress(things: Sequence[_Thing]) -> Iterator[Told]:
    """Tell of things and their colours; of those above the waist, which is worn over which."""
    uppers = [thing for thing in things if thing.attribute == "upper" and thing.fits is not None]
    outer = next((thing for thing in uppers if thing.is_outer), uppers[0] if uppers else None)
    for thing in things:
        # The same noun again is the same garment.
        under = outer is not None and thing in uppers and thing.fits != outer.fits
        if thing.fits is not None and not under:
            yield Told(thing.attribute, thing.fits)
        for colour in thing.colours:
            yield from _colour(thing.attribute, colour, under, several=len(thing.colours) > 1)


def _colour(attribute: str, word: str, under: bool, several: bool) -> Iterator[Told]:
    lexicon = _lexicon()
    if attribute == "hair":
        if word in lexicon.hair_colours:
            yield Told("hair_colour", lexicon.hair_colours[word])
    elif word not in lexicon.colours:
        return
    elif under:
        yield _of_colour("inner_colour", lexicon.colours[word])
    elif f"{attribute}_colour" in ATTRIBUTES:
        yield Told(f"{attribute}_colour", lexicon.colours[word])
        if attribute == "upper" and several:
            yield Told("upper_second_colour", lexicon.colours[word])


def _of_colour(attribute: str, fits: Fits) -> Told:
    """Tell of a colour, which is not there where nothing of the garment shows."""
    return Told(attribute, (_FLOOR, *fits) if len(fits) < len(ATTRIBUTES[attribute]) else fits)


class _Lexicon(NamedTuple):
    """Phrases by what they do in a sentence."""

    things: dict[str, list[tuple[str, Fits | None]]]  # take colours; what a noun tells by itself
    colours: dict[str, Fits]
    hair_colours: dict[str, Fits]
    looks: dict[str, Told]  # need no thing: "striped", "a ponytail"
    adjectives: dict[str, dict[str, Fits]]  # of hair, of sleeves
    gender: dict[str, Told]


@cache
def _lexicon() -> _Lexicon:
    things: dict[str, list[tuple[str, Fits | None]]] = {"hair": [("hair", None)], "sleeve": [("sleeve", None)]}
    for attribute in _KINDS:
        for word, fits in (_of_describers(attribute, attribute) | _of_readers(attribute, "words of")).items():
            things.setdefault(word, []).append((attribute, fits))
    looks = {
        word: Told(attribute, fits)
        for attribute in ("upper_pattern", "hair_length", "sleeve", "glasses")
        for word, fits in _of_readers(attribute, "words of").items()
    }
    adjectives: dict[str, dict[str, Fits]] = {}
    for attribute in ("hair_length", "sleeve"):
        for word, fits in _of_readers(attribute, "words before").items():
            adjectives.setdefault(word, {})[attribute] = fits
    gender = {word: Told("gender", fits) for word, fits in _of_readers("gender", "words of").items()}
    return _Lexicon(
        things,
        _of_describers("upper_colour", "tones")
        | _of_describers("upper_colour", "colours")
        | _of_readers("upper_colour", "words of"),
        _of_describers("hair_colour", "hair_colours"),
        looks,
        adjectives,
        gender,
    )


def _of_describers(attribute: str, section: str) -> dict[str, Fits]:
    """Return how well each word of a section fits the values of an attribute: as often as it is drawn for them."""
    values = ATTRIBUTES[attribute]
    fits: dict[str, npt.NDArray[np.float32]] = {}
    for place, value in enumerate(values):
        words = all_words(section, value).words
        whole = sum(1 / rank for rank in range(1, len(words) + 1))
        for rank, word in enumerate(words, start=1):
            for said in {word.text.lower(), to_american(word.text.lower())}:
                fits.setdefault(said, np.zeros(len(values), np.float32))[place] += 1 / (rank * whole)
    return {said: _scaled(found) for said, found in fits.items()}


def _of_readers(attribute: str, which: str) -> dict[str, Fits]:
    """Return the same of words that are listed for readers, with the values that they may mean, the likeliest first."""
    values = ATTRIBUTES[attribute]
    fits = {}
    for meant, words in reading(f"{which} {attribute}").items():
        found = np.zeros(len(values), np.float32)
        for rank, value in enumerate(meant.split(", ")):
            found[values.index(value)] = 0.5**rank
        fits.update(dict.fromkeys(words.split(), _scaled(found)))
    return fits


def _scaled(fits: npt.NDArray[np.float32]) -> Fits:
    """Bring the best to 1, and none below what anybody may say by mistake."""
    return tuple(np.maximum(fits / fits.max(), np.float32(_FLOOR)).tolist())
