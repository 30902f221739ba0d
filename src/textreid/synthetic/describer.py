"""Descriptions as people give them, for test queries: annotators, witnesses, clerks, callers, people who search.

Their words are those of the simulated MLLM, as people and real MLLMs share a language; their sentences are not.
A describer mentions only what the view shows, and never skin tone.
"""

from collections.abc import Callable

from textreid.errors import ConfigError
from textreid.seeding import Chance
from textreid.synthetic.attributes import Person, View
from textreid.synthetic.phrases import Phrases, bare, finish, listed


def describe(person: Person, view: View, seed: int, style: str | None = None) -> str:
    """Describe ``person`` as seen in ``view``, in one of `STYLES`; ``style=None`` draws one.

    Equal arguments give equal text on every machine.

    Raises:
        ConfigError: there is no such style.
    """
    chance = Chance.of(seed, "describe")
    name = chance.weighted(_FREQUENCY) if style is None else style
    if name not in STYLES:
        raise ConfigError(f"no style of description {name!r}; known: {', '.join(STYLES)}")
    # Two describers of three write American English, as the simulated MLLMs always do.
    american = chance.happens(0.65)
    # Vaguer than an MLLM, for which `Phrases` has 0.04: people look less closely, or remember.
    text = STYLES[name](Phrases(person, person, view, chance, vague=0.07))
    # Most who type into a search box leave capitals out.
    text, _ = finish(text, american, capitals=name != "query" or chance.happens(0.3))
    # Last, when articles are set and marks are gone: before, a slip would break either.
    return _misspell(text, chance) if name == "typos" else text


# -- what is said, in parts ------------------------------------------------------------------------------------------


def _who(p: Phrases) -> str:
    return p.someone() if p.chance.happens(0.07) else p.who()


def _head(p: Phrases, often: float = 0.85) -> list[str]:
    """Name hair, headwear and glasses, as noun phrases."""
    parts = [part for part in (p.hair(), p.headwear(), p.glasses()) if part and p.chance.happens(often)]
    if len(parts) > 1 and p.chance.happens(0.4):
        parts.reverse()
    return parts


def _worn(p: Phrases, shod: bool = True) -> list[str]:
    """Name clothes, scarf and shoes, as noun phrases."""
    worn = p.outfit()
    shoes, scarf = p.shoes() if shod else None, p.scarf()
    if scarf and p.chance.happens(0.7):
        worn.append(scarf)
    if shoes and p.chance.happens(0.85):
        worn.append(shoes)
    return worn


def _lacking(p: Phrases, often: float) -> list[str]:
    """Name, at times, one thing that the person is seen not to have, as a noun phrase."""
    if not p.chance.happens(often):
        return []
    person, view = p.person, p.view
    found = []
    if person.bag == "none":
        found += ["no bag", "no bags"]
        if person.held == "nothing":
            found += [f"nothing in {p.his} hands", "empty hands"]
    if view.head_visible and person.headwear == "none":
        found += ["no hat", "nothing on the head"]
    # Glasses that are not seen from the side may be there all the same.
    if view.head_visible and view.direction == "front" and not person.glasses:
        found += ["no glasses"]
    return [p.chance.pick(found)] if found else []


def _is(phrase: str, past: bool = False) -> str:
    """Turn a participle phrase into a predicate: "with a bag" → "has a bag", "carrying a bag" → "is carrying a bag"."""
    if phrase.startswith("with "):
        return ("had " if past else "has ") + phrase.removeprefix("with ")
    return ("was " if past else "is ") + phrase


def _listed(p: Phrases, items: list[str]) -> str:
    return listed(items, oxford=p.chance.happens(0.4))


def _shuffled(p: Phrases, items: list[str]) -> list[str]:
    # Not `random.shuffle`: `Chance` is the same on every machine and in every version of Python.
    left, mixed = list(items), []
    while left:
        mixed.append(left.pop(p.chance.whole(0, len(left))))
    return mixed


# -- styles ----------------------------------------------------------------------------------------------------------


