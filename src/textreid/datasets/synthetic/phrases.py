"""Noun phrases for what a view shows of a person: the shared vocabulary of the describers and the simulated MLLM.

A speaker may believe something false. Words that say so stand between the marks `WRONG` and `RIGHT_AGAIN` until
`finish` takes the marks out and returns the spans.
"""

import re
from collections.abc import Collection
from typing import cast

from textreid.datasets.synthetic import lexicon
from textreid.datasets.synthetic.attributes import Colour, Person, View
from textreid.datasets.synthetic.chance import Chance
from textreid.datasets.synthetic.lexicon import Word

WRONG, RIGHT_AGAIN = "\x01", "\x02"
Span = tuple[int, int]

_MASS = frozenset({"footwear", "denim", "luggage", "paperwork"})
_ARTICLE = re.compile(r"\b(an?)(?= \x01?(\w+))", re.IGNORECASE)
_SENTENCE = re.compile(r"(?:^|[.!?] )\x01?([a-z])")
_YOU_SOUND = ("uni", "use", "one", "eu")


class Seen:
    """What a view shows: truth that no witness could have seen is left out."""

    def __init__(self, person: Person, view: View) -> None:
        head, front = view.head_visible, view.direction != "back"
        self.headwear = head and person.headwear != "none"
        covered = person.headwear in ("hood", "headscarf") or (self.headwear and person.hair_length == "bald")
        self.hair = head and not covered
        self.glasses = head and front and person.glasses
        self.scarf = head and person.scarf_colour is not None
        self.inner = front and person.inner_colour is not None
        self.second_colour = person.upper_pattern != "plain" and (person.upper_pattern != "logo" or view.direction == "front")
        self.lower = view.legs_visible and person.upper != "dress"
        self.shoes = view.feet_visible
        self.bag = person.bag != "none"
        self.held = person.held == "umbrella" or (front and person.held != "nothing")


