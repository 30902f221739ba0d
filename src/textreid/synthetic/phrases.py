"""Noun phrases for what a view shows of a person: the shared vocabulary of the describers and the simulated MLLM.

A speaker may believe something false. Words that say so stand between the marks `WRONG` and `RIGHT_AGAIN` until
`finish` takes the marks out and returns the spans.
"""

import re
from collections.abc import Collection
from typing import Literal

from textreid.seeding import Chance
from textreid.synthetic import vocabulary
from textreid.synthetic.attributes import Colour, Person, View
from textreid.synthetic.vocabulary import Facts, Word

# Control characters: no word of the vocabulary holds them.
WRONG, RIGHT_AGAIN = "\x01", "\x02"
Span = tuple[int, int]

_MASS = frozenset({"footwear", "denim", "luggage"})
_SLEEVES = {
    # The commonest form stands twice, to be drawn twice as often.
    "short": ("short-sleeved", "short-sleeve", "short sleeve", "short-sleeved"),
    "long": ("long-sleeved", "long-sleeve", "long sleeve", "long-sleeved"),
    "sleeveless": ("sleeveless",),
}
_LIGHT_TOPS = frozenset({"t-shirt", "shirt", "polo shirt", "dress"})
_WHOLE = {("blazer", "trousers"): "suit", ("hoodie", "sweatpants"): "tracksuit", ("jacket", "sweatpants"): "tracksuit"}
_ARTICLE = re.compile(rf"\b(an?)(?= {WRONG}?(\w+))", re.IGNORECASE)
_SENTENCE = re.compile(rf"(?:^|[.!?] ){WRONG}?[a-z]")
_MARKED = re.compile(rf"({WRONG}[^{RIGHT_AGAIN}]*{RIGHT_AGAIN})")
_ADJECTIVE = re.compile(rf"(?:coloured|ish|dark|light|bright|pale){RIGHT_AGAIN}?$")  # no noun: not "in reddish"
# A vowel on paper and a consonant in the mouth: "a uniform", "a one-piece dress".
_YOU_SOUND = ("uni", "use", "one", "eu")
_AMERICAN = (("grey", "gray"), ("Grey", "Gray"), ("colour", "color"), ("woollen", "woolen"), ("recognis", "recogniz"))


class Seen:
    """Parts of a person that a view shows: truth that no witness could have seen is left out."""

    def __init__(self, person: Person, view: View) -> None:
        head, not_back = view.head_visible, view.direction != "back"
        self.headwear = head and person.headwear != "none"
        covered = person.headwear in ("hood", "headscarf") or (self.headwear and person.hair_length == "bald")
        self.hair = head and not covered
        self.glasses = head and not_back and person.glasses
        self.scarf = head and person.scarf_colour is not None
        self.inner = not_back and person.inner_colour is not None
        self.pattern = person.upper_pattern != "plain" and (person.upper_pattern != "logo" or view.direction == "front")
        self.lower = view.legs_visible and person.upper != "dress"
        self.shoes = view.feet_visible
        self.bag = person.bag != "none"
        self.held = person.held == "umbrella" or (not_back and person.held != "nothing")