def _annotation(p: Phrases) -> str:
    """Write full sentences in the present tense, as paid annotators write them."""
    chance, who = p.chance, _who(p)
    # Shoes in a sentence of their own, as "his shoes are white".
    apart = p.seen.shoes and chance.happens(0.12)
    worn, head, carrying = _worn(p, shod=not apart), _head(p), p.carrying()
    wears = chance.pick(("is wearing", "is wearing", "wears", "is dressed in", "has on", "is clothed in"))
    opening = f"{chance.pick(('the', 'the', 'a', 'this'))} {who}"
    if chance.happens(0.12):
        opening = f"{opening}, {p.motion()},"
    form = chance.weighted({"clothes": 4, "head": 3, "with": 3, "split": 2})
    rest = f"{p.he} has {_listed(p, head)}" if head and chance.happens(0.7) else ""
    if form == "head" and head:
        sentences = [f"{opening} has {_listed(p, head)}", f"{p.he} {wears} {_listed(p, worn)}"]
    elif form == "with" and head:
        sentences = [f"{opening} with {_listed(p, head)} {wears} {_listed(p, worn)}"]
    elif form == "split" and len(worn) > 1:
        sentences = [f"{opening} {wears} {_listed(p, worn[:-1])}", f"{p.he} also has {worn[-1]} on", rest]
    else:
        sentences = [f"{opening} {wears} {_listed(p, worn)}", rest]
    if carrying and form == "with" and chance.happens(0.5):
        sentences[0] += f" and {listed([_is(phrase) for phrase in carrying])}"
    elif carrying:
        sentences.append(f"{p.he} {listed([_is(phrase) for phrase in carrying])}")
    if apart:
        sentences.append(p.colour_of("shoes"))
    sentences += [f"{p.he} has {nothing}" for nothing in _lacking(p, 0.08)]
    # With a comma the opening has told the motion already.
    if chance.happens(0.15) and "," not in opening:
        sentences.append(f"{p.he} is {p.motion()}")
    sentences = [sentence for sentence in sentences if sentence]
    if len(sentences) > 2 and chance.happens(0.25):
        sentences[1:] = _shuffled(p, sentences[1:])
    return ". ".join(sentences) + "."


def _note(p: Phrases) -> str:
    """Write a short note: phrases and commas."""
    chance = p.chance
    parts = [*_head(p, 0.7), *_worn(p), *p.carrying(), *_lacking(p, 0.15)]
    if chance.happens(0.5):
        parts = [bare(part) for part in parts]
    if chance.happens(0.3):
        parts = _shuffled(p, parts)
    start = [p.who(), p.build()] if chance.happens(0.2) else [p.who()]
    return chance.pick((", ", ", ", ", ", "; ", " - ", " / ")).join([*start, *parts]) + chance.pick((".", ""))


def _narrative(p: Phrases) -> str:
    """Write what happened, at length, as a witness tells it."""
    chance, who = p.chance, _who(p)
    worn, head, carrying = _worn(p), _head(p), p.carrying()
    moved = "walking past" if p.view.walking else "standing there"
    opening = chance.pick(
        (
            f"I was waiting for the bus when I saw a {who} {moved}",
            f"yesterday afternoon I noticed a {who} {moved} on the street",
            f"there was a {who} in front of the shop",
            f"I remember a {who} {moved} near the entrance",
            f"as I came around the corner I saw a {who} {moved}",
        )
    )
    sentences = [opening]
    if chance.happens(0.3):
        sentences.append(f"{p.he} was {p.build()}" + (f", with {_listed(p, head)}" if head else ""))
    elif head:
        sentences.append(f"{p.he} had {_listed(p, head)}")
    clothes = chance.pick(("was wearing", "was dressed in", "wore", "had on"))
    sentences.append(f"{p.he} {clothes} {worn[0]}" + (f", together with {_listed(p, worn[1:])}" if worn[1:] else ""))
    if carrying:
        noticed = chance.pick(("", "I also noticed that ", "on top of that, ", "as far as I could see, "))
        sentences.append(f"{noticed}{p.he} {listed([_is(phrase, past=True) for phrase in carrying])}")
    sentences += [f"{p.he} had {nothing}" for nothing in _lacking(p, 0.2)]
    if chance.happens(0.3):
        sentences.append(
            chance.pick(("that is all I can say", "I would recognise the clothes again", "I did not see more"))
        )
    return ". ".join(sentences) + "."


