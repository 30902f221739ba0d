"""Descriptions as people give them, for test queries: witnesses, clerks, callers, annotators, people who search.

Their sentences share words with the simulated MLLM, as people share words with real ones, but no sentence pattern.
A describer mentions only what the view shows, and never skin tone.
"""

from collections.abc import Callable

from textreid.datasets.synthetic.attributes import Person, View
from textreid.datasets.synthetic.chance import Chance
from textreid.datasets.synthetic.phrases import Phrases, finish, listed

Teller = Callable[[Phrases], str]


def describe(person: Person, view: View, seed: int, style: str | None = None) -> str:
    """Describe ``person`` as seen in ``view``, in one of `STYLES`; ``style=None`` draws one.

    The same arguments give the same text on every machine.

    Raises:
        KeyError: there is no such style.
    """
    chance = Chance.of(seed, "describe")
    drawn = chance.weighted(_FREQUENCY)
    name = drawn if style is None else style
    phrases = Phrases(person, person, view, chance)
    american = chance.happens(0.7)
    text, _ = finish(STYLES[name](phrases), american, capitals=name not in _LOWER_CASE)
    return _misspell(text, chance) if name == "typos" else text


def _is(phrase: str, past: bool = False) -> str:
    """ "carrying a bag" → "is carrying a bag"; "with a bag" → "has a bag"."""
    if phrase.startswith("with "):
        return ("had " if past else "has ") + phrase[5:]
    return ("was " if past else "is ") + phrase


def _head(p: Phrases) -> list[str]:
    """What can be said of the head, in an order of chance: hair, headwear, glasses."""
    parts = [part for part in (p.hair(), p.headwear(), p.glasses()) if part]
    if len(parts) > 1 and p.chance.happens(0.4):
        parts.reverse()
    return parts


def _worn(p: Phrases) -> list[str]:
    worn = p.outfit()
    shoes = p.shoes()
    if shoes:
        worn.append(shoes)
    scarf = p.scarf()
    if scarf and p.chance.happens(0.7):
        worn.insert(p.chance.whole(1, len(worn) + 1), scarf)
    return worn


def _missing(p: Phrases) -> list[str]:
    """True statements of what the person does not have, as noun phrases."""
    person, seen = p.person, p.seen
    found = []
    if person.bag == "none":
        found += ["no bag"]
        if person.held == "nothing":
            found += [f"nothing in {p.his} hands", "nothing in hand"]
    if p.view.head_visible and person.headwear == "none":
        found += ["no hat"]
    if p.view.head_visible and p.view.direction == "front" and not person.glasses:
        found += ["no glasses"]
    return [p.chance.pick(found)] if found and seen is not None else []


def _way(p: Phrases) -> str:
    """How the person stands or walks in the picture."""
    verb = p.chance.pick(("walking", "walking", "strolling") if p.view.walking else ("standing", "standing", "waiting"))
    ways = {
        "front": ("towards the camera" if p.view.walking else "facing the camera", "seen from the front"),
        "back": ("away from the camera" if p.view.walking else "facing away from the camera", "seen from behind"),
        "left": ("sideways to the camera", "seen from the side"),
        "right": ("sideways to the camera", "seen from the side"),
    }
    return p.chance.pick((verb, f"{verb} {ways[p.view.direction][0]}", ways[p.view.direction][1]))


def _annotation(p: Phrases) -> str:
    """Full sentences in the present tense, as paid annotators write them."""
    chance, who = p.chance, p.who()
    worn, head, carrying = _worn(p), _head(p), p.carrying()
    chance_of_verb = chance.pick(("is wearing", "wears", "is dressed in", "has on"))
    opening = chance.pick((f"the {who}", f"a {who}", f"this {who}", f"the {who} in the picture"))
    form = chance.whole(0, 4)
    if form == 0 and head:
        first = f"{opening} has {listed(head)}"
        second = f"{p.he} {chance_of_verb} {listed(worn, chance.happens(0.4))}"
    elif form == 1 and head:
        first = f"{opening} with {listed(head)} {chance_of_verb} {listed(worn, chance.happens(0.4))}"
        second = ""
    elif form == 2 and len(worn) > 1:
        first = f"{opening} {chance_of_verb} {listed(worn[:-1])}"
        second = f"{p.he} is also wearing {listed([worn[-1]])}" + (f" and has {listed(head)}" if head else "")
    else:
        first = f"{opening} {chance_of_verb} {listed(worn, chance.happens(0.4))}"
        second = f"{p.he} has {listed(head)}" if head and chance.happens(0.7) else ""
    sentences = [sentence for sentence in (first, second) if sentence]
    if carrying:
        sentences.append(f"{p.he} {listed([_is(phrase) for phrase in carrying])}")
    elif chance.happens(0.1) and (missing := _missing(p)):
        sentences.append(f"{p.he} has {missing[0]}")
    if chance.happens(0.25):
        sentences.append(f"{p.he} is {_way(p)}")
    return ". ".join(sentences) + "."


def _note(p: Phrases) -> str:
    """A short note: phrases and commas."""
    parts = [*_head(p), *_worn(p), *p.carrying()]
    if p.chance.happens(0.2):
        parts += _missing(p)
    start = p.who()
    if p.chance.happens(0.2):
        start += f", {p.build()}"
    if p.chance.happens(0.3):
        parts = _shuffled(p, parts)
    separator = p.chance.pick((", ", ", ", "; ", " - "))
    return separator.join([start, *parts]) + p.chance.pick((".", ""))


def _query(p: Phrases) -> str:
    """What is typed into a search box."""
    worn = _worn(p)
    parts = worn[: p.chance.whole(1, len(worn) + 1)]
    text = f"{p.who()} {p.chance.pick(('in', 'wearing', 'with'))} {listed(parts)}"
    head, carrying = _head(p), p.carrying()
    if head and p.chance.happens(0.4):
        text = text.replace(" ", f" with {head[0]} ", 1) if " " not in text.split(" ")[0] and False else text
    if carrying and p.chance.happens(0.7):
        text += f", {carrying[0]}" if p.chance.happens(0.5) else f" {carrying[0]}"
    return text


def _shuffled(p: Phrases, parts: list[str]) -> list[str]:
    rest, result = list(parts), []
    while rest:
        result.append(rest.pop(p.chance.whole(0, len(rest))))
    return result


def _misspell(text: str, chance: Chance) -> str:
    """Slips of the fingers: letters swapped, dropped, doubled; a missing capital or full stop."""
    words = text.split(" ")
    for index, word in enumerate(words):
        if len(word) > 3 and word.isalpha() and chance.happens(0.18):
            at = chance.whole(1, len(word) - 1)
            words[index] = chance.pick(
                (
                    word[:at] + word[at + 1] + word[at] + word[at + 2 :],
                    word[:at] + word[at + 1 :],
                    word[:at] + word[at] + word[at:],
                )
            )
    return " ".join(words)


STYLES: dict[str, Teller] = {"annotation": _annotation, "note": _note, "query": _query, "typos": _annotation}
_FREQUENCY = dict.fromkeys(STYLES, 1.0)
_LOWER_CASE = frozenset({"query"})