class Phrases:
    """Source of noun phrases for one caption; a method's answer differs from call to call.

    Args:
        person: what the speaker believes, which is the truth save for the fields in ``wrong``.
        truth: the person as is.
        view: what could be seen.
        chance: the source of all choices.
        wrong: names of the fields of ``person`` that are not the truth.
        vague: probability of "dark", "light" or "bright" in place of a colour's name, where that is true.
    """

    def __init__(
        self,
        person: Person,
        truth: Person,
        view: View,
        chance: Chance,
        wrong: Collection[str] = (),
        vague: float = 0.04,
    ) -> None:
        self.person, self.truth, self.view, self.chance, self.wrong = person, truth, view, chance, frozenset(wrong)
        # Of what is believed: a bag that is only imagined is spoken of as if it were seen.
        self.seen = Seen(person, view)
        self._vague = vague
        pronouns = ("she", "her", "her") if person.gender == "woman" else ("he", "his", "him")
        self.he, self.his, self.him = (self._mark(word, "gender") for word in pronouns)

    def who(self) -> str:
        """Pick a noun for the person that tells the gender: "woman", "young man"."""
        # By the truth, as wherever one field picks the words of another: else words would be wrong without a mark.
        older = self.seen.hair and self.truth.hair_colour == "grey" and self.truth.hair_length != "bald"
        name = f"older {self.person.gender}" if older else self.person.gender
        return self._mark(self._draw("people", name), "gender")

    def someone(self) -> str:
        """Pick a noun for the person that tells no gender."""
        return self._draw("people", "person")

    def build(self) -> str:
        """Pick an adjective of build: "slim", "of medium build"."""
        return self._draw("build", self.person.build)

    def colour(self, field: str, exact: bool = False) -> str:
        """Pick an adjective for the colour in ``field``; no vague one where ``exact``."""
        colour: Colour = getattr(self.person, field)
        # "Dark" may be true of both colours, and then nothing would be wrong.
        vague = self.chance.happens(self._vague) and not exact and field not in self.wrong
        section = "tones" if vague and vocabulary.all_words("tones", colour).words else "colours"
        # Navy may be called "blue": the word for a mistaken colour must not be true after all.
        avoid = vocabulary.colour_words(getattr(self.truth, field)) if field in self.wrong else ()
        return self._mark(vocabulary.all_words(section, colour).draw(self.chance, avoid).text, field)

    def hair(self) -> str | None:
        """Say "short black hair"; None where no hair can be seen."""
        if not self.seen.hair:
            return None
        length = self.person.hair_length
        # From the front one sees that hair is tied, not how.
        if length in ("ponytail", "bun") and self.view.direction == "front":
            shape = self._draw("hair", "tied")
        else:
            shape = vocabulary.words("hair", length, Facts("", self.truth.gender)).draw(self.chance).text
        true = vocabulary.all_words("hair_colours", self.truth.hair_colour).texts
        colours = vocabulary.all_words("hair_colours", self.person.hair_colour)
        colour = colours.draw(self.chance, true if "hair_colour" in self.wrong else ()).text
        return shape.format(c=self._mark(colour, "hair_colour"), his=self.his)

    def headwear(self) -> str | None:
        """Say "a red baseball cap"; None where there is none."""
        if not self.seen.headwear:
            return None
        if self.person.headwear == "hood":
            return self.chance.pick(("a hood", f"a hood over {self.his} head", "a raised hood"))
        word = self._draw("headwear", self.person.headwear).format(his=self.his)
        return f"a {self.colour('headwear_colour')} {word}"

    def glasses(self) -> str | None:
        """Say "a pair of glasses"; None where none can be seen."""
        return self._draw("glasses", "words") if self.seen.glasses else None

    def scarf(self) -> str | None:
        """Say "a grey scarf"; None where there is none."""
        if not self.seen.scarf:
            return None
        return f"a {self.colour('scarf_colour')} {self._draw('scarf', 'words').format(his=self.his)}"

    def upper(self) -> str:
        """Name the garment on the upper body, or the dress: "a black and white striped shirt"."""
        garment = self._upper_word()
        colour = "" if garment.names_colour else self.colour("upper_colour")
        if "upper" in self.wrong:
            return self._dyed(colour, self._mark(garment.text, "upper"), garment.text)
        # Of a mistaken garment nothing more is said: its sleeves or pattern would be wrong too, without a mark.
        sleeves = self._sleeves(garment.text)
        if self.seen.pattern:
            return self._patterned(colour, f"{sleeves} {garment.text}".lstrip()) + self._over_inner(garment)
        if sleeves and colour and self.chance.happens(0.5):
            return self._counted(f"{sleeves} {colour} {garment.text}", garment.text) + self._over_inner(garment)
        return self._dyed(colour, f"{sleeves} {garment.text}".lstrip(), garment.text) + self._over_inner(garment)

    def lower(self) -> str | None:
        """Say "a pair of blue jeans"; None where the legs cannot be seen, or there is a dress alone."""
        return self._dyed(*self._garment("lower")) if self.seen.lower else None

    def shoes(self) -> str | None:
        """Say "white sneakers"; None where the feet cannot be seen."""
        return self._dyed(*self._garment("shoes")) if self.seen.shoes else None

    def colour_of(self, section: Literal["lower", "shoes"]) -> str:
        """Form a clause on the colour of what is seen on legs or feet: "his jeans are blue"."""
        colour, noun, word = self._garment(section)
        return f"{self.his} {noun} {'are' if is_plural(word) else 'is'} {colour or self.colour(f'{section}_colour')}"

    def bag(self) -> str | None:
        """Say "a brown handbag"; None where there is none."""
        if not self.seen.bag:
            return None
        word = vocabulary.words("bag", self.person.bag, Facts(self.truth.bag_colour, self.truth.gender)).draw(
            self.chance
        )
        return self._counted(self._mark(f"{self.colour('bag_colour')} {word.text}", "bag"), word.text)

    def held(self) -> str | None:
        """Say "a phone"; None where nothing is seen in the hands."""
        if not self.seen.held:
            return None
        word = self._draw("held", self.person.held)
        if self.person.held == "papers":
            return word
        return f"a {self.colour('held_colour')} {word}" if self.person.held == "umbrella" else f"a {word}"

    def carrying(self) -> list[str]:
        """Say what the person does with bag and hands, as phrases: "with a backpack on his back", "holding a phone"."""
        things = ((self.person.bag, self.bag()), (self.person.held, self.held()))
        return [
            self._draw("carry", name).format(b=thing, his=self.his, him=self.him) for name, thing in things if thing
        ]

    def motion(self) -> str:
        """Say how the person stands or walks in the picture, as a participle phrase."""
        walking = self.view.walking
        verb = self.chance.pick(("walking", "walking", "strolling") if walking else ("standing", "standing", "waiting"))
        ways = {
            "front": (f"{'towards' if walking else 'facing'} the camera", "seen from the front", "facing forward"),
            "back": ("away from the camera" if walking else "facing away", "seen from behind", "seen from the back"),
            "left": ("past the camera" if walking else "side-on", "seen from the side", "in profile"),
            "right": ("past the camera" if walking else "side-on", "seen from the side", "in profile"),
        }[self.view.direction]
        return self.chance.pick((verb, f"{verb} {ways[0]}", ways[1], ways[2]))

    def outfit(self) -> list[str]:
        """Name the garments in one or two noun phrases; a suit, or clothes all of one colour, may be one thing."""
        # One word for two garments could not be marked for one of them.
        if self.seen.lower and not self.wrong & {"upper", "lower", "upper_colour", "lower_colour"}:
            whole = self._whole()
            if whole:
                return [whole]
        lower = self.lower()
        return [self.upper(), lower] if lower else [self.upper()]

    def _whole(self) -> str:
        person, chance = self.person, self.chance
        if person.upper_pattern != "plain" or person.lower == "dress":
            return ""
        tones = [vocabulary.all_words("tones", colour).texts for colour in (person.upper_colour, person.lower_colour)]
        alike = person.upper_colour == person.lower_colour
        name = _WHOLE.get((person.upper, person.lower), "same") if alike else ""
        if name and chance.happens(0.08 if name == "same" else 0.5):
            word = vocabulary.words("whole", name, Facts(person.upper_colour, person.gender)).draw(chance).text
            plain = vocabulary.all_words("colours", person.upper_colour).words[0].text
            return word.format(c=plain)
        for tone in ("dark", "light"):
            if all(tone in words for words in tones) and chance.happens(self._vague):
                return self._draw("whole", tone)
        return ""

    def _upper_word(self) -> Word:
        person, truth = self.person, self.truth
        facts = Facts(
            truth.upper_colour, truth.gender, truth.upper_pattern if self.seen.pattern else "plain", person.sleeve,
            self.seen.inner, person.headwear == "hood",
        )  # fmt: skip
        if "upper" not in self.wrong:
            return vocabulary.words("upper", _upper_name(truth), facts).draw(self.chance)
        true = vocabulary.all_words("upper", truth.upper).texts
        true |= vocabulary.all_words("upper", _upper_name(truth)).texts
        return vocabulary.words("upper", person.upper, facts).draw(self.chance, true)

    def _sleeves(self, noun: str) -> str:
        """Pick, at times, an adjective for the sleeves; empty where the noun tells them."""
        often = (0.25 if self.person.sleeve != "long" else 0.15) if self.person.upper in _LIGHT_TOPS else 0.03
        if "leeve" in noun or not self.chance.happens(often) or _upper_name(self.person) in ("vest", "padded vest"):
            return ""
        return self.chance.pick(_SLEEVES[self.person.sleeve])

    def _over_inner(self, garment: Word) -> str:
        """Return what an open garment shows, said at times; a cardigan is no cardigan without."""
        if not self.seen.inner or not (self.chance.happens(0.6) or garment.text.endswith("cardigan")):
            return ""
        under = f"a {self.colour('inner_colour')} {self._draw('inner', 'words')}"
        forms = (" over {}", " over {}", " over {}", " with {} underneath", " with {} under it", " on top of {}")
        opened = (" worn open over {}", " left open over {}", " hanging open over {}")
        if garment.text in ("jacket", "coat", "hoodie", "shirt") and self.chance.happens(0.3):
            return self.chance.pick(opened).format(under)
        return self.chance.pick(forms).format(under)

    def _garment(self, section: Literal["lower", "shoes"]) -> tuple[str, str, str]:
        """Return colour, noun, and the noun without marks."""
        colour_field = f"{section}_colour"
        facts = Facts(getattr(self.truth, colour_field), self.truth.gender)
        fitting = vocabulary.words(section, getattr(self.person, section), facts)
        avoid: frozenset[str] = frozenset()
        if section in self.wrong:
            avoid = vocabulary.all_words(section, getattr(self.truth, section)).texts
        if {section, colour_field} & self.wrong:
            # "Khakis" would tell the colour without a mark of its own.
            avoid |= {word.text for word in fitting.words if word.names_colour}
        word = fitting.draw(self.chance, avoid)
        return "" if word.names_colour else self.colour(colour_field), self._mark(word.text, section), word.text

    def _dyed(self, colour: str, noun: str, word: str) -> str:
        """Join colour and noun by the article that ``word`` asks for; at times the colour comes last."""
        if not colour or not self.chance.happens(0.05):
            return self._counted(f"{colour} {noun}".lstrip(), word)
        later = "that are" if is_plural(word) else "that is"
        if not _ADJECTIVE.search(colour):
            later = self.chance.pick(("in", later))
        return f"{self._counted(noun, word)} {later} {colour}"

    def _counted(self, text: str, noun: str) -> str:
        """Return ``text`` with the article that its ``noun`` asks for."""
        if noun in _MASS:
            return text
        if is_plural(noun):
            return f"a pair of {text}" if self.chance.happens(0.2) else text
        return f"a {text}"

    def _patterned(self, colour: str, noun: str) -> str:
        pattern, chance = self.person.upper_pattern, self.chance
        second = self.colour("upper_second_colour", exact=True)
        adjective = self._draw("patterns", pattern)
        # Not "a striped striped shirt".
        adjective = "" if adjective.split()[0] in noun else adjective + " "
        form = chance.unit()
        if pattern == "logo":
            # The second colour is that of the print alone: a "red and white shirt" would be another shirt.
            form = 0.0 if form < 0.75 else 1.0
        if form < 0.3:
            return f"a {colour} {noun} {self._draw('pattern_tails', pattern).format(d=second)}"
        if form < 0.6:
            return f"a {colour} and {second} {adjective}{noun}"
        if form < 0.75:
            return f"a {adjective}{colour} and {second} {noun}"
        if form < (0.85 if pattern == "two-tone" else 0.8):
            return f"a {colour} and {second} {noun}"
        return f"a {colour} {adjective}{noun}"

    def _draw(self, section: str, name: str) -> str:
        return vocabulary.all_words(section, name).draw(self.chance).text

    def _mark(self, text: str, field: str) -> str:
        return f"{WRONG}{text}{RIGHT_AGAIN}" if field in self.wrong else text


