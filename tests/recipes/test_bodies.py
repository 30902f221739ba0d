"""People of blocks in the recipe's clothes: what is worn is painted where it belongs, and a crop says what it shows."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from bodies.anatomy import ARM, HEAD, HEIGHT, LEG, make_chart
from bodies.bank import BONES, BUILDS, GENDERS, make_bank, read_bank
from bodies.figure import Picture, Sight, draw_figure, dress
from bodies.lighting import Light
from bodies.posing import pose
from bodies.rendering import render_shot
from bodies_corpus import SHARES, counts
from textreid.datasets.benchmarks import read_benchmark
from textreid.seeding import Chance, generator
from textreid.synthetic import read_people, write_corpus
from textreid.synthetic.attributes import Person
from textreid.synthetic.domains import DOMAINS
from textreid.synthetic.drawing.figure import appearance_of
from textreid.synthetic.drawing.scene import Frame
from textreid.synthetic.sampling import sample_person

SIZE = (200, 120)
FRAME = Frame(120, 200, 180.0, 60.0, 190.0)


def somebody(**changes: object) -> Person:
    person = sample_person(DOMAINS["plaza"], generator("person", 3, "plaza", 5))
    plain = replace(
        person, gender="woman", build="average", hair_length="short", headwear="none", upper="t-shirt", sleeve="short",
        upper_pattern="plain", inner_colour=None, lower="jeans", shoes="trainers", bag="none", glasses=False,
        scarf_colour=None, held="nothing",
    )  # fmt: skip
    return replace(plain, **changes)  # type: ignore[arg-type]


def drawn(bank: Path, person: Person, yaw: float = 0.0, walking: bool = False) -> Picture:
    chance = Chance.of("test of bodies")
    wearer, parts = dress(bank, person, 7, walking, chance)
    return draw_figure(wearer, parts, Sight(yaw, 8.0, 0.0, 6.0), FRAME, SIZE, Light.drawn(0.3, 0.3, chance), chance)


def count(picture: Picture, part: str) -> int:
    numbers = [n for n, material in enumerate(picture.materials) if material.part == part]
    return int(np.isin(picture.numbers, numbers).sum())


def test_a_chart_tells_where_on_the_body_a_point_lies(bank_file: Path) -> None:
    bank = read_bank(bank_file)
    chart, shape = make_chart(bank, 0), bank.vertices[0]
    hand = bank.weight_of("hand") > 0.5
    assert (chart[hand, ARM] > 1.9).all()
    assert (chart[bank.weight_of("chest", "belly") > 0.5, ARM] == -1).all()
    shin = bank.weight_of("shin") > 0.5
    assert ((chart[shin, LEG] > 0.9) & (chart[shin, LEG] < 2.4)).all()
    head = bank.weight_of("head") > 0.5
    assert chart[head, HEAD.start + 2].max() == pytest.approx(1.0, abs=1e-4)
    assert np.argmax(chart[:, HEIGHT]) == np.argmax(shape[:, 2])


@pytest.mark.parametrize("walking", [False, True])
def test_a_pose_keeps_lengths_and_stands_on_the_ground(bank_file: Path, walking: bool) -> None:
    bank = read_bank(bank_file)
    for seed in range(20):
        posed = pose(bank, 0, walking, ("swing", "pocket"), False, Chance.of("pose", seed))
        assert posed.vertices[:, 2].min() == pytest.approx(0, abs=1e-5)
        for first, second in (("thigh.L", "shin.L"), ("shin.R", "foot.R"), ("upper arm.L", "forearm.L")):
            length = np.linalg.norm(posed.head(first) - posed.head(second))
            rest = bank.heads[0][BONES.index(first)] - bank.heads[0][BONES.index(second)]
            assert length == pytest.approx(np.linalg.norm(rest), abs=1e-4)
        np.testing.assert_allclose(np.linalg.det(posed.turns), 1, atol=1e-3)


def test_sleeves_and_legs_cover_what_their_lengths_say(bank_file: Path) -> None:
    long, short, bare = (count(drawn(bank_file, somebody(sleeve=s)), "upper") for s in ("long", "short", "sleeveless"))
    assert long > short * 1.08
    assert short > bare * 1.04
    jeans, shorts = (count(drawn(bank_file, somebody(lower=k)), "legs") for k in ("jeans", "shorts"))
    # Bare legs are legs too: the part stays, its material changes.
    assert jeans == pytest.approx(shorts, rel=0.25)
    cloth = [m.colour for m in drawn(bank_file, somebody(lower="shorts")).materials if m.part == "legs"]
    assert len(set(cloth)) >= 2


def test_a_coat_and_a_dress_hide_the_legs_that_a_shirt_shows(bank_file: Path) -> None:
    shirt, coat = drawn(bank_file, somebody(upper="shirt")), drawn(bank_file, somebody(upper="coat", sleeve="long"))
    assert count(coat, "legs") < 0.75 * count(shirt, "legs")
    dress_alone = drawn(bank_file, somebody(upper="dress", lower="dress"))
    assert count(dress_alone, "upper") > 1.2 * count(shirt, "upper")


def test_an_open_jacket_shows_what_is_under_it_in_front_only(bank_file: Path) -> None:
    person = somebody(upper="jacket", sleeve="long", upper_colour="red", inner_colour="white")

    def white(yaw: float) -> int:
        picture = drawn(bank_file, person, yaw)
        inner = [n for n, m in enumerate(picture.materials) if m.part == "upper" and min(m.colour) > 150]
        return int(np.isin(picture.numbers, inner).sum())

    assert white(0.0) > 150
    assert white(180.0) < 20


@pytest.mark.parametrize(
    ("changes", "yaw", "fewest"),
    [
        ({"bag": "backpack"}, 180.0, 600),
        ({"bag": "backpack"}, 0.0, 40),  # the straps
        ({"bag": "shoulder bag"}, 0.0, 100),
        ({"bag": "handbag"}, 90.0, 60),
        ({"bag": "carrier bag"}, 90.0, 60),
        ({"bag": "suitcase"}, 180.0, 300),
    ],
)
def test_a_bag_is_seen(bank_file: Path, changes: dict[str, str], yaw: float, fewest: int) -> None:
    assert count(drawn(bank_file, somebody(), yaw), "bag") == 0
    assert count(drawn(bank_file, somebody(**changes), yaw), "bag") >= fewest


@pytest.mark.parametrize("headwear", ["cap", "beanie", "hat", "hood", "headscarf"])
def test_headwear_is_seen_from_every_side(bank_file: Path, headwear: str) -> None:
    person = somebody(headwear=headwear, headwear_colour="yellow", upper="hoodie" if headwear == "hood" else "t-shirt")
    for yaw in (0.0, 90.0, 180.0):
        picture = drawn(bank_file, person, yaw)
        hair = [n for n, m in enumerate(picture.materials) if m.texture == "hair"]
        head = count(picture, "head")
        worn = [n for n, m in enumerate(picture.materials) if m.part == "head" and m.texture == "knit"]
        assert np.isin(picture.numbers, worn).sum() > 0.12 * head
        if headwear in ("hood", "headscarf"):
            assert np.isin(picture.numbers, hair).sum() < 0.1 * head


def test_hair_falls_as_far_as_its_length(bank_file: Path) -> None:
    rows = {}
    for length in ("short", "shoulder-length", "long"):
        picture = drawn(bank_file, somebody(hair_length=length), 180.0)
        hair = [n for n, m in enumerate(picture.materials) if m.texture == "hair"]
        rows[length] = np.flatnonzero(np.isin(picture.numbers, hair).any(axis=1)).max()
    assert rows["short"] < rows["shoulder-length"] < rows["long"]


@pytest.mark.parametrize("pattern", ["stripes", "check", "two-tone", "logo"])
def test_a_pattern_has_a_second_colour(bank_file: Path, pattern: str) -> None:
    person = somebody(upper_pattern=pattern)
    look = appearance_of(person, 7)
    picture = drawn(bank_file, person)
    extra = [n for n, m in enumerate(picture.materials) if m in (look.second, look.blend)]
    assert not np.isin(drawn(bank_file, somebody()).numbers, extra).any()
    shown = np.isin(picture.numbers, extra).sum() / count(picture, "upper")
    assert 0.02 < shown < 0.9


def test_everybody_can_be_drawn(bank_file: Path) -> None:
    for number in range(40):
        domain = DOMAINS["station" if number % 2 else "lobby"]
        person = sample_person(domain, generator("anybody", number))
        shot = render_shot(bank_file, person, number, domain, number % len(domain.cameras), number)
        assert shot.image.mode == "RGB"
        assert np.asarray(shot.image).std() > 3


def test_equal_arguments_give_equal_pixels_and_others_do_not(bank_file: Path) -> None:
    one, two, other = (render_shot(bank_file, somebody(), 3, DOMAINS["plaza"], 2, seed) for seed in (5, 5, 6))
    assert one.view == two.view
    np.testing.assert_array_equal(np.asarray(one.image), np.asarray(two.image))
    assert one.image.size != other.image.size or (np.asarray(one.image) != np.asarray(other.image)).any()


def test_a_corpus_is_read_as_a_drawn_one_is(bank_file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "people"
    write_corpus(folder, "campus", 3, 2, 11, "train", renderer=partial(render_shot, bank_file))
    write_corpus(tmp_path / "drawn", "campus", 3, 2, 11, "train")
    people, flat = read_people(folder), read_people(tmp_path / "drawn")
    assert list(people) == list(flat)
    assert [person for person, _ in people.values()] == [person for person, _ in flat.values()]
    assert len(list((folder / "imgs").iterdir())) == 6
    assert len(read_benchmark("generic", folder).records) == 6


def test_people_are_shared_out_among_domains() -> None:
    assert counts(None, 12000)["street"] == 2400
    assert sum(counts(None, 12000).values()) == 12000
    assert set(counts(None, 30)) == set(SHARES)
    assert "station" not in SHARES
    assert counts(["street=3", "night=1"], 12000) == {"street": 3, "night": 1}
    with pytest.raises(SystemExit, match="expected NAME=PEOPLE, got 'street'"):
        counts(["street"], 12000)


def test_anny_makes_a_bank(tmp_path: Path) -> None:
    pytest.importorskip("anny")
    make_bank(tmp_path / "bodies.npz")
    bank = read_bank(tmp_path / "bodies.npz")
    each = len(bank.vertices) // (len(GENDERS) * len(BUILDS))
    stature = bank.vertices[:, :, 2].max(axis=1)
    assert (stature > 1.4).all()
    assert (stature < 2.3).all()
    # Men are taller, and have the wider shoulders.
    shoulders = bank.heads[:, BONES.index("upper arm.L"), 0]
    half = each * len(BUILDS)
    assert stature[half:].mean() > stature[:half].mean() + 0.05
    assert shoulders[half:].mean() > shoulders[:half].mean() * 1.05
    assert bank.vertices[:, :, 2].min() == pytest.approx(0, abs=1e-4)
    np.testing.assert_allclose(bank.weights.sum(axis=1), 1, atol=1e-4)