def _list(p: Phrases) -> str:
    """Write a form that somebody filled in."""
    chance, outfit = p.chance, p.outfit()
    names = chance.pick(
        (
            ("Gender", "Hair", "Headwear", "Top", "Bottom", "Shoes", "Bag", "Other"),
            ("Sex", "Hair", "Head", "Upper body", "Lower body", "Footwear", "Belongings", "Accessories"),
            ("Person", "Hairstyle", "Hat", "Upper", "Lower", "Feet", "Carrying", "Extras"),
        )
    )
    sex = chance.pick(("female", "woman", "F") if p.person.gender == "woman" else ("male", "man", "M"))
    extras = [bare(thing) for thing in (p.glasses(), p.scarf(), p.held()) if thing]
    shoes, hair, hat, bag = p.shoes(), p.hair(), p.headwear(), p.bag()
    no_bag = "none" if p.person.bag == "none" and chance.happens(0.4) else None
    values = (
        sex, hair and bare(hair), hat and bare(hat), bare(outfit[0]), bare(outfit[1]) if outfit[1:] else None,
        shoes and bare(shoes), bare(bag) if bag else no_bag, listed(extras) or None,
    )  # fmt: skip
    lines = [(name, value) for name, value in zip(names, values, strict=True) if value]
    mark, separator = chance.pick(((": ", "; "), (": ", ". "), (" - ", ", "), (" = ", "; ")))
    return separator.join(f"{name}{mark}{value}" for name, value in lines) + chance.pick((".", ""))


def _spoken(p: Phrases) -> str:
    """Write spoken language, with fillers."""
    chance = p.chance
    worn, head, carrying = _worn(p), _head(p, 0.7), p.carrying()

    def filler() -> str:
        # A filler at one pause in three; at every pause it would be a parody.
        return chance.pick(("",) * 8 + ("um, ", "uh, ", "like, ", "you know, "))

    had_on = chance.pick(("had {} on", "was in {}", "was wearing {}", "was wearing {}"))
    start = chance.pick(("okay so ", "so ", "", "yeah, ", "well, "))
    text = start + chance.pick(("there was this ", "I saw this ", "it was a ")) + _who(p)
    text += f", {filler()}{p.he} {had_on.format(worn[0])}"
    for item in worn[1:]:
        text += f" and {filler()}{item}"
    text += chance.pick(("", "", "", " I think", ", I guess"))
    if head:
        text += f". {p.he} had {filler()}{listed(head)}"
    if carrying:
        text += f", and {p.he} {listed([_is(phrase, past=True) for phrase in carrying])}"
        text += chance.pick(("", "", ", or something like that", ", if I remember right"))
    return text + "."


def _radio(p: Phrases) -> str:
    """Write a telegraphic message, without articles."""
    chance = p.chance
    sex = chance.pick(
        ("female", "adult female", "woman") if p.person.gender == "woman" else ("male", "adult male", "man")
    )
    call = chance.pick(("", "", "all units, ", "be on the lookout for ", "looking for ", "description as follows: "))
    parts = [sex, *([p.build()] if chance.happens(0.4) else []), *map(bare, [*_head(p, 0.7), *_worn(p)])]
    text = f"{call}{', '.join(parts)}"
    carried = [bare(thing) for thing in (p.bag(), p.held()) if thing]
    if carried:
        text += f". {chance.pick(('carrying', 'carries', 'has', 'with'))} {listed(carried)}"
    else:
        text += "".join(f", {nothing}" for nothing in _lacking(p, 0.4))
    if chance.happens(0.3):
        text += ". " + chance.pick((p.motion(), "last seen on foot"))
    return text + chance.pick((".", ".", ". over."))


