"""The captioner that only sees pixels: what it says is true of figures whose colours are known."""

import asyncio
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from textreid.captioning.backends.describe import Band, Look, PixelDescriber, describe, read_look
from textreid.captioning.instructions import Instruction, dynamic_instructions, static_instruction
from textreid.captioning.requests import Caption, CaptionFailure, Request
from textreid.captioning.templates import Template, fill
from textreid.captions.cleaning import status_of
from textreid.images import read_image
from textreid.synthetic import read_people, vocabulary, write_corpus
from textreid.synthetic.attributes import COLOURS

RGB = {"red": (190, 30, 40), "blue": (40, 90, 190), "green": (50, 130, 60), "black": (25, 25, 28), "white": (240,) * 3}
DARK = {"black", "charcoal", "navy", "brown", "burgundy"}
WORN = Look(Band(dark=True), Band(("red", "white")), Band(dark=True), Band())
NOTHING = Look(Band(), Band(), Band(), Band())


def figure(upper: str, lower: str, height: int = 256) -> Image.Image:
    """A figure with skin, black hair and shoes on a background of sand."""
    picture = Image.new("RGB", (100, 256), (200, 180, 150))
    draw = ImageDraw.Draw(picture)
    draw.ellipse((38, 4, 62, 40), fill=(225, 180, 150))
    draw.pieslice((38, 4, 62, 40), 180, 360, fill=RGB["black"])
    draw.rectangle((28, 42, 72, 130), fill=RGB[upper])
    draw.rectangle((34, 130, 66, 238), fill=RGB[lower])
    draw.rectangle((30, 238, 70, 252), fill=RGB["black"])
    return picture.crop((0, 0, 100, height))


@pytest.mark.parametrize("upper", ["red", "blue", "green", "black", "white"])
@pytest.mark.parametrize("lower", ["red", "blue", "green", "black"])
def test_the_colours_of_a_figure_are_read(upper: str, lower: str) -> None:
    look = read_look(figure(upper, lower))
    assert look.torso.colours == (upper,)
    assert look.legs == (Band((), dark=True) if lower == "black" else Band((lower,), look.legs.dark))  # type: ignore[arg-type]
    assert look.hair == Band((), dark=True)


def test_what_is_outside_the_picture_is_not_told() -> None:
    assert read_look(figure("red", "blue", height=150)).feet == Band()
    look = read_look(figure("red", "blue", height=110))
    assert (look.legs, look.feet) == (Band(), Band())


def test_a_picture_of_one_colour_has_no_two_colours() -> None:
    for shade in range(0, 256, 15):
        look = read_look(Image.new("RGB", (64, 160), (shade,) * 3))
        assert all(len(band.colours) <= 1 and not band.dark for band in (look.hair, look.torso, look.legs, look.feet))


def test_most_of_what_is_said_of_rendered_people_is_true(tmp_path: Path) -> None:
    write_corpus(tmp_path / "corpus", "street", identities=24, images_per_identity=1, seed=3)
    said = true = 0
    for name, (person, view) in read_people(tmp_path / "corpus").items():
        look = read_look(read_image(tmp_path / "corpus" / name))
        bands = [(look.torso, person.upper_colour)]
        bands += [(look.legs, person.lower_colour)] if person.lower != "dress" and view.legs_visible else []
        for band, colour in bands:
            if band:
                said += 1
                true += colour in band.colours if band.colours else colour in DARK
    assert said >= 20
    assert true / said >= 0.7


def test_every_template_gives_a_clean_sentence_of_what_was_seen() -> None:
    instructions = (static_instruction(), *dynamic_instructions())
    for look in (WORN, NOTHING, Look(Band(), Band(("navy",)), Band(("navy",)), Band(("red",)))):
        for number, instruction in enumerate(instructions):
            text = describe(look, instruction, seed=number)
            assert status_of(text) == "ok", (instruction.template_id, text)
            assert text == describe(look, instruction, seed=number)
            assert not any(word in text.lower().split() for word in ("he", "she", "man", "woman", "his", "her"))


def american(colour: str) -> list[str]:
    """The words for a colour, as captions spell them."""
    words = vocabulary.all_words("colours", colour).texts
    return [word.replace("colour", "color").replace("grey", "gray") for word in words]


def test_colours_are_said_of_what_has_them() -> None:
    instruction = Instruction("dynamic", "", Template("t", "[upper]|[lower]|[footwear]|[hair]|[he/she]|[his/her]"))
    reds, whites = american("red"), american("white")
    for seed in range(20):
        upper, lower, footwear, hair, *pronouns = describe(WORN, instruction, seed).split("|")
        first, _, second = upper.partition(" and ")
        assert any(first.lower().endswith(f" {word}") for word in reds)
        assert any(second.startswith(word) for word in whites)
        assert "dark" in lower
        assert "cannot be made out" in footwear
        assert "dark" in hair
        assert pronouns == ["the person", "their"]


def test_every_colour_has_words() -> None:
    for colour in COLOURS:
        text = describe(Look(Band(), Band((colour,)), Band(), Band()), static_instruction(), 0)
        assert any(word in text for word in american(colour)), text


def test_an_image_is_read_once_for_all_requests_and_junk_is_a_failure(tmp_path: Path) -> None:
    path, junk = tmp_path / "crop.png", tmp_path / "junk.png"
    figure("red", "black").save(path)
    junk.write_bytes(b"\x89PNG\r\n")
    requests = [Request(static_instruction(), 1), Request(dynamic_instructions()[0], 2)]
    describer = PixelDescriber("pixels")
    captions = asyncio.run(describer.caption(path, requests))
    assert [type(caption) for caption in captions] == [Caption, Caption]
    failures = asyncio.run(describer.caption(junk, requests))
    assert [failure.kind for failure in failures if isinstance(failure, CaptionFailure)] == ["unreadable-image"] * 2


def test_filling_takes_the_first_part_that_can_be_filled() -> None:
    words = {"a": "apple", "b": "bread"}

    def filled(pattern: str) -> str:
        return fill(pattern, words.get, lambda slot: f"no {slot}")

    assert filled("[a]{ with [c]| with [b]| alone}.") == "apple with bread."
    assert filled("[a]{ with [c]}.") == "apple."
    assert filled("[a]{ with [c]| alone}.") == "apple alone."
    assert filled("[a] and [c].") == "apple and no c."
