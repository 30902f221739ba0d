"""Pictures that show nobody are told by name, and pictures of people never are."""

import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageDraw

from textreid.emptiness import shows_nothing
from textreid.images import read_image
from textreid.seeding import generator
from textreid.synthetic.domains import DOMAINS
from textreid.synthetic.drawing import render as rendering
from textreid.synthetic.drawing.scene import Frame
from textreid.synthetic.sampling import sample_person


def picture_of(pixels: npt.NDArray[np.floating]) -> Image.Image:
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def drawn_people(each: int) -> list[Image.Image]:
    """Crops of every domain and camera in turn, as they are stored."""
    pictures = []
    for name, domain in DOMAINS.items():
        for number in range(each):
            person = sample_person(domain, generator("person", 1, name, number))
            camera = number % len(domain.cameras)
            stream = io.BytesIO()
            shot = rendering.render(person, number, domain, camera, number)
            shot.image.save(stream, "JPEG", quality=domain.cameras[camera].quality)
            pictures.append(read_image(Image.open(stream)))
    return pictures


@pytest.mark.parametrize("colour", ["white", "black", "gray", "lime", (30, 200, 90)])
@pytest.mark.parametrize("deviation", [0, 2, 3])
def test_pictures_of_one_colour_show_nothing(colour: object, deviation: int, tmp_path: Path) -> None:
    pixels = np.asarray(Image.new("RGB", (64, 128), colour)).astype(float)  # type: ignore[arg-type]
    pixels += np.random.default_rng(0).normal(0, deviation, pixels.shape)
    picture_of(pixels).save(tmp_path / "frame.jpg", quality=80)
    assert shows_nothing(read_image(tmp_path / "frame.jpg")) == "one colour"
    assert shows_nothing(Image.new("RGB", (1, 1))) == "one colour"


@pytest.mark.parametrize("size", [(48, 16), (128, 64), (640, 480)])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("grain", [1, 2, 3])
def test_noise_shows_nothing_whatever_its_grain(size: tuple[int, int], channels: int, grain: int) -> None:
    if min(size) // grain < 12:
        pytest.skip("too few grains to tell")
    small = np.random.default_rng(0).integers(0, 256, (size[0] // grain, size[1] // grain, channels), dtype=np.uint8)
    noise = Image.fromarray(np.broadcast_to(small, (*small.shape[:2], 3)).copy())
    assert shows_nothing(noise.resize(size[::-1], Image.Resampling.NEAREST)) == "noise"


def test_a_gradient_two_walls_and_a_time_stamp_are_hardly_anything() -> None:
    ramp = np.linspace(40, 220, 128)[:, None, None] * np.ones((128, 64, 3))
    walls = Image.new("RGB", (64, 128), "sienna")
    ImageDraw.Draw(walls).rectangle((40, 0, 64, 128), fill="tan")
    stamp = Image.new("RGB", (64, 128), "slategray")
    ImageDraw.Draw(stamp).text((4, 4), "12:07:31", "white")
    for picture in (picture_of(ramp), walls, stamp):
        noisy = np.asarray(picture, float) + np.random.default_rng(0).normal(0, 3, (128, 64, 3))
        assert shows_nothing(picture_of(noisy)) == "hardly anything"


def test_people_are_people_in_the_dark_and_in_fog_too() -> None:
    people = drawn_people(each=24)
    assert len(people) == 24 * len(DOMAINS)
    for gain, haze in ((1.0, 0), (0.4, 0), (0.3, 90)):
        assert {shows_nothing(picture_of(gain * np.asarray(picture, float) + haze)) for picture in people} == {""}


@pytest.mark.parametrize("colour", ["white", "black", "slategray", "darkgreen"])
def test_people_before_a_plain_wall_are_people(colour: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def plain(_place: object, frame: Frame, _chance: object) -> Image.Image:
        return Image.new("RGB", (frame.width, frame.height), colour)

    monkeypatch.setattr(rendering, "paint_surroundings", plain)
    assert {shows_nothing(picture) for picture in drawn_people(each=8)} == {""}
