"""Who passes by: every value occurs, streets keep their habits, domains have their own."""

from collections import Counter
from typing import Any, get_args, get_origin, get_type_hints

import pytest

from textreid.seeding import Chance, generator
from textreid.synthetic import DOMAINS, Person, sample_person

DRAWS = 6000


@pytest.fixture(scope="module")
def crowd() -> list[Person]:
    domains = list(DOMAINS.values())
    return [sample_person(domains[i % len(domains)], generator("crowd", i)) for i in range(DRAWS)]


def _share(people: list[Person], name: str) -> dict[Any, float]:
    counts = Counter(getattr(person, name) for person in people)
    return {value: count / len(people) for value, count in counts.items()}


def test_every_value_occurs_in_one_of_a_hundred(crowd: list[Person]) -> None:
    checked = 0
    for name, hint in get_type_hints(Person).items():
        people, least = crowd, 0.0085  # 1 % less what chance takes from 6,000 draws
        options = get_args(hint) if get_origin(hint) else (False, True)
        if type(None) in options:  # of those who wear one
            people = [person for person in crowd if getattr(person, name) is not None]
            options = get_args(options[0])
        shares = _share(people, name)
        for value in options:
            assert shares.get(value, 0) >= least, (name, value)
            checked += 1
    assert checked > 200


def test_the_street_keeps_its_habits(crowd: list[Person]) -> None:
    upper = _share(crowd, "upper_colour")
    assert upper["black"] > 3 * upper["orange"]
    jeans = [person for person in crowd if person.lower == "jeans"]
    assert _share(jeans, "lower_colour")["blue"] > 0.4
    women = [person for person in crowd if person.gender == "woman"]
    assert 0.15 < _share(women, "hair_length")["short"] < 0.3


def test_a_person_is_put_together_sensibly(crowd: list[Person]) -> None:
    for person in crowd:
        if person.upper == "dress":
            assert person.lower == "dress"
            assert person.lower_colour == person.upper_colour
        elif person.lower == "dress":
            assert person.upper in ("jacket", "padded jacket", "blazer", "coat")
        if person.upper == "vest":
            assert person.sleeve == "sleeveless"
        if person.inner_colour is not None:
            assert person.upper in ("jacket", "padded jacket", "blazer", "coat", "hoodie", "shirt")
        assert person.upper_second_colour != person.upper_colour


def test_domains_dress_differently() -> None:
    short = {
        name: sum(sample_person(domain, generator("warm", i)).sleeve != "long" for i in range(800))
        for name, domain in DOMAINS.items()
    }
    cases = {
        name: sum(sample_person(domain, generator("case", i)).bag == "suitcase" for i in range(800))
        for name, domain in DOMAINS.items()
    }
    assert short["campus"] > 1.5 * short["station"]
    assert cases["station"] > 2.5 * max(count for name, count in cases.items() if name != "station")


def test_sober_people_are_not_told_apart_by_colour() -> None:
    def commonest(name: str) -> int:
        people = (sample_person(DOMAINS[name], generator("sober", i)) for i in range(800))
        return Counter((person.upper_colour, person.lower_colour) for person in people).most_common(1)[0][1]

    assert commonest("plaza") > 1.5 * commonest("street")


def test_a_person_survives_json(crowd: list[Person]) -> None:
    assert all(Person.from_dict(person.to_dict()) == person for person in crowd[:200])


def test_chance_is_fair_and_repeats() -> None:
    chance, again = Chance.of("fair", 1), Chance.of("fair", 1)
    picks = Counter(chance.weighted({"a": 3.0, "b": 1.0, "never": 0.0}) for _ in range(4000))
    assert set(picks) == {"a", "b"}
    assert 0.70 < picks["a"] / 4000 < 0.80
    assert [again.weighted({"a": 3.0, "b": 1.0, "never": 0.0}) for _ in range(50)].count("a") > 20
    numbers = [chance.between(2, 3) for _ in range(1000)]
    assert min(numbers) >= 2
    assert max(numbers) < 3
    assert {chance.whole(0, 3) for _ in range(100)} == {0, 1, 2}
    first, second = Chance.of("x", 1, 2), Chance.of("x", 1, 2)
    assert [first.unit() for _ in range(600)] == [second.unit() for _ in range(600)]
    assert Chance.of("x", 1, 3).unit() != Chance.of("x", 1, 2).unit()
