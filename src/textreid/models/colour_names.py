"""A baseline that learns nothing: colour words of the query against colour names of the picture's pixels.

It is what a careful engineer would write without a model. A picture is cut into four bands (head, torso, legs,
feet); the pixels of each are named by their nearest basic colours in CIELAB, weighted by how likely they belong to
the person in the middle rather than to what is seen at the sides. A sentence is read for the colours it gives to
hair and garments (`mentions`). The score of a pair is the weighted sum, over what the
sentence says, of the log of that colour's share in that band.
"""

import math
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from textreid.artifacts import fingerprint
from textreid.images import read_image, resize_pixels, to_pixels
from textreid.synthetic.vocabulary import reading, same_words

Floats = npt.NDArray[np.float32]

# Each word a witness may use, as the basic colours it can stand for.
COLOUR_WORDS: dict[str, tuple[str, ...]] = {word: tuple(basic.split()) for word, basic in reading("colours").items()}
SAME = same_words("same_colour")
_PHRASES = reading("phrases")

BANDS = ("head", "torso", "legs", "feet")
# Which bands a thing fills; the colours of the others are read and dropped.
_FILLS = {
    "hair": ("head",), "headwear": ("head",), "upper body": ("torso",), "whole body": ("torso", "legs"),
    "lower body": ("legs",), "footwear": ("feet",),
}  # fmt: skip
# What ends a noun phrase: colours that wait here belong to the garment before, as in "her jacket is red, ...".
_ENDS = ". , ; : ! ? a an the his her their its with wearing wears over under"
_TOKEN = re.compile(r"[a-z]+|[.,;:!?]")
_PARTS = {noun: _FILLS.get(kind, ()) for kind, nouns in reading("things").items() for noun in nouns.split()}
_STOPS = frozenset(_ENDS.split())
_SENTENCE_ENDS = frozenset(".;!?")

# Typical cloth of each basic colour, as sRGB.
_BASIC: dict[str, tuple[int, int, int]] = {
    "black": (24, 24, 26), "charcoal": (64, 64, 68), "grey": (125, 125, 128), "silver": (185, 185, 188),
    "white": (238, 238, 238), "beige": (214, 196, 164), "tan": (176, 142, 100), "brown": (118, 80, 52),
    "chocolate": (62, 44, 34), "red": (190, 34, 40), "burgundy": (104, 26, 40), "orange": (226, 116, 36),
    "yellow": (228, 200, 64), "olive": (104, 104, 58), "green": (48, 138, 66), "forest": (30, 66, 44),
    "mint": (150, 206, 164), "teal": (28, 128, 132), "sky": (136, 178, 220), "blue": (44, 86, 176),
    "denim": (84, 106, 142), "navy": (28, 36, 72), "purple": (104, 54, 136), "lilac": (180, 156, 206),
    "pink": (232, 160, 182), "magenta": (198, 50, 122),
}  # fmt: skip
# These constants come from first principles, checked on rendered people; no real data set was used.
_BAND_ENDS = (0.16, 0.5, 0.88, 1.0)  # of the height of a full-body crop
_BAND_WEIGHTS = {"head": 0.4, "torso": 1.0, "legs": 1.0, "feet": 0.4}  # small parts are seen less surely
_LIGHTNESS = 0.8  # of a difference in L against one in a or b: light varies from camera to camera, hue less
_SPREAD = 10.0  # standard deviation of a colour name in CIELAB units
_FLOOR = 0.02  # share of a colour that noise alone may show
_SIDE = 0.15  # share of the width, at either side, taken as background
_BIN = 16.0  # width of a cell of the background histogram, in CIELAB units
_CELLS = (8, 16, 16)  # of L, a and b: of sRGB L lies between 0 and 100, a and b between -108 and 99
_SHARE = np.arange(256, dtype=np.float32) / 255
_LINEAR = np.where(_SHARE <= 0.04045, _SHARE / 12.92, ((_SHARE + 0.055) / 1.055) ** 2.4)  # light of each value in sRGB


