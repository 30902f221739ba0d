"""Which colour a sentence gives to which part of the body."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

# Each word a witness may use, as the basic colours it can stand for.
COLOUR_WORDS: dict[str, tuple[str, ...]] = {
    "black": ("black",),
    "charcoal": ("charcoal",),
    "grey": ("charcoal", "grey", "silver"),
    "silver": ("silver",),
    "white": ("white",),
    "cream": ("white", "beige"),
    "beige": ("beige",),
    "tan": ("beige", "tan"),
    "brown": ("tan", "brown", "chocolate"),
    "red": ("red", "burgundy"),
    "burgundy": ("burgundy",),
    "orange": ("orange",),
    "yellow": ("yellow",),
    "olive": ("olive",),
    "green": ("green", "forest", "mint", "olive"),
    "teal": ("teal",),
    "blue": ("blue", "navy", "sky", "denim"),
    "navy": ("navy",),
    "denim": ("denim", "navy", "sky"),
    "purple": ("purple", "lilac"),
    "pink": ("pink", "magenta"),
    "dark": ("black", "charcoal", "navy", "chocolate", "forest", "burgundy"),
    "light": ("white", "silver", "beige", "sky", "mint", "lilac"),
    "dark grey": ("charcoal",),
    "light grey": ("silver",),
    "dark brown": ("chocolate",),
    "light brown": ("tan", "beige"),
    "dark red": ("burgundy",),
    "dark green": ("forest", "olive"),
    "light green": ("mint",),
    "dark blue": ("navy",),
    "light blue": ("sky", "denim"),
    "dark purple": ("purple",),
    "light purple": ("lilac",),
    "light pink": ("pink",),
    "dark pink": ("magenta",),
    "blonde": ("tan", "beige"),
}
SAME = {
    "gray": "grey", "greyish": "grey", "grayish": "grey", "ash": "grey", "slate": "charcoal", "ivory": "cream",
    "khaki": "tan", "camel": "tan", "sand": "beige", "chocolate": "dark brown", "brunette": "brown",
    "maroon": "burgundy", "wine": "burgundy", "crimson": "red", "scarlet": "red", "mustard": "yellow",
    "gold": "yellow", "golden": "yellow", "lime": "light green", "mint": "light green", "turquoise": "teal",
    "cyan": "teal", "aqua": "teal", "sky": "light blue", "indigo": "navy", "violet": "purple",
    "lavender": "light purple", "lilac": "light purple", "magenta": "dark pink", "fuchsia": "dark pink",
    "rose": "pink", "blond": "blonde", "bluish": "blue", "reddish": "red", "brownish": "brown",
    "pale": "light", "faded": "light", "washed": "light", "deep": "dark",
}  # fmt: skip
_PHRASES = {
    "t-shirt": "tshirt", "navy blue": "navy", "sky blue": "light blue", "off-white": "cream",
    "dress shoe": "shoe", "dress shirt": "shirt", "suit jacket": "jacket",
}  # fmt: skip

BANDS = ("head", "torso", "legs", "feet")
HAIR = "hair haired bun ponytail"
HEADWEAR = "hat cap beanie hood headscarf helmet"
NOUNS = {
    ("head",): f"{HAIR} {HEADWEAR}",
    ("torso",): (
        "shirt tshirt top blouse sweater jumper pullover hoodie jacket vest blazer cardigan polo sweatshirt jersey "
        "tee parka anorak windbreaker tunic tank sleeves"
    ),
    ("torso", "legs"): "dress suit uniform clothes clothing outfit gown overalls jumpsuit coat overcoat robe",
    ("legs",): (
        "trousers pants jeans shorts skirt leggings sweatpants slacks chinos joggers tights bottoms capris breeches"
    ),
    ("feet",): "shoes shoe trainers sneakers boots sandals heels slippers flats loafers footwear",
}
# Things that have a colour of their own but do not fill a band: their colours are read and dropped.
BELONGINGS = "bag backpack rucksack handbag purse suitcase satchel umbrella phone bottle papers luggage case"
ACCESSORIES = "scarf tie belt glasses sunglasses socks gloves"
_OTHER = f"{BELONGINGS} {ACCESSORIES} logo print collar skin skinned complexion background"
# What ends a noun phrase: colours that wait here belong to the garment before, as in "her jacket is red, ...".
_ENDS = ". , ; : ! ? a an the his her their its with wearing wears over under"
_TOKEN = re.compile(r"[a-z]+|[.,;:!?]")
_PARTS: dict[str, tuple[str, ...]] = dict.fromkeys(_OTHER.split(), ())
_PARTS |= {noun: bands for bands, nouns in NOUNS.items() for noun in nouns.split()}
_STOPS = frozenset(_ENDS.split())
_SENTENCE_ENDS = frozenset(".;!?")


@dataclass(frozen=True, slots=True)
class Mention:
    """One colour word, said of one band of the body."""

    band: str
    colour: str


def mentions(text: str) -> list[Mention]:
    """What a sentence says about the colours of hair and garments, in its order, each once.

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
    for token in [*tokens, "."]:
        word = SAME.get(token, token)
        if word in COLOUR_WORDS:
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