class Phrases:
    """Draws noun phrases for one caption; each method's answer differs from call to call.

    Args:
        person: what the speaker believes, which is the truth save for the fields in ``wrong``.
        truth: the person as is.
        view: what could be seen.
        chance: the source of all choices.
        wrong: names of the fields of ``person`` that are not the truth.
        tones: probability of "dark" or "bright" in place of a colour's name, where that is true.
    """

    def __init__(
        self, person: Person, truth: Person, view: View, chance: Chance, wrong: Collection[str] = (), tones: float = 0.04
    ) -> None:
        self.person, self.truth, self.view, self.chance, self.wrong = person, truth, view, chance, wrong
        self.seen = Seen(person, view)
        self._tones = tones
        woman = person.gender == "woman"
        self.he, self.his, self.him = ("she", "her", "her") if woman else ("he", "his", "him")
        if "gender" in wrong:
            self.he, self.his, self.him = (self.mark(word, "gender") for word in (self.he, self.his, self.him))

    def mark(self, text: str, field: str) -> str:
        """``text``, marked as wrong where ``field`` is."""
        return f"{WRONG}{text}{RIGHT_AGAIN}" if field in self.wrong else text

    def who(self) -> str:
        """A noun for the person that tells the gender: "woman", "young man"."""
        older = self.seen.hair and self.person.hair_colour == "grey" and self.person.hair_length != "bald"
        name = f"older {self.person.gender}" if older else self.person.gender
        return self.mark(lexicon.all_words("people", name).draw(self.chance).text, "gender")

    def someone(self) -> str:
        """A noun for the person that tells no gender."""
        return lexicon.all_words("people", "person").draw(self.chance).text

    def build(self) -> str:
        """An adjective of build: "slim", "of medium build"."""
        return lexicon.all_words("build", self.person.build).draw(self.chance).text

    def colour(self, field: str, tones: bool = True) -> str:
        """An adjective for the colour in ``field``."""
        colour: Colour = getattr(self.person, field)
        section = "tones" if tones and self.chance.happens(self._tones) else "colours"
        if section == "tones" and not lexicon.all_words("tones", colour).words:
            section = "colours"
        avoid = lexicon.colour_words(getattr(self.truth, field)) if field in self.wrong else ()
        return self.mark(lexicon.all_words(section, colour).draw(self.chance, avoid).text, field)

    def hair(self) -> str | None:
        """ "short black hair"; None where no hair can be seen."""
        if not self.seen.hair:
            return None
        person = self.person
        shape = self._word("hair", person.hair_length, "hair_length", "").text
        tone = lexicon.all_words("hair_colours", person.hair_colour)
        avoid = lexicon.all_words("hair_colours", self.truth.hair_colour).texts if "hair_colour" in self.wrong else ()
        return shape.format(c=self.mark(tone.draw(self.chance, avoid).text, "hair_colour"), his=self.his)

    def headwear(self) -> str | None:
        """ "a red baseball cap"; None where there is none."""
        if not self.seen.headwear:
            return None
        if self.person.headwear == "hood":
            return self.chance.pick((f"a hood over {self.his} head", f"{self.his} hood up", "the hood up"))
        word = lexicon.all_words("headwear", self.person.headwear).draw(self.chance).text.format(his=self.his)
        return f"a {self.colour('headwear_colour')} {word}"

    def glasses(self) -> str | None:
        """ "a pair of glasses"; None where none can be seen."""
        return lexicon.all_words("glasses", "words").draw(self.chance).text if self.seen.glasses else None

    def scarf(self) -> str | None:
        """ "a grey scarf"; None where there is none."""
        if not self.seen.scarf:
            return None
        word = lexicon.all_words("scarf", "words").draw(self.chance).text.format(his=self.his)
        return f"a {self.colour('scarf_colour')} {word}"

    def upper(self) -> str:
        """The garment on the upper body, or the dress: "a black and white striped shirt"."""
        person, chance = self.person, self.chance
        garment = self._word("upper", person.upper, "upper", "upper_colour")
        noun, tail = self.mark(garment.text, "upper"), ""
        if self.seen.inner and (chance.happens(0.6) or garment.text.endswith("cardigan")):
            inner = self.mark(lexicon.all_words("inner", "words").draw(chance).text, "inner")
            under = f"a {self.colour('inner_colour')} {inner}"
            tail = chance.pick((" over {}", " over {}", " with {} underneath", " worn open over {}", " and {} under it"))
            tail = tail.format(under)
        sleeves = {"short": "short-sleeved", "long": "long-sleeved", "sleeveless": "sleeveless"}[person.sleeve]
        if person.upper in ("t-shirt", "shirt", "polo shirt", "dress") and "leeve" not in noun and "upper" not in self.wrong:
            if chance.happens(0.25 if person.sleeve != "long" else 0.15):
                sleeves = chance.pick((sleeves, sleeves, sleeves.replace("sleeved", "sleeve"), sleeves))
                noun = f"{sleeves} {noun}"
        colour = "" if garment.names_colour else self.colour("upper_colour")
        if person.upper_pattern == "plain" or not self.seen.second_colour or "upper" in self.wrong:
            return self._plain(colour, noun) + tail
        return self._patterned(colour, noun) + tail

    def lower(self) -> str | None:
        """The garment on the legs: "a pair of blue jeans"; None where the legs cannot be seen, or under a dress alone."""
        if not self.seen.lower:
            return None
        garment = self._word("lower", self.person.lower, "lower", "lower_colour")
        colour = "" if garment.names_colour else self.colour("lower_colour")
        return self._plain(colour, self.mark(garment.text, "lower"))

    def shoes(self) -> str | None:
        """ "white sneakers"; None where the feet cannot be seen."""
        if not self.seen.shoes:
            return None
        word = self._word("shoes", self.person.shoes, "shoes", "shoes_colour")
        return self._plain(self.colour("shoes_colour"), self.mark(word.text, "shoes"))

    def bag(self) -> str | None:
        """ "a brown handbag"; None where there is none."""
        if not self.seen.bag:
            return None
        text = self._word("bag", self.person.bag, "bag", "bag_colour").text
        return "a " + self.mark(f"{self.colour('bag_colour')} {text}", "bag")

    def held(self) -> str | None:
        """ "a phone"; None where nothing is seen in the hands."""
        if not self.seen.held:
            return None
        word = lexicon.all_words("held", self.person.held).draw(self.chance).text
        if self.person.held == "papers":
            return word
        return f"a {self.colour('held_colour')} {word}" if self.person.held == "umbrella" else f"a {word}"

    def carrying(self) -> list[str]:
        """What the person does with bag and hands, as phrases like "with a backpack on his back" or "holding a phone"."""
        things = ((self.person.bag, self.bag()), (self.person.held, self.held()))
        return [
            lexicon.all_words("carry", name).draw(self.chance).text.format(b=thing, his=self.his, him=self.him)
            for name, thing in things
            if thing
        ]

    def outfit(self) -> list[str]:
        """The garments as noun phrases, one to two of them; a suit or a tracksuit may be named as one thing."""
        person = self.person
        whole = {("blazer", "trousers"): "suit", ("hoodie", "sweatpants"): "tracksuit", ("jacket", "sweatpants"): "tracksuit"}
        name = whole.get((person.upper, person.lower))
        plain = person.upper_pattern == "plain" and person.upper_colour == person.lower_colour
        if name and plain and self.seen.lower and not {"upper", "lower", "upper_colour", "lower_colour"} & set(self.wrong):
            if self.chance.happens(0.5):
                return [f"a {self.colour('upper_colour')} {name}"]
        lower = self.lower()
        return [self.upper(), lower] if lower else [self.upper()]

    def _word(self, section: str, name: str, field: str, colour_field: str) -> Word:
        truth = self.truth
        # A hyponym that needs a colour, as "leather jacket" does, goes by the colour the thing really has.
        colour = getattr(truth, colour_field) if colour_field else ""
        wrong_kind = field in self.wrong
        fitting = lexicon.words(
            section, name, colour, self.person.gender, self.person.upper_pattern, self.person.sleeve, self.seen.inner
        )
        avoid: frozenset[str] = frozenset()
        if wrong_kind:
            avoid = lexicon.all_words(section, cast("str", getattr(truth, field))).texts
        if wrong_kind or colour_field in self.wrong:
            avoid |= {word.text for word in fitting.words if word.names_colour}
        return fitting.draw(self.chance, avoid)

    def _plain(self, colour: str, noun: str) -> str:
        bare = noun.strip(WRONG + RIGHT_AGAIN)
        text = f"{colour} {noun}" if colour else noun
        if bare in _MASS:
            return text
        if is_plural(bare):
            return f"a pair of {text}" if self.chance.happens(0.2) else text
        return f"a {text}"

    def _patterned(self, colour: str, noun: str) -> str:
        pattern, chance = self.person.upper_pattern, self.chance
        second = self.colour("upper_second_colour", tones=False)
        adjective = lexicon.all_words("patterns", pattern).draw(chance).text
        form = chance.unit()
        if form < 0.3 or pattern == "logo":
            tail = lexicon.all_words("pattern_tails", pattern).draw(chance).text
            if form < 0.75:
                return f"a {colour} {noun} {tail.format(d=second)}"
            return f"a {colour} {adjective} {noun}"
        if form < 0.6:
            return f"a {colour} and {second} {adjective} {noun}"
        if form < 0.8:
            return f"a {adjective} {colour} and {second} {noun}"
        if form < 0.9 and pattern == "two-tone":
            return f"a {colour} and {second} {noun}"
        return f"a {colour} {adjective} {noun}"