def _memory(p: Phrases) -> str:
    """Write two or three things that stuck in the mind."""
    chance = p.chance
    carried = [thing for thing in (p.bag(), p.held()) if thing]
    things = _shuffled(p, [*_head(p), *_worn(p), *carried])[: chance.whole(2, 4)]
    said = listed(things)
    return chance.pick(
        (
            f"all I remember is {said}, on a {p.who()}.",
            f"a {p.who()}, and I am sure about {said}.",
            f"not much: {said}. It was a {p.who()}.",
            f"I only saw {p.him} for a second. {p.he} had {said}.",
            f"it was a {p.who()} with {said}, I did not see the rest.",
            f"the {p.who()} with {said}.",
        )
    )


def _query(p: Phrases) -> str:
    """Write what is typed into a search box."""
    chance, who = p.chance, _who(p)
    worn = _worn(p)
    text = chance.pick((who, who, f"a {who}", f"find a {who}", f"show me a {who}", "someone"))
    head, carrying = _head(p, 0.6), p.carrying()
    if head and chance.happens(0.35):
        text += f" with {listed(head)}"
    # Few who search name all that somebody wears.
    keep = chance.pick((1, 2, 2, 3, len(worn)))
    text += f" {chance.pick(('in', 'in', 'wearing'))} {listed(worn[:keep])}"
    if carrying and chance.happens(0.75):
        text += f"{chance.pick((' ', ' ', ', '))}{carrying[0]}"
    return text


def _appeal(p: Phrases) -> str:
    """Write a public appeal or an officer's report."""
    chance, who = p.chance, p.who()
    worn, head, carrying = _worn(p), _head(p), p.carrying()
    last = chance.pick(("when last seen", "at the time", "when the picture was taken"))
    opening = chance.pick(
        (
            f"have you seen this {who}? {p.he} was wearing",
            f"we are looking for a {who}, last seen wearing",
            f"police would like to speak to a {who} who, {last}, was wearing",
            f"the missing {who} was, {last}, dressed in",
            f"{chance.pick(('subject', 'the suspect'))} is a {who}, {p.build()}, wearing",
        )
    )
    text = f"{opening} {_listed(p, worn)}"
    if head:
        text += f". {p.he} has {listed(head)}"
    if carrying:
        text += f". {p.he} {listed([_is(phrase, past=True) for phrase in carrying])}"
    return text + "."


def _clothes_first(p: Phrases) -> str:
    """Write clothes first and then the person."""
    chance, who = p.chance, _who(p)
    worn, head, carrying = _worn(p), _head(p, 0.7), p.carrying()
    text = f"{listed(worn)}{chance.pick((', worn by', ' on', ': the outfit of'))} a {who}"
    if head:
        text += f" with {listed(head)}"
    if carrying:
        text += f", {carrying[0]}" if chance.happens(0.5) else f". {p.he} {_is(carrying[0])}"
    return text + "."


def _mistyped(p: Phrases) -> str:
    return p.chance.pick((_annotation, _annotation, _note, _query))(p)


def _misspell(text: str, chance: Chance) -> str:
    """Let fingers slip: letters swapped, dropped, doubled; a missing full stop or capital."""
    words = text.split(" ")
    slips = 0
    for index, word in enumerate(words):
        # From the middle on likelier until one slip is made: a text in this style without any would be another style.
        likely = 0.12 if slips or index < len(words) // 2 else 0.4
        if len(word) > 3 and word.isalpha() and chance.happens(likely):
            at = chance.whole(1, len(word) - 1)
            swapped = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
            words[index] = chance.pick((swapped, swapped, word[:at] + word[at + 1 :], word[: at + 1] + word[at:]))
            slips += 1
    text = " ".join(words)
    if chance.happens(0.3):
        text = text[0].lower() + text[1:]
    return text.removesuffix(".") if chance.happens(0.3) else text


STYLES: dict[str, Callable[[Phrases], str]] = {
    "annotation": _annotation,
    "note": _note,
    "narrative": _narrative,
    "list": _list,
    "spoken": _spoken,
    "radio": _radio,
    "memory": _memory,
    "query": _query,
    "appeal": _appeal,
    "clothes first": _clothes_first,
    "typos": _mistyped,
}
# Four of fifteen are annotations, which is all that the benchmarks have.
_FREQUENCY = dict.fromkeys(STYLES, 1.0) | {"annotation": 4.0, "query": 2.0}