def is_plural(noun: str) -> bool:
    """Tell whether a noun of the vocabulary is plural."""
    return noun.endswith("s") and not noun.endswith("ss")


def listed(items: list[str], oxford: bool = False) -> str:
    """Join as "a, b and c"."""
    if len(items) < 3:
        return " and ".join(items)
    return ", ".join(items[:-1]) + (", and " if oxford else " and ") + items[-1]


def bare(phrase: str) -> str:
    """Take its article off a noun phrase: "a pair of jeans" → "jeans"."""
    for article in ("a pair of ", "a ", "an ", "the ", "some "):
        if phrase.startswith(article) and not phrase.startswith("a few "):
            return phrase.removeprefix(article)
    return phrase


def to_american(text: str) -> str:
    """Spell a text the American way."""
    for british, american in _AMERICAN:
        text = text.replace(british, american)
    return text


def to_british(text: str) -> str:
    """Spell a text the British way."""
    for british, american in _AMERICAN:
        text = text.replace(american, british)
    return text


def finish(text: str, american: bool, capitals: bool = True) -> tuple[str, tuple[Span, ...]]:
    """Spell, set articles and capitals, take out the marks.

    Args:
        text: with marks, and "a" before every noun phrase that has an article.
        american: American spelling in place of British.
        capitals: begin sentences with a capital.

    Returns:
        The text, and the half-open character spans of its wrong words, in order.
    """
    # Spelling first, for it changes lengths; articles need the words that follow; spans are counted at the end.
    if american:
        text = to_american(text)
    text = _ARTICLE.sub(_article, text)
    if capitals:
        text = _SENTENCE.sub(lambda match: match[0][:-1] + match[0][-1].upper(), text)
    if WRONG not in text:
        return text, ()
    pieces, spans, length = [], [], 0
    for piece in _MARKED.split(text):
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


def _upper_name(person: Person) -> str:
    """Return the entry of the vocabulary: a jacket without sleeves is a vest."""
    if person.sleeve == "sleeveless" and person.upper in ("jacket", "padded jacket"):
        return "padded vest"
    return person.upper