def is_plural(noun: str) -> bool:
    """Whether a noun of the lexicon is plural."""
    return noun.endswith("s") and not noun.endswith("ss")


def listed(items: list[str], oxford: bool = False) -> str:
    """ "a, b and c"."""
    if len(items) < 3:
        return " and ".join(items)
    return ", ".join(items[:-1]) + (", and " if oxford else " and ") + items[-1]


def finish(text: str, american: bool, capitals: bool = True) -> tuple[str, tuple[Span, ...]]:
    """Spell, set articles and capitals, take out the marks.

    Args:
        text: with marks, and "a" before every noun phrase that has an article.
        american: American spelling in place of British.
        capitals: begin sentences with a capital.

    Returns:
        The text, and the half-open character spans of its wrong words, in order.
    """
    if american:
        text = text.replace("grey", "gray").replace("Grey", "Gray").replace("colour", "color").replace("woollen", "woolen")
    text = _ARTICLE.sub(_article, text)
    if capitals:
        text = _SENTENCE.sub(lambda match: match[0][:-1] + match[1].upper(), text)
    if WRONG not in text:
        return text, ()
    pieces, spans, length = [], [], 0
    for piece in re.split(f"({WRONG}[^{RIGHT_AGAIN}]*{RIGHT_AGAIN})", text):
        plain = piece.strip(WRONG + RIGHT_AGAIN)
        if piece.startswith(WRONG):
            spans.append((length, length + len(plain)))
        pieces.append(plain)
        length += len(plain)
    return "".join(pieces), tuple(spans)


def _article(match: re.Match[str]) -> str:
    word = match[2].lower()
    vowel = word[0] in "aeiou" and not word.startswith(_YOU_SOUND)
    return match[1][0] + ("n" if vowel else "")