class ColourNames:
    """Scorer of sentences against pictures by colour names; the inner product of its features is the score.

    Features are (N, 4 bands × colour words) and are not normalised.
    """

    selected_on = "nothing: it does not learn"
    training_text: tuple[str, ...] = ()

    def __init__(self, height: int = 64, width: int = 32) -> None:
        """Take the size that pictures are reduced to."""
        self._size = (height, width)
        self._index = {key: i for i, key in enumerate((band, word) for band in BANDS for word in COLOUR_WORDS)}
        names = list(_BASIC)
        self._prototypes = _to_lab(np.array(list(_BASIC.values()), dtype=np.uint8))
        self._members = np.zeros((len(names), len(COLOUR_WORDS)), dtype=np.float32)
        for column, basics in enumerate(COLOUR_WORDS.values()):
            self._members[[names.index(basic) for basic in basics], column] = 1.0

    @property
    def dimension(self) -> int:
        """Numbers of a feature."""
        return len(self._index)

    @property
    def fingerprint(self) -> str:
        """Fingerprint of its constants."""
        return fingerprint(
            [_BASIC, COLOUR_WORDS, _BAND_ENDS, _BAND_WEIGHTS, *self._size, _LIGHTNESS, _SPREAD, _FLOOR, _SIDE, _BIN]
        )

    def encode_images(self, images: Sequence[str | os.PathLike[str] | Image.Image], /) -> Floats:
        """Compute the log share of each colour word in each band: (N, bands × words).

        Raises:
            ImageError: a picture cannot be read.
        """
        rows = [self.describe(to_pixels(read_image(image), *self._size)[None]) for image in images]
        return np.concatenate([np.zeros((0, self.dimension), np.float32), *rows])

    def encode_texts(self, texts: Sequence[str], /) -> Floats:
        """Weigh each (band, colour word) that a sentence mentions: (N, bands × words)."""
        features = np.zeros((len(texts), len(self._index)), dtype=np.float32)
        for row, text in enumerate(texts):
            for mention in mentions(text):
                features[row, self._index[mention.band, mention.colour]] = _BAND_WEIGHTS[mention.band]
        return features

    def describe(self, pixels: npt.NDArray[np.uint8]) -> Floats:
        """Compute the same of N pictures that were decoded, (N, 3, H, W) of any size: (N, bands × words).

        It takes some 250 KB for each of them while it computes.
        """
        lab = _to_lab(np.moveaxis(resize_pixels(pixels, *self._size), 1, -1))
        weights = _person(lab)
        scale = np.array([_LIGHTNESS, 1, 1], dtype=np.float32)
        scaled, prototypes = lab * scale, self._prototypes * scale
        # Half the squared distance, without that of the pixel from black, which is the same for all names.
        distance = (np.square(prototypes).sum(axis=1) / 2 - scaled @ prototypes.T) / _SPREAD**2
        # Relative to the nearest colour: its own value is 1, so that no sum is 0.
        likelihood = np.exp(distance.min(axis=-1, keepdims=True) - distance)
        names = likelihood * (weights[..., None] / likelihood.sum(axis=-1, keepdims=True))
        ends = [round(end * self._size[0]) for end in _BAND_ENDS]
        shares = [
            names[:, start:end].sum(axis=(1, 2)) @ self._members / weights[:, start:end].sum(axis=(1, 2))[:, None]
            for start, end in zip([0, *ends[:-1]], ends, strict=True)
        ]
        rows: Floats = np.log(np.concatenate(shares, axis=1) + _FLOOR).astype(np.float32)
        return rows


def _person(lab: Floats) -> Floats:
    """Estimate how likely each pixel (N, H, W, 3) shows the person: (N, H, W), above 0.

    The prior is a column in the middle; the evidence compares how often a colour occurs there and at the sides.
    """
    count, height, width, _ = lab.shape
    across = (np.arange(width) + 0.5) / width - 0.5
    prior = np.exp(-0.5 * (across / 0.2) ** 2)
    sides = np.abs(across) > 0.5 - _SIDE
    cells = np.floor(lab / _BIN).astype(np.int64) + np.array([0, _CELLS[1] // 2, _CELLS[2] // 2])
    codes = np.ravel_multi_index((np.arange(count)[:, None, None], *np.moveaxis(cells, -1, 0)), (count, *_CELLS))
    middle = _shares(codes, prior * ~sides, count)
    beside = _shares(codes[..., sides], np.ones(1), count)
    # About one pixel more on either side: a colour that is on one alone would else weigh 0 or 1.
    smooth = 1.0 / (height * width)
    weights: Floats = (prior * ((middle + smooth) / (middle + beside + 2 * smooth))[codes]).astype(np.float32)
    return weights


def _shares(codes: npt.NDArray[np.int64], weights: npt.NDArray[np.float64], count: int) -> npt.NDArray[np.float64]:
    """Sum weights by the cells of ``count`` pictures, each to 1 in all: (count × cells,)."""
    sums = np.bincount(codes.ravel(), np.broadcast_to(weights, codes.shape).ravel(), count * math.prod(_CELLS))
    each = sums.reshape(count, math.prod(_CELLS))
    shares: npt.NDArray[np.float64] = each / each.sum(axis=1, keepdims=True)
    return shares.ravel()


def _to_lab(rgb: npt.NDArray[np.uint8]) -> Floats:
    """Convert sRGB to CIELAB under D65; the last axis holds the channels."""
    # IEC 61966-2-1, to XYZ of white 1; below, the function of CIE 1976 with its linear part near black.
    matrix = np.array(
        [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
    )
    xyz = _LINEAR[rgb] @ matrix.T / np.array([0.95047, 1.0, 1.08883])
    root = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = np.moveaxis(root, -1, 0)
    lab: Floats = np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1).astype(np.float32)
    return lab


@dataclass(frozen=True, slots=True)
class Mention:
    """One colour word, said of one band of the body."""

    band: str
    colour: str


def mentions(text: str) -> list[Mention]:
    """Read what a sentence says about the colours of hair and garments, in its order, each once.

    A colour belongs to the next garment of its phrase ("a red jacket"), or where the phrase ends before one comes,
    to the garment before ("her jacket is red."). Jeans of no stated colour are denim.
    """
    text = text.lower()
    for phrase, word in _PHRASES.items():
        text = text.replace(phrase, word)
    tokens = _TOKEN.findall(text)
    found = dict.fromkeys(_walk(tokens))
    if "jeans" in tokens and not any(mention.band == "legs" for mention in found):
        found[Mention("legs", "denim")] = None
    return list(found)


def _walk(tokens: list[str]) -> Iterator[Mention]:
    waiting: list[str] = []  # colours that no garment has taken yet
    bare: str | None = None  # the latest garment, while it has no colour
    # A last stop: at the end of the text, too, colours that wait belong to the garment before.
    for token in [*tokens, "."]:
        word = SAME.get(token, token)
        if word in COLOUR_WORDS:
            # "dark" is a word of its own before it is known to belong to a colour: "dark jeans", "dark blue".
            shade = waiting.pop() if waiting and waiting[-1] in ("dark", "light") else ""
            waiting += [f"{shade} {word}" if f"{shade} {word}" in COLOUR_WORDS else word]
        elif token in _PARTS:
            yield from _say(token, waiting)
            bare, waiting = (None if waiting else token), []
        elif token in _STOPS:
            if bare and waiting:
                yield from _say(bare, waiting)
                bare, waiting = None, []
            if token in _SENTENCE_ENDS:
                bare, waiting = None, []


def _say(noun: str, colours: list[str]) -> Iterator[Mention]:
    for band in _PARTS[noun]:
        for colour in colours:
            yield Mention(band, colour)
